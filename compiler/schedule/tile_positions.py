"""The tiles of an order at one launch: the tokens in their lanes, and the form in which strategies search them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..plan import Box, ListedOrder, Order, OrderTable, TileCount, View, natural
from .by_value import SearchSide
from .listed_orders import Listed, is_whole
from .tile_boxes import Slots
from .tile_ranges import Counted, ListRanges, Numbers, TileRanges, ViewRanges


@OrderTable
def tokens_of(order: Order, listed: NDArray[np.int32] | None, tiles: NDArray[np.integer], total: int, /) -> Numbers:
    """The tokens of some tiles, given by number, as ``[tiles, lanes]`` with -1 in empty lanes; ``total`` tokens in all.

    ``listed`` is the list of the batch entry and head, if the launch lists the tokens. This is
    :meth:`Order.tokens <compiler.plan.order_protocol.Order.tokens>` for many tiles at once.
    """
    raise NotImplementedError


@tokens_of.register(View)
def _of_view(order: View, _listed: NDArray[np.int32] | None, tiles: NDArray[np.integer], total: int, /) -> Numbers:
    number = np.asarray(tiles, np.int64)
    found = np.full((len(number), 1), order.offset, np.int64)
    absent = np.zeros((len(number), 1), bool)
    for axis in reversed(order.axes):
        radix = max(order.main_tiles(total), 1) if axis.length is None else axis.tiles
        coordinate = (number % radix)[:, None] * axis.tile + np.arange(axis.tile)
        number = number // radix
        beyond = coordinate >= axis.length if axis.length is not None else np.zeros_like(coordinate, bool)
        lanes = axis.tile * found.shape[1]
        found = (axis.stride * coordinate[:, :, None] + found[:, None, :]).reshape(len(number), lanes)
        absent = (beyond[:, :, None] | absent[:, None, :]).reshape(len(number), lanes)
    return np.where(absent | (found >= total), -1, found)


@tokens_of.register(Box)
def _of_boxes(order: Box, _listed: NDArray[np.int32] | None, tiles: NDArray[np.integer], total: int, /) -> Numbers:
    box, part = np.divmod(np.asarray(tiles, np.int64), order.parts)
    lane = part[:, None] * order.tile + np.arange(order.tile)
    found = np.full_like(lane, order.view.offset)
    here = np.ones_like(lane, bool)
    spans = zip(order.view.axes, order.before, order.extents, strict=True)
    for axis, before, extent in reversed(list(spans)):
        if axis.length is None:
            box, at = np.divmod(box, max(order.main_tiles(total), 1))
            first = (at - order.lead) * axis.tile - before
        else:
            box, at = np.divmod(box, axis.tiles)
            first = at * axis.tile - before
        lane, within = np.divmod(lane, extent)
        coordinate = first[:, None] + within
        here &= coordinate >= 0
        if axis.length is not None:
            here &= coordinate < axis.length
        found += axis.stride * coordinate
    return np.where(here & (lane == 0) & (found < total), found, -1)


@tokens_of.register(ListedOrder)
def _of_list(
    order: ListedOrder, listed: NDArray[np.int32] | None, tiles: NDArray[np.integer], _total: int, /
) -> Numbers:
    assert listed is not None, "a launch lists the tokens of such an order"
    place = np.asarray(tiles, np.int64)[:, None] * order.tile + np.arange(order.tile)
    held: Numbers = np.append(listed.astype(np.int64), -1)[np.minimum(place, len(listed))]
    return held


class TiledOrder(Protocol):
    """The tiles of rows or of keys at one launch, in the form in which strategies search for those that keep pairs.

    It is a view, or a list in rising order of values. A ``layout`` must distinguish the slots that the list does.
    """

    @property
    def tile(self) -> int:
        """The number of lanes of a tile."""

    @property
    def view(self) -> View | None:
        """The order itself if it is a view, else None."""

    @property
    def count(self) -> TileCount:
        """The number of tiles."""

    @property
    def slots(self) -> Slots:
        """The batch entries and heads that have tiles of their own."""

    @property
    def straight(self) -> bool:
        """Whether tiles with consecutive numbers are always a range (see :mod:`.tile_ranges`)."""

    def ranges(self, layout: Slots) -> TileRanges:
        """The tiles, addressed by ranges."""

    def lanes(self, layout: Slots, most: int) -> ListRanges | None:
        """A list of at most so many tokens, cut into tiles of a single token; None for views and for longer lists."""

    def search_side(self, layout: Slots) -> SearchSide:
        """The tiles and, if they are :attr:`straight`, their single lanes."""


@dataclass(frozen=True)
class TiledView:
    """A view of ``total`` tokens, as a :class:`TiledOrder`."""

    view: View
    total: int

    @property
    def tile(self) -> int:
        return self.view.tile

    @property
    def count(self) -> TileCount:
        return self.view.tiles(self.total)

    @property
    def slots(self) -> Slots:
        return Slots(1, None)

    @property
    def straight(self) -> bool:
        return len(self.view.axes) == 1

    def ranges(self, _layout: Slots) -> ViewRanges:
        return ViewRanges.whole(self.view, self.total)

    def lanes(self, _layout: Slots, _most: int) -> None:
        return None

    def search_side(self, layout: Slots) -> SearchSide:
        lanes = None
        if self.straight:
            lanes = ViewRanges((Counted(replace(self.view.axes[0], tile=1), None),), self.view.offset, self.total)
        return SearchSide(self.ranges(layout), self.count.total, lanes, self.tile)


@dataclass(frozen=True)
class TiledList:
    """A list in tiles of ``tile`` lanes, as a :class:`TiledOrder`."""

    listed: Listed
    tile: int

    @property
    def view(self) -> None:
        return None

    @property
    def count(self) -> TileCount:
        return self.listed.listing.tiles(self.tile)

    @property
    def slots(self) -> Slots:
        return self.listed.slots

    @property
    def straight(self) -> bool:
        return True

    def ranges(self, layout: Slots) -> ListRanges:
        return self.listed.ranges(self.tile, layout)

    def lanes(self, layout: Slots, most: int) -> ListRanges | None:
        return self.listed.ranges(1, layout) if self.listed.values.shape[1] <= most else None

    def search_side(self, layout: Slots) -> SearchSide:
        return SearchSide(self.ranges(layout), self.count.total, self.listed.ranges(1, layout), self.tile)


@OrderTable
def tiled(order: Order, listed: Listed | None, total: int, /) -> TiledOrder:
    """The tiles of an order of ``total`` tokens at one launch; ``listed``: its list, if it has one.

    Raises ValueError for boxes, which are not searched: each tile of rows visits its own.
    """
    raise NotImplementedError


@tiled.register(View)
def _tiled_view(order: View, _listed: Listed | None, total: int, /) -> TiledOrder:
    return TiledView(order, total)


@tiled.register(Box)
def _tiled_box(order: Box, _listed: Listed | None, _total: int, /) -> TiledOrder:
    raise ValueError(f"order: is {order.describe()}, expected one whose tiles are looked for")


@tiled.register(ListedOrder)
def _tiled_list(order: ListedOrder, listed: Listed | None, total: int, /) -> TiledOrder:
    """A list, or natural order over ranks if tokens are sorted by ranks that are 0, 1, 2, …."""
    assert listed is not None, "a launch lists the tokens of such an order"
    if order.sorted_by is not None and is_whole(listed):
        return TiledView(natural(order.tile), total)
    return TiledList(listed, order.tile)
