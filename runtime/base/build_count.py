"""Counts the kernels that were built in this process, and not taken from a cache: by a C++ compiler or by Triton."""

from __future__ import annotations

import sys
import threading
from typing import Any

_lock = threading.Lock()
_built = 0


def built() -> int:
    """How many kernels were built since the start; Triton's since :func:`listen_to_triton`."""
    return _built


def note_built() -> None:
    """One more. Safe from any thread."""
    global _built
    with _lock:
        _built += 1


def listen_to_triton() -> None:
    """From now on kernels count that Triton compiles. Nothing, where it is not installed."""
    knobs = getattr(sys.modules.get("triton"), "knobs", None)
    if knobs is not None and knobs.compilation.listener is None:
        knobs.compilation.listener = _heard


def _heard(*, cache_hit: bool, **_others: Any) -> None:
    if not cache_hit:
        note_built()
