"""Remembers which stage of the compiler the command line is in, so that the report of a bug can name it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_stages: list[str] = []


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Names the stage that runs within; if an exception leaves it, :func:`current_stage` still gives its name."""
    _stages.append(name)
    yield
    _stages.remove(name)


def begin() -> None:
    """Forgets all stages, for a new command."""
    _stages.clear()


def current_stage() -> str:
    """The innermost stage that is running or that an exception left; else the command line itself."""
    return _stages[-1] if _stages else "command line"
