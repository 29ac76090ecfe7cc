"""In which order the programs of a kernel take their blocks: the longest first, over as many heads as a cache serves.

A GPU starts programs in the order of their numbers. Where the last blocks visit the most tiles, as under a causal mask,
and each head's blocks come one after the other, the last head's longest blocks run when all else is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ...compiler.plan import Bounds, TileCount
from .arguments import PlannedRuns, inverse

CACHED = 32 * 2**20
"""Bytes of what programs walk that are to stay in the second-level cache: heads take turns while theirs fit."""
UNEVEN = 1.25
"""How many times the work of one half of the blocks the other half's is, where their order matters."""
_SAMPLES = 16  # blocks of each half that are looked at

Walked = Sequence[tuple[Bounds | PlannedRuns, TileCount]]


def turn_arguments(walked: Walked, own: TileCount, slots: int, blocks: int, read: Sequence[Tensor]) -> dict[str, Any]:
    """The arguments by which a program finds its block and its slot, a batch entry and a head (macro ``turn``).

    ``walked``: for each segment what the tiles of ``own`` visit, and the number of tiles there are to visit; ``read``:
    the tensors that the programs of all slots walk.
    """
    sign = trend(walked, own)
    most = max(1, CACHED * slots // max(sum(each.nbytes for each in read), 1)) if sign else 1
    together = max((size for size in range(1, min(slots, most) + 1) if slots % size == 0), default=1)
    section = together * blocks
    return {
        "section_programs": section,
        "section_programs_inverse": inverse(section),
        "together": together,
        "together_inverse": inverse(together),
        "first_block": blocks - 1 if sign > 0 else 0,
        "block_step": -1 if sign > 0 else 1,
    }


def trend(walked: Walked, own: TileCount) -> int:
    """1 if the last tiles visit clearly more than the first, -1 if they visit less, 0 otherwise, or if only the device
    knows.
    """
    if own.total < 2:
        return 0
    places = sorted({place * (own.total - 1) // (2 * _SAMPLES - 1) for place in range(2 * _SAMPLES)})
    sums = [0, 0]
    for bounds, other in walked:
        if isinstance(bounds, PlannedRuns):
            return 0
        for place in places:
            sums[2 * place >= own.total] += visited(bounds, place, own, other)
    if max(sums) <= UNEVEN * min(sums):
        return 0
    return 1 if sums[1] > sums[0] else -1


def visited(bounds: Bounds, tile: int, own: TileCount, other: TileCount) -> int:
    """How many tiles one tile visits, in the first slot of the bounds."""
    limit = other.total
    if bounds.aligned:
        tile, limit = tile % max(own.per_class, 1), other.per_class
    move, row = divmod(tile, bounds.period)
    runs = bounds.runs
    chosen = slice(int(runs.pointer[row]), int(runs.pointer[row + 1]))
    start = runs.start[chosen].astype(np.int64) + move * bounds.shift
    ends = np.clip(start + runs.length[chosen], 0, limit)
    return int(np.maximum(ends - np.clip(start, 0, limit), 0).sum())
