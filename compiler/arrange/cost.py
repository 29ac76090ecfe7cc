"""What it costs to run kernels, in keys computed for each query of a natural tile: tiles counted at a stand-in length.

Tiles are classified as they stand, without descent: exactly where the mask is arithmetic; tables are replaced by what
they are likely to hold, or may hold anything. The constants are measured; docs/decisions says how.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log2

import numpy as np
from numpy.typing import NDArray

from ..analysis import BoundTable, Boxes, Classifier, DigitRange
from ..ir import (
    Apply,
    CallShape,
    Const,
    Entry,
    Expr,
    HostTable,
    K,
    Member,
    Number,
    Position,
    Q,
    Table,
    constructors,
    is_opaque,
    walk,
)
from ..oracle import evaluate
from ..plan import (
    EMPTY,
    FULL,
    PARTIAL,
    Box,
    ComputedOrder,
    Kernel,
    ListedOrder,
    Order,
    OrderTable,
    Segment,
    Tiles,
    View,
    is_natural,
    natural,
)

GATHER = 1.05
"""A key that a list names, beside one that strides lead to."""
PARTIAL_TILE = 1.35
"""A key of a tile on which the condition is evaluated, beside one of a full tile."""
MERGE = 220.0
"""Keys: one more partial result for a row, read and written by a later kernel."""
SMALL_ROWS = 0.15
"""What each halving of the row tile adds to the cost of a key: it is loaded for fewer rows."""
SMALL_KEYS = 1.0
"""Keys: what a key tile costs beside its keys."""

RUN = 4.0
"""Keys: what a run of tiles costs beside its tiles, where it is planned and where it is begun."""

# Key tiles at the stand-in length; it is longer still where a constant is, up to the last.
SHORTEST, LONGEST, LONGEST_OF_ALL = 2**8, 2**10, 2**16
_NO_LENGTH = 2**31  # tokens
# Tiles looked at for one segment, by so many rows at least, and key tiles looked at together first: these at least, or
# so many that there are at most so many groups.
_BOXES, _FEWEST, _TOGETHER, _GROUPS = 2**15, 24, 16, 2**7
_SETS = 16  # tokens that a gathered list of unknown length stands for
_LABELS = 32  # documents, say, in one sequence


def stand_in_length(mask: Expr, tiles: Tiles) -> int:
    """A length at which the orders of a mask are told apart: several times its largest constant.

    A constant that 32 bits do not hold is no width or period of a call, and says nothing.
    """
    largest, longest = 1, LONGEST_OF_ALL * tiles.key
    for node in walk(mask):
        if isinstance(node, Apply):
            numbers = [abs(int(part.value)) for part in node.args if isinstance(part, Const) and part.type == "int"]
            numbers = [number * (tiles.query if node.op == "mod" else 1) for number in numbers if number < _NO_LENGTH]
            largest = max(largest, *numbers, 1)
    most = min(max(1 << (largest - 1).bit_length(), LONGEST * tiles.key), longest)
    return min(max(1 << (4 * largest - 1).bit_length(), SHORTEST * tiles.key), most)


def cost(kernels: Sequence[Kernel], n: int, tiles: Tiles, tables: tuple[Table, ...]) -> float:
    """Of all kernels together, for each of n queries against n keys."""
    total = 0.0
    for place, kernel in enumerate(kernels):
        total += MERGE * _share(kernel.rows, n) if place else 0.0
        total += sum(_segment(segment, kernel.rows, n, tiles, tables) for segment in kernel.segments)
    return total


def area(kernels: Sequence[Kernel], n: int, tables: tuple[Table, ...]) -> float:
    """Keys computed for each of n queries, as :func:`cost` counts them."""
    return sum(counted(segment, kernel.rows, n, tables).area for kernel in kernels for segment in kernel.segments)


def _segment(segment: Segment, rows: Order, n: int, tiles: Tiles, tables: tuple[Table, ...]) -> float:
    found = counted(segment, rows, n, tables)
    keys = found.area + (PARTIAL_TILE - 1) * found.partial
    keys *= 1 if segment.keys.strided else GATHER
    keys = keys * (1 + SMALL_KEYS / segment.keys.tile) + RUN * found.runs
    return keys * (1 + SMALL_ROWS * max(log2(tiles.query / rows.tile), 0.0))


def _share(rows: Order, n: int) -> float:
    """The rows of an order, as a share of all."""
    if rows.gathered_by is not None:
        return len(_listed(rows.gathered_by, n)) / n
    return min(1.0, View(*rows.hull).tiles(n).total * rows.tile / n)


@dataclass(frozen=True)
class Counted:
    """For each of n queries: keys on all tiles, keys on partial ones, and runs of tiles of one kind."""

    area: float
    partial: float
    runs: float


@lru_cache(maxsize=4096)
def counted(segment: Segment, rows: Order, n: int, tables: tuple[Table, ...]) -> Counted:
    """The tiles of one segment at length n, those of a sample of row tiles where there are many."""
    return _counted(segment.keys, segment.condition, rows, n, tables)


@OrderTable
def _counted(keys: Order, condition: Expr, rows: Order, n: int, tables: tuple[Table, ...], /) -> Counted:
    """As :func:`counted`, by the order of the keys."""
    raise NotImplementedError


@_counted.register(Box)
def _of_boxes(keys: Box, _condition: Expr, rows: Order, n: int, _tables: tuple[Table, ...], /) -> Counted:
    each = keys.view.tiles(n).total / n
    lanes = each * rows.tile * keys.parts * keys.tile
    return Counted(lanes, lanes, each)


@_counted.register(ComputedOrder, ListedOrder)
def _of_tiles(order: Order, condition: Expr, rows: Order, n: int, tables: tuple[Table, ...], /) -> Counted:
    condition = _stand_in(condition, rows, order, n)
    pieces = _pieces(condition, rows)
    row_digits = _tile_digits(rows, n, pieces)
    keys = _tile_digits(order, n, 1)
    row_count, key_count = len(row_digits[0].low) // pieces, len(keys[0].low)
    if not row_count or not key_count:
        return Counted(0.0, 0.0, 0.0)
    sampled = _sample(row_count, max(_BOXES // (key_count * pieces), _FEWEST))
    taken = (sampled[:, np.newaxis] * pieces + np.arange(pieces)).reshape(-1)
    asked = _Asked(condition, tables, [_taken(digit, taken) for digit in row_digits], n)
    kinds = asked.kinds(order, keys).reshape(len(sampled), pieces, key_count)
    visited = (kinds != EMPTY).any(1)
    tiles = np.where(visited, np.where((kinds == FULL).all(1), FULL, PARTIAL), EMPTY)
    begins = visited.copy()
    begins[:, 1:] &= tiles[:, 1:] != tiles[:, :-1]
    each = row_count / len(sampled) * rows.tile / n
    keys_each = each * order.tile
    return Counted(visited.sum() * keys_each, (tiles == PARTIAL).sum() * keys_each, begins.sum() * each)


class _Asked:
    """A condition about some row tiles."""

    def __init__(self, condition: Expr, tables: Sequence[Table], rows: Sequence[DigitRange], n: int) -> None:
        unread = {str(number): BoundTable(table, HostTable(None)) for number, table in enumerate(tables)}
        self._classifier = Classifier((condition,), CallShape(n, n, 8), unread)
        self._rows, self._n = rows, n

    def kinds(self, order: Order, keys: Sequence[DigitRange]) -> NDArray[np.int8]:
        """[rows, keys]: many key tiles together first, and one by one where that leaves them undecided."""
        if not order.strided:
            return self._each(keys)
        view = View(*order.hull)
        axes = list(view.axes)
        along, beside = view.main_tiles(self._n), view.minor_tiles
        together = max(_TOGETHER, -(-along // _GROUPS))
        axes[view.main] = replace(axes[view.main], tile=axes[view.main].tile * together)
        wide = _tile_digits(View(tuple(axes), view.offset), self._n, 1)
        number = np.arange(len(keys[0].low))
        main = number // beside % along
        place = (number // (along * beside) * -(-along // together) + main // together) * beside + number % beside
        kinds = self._each(wide)[:, place]
        row, key = np.nonzero(kinds == PARTIAL)
        kinds[row, key] = self._classified(keys, row, key)
        return kinds

    def _each(self, keys: Sequence[DigitRange]) -> NDArray[np.int8]:
        shape = len(self._rows[0].low), len(keys[0].low)
        row, key = np.indices(shape).reshape(2, -1)
        return self._classified(keys, row, key).reshape(shape)

    def _classified(
        self, keys: Sequence[DigitRange], row: NDArray[np.int64], key: NDArray[np.int64]
    ) -> NDArray[np.int8]:
        nought = np.zeros(len(row), np.int64)
        query = tuple(_taken(digit, row) for digit in self._rows)
        return self._classifier.classify(Boxes(query, tuple(_taken(digit, key) for digit in keys), nought, nought))


def _taken(digit: DigitRange, chosen: NDArray[np.int64]) -> DigitRange:
    return DigitRange(digit.stride, digit.low[chosen], digit.high[chosen])


def _sample(count: int, most: int) -> NDArray[np.int64]:
    """Numbers below ``count``, one at random from each of equal stretches: the same for the same arguments."""
    if count <= most:
        return np.arange(count)
    offsets = np.random.default_rng(count).random(most)
    return np.asarray((np.arange(most) + offsets) * count / most, np.int64)


def _tile_digits(order: Order, n: int, pieces: int) -> list[DigitRange]:
    """The tokens of each tile of an order, or of each of so many pieces of it."""
    if order.gathered_by is not None:
        tokens = _listed(order.gathered_by, n)
        first = tokens[:: order.tile]
        last = tokens[np.minimum(np.arange(order.tile - 1, len(first) * order.tile, order.tile), len(tokens) - 1)]
        return [DigitRange(1, first, last)]
    view = View(*order.hull) if pieces == 1 else natural(order.tile // pieces)
    number = np.arange(view.tiles(n).total)
    digits: list[DigitRange] = []
    for place in range(len(view.axes) - 1, -1, -1):
        axis = view.axes[place]
        count = view.main_tiles(n) if axis.length is None else axis.tiles
        length = -(-(n - view.offset) // axis.stride) if axis.length is None else axis.length
        low = number % max(count, 1) * axis.tile
        digits.append(DigitRange(axis.stride, low, np.minimum(low + axis.tile, length) - 1))
        number = number // max(count, 1)
    start = np.full(len(number), view.offset)
    return [*digits, DigitRange(1, start, start)]


@lru_cache(maxsize=256)
def _listed(condition: Expr, n: int) -> NDArray[np.int64]:
    """The tokens that a gathering condition lists; some at even distances, where tables say it."""
    if any(isinstance(node, Entry | Member) for node in walk(condition)):
        return np.arange(_SETS) * (n // _SETS)
    holds = evaluate(constructors.substitute(condition, {Q: K}), (), CallShape(n, 1), {})
    return np.flatnonzero(holds[0, 0, 0])


def _pieces(condition: Expr, rows: Order) -> int:
    """Into how many pieces a row tile is cut, where opaque functions read it by smaller blocks."""
    if not is_natural(rows):
        return 1
    inside = {part for node in walk(condition) if is_opaque(node) for part in walk(node)}
    blocks = [
        int(node.args[1].value)
        for node in inside
        if isinstance(node, Apply) and node.op == "floordiv" and isinstance(node.args[1], Const) and Q in walk(node)
    ]
    return min([rows.tile // block for block in blocks if block < rows.tile and rows.tile % block == 0], default=1)


_RANKS = Number(-1), Number(-2)


def _stand_in(condition: Expr, rows: Order, keys: Order, n: int) -> Expr:
    """The condition with positions counted as the orders walk them, and tables replaced by what they may hold."""
    sides: list[tuple[Order, Position, Number]] = [(rows, Q, _RANKS[0]), (keys, K, _RANKS[1])]
    ranked: dict[Expr, Expr] = {order.sorted_by: rank for order, _, rank in sides if order.sorted_by is not None}
    if ranked:
        condition = constructors.substitute(condition, ranked)
        hidden: dict[Expr, Expr] = {side: Number(-3) for order, side, _ in sides if order.sorted_by is not None}
        condition = constructors.substitute(condition, hidden)
        condition = constructors.substitute(condition, {rank: position for _, position, rank in sides})
    return constructors.substitute(condition, dict(_contents(condition, n)))


def _contents(condition: Expr, n: int) -> Iterator[tuple[Expr, Expr]]:
    """Entries that are compared with a block's number, as random ones; labels of tokens, as neighbours' that agree."""
    for node in walk(condition):
        match node:
            case (
                Apply(op="eq" | "ne", args=(Entry() as entry, other))
                | Apply(op="eq" | "ne", args=(other, Entry() as entry))
            ):
                if isinstance(other, Entry):
                    for each in (entry, other):
                        if each.indices in ((Q,), (K,)):
                            yield each, constructors.floordiv(each.indices[0], n // _LABELS)
                elif entry.type == "int" and (span := _span(other, n)):
                    yield entry, constructors.mod(constructors.hashed(Const(0), *entry.indices), span)


def _span(x: Expr, n: int) -> int:
    """How many values a block's number has."""
    match x:
        case Position(name="q" | "k"):
            return n
        case Apply(op="floordiv", args=(inner, Const(value=int(divisor)))):
            return _span(inner, n) // divisor
        case _:
            return 0
