"""Python's collector of reference cycles, paused while a text is read.

A text becomes some hundred thousand small objects that all stay until it is checked. Whenever some more of them are
made the collector looks through those before, which takes as long as all the rest; a text is within limits, so what it
could free meanwhile is little.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_LARGE = 10_000
_lock = Lock()
_pauses = 0
_enabled = False  # whether the collector was, when the first of the pauses began


@contextmanager
def paused(characters: int) -> Iterator[None]:
    """No rounds of the collector while a text of so many characters is read, if that is worth it; where several threads
    read some, until the last of them is done.
    """
    if characters < _LARGE:
        yield
        return
    global _pauses, _enabled
    with _lock:
        if _pauses == 0:
            _enabled = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _lock:
            _pauses -= 1
            if _pauses == 0 and _enabled:
                gc.enable()
