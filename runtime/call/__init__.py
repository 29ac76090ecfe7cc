"""The arguments of one call, checked and brought to one form."""

from . import errors
from .checks import (
    Call,
    check_call,
    check_dropout,
    check_positions,
    check_tensors,
    checked_scale,
    checked_start,
    extent_of,
    positions,
    positions_of,
    scale_of,
)
from .comparisons import settle
from .errors import asked, by_position
from .host_values import integer
from .python_values import collect
from .tables import Sizes, bind, check, is_batched, widened

__all__ = [
    "Call",
    "Sizes",
    "asked",
    "bind",
    "by_position",
    "check",
    "check_call",
    "check_dropout",
    "check_positions",
    "check_tensors",
    "checked_scale",
    "checked_start",
    "collect",
    "errors",
    "extent_of",
    "integer",
    "is_batched",
    "positions",
    "positions_of",
    "scale_of",
    "settle",
    "widened",
]
