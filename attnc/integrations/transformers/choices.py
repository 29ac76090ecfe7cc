"""What a user may choose for all models that run on attnc, and warnings that are given once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, get_args

Packing = Literal["documents", "library"]


@dataclass(frozen=True)
class Options:
    """``packing``: what packed ``position_ids`` mean where the library builds the mask without them.

    ``"documents"``: documents stay apart, as they do where the library reads the positions. ``"library"``: a document
    sees those before it, as the library's own mask has it.
    """

    packing: Packing = "documents"

    def __post_init__(self) -> None:
        if self.packing not in get_args(Packing):
            raise ValueError(f"packing: is {self.packing!r}, expected one of {', '.join(map(repr, get_args(Packing)))}")


_current = [Options()]
_given: set[str] = set()


def current() -> Options:
    """The options that hold now."""
    return _current[-1]


def set_options(*, packing: Packing) -> None:
    """Sets options for the rest of the process. ValueError for a value that an option does not have."""
    _current[-1] = replace(current(), packing=packing)


@contextmanager
def options(*, packing: Packing) -> Iterator[Options]:
    """Sets options for a block. ValueError for a value that an option does not have."""
    _current.append(replace(current(), packing=packing))
    try:
        yield current()
    finally:
        _current.pop()


def warn_once(kind: str, message: str) -> None:
    """Warns, the first time that a warning of this kind is given in the process."""
    if kind not in _given:
        _given.add(kind)
        warnings.warn(message, stacklevel=2)


def forget_warnings() -> None:
    """Lets each warning be given once more."""
    _given.clear()
