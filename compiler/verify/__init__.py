"""Checks: table indices and integers of a call, the claims of tests, and schedules.

Calls need a part of it; the rest, with the language that tests are written in, is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import attributes

__all__ = [
    "Counterexample",
    "Counts",
    "IntegerRangeError",
    "OutOfRange",
    "Outcome",
    "Panel",
    "Use",
    "Validation",
    "Verdict",
    "check_attention",
    "check_indices",
    "check_scale",
    "contrast",
    "decide",
    "differences",
    "drawn",
    "index_width",
    "indices_are_proved",
    "picture",
    "picture_lines",
    "run_test",
    "set_text",
    "side_by_side",
    "uses",
    "validate",
]

if TYPE_CHECKING:
    from .claims import Outcome, run_test
    from .closed_forms import Validation, validate
    from .counterexamples import Counterexample, drawn
    from .for_all import Verdict, decide
    from .index_ranges import OutOfRange, check_indices, index_width, indices_are_proved
    from .integer_limits import IntegerRangeError, check_attention, check_scale
    from .pictures import Counts, Panel, contrast, differences, picture, picture_lines, set_text, side_by_side
    from .table_use import Use, uses
else:
    __getattr__ = attributes(
        __name__,
        {
            "claims": ("Outcome", "run_test"),
            "closed_forms": ("Validation", "validate"),
            "counterexamples": ("Counterexample", "drawn"),
            "for_all": ("Verdict", "decide"),
            "index_ranges": ("OutOfRange", "check_indices", "index_width", "indices_are_proved"),
            "integer_limits": ("IntegerRangeError", "check_attention", "check_scale"),
            "pictures": (
                "Counts",
                "Panel",
                "contrast",
                "differences",
                "picture",
                "picture_lines",
                "set_text",
                "side_by_side",
            ),
            "table_use": ("Use", "uses"),
        },
    )
