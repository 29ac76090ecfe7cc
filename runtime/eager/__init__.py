"""Executors in plain PyTorch: the dense reference, and the blocked one, which runs a Program tile by tile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import attributes

__all__ = ["BLOCKED", "reference"]

if TYPE_CHECKING:
    from .backend import BLOCKED
    from .dense_reference import reference
else:
    __getattr__ = attributes(
        __name__,
        {
            "backend": ("BLOCKED",),
            "dense_reference": ("reference",),
        },
    )
