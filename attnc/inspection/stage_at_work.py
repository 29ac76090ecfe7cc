"""Which stage of the compiler the command line is at, so that a fault of ours can be said to be there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_stages: list[str] = []


@contextmanager
def stage(name: str) -> Iterator[None]:
    """The stage that runs within; a fault that leaves it leaves its name behind."""
    _stages.append(name)
    yield
    _stages.remove(name)


def begin() -> None:
    """A new command: no stage yet."""
    _stages.clear()


def current_stage() -> str:
    """Where the last fault was, or the command line itself."""
    return _stages[-1] if _stages else "command line"
