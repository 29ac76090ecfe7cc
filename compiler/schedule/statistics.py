"""Counts the tiles that a schedule visits and the pairs that it keeps.

The pairs of full tiles follow from their lanes; in partial tiles the condition is evaluated. If it is invariant under
shifts of query and key together, this is done once for all partial tiles that are shifts of one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..analysis import shift_divisor
from ..ir import TRUE, CallShape, Expr, HostTable
from ..oracle import Environment, environment, interpret, numbered_values
from ..plan import (
    FULL,
    PARTIAL,
    Bounds,
    Kernel,
    KernelSchedule,
    Listing,
    Order,
    Program,
    Schedule,
    TileCount,
)
from .run_rows import TileRuns, repeated
from .tile_positions import tokens_of
from .tile_visits import Slot, slot_counts

Numbers = NDArray[Any]  # int64, or Python's integers if sums might not fit
_EXACT = 2**62  # tiles


class Visited(NamedTuple):
    """The numbers of full and partial tiles of one segment, in each slot: ``[batch slots * head slots]``."""

    full: Numbers
    partial: Numbers


def visited(bounds: Bounds, own: TileCount, other: TileCount) -> Visited:
    """How many tiles the tiles of one side visit, summed over them; in closed form, from the runs of one period."""
    along, limit, times = own.total, other.total, 1
    if bounds.aligned:
        along, limit, times = own.per_class, other.per_class, own.classes
    runs, slots = bounds.runs, bounds.batch_slots * bounds.head_slots
    row = np.repeat(np.arange(slots * bounds.period), np.diff(runs.pointer))
    # An upper bound on the intermediate results of _clipped_sum.
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
    """Tiles over all kernels and segments; tiles that batch entries or heads share are counted once.

    ``area``: keys computed per query, on average over all batch entries and heads.
    """

    full: int
    partial: int
    area: float


def totals(program: Program, schedule: Schedule, extent: CallShape) -> Totals:
    """Count the tiles of a schedule, over all kernels and segments, for a call with ``extent.heads`` heads."""
    full = partial = 0
    lanes = 0.0
    for kernel, its in zip(program.kernels, schedule.kernels, strict=True):
        heads = extent.heads if kernel.heads is None else len(kernel.heads)
        rows = kernel.rows.tiles(schedule.m, its.rows)
        if its.walked is not None:  # no tile is searched
            lanes += its.walked * rows.total * kernel.rows.tile * heads
            continue
        for segment, held in zip(kernel.segments, its.segments, strict=True):
            found = visited(held.by_query, rows, segment.keys.tiles(schedule.n, held.keys))
            full, partial = full + int(found.full.sum()), partial + int(found.partial.sum())
            of_slot = (found.full + found.partial).sum() / max(
                len(found.full), 1
            )  # every slot serves the same number of batch entries and heads
            lanes += float(of_slot) * kernel.rows.tile * segment.keys.tile * heads
    queries = extent.heads * _lanes(program.kernels[0], schedule.m) if program.kernels else 0
    return Totals(full, partial, lanes / queries if queries else 0.0)


def _lanes(first: Kernel, m: int) -> int:
    """The number of query rows, rounded up to whole tiles of the first kernel."""
    return -(-m // first.rows.tile) * first.rows.tile


Indices = NDArray[np.int64]
_PAIRS_AT_ONCE = 2**20
_TILES_AT_ONCE = 2**18


def pairs(program: Program, schedule: Schedule, extent: CallShape, contents: Sequence[HostTable], batch: int) -> int:
    """The number of pairs, with multiplicity, over ``batch`` entries and all heads; the host must know all tables."""
    kernels = zip(program.kernels, schedule.kernels, strict=True)
    counter = _PairCounter(program, extent, contents, batch)
    return sum(counter.of_kernel(kernel, its) for kernel, its in kernels)


@dataclass(frozen=True)
class _Group:
    """A batch entry and a head that represent all ``members`` of a group that keep the same pairs."""

    slot: Slot
    head: int
    members: int


class _PairCounter:
    """Counts the pairs that the kernels of a program keep in one call of ``batch`` entries."""

    def __init__(self, program: Program, extent: CallShape, contents: Sequence[HostTable], batch: int) -> None:
        values, arrays = numbered_values(program.tables, contents)
        start = np.asarray(extent.q_start, np.int64)
        nowhere = arrays.constant(False)
        self._bound = environment(arrays, extent.n, extent.m, extent.heads, start, values, reached=nowhere)
        self._extent, self._batch = extent, batch

    def of_kernel(self, kernel: Kernel, its: KernelSchedule) -> int:
        with np.errstate(all="ignore"):
            owned = np.asarray(interpret(kernel.owned_rows, self._bound))[..., 0]
        total = 0
        for group in self._groups(kernel, its, owned):
            rows = self._lanes(kernel.rows, its.rows, group.slot, self._extent.m)
            if kernel.owned_rows != TRUE:
                own = owned[min(group.slot.batch, len(owned) - 1), min(group.head, owned.shape[1] - 1)]
                rows = np.where((rows >= 0) & np.broadcast_to(own, self._extent.m)[rows], rows, -1)
            for segment, held in zip(kernel.segments, its.segments, strict=True):
                keys = self._lanes(segment.keys, held.keys, group.slot, self._extent.n)
                counts = (kernel.rows.tiles(self._extent.m, its.rows),
                          segment.keys.tiles(self._extent.n, held.keys))  # fmt: skip
                runs = _of_slot(repeated(held.by_query, *counts), group.slot.of(held.by_query), counts[0].total)
                alike = held.keys is None and its.rows is None
                total += group.members * self._of_segment(segment.condition, rows, keys, runs, group, alike)
        return total

    def _groups(self, kernel: Kernel, its: KernelSchedule, owned: NDArray[np.bool_]) -> Iterator[_Group]:
        heads = range(self._extent.heads) if kernel.heads is None else kernel.heads
        batch_slots, head_slots = slot_counts(its)
        by_row = kernel.members is not None  # whose bounds do not show which sets differ
        batch_differs = batch_slots > 1 or len(owned) > 1 or by_row
        heads_differ = head_slots > 1 or owned.shape[1] > 1 or by_row
        members = (1 if batch_differs else self._batch) * (1 if heads_differ else len(heads))
        for batch in range(self._batch if batch_differs else min(1, self._batch)):
            for place, head in enumerate(heads if heads_differ else heads[:1]):
                yield _Group(Slot(batch, place), head, members)

    def _lanes(self, order: Order, listing: Listing | None, slot: Slot, tokens: int) -> Indices:
        listed = None if listing is None else listing.tokens[slot.of(listing)]
        return tokens_of(order, listed, np.arange(order.tiles(tokens, listing).total), tokens)

    def _of_segment(
        self, condition: Expr, rows: Indices, keys: Indices, runs: TileRuns, group: _Group, alike: bool
    ) -> int:
        """The pairs of one segment, with multiplicity. ``alike``: whole tiles of an order are shifts of one another."""
        there, before = (rows >= 0).sum(1), np.append(0, np.cumsum((keys >= 0).sum(1)))
        full = runs.kind == FULL
        total = int((there[runs.row] * (before[runs.end] - before[runs.start]))[full].sum())
        divisor = shift_divisor(condition) if alike else None
        for tile, other in _tiles(runs, ~full):
            times = np.ones(len(tile), np.int64)
            if divisor is not None:
                whole = (rows[tile] >= 0).all(1) & (keys[other] >= 0).all(1)
                first, far = rows[tile, 0] % divisor, keys[other, 0] - rows[tile, 0]
                marks = np.stack([first, far, np.where(whole, -1, np.arange(len(tile)))])
                _, chosen, times = np.unique(marks, axis=1, return_index=True, return_counts=True)
                tile, other = tile[chosen], other[chosen]
            step = max(1, _PAIRS_AT_ONCE // (rows.shape[1] * keys.shape[1]))
            for part in (slice(first, first + step) for first in range(0, len(tile), step)):
                kept = self._kept(condition, rows[tile[part]], keys[other[part]], group)
                total += int((kept * times[part]).sum())
        return total

    def _kept(self, condition: Expr, rows: Indices, keys: Indices, group: _Group) -> Indices:
        """The number of pairs kept in each tile, with multiplicity."""
        base = self._bound
        start = base.q_start[min(group.slot.batch, len(base.q_start) - 1)].reshape(1, 1, 1, 1)
        at = {
            **base.positions,
            "q": start + rows[:, None, :, None],
            "k": keys[:, None, None, :],
            "head": np.full((1, 1, 1, 1), group.head),
        }
        batch = np.full((1, 1, 1, 1), group.slot.batch)
        bound = Environment(base.arrays, at, start, batch, base.tables, reached=base.reached)
        with np.errstate(all="ignore"):
            kept = np.asarray(interpret(condition, bound), np.int64)
        present = (rows >= 0)[:, None, :, None] & (keys >= 0)[:, None, None, :]
        counted: Indices = (kept * present).sum((1, 2, 3))
        return counted


def _of_slot(rows: TileRuns, slot: int, tiles: int) -> TileRuns:
    """The runs of one slot, with rows numbered by tile."""
    held = slice(*np.searchsorted(rows.row, (slot * tiles, (slot + 1) * tiles)).tolist())
    return TileRuns(tiles, rows.row[held] - slot * tiles, rows.start[held], rows.end[held], rows.kind[held])


def _tiles(runs: TileRuns, wanted: NDArray[np.bool_]) -> Iterator[tuple[Indices, Indices]]:
    """Yields the tiles in the wanted runs, as numbers of own and other tiles, in batches."""
    length = (runs.end - runs.start)[wanted]
    ends = np.cumsum(length)
    row, start = runs.row[wanted], runs.start[wanted]
    for first in range(0, int(ends[-1]) if len(ends) else 0, _TILES_AT_ONCE):
        number = np.arange(first, min(first + _TILES_AT_ONCE, int(ends[-1])))
        run = np.searchsorted(ends, number, side="right")
        yield row[run], start[run] + number - (ends - length)[run]
