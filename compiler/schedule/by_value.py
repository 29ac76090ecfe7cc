"""Finds key tiles by binary search, for conditions that compare a function of the query with a function of the key.

If the key's function rises from tile to tile (a position, the number of a block, the label of a document), the tiles
that may hold a value are found by binary search, for all query tiles at once and any function of the query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..analysis import BoundTable, Classifier
from ..ir import Apply, CallShape, Expr, K, Member, Q, walk
from ..oracle import is_listed
from ..plan import FULL, PARTIAL, natural
from .run_rows import TileRuns, covered, union
from .tile_boxes import Slots, Space, TileBoxes
from .tile_ranges import Numbers, TileRanges, ViewRanges

# Limits on memory: tiles that are evaluated together, and entries of sets that are read together.
_BATCH = 2**15
_MOST_ENTRIES = 2**22
# Greater than any value that is compared here; in a tile without tokens.
_LARGEST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class SearchSide:
    """One side of a search, rows or keys: ``tiles`` tiles of ``tile`` lanes in every slot.

    ``lanes``: the side with each lane as a tile of its own; None if neighbouring tiles are not always a range.
    """

    ranges: TileRanges
    tiles: int
    lanes: TileRanges | None
    tile: int


@dataclass(frozen=True)
class Search:
    """The input of a search for key tiles: both sides, the slots, the call shape and the tables."""

    rows: SearchSide
    keys: SearchSide
    slots: Slots
    extent: CallShape
    tables: Mapping[str, BoundTable]


@dataclass(frozen=True)
class Ends:
    """The least and the greatest value of a function in each tile, ``[slots, tiles]``; _LARGEST in an empty tile."""

    low: Numbers
    high: Numbers

    @property
    def present(self) -> NDArray[np.bool_]:
        return self.low < _LARGEST

    @property
    def rising(self) -> bool:
        return all(bool((ends[:, 1:] >= ends[:, :-1]).all()) for ends in (self.low, self.high))


def side_of(expr: Expr) -> str | None:
    """``"q"`` or ``"k"`` if an expression reads that position and not the other, else None."""
    nodes = set(walk(expr))
    return {(True, False): "q", (False, True): "k"}.get((Q in nodes, K in nodes))


def compared(search: Search, condition: Expr) -> TileRuns | None:
    """The key tiles that each query tile visits, for ``==``, ``<=`` or ``<`` between functions of the two sides.

    None for other conditions, and if the key's function does not rise or (for ``==``) the query's does not.
    """
    match condition:
        case Apply(op="eq" | "le" | "lt" as op, args=(left, right)) if left.type == "int":
            pass
        case _:
            return None
    if {side_of(left), side_of(right)} != {"q", "k"}:
        return None
    q_first = side_of(left) == "q"
    of_query, of_key = (left, right) if q_first else (right, left)
    keys = _rising(search, of_key)
    found = None if keys is None else _ends(search, [of_query], search.rows.ranges, search.rows.tiles, by_query=True)
    if keys is None or found is None:
        return None
    rows = found[0]
    if op == "eq":
        if not rows.rising:  # a tile may then hold many values: see candidates
            return None
        some, every = _equal(rows, keys)
    else:
        some, every = _below(rows, keys, "left" if (op == "le") == q_first else "right", q_first)
    return union([_rows(rows, PARTIAL, *some), _rows(rows, FULL, *every)])


def _rising(search: Search, of_key: Expr) -> Ends | None:
    found = _ends(search, [of_key], search.keys.ranges, search.keys.tiles, by_query=False)
    return found[0] if found is not None and found[0].rising else None


_Spans = tuple[Numbers, Numbers]  # first tile and end, [slots, row tiles]


def _equal(rows: Ends, keys: Ends) -> tuple[_Spans, _Spans]:
    """The key tiles that may hold a value of a row tile, and those that hold its one value only."""
    some = _found(keys.high, rows.low, "left"), _found(keys.low, rows.high, "right")
    every = _found(keys.low, rows.low, "left"), _found(keys.high, rows.low, "right")
    return some, (every[0], np.where(rows.low == rows.high, every[1], 0))


def _below(rows: Ends, keys: Ends, side: str, q_first: bool) -> tuple[_Spans, _Spans]:
    end, zero = np.broadcast_to(keys.present.sum(1)[:, None], rows.low.shape), np.zeros_like(rows.low)
    if q_first:
        return (_found(keys.high, rows.low, side), end), (_found(keys.low, rows.high, side), end)
    return (zero, _found(keys.low, rows.high, side)), (zero, _found(keys.high, rows.low, side))


def _found(rising: Numbers, values: Numbers, side: str) -> Numbers:
    """``np.searchsorted``, slot by slot."""
    pairs = zip(rising, values, strict=True)
    return np.stack([np.searchsorted(each, wanted, side) for each, wanted in pairs])  # type: ignore[call-overload]


def _rows(rows: Ends, kind: int, start: Numbers, end: Numbers) -> TileRuns:
    held = rows.present & (start < end)
    row = np.flatnonzero(held)
    start, end = start[held].astype(np.int64), end[held].astype(np.int64)
    return TileRuns(held.size, row, start, end, np.full(len(row), kind, np.uint8))


def candidates(search: Search, condition: Expr) -> TileRuns | None:
    """The key tiles that may hold pairs, all PARTIAL, for conditions that give a list of values for each query tile.

    These are ``==`` (the values of the query's function) and membership of the key (the members of the sets that the
    query chooses). None for other conditions, or if the key's function does not rise.
    """
    match condition:
        case Apply(op="eq", args=(left, right)) if left.type == "int" and {side_of(left), side_of(right)} == {"q", "k"}:
            of_query, of_key = (left, right) if side_of(left) == "q" else (right, left)
            listed = _values
        case Member(element=element, indices=indices) if side_of(element) == "k" and any(
            side_of(index) == "q" for index in indices
        ):
            of_query, of_key = condition, element
            listed = _members
        case _:
            return None
    keys = _rising(search, of_key)
    found = None if keys is None else listed(search, of_query)
    if keys is None or found is None:
        return None
    row, value = found
    slot = row // max(search.rows.tiles, 1)
    start, end = np.empty_like(row), np.empty_like(row)
    for number in range(search.slots.count):
        its = slot == number
        start[its] = np.searchsorted(keys.high[number], value[its], "left")
        end[its] = np.searchsorted(keys.low[number], value[its], "right")
    held = start < end
    return covered(search.slots.count * search.rows.tiles, row[held], start[held], end[held])


def _values(search: Search, of_query: Expr) -> tuple[Numbers, Numbers] | None:
    """The values of a function of the query in each row tile: pairs of a row (``slot * tiles + tile``) and a value."""
    found = _single(search, [of_query])
    return None if found is None else (found[0], found[1][0])


def _single(search: Search, roots: Sequence[Expr]) -> tuple[Numbers, list[Numbers]] | None:
    """The values of several functions of the query in each row tile, as rows and one list of values for each function.

    Every combination is given once. None if the values cannot be listed.
    """
    rows = search.rows
    ends = _ends(search, roots, rows.ranges, rows.tiles, by_query=True)
    if ends is None:
        return None
    if all((each.low == each.high).all() for each in ends):
        row = np.flatnonzero(ends[0].present)
        return row, [each.low.ravel()[row] for each in ends]
    if rows.lanes is None:
        return None
    ends = _ends(search, roots, rows.lanes, rows.tiles * rows.tile, by_query=True)
    if ends is None or any((each.low != each.high).any() for each in ends):
        return None
    lane = np.flatnonzero(ends[0].present)
    combined = np.stack([lane // rows.tile, *(each.low.ravel()[lane] for each in ends)])
    row, *values = np.unique(combined, axis=1)
    return row, values


def _members(search: Search, of_query: Expr) -> tuple[Numbers, Numbers] | None:
    """The members of all sets that the queries of each row tile choose: pairs of a row and a member."""
    assert isinstance(of_query, Member)
    held = search.tables[of_query.table]
    sets = held.contents.values
    found = None if sets is None else _single(search, of_query.indices)
    if sets is None or found is None:
        return None
    row, indices = found
    batch = row // max(search.rows.tiles, 1) // search.slots.head_slots
    start = np.resize(np.asarray(search.extent.q_start or (0,), np.int64), search.slots.batch)
    alone = not held.contents.batched
    sets = sets[np.newaxis] if alone else sets
    flat, inside = (np.zeros_like(row) if len(sets) == 1 else batch), np.ones(len(row), bool)
    for index, size, dimension in zip(indices, sets.shape[1:-1], held.table.dimensions, strict=True):
        at = index - start[batch] if dimension.kind == "query" else index
        inside &= (at >= 0) & (at < size)
        flat = flat * size + at
    row, flat = row[inside], flat[inside]
    if not is_listed(sets):
        return _joined(sets.reshape(-1, sets.shape[-1]), row, flat)
    chosen, which = np.unique(flat, return_inverse=True)
    owner, member = _entries(sets.reshape(-1, sets.shape[-1]), chosen)
    counts = np.bincount(owner, minlength=len(chosen))[which]
    first = np.searchsorted(owner, which)
    source = np.repeat(np.arange(len(row)), counts)
    place = first[source] + np.arange(len(source)) - (np.cumsum(counts) - counts)[source]
    return row[source], member[place]


def _joined(bitmaps: NDArray[Any], row: Numbers, chosen: Numbers) -> tuple[Numbers, Numbers]:
    """The members of the sets that each row chooses, each about once: the sets of a row are joined before any is read.

    ``row`` rises; ``chosen`` has one set of its row at each place.
    """
    step = max(_MOST_ENTRIES // max(bitmaps.shape[1], 1), 1)
    rows, members = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for first in range(0, len(row), step):
        its = row[first : first + step]
        begins = np.flatnonzero(np.diff(its, prepend=-1))
        owner, member = np.nonzero(np.logical_or.reduceat(bitmaps[chosen[first : first + step]], begins, axis=0))
        rows.append(its[begins][owner])
        members.append(member)
    return np.concatenate(rows), np.concatenate(members)


def _entries(sets: NDArray[Any], chosen: Numbers) -> tuple[Numbers, Numbers]:
    """The members of the chosen lists, in order: the index in ``chosen`` and the member of each."""
    step = max(_MOST_ENTRIES // max(sets.shape[1], 1), 1)
    owners, members = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for first in range(0, len(chosen), step):
        some = sets[chosen[first : first + step]]
        kept = some >= 0
        kept[:, 1:] &= some[:, 1:] != some[:, :-1]
        owner, slot = np.nonzero(kept)
        owners.append(owner + first)
        members.append(some[owner, slot].astype(np.int64))
    return np.concatenate(owners), np.concatenate(members)


def _ends(
    search: Search, roots: Sequence[Expr], ranges: TileRanges, tiles: int, *, by_query: bool
) -> list[Ends] | None:
    """The bounds of several functions of one side in every tile; None if one of them is unknown."""
    count = search.slots.count * tiles
    low, high = np.full((2, len(roots), count), _LARGEST)
    alone = ViewRanges.whole(natural(1), 1)
    space = Space(ranges, alone, search.slots) if by_query else Space(alone, ranges, search.slots)
    classifier = Classifier(roots, search.extent, search.tables)
    for first in range(0, count, _BATCH):
        place = np.arange(first, min(first + _BATCH, count))
        slot, tile = np.divmod(place, tiles)
        zero = np.zeros_like(tile)
        query, key = (tile, zero) if by_query else (zero, tile)
        boxes, present = space.read(TileBoxes(slot, query, query, key, key, zero.astype(np.uint8)))
        place = place[present]
        for number, bounds in enumerate(classifier.evaluate_boxes(boxes)):
            if not isinstance(bounds, tuple) or not all(_fits(end) for end in bounds):
                return None
            low[number, place], high[number, place] = (end[present] for end in bounds)
    shape = search.slots.count, tiles
    return [Ends(a.reshape(shape), b.reshape(shape)) for a, b in zip(low, high, strict=True)]


def _fits(values: Numbers) -> bool:
    return not len(values) or (int(values.min()) > -_LARGEST and int(values.max()) < _LARGEST)
