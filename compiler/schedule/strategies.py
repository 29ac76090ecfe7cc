"""Strategies for finding the tiles a condition keeps, one per kind of condition.

Each returns a row of runs for every query tile, or None if the condition is not of its kind. All of them are sound: the
choice affects the cost of scheduling, and how many tiles are called PARTIAL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from ..analysis import BoundTable, Classifier, negation_normal, shift_divisor
from ..ir import Apply, CallShape, Expr, K, Q, constructors, walk
from ..plan import FULL, PARTIAL, UNBOUNDED, Bounds, Runs, natural
from . import periodic
from .by_value import Search, candidates, compared
from .run_rows import Repeat, TileRuns, intersect, of_boxes, ordered, repeated, tile_slots, to_csr, transpose, union
from .subdivide import subdivide
from .tile_boxes import Slots, Space, TileBoxes, slots
from .tile_positions import TiledOrder, TiledView
from .tile_ranges import ListRanges

# The most runs into which a template, or a row of runs, may be written out, one copy for each query tile.
_MOST_REPEATED = 2**20
# The most conjunctions into which a conjunction of unions is distributed.
_MOST_CHOICES = 16
# The most candidate key tiles that are listed; with more, subdivision is as good.
_MOST_CANDIDATES = 2**20

_ALONE = TiledView(natural(1), 1)


@dataclass(frozen=True)
class SearchLimits:
    """How much is searched for tiles.

    - ``boxes``: the most at one level of subdivision; if there would be more, those of the level before stay whole and
      partial;
    - ``few_tiles``: up to this number of tiles, plain subdivision is the cheapest strategy;
    - ``short_list``: lists of up to this many tokens are classified lane by lane.
    """

    boxes: int = 2**20
    few_tiles: int = 2**6
    short_list: int = 64


@dataclass(frozen=True)
class TileQuery:
    """The input of a strategy: a condition on rows and keys in their orders, at one launch.

    ``heads``: those of the kernel, None for all. Functions of a query also take the ``layout`` of their result: the
    slots that get rows of runs of their own.
    """

    condition: Expr
    rows: TiledOrder
    keys: TiledOrder
    extent: CallShape
    tables: Mapping[str, BoundTable]
    heads: tuple[int, ...] | None
    limits: SearchLimits = SearchLimits()

    @property
    def slots(self) -> Slots:
        own = slots(self.condition, self.extent, self.tables, self.heads)
        return own.with_(self.rows.slots).with_(self.keys.slots)

    def of(self, condition: Expr) -> TileQuery:
        return replace(self, condition=condition)

    def search(self, layout: Slots) -> Search:
        return Search(self.rows.search_side(layout), self.keys.search_side(layout), layout, self.extent, self.tables)

    def classifier(self, *roots: Expr) -> Classifier:
        return Classifier(roots or (self.condition,), self.extent, self.tables)


def bounds(query: TileQuery) -> tuple[Bounds, Bounds]:
    """Find the tiles that may keep a pair: the bounds by query tile, and those by key tile."""
    nodes, layout = set(walk(query.condition)), query.slots
    if Q not in nodes and K not in nodes:
        rows = _everywhere(_line(query, _ALONE, layout, by_query=False), 1)
        everywhere = Bounds(1, 0, False, layout.batch, layout.head_slots, to_csr(rows), UNBOUNDED)
        return everywhere, everywhere
    if Q not in nodes:
        return _one_for_all(_line(query, query.keys, layout, by_query=False), query.keys, layout)
    if K not in nodes:
        return _one_for_all(_line(query, query.rows, layout, by_query=True), query.rows, layout)[::-1]
    found = _template(query)
    if found is not None:
        return found
    return _row_by_row(visited(query, layout), query.rows.count.total, query.keys.count.total, layout)


def _line(query: TileQuery, axis: TiledOrder, layout: Slots, *, by_query: bool) -> TileRuns:
    """The tiles of one side that meet a condition on that side alone: one row of runs for each slot."""
    side, alone = axis.ranges(layout), _ALONE.ranges(layout)
    space = Space(side, alone, layout) if by_query else Space(alone, side, layout)
    boxes, _ = subdivide(query.classifier(), space, space.start, query.limits.boxes)
    low, high = (boxes.query_low, boxes.query_high) if by_query else (boxes.key_low, boxes.key_high)
    return ordered(layout.count, boxes.slot, low, high + 1, boxes.kind)


def _everywhere(line: TileRuns, tiles: int) -> TileRuns:
    """A row for each of ``tiles`` tiles: it visits the whole other side if the tile is in the line, else nothing."""
    count = line.end - line.start
    source = np.repeat(np.arange(len(line)), count)
    row = line.row[source] * tiles + line.start[source] + np.arange(len(source)) - (np.cumsum(count) - count)[source]
    whole = np.full(len(row), UNBOUNDED)
    return TileRuns(line.count * tiles, row, -whole, whole, line.kind[source])


def _one_for_all(line: TileRuns, axis: TiledOrder, layout: Slots) -> tuple[Bounds, Bounds]:
    """The bounds of the side whose tiles all visit the line, and those of the side of the line (``axis``)."""
    tiles = max(axis.count.total, 1)
    others = Runs.deferred(lambda: to_csr(_everywhere(line, tiles)))
    return (
        Bounds(1, 0, False, layout.batch, layout.head_slots, to_csr(line)),
        Bounds(tiles, 0, False, layout.batch, layout.head_slots, others),
    )


def _row_by_row(rows: TileRuns, count: int, columns: int, layout: Slots) -> tuple[Bounds, Bounds]:
    """The bounds by row and by column. ``rows`` has a row for each of ``count`` tiles, at least one, in every slot."""
    count, columns = max(count, 1), max(columns, 1)

    def by_key() -> Runs:
        found = transpose(rows, Repeat(count, 0), columns)
        assert found is not None
        return to_csr(found)

    return (
        Bounds(count, 0, False, layout.batch, layout.head_slots, to_csr(rows)),
        Bounds(columns, 0, False, layout.batch, layout.head_slots, Runs.deferred(by_key)),
    )


def visited(query: TileQuery, layout: Slots) -> TileRuns:
    """Find the key tiles of every query tile, by the cheapest strategy: a row of runs for each, slot by slot."""
    few = query.rows.count.total * query.keys.count.total <= query.limits.few_tiles
    found = None
    if not few and query.condition.type == "bool":
        found = _without_subdivision(query.of(negation_normal(query.condition)), layout)
    return _subdivided(query, layout, None) if found is None else found


def _without_subdivision(query: TileQuery, layout: Slots) -> TileRuns | None:
    """A row of runs for every query tile, by any strategy except plain subdivision; None if none applies."""
    condition, nodes = query.condition, set(walk(query.condition))
    if isinstance(condition, Apply) and condition.op == "or":
        return _union(query, layout, condition.args)
    if Q not in nodes or K not in nodes:
        return _one_sided(query, layout, by_query=Q in nodes)
    found = _repeated_template(query, layout)
    if found is None:
        found = compared(query.search(layout), condition)
    if found is not None:
        return found
    if isinstance(condition, Apply) and condition.op == "and":
        return _intersection(query, layout, condition.args)
    return _listed(query, layout)


def _union(query: TileQuery, layout: Slots, members: Sequence[Expr]) -> TileRuns | None:
    """The union of the members, each by a strategy of its own; None if none of them has one.

    Shift-invariant members are tried together first. Members without a strategy go into one subdivision.
    """
    alike = [member for member in members if shift_divisor(member) is not None]
    found: list[TileRuns] = []
    if len(alike) > 1:
        together = _repeated_template(query.of(constructors.disjunction(*alike)), layout)
        if together is not None:
            found.append(together)
            members = [member for member in members if member not in alike]
    rest: list[Expr] = []
    for member in members:
        rows = _without_subdivision(query.of(member), layout)
        if rows is None:
            rest.append(member)
        else:
            found.append(rows)
    if not found:
        return None
    if rest:
        found.append(_subdivided(query.of(constructors.disjunction(*rest)), layout, None))
    return union(found)


def _intersection(query: TileQuery, layout: Slots, members: Sequence[Expr]) -> TileRuns | None:
    """The intersection of the members, each by a strategy of its own.

    If a member has none, the whole condition is classified on the candidates that one member lists, if any does.
    """
    choices = [member for member in members if isinstance(member, Apply) and member.op == "or"]
    if choices and prod(len(choice.args) for choice in choices) <= _MOST_CHOICES:
        others = [member for member in members if member is not choices[0]]
        return _union(query, layout, [constructors.conjunction(choice, *others) for choice in choices[0].args])
    parts: list[TileRuns] = []
    for member in members:
        rows = _without_subdivision(query.of(member), layout)
        if rows is None:
            return next((rows for x in members if (rows := _listed(query, layout, x)) is not None), None)
        parts.append(rows)
    return intersect(parts)


def _one_sided(query: TileQuery, layout: Slots, *, by_query: bool) -> TileRuns | None:
    """The rows of runs for a condition on rows alone or on keys alone; None if there are too many runs."""
    axis, other = (query.rows, query.keys) if by_query else (query.keys, query.rows)
    line = _line(query, axis, layout, by_query=by_query)
    if by_query:
        whole = _everywhere(line, axis.count.total)
        return replace(whole, start=np.zeros_like(whole.start), end=np.full_like(whole.end, other.count.total))
    count = other.count.total
    if len(line) * count > _MOST_REPEATED:
        return None
    source = np.repeat(np.arange(len(line)), count)
    row = line.row[source] * count + np.arange(len(source)) % count
    return ordered(line.count * count, row, line.start[source], line.end[source], line.kind[source])


def _template(query: TileQuery) -> tuple[Bounds, Bounds] | None:
    """The bounds by query tile and by key tile from a template of one period; None if there is no template."""
    rows, keys = query.rows.view, query.keys.view
    if rows is None or keys is None:
        return None
    template = periodic.periodic_query(query.condition, rows, keys, query.extent, query.tables, query.heads)
    return None if template is None else periodic.bounds(template, query.extent, query.tables)


def _repeated_template(query: TileQuery, layout: Slots) -> TileRuns | None:
    """The rows of runs of a template, written out for every query tile; None without one, or for too many runs."""
    found = _template(query)
    if found is None:
        return None
    by_query, count = found[0], query.rows.count
    if len(by_query.runs.start) * (count.total // by_query.period + 1) > _MOST_REPEATED:
        return None
    rows = repeated(by_query, count, query.keys.count)
    batch = np.arange(layout.batch) if by_query.batch_slots > 1 else np.zeros(layout.batch, np.int64)
    head = np.arange(layout.head_slots) if by_query.head_slots > 1 else np.zeros(layout.head_slots, np.int64)
    return tile_slots(rows, count.total, (batch[:, None] * by_query.head_slots + head).ravel())


def _listed(query: TileQuery, layout: Slots, member: Expr | None = None) -> TileRuns | None:
    """Find the key tiles by subdividing only the candidates that :mod:`.by_value` lists; None if it lists none.

    They are listed by ``member``, one conjunct of the condition, or else by all of it.
    """
    if not query.keys.straight:
        return None
    found = candidates(query.search(layout), query.condition if member is None else member)
    if found is None or (found.end - found.start).sum() > _MOST_CANDIDATES:
        return None
    count = max(query.rows.count.total, 1)
    slot, row = np.divmod(found.row, count)
    kind = np.full(len(row), PARTIAL, np.uint8)
    return _subdivided(query, layout, TileBoxes(slot, row, row, found.start, found.end - 1, kind))


def _subdivided(query: TileQuery, layout: Slots, start: TileBoxes | None) -> TileRuns:
    """Find the key tiles by subdividing all tiles, or the boxes in ``start``."""
    lanes = _by_lanes(query, layout) if start is None else None
    if lanes is not None:
        return lanes
    space = Space(query.rows.ranges(layout), query.keys.ranges(layout), layout)
    start = space.start if start is None else start
    classifier = query.classifier()
    boxes, exact = subdivide(classifier, space, start, query.limits.boxes)
    if not exact and query.rows.count.total * query.keys.count.total <= query.limits.boxes:
        # All slots together have too many boxes, but a single one does not.
        each = (start.take(start.slot == slot) for slot in range(layout.count))
        boxes = TileBoxes.joined([subdivide(classifier, space, its, query.limits.boxes)[0] for its in each])
    return of_boxes(boxes, max(query.rows.count.total, 1), layout.count)


def _by_lanes(query: TileQuery, layout: Slots) -> TileRuns | None:
    """Find the key tiles by subdivision down to the single tokens of a short list, which may lie far from each other.

    None if neither side is one.
    """
    short = query.limits.short_list
    rows, keys = query.rows.lanes(layout, short), query.keys.lanes(layout, short)
    if keys is not None:
        space = Space(query.rows.ranges(layout), keys, layout)
        boxes, _ = subdivide(query.classifier(), space, space.start, query.limits.boxes)
        count = max(query.rows.count.total, 1)
        return _of_lanes(of_boxes(boxes, count, layout.count), count, query.keys.tile, keys)
    if rows is None:
        return None
    space = Space(rows, query.keys.ranges(layout), layout)
    boxes, _ = subdivide(query.classifier(), space, space.start, query.limits.boxes)
    count, columns = max(query.rows.count.total, 1), max(query.keys.count.total, 1)
    lanes = max(rows.values.shape[1], 1)
    held = transpose(of_boxes(boxes, lanes, layout.count), Repeat(lanes, 0), columns)
    assert held is not None
    return transpose(_of_lanes(held, columns, query.rows.tile, rows), Repeat(columns, 0), count)


def _of_lanes(lanes: TileRuns, count: int, tile: int, side: ListRanges) -> TileRuns:
    """Runs of lanes as runs of tiles: FULL if all lanes with a token are, else PARTIAL if any lane is visited."""
    held = side.counts[side.list_of[lanes.row // count]]
    start, end = -(-lanes.start // tile), np.where(lanes.end == held, -(-lanes.end // tile), lanes.end // tile)
    full = (lanes.kind == FULL) & (start < end)
    touched = TileRuns(
        lanes.count,
        lanes.row,
        lanes.start // tile,
        -(-lanes.end // tile),
        np.full(len(lanes), PARTIAL, np.uint8),
    )
    whole = TileRuns(lanes.count, lanes.row[full], start[full], end[full], lanes.kind[full])
    return union([touched, whole])
