"""Counts which kernels ran, so that a test or a script can assert that they did. Safe from any thread.

Kinds are named ``executor.pass``: ``cpp.forward``, ``triton.backward``, ``blocked.forward`` and so on.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

_counts: Counter[str] = Counter()
_lock = threading.Lock()


def count(kind: str) -> None:
    """Notes one launch."""
    with _lock:
        _counts[kind] += 1


def launches() -> Mapping[str, int]:
    """How many launches of each kind there were since the start, or since :func:`reset`; a copy."""
    with _lock:
        return dict(_counts)


def reset() -> None:
    """Starts counting from nothing."""
    with _lock:
        _counts.clear()
