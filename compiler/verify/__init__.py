"""Checks: table indices and integers of a call, the claims of tests, and schedules."""

from .claims import Counts, Outcome, picture, picture_lines, run_test
from .index_ranges import OutOfRange, check_indices, index_width
from .integer_limits import IntegerRangeError, check_attention, check_scale
from .schedule_interpreter import verify_schedule
from .table_use import Use, uses

__all__ = [
    "Counts",
    "IntegerRangeError",
    "OutOfRange",
    "Outcome",
    "Use",
    "check_attention",
    "check_indices",
    "check_scale",
    "index_width",
    "picture",
    "picture_lines",
    "run_test",
    "uses",
    "verify_schedule",
]
