"""Counts launches by kind, so that a test or a script can assert which kernels ran. Thread-safe.

A kind is named ``backend.pass``: ``cpp.forward``, ``triton.backward``, ``blocked.forward`` and so on. What Triton runs
over queries and over keys in a backward pass is counted too: ``triton.backward_queries``, ``triton.backward_keys``.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

_counts: Counter[str] = Counter()
_lock = threading.Lock()


def count(kind: str) -> None:
    """Counts one launch of a kind."""
    with _lock:
        _counts[kind] += 1


def launches() -> Mapping[str, int]:
    """How many launches of each kind ran since the process began, or since :func:`reset`; a copy."""
    with _lock:
        return dict(_counts)


def reset() -> None:
    """Sets all counts back to zero."""
    with _lock:
        _counts.clear()
