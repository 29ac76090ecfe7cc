"""Masks as pictures, in a terminal and in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attributes

__all__ = [
    "EXACT_PAIRS",
    "OWN_COLOURS",
    "TERMINAL_PANEL",
    "WIDTH",
    "Picture",
    "as_they_stand",
    "bins",
    "blocks",
    "draw",
    "grid_blocks",
    "look",
    "look_by_tiles",
    "mask",
    "overview",
    "panel_side",
    "tile_counts",
    "visits_of_cells",
    "walks",
    "write_grid",
]

if TYPE_CHECKING:
    from .export import draw
    from .grid import TERMINAL_PANEL, grid_blocks, panel_side, write_grid
    from .model_overview import overview
    from .picture import OWN_COLOURS, Picture, bins, blocks, tile_counts
    from .sample import EXACT_PAIRS, WIDTH, look, mask
    from .tile_walks import as_they_stand, visits_of_cells, walks
    from .tiled import look_by_tiles
else:
    __getattr__ = attributes(
        __name__,
        {
            "export": ("draw",),
            "grid": (
                "TERMINAL_PANEL",
                "grid_blocks",
                "panel_side",
                "write_grid",
            ),
            "model_overview": ("overview",),
            "picture": (
                "OWN_COLOURS",
                "Picture",
                "bins",
                "blocks",
                "tile_counts",
            ),
            "sample": (
                "EXACT_PAIRS",
                "WIDTH",
                "look",
                "mask",
            ),
            "tile_walks": (
                "as_they_stand",
                "visits_of_cells",
                "walks",
            ),
            "tiled": ("look_by_tiles",),
        },
    )
