"""Computes a Schedule: which key tiles each query tile visits, for a Program, lengths and contents of tables.

Each segment gets bounds in the cheapest form known for its condition. The tiles are found by query; transposed, they
are the tiles that each key tile visits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from ..analysis import BoundTable, numbered, with_known_divisors
from ..ir import (
    Apply,
    CallShape,
    Entry,
    Expr,
    HostTable,
    K,
    Member,
    N,
    Position,
    Q,
    Table,
    children,
    conjunction,
    rebuild,
    tables_read,
    walk,
)
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
    Listing,
    Order,
    OrderTable,
    Program,
    Runs,
    Schedule,
    Segment,
    SegmentSchedule,
    View,
    is_natural,
)
from . import periodic, strategies
from .listed_orders import Listed, keys_read, listed_tokens
from .tile_positions import tiled

_USUAL_LIMITS = strategies.SearchLimits()


@dataclass(frozen=True)
class Launch:
    """The call shape, the contents of the tables, and how much is searched for tiles."""

    extent: CallShape
    tables: Mapping[str, BoundTable]
    limits: strategies.SearchLimits
    on_device: bool

    def unknown(self, expr: Expr) -> bool:
        """Whether the device is to evaluate an expression, because the host does not know what it reads."""
        if not self.on_device:
            return False
        if self.extent.q_start is None and Q in walk(expr):
            return True
        return any(self.tables[name].contents.values is None for name in tables_read(expr))


def schedule(
    program: Program,
    extent: CallShape,
    contents: Sequence[HostTable],
    limits: strategies.SearchLimits = _USUAL_LIMITS,
    on_device: bool = False,
) -> Schedule:
    """The bounds of every segment for one launch. ``contents`` are in the order of ``program.tables``.

    ``on_device``: what depends on contents that the host does not know is left to the device; otherwise it visits every
    tile that may keep a pair, whatever they are.

    Raises TooLargeError if an order has so many tiles that runs of them could not be distinguished from endless ones.
    """
    program = with_known_divisors(program, contents)
    for kernel in program.kernels:
        _require_few("m", kernel.rows, extent.m)
        for segment in kernel.segments:
            _require_few("n", segment.keys, extent.n)
    launch = Launch(extent, numbered(program, contents), limits, on_device)
    return Schedule(extent.n, extent.m, tuple(_kernel_schedule(kernel, launch) for kernel in program.kernels))


def _require_few(name: str, order: Order, tokens: int) -> None:
    """Raise TooLargeError if ``tokens``, which users call ``name``, make too many tiles of an order."""
    tiles = order.most_tiles(tokens)
    if tiles > UNBOUNDED // 2:
        raise TooLargeError(f"{name}: is {tokens:,}, which makes {tiles:,} tiles, expected at most {UNBOUNDED // 2:,}")


def schedule_depends(program: Program) -> frozenset[int]:
    """The indices in ``program.tables`` of the tables whose contents a schedule depends on."""
    return frozenset(int(name) for condition in _decisive(program) for name in tables_read(condition))


def _decisive(program: Program) -> Iterator[Expr]:
    """Yields the expressions that a schedule evaluates: conditions, and those that list the tokens of orders."""
    for kernel in program.kernels:
        yield from (segment.condition for segment in kernel.segments)
        for order in (kernel.rows, *(segment.keys for segment in kernel.segments)):
            if order.listed_by is not None:
                yield order.listed_by


def _kernel_schedule(kernel: Kernel, launch: Launch) -> KernelSchedule:
    rows = _listed(kernel.rows, True, kernel, launch)
    if kernel.members is not None:
        segments = tuple(_read_off(segment, kernel, launch) for segment in kernel.segments)
        return KernelSchedule(segments, walked=keys_read(kernel.members, launch.extent, launch.tables))
    segments = tuple(
        _segment_schedule(segment.keys, segment.condition, kernel, rows, launch) for segment in kernel.segments
    )
    return KernelSchedule(segments, _listing(rows), _room(rows))


def _read_off(segment: Segment, kernel: Kernel, launch: Launch) -> SegmentSchedule:
    """The tiles in which the keys lie that rows read off a set: where the part of the condition holds that no table
    decides. They are searched for no key, and so all are partial.
    """
    condition = segment.condition
    conjuncts = condition.args if isinstance(condition, Apply) and condition.op == "and" else (condition,)
    plain = conjunction(*(part for part in conjuncts if part.type == "bool" and not tables_read(part)))
    found = _segment_schedule(segment.keys, plain, kernel, None, launch)
    return replace(found, by_query=_partial(found.by_query), by_key=_partial(found.by_key))


def _partial(bounds: Bounds) -> Bounds:
    """The same tiles, none of them full."""
    return replace(bounds, runs=replace(bounds.runs, kind=np.full_like(bounds.runs.kind, PARTIAL)))


@dataclass(frozen=True)
class Room:
    """Room for a list that the device makes: of at most ``tokens`` tokens."""

    tokens: int


AnyList: TypeAlias = Listed | Room | None


def _listed(order: Order, by_query: bool, kernel: Kernel, launch: Launch) -> AnyList:
    """The tokens of an order, or room for those that the device lists; None if its tokens are not listed."""
    if order.listed_by is not None and launch.unknown(order.listed_by):
        total = launch.extent.m if by_query else launch.extent.n
        return Room(min(total, _most_listed(order, launch.tables)))
    return listed_tokens(order, by_query, launch.extent, launch.tables, kernel.heads)


def _most_listed(order: Order, tables: Mapping[str, BoundTable]) -> int:
    """How many tokens an order has at most: a set that each of them is in bounds them, if its size is known."""
    condition = order.gathered_by
    parts = condition.args if isinstance(condition, Apply) and condition.op == "and" else (condition,)
    sizes = [
        most
        for part in parts
        if isinstance(part, Member) and part.element in (Q, K)
        if (most := tables[part.table].contents.most) is not None
    ]
    return min(sizes, default=UNBOUNDED)


def _listing(listed: AnyList) -> Listing | None:
    return listed.listing if isinstance(listed, Listed) else None


def _room(listed: AnyList) -> int | None:
    return listed.tokens if isinstance(listed, Room) else None


def serves_anywhere(tables: Sequence[Table]) -> bool:
    """Whether a schedule for rows at any position may be right: no table grows with the lengths."""
    return {dimension.kind for table in tables for dimension in table.dimensions} <= {"head", "fixed", "free"}


def schedule_anywhere(program: Program, extent: CallShape, contents: Sequence[HostTable]) -> Schedule | None:
    """The bounds of every segment for few rows at any position, and for every ``n`` up to that of the call shape.

    None where they are not a closed form. The orders of rows must be natural. Lists of keys must be short, and the same
    for all these lengths that have all their keys: :attr:`compiler.plan.Listing.tokens` says which.
    """
    program = with_known_divisors(program, contents)
    launch = Launch(replace(extent, q_start=(0,)), numbered(program, contents), _USUAL_LIMITS, on_device=False)
    kernels = []
    for kernel in program.kernels:
        if not is_natural(kernel.rows) or extent.m > kernel.rows.tile:
            return None
        found = [_anywhere(part.keys, part.condition, kernel, launch) for part in kernel.segments]
        segments = tuple(one for one in found if one is not None)
        if len(segments) < len(found):
            return None
        kernels.append(KernelSchedule(segments))
    return Schedule(extent.n, extent.m, tuple(kernels), anywhere=True)


_SHORT_LIST = 4  # tiles that are visited by rows at every position


@OrderTable
def _anywhere(keys: Order, condition: Expr, kernel: Kernel, launch: Launch, /) -> SegmentSchedule | None:
    """The schedule of one segment for rows at any position, None where it has no closed form."""
    raise NotImplementedError


@_anywhere.register(View)
def _view_anywhere(keys: View, condition: Expr, kernel: Kernel, launch: Launch, /) -> SegmentSchedule | None:
    bounds = _moving(condition, keys, kernel, launch)
    return None if bounds is None else SegmentSchedule(bounds, _EVERYWHERE)


@_anywhere.register(Box)
def _box_anywhere(_keys: Box, _condition: Expr, _kernel: Kernel, _launch: Launch, /) -> None:
    return None  # boxes are around rows that are not in natural order


@_anywhere.register(ListedOrder)
def _list_anywhere(keys: ListedOrder, _condition: Expr, kernel: Kernel, launch: Launch, /) -> SegmentSchedule | None:
    listed = keys.gathered_by
    if listed is None or N in walk(listed) or tables_read(listed):
        return None
    found = listed_tokens(keys, False, launch.extent, launch.tables, kernel.heads)
    if found is None or keys.tiles(launch.extent.n, found.listing).total > _SHORT_LIST:
        return None
    return SegmentSchedule(_EVERYWHERE, _EVERYWHERE, found.listing)


def _moving(condition: Expr, keys: View, kernel: Kernel, launch: Launch) -> Bounds | None:
    """The bounds of a condition, or of what has a closed form in a conjunction: then all tiles are partial."""
    if condition.type != "bool":
        return None

    def of(conjuncts: Sequence[Expr]) -> Bounds | None:
        return periodic.anywhere(conjunction(*conjuncts), keys, launch.extent, launch.tables, kernel.heads)

    conjuncts = condition.args if isinstance(condition, Apply) and condition.op == "and" else (condition,)
    whole = of(conjuncts)
    if whole is not None:
        return whole
    alone = [one for one in conjuncts if of([one]) is not None]
    found = of(alone) if alone else None
    if found is None:
        return None
    return _partial(found)


_ALL_TILES = Runs(np.arange(2), np.zeros(1, np.int32), np.full(1, UNBOUNDED, np.int32), np.full(1, PARTIAL, np.uint8))
_EVERYWHERE = Bounds(1, 0, False, 1, 1, _ALL_TILES, UNBOUNDED)
"""Every tile, partial."""


@OrderTable
def _segment_schedule(
    keys: Order, condition: Expr, kernel: Kernel, rows: AnyList, launch: Launch, /
) -> SegmentSchedule:
    """The schedule of one segment; dispatches on the order of its keys. ``rows``: the list of rows, if any."""
    raise NotImplementedError


@_segment_schedule.register(ComputedOrder, ListedOrder)
def _searched(order: Order, condition: Expr, kernel: Kernel, rows: AnyList, launch: Launch, /) -> SegmentSchedule:
    """The schedule in which each tile visits the tiles where the condition may keep a pair."""
    keys = _listed(order, False, kernel, launch)
    if isinstance(rows, Room) or isinstance(keys, Room) or launch.unknown(condition):
        return SegmentSchedule(EVERYTHING, EVERYTHING, _listing(keys), on_device=True, keys_room=_room(keys))
    condition, extent = in_ranks(condition, kernel.rows, order, launch.extent)
    problem = strategies.TileQuery(
        condition,
        tiled(kernel.rows, rows, extent.m),
        tiled(order, keys, extent.n),
        extent,
        {**launch.tables, **_NOTHING_KNOWN},
        kernel.heads,
        launch.limits,
    )
    return SegmentSchedule(*strategies.bounds(problem), _listing(keys))


@_segment_schedule.register(Box)
def _around(keys: Box, _condition: Expr, kernel: Kernel, _rows: AnyList, launch: Launch, /) -> SegmentSchedule:
    """The schedule in which each tile visits the box around it, whatever the condition."""
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
    """Bounds with one run of ``length`` tiles for each batch slot, which is shifted by ``length`` from tile to tile."""
    slots = len(starts)
    lengths, kind = np.full(slots, length, np.int32), np.full(slots, PARTIAL, np.uint8)
    runs = Runs(np.arange(slots + 1), np.array(starts, np.int32), lengths, kind)
    return Bounds(1, length, aligned, slots, 1, runs, UNBOUNDED)


def in_ranks(condition: Expr, rows: Order, keys: Order, extent: CallShape) -> tuple[Expr, CallShape]:
    """The condition with ranks as the positions of sorted rows or keys, and the call shape that goes with it.

    Where the condition reads the positions of sorted tokens themselves, or positions that only the device knows, it
    reads unknown integers instead.
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
    """The node with replacements made from the root down; they are not made again inside a replacement."""
    if node in replaced:
        return replaced[node]
    if node not in done:
        parts = children(node)
        done[node] = rebuild(node, tuple(_replaced(part, replaced, done) for part in parts)) if parts else node
    return done[node]


def _unknown(position: Position) -> Expr:
    """An unknown integer for a position; it is equal wherever that position is read."""
    return Entry(position.name, (), "int")


_WHOLE = Runs(np.arange(2), np.zeros(1, np.int32), np.full(1, UNBOUNDED, np.int32), np.full(1, PARTIAL, np.uint8))
EVERYTHING = Bounds(1, 0, False, 1, 1, _WHOLE, UNBOUNDED)
"""The bounds by which each tile visits every tile."""

# Programs number their tables, so these names are free.
_NOTHING_KNOWN: dict[str, BoundTable] = {
    position.name: BoundTable(Table(position.name, "int", ()), HostTable(None, shape=())) for position in (Q, K)
}
