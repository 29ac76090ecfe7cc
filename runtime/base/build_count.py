"""Counts the kernels that a C++ compiler or Triton built in this process; those taken from a cache do not count."""

from __future__ import annotations

import sys
import threading
from typing import Any

_lock = threading.Lock()
_built = 0


def built() -> int:
    """How many kernels were built since the process began; Triton's count from :func:`listen_to_triton` on."""
    return _built


def note_built() -> None:
    """Counts one built kernel. Thread-safe."""
    global _built
    with _lock:
        _built += 1


def listen_to_triton() -> None:
    """Counts the kernels that Triton compiles from now on. Does nothing where triton is not imported."""
    knobs = getattr(sys.modules.get("triton"), "knobs", None)
    if knobs is not None and knobs.compilation.listener is None:
        knobs.compilation.listener = _heard


def _heard(*, cache_hit: bool, **_others: Any) -> None:
    if not cache_hit:
        note_built()
