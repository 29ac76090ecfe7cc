"""Shows what long work is doing: a spinner and a few words on a terminal, drawn by rich."""

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
    """Shows on stderr what work is being done, once it takes long.

    On a stderr that is not a terminal that can erase a line it shows nothing, and rich is not imported. :meth:`clear`
    must be called before results are printed. As a context manager it clears its line at the end.
    """

    def __init__(self, after: float | None = None) -> None:
        """``after``: the seconds before anything is shown; AFTER unless given."""
        self._start = time.monotonic() + (AFTER if after is None else after)
        self._status: Status | None = None

    def __enter__(self) -> Spinner:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def at(self, text: str) -> None:
        """Shows ``text`` as the present work, cut to one line."""
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
        """Erases the line."""
        if self._status is not None:
            self._status.stop()


@contextmanager
def progress(long: bool) -> Iterator[Callable[[str], object]]:
    """Yields a function that reports progress: by a spinner on a terminal, by lines elsewhere, not at all for short
    work.
    """
    if not long:
        yield lambda _: None
    elif not moves(sys.stderr):
        yield say
    else:
        with Spinner(after=0.0) as spinner:
            yield spinner.at
