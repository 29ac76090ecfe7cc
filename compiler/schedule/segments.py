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
    ComputedOrder,
    Kernel,
    KernelSchedule,
    ListedOrder,
    Order,
    OrderTable,
    Program,
    Runs,
    Schedule,
    SegmentSchedule,
)
from . import strategies
from .listed_orders import Listed, listed_tokens
from .tile_positions import tiled


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
    tiles = order.most_tiles(tokens)
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
            if order.listed_by is not None:
                yield order.listed_by


def _kernel_schedule(kernel: Kernel, launch: Launch) -> KernelSchedule:
    rows = listed_tokens(kernel.rows, True, launch.extent, launch.tables, kernel.heads)
    segments = tuple(
        _segment_schedule(segment.keys, segment.condition, kernel, rows, launch) for segment in kernel.segments
    )
    return KernelSchedule(segments, None if rows is None else rows.listing)


@OrderTable
def _segment_schedule(
    keys: Order, condition: Expr, kernel: Kernel, rows: Listed | None, launch: Launch, /
) -> SegmentSchedule:
    """The schedule of a kernel's segment, by the order of its keys; ``rows`` is the list of the kernel's rows."""
    raise NotImplementedError


@_segment_schedule.register(ComputedOrder, ListedOrder)
def _searched(order: Order, condition: Expr, kernel: Kernel, rows: Listed | None, launch: Launch, /) -> SegmentSchedule:
    """Each tile visits those in which the condition may keep a pair."""
    keys = listed_tokens(order, False, launch.extent, launch.tables, kernel.heads)
    condition, extent = _in_ranks(condition, kernel.rows, order, launch.extent)
    problem = strategies.TileQuery(
        condition,
        tiled(kernel.rows, rows, extent.m),
        tiled(order, keys, extent.n),
        extent,
        {**launch.tables, **_NOTHING_KNOWN},
        kernel.heads,
    )
    return SegmentSchedule(*strategies.bounds(problem), None if keys is None else keys.listing)


@_segment_schedule.register(Box)
def _around(keys: Box, _condition: Expr, kernel: Kernel, _rows: Listed | None, launch: Launch, /) -> SegmentSchedule:
    """Each tile visits the box around it, whatever the condition is."""
    assert kernel.rows == keys.view, "the boxes are those of the rows"
    extent = launch.extent
    if extent.q_start is None or any(start % keys.alignment for start in extent.q_start):
        raise ValueError(f"q_start: is {extent.q_start}, expected multiples of {keys.alignment}")
    starts = [start // keys.alignment * keys.view.minor_tiles for start in extent.q_start]
    starts = starts[:1] if len(set(starts)) == 1 else starts
    by_query, by_key = (
        _one_run([order.first(sign * start) for start in starts], order.parts, order.view.classes > 1)
        for order, sign in ((keys, 1), (keys.mirrored, -1))
    )
    return SegmentSchedule(by_query, by_key)


def _one_run(starts: Sequence[int], length: int, aligned: bool) -> Bounds:
    """For each batch slot a run of so many tiles, as far from tile to tile as it is long."""
    slots = len(starts)
    lengths, kind = np.full(slots, length, np.int32), np.full(slots, PARTIAL, np.uint8)
    return Bounds(1, length, aligned, slots, 1, Runs(np.arange(slots + 1), np.array(starts, np.int32), lengths, kind))


def _in_ranks(condition: Expr, rows: Order, keys: Order, extent: CallShape) -> tuple[Expr, CallShape]:
    """The condition as one of the ranks by which rows or keys are sorted, and the extent that goes with it.

    What else is said of a sorted position is unknown, and so is all that is said of a position that only the device
    knows.
    """
    replaced: dict[Expr, Expr] = {}
    if rows.sorted_by is not None:
        replaced |= {rows.sorted_by: Q, Q: _unknown(Q)}
        extent = replace(extent, q_start=(0,))
    elif extent.q_start is None:
        replaced[Q] = _unknown(Q)
    if keys.sorted_by is not None:
        replaced |= {keys.sorted_by: K, K: _unknown(K)}
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
