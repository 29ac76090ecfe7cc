"""Whether a schedule keeps its promise: no tile called empty holds a pair, none called full lacks one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnc.compiler.plan import EMPTY, FULL, PARTIAL, Runs, Schedule

Kinds = NDArray[np.uint8]  # [batch slots, head slots, query tiles, key tiles]


def kinds(schedule: Schedule) -> tuple[Kinds, Kinds]:
    """The kind of every tile, as the query-major rows and as the key-major rows have it, both query-major here.

    Raises AssertionError where runs overlap, go backwards or leave the tiles.
    """
    slots = schedule.batch_slots * schedule.head_slots
    shape = schedule.batch_slots, schedule.head_slots, schedule.query_tiles, schedule.key_tiles
    by_query = _spread(schedule.by_query, slots * schedule.query_tiles, schedule.key_tiles).reshape(shape)
    by_key = _spread(schedule.by_key, slots * schedule.key_tiles, schedule.query_tiles)
    by_key = by_key.reshape(*shape[:2], schedule.key_tiles, schedule.query_tiles).swapaxes(2, 3)
    return by_query, by_key


def _spread(runs: Runs, rows: int, columns: int) -> Kinds:
    assert len(runs.pointer) == rows + 1
    assert runs.pointer[0] == 0
    assert runs.pointer[-1] == len(runs.start) == len(runs.length) == len(runs.kind)
    kinds = np.full((rows, columns), EMPTY, np.uint8)
    if not len(runs.start):
        return kinds
    assert runs.length.min() > 0
    assert np.isin(runs.kind, (PARTIAL, FULL)).all()
    row = np.repeat(np.arange(rows), np.diff(runs.pointer))
    start, length = runs.start.astype(np.int64), runs.length.astype(np.int64)
    assert start.min() >= 0
    assert (start + length).max() <= columns
    same_row = row[1:] == row[:-1]
    assert (start[1:] >= (start + length)[:-1])[same_row].all(), "runs of one row overlap or go backwards"
    offset = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    kinds[np.repeat(row, length), np.repeat(start, length) + offset] = np.repeat(runs.kind, length)
    return kinds


def fault(mask: NDArray[Any], schedule: Schedule) -> str | None:
    """What is wrong with the schedule of a dense mask ``[batch, heads, m, n]``, bool or counts, or None."""
    by_query, by_key = kinds(schedule)
    if (by_query != by_key).any():
        return "the backward order visits other tiles than the forward order"
    full, partial = int((by_query == FULL).sum()), int((by_query == PARTIAL).sum())
    if (full, partial) != (schedule.full, schedule.partial):
        return f"{full} full and {partial} partial tiles, but the schedule says {schedule.full} and {schedule.partial}"
    rows = np.arange(0, mask.shape[2], schedule.query_tile)
    columns = np.arange(0, mask.shape[3], schedule.key_tile)
    if not len(rows) or not len(columns):
        return None
    holds = np.maximum.reduceat(np.maximum.reduceat(mask != 0, rows, axis=2), columns, axis=3)
    lacks = np.maximum.reduceat(np.maximum.reduceat(mask != 1, rows, axis=2), columns, axis=3)
    for kind, wrong, word in (
        (EMPTY, holds, "empty holds a pair"),
        (FULL, lacks, "full lacks a pair or counts one twice"),
    ):
        found = np.argwhere((by_query == kind) & wrong)
        if len(found):
            first = found[0].tolist()
            return f"{len(found)} tiles called {word}; the first at [batch, head, query tile, key tile] = {first}"
    return None
