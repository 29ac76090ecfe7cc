"""An attention's mask as a picture: evaluated where it fits, sampled where it does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from .compiler.evaluate import evaluate
from .compiler.extent import Contents, Extent
from .compiler.fold import substitute
from .compiler.ir import HEAD, HEADS, Attention, Const, Table
from .compiler.plan import FULL, Runs, Schedule
from .draw import Picture, Tile, bins

EXACT_PAIRS = 2**26
STRIP_PAIRS = 2**22


def look(
    attention: Attention,
    extent: Extent,
    contents: Mapping[str, Contents],
    head: int,
    limit: tuple[int, int],
    schedule: Schedule | None = None,
) -> tuple[Picture, int | None]:
    """One head's mask in at most ``limit`` cells (rows, columns), and how many pairs it keeps.

    Above EXACT_PAIRS pairs a sample of the rows stands for all, and the number of pairs is None. ``q_start`` is one
    number here, and no table has a batch. Raises what :func:`evaluate` raises.
    """
    mask = substitute(attention.mask, {HEAD: Const(head), HEADS: Const(extent.heads)})
    (start,) = extent.q_start or (0,)
    tops, lefts = bins(extent.m, limit[0]), bins(extent.n, limit[1])
    exact = extent.m * extent.n <= EXACT_PAIRS
    rows, cells = _sample(tops, extent, exact)
    density = np.zeros((len(tops) - 1, len(lefts) - 1), np.float32)
    counts = (
        np.zeros(density.shape, np.int64) if mask.type == "count" and density.shape == (extent.m, extent.n) else None
    )
    pairs, most = 0, max(1, STRIP_PAIRS // max(extent.n, 1))
    for first in range(0, len(rows) if extent.n else 0, most):
        strip, cell = rows[first : first + most], cells[first : first + most]
        single = Extent(extent.n, 1, 1, tuple((start + strip).tolist()))
        dense = evaluate(mask, attention.tables, single, _sliced(attention.tables, contents, strip))
        values = np.broadcast_to(dense.astype(np.int64), (len(strip), 1, 1, extent.n))[:, 0, 0]
        pairs += int(values.sum())
        np.add.at(density, cell, np.add.reduceat((values > 0).astype(np.int64), lefts[:-1], axis=1) / np.diff(lefts))
        if counts is not None:
            counts[cell] = values
    density /= np.maximum(np.bincount(cells, minlength=len(density)), 1)[:, None]
    tiles = () if schedule is None else tuple(tiles_of(schedule, head))
    return Picture(attention.name, extent.m, extent.n, density, counts, tiles), pairs if exact else None


def _sample(tops: NDArray[np.int64], extent: Extent, exact: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows to evaluate, and for each the row of cells that it belongs to.

    All rows, or of each row of cells as many, evenly spaced, as EXACT_PAIRS allows: at least one.
    """
    share = EXACT_PAIRS // max(extent.n * (len(tops) - 1), 1)
    heights = np.diff(tops)
    taken = heights if exact else np.clip(heights, 1, max(1, share))
    cells = np.repeat(np.arange(len(heights)), taken)
    within = np.arange(len(cells)) - np.repeat(np.cumsum(taken) - taken, taken)
    return tops[cells] + within * heights[cells] // np.maximum(taken[cells], 1), cells


def _sliced(
    tables: tuple[Table, ...], contents: Mapping[str, Contents], rows: NDArray[np.int64]
) -> Mapping[str, Contents]:
    """The contents as a batch of single rows sees them: a dimension of query rows keeps the one row of each entry."""
    sliced = dict(contents)
    for table in tables:
        held = contents[table.name]
        if held.values is None or not any(dimension.kind == "query" for dimension in table.dimensions):
            continue
        cuts = [
            held.values[tuple(slice(r, r + 1) if d.kind == "query" else slice(None) for d in table.dimensions)]
            for r in rows.tolist()
        ]
        sliced[table.name] = Contents(np.stack(cuts), batched=True)
    return sliced


def tiles_of(schedule: Schedule, head: int) -> Iterator[Tile]:
    """The tiles that a schedule visits for one head of the first batch entry, clipped to the lengths."""
    runs: Runs = schedule.by_query
    first = min(head, schedule.head_slots - 1) * schedule.query_tiles
    for tile in range(schedule.query_tiles):
        top = tile * schedule.query_tile
        bottom = min(top + schedule.query_tile, schedule.m)
        for run in range(int(runs.pointer[first + tile]), int(runs.pointer[first + tile + 1])):
            for column in range(int(runs.start[run]), int(runs.start[run]) + int(runs.length[run])):
                left = column * schedule.key_tile
                right = min(left + schedule.key_tile, schedule.n)
                yield Tile(top, left, bottom, right, int(runs.kind[run]) == FULL)
