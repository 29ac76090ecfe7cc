"""Checks: table indices and integers of a call, the claims of tests, and schedules."""

from .claims import Outcome, run_test
from .closed_forms import Validation, validate
from .counterexamples import Counterexample, drawn
from .for_all import Verdict, decide
from .index_ranges import OutOfRange, check_indices, index_width, indices_are_proved
from .integer_limits import IntegerRangeError, check_attention, check_scale
from .pictures import Counts, Panel, contrast, differences, picture, picture_lines, set_text, side_by_side
from .table_use import Use, uses

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
