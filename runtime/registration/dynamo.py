"""Keeps Dynamo out of functions that torch's dispatcher calls, without importing Dynamo.

Called by the dispatcher after a graph break, such a function would be traced, with planning, launches and all.
``torch._dynamo.disable`` prevents that too, but imports Dynamo at the first call, which takes longer than everything
else that a first call does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch._C._dynamo.eval_frame import (  # what torch._dynamo.eval_frame.skip_code calls
    _FrameAction,
    _FrameExecStrategy,
    set_code_exec_strategy,
)

F = TypeVar("F", bound=Callable[..., Any])
_SKIPPED = _FrameExecStrategy(_FrameAction.SKIP, _FrameAction.SKIP)


def without_dynamo(function: F) -> F:
    """The function itself, run as it stands, with all that it calls, wherever Dynamo would look at it."""
    set_code_exec_strategy(function.__code__, _SKIPPED)
    return function
