"""The kinds of orders of tokens: strided views, halo boxes around their tiles, and lists.

:mod:`compiler.plan.order_protocol` defines their interface; `CONTRIBUTING.md` says what a new kind needs, and where.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, product
from math import prod

from ..ir import FALSE, Entry, Expr, expression
from .order_protocol import Axis, Listing, Order, TileCount

EMPTY, PARTIAL, FULL = 0, 1, 2


@dataclass(frozen=True)
class Tiles:
    """The number of lanes of a tile: of queries, of keys, and of gathered queries or keys.

    ``by_row``: whether there are kernels that read each row's keys off a run-time set (:class:`.programs.Members`).
    """

    query: int
    key: int
    gathered: int = 16
    by_row: bool = False


class ComputedOrder(Order):
    """An order whose tokens follow from the tile's number and the number of tokens, whatever tables hold."""

    @abstractmethod
    def main_tiles(self, total: int) -> int:
        """The number of tiles along the axis that grows with the number of tokens: an argument of the launch."""

    def most_tiles(self, total: int) -> int:
        return self.tiles(total).per_class

    @property
    def listed_by(self) -> None:
        return None

    def nameless(self) -> Order:
        return self


@dataclass(frozen=True)
class View(ComputedOrder):
    """Tokens ``offset + sum(stride * coordinate)``: strided views of a tensor, no copy.

    Tiles are numbered by their coordinates, the last axis fastest, and so are the lanes of a tile. Just one axis is
    unbounded, the main one. The axes before it tell the classes of tokens apart (the residues of a dilated window, one
    coordinate to a tile); those after it lie within a class (the columns of a grid). Lanes whose token is beyond the
    last one, or whose coordinate is beyond its axis, hold none.

    - natural order: ``(Axis(1, None, 64),)``;
    - residues modulo 4: ``(Axis(1, 4), Axis(4, None, 64))``, and one of them alone: ``(Axis(4, None, 64),)``;
    - blocks of 64, every third: ``(Axis(64, 3), Axis(192), Axis(1, 64, 64))``;
    - a grid 256 wide, in tiles of 8 by 8: ``(Axis(256, None, 8), Axis(1, 256, 8))``;
    - the last 8 of every 256: ``(Axis(256, None, 8), Axis(1, 8, 8))`` from 248 on;
    - a grid 56 wide in windows of 7 by 7: ``(Axis(392), Axis(7, 8), Axis(56, 7, 8), Axis(1, 7, 8))``.
    """

    axes: tuple[Axis, ...]
    offset: int = 0

    @cached_property
    def main(self) -> int:
        """The index of the unbounded axis."""
        return next(place for place, axis in enumerate(self.axes) if axis.length is None)

    @cached_property
    def tile(self) -> int:
        return prod(axis.tile for axis in self.axes)

    @cached_property
    def classes(self) -> int:
        return prod(axis.tiles for axis in self.axes[: self.main])

    @cached_property
    def minor_tiles(self) -> int:
        """The number of tiles along the axes after the main one, for each tile of the main axis."""
        return prod(axis.tiles for axis in self.axes[self.main + 1 :])

    def main_tiles(self, total: int) -> int:
        main = self.axes[self.main]
        return -(-max(total - self.offset, 0) // (main.stride * main.tile))

    def tiles(self, total: int, listing: Listing | None = None) -> TileCount:
        return TileCount(self.classes, self.main_tiles(total) * self.minor_tiles)

    def tokens(self, tile: int, total: int, listed: Sequence[int] = ()) -> list[int]:
        places = zip(self.axes, self.places(tile, self.main_tiles(total)), strict=True)
        lanes = product(*(range(at * axis.tile, (at + 1) * axis.tile) for axis, at in places))
        return [self.token(coordinates, total) for coordinates in lanes]

    def places(self, tile: int, main_tiles: int) -> list[int]:
        """The place of a tile along each axis, counted in tiles; ``main_tiles``: how many the main axis has."""
        found = []
        for axis in reversed(self.axes):
            tile, at = divmod(tile, main_tiles if axis.length is None else axis.tiles)
            found.append(at)
        return found[::-1]

    def token(self, coordinates: Iterable[int], total: int) -> int:
        """The token at some coordinates, -1 if there is none."""
        found = self.offset
        for axis, at in zip(self.axes, coordinates, strict=True):
            if at < 0 or (axis.length is not None and at >= axis.length):
                return -1
            found += axis.stride * at
        return found if found < total else -1

    @property
    def uneven(self) -> bool:
        """Whether tiles before the last ones may have empty lanes."""
        return any(axis.length is not None and axis.length % axis.tile for axis in self.axes)

    def whole_tiles(self, total: int) -> int | None:
        if self.uneven:
            return None
        main = self.axes[self.main]
        beside = sum(axis.stride * (axis.length - 1) for axis in self.axes if axis.length is not None)
        places = (total - 1 - self.offset - beside) // main.stride + 1
        return max(0, places // main.tile) * self.minor_tiles

    def last_position(self, total: int) -> int:
        counts = (max(self.main_tiles(total), 1) if axis.length is None else axis.tiles for axis in self.axes)
        ends = (axis.stride * (tiles * axis.tile - 1) for axis, tiles in zip(self.axes, counts, strict=True))
        return self.offset + sum(ends)

    @property
    def covers(self) -> bool:
        reach = 1
        for axis in sorted(self.axes, key=lambda axis: axis.stride):
            if axis.stride != reach:
                return False
            reach = axis.stride * (axis.length or 0)
        return not self.offset

    @property
    def alignment(self) -> int:
        return self.axes[self.main].stride

    @property
    def hull(self) -> tuple[tuple[Axis, ...], int]:
        return self.axes, self.offset

    @property
    def strided(self) -> bool:
        return True

    def describe(self, names: Mapping[str, str] | None = None) -> str:
        return _digits(self.axes) + (f" from {self.offset}" if self.offset else "")


def natural(tile: int) -> View:
    """Natural order: tokens as they are stored in memory, ``tile`` at a time."""
    return View((Axis(1, None, tile),))


def is_natural(order: Order) -> bool:
    """Whether an order is natural order, whatever its tile."""
    return order == natural(order.tile)


def _digits(axes: tuple[Axis, ...]) -> str:
    """The axes of a view as a phrase, chosen by their pattern."""
    match axes:
        case (Axis(stride=1, length=None),):
            return "natural"
        case (Axis(stride=stride, length=None),):
            return f"every {stride}"
        case (Axis(stride=1, length=count, tile=1), Axis(stride=stride, length=None)) if count == stride:
            return f"residue({stride})"
        case (
            Axis(stride=block, length=count, tile=1),
            Axis(stride=stride, length=None),
            Axis(stride=1, length=width),
        ) if width == block and count is not None and stride == block * count:
            return f"residue({count}) of blocks of {block}"
        case (Axis(stride=period, length=None, tile=high), Axis(stride=1, length=width, tile=wide)):
            if width == period:
                return f"grid {period} wide in {high}×{wide}"
            return f"{width} of every {period}"
        case (
            Axis(stride=width, length=lines, tile=1),
            Axis(stride=1, length=columns, tile=1),
            Axis(stride=stride, length=None, tile=high),
            Axis(stride=step, length=count, tile=wide),
        ) if step == columns and count is not None and width == step * count and stride == width * (lines or 0):
            return f"grid {width} wide, every {lines} lines and {columns} columns, in {high}×{wide}"
        case (
            Axis(stride=band, length=None),
            Axis(stride=wide, length=across),
            Axis(stride=width, length=high),
            Axis(stride=1, length=columns),
        ) if columns == wide and width == wide * (across or 0) and band == width * (high or 0):
            return f"grid {width} wide in windows of {high}×{wide}"
        case (Axis(stride=plane, length=None), Axis(stride=line, length=lines), Axis(stride=1, length=width)) if (
            width == line and lines is not None and plane == lines * line
        ):
            return f"grid {lines}×{width} in {'×'.join(str(axis.tile) for axis in axes)}"
    return "digits " + " ".join(f"{axis.length or '*'}@{axis.stride}" for axis in axes)


@dataclass(frozen=True)
class Box(ComputedOrder):
    """The halo box of each tile of a view: the tile's box of coordinates, grown by a halo, in tiles of ``tile`` tokens.

    Keys in this order serve rows in the order of ``view``: along each axis, the key of a pair is at most ``before``
    coordinates before its query and at most ``after`` coordinates after it, and in the same class. A token is in
    several boxes, and a tile of rows visits only the tiles of its own box. The backward pass over keys uses boxes of
    rows around tiles of keys: see :func:`key_major`.

    Boxes are numbered like the tiles of the view, except that each class begins with ``lead`` more lines of tiles:
    those before the first token whose halo may reach it. The coordinates of a box are numbered with the last axis
    fastest, and cut into ``parts`` tiles; lanes past the end of the box, of an axis or of the tokens are empty.
    """

    view: View
    before: tuple[int, ...]  # coordinates, one number for each axis
    after: tuple[int, ...]
    tile: int

    @property
    def extents(self) -> tuple[int, ...]:
        """The number of coordinates of a box along each axis."""
        spans = zip(self.view.axes, self.before, self.after, strict=True)
        return tuple(axis.tile + before + after for axis, before, after in spans)

    @property
    def parts(self) -> int:
        """The number of tiles of a box."""
        return -(-prod(self.extents) // self.tile)

    @property
    def lead(self) -> int:
        """The number of tiles along the main axis before the first token."""
        return -(-self.after[self.view.main] // self.view.axes[self.view.main].tile)

    def main_tiles(self, total: int) -> int:
        """The number of boxes along the main axis, for ``total`` tokens."""
        main = self.view.axes[self.view.main]
        lines = -(-max(total - self.view.offset, 0) // main.stride)
        return self.lead + -(-(lines + self.before[self.view.main]) // main.tile) if lines else 0

    def tiles(self, total: int, listing: Listing | None = None) -> TileCount:
        return TileCount(self.view.classes, self.main_tiles(total) * self.view.minor_tiles * self.parts)

    def first(self, tile: int) -> int:
        """The first tile of the box around a tile of the view, both counted within their class."""
        return (tile + self.lead * self.view.minor_tiles) * self.parts

    def tokens(self, tile: int, total: int, listed: Sequence[int] = ()) -> list[int]:
        box, part = divmod(tile, self.parts)
        places = self.view.places(box, self.main_tiles(total))
        places[self.view.main] -= self.lead
        starts = (at * axis.tile - before for axis, at, before in zip(self.view.axes, places, self.before, strict=True))
        box_lanes = product(*(range(start, start + extent) for start, extent in zip(starts, self.extents, strict=True)))
        lanes = islice(box_lanes, part * self.tile, (part + 1) * self.tile)
        return _filled([self.view.token(coordinates, total) for coordinates in lanes], self.tile)

    def whole_tiles(self, total: int) -> None:
        return None

    def last_position(self, total: int) -> int:
        return max(total - 1, 0)  # in an empty lane the position is negative or that of a token

    @property
    def covers(self) -> bool:
        return self.view.covers

    @property
    def alignment(self) -> int:
        main = self.view.axes[self.view.main]
        return main.stride * main.tile

    @property
    def hull(self) -> tuple[tuple[Axis, ...], int]:
        return natural(self.tile).hull

    @property
    def strided(self) -> bool:
        return False

    @property
    def around_rows(self) -> bool:
        return True

    @property
    def mirrored(self) -> Box:
        """The boxes of rows around each tile of keys: the same halo, reversed."""
        return replace(self, before=self.after, after=self.before)

    def key_major(self, rows: Order) -> tuple[Order, Order]:
        return self.mirrored, self.view

    def describe(self, names: Mapping[str, str] | None = None) -> str:
        return f"box of {'×'.join(map(str, self.extents))} around each tile of {self.view.describe(names)}"


class ListedOrder(Order):
    """An order whose tokens the host lists at each launch: a single class, cut into tiles in the order of the list."""

    def tokens(self, tile: int, total: int, listed: Sequence[int] = ()) -> list[int]:
        return _filled(list(listed[tile * self.tile : (tile + 1) * self.tile]), self.tile)

    def tiles(self, total: int, listing: Listing | None = None) -> TileCount:
        if listing is None:
            raise ValueError(f"listing: is None, expected the list of the tokens {self.describe()}")
        return listing.tiles(self.tile)

    def most_tiles(self, total: int) -> int:
        return -(-total // self.tile)

    def whole_tiles(self, total: int) -> None:
        return None

    def last_position(self, total: int) -> int:
        return max(total - 1, 0)

    @property
    def alignment(self) -> int:
        return 1

    @property
    def hull(self) -> tuple[tuple[Axis, ...], int]:
        return natural(self.tile).hull

    @property
    def strided(self) -> bool:
        return False


@dataclass(frozen=True)
class Gathered(ListedOrder):
    """The tokens that meet a condition, in rising order.

    ``condition`` reads the position as ``k`` if the order is one of keys, as ``q`` if it is one of rows.
    """

    condition: Expr
    tile: int

    @property
    def covers(self) -> bool:
        return False

    @property
    def sparse(self) -> bool:
        return True

    @property
    def listed_by(self) -> Expr:
        return self.condition

    @property
    def gathered_by(self) -> Expr:
        return self.condition

    def nameless(self) -> Gathered:
        return replace(self, condition=FALSE)

    def describe(self, names: Mapping[str, str] | None = None) -> str:
        return f"gathered {expression(self.condition, names)}"


@dataclass(frozen=True)
class Sorted(ListedOrder):
    """All tokens, sorted by their entries in an ``order`` table.

    ``rank`` is the entry at ``k`` if the order is one of keys, at ``q`` if it is one of rows.
    """

    rank: Entry
    tile: int

    @property
    def covers(self) -> bool:
        return True

    @property
    def listed_by(self) -> Expr:
        return self.rank

    @property
    def sorted_by(self) -> Entry:
        return self.rank

    def nameless(self) -> Sorted:
        return replace(self, rank=Entry("0", (), "int"))

    def describe(self, names: Mapping[str, str] | None = None) -> str:
        return f"sorted by {expression(self.rank, names)}"


def _filled(tokens: list[int], tile: int) -> list[int]:
    """The tokens in the first lanes of a tile, and -1 in the other lanes."""
    return tokens + [-1] * (tile - len(tokens))
