"""Evaluates an attention's mask as a picture: every row where it is small enough, a sample of rows where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..compiler.analysis import any_count
from ..compiler.ir import (
    HEAD,
    HEADS,
    Attention,
    CallShape,
    Const,
    Expr,
    HostTable,
    Table,
    conjunction,
    substitute,
)
from ..compiler.oracle import (
    environment,
    evaluate,
    interpret,
    numbered_values,
    require_room,
)
from ..compiler.plan import Program
from ..compiler.verify import check_attention
from .picture import Picture, bins
from .tile_walks import SegmentTiles

EXACT_PAIRS = 2**26
STRIP_PAIRS = 2**22


def sample_mask(
    attention: Attention, extent: CallShape, contents: Mapping[str, HostTable], head: int, limit: tuple[int, int]
) -> tuple[Picture, int | None]:
    """One head's mask in at most ``limit`` cells (rows, columns), and the number of pairs that it keeps.

    Above EXACT_PAIRS pairs only a sample of the rows is evaluated, and the number of pairs is None. ``q_start`` must be
    one number, and no table may have a batch. Raises what :func:`evaluate` raises, IntegerRangeError, and TooLargeError
    for rows that are too long.
    """
    check_attention(attention, extent, [contents[table.name] for table in attention.tables])
    mask = substitute(attention.mask, {HEAD: Const(head), HEADS: Const(extent.heads)})
    (start,) = extent.q_start or (0,)

    def strip(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        single = CallShape(extent.n, 1, 1, tuple((start + rows).tolist()))
        dense = evaluate(mask, attention.tables, single, _sliced(attention.tables, contents, rows))
        values: NDArray[np.int64] = np.broadcast_to(dense.astype(np.int64), (len(rows), 1, 1, extent.n))[:, 0, 0]
        return values

    return _pictured(attention.name, (extent.m, extent.n), limit, strip, mask.type == "count")


def segment_picture(
    walk: SegmentTiles,
    program: Program,
    extent: CallShape,
    contents: Mapping[str, HostTable],
    head: int,
    limit: tuple[int, int],
) -> Picture:
    """Draws the pairs that one segment keeps, and its tiles, with rows and keys in the order in which it walks them.

    As :func:`sample_mask`, but an index outside its table reads 0 instead of raising, as in the kernels.
    """
    rows, keys = walk.order()
    holds = holding(condition_of(walk), program, extent, contents, head)

    def strip(places: NDArray[np.int64]) -> NDArray[np.int64]:
        values = holds(rows[places], keys).astype(np.int64)
        return values if once else values * walk.keys_visited(places)

    once = not walk.segment.keys.around_rows  # halo boxes repeat a key, for other rows
    picture, _ = _pictured("", (len(rows), len(keys)), limit, strip, counted=False)
    return replace(picture, tiles=tuple(walk.tiles()))


def condition_of(walk: SegmentTiles) -> Expr:
    """The condition under which a segment keeps a pair that is in one of its tiles."""
    return conjunction(walk.kernel.owned_rows, any_count(walk.segment.condition))


def holding(
    condition: Expr, program: Program, extent: CallShape, contents: Mapping[str, HostTable], head: int
) -> Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]:
    """Makes a function that says for which of some query rows and keys a condition of the program holds,
    ``[rows, keys]``.
    """
    held = [contents[table.name] for table in program.tables]
    tables, arrays = numbered_values(program.tables, held)
    start = np.array(extent.q_start or (0,), np.int64)
    nowhere = arrays.constant(False)
    bound = environment(arrays, extent.n, extent.m, extent.heads, start, tables, reached=nowhere)

    def holds(rows: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        at = {
            **bound.positions,
            "q": start.reshape(1, 1, 1, 1) + rows.reshape(1, 1, -1, 1),
            "k": keys.reshape(1, 1, 1, -1),
            "head": np.full((1, 1, 1, 1), head),
        }
        with np.errstate(all="ignore"):
            any_count = interpret(condition, replace(bound, positions=at))
        found: NDArray[np.bool_] = np.broadcast_to(any_count, (1, 1, len(rows), len(keys)))[0, 0]
        return found

    return holds


def _pictured(
    title: str,
    shape: tuple[int, int],
    limit: tuple[int, int],
    strip: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    counted: bool,
) -> tuple[Picture, int | None]:
    """A picture of shape ``shape`` and, unless sampled, its number of pairs; ``strip`` gives how often some rows keep
    each key, ``[rows, keys]``.
    """
    tops, lefts = bins(shape[0], limit[0]), bins(shape[1], limit[1])
    exact = shape[0] * shape[1] <= EXACT_PAIRS
    require_room("a picture of rows of the mask", (min(len(tops) - 1, shape[0]), shape[1]), 1)
    rows, cells = _sample(tops, shape[1], exact)
    density = np.zeros((len(tops) - 1, len(lefts) - 1), np.float32)
    counts = np.zeros(density.shape, np.int64) if counted and density.shape == shape else None
    pairs, most = 0, max(1, STRIP_PAIRS // max(shape[1], 1))
    for first in range(0, len(rows) if shape[1] else 0, most):
        cell = cells[first : first + most]
        values = strip(rows[first : first + most])
        pairs += int(values.sum())
        np.add.at(density, cell, np.add.reduceat((values > 0).astype(np.int64), lefts[:-1], axis=1) / np.diff(lefts))
        if counts is not None:
            counts[cell] = values
    density /= np.maximum(np.bincount(cells, minlength=len(density)), 1)[:, None]
    return Picture(title, *shape, density, counts), pairs if exact else None


def _sample(tops: NDArray[np.int64], keys: int, exact: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows to evaluate, and for each the row of cells that it belongs to.

    All rows, or from each row of cells as many, evenly spaced, as EXACT_PAIRS allows, at least one.
    """
    share = EXACT_PAIRS // max(keys * (len(tops) - 1), 1)
    heights = np.diff(tops)
    taken = heights if exact else np.clip(heights, 1, max(1, share))
    cells = np.repeat(np.arange(len(heights)), taken)
    within = np.arange(len(cells)) - np.repeat(np.cumsum(taken) - taken, taken)
    return tops[cells] + within * heights[cells] // np.maximum(taken[cells], 1), cells


def _sliced(
    tables: tuple[Table, ...], contents: Mapping[str, HostTable], rows: NDArray[np.int64]
) -> Mapping[str, HostTable]:
    """Table contents for a batch in which each entry is one query row: dimensions of query rows are cut to that row."""
    sliced = dict(contents)
    for table in tables:
        held = contents[table.name]
        if held.values is None or not any(dimension.kind == "query" for dimension in table.dimensions):
            continue
        cuts = [
            held.values[tuple(slice(r, r + 1) if d.kind == "query" else slice(None) for d in table.dimensions)]
            for r in rows.tolist()
        ]
        sliced[table.name] = HostTable(np.stack(cuts), batched=True)
    return sliced
