"""Whether a schedule keeps its promise: no tile called empty holds a pair, none called full lacks one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.plan.order_protocol import Listing, Order, TileCount, key_major
from attnc.compiler.plan.orders import EMPTY, FULL, PARTIAL, Box
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.compiler.plan.schedule import Bounds, KernelSchedule, Runs, Schedule, SegmentSchedule
from attnc.compiler.schedule.tile_positions import tokens_of
from tests.support.generators.random_expressions import dense

Kinds = NDArray[np.uint8]  # [batch slots, head slots, query tiles, key tiles]


def kinds(bounds: Bounds, own: TileCount, other: TileCount) -> Kinds:
    """The kind of every tile, a row for each tile of the side that the bounds are of.

    Raises AssertionError where runs overlap, go backwards, are not joined or leave the int32 tiles.
    """
    _check_runs(bounds.runs, bounds.batch_slots * bounds.head_slots * bounds.period)
    slots = bounds.batch_slots * bounds.head_slots
    found = np.full((slots, own.total, other.total), EMPTY, np.uint8)
    runs = bounds.runs
    pointer, start, length, kind = (x.tolist() for x in (runs.pointer, runs.start, runs.length, runs.kind))
    for tile in range(own.total):
        of_class, along = divmod(tile, own.per_class) if bounds.aligned else (0, tile)
        limit = other.per_class if bounds.aligned else other.total
        move, base = along // bounds.period * bounds.shift, of_class * limit
        for slot in range(slots):
            row = slot * bounds.period + along % bounds.period
            for run in range(pointer[row], pointer[row + 1]):
                low, high = max(start[run] + move, 0), min(start[run] + length[run] + move, limit)
                found[slot, tile, base + low : base + max(low, high)] = kind[run]
    return found.reshape(bounds.batch_slots, bounds.head_slots, own.total, other.total)


def _check_runs(runs: Runs, rows: int) -> None:
    assert [x.dtype for x in (runs.pointer, runs.start, runs.length, runs.kind)] == [
        np.int64,
        np.int32,
        np.int32,
        np.uint8,
    ]
    assert len(runs.pointer) == rows + 1
    assert runs.pointer[0] == 0
    assert runs.pointer[-1] == len(runs.start) == len(runs.length) == len(runs.kind)
    assert (np.diff(runs.pointer) >= 0).all()
    if not len(runs.start):
        return
    assert runs.length.min() > 0
    assert np.isin(runs.kind, (PARTIAL, FULL)).all()
    row = np.repeat(np.arange(rows), np.diff(runs.pointer))
    start, end = runs.start.astype(np.int64), runs.start.astype(np.int64) + runs.length
    same_row = row[1:] == row[:-1]
    assert (start[1:] >= end[:-1])[same_row].all(), "runs of one row overlap or go backwards"
    joined = (start[1:] == end[:-1]) & (runs.kind[1:] == runs.kind[:-1])
    assert not joined[same_row].any(), "neighbouring runs of one kind are two"


def fault(program: Program, schedule: Schedule, extent: CallShape, contents: Sequence[HostTable]) -> str | None:
    """What is wrong with a schedule, by every pair of every segment; or None."""
    for number, (kernel, its) in enumerate(zip(program.kernels, schedule.kernels, strict=True)):
        for place, (segment, bounds) in enumerate(zip(kernel.segments, its.segments, strict=True)):
            found = segment_fault(kernel, its, segment, bounds, program, extent, contents)[0]
            if found is not None:
                return f"kernel {number}, segment {place}: {found}"
    return None


def segment_fault(
    kernel: Kernel,
    its: KernelSchedule,
    segment: Segment,
    bounds: SegmentSchedule,
    program: Program,
    extent: CallShape,
    contents: Sequence[HostTable],
) -> tuple[str | None, int]:
    """The same of one segment, and how many tiles were looked at."""
    heads = list(range(extent.heads) if kernel.heads is None else kernel.heads)
    mask = dense(segment.condition, program.tables, tuple(contents), extent)[:, heads]
    if isinstance(segment.keys, Box):
        return _box_fault(kernel.rows, segment.keys, bounds, (mask != 0).any(1), extent)
    rows, keys = (
        kernel.rows.tiles(extent.m, its.rows),
        segment.keys.tiles(extent.n, bounds.keys),
    )
    by_query, by_key = kinds(bounds.by_query, rows, keys), kinds(bounds.by_key, keys, rows).swapaxes(2, 3)
    if by_query.shape != by_key.shape or (by_query != by_key).any():
        return "the backward order visits other tiles than the forward order", 0
    tiles = 0
    for batch in range(len(mask)):
        for place, head in enumerate(heads):
            own = _tokens(kernel.rows, its.rows, rows.total, extent.m, batch, place)
            other = _tokens(segment.keys, bounds.keys, keys.total, extent.n, batch, place)
            called = by_query[batch if len(by_query) > 1 else 0, place if by_query.shape[1] > 1 else 0]
            holds, lacks = tile_truth(mask[batch, place], own, other)
            tiles += called.size
            for kind, wrong, word in (
                (EMPTY, holds, "empty holds a pair"),
                (FULL, lacks, "full lacks a pair or counts one twice"),
            ):
                found = np.argwhere((called == kind) & wrong)
                if len(found):
                    where = [batch, head, *found[0].tolist()]
                    text = f"{len(found)} tiles called {word}; the first at [batch, head, row tile, key tile] = {where}"
                    return text, tiles
    return None, tiles


def _box_fault(
    rows: Order, keys: Box, bounds: SegmentSchedule, mask: NDArray[np.bool_], extent: CallShape
) -> tuple[str | None, int]:
    """Boxes overlap: each pair of ``mask`` (``[batch, m, n]``, those of any head) must be met once, none twice."""
    around, of_keys = key_major(rows, keys)
    looked = 0
    for way, own, other, held, sizes in (
        ("forward", rows, keys, bounds.by_query, (extent.m, extent.n)),
        ("backward", of_keys, around, bounds.by_key, (extent.n, extent.m)),
    ):
        counts = own.tiles(sizes[0]), other.tiles(sizes[1])
        tokens, others = (
            tokens_of(order, None, np.arange(count.total), size)
            for order, count, size in zip((own, other), counts, sizes, strict=True)
        )
        called = kinds(held, *counts)
        for batch, truth in enumerate(mask):
            met = np.zeros((sizes[0] + 1, sizes[1] + 1), np.int64)  # -1, no token, is the last
            for tile, visited in zip(*np.nonzero(called[batch if len(called) > 1 else 0, 0]), strict=True):
                np.add.at(met, np.ix_(tokens[tile], others[visited]), 1)
            met, truth = met[:-1, :-1], truth if way == "forward" else truth.T
            looked += called.size
            if (met > 1).any() or (truth & (met == 0)).any():
                return f"{way}: a pair of a box is met twice or never", looked
    return None, looked


def tile_truth(
    mask: NDArray[Any], rows: NDArray[np.int64], keys: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether some pair of each tile counts, and whether some counts not just once, ``[row tiles, key tiles]``."""
    padded = np.ones((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    padded[:-1, :-1] = mask
    present = np.ones_like(padded, bool)
    present[-1], present[:, -1] = False, False
    pairs = np.ix_(rows.ravel(), keys.ravel())
    shape = rows.shape[0], rows.shape[1], keys.shape[0], keys.shape[1]
    its, there = padded[pairs].reshape(shape), present[pairs].reshape(shape)
    return ((its != 0) & there).any((1, 3)), ((its != 1) & there).any((1, 3))


def _tokens(
    order: Order, listing: Listing | None, tiles: int, tokens: int, batch: int, place: int
) -> NDArray[np.int64]:
    if listing is None:
        return tokens_of(order, None, np.arange(tiles), tokens)
    slot = (batch if listing.batch_slots > 1 else 0) * listing.head_slots + (place if listing.head_slots > 1 else 0)
    return tokens_of(order, listing.tokens[slot], np.arange(tiles), tokens)
