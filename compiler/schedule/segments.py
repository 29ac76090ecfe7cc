"""Which key tiles each query tile visits: a Program with lengths and table contents to a Schedule.

Each segment is given bounds in the cheapest form known for its condition. What it visits is worked out by query; the
same tiles by key are those turned round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..analysis import BoundTable, numbered
from ..ir import CallShape, Entry, Expr, HostTable, K, Position, Q, Table, children, rebuild, tables_read
from ..oracle import TooLargeError
from ..plan import (
    PARTIAL,
    UNBOUNDED,
    Bounds,
    Box,
    Gathered,
    Kernel,
    KernelSchedule,
    Order,
    Program,
    Runs,
    Schedule,
    Segment,
    SegmentSchedule,
    Sorted,
    View,
    cycle,
    key_major,
    natural,
)
from . import strategies
from .listed_orders import Listed, gathered, is_whole, ordered_by


@dataclass(frozen=True)
class Launch:
    """The sizes of a call, and what the tables hold."""

    extent: CallShape
    tables: Mapping[str, BoundTable]


def schedule(program: Program, extent: CallShape, contents: Sequence[HostTable]) -> Schedule:
    """Bounds of every segment for one launch. ``contents`` stand in the order of ``program.tables``.

    TooLargeError where an order has more tiles than bounds tell from endless ones.
    """
    for kernel in program.kernels:
        _require_few("m", kernel.rows, extent.m)
        for segment in kernel.segments:
            _require_few("n", segment.keys, extent.n)
    launch = Launch(extent, numbered(program, contents))
    return Schedule(extent.n, extent.m, tuple(_kernel_schedule(kernel, launch) for kernel in program.kernels))


def _require_few(name: str, order: Order, tokens: int) -> None:
    """TooLargeError where ``tokens``, which a call names ``name``, make too many tiles of an order."""
    tiles = order.tiles(tokens).per_class if isinstance(order, View | Box) else tokens // order.tile
    if tiles > UNBOUNDED // 2:
        raise TooLargeError(f"{name}: is {tokens:,}, which makes {tiles:,} tiles, expected at most {UNBOUNDED // 2:,}")


def schedule_depends(program: Program) -> frozenset[int]:
    """The positions in ``program.tables`` of the tables whose contents decide a schedule."""
    return frozenset(int(name) for condition in _decisive(program) for name in tables_read(condition))


def _decisive(program: Program) -> Iterator[Expr]:
    """What is looked at: conditions, and what lists the tokens of orders."""
    for kernel in program.kernels:
        yield from (segment.condition for segment in kernel.segments)
        for order in (kernel.rows, *(segment.keys for segment in kernel.segments)):
            match order:
                case Gathered(condition=condition):
                    yield condition
                case Sorted(rank=rank):
                    yield rank


def _kernel_schedule(kernel: Kernel, launch: Launch) -> KernelSchedule:
    rows = _listed(kernel.rows, kernel, launch, by_query=True)
    segments = tuple(_segment_schedule(kernel, rows, segment, launch) for segment in kernel.segments)
    return KernelSchedule(segments, None if rows is None else rows.listing)


def _listed(order: Order, kernel: Kernel, launch: Launch, *, by_query: bool) -> Listed | None:
    match order:
        case Gathered():
            return gathered(order, by_query, launch.extent, launch.tables, kernel.heads)
        case Sorted():
            return ordered_by(order, by_query, launch.extent, launch.tables, kernel.heads)
    return None


def _segment_schedule(kernel: Kernel, rows: Listed | None, segment: Segment, launch: Launch) -> SegmentSchedule:
    if isinstance(segment.keys, Box):
        return _around(kernel.rows, segment.keys, launch.extent)
    keys = _listed(segment.keys, kernel, launch, by_query=False)
    condition, extent = _in_ranks(segment.condition, kernel.rows, segment.keys, launch.extent)
    problem = strategies.TileQuery(
        condition,
        _axis(kernel.rows, rows, extent.m),
        _axis(segment.keys, keys, extent.n),
        extent,
        {**launch.tables, **_NOTHING_KNOWN},
        kernel.heads,
    )
    return SegmentSchedule(*strategies.bounds(problem), None if keys is None else keys.listing)


def _around(rows: Order, keys: Box, extent: CallShape) -> SegmentSchedule:
    """Each tile visits the box around it, whatever the condition is."""
    around = key_major(rows, keys)[0]
    assert rows == keys.view, "the boxes are those of the rows"
    assert isinstance(around, Box)
    if extent.q_start is None or any(start % cycle(keys) for start in extent.q_start):
        raise ValueError(f"q_start: is {extent.q_start}, expected multiples of {cycle(keys)}")
    starts = [start // cycle(keys) * keys.view.minor_tiles for start in extent.q_start]
    starts = starts[:1] if len(set(starts)) == 1 else starts
    by_query, by_key = (
        _one_run([order.first(sign * start) for start in starts], order.parts, order.view.classes > 1)
        for order, sign in ((keys, 1), (around, -1))
    )
    return SegmentSchedule(by_query, by_key)


def _one_run(starts: Sequence[int], length: int, aligned: bool) -> Bounds:
    """For each batch slot a run of so many tiles, as far from tile to tile as it is long."""
    slots = len(starts)
    lengths, kind = np.full(slots, length, np.int32), np.full(slots, PARTIAL, np.uint8)
    return Bounds(1, length, aligned, slots, 1, Runs(np.arange(slots + 1), np.array(starts, np.int32), lengths, kind))


def _axis(order: Order, listed: Listed | None, tokens: int) -> strategies.Axis:
    if isinstance(order, View):
        return strategies.Axis(order, order.tile, tokens)
    assert listed is not None
    if isinstance(order, Sorted) and is_whole(listed):
        return strategies.Axis(natural(order.tile), order.tile, tokens)
    return strategies.Axis(listed, order.tile, tokens)


def _in_ranks(condition: Expr, rows: Order, keys: Order, extent: CallShape) -> tuple[Expr, CallShape]:
    """The condition as one of the ranks by which rows or keys are sorted, and the extent that goes with it.

    What else is said of a sorted position is unknown, and so is all that is said of a position that only the device
    knows.
    """
    replaced: dict[Expr, Expr] = {}
    if isinstance(rows, Sorted):
        replaced |= {rows.rank: Q, Q: _unknown(Q)}
        extent = replace(extent, q_start=(0,))
    elif extent.q_start is None:
        replaced[Q] = _unknown(Q)
    if isinstance(keys, Sorted):
        replaced |= {keys.rank: K, K: _unknown(K)}
    return (_replaced(condition, replaced, {}) if replaced else condition), extent


def _replaced(node: Expr, replaced: Mapping[Expr, Expr], done: dict[Expr, Expr]) -> Expr:
    """From the whole to its parts: what is put in place of a whole is looked at no more."""
    if node in replaced:
        return replaced[node]
    if node not in done:
        parts = children(node)
        done[node] = rebuild(node, tuple(_replaced(part, replaced, done) for part in parts)) if parts else node
    return done[node]


def _unknown(position: Position) -> Expr:
    """A number of which nothing is known, one for each position: two of the same are equal."""
    return Entry(position.name, (), "int")


# Programs number their tables, so these names are free.
_NOTHING_KNOWN: dict[str, BoundTable] = {
    position.name: BoundTable(Table(position.name, "int", ()), HostTable(None, shape=())) for position in (Q, K)
}
