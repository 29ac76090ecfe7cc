"""Run-length-encoded tile rows: union, intersection, transpose, repeat, and conversion to CSR.

A row belongs to a tile of one side, or to all tiles that are a period apart; its runs cover tiles of the other side.
This module deals with numbers of tiles only, not with their tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..plan import EMPTY, FULL, PARTIAL, UNBOUNDED, Bounds, Runs, TileCount
from .tile_boxes import TileBoxes
from .tile_ranges import Numbers


@dataclass(frozen=True)
class TileRuns:
    """The runs ``start .. end - 1`` of ``count`` rows, sorted by row and start.

    Runs of a row do not overlap, and adjacent ones of the same kind are joined. ``row`` is the slot times the rows of a
    slot, plus the row in the slot. A ``start`` of -UNBOUNDED or an ``end`` of UNBOUNDED makes a run endless.
    """

    count: int
    row: Numbers  # [runs]
    start: Numbers  # [runs], tiles
    end: Numbers  # [runs], tiles
    kind: NDArray[np.uint8]  # [runs]

    def __len__(self) -> int:
        return len(self.row)

    def moved(self, tiles: int | Numbers) -> TileRuns:
        """The runs, shifted by a number of tiles (one for all, or one for each run); endless runs stay endless."""
        return replace(self, start=_moved(self.start, tiles), end=_moved(self.end, tiles))


def _moved(ends: Numbers, tiles: int | Numbers) -> Numbers:
    return np.where(np.abs(ends) >= UNBOUNDED, ends, ends + tiles)


def of_boxes(boxes: TileBoxes, rows: int, slots: int) -> TileRuns:
    """The runs of boxes that do not overlap, with ``rows`` rows for each slot."""
    count = boxes.query_high - boxes.query_low + 1
    source = np.repeat(np.arange(len(boxes)), count)
    offset = np.arange(len(source)) - (np.cumsum(count) - count)[source]
    row = boxes.slot[source] * rows + boxes.query_low[source] + offset
    return ordered(rows * slots, row, boxes.key_low[source], boxes.key_high[source] + 1, boxes.kind[source])


def ordered(count: int, row: Numbers, start: Numbers, end: Numbers, kind: NDArray[np.uint8]) -> TileRuns:
    """The TileRuns of runs that do not overlap, given in any order: sorts them and joins adjacent ones."""
    order = np.argsort(row * (4 * UNBOUNDED) + start)
    row, start, end, kind = row[order], start[order], end[order], kind[order]
    first = np.ones(len(row), bool)
    first[1:] = (row[1:] != row[:-1]) | (start[1:] != end[:-1]) | (kind[1:] != kind[:-1])
    heads = np.flatnonzero(first)
    tails = np.append(heads[1:], len(row))[: len(heads)] - 1
    return TileRuns(count, row[heads], start[heads], end[tails], kind[heads])


def union(parts: Sequence[TileRuns]) -> TileRuns:
    """The tiles that any of the parts visits; FULL where at least one of them is FULL."""
    return combined(parts, full=1, some=1)


def intersect(parts: Sequence[TileRuns]) -> TileRuns:
    """The tiles that all of the parts visit; FULL where all of them are FULL."""
    return combined(parts, full=len(parts), some=len(parts))


def combined(parts: Sequence[TileRuns], full: int, some: int) -> TileRuns:
    """The tiles that at least ``some`` of the parts visit; FULL where at least ``full`` of them are, else PARTIAL."""
    row = np.concatenate([part.row for part in parts])
    start, end = np.concatenate([part.start for part in parts]), np.concatenate([part.end for part in parts])
    is_full = np.concatenate([part.kind for part in parts]) == FULL
    place, visited, filled = _swept(row, start, end, (np.ones(len(row), np.int64), is_full.astype(np.int64)))
    kind = np.where(visited < some, EMPTY, np.where(filled >= full, FULL, PARTIAL)).astype(np.uint8)
    return _from_steps(parts[0].count, place, kind)


# Most tiles that are marked one by one, rather than sorted: a few arrays of 32 MiB.
_MOST_MARKED = 2**22


def covered(count: int, row: Numbers, start: Numbers, end: Numbers) -> TileRuns:
    """The tiles that any of many runs covers, all PARTIAL; the runs begin at 0 or later, end, and may overlap."""
    width = int(end.max(initial=0)) + 1
    if count * width > _MOST_MARKED:
        return union([TileRuns(count, row, start, end, np.full(len(row), PARTIAL, np.uint8))])
    steps = np.bincount(row * width + start, minlength=count * width)
    steps -= np.bincount(row * width + end, minlength=count * width)
    marked = np.cumsum(steps) > 0  # every run ends in its row: the sum is 0 at the end of each
    edges = np.flatnonzero(np.diff(marked, prepend=False))  # no run reaches the last place, so edges come in pairs
    place, stop = edges[::2], edges[1::2]
    row, start = np.divmod(place, width)
    return TileRuns(count, row, start, stop - row * width, np.full(len(row), PARTIAL, np.uint8))


# Row and tile are packed into one sortable number, ``row * _ROOM + tile + UNBOUNDED``: a place.
_ROOM = 4 * UNBOUNDED


def _swept(row: Numbers, start: Numbers, end: Numbers, weights: Sequence[Numbers]) -> tuple[Numbers, ...]:
    """The places where runs begin or end, in order, and for each weight its sum over the runs that cover the place."""
    places = np.concatenate([row * _ROOM + (start + UNBOUNDED), row * _ROOM + (end + UNBOUNDED)])
    order = np.argsort(places, kind="stable")  # a stable sort merges the few sorted parts fast
    places = places[order]
    last = np.ones(len(places), bool)
    last[:-1] = places[1:] != places[:-1]
    sums = [np.cumsum(np.concatenate([weight, -weight])[order])[last] for weight in weights]
    return places[last], *sums


def _from_steps(count: int, place: Numbers, kind: NDArray[np.uint8]) -> TileRuns:
    """The runs of rows whose kind becomes ``kind[i]`` at ``place[i]``; it is EMPTY at the end of every row."""
    changes = np.ones(len(kind), bool)
    changes[1:] = kind[1:] != kind[:-1]
    place, kind = place[changes], kind[changes]
    held = np.flatnonzero(kind != EMPTY)
    row, start = place[held] // _ROOM, place[held] % _ROOM - UNBOUNDED
    end = place[held + 1] - row * _ROOM - UNBOUNDED
    return TileRuns(count, row, start, end, kind[held])


def clipped(rows: TileRuns, low: int, high: int) -> TileRuns:
    """The rows, cut to the tiles ``low .. high - 1``."""
    start, end = np.maximum(rows.start, low), np.minimum(rows.end, high)
    held = start < end
    return TileRuns(rows.count, rows.row[held], start[held], end[held], rows.kind[held])


@dataclass(frozen=True)
class Repeat:
    """How rows repeat: row ``period`` is row 0 shifted by ``shift`` tiles. With shift 0 they do not repeat."""

    period: int
    shift: int


def transpose(rows: TileRuns, steps: Repeat, columns: int) -> TileRuns | None:
    """The same tiles by column. None if an endless run begins or ends between one row and the next.

    If the rows repeat, the result is columns ``0 .. shift - 1``, and they repeat too: column ``shift`` is column 0
    shifted by ``period`` rows. Otherwise it is all ``columns`` columns.
    """
    row, low, high, old, new = _changes(rows, steps)
    if len(low) and (low.min() <= -UNBOUNDED or high.max() >= UNBOUNDED):
        return None
    width = high - low
    source = np.repeat(np.arange(len(row)), width)
    column = low[source] + np.arange(len(source)) - (np.cumsum(width) - width)[source]
    slot, at = row[source] // (steps.period + 1), row[source] % (steps.period + 1)
    slots = rows.count // steps.period
    if not steps.shift:
        return _from_events(slots, columns, slot, column, at, new[source], None)
    cycle = column // steps.shift
    always = _constant_columns(rows, steps)
    at = at - cycle * steps.period
    return _from_events(slots, steps.shift, slot, column - cycle * steps.shift, at, new[source], (old[source], always))


def _changes(rows: TileRuns, steps: Repeat) -> tuple[Numbers, Numbers, Numbers, NDArray[np.uint8], NDArray[np.uint8]]:
    """Where each row differs from the one before it: row, first tile, end, kind before, and kind in the row.

    Rows are numbered ``slot * (period + 1) + row``: the additional row of each slot ends rows that do not repeat.
    """
    slot, row = rows.row // steps.period, rows.row % steps.period
    now = slot * (steps.period + 1) + row
    following = now + 1
    start, end = rows.start, rows.end
    if steps.shift:
        wraps = row == steps.period - 1
        following = np.where(wraps, now - row, following)
        start, end = (np.where(wraps, _moved(ends, -steps.shift), ends) for ends in (start, end))
    kind, none = rows.kind.astype(np.int64), np.zeros(len(rows), np.int64)
    place, new, old = _swept(
        np.concatenate([now, following]),
        np.concatenate([rows.start, start]),
        np.concatenate([rows.end, end]),
        (np.concatenate([kind, none]), np.concatenate([none, kind])),
    )
    differs = np.flatnonzero(new != old)
    at = place[differs] // _ROOM
    low, high = place[differs] - at * _ROOM - UNBOUNDED, place[differs + 1] - at * _ROOM - UNBOUNDED
    return at, low, high, old[differs].astype(np.uint8), new[differs].astype(np.uint8)


def _constant_columns(rows: TileRuns, steps: Repeat) -> NDArray[np.uint8]:
    """The kind of row 0 at the columns ``0 .. shift - 1``, ``[slots, shift]``: that of columns that do not change."""
    slots = rows.count // steps.period
    kinds = np.full((slots, steps.shift), EMPTY, np.uint8)
    first = np.flatnonzero(rows.row % steps.period == 0)
    for run in first:
        low, high = max(int(rows.start[run]), 0), min(int(rows.end[run]), steps.shift)
        if low < high:
            kinds[int(rows.row[run]) // steps.period, low:high] = rows.kind[run]
    return kinds


def _from_events(
    slots: int,
    columns: int,
    slot: Numbers,
    column: Numbers,
    at: Numbers,
    new: NDArray[np.uint8],
    endless: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None,
) -> TileRuns:
    """The runs of columns from events: a column has kind ``new`` from row ``at`` until its next event.

    ``endless``: the kind before each event, and the kind of columns without events; None if columns begin and end
    EMPTY.
    """
    place = slot * columns + column
    order = np.lexsort((at, place))
    place, at, new = place[order], at[order], new[order]
    first = np.ones(len(place), bool)
    first[1:] = place[1:] != place[:-1]
    end = np.full(len(place), UNBOUNDED, np.int64)
    end[:-1] = np.where(first[1:], UNBOUNDED, at[1:])
    row, start, kind = place, at, new
    if endless is not None:
        old, always = endless[0][order], endless[1].ravel()
        still = np.ones(slots * columns, bool)
        still[place] = False
        quiet = np.flatnonzero(still)
        row = np.concatenate([place, place[first], quiet])
        start = np.concatenate([at, np.full(first.sum() + len(quiet), -UNBOUNDED)])
        end = np.concatenate([end, at[first], np.full(len(quiet), UNBOUNDED)])
        kind = np.concatenate([new, old[first], always[quiet]])
    held = kind != EMPTY
    return ordered(slots * columns, row[held], start[held], end[held], kind[held])


def repeated(bounds: Bounds, own: TileCount, other: TileCount) -> TileRuns:
    """The runs that every tile visits, written out: row ``slot * own.total + tile`` for each slot of the bounds."""
    slots = bounds.batch_slots * bounds.head_slots
    tile = np.arange(own.total)
    of_class, along = np.divmod(tile, max(own.per_class, 1)) if bounds.aligned else (np.zeros_like(tile), tile)
    limit = other.per_class if bounds.aligned else other.total
    row = (np.arange(slots)[:, None] * bounds.period + along % bounds.period).ravel()
    move, base = (np.tile(x, slots) for x in (along // bounds.period * bounds.shift, of_class * limit))
    runs = bounds.runs
    count = np.diff(runs.pointer)[row]
    source = np.repeat(np.arange(len(row)), count)
    run = runs.pointer[row][source] + np.arange(len(source)) - (np.cumsum(count) - count)[source]
    start = np.maximum(runs.start[run] + move[source], 0)
    end = np.minimum(runs.start[run].astype(np.int64) + runs.length[run] + move[source], limit)
    held = start < end
    base = base[source][held]
    return TileRuns(slots * own.total, source[held], start[held] + base, end[held] + base, runs.kind[run][held])


def tile_slots(rows: TileRuns, period: int, picked: Numbers) -> TileRuns:
    """The rows of the slots ``picked``, one slot after another; a slot has ``period`` rows."""
    parts = []
    for slot, source in enumerate(picked.tolist()):
        low, high = np.searchsorted(rows.row, (source * period, (source + 1) * period))
        its = slice(int(low), int(high))
        row = rows.row[its] + (slot - source) * period
        parts.append(TileRuns(0, row, rows.start[its], rows.end[its], rows.kind[its]))
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in ("row", "start", "end", "kind")]
    return TileRuns(len(picked) * period, *columns)


def to_csr(rows: TileRuns) -> Runs:
    """The runs in CSR form, as executors read them, without those that are farther than any tile."""
    start, end = np.maximum(rows.start, -UNBOUNDED), np.minimum(rows.end, UNBOUNDED - 1)
    held = start < end
    pointer = np.zeros(rows.count + 1, np.int64)
    np.cumsum(np.bincount(rows.row[held], minlength=rows.count), out=pointer[1:])
    return Runs(pointer, start[held].astype(np.int32), (end - start)[held].astype(np.int32), rows.kind[held])
