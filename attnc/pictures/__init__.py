"""Draws masks as pictures, in a terminal and in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attributes

__all__ = ["OWN_COLOURS", "TERMINAL_PANEL", "draw", "grid_blocks", "mask", "overview", "panel_side", "write_grid"]

if TYPE_CHECKING:
    from .export import draw
    from .grid import TERMINAL_PANEL, grid_blocks, panel_side, write_grid
    from .model_overview import overview
    from .picture import OWN_COLOURS
    from .whole_mask import mask
else:
    __getattr__ = attributes(
        __name__,
        {
            "export": ("draw",),
            "grid": ("TERMINAL_PANEL", "grid_blocks", "panel_side", "write_grid"),
            "model_overview": ("overview",),
            "picture": ("OWN_COLOURS",),
            "whole_mask": ("mask",),
        },
    )
