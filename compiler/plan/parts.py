"""A Program for calls whose keys are a part of the whole: the same kernels, of keys that two more tables bound.

Positions stay those of the whole: nothing but what exists tells a part from it. So the orders of a part are those of
the whole, and no kernel is built anew for other keys. A call in which every key exists has the Program without bounds.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from ..ir import CallShape, Entry, Expr, HostTable, K, Table, conjunction, constructors, less, less_equal
from .programs import Program

if TYPE_CHECKING:
    import numpy as np

BOUNDS = (Table("the first key", "int", ()), Table("the end of the keys", "int", ()))
"""The tables that a part adds to its program's: the first key that exists, and one more than the last. Their names are
not identifiers, so that no text has them.
"""


@lru_cache(maxsize=512)
def part_of(program: Program) -> Program:
    """The program of a part: its mask and its conditions ask first whether a key exists."""
    first, end = (Entry(str(len(program.tables) + place), (), "int") for place in range(2))
    exists = conjunction(less_equal(first, K), less(K, end))

    def existing(condition: Expr) -> Expr:
        join = constructors.filtered if condition.type == "count" else conjunction
        return join(exists, condition)

    kernels = tuple(
        replace(kernel, segments=tuple(replace(each, condition=existing(each.condition)) for each in kernel.segments))
        for kernel in program.kernels
    )
    tables = (*program.tables, *BOUNDS)
    return replace(program, kernels=kernels, mask=existing(program.mask), tables=tables, is_part=True)


def bounds_of_keys(shape: CallShape) -> tuple[HostTable, HostTable]:
    """The contents of BOUNDS in a call, as far as the host knows them. Both are positions of the call, 0 to n."""
    import numpy as np

    if shape.k_start is None:
        return HostTable(None, shape=()), HostTable(None, shape=())
    starts = np.array(shape.k_start, np.int64)
    first, end = (np.clip(each, 0, shape.n) for each in (starts, starts + shape.keys))
    return _table(first), _table(end)


def _table(values: np.ndarray[tuple[int], np.dtype[np.int64]]) -> HostTable:
    batched = len(values) > 1
    return HostTable(values if batched else values.reshape(()), batched)
