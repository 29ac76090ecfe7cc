"""How many tiles a schedule visits, in all and of each kind, without visiting them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .extent import Extent
from .plan import FULL, PARTIAL, Bounds, Kernel, Program, Schedule, TileCount, tile_count

Numbers = NDArray[Any]  # int64, or Python's integers where their sums might not fit
_EXACT = 2**62  # tiles


class Visited(NamedTuple):
    """Tiles of one segment, in each of its slots: ``[batch slots * head slots]``."""

    full: Numbers
    partial: Numbers


def visited(bounds: Bounds, own: TileCount, other: TileCount) -> Visited:
    """The tiles that all tiles of one side visit."""
    along, limit, times = own.total, other.total, 1
    if bounds.aligned:
        along, limit, times = own.per_class, other.per_class, own.classes
    runs, slots = bounds.runs, bounds.batch_slots * bounds.head_slots
    row = np.repeat(np.arange(slots * bounds.period), np.diff(runs.pointer))
    # No number that a clipped sum meets on the way is larger.
    most = 4 * (along + 1) * (limit + abs(bounds.shift) * (along + 1)) * times * max(1, len(runs.start))
    kind = np.int64 if most < _EXACT else object
    repeats = (np.maximum(along - row % bounds.period + bounds.period - 1, 0) // bounds.period).astype(kind)
    start, length = runs.start.astype(kind), runs.length.astype(kind)
    ends = (_clipped_sum(x, bounds.shift, repeats, limit) for x in (start + length, start))
    tiles = times * np.subtract(*ends)
    found = Visited(np.zeros(slots, kind), np.zeros(slots, kind))
    for sums, chosen in zip(found, (FULL, PARTIAL), strict=True):
        np.add.at(sums, row // bounds.period, np.where(runs.kind == chosen, tiles, 0))
    return found


def _clipped_sum(first: Numbers, step: int, count: Numbers, limit: int) -> Numbers:
    """The sum of ``first + step * i``, clipped to ``0 .. limit``, over ``0 <= i < count``."""
    if not step:
        same: Numbers = count * np.clip(first, 0, limit)
        return same
    rises = np.clip(-(first // step), 0, count)  # the first that is no longer clipped to 0
    stays = np.clip(-((first - limit) // step), rises, count)  # and the first that is clipped to the limit
    between = stays - rises
    found: Numbers = first * between + step * (between * (rises + stays - 1) // 2) + limit * (count - stays)
    return found


class Totals(NamedTuple):
    """Tiles over all kernels and segments, those that batch entries or heads share counted once; ``area``: keys
    computed for each query, on average over all batch entries and heads.
    """

    full: int
    partial: int
    area: float


def totals(program: Program, schedule: Schedule, extent: Extent) -> Totals:
    """Of a schedule for ``extent.heads`` heads."""
    full = partial = 0
    lanes = 0.0
    for kernel, its in zip(program.kernels, schedule.kernels, strict=True):
        heads = extent.heads if kernel.heads is None else len(kernel.heads)
        rows = tile_count(kernel.rows, its.rows, schedule.m)
        for segment, held in zip(kernel.segments, its.segments, strict=True):
            found = visited(held.by_query, rows, tile_count(segment.keys, held.keys, schedule.n))
            full, partial = full + int(found.full.sum()), partial + int(found.partial.sum())
            of_slot = (found.full + found.partial).sum() / max(
                len(found.full), 1
            )  # every slot is of as many batch entries and heads
            lanes += float(of_slot) * kernel.rows.tile * segment.keys.tile * heads
    queries = extent.heads * _lanes(program.kernels[0], schedule.m) if program.kernels else 0
    return Totals(full, partial, lanes / queries if queries else 0.0)


def _lanes(first: Kernel, m: int) -> int:
    """Query rows up to the end of the last tile, were they walked as they stand."""
    return -(-m // first.rows.tile) * first.rows.tile
