"""Caches of transformers that keep what a mask can still read, and attention over what they have kept."""

from .cache import PatternCache
from .layer import HeldKeys, PatternCacheLayer, held_keys
from .over_kept import attend
from .slots import Run

__all__ = ["HeldKeys", "PatternCache", "PatternCacheLayer", "Run", "attend", "held_keys"]
