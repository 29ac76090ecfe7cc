"""Executors in plain PyTorch: the dense reference, and a Program tile by tile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import attributes

__all__ = ["TILES", "blocked", "reference"]

if TYPE_CHECKING:
    from . import blocked
    from .blocked import TILES
    from .dense_reference import reference
else:
    __getattr__ = attributes(
        __name__,
        {
            "blocked": ("TILES",),
            "dense_reference": ("reference",),
        },
        modules=("blocked",),
    )
