"""The two forms of a table of sets: bitmaps, or lists of members where bitmaps would take too much memory.

In a bitmap ``[…, universe]`` a lookup is one read. In a list ``[…, slots]`` it is a binary search; members rise, and
unused slots, at -1, come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

Array: TypeAlias = Any  # numpy.ndarray or torch.Tensor

_BYTES_OF_A_SLOT = 64
_BYTES_OF_A_KEY = 16
_SMALL = 2**16


class Chooses(Protocol):
    """What the search needs of an array library besides operators and indexing."""

    def constant(self, value: bool | int | float) -> Array: ...
    def where(self, condition: Array, then: Array, otherwise: Array) -> Array: ...


def fits_bitmaps(universe: int, sets: int, slots: int, n: int) -> bool:
    """Whether ``sets`` bitmaps, of ``universe`` bytes each, take at most 64 KiB plus 16 bytes per key and 64 per slot.

    ``slots``: those of all sets together. ``n``: the number of keys.
    """
    return universe * max(sets, 1) <= _SMALL + _BYTES_OF_A_KEY * n + _BYTES_OF_A_SLOT * slots


def is_listed(values: Array) -> bool:
    """Whether a table of sets holds lists of members rather than bitmaps."""
    return str(values.dtype).endswith(("int32", "int64"))


def holds(values: Array, places: Sequence[Array], element: Array, arrays: Chooses) -> Array:
    """Whether the set at ``places`` contains an element, by binary search in ``values``, ``[…, slots]``, ``slots > 0``.

    ``places``, one index array for each axis but the last, and ``element`` broadcast against each other. A negative
    element is in no set.
    """
    size = values.shape[-1]
    at = arrays.constant(0)
    while size > 1:  # the last slot not greater than the element is among `size` from `at` on
        half = size // 2
        probe = at + half
        at = arrays.where(values[(*places, probe)] <= element, probe, at)
        size -= half
    return (values[(*places, at)] == element) & (element >= 0)
