"""Helps to test one's own patterns: assertions that show what differs, and hypothesis strategies for random input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attributes

__all__ = [
    "SHAPES",
    "Shape",
    "applied_mask",
    "assert_mask",
    "assert_matches_reference",
    "assert_support",
    "patterns",
    "shapes",
    "tables",
]

if TYPE_CHECKING:
    from .applied import applied_mask
    from .assertions import assert_mask, assert_matches_reference, assert_support, patterns, shapes, tables
    from .call_shapes import SHAPES, Shape
else:
    __getattr__ = attributes(
        __name__,
        {
            "applied": ("applied_mask",),
            "assertions": ("assert_mask", "assert_matches_reference", "assert_support", "patterns", "shapes", "tables"),
            "call_shapes": ("SHAPES", "Shape"),
        },
    )
