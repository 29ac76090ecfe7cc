"""Where long work is, in one line of a terminal that the next one overwrites."""

from __future__ import annotations

import shutil
import sys
import time

from ..compiler.diagnostics import visible_line
from .terminal import moves

AFTER = 1.0  # seconds of work before anything is said
_CLEARED = "\r\x1b[2K"


class Ticker:
    """Says on stderr where the work is, once it takes long; says nothing where stderr is no terminal that
    can take a line away.

    Results that are printed meanwhile need :meth:`clear` before them.
    """

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._shown = False

    def at(self, text: str) -> None:
        """The work goes on to ``text``."""
        if not moves(sys.stderr) or time.monotonic() - self._start < AFTER:
            return
        text = visible_line(text)
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(_CLEARED + (text if len(text) <= width else text[: width - 1] + "…"))
        sys.stderr.flush()
        self._shown = True

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write(_CLEARED)
            sys.stderr.flush()
            self._shown = False
