"""A schedule against the dense mask: what ``ATTNC_VERIFY=1`` checks of each plan that is small enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..compiler.evaluate import Environment, NumpyArrays, TableValues, environment, interpret
from ..compiler.extent import Contents, Extent
from ..compiler.plan import EMPTY, FULL, Program, Runs, Schedule

LARGEST_AREA = 2**24  # pairs of all slots


class ScheduleFaultError(AssertionError):
    """A fault of ours: a tile that is not what its schedule calls it."""


def verify_schedule(program: Program, schedule: Schedule, extent: Extent, contents: Sequence[Contents]) -> None:
    """ScheduleFaultError where an empty tile holds a pair, a full one lacks one, or the two orders differ.

    Looks at plans of at most so many pairs whose contents the host knows; others pass.
    """
    forth, back = _kinds(schedule, schedule.by_query, forth=True), _kinds(schedule, schedule.by_key, forth=False)
    if not np.array_equal(forth, back.swapaxes(-1, -2)):
        raise ScheduleFaultError("bug in attnc, stage schedule: forward and backward visit different tiles")
    area = schedule.m * schedule.n * schedule.batch_slots * max(schedule.head_slots, extent.heads)
    unknown = extent.q_start is None or any(held.values is None for held in _read(program, contents))
    if unknown or area > LARGEST_AREA or not area:
        return
    least, greatest = _extrema(schedule, _mask(program, extent, contents))
    if bool(((forth == EMPTY) & (greatest > 0)).any()):
        raise ScheduleFaultError("bug in attnc, stage schedule: a tile called empty holds a pair")
    if bool(((forth == FULL) & ((least != 1) | (greatest != 1))).any()):
        raise ScheduleFaultError("bug in attnc, stage schedule: a tile called full lacks a pair or counts one twice")


def _read(program: Program, contents: Sequence[Contents]) -> list[Contents]:
    """The tables that decide: those left with their sizes only are learned numbers."""
    return [held for held, table in zip(contents, program.tables, strict=True) if table.element != "float"]


def _kinds(schedule: Schedule, runs: Runs, forth: bool) -> NDArray[np.uint8]:
    """The kind of every tile, ``[batch slots, head slots, rows, tiles]``."""
    rows, tiles = schedule.query_tiles, schedule.key_tiles
    if not forth:
        rows, tiles = tiles, rows
    kinds = np.full((schedule.batch_slots * schedule.head_slots * rows, tiles), EMPTY, np.uint8)
    for row in range(len(kinds)):
        for run in range(runs.pointer[row], runs.pointer[row + 1]):
            kinds[row, runs.start[run] : runs.start[run] + runs.length[run]] = runs.kind[run]
    return kinds.reshape(schedule.batch_slots, schedule.head_slots, rows, tiles)


def _mask(program: Program, extent: Extent, contents: Sequence[Contents]) -> NDArray[np.int64]:
    """Counts ``[batch or 1, heads, m, n]``; a read outside its table is 0, as in the kernels."""
    tables = {
        str(number): TableValues(
            table, np.zeros(held.shape or ()) if held.values is None else held.values, held.batched
        )
        for number, (table, held) in enumerate(zip(program.tables, contents, strict=True))
    }
    arrays = NumpyArrays()
    start = np.asarray(extent.q_start, dtype=np.int64)
    bound = environment(arrays, extent.n, extent.m, extent.heads, start, tables)
    nowhere = Environment(**{**vars(bound), "reached": arrays.constant(False)})
    with np.errstate(all="ignore"):
        kept = interpret(program.mask, nowhere)
    shape = (len(bound.batch), extent.heads, extent.m, extent.n)
    return np.broadcast_to(np.asarray(kept, dtype=np.int64), shape)


def _extrema(schedule: Schedule, counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The least and the greatest count of every tile, over the batch entries and heads that share its slot."""
    shape = (schedule.batch_slots, schedule.head_slots, schedule.query_tiles, schedule.key_tiles)
    least, greatest = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    axes = tuple(axis for axis, slots in enumerate(shape[:2]) if slots == 1)
    for row in range(shape[2]):
        for column in range(shape[3]):
            rows = slice(row * schedule.query_tile, (row + 1) * schedule.query_tile)
            columns = slice(column * schedule.key_tile, (column + 1) * schedule.key_tile)
            tile = counts[:, :, rows, columns]
            least[:, :, row, column] = tile.min((*axes, 2, 3), keepdims=True)[..., 0, 0]
            greatest[:, :, row, column] = tile.max((*axes, 2, 3), keepdims=True)[..., 0, 0]
    return least, greatest
