"""Decides on the host, before launch, whether integers fit 32 bits, and whether an index leaves its table.

Decides only what follows from sizes, constants and contents on the host; the kernels check every read in any case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Literal, NamedTuple

import numpy as np

from ..analysis import (
    BoundTable,
    Boxes,
    Classifier,
    DigitRange,
    IntBounds,
    Linear,
    Reached,
    Read,
    TileKinds,
    any_count,
    difference,
    implied,
    linear,
    numbered,
    reads,
    underapproximate,
)
from ..diagnostics import Span
from ..ir import (
    FALSE,
    HEADS,
    TRUE,
    Apply,
    CallShape,
    Const,
    Entry,
    Expr,
    HostTable,
    K,
    Logit,
    Member,
    N,
    Q,
    constructors,
    walk,
)
from ..plan import FULL, PARTIAL, Program, natural
from ..schedule import Space, ViewRanges, slots, split

_LARGEST_INT32 = 2**31 - 1
# Boxes that one level of the search for an index outside its table may split. Of more, a sample is split; the kernels
# check all indices in any case.
_MOST_PENDING = 2**11


@dataclass(frozen=True)
class OutOfRange:
    """An index that is evaluated and leaves its table. ``low .. high`` bounds the values that it takes."""

    table: str
    dimension: int
    low: int
    high: int
    size: int
    span: Span | None


def index_width(program: Program, extent: CallShape, contents: Sequence[HostTable]) -> Literal[32, 64]:
    """32 where every integer of the conditions, the score and the sink is proved to fit int32 for this call, else 64.

    Positions are bounded by the end of the last tile. Entries that only the device knows are taken to be below 2**31 in
    magnitude, unless :attr:`compiler.ir.extent.HostTable.wide` says that they may not be; positions that only it knows
    need 64 bits. Proofs are cached for sizes rounded up to powers of two, and hold for all smaller calls.
    """
    tables = numbered(program, contents)
    if any(_is_wide(tables[name]) for name in _tables_read(program)):
        return 64
    entries = tuple((name, _entries(tables[name])) for name in _tables_read(program))
    start = None if extent.q_start is None else max(extent.q_start, default=0)
    sizes = _Sizes(extent.n, extent.m, extent.heads, start)
    return 32 if _fits(program, sizes.rounded, entries) or _fits(program, sizes, entries) else 64


class _Sizes(NamedTuple):
    """Upper limits on the sizes of calls. ``start``: the first row's position; None if only the device knows it."""

    n: int
    m: int
    heads: int
    start: int | None

    @property
    def rounded(self) -> _Sizes:
        """The sizes rounded up to powers of two."""
        start = None if self.start is None else _power(max(self.start, self.m))
        return _Sizes(_power(self.n), _power(self.m), self.heads, start)


def _power(size: int) -> int:
    return 1 << (size - 1).bit_length() if size else 0


@lru_cache(maxsize=1024)
def _fits(program: Program, sizes: _Sizes, entries: tuple[tuple[str, tuple[int, int]], ...]) -> bool:
    """Whether all integers of a program fit int32 in calls up to these sizes. ``entries``: bounds of each table's."""
    nodes = _nodes(program)
    integers = [Q, K, N, *(node for node in nodes if node.type == "int" and node not in (Q, K, N))]
    integers += [partial for node in nodes for partial in _partial_results(node)]
    if sizes.start is None:
        if Q in nodes:
            return False
        integers.remove(Q)
    rows = [kernel.rows for kernel in program.kernels]
    keys = [segment.keys for kernel in program.kernels for segment in kernel.segments]
    last_row = (sizes.start or 0) + max((order.last_position(sizes.m) for order in rows), default=0)
    last_key = max((order.last_position(sizes.n) for order in keys), default=0)
    extent = CallShape(sizes.n, last_row + 1, sizes.heads)
    contents = {str(number): BoundTable(table, HostTable(None)) for number, table in enumerate(program.tables)}
    between: dict[str | Expr, tuple[int, int]] = {**dict(entries), N.name: (0, sizes.n)}
    classifier = Classifier(integers, extent, contents, max(last_row, last_key), between)
    for bounds in classifier.evaluate_boxes(_box(last_row, last_key)):
        assert isinstance(bounds, tuple)
        low, high = bounds
        if low.min() < -_LARGEST_INT32 or high.max() > _LARGEST_INT32:
            return False
    return True


def _box(last_row: int, last_key: int) -> Boxes:
    """All pairs, as one box."""
    rows, keys = ((DigitRange(1, np.zeros(1, np.int64), np.full(1, last)),) for last in (last_row, last_key))
    return Boxes(rows, keys, np.zeros(1, np.int64))


def _entries(held: BoundTable) -> tuple[int, int]:
    """Bounds of a table's integers, 0 included, which a read outside the table gives. ``(0, 0)`` for other elements."""
    values = held.contents.values
    if held.table.element not in ("int", "order"):
        return 0, 0
    if values is None:
        return -_LARGEST_INT32, _LARGEST_INT32
    return (min(int(values.min()), 0), max(int(values.max()), 0)) if values.size else (0, 0)


def check_indices(program: Program, extent: CallShape, contents: Sequence[HostTable]) -> OutOfRange | None:
    """The first index found that is evaluated and leaves its table.

    Only indices that are functions of positions are tested; where they are evaluated may also depend on contents that
    the host knows. None if no such index is found, which proves nothing: it may depend on what only the device knows or
    on a table's contents, or lie among more pairs than are searched.
    """
    if not extent.m or not extent.heads:
        return None
    tables = numbered(program, contents)

    def wanted(read: Entry | Member) -> bool:
        return any(True for _ in _unproved_indices(Reached(read, TRUE), extent, tables))

    found = [(read, extent.n) for read in reads(program.mask, wanted)]
    found += [(read, extent.n) for read in reads(program.score, wanted, any_count(program.mask))]
    if program.sink is not None:
        found += [(read, 1) for read in reads(program.sink, wanted)]
    for read, keys in found:
        fault = _check(read, keys, extent, tables) if keys else None
        if fault is not None:
            return fault
    return None


def indices_are_proved(program: Program, extent: CallShape, contents: Sequence[HostTable]) -> bool:
    """Whether every index that is a function of positions is proved to stay inside its table, whatever is evaluated."""
    tables = numbered(program, contents)
    reads = (node for node in _nodes(program) if isinstance(node, Entry | Member))
    return not any(True for read in reads for _ in _unproved_indices(Reached(read, TRUE), extent, tables))


@lru_cache(maxsize=256)
def _nodes(program: Program) -> frozenset[Expr]:
    """All nodes of the expressions that the kernels of a program evaluate."""
    roots = [segment.condition for kernel in program.kernels for segment in kernel.segments]
    roots += [*(kernel.owned_rows for kernel in program.kernels), program.mask, program.score]
    return frozenset(node for root in [*roots, *([program.sink] if program.sink else [])] for node in walk(root))


def _tables_read(program: Program) -> list[str]:
    return sorted({node.table for node in _nodes(program) if isinstance(node, Entry | Member)})


def _partial_results(node: Expr) -> Iterator[Expr]:
    """The partial results, from left to right, of an integer sum or product of more than two terms."""
    if isinstance(node, Apply) and node.op in ("add", "mul") and node.type == "int":
        for count in range(2, len(node.args)):
            yield Apply(node.op, node.args[:count], "int")


def _is_wide(held: BoundTable) -> bool:
    """Whether a table has too many entries for a 32-bit index, or perhaps wide ones that only the device knows."""
    values = held.contents.values
    if values is None:
        return held.contents.wide or prod(held.contents.shape or ()) > _LARGEST_INT32
    return values.size > _LARGEST_INT32


@dataclass(frozen=True)
class _UnprovedIndex:
    """An index whose bounds ``low .. high`` do not prove that it stays inside its dimension, ``place``, of ``size``."""

    place: int
    index: Expr
    low: int
    high: int
    size: int


def _unproved_indices(read: Read, extent: CallShape, tables: Mapping[str, BoundTable]) -> Iterator[_UnprovedIndex]:
    """The indices of a read that are functions of positions and not proved to stay inside their dimensions."""
    held = tables[read.node.table]
    for place, (index, dimension) in enumerate(zip(read.node.indices, held.table.dimensions, strict=True)):
        size = _size(held, place, extent)
        # The row of a query, its position less `q_start`, is always inside.
        if size is None or dimension.kind == "query":
            continue
        if any(_is_unknown(node, extent) or isinstance(node, Entry | Member) for node in walk(index)):
            continue
        low, high = index_range(index, read.reached, extent)
        if low < 0 or high >= size:
            yield _UnprovedIndex(place, index, low, high, size)


def _check(read: Read, keys: int, extent: CallShape, tables: Mapping[str, BoundTable]) -> OutOfRange | None:
    held = tables[read.node.table]
    for unproved in _unproved_indices(read, extent, tables):
        reached = underapproximate(read.reached, lambda node: _is_unknown(node, extent) or _is_unread(node, tables))
        below = constructors.less(unproved.index, Const(0)) if unproved.low < 0 else FALSE
        above = (
            constructors.less_equal(Const(unproved.size), unproved.index) if unproved.high >= unproved.size else FALSE
        )
        if any(
            _happens(constructors.conjunction(reached, outside), keys, extent, tables) for outside in (below, above)
        ):
            span = read.node.span or held.table.span
            return OutOfRange(held.table.name, unproved.place, unproved.low, unproved.high, unproved.size, span)
    return None


def _size(held: BoundTable, place: int, extent: CallShape) -> int | None:
    """The size of one dimension of a table; None where it is not known."""
    dimension = held.table.dimensions[place]
    shape = held.contents.shape if held.contents.values is None else held.contents.values.shape
    if shape is not None:
        return shape[place + held.contents.batched]
    sizes = {"token": extent.n, "query": extent.m, "head": extent.heads}
    return sizes.get(dimension.kind, dimension.size)


def _is_unknown(node: Expr, extent: CallShape) -> bool:
    return isinstance(node, Logit) or (extent.q_start is None and node == Q)


def _is_unread(node: Expr, tables: Mapping[str, BoundTable]) -> bool:
    return isinstance(node, Entry | Member) and tables[node.table].contents.values is None


def index_range(index: Expr, reached: Expr, extent: CallShape) -> tuple[int, int]:
    """Bounds of an index that is a function of positions, where ``reached`` holds.

    They follow from the ranges of positions, and from the linear inequalities that ``reached`` implies.
    """
    known: dict[Expr, int] = {N: extent.n, HEADS: extent.heads}
    form = linear(index, known)
    limits = [Linear({}, 0), *implied(reached, known)]
    above = [difference(form, limit) for limit in limits]
    below = [difference(_negative(form), limit) for limit in limits]
    parts = list(dict.fromkeys(part for side in (above, below) for rest in side for part in rest.factors))
    bounds = _part_bounds(parts, extent)
    highs = [high for high in (_largest(rest, bounds) for rest in above) if high is not None]
    lows = [-low for low in (_largest(rest, bounds) for rest in below) if low is not None]
    return max(lows), min(highs)


def _negative(form: Linear) -> Linear:
    return difference(Linear({}, 0), form)


def position_bounds(expr: Expr, extent: CallShape) -> tuple[int, int]:
    """Bounds of an integer expression of positions over all pairs."""
    return _part_bounds([expr], extent)[expr]


def _part_bounds(parts: list[Expr], extent: CallShape) -> dict[Expr, tuple[int, int]]:
    """Bounds, over all pairs, of those parts that read no table; others are left out."""
    plain = [part for part in parts if not any(isinstance(node, Entry | Member) for node in walk(part))]
    looks = _everywhere(plain, extent) if plain else []
    bounds = {}
    for part, look in zip(plain, looks, strict=True):
        assert isinstance(look, tuple)
        bounds[part] = (int(look[0].min()), int(look[1].max()))
    return bounds


def _everywhere(roots: Sequence[Expr], extent: CallShape) -> list[TileKinds | IntBounds | None]:
    """What the classifier says, over all pairs of each entry of the batch, of functions that read no table."""
    batch = len(extent.q_start or (0,))
    rows, keys = (
        (DigitRange(1, np.zeros(batch, np.int64), np.full(batch, max(size - 1, 0))),) for size in (extent.m, extent.n)
    )
    return Classifier(roots, extent, {}).evaluate_boxes(Boxes(rows, keys, np.arange(batch)))


def _largest(form: Linear, bounds: Mapping[Expr, tuple[int, int]]) -> int | None:
    total = form.constant
    for part, factor in form.factors.items():
        if part not in bounds:
            return None
        total += max(factor * bound for bound in bounds[part])
    return total


def _happens(condition: Expr, keys: int, extent: CallShape, tables: Mapping[str, BoundTable]) -> bool:
    """Whether a condition is found to hold for a pair. If too many boxes are undecided, only a sample is searched."""
    if condition == FALSE:
        return False
    rows, columns = (ViewRanges.whole(natural(1), length) for length in (extent.m, keys))
    space = Space(rows, columns, slots(condition, extent, tables))
    classifier = Classifier((condition,), extent, tables)
    pending = space.start
    while len(pending):
        kinds = classifier.classify(space.read(pending)[0])
        if (kinds == FULL).any():
            return True
        pending = pending.take((kinds == PARTIAL) & ~pending.single)
        if len(pending) > _MOST_PENDING:
            pending = pending.take(np.linspace(0, len(pending) - 1, _MOST_PENDING).astype(np.int64))
        pending = split(space, pending)
    return False
