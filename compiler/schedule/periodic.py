"""Templates for shift-invariant conditions: the runs of one period of query tiles serve every length.

:func:`compiler.analysis.shift_divisor` reads off a condition whether shifts of query and key together preserve it, and
by how many tokens. The tiles of one period are then classified against keys that are endless in both directions.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import lcm, prod

import numpy as np

from ..analysis import BoundTable, Classifier, shift_divisor
from ..ir import HEAD, HEADS, CallShape, Const, Expr, HostTable, N, Table, tables_read, walk
from ..plan import UNBOUNDED, Axis, Bounds, View
from .run_rows import Repeat, TileRuns, clipped, of_boxes, tile_slots, to_csr, transpose
from .subdivide import subdivide
from .tile_boxes import Slots, Space, TileBoxes, slots
from .tile_ranges import Counted, ViewRanges

# In tokens: farther than any call reaches, so a run that goes on for so long is endless, unless the condition has
# numbers of that size, or something still changes where no tensor has tokens.
_FAR = 2**34
_NEAR = 2**32
# The first ranges of keys end at distances that grow by this many bits from one to the next.
_GROWTH_BITS = 4
# The most rows of a period; a longer one is not worth a template.
_MOST_ROWS = 1024
# The most classes of an order with a template.
_MOST_CLASSES = 2**12
# The most boxes at one level of subdivision: a constant, and more for each row.
_MOST_BOXES = 2**12
_MOST_BOXES_OF_ROW = 2**6
# The most tiles in the rows of a period, if keys are classified only up to a limit.
_MOST_TILES = 2**20
# In bytes: the contents of tables up to this size are part of a template's cache key.
_SMALL = 2**10


@dataclass(frozen=True)
class FrozenTable:
    """The contents of a small table, or the fact that they are unknown, in hashable form: part of a cache key."""

    table: Table
    data: bytes | None
    dtype: str
    shape: tuple[int, ...]
    batched: bool

    @staticmethod
    def of(held: BoundTable) -> FrozenTable | None:
        values = held.contents.values
        if values is None:
            return FrozenTable(held.table, None, "", held.contents.shape or (), held.contents.batched)
        if values.nbytes > _SMALL:
            return None
        return FrozenTable(held.table, values.tobytes(), values.dtype.str, values.shape, held.contents.batched)

    @property
    def contents(self) -> BoundTable:
        if self.data is None:
            return BoundTable(self.table, HostTable(None, self.batched, self.shape))
        values = np.frombuffer(self.data, self.dtype).reshape(self.shape)
        return BoundTable(self.table, HostTable(values, self.batched))


@dataclass(frozen=True)
class PeriodicQuery:
    """Everything that a template depends on, and nothing else: its cache key.

    ``starts``: the first query's position modulo the period, for each batch slot or one for all. ``n`` and ``heads``:
    those of the call if the condition reads them, else 0 and 1. ``held``: the contents of the tables that it reads;
    None if one of them is too large, and then the template is not cached.
    """

    condition: Expr
    rows: View
    keys: View
    period: int
    starts: tuple[int, ...]
    n: int
    heads: int
    slots: Slots
    held: tuple[tuple[str, FrozenTable], ...] | None

    @property
    def steps(self) -> Repeat:
        rows, keys = _step(self.rows), _step(self.keys)
        return Repeat(self.period // rows * self.rows.minor_tiles, self.period // keys * self.keys.minor_tiles)


def periodic_query(
    condition: Expr,
    rows: View,
    keys: View,
    extent: CallShape,
    tables: Mapping[str, BoundTable],
    heads: tuple[int, ...] | None,
) -> PeriodicQuery | None:
    """The key of the template for a condition in these orders; None if it cannot have a template."""
    divisor = shift_divisor(condition)
    if divisor is None or extent.q_start is None or _classes(rows) != _classes(keys):
        return None
    period = lcm(divisor, _step(rows), _step(keys))
    if period // _step(rows) * rows.minor_tiles > _MOST_ROWS or rows.classes > _MOST_CLASSES:
        return None
    if any(axis.tile != 1 or axis.stride % divisor for axis in _classes(rows)):
        return None
    starts = tuple(start % period for start in extent.q_start)
    starts = starts if len(set(starts)) > 1 else starts[:1]
    nodes = set(walk(condition))
    n, count = extent.n if N in nodes else 0, extent.heads if HEAD in nodes or HEADS in nodes else 1
    layout = slots(condition, CallShape(n, 0, extent.heads, starts), tables, heads)
    held = [(name, FrozenTable.of(tables[name])) for name in sorted(tables_read(condition))]
    small = tuple((name, each) for name, each in held if each is not None)
    return PeriodicQuery(
        condition, rows, keys, period, starts, n, count, layout, small if len(small) == len(held) else None
    )


@dataclass(frozen=True)
class Template:
    """The rows of one period, for each slot of the query. ``endless``: they are right for every length."""

    rows: TileRuns
    endless: bool


def bounds(query: PeriodicQuery, extent: CallShape, tables: Mapping[str, BoundTable]) -> tuple[Bounds, Bounds] | None:
    """The bounds by query and by key; None if there is no template.

    They hold for all lengths or, if that would take rows of too many runs, for lengths up to the next power of two.
    """
    assert extent.q_start is not None
    steps = query.steps
    moves = tuple(start // query.period for start in extent.q_start)
    moves = moves if len(set(moves)) > 1 or query.slots.batch > 1 else moves[:1]
    last_period = (query.rows.tiles(extent.m).per_class - 1) // steps.period + max(moves, default=0)
    reach = max(query.keys.tiles(extent.n).per_class, last_period * steps.shift, 1)
    reach = 1 << (reach - 1).bit_length()
    if query.held is not None:
        return _cached_bounds(query, moves, reach)
    return _bounds(query, moves, reach, tables)


@lru_cache(maxsize=1024)
def _cached_bounds(query: PeriodicQuery, moves: tuple[int, ...], reach: int) -> tuple[Bounds, Bounds] | None:
    assert query.held is not None
    return _bounds(query, moves, reach, {name: held.contents for name, held in query.held})


@lru_cache(maxsize=1024)
def _cached_template(query: PeriodicQuery, reach: int | None) -> Template | None:
    assert query.held is not None
    return _make_template(query, reach, {name: held.contents for name, held in query.held})


def _bounds(
    query: PeriodicQuery, moves: tuple[int, ...], reach: int, tables: Mapping[str, BoundTable]
) -> tuple[Bounds, Bounds] | None:
    steps = query.steps

    def of_reach(limit: int | None) -> Template | None:
        return _make_template(query, limit, tables) if query.held is None else _cached_template(query, limit)

    if query.rows.classes > 1 and not _classes_apart(query, tables):
        return None
    found = of_reach(None) or of_reach(reach)
    if found is None:
        return None
    rows_reach = columns_reach = UNBOUNDED if found.endless else reach
    columns = transpose(found.rows, steps, 0)
    if columns is None:
        columns, columns_reach = transpose(clipped(found.rows, -2 * reach, 2 * reach), steps, 0), reach
    assert columns is not None
    return (
        replace(_placed(query, found.rows, steps.period, steps.shift, moves, steps.shift), reach=rows_reach),
        replace(_placed(query, columns, steps.shift, steps.period, moves, -steps.period), reach=columns_reach),
    )


def anywhere(
    condition: Expr, keys: View, extent: CallShape, tables: Mapping[str, BoundTable], heads: tuple[int, ...] | None
) -> Bounds | None:
    """The bounds by query for ``extent.m`` rows that fill one tile and begin at any position; None if a shift of rows
    and keys together may change the condition, or it reads ``n``.

    The rows that begin at one of ``start_step`` positions are all of them classified together, so that a tile visited
    has a pair for one of these positions, and a full tile lacks none for any.
    """
    divisor = shift_divisor(condition)
    if divisor is None or N in walk(condition) or _classes(keys):
        return None
    unit = _step(keys)
    period = lcm(divisor, unit)
    rows = View((Axis(1, None, period + extent.m - 1),))
    layout = slots(condition, CallShape(0, 0, extent.heads), tables, heads)
    query = PeriodicQuery(condition, rows, keys, period, (0,), 0, extent.heads, layout, None)
    found = _classified(query, 1, None, tables, _MOST_BOXES * layout.count)
    if found is None:
        return None
    batch, shift = layout.batch, period // unit * keys.minor_tiles
    return Bounds(1, 0, False, batch, layout.head_slots, to_csr(found.rows), UNBOUNDED, period, shift)


def forget() -> None:
    """Clear all caches of templates, so that the next schedule takes the time that a first one takes."""
    for function in (_cached_bounds, _cached_template, _cached_classes_apart, shift_divisor):
        function.cache_clear()


def _placed(query: PeriodicQuery, rows: TileRuns, period: int, shift: int, moves: tuple[int, ...], each: int) -> Bounds:
    """The bounds with these rows, shifted to where the first query is.

    ``moves``: its position in whole periods, for each batch slot or one for all; ``each``: the tiles by which runs are
    shifted for each of them.
    """
    batch = max(len(moves), query.slots.batch)
    heads = query.slots.head_slots
    entry = np.arange(batch) if query.slots.batch > 1 else np.zeros(batch, np.int64)
    picked = (entry[:, None] * heads + np.arange(heads)).ravel()
    rows = tile_slots(rows, period, picked)
    moved = np.array(moves if len(moves) > 1 else moves * batch, np.int64)
    rows = rows.moved((moved * each)[rows.row // (period * heads)])
    return Bounds(period, shift, query.rows.classes > 1, batch, heads, to_csr(rows))


def _classes(view: View) -> tuple[Axis, ...]:
    return view.axes[: view.main]


def _step(view: View) -> int:
    """The distance of neighbouring tiles along the main axis, in tokens."""
    main = view.axes[view.main]
    return main.stride * main.tile


def _far(view: View) -> int:
    """A number of tiles along the main axis that no call reaches."""
    return min(_FAR // _step(view), UNBOUNDED // 2 // view.minor_tiles)


def _endless(view: View) -> ViewRanges:
    """The tiles of the first class, continued endlessly in both directions."""
    inner = view.axes[view.main :]
    return ViewRanges(
        tuple(Counted(axis, None if axis.length is None else axis.tiles) for axis in inner), view.offset, None
    )


def _classifier(query: PeriodicQuery, tables: Mapping[str, BoundTable]) -> Classifier:
    extent = CallShape(query.n, 0, query.heads, query.starts)
    return Classifier((query.condition,), extent, tables, reach=2 * _FAR)


def _make_template(query: PeriodicQuery, reach: int | None, tables: Mapping[str, BoundTable]) -> Template | None:
    """Make the template by classifying the tiles of one period; None if that takes too many boxes.

    ``reach``: how many key tiles are classified on either side; None for all.
    """
    count = query.steps.period
    far = _reached(query, reach)
    if reach is not None and count * 2 * far * query.keys.minor_tiles > _MOST_TILES:
        return None
    most = (_MOST_BOXES + _MOST_BOXES_OF_ROW * count) * query.slots.count if reach is None else _MOST_TILES
    return _classified(query, count, reach, tables, most)


def _reached(query: PeriodicQuery, reach: int | None) -> int:
    """How many tiles along the keys' main axis are classified on either side."""
    return _far(query.keys) if reach is None else -(-reach // query.keys.minor_tiles)


def _classified(
    query: PeriodicQuery, count: int, reach: int | None, tables: Mapping[str, BoundTable], most: int
) -> Template | None:
    """The template of the first ``count`` tiles of rows; None if it is to be endless and takes more than ``most`` boxes
    to be exact."""
    far, unit = _reached(query, reach), query.keys.minor_tiles
    space = Space(_endless(query.rows), _endless(query.keys), query.slots)
    keys = [(low * unit, high * unit - 1) for low, high in _growing(far)]
    start = TileBoxes.product(query.slots.count, [(0, count - 1)], keys)
    boxes, exact = subdivide(_classifier(query, tables), space, start, most)
    if reach is None and not exact:
        return None
    rows = of_boxes(boxes, count, query.slots.count)
    if reach is None and not _is_endless(query, rows):
        return None
    return Template(_unlimited(rows, far * unit) if reach is None else rows, reach is None)


def _is_endless(query: PeriodicQuery, rows: TileRuns) -> bool:
    """Whether what lies beyond the tiles that were classified is as at their ends."""
    numbers = (node.value for node in walk(query.condition) if isinstance(node, Const))
    if any(abs(number) > _NEAR for number in numbers):
        return False
    unit = query.keys.minor_tiles
    near, far = min(_NEAR // _step(query.keys), _far(query.keys)) * unit, _far(query.keys) * unit
    ends = np.abs(np.concatenate((rows.start, rows.end)))
    return not bool(np.any((ends > near) & (ends < far)))


def _growing(far: int) -> list[tuple[int, int]]:
    """Ranges that together are ``-far .. far``, shorter near 0."""
    ends = [0]
    while (bits := _GROWTH_BITS * len(ends)) < far.bit_length():
        ends.append(1 << bits)
    ends = [*ends, far] if ends[-1] < far else ends
    above = list(itertools.pairwise(ends))
    return [*((-high, -low) for low, high in reversed(above)), *above]


def _unlimited(rows: TileRuns, far: int) -> TileRuns:
    """The rows with endless runs instead of those that go on to the last tile that was classified."""
    start = np.where(rows.start <= -far, -UNBOUNDED, rows.start)
    return replace(rows, start=start, end=np.where(rows.end >= far, UNBOUNDED, rows.end))


def _classes_apart(query: PeriodicQuery, tables: Mapping[str, BoundTable]) -> bool:
    """Whether a query and a key in different classes are never a kept pair.

    It is enough to test class differences, because the condition is invariant under a shift by one class.
    """
    if query.held is not None:
        return _cached_classes_apart(query)
    return _test_classes_apart(query, tables)


@lru_cache(maxsize=1024)
def _cached_classes_apart(query: PeriodicQuery) -> bool:
    assert query.held is not None
    return _test_classes_apart(query, {name: held.contents for name, held in query.held})


def _test_classes_apart(query: PeriodicQuery, tables: Mapping[str, BoundTable]) -> bool:
    keys, classes = query.keys, _classes(query.keys)
    far = _far(keys)
    lengths = [2 * axis.tiles - 1 for axis in classes]
    differences = [Counted(Axis(axis.stride, length), length) for axis, length in zip(classes, lengths, strict=True)]
    inner = [Counted(axis, 2 * far if axis.length is None else axis.tiles) for axis in keys.axes[keys.main :]]
    offset = keys.offset - far * _step(keys) - sum(axis.stride * (axis.tiles - 1) for axis in classes)
    space = Space(_endless(query.rows), ViewRanges((*differences, *inner), offset, None), query.slots)
    same = prod(lengths) // 2
    width = 2 * far * keys.minor_tiles
    others = [(number * width, (number + 1) * width - 1) for number in range(prod(lengths)) if number != same]
    start = TileBoxes.product(query.slots.count, [(0, query.steps.period - 1)], others)
    boxes, _ = subdivide(_classifier(query, tables), space, start, 2 * len(start) + _MOST_BOXES)
    return not len(boxes)
