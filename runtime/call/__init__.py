"""Checks the arguments of one call and converts them to the form that launches take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import attributes

__all__ = [
    "Call",
    "TableSizes",
    "bind",
    "by_position",
    "check",
    "check_call",
    "check_divisors",
    "check_dropout",
    "check_key_positions",
    "check_positions",
    "check_tensors",
    "checked_positions",
    "checked_scale",
    "checked_start",
    "collect",
    "copied",
    "described",
    "errors",
    "extent_of",
    "integer",
    "is_batched",
    "key_positions_of",
    "located",
    "positions",
    "positions_of",
    "scale_of",
    "settle",
    "settle_alike",
    "unfit",
    "widened",
]

if TYPE_CHECKING:
    from . import errors
    from .checks import (
        Call,
        check_call,
        check_dropout,
        check_key_positions,
        check_positions,
        check_tensors,
        checked_positions,
        checked_scale,
        checked_start,
        extent_of,
        key_positions_of,
        positions,
        positions_of,
        scale_of,
    )
    from .comparisons import settle, settle_alike
    from .errors import by_position, located
    from .host_values import copied, integer, unfit
    from .python_values import collect, described
    from .tables import TableSizes, bind, check, check_divisors, is_batched, widened
else:
    __getattr__ = attributes(
        __name__,
        {
            "checks": (
                "Call",
                "check_call",
                "check_dropout",
                "check_key_positions",
                "check_positions",
                "check_tensors",
                "checked_positions",
                "checked_scale",
                "checked_start",
                "extent_of",
                "key_positions_of",
                "positions",
                "positions_of",
                "scale_of",
            ),
            "comparisons": ("settle", "settle_alike"),
            "errors": ("by_position", "located"),
            "host_values": ("copied", "integer", "unfit"),
            "python_values": ("collect", "described"),
            "tables": ("TableSizes", "bind", "check", "check_divisors", "is_batched", "widened"),
        },
        modules=("errors",),
    )
