"""What calls cost: an attention timed for itself, or side by side with what one would use instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import attributes

__all__ = [
    "TOLERANCE",
    "Contestant",
    "Times",
    "compare",
    "comparison_document",
    "comparison_table",
    "in_turn",
    "measure",
    "passes_in_turn",
    "ratio",
    "report",
    "request",
    "tensors",
]

if TYPE_CHECKING:
    from .measurement import TOLERANCE, measure, report
    from .requests import request, tensors
    from .side_by_side import compare, comparison_document, comparison_table
    from .turns import Contestant, Times, in_turn, passes_in_turn, ratio
else:
    __getattr__ = attributes(
        __name__,
        {
            "measurement": ("TOLERANCE", "measure", "report"),
            "requests": ("request", "tensors"),
            "side_by_side": ("compare", "comparison_document", "comparison_table"),
            "turns": ("Contestant", "Times", "in_turn", "passes_in_turn", "ratio"),
        },
    )
