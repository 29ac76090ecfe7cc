"""The two forms of a table of sets, and which of them a set takes: memory follows the members, whatever their values.

A bitmap ``[…, universe]`` is one read; members ``[…, slots]`` in rising order, -1 in what is left, are a binary search.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

Array: TypeAlias = Any  # numpy.ndarray or torch.Tensor

_BYTES_OF_A_SLOT = 64
_BYTES_OF_A_KEY = 16
_SMALL = 2**16


class Chooses(Protocol):
    """What the search needs of an array library, beside operators and indexing."""

    def constant(self, value: bool | int | float) -> Array: ...
    def where(self, condition: Array, then: Array, otherwise: Array) -> Array: ...


def fits_bitmaps(universe: int, sets: int, slots: int, n: int) -> bool:
    """Whether bitmaps over a universe are within a constant times the members, the keys and 64 KiB.

    ``slots``: of all sets together.
    """
    return universe * max(sets, 1) <= _SMALL + _BYTES_OF_A_KEY * n + _BYTES_OF_A_SLOT * slots


def is_listed(values: Array) -> bool:
    """Whether a table of sets holds rising members, and not bitmaps."""
    return str(values.dtype).endswith(("int32", "int64"))


def holds(values: Array, places: Sequence[Array], element: Array, arrays: Chooses) -> Array:
    """Whether rising members ``[…, slots]``, at least one each, hold an element; ``places`` chooses the set.

    Indices and element broadcast against each other. An element below 0 is in none.
    """
    size = values.shape[-1]
    at = arrays.constant(0)
    while size > 1:  # the last of `size` members that is no greater than the element lies at `at` or behind it
        half = size // 2
        probe = at + half
        at = arrays.where(values[(*places, probe)] <= element, probe, at)
        size -= half
    return (values[(*places, at)] == element) & (element >= 0)
