"""Lists the tokens of gathered and sorted orders at one launch, and counts the keys that rows read off sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..analysis import BoundTable, Classifier, linear
from ..ir import HEAD, CallShape, Const, Expr, K, Q
from ..oracle import is_listed
from ..plan import FULL, ComputedOrder, Gathered, Listing, Members, Order, OrderTable, Sorted, natural
from .subdivide import subdivide
from .tile_boxes import Slots, Space, TileBoxes, slots
from .tile_ranges import ListRanges, Numbers, ViewRanges

# The most tokens that are classified together, which limits memory.
_BATCH = 2**17


@dataclass(frozen=True)
class Listed:
    """The tokens of a gathered or sorted order, a list for each slot.

    ``values`` are the gathered tokens, or the ranks of the sorted ones, in rising order.
    """

    listing: Listing
    slots: Slots
    values: NDArray[np.int64]  # [slots, length]
    counts: Numbers  # [slots]

    def ranges(self, tile: int, layout: Slots) -> ListRanges:
        """The lists cut into tiles of ``tile`` lanes, one for each slot of ``layout``.

        Entries or heads with lists of their own must have slots of their own in ``layout``.
        """
        slot = np.arange(layout.count)
        batch = slot // layout.head_slots if self.slots.batch > 1 else np.zeros_like(slot)
        head = slot % layout.head_slots if self.slots.heads is not None else np.zeros_like(slot)
        return ListRanges(self.values, self.counts, batch * self.slots.head_slots + head, tile)


def is_whole(listed: Listed) -> bool:
    """Whether the values are 0, 1, 2, … in every slot: tiles of ranks are then tiles in the natural order of ranks."""
    length = listed.values.shape[1]
    return bool((listed.counts == length).all() and (listed.values == np.arange(length)).all())


@OrderTable
def listed_tokens(
    order: Order,
    by_query: bool,
    extent: CallShape,
    tables: Mapping[str, BoundTable],
    heads: tuple[int, ...] | None,
    /,
) -> Listed | None:
    """The tokens of an order at one launch; None if its tokens are not listed. ``heads``: those of the kernel.

    Raises ValueError if the host cannot list them.
    """
    raise NotImplementedError


@listed_tokens.register(ComputedOrder)
def _nothing(
    _order: ComputedOrder,
    _by_query: bool,
    _extent: CallShape,
    _tables: Mapping[str, BoundTable],
    _heads: tuple[int, ...] | None,
    /,
) -> None:
    return None


@listed_tokens.register(Gathered)
def gathered(
    order: Gathered,
    by_query: bool,
    extent: CallShape,
    tables: Mapping[str, BoundTable],
    heads: tuple[int, ...] | None,
    /,
) -> Listed:
    """The tokens that meet the condition. Raises ValueError if the host cannot decide it for one of them."""
    layout = slots(order.condition, extent, tables, heads)
    total = extent.m if by_query else extent.n
    alone = ViewRanges.whole(natural(1), 1)
    several = ViewRanges.whole(natural(1), total)
    space = Space(several, alone, layout) if by_query else Space(alone, several, layout)
    classifier = Classifier((order.condition,), extent, tables)
    found: list[tuple[Numbers, Numbers, Numbers]] = []
    for first in range(0, total, _BATCH):
        ends = [(first, min(first + _BATCH, total) - 1)]
        start = TileBoxes.product(layout.count, *((ends, [(0, 0)]) if by_query else ([(0, 0)], ends)))
        boxes, _ = subdivide(classifier, space, start, 2 * _BATCH * layout.count)
        if (boxes.kind != FULL).any():
            raise ValueError("order: gathers tokens by a condition that the host cannot decide")
        low, high = (boxes.query_low, boxes.query_high) if by_query else (boxes.key_low, boxes.key_high)
        found.append((boxes.slot, low, high + 1))
    parts = zip(*found, strict=True) if found else ([np.zeros(0, np.int64)],) * 3
    return _of_ranges(layout, *(np.concatenate(part) for part in parts))


def _of_ranges(layout: Slots, slot: Numbers, start: Numbers, end: Numbers) -> Listed:
    order = np.lexsort((start, slot))
    slot, start, width = slot[order], start[order], (end - start)[order]
    source = np.repeat(np.arange(len(slot)), width)
    tokens = start[source] + np.arange(len(source)) - (np.cumsum(width) - width)[source]
    counts = np.bincount(slot[source], minlength=layout.count)
    values = np.zeros((layout.count, int(counts.max(initial=0))), np.int64)
    listing = np.full(values.shape, -1, np.int32)
    place = np.arange(len(tokens)) - np.repeat(np.cumsum(counts) - counts, counts)
    values[slot[source], place] = listing[slot[source], place] = tokens
    return Listed(Listing(listing, layout.batch, layout.head_slots), layout, values, counts)


@listed_tokens.register(Sorted)
def ordered_by(
    order: Sorted, by_query: bool, extent: CallShape, tables: Mapping[str, BoundTable], heads: tuple[int, ...] | None, /
) -> Listed:
    """All tokens, sorted by their ranks.

    Raises ValueError if the host does not know the ranks, or if an index is not a position, a head or a constant.
    """
    layout = slots(order.rank, extent, tables, heads)
    held = tables[order.rank.table]
    if held.contents.values is None:
        raise ValueError("order: sorts tokens by a table that the host does not know")
    total = extent.m if by_query else extent.n
    values = held.contents.values if held.contents.batched else held.contents.values[np.newaxis]
    batch = np.arange(layout.batch) if len(values) > 1 else np.zeros(layout.batch, np.int64)
    start = np.resize(np.asarray(extent.q_start or (0,), np.int64), layout.batch)
    inside = np.ones((1, 1, 1), bool)
    index: list[Numbers] = [batch[:, None, None]]
    for place, (part, size) in enumerate(zip(order.rank.indices, values.shape[1:], strict=True)):
        at = _positions(part, total, start, layout, held.table.dimensions[place].kind == "query")
        inside = inside & (at >= 0) & (at < size)
        index.append(np.clip(at, 0, size - 1))
    ranks = np.where(inside, values[tuple(index)], 0)
    ranks = np.broadcast_to(ranks, (layout.batch, layout.head_slots, total)).reshape(-1, total)
    tokens = np.stack([_by_rank(each) for each in ranks]) if total else np.zeros(ranks.shape, np.int64)
    listing = Listing(tokens.astype(np.int32), layout.batch, layout.head_slots)
    values = np.take_along_axis(ranks, tokens, 1).astype(np.int64)
    return Listed(listing, layout, values, np.full(len(tokens), total))


def _positions(index: Expr, total: int, start: Numbers, layout: Slots, of_row: bool) -> Numbers:
    """The value of an index for every token, broadcastable to [batch slots, head slots, tokens]."""
    match index:
        case Const(value=value):
            return np.full((1, 1, 1), int(value))
        case _ if index == HEAD:
            return np.asarray(layout.heads or (0,), np.int64)[None, :, None]
        case _ if index == K or (index == Q and of_row):
            return np.arange(total)[None, None, :]
        case _ if index == Q:
            return start[:, None, None] + np.arange(total)
    raise ValueError(f"order: sorts tokens by a table at {index}, expected a position, a head or a constant")


def _by_rank(ranks: Numbers) -> Numbers:
    """The indices that sort the ranks, stably; in linear time if the ranks are a permutation."""
    places = np.full(len(ranks), -1, np.int64)
    if ranks.min() >= 0 and ranks.max() < len(ranks):
        places[ranks] = np.arange(len(ranks))
        if (places >= 0).all():
            return places
    return np.argsort(ranks, kind="stable")


def keys_read(members: Members, extent: CallShape, tables: Mapping[str, BoundTable]) -> float | None:
    """How many keys a row reads off its set, on average over rows and over the sets of the table, before the rest of
    the condition leaves some out. None where the host does not know the sets.
    """
    values = tables[members.member.table].contents.values
    if values is None:
        return None
    sets = values.reshape(-1, values.shape[-1])
    if is_listed(values):
        fresh = sets >= 0
        fresh[:, 1:] &= sets[:, 1:] != sets[:, :-1]
        found = sets[fresh].astype(np.int64)
    else:
        found = np.nonzero(sets)[1]
    rows = _rows_with_key(found, members, extent)
    return float(rows.sum()) / max(len(sets) * extent.m, 1)


def _rows_with_key(found: NDArray[np.int64], members: Members, extent: CallShape) -> NDArray[np.int64]:
    """For each member how many rows it names an existing key for; all rows where that is not seen at once."""
    rest = linear(members.rest, {})
    step = -members.sign * rest.factors.get(Q, 0)  # from the key of one row to that of the next
    first = members.sign * (found - rest.constant)
    if rest.factors.keys() - {Q} or step not in (-1, 0, 1):
        return np.full_like(found, extent.m)
    if not step:
        return np.where((first >= 0) & (first < extent.n), extent.m, 0)
    start = extent.q_start[0] if extent.q_start else 0
    low, high = (-first, extent.n - first) if step > 0 else (first - extent.n + 1, first + 1)
    counts: NDArray[np.int64] = np.minimum(high, start + extent.m) - np.maximum(low, start)
    return np.maximum(counts, 0)
