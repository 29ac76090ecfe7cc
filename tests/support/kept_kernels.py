"""Takes from this process what calls left in it, as if it had just begun."""

from __future__ import annotations

from attnc.runtime import launch_cache, prepared
from attnc.runtime.cpp import executor


def forget_kernels() -> None:
    """Forgets loaded C++ kernels, launches of calls of one form, and calls that are ready; not what is on disk."""
    executor._entry.cache_clear()
    launch_cache._entries._values.clear()
    prepared._forward.clear()
    prepared._backward.clear()
