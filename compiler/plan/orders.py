"""What the compiler decides: the Program (structure, compiled once) and the Schedule (numbers, for one launch).

A Program knows no length: the same one serves every n, m and batch. A Schedule says, for given lengths and table
contents, which key tiles each query tile visits. Nouns only.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from ..ir import Entry, Expr


@dataclass(frozen=True)
class Axis:
    """One coordinate of a token: neighbours are ``stride`` tokens apart; ``tile`` coordinates lie in one tile.

    ``length`` is the number of coordinates; None is as many as the tokens need. A bounded axis need not be a multiple
    of its tile: the lanes past its end hold no token.
    """

    stride: int
    length: int | None = None
    tile: int = 1

    @property
    def tiles(self) -> int:
        """Tiles along a bounded axis."""
        assert self.length is not None
        return -(-self.length // self.tile)


class TileCount(NamedTuple):
    """The tiles of an order: so many classes, each of ``per_class`` tiles. Tile ``c * per_class + u`` is in class c."""

    classes: int
    per_class: int

    @property
    def total(self) -> int:
        return self.classes * self.per_class


@dataclass(frozen=True)
class View:
    """Tokens ``offset + sum(stride * coordinate)``: strided views of a tensor, no copy.

    Tiles are numbered by their coordinates, the last axis fastest, and so are the lanes of a tile. Just one axis is
    unbounded, the main one. The axes before it tell the classes of tokens apart (the residues of a dilated window, one
    coordinate to a tile); those after it lie within a class (the columns of a grid). Lanes whose token is beyond the
    last one, or whose coordinate is beyond its axis, hold none.

    - natural order: ``(Axis(1, None, 64),)``;
    - residues modulo 4: ``(Axis(1, 4), Axis(4, None, 64))``, and one of them alone: ``(Axis(4, None, 64),)``;
    - blocks of 64, every third: ``(Axis(64, 3), Axis(192), Axis(1, 64, 64))``;
    - a grid 256 wide, in tiles of 8 by 8: ``(Axis(256, None, 8), Axis(1, 256, 8))``;
    - the last 8 of every 256: ``(Axis(256, None, 8), Axis(1, 8, 8))`` from 248 on.
    """

    axes: tuple[Axis, ...]
    offset: int = 0

    @property
    def main(self) -> int:
        """The place of the unbounded axis."""
        return next(place for place, axis in enumerate(self.axes) if axis.length is None)

    @property
    def tile(self) -> int:
        """Lanes in one tile."""
        return prod(axis.tile for axis in self.axes)

    @property
    def classes(self) -> int:
        return prod(axis.tiles for axis in self.axes[: self.main])

    @property
    def minor_tiles(self) -> int:
        """Tiles beside one another for each tile of the main axis."""
        return prod(axis.tiles for axis in self.axes[self.main + 1 :])

    def main_tiles(self, tokens: int) -> int:
        """Tiles along the main axis, for so many tokens in all."""
        main = self.axes[self.main]
        return -(-max(tokens - self.offset, 0) // (main.stride * main.tile))

    def tiles(self, tokens: int) -> TileCount:
        return TileCount(self.classes, self.main_tiles(tokens) * self.minor_tiles)


@dataclass(frozen=True)
class Tiles:
    """The lanes of one tile: of queries, of keys, and of gathered queries or keys."""

    query: int
    key: int
    gathered: int = 16


def natural(tile: int) -> View:
    """Tokens in the order in which they stand, ``tile`` at a time."""
    return View((Axis(1, None, tile),))


@dataclass(frozen=True)
class Gathered:
    """The tokens of which a condition holds, in rising order: one class, listed at each launch.

    ``condition`` speaks of ``k`` where keys are walked, of ``q`` where rows are.
    """

    condition: Expr
    tile: int


@dataclass(frozen=True)
class Sorted:
    """All tokens, in the rising order of their entries in an ``order`` table: one class, listed at each launch.

    ``rank`` is the entry of ``k`` where keys are walked, of ``q`` where rows are.
    """

    rank: Entry
    tile: int


@dataclass(frozen=True)
class Box:
    """For each tile of a view the tokens around it: its box of coordinates, grown by a halo, ``tile`` tokens at a time.

    Keys in this order are for rows in the order of ``view``: along each axis a pair's key is at most ``before``
    coordinates before its query and ``after`` behind, and in the same class. A token is in several boxes, and a tile of
    rows visits the tiles of its own box alone. The backward's order is the other way round: see :func:`key_major`.

    Boxes are numbered as the tiles of the view, but for ``lead`` lines of tiles more in each class: those before the
    first token, whose halo may reach it. The coordinates of a box are numbered with the last axis fastest, and cut into
    ``parts`` tiles; lanes past its end, past an axis or past the tokens hold none.
    """

    view: View
    before: tuple[int, ...]  # coordinates, one number for each axis
    after: tuple[int, ...]
    tile: int

    @property
    def extents(self) -> tuple[int, ...]:
        """Coordinates of a box along each axis."""
        spans = zip(self.view.axes, self.before, self.after, strict=True)
        return tuple(axis.tile + before + after for axis, before, after in spans)

    @property
    def parts(self) -> int:
        """Tiles of one box."""
        return -(-prod(self.extents) // self.tile)

    @property
    def lead(self) -> int:
        """Tiles along the main axis before the first token."""
        return -(-self.after[self.view.main] // self.view.axes[self.view.main].tile)

    def main_tiles(self, tokens: int) -> int:
        """Boxes along the main axis, for so many tokens in all."""
        main = self.view.axes[self.view.main]
        lines = -(-max(tokens - self.view.offset, 0) // main.stride)
        return self.lead + -(-(lines + self.before[self.view.main]) // main.tile) if lines else 0

    def tiles(self, tokens: int) -> TileCount:
        return TileCount(self.view.classes, self.main_tiles(tokens) * self.view.minor_tiles * self.parts)

    def first(self, tile: int) -> int:
        """The first tile of the box around a tile of the view, both counted within their class."""
        return (tile + self.lead * self.view.minor_tiles) * self.parts


Order = View | Gathered | Sorted | Box


def key_major(rows: Order, keys: Order) -> tuple[Order, Order]:
    """The orders of rows and keys where each tile of keys visits tiles of rows: around it, where the keys are a box."""
    if not isinstance(keys, Box):
        return rows, keys
    return Box(keys.view, keys.after, keys.before, keys.tile), keys.view


def cycle(order: Order) -> int:
    """A shift of all positions by a multiple of it leaves an order's tiles what they are."""
    match order:
        case View(axes=axes):
            return axes[order.main].stride
        case Box(view=view):
            return view.axes[view.main].stride * view.axes[view.main].tile
    return 1


def covers(order: Order) -> bool:
    """Whether an order has every token."""
    if isinstance(order, Box):
        return covers(order.view)
    if not isinstance(order, View):
        return isinstance(order, Sorted)
    reach = 1
    for axis in sorted(order.axes, key=lambda axis: axis.stride):
        if axis.stride != reach:
            return False
        reach = axis.stride * (axis.length or 0)
    return not order.offset


EMPTY, PARTIAL, FULL = 0, 1, 2
"""Tiles: a relative run that reaches so far from its row goes on for ever, whatever n is."""
