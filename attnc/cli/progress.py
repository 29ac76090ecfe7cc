"""Where long work is: a spinner and a few words on a terminal, drawn by rich."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..compiler.diagnostics import visible_line
from .terminal import moves, say

if TYPE_CHECKING:
    from rich.status import Status

AFTER = 1.0  # seconds of work before anything is said
_ROOM = 3  # columns that the spinner takes, and one that stays free


class Spinner:
    """Says on stderr where the work is, once it takes long; says nothing where stderr is no terminal that can take a
    line away, and then imports nothing.

    Results that are printed meanwhile need :meth:`clear` before them. As a context it leaves a clear line behind.
    """

    def __init__(self, after: float | None = None) -> None:
        """``after``: seconds before anything is said; AFTER unless given."""
        self._start = time.monotonic() + (AFTER if after is None else after)
        self._status: Status | None = None

    def __enter__(self) -> Spinner:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def at(self, text: str) -> None:
        """The work goes on to ``text``, of which one line is shown."""
        if not moves(sys.stderr) or time.monotonic() < self._start:
            return
        from rich.console import Console
        from rich.text import Text

        if self._status is None:
            self._status = Console(stderr=True).status("")
        shown = Text(visible_line(text))
        shown.truncate(max(1, self._status.console.width - _ROOM), overflow="ellipsis")
        self._status.update(shown)
        self._status.start()

    def clear(self) -> None:
        """Take the line away."""
        if self._status is not None:
            self._status.stop()


@contextmanager
def progress(long: bool) -> Iterator[Callable[[str], object]]:
    """What says where long work is: a spinner on a terminal, lines elsewhere; nothing for short work."""
    if not long:
        yield lambda _: None
    elif not moves(sys.stderr):
        yield say
    else:
        with Spinner(after=0.0) as spinner:
            yield spinner.at
