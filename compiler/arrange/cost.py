"""Estimates what kernels cost to run, by counting the tiles that they would visit at a representative length.

The unit is a key: one key of a full tile in natural order, computed for one query. Tiles are classified directly,
without subdivision, and exactly if the mask is arithmetic. Tables are replaced by likely contents, or are unknown. The
constants are measured; docs/decisions says how.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isqrt, log2

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
    positions,
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
"""The cost of a key that is looked up or computed lane by lane, relative to one that strides lead to."""
PARTIAL_TILE = 1.35
"""The cost of a key of a partial tile, where the condition is evaluated, relative to one of a full tile."""
MERGE = 220.0
"""In keys: the cost, for each row, of a later kernel that reads, merges and writes its result."""
SMALL_ROWS = 0.15
"""What each halving of the row tile adds to the relative cost of a key, which is then loaded for fewer rows."""
SMALL_KEYS = 1.0
"""In keys: the cost of a key tile, besides that of its keys."""

MEMBER = 3.0
"""The cost of a key that a row reads off a set for itself, relative to one of a tile, which many rows share."""

RUN = 4.0
"""In keys: the cost of a run of tiles, besides that of its tiles, on the host and in the kernel."""

# Limits of the representative length, in key tiles; large constants raise the second one, up to the last.
SHORTEST, LONGEST, LONGEST_OF_ALL = 2**8, 2**10, 2**16
_NO_LENGTH = 2**31  # tokens
# Limits for one segment: the pairs of tiles that are counted, and the fewest row tiles; the key tiles that are first
# classified as one group, and the most groups (which are larger if there would be more).
_BOXES, _FEWEST, _TOGETHER, _GROUPS = 2**15, 24, 16, 2**7
_SETS = 16  # tokens assumed in a gathered list or in a set of unknown length
_BLOCKS = 8  # blocks of keys assumed to be chosen for a query
_LABELS = 32  # labels (such as documents) assumed in one sequence


def stand_in_length(mask: Expr, tiles: Tiles) -> int:
    """The representative length: long enough, several times the largest constant of the mask, to tell orders apart.

    A constant that does not fit in 32 bits cannot be a width or a period of a call, and is ignored.
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
    """The cost of all kernels together, in keys per query, for n queries and n keys."""
    total = 0.0
    for place, kernel in enumerate(kernels):
        total += MERGE * _share(kernel.rows, n) if place else 0.0
        if kernel.members is not None:
            total += MEMBER * _SETS
            continue
        total += sum(_segment(segment, kernel.rows, n, tiles, tables) for segment in kernel.segments)
    return total


def area(kernels: Sequence[Kernel], n: int, tables: tuple[Table, ...]) -> float:
    """The number of keys computed per query, counted as in :func:`cost`."""
    by_row = sum(_SETS for kernel in kernels if kernel.members is not None)
    tiled = [kernel for kernel in kernels if kernel.members is None]
    return by_row + sum(
        counted(segment, kernel.rows, n, tables).area for kernel in tiled for segment in kernel.segments
    )


def _segment(segment: Segment, rows: Order, n: int, tiles: Tiles, tables: tuple[Table, ...]) -> float:
    found = counted(segment, rows, n, tables)
    keys = found.area + (PARTIAL_TILE - 1) * found.partial
    keys *= 1 if segment.keys.strided else GATHER
    keys = keys * (1 + SMALL_KEYS / segment.keys.tile) + RUN * found.runs
    return keys * (1 + SMALL_ROWS * max(log2(tiles.query / rows.tile), 0.0))


def _share(rows: Order, n: int) -> float:
    """The fraction of all rows that are in an order."""
    if rows.gathered_by is not None:
        return len(_listed(rows.gathered_by, n)) / n
    return min(1.0, View(*rows.hull).tiles(n).total * rows.tile / n)


@dataclass(frozen=True)
class Counted:
    """Averages over n queries: keys in visited tiles, keys in partial ones, and runs of tiles of one kind."""

    area: float
    partial: float
    runs: float


@lru_cache(maxsize=4096)
def counted(segment: Segment, rows: Order, n: int, tables: tuple[Table, ...]) -> Counted:
    """Count what one segment would visit with n queries and n keys, by a sample of the row tiles if they are many."""
    return _counted(segment.keys, segment.condition, rows, n, tables)


@OrderTable
def _counted(keys: Order, condition: Expr, rows: Order, n: int, tables: tuple[Table, ...], /) -> Counted:
    """As :func:`counted`; dispatches on the order of the keys."""
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
    row_tiles = _RowTiles(condition, tables, [_taken(digit, taken) for digit in row_digits], n)
    kinds = row_tiles.kinds(order, keys).reshape(len(sampled), pieces, key_count)
    visited = (kinds != EMPTY).any(1)
    tiles = np.where(visited, np.where((kinds == FULL).all(1), FULL, PARTIAL), EMPTY)
    begins = visited.copy()
    begins[:, 1:] &= tiles[:, 1:] != tiles[:, :-1]
    each = row_count / len(sampled) * rows.tile / n
    keys_each = each * order.tile
    return Counted(visited.sum() * keys_each, (tiles == PARTIAL).sum() * keys_each, begins.sum() * each)


class _RowTiles:
    """Some row tiles, whose tiles with any key tiles it classifies by a condition."""

    def __init__(self, condition: Expr, tables: Sequence[Table], rows: Sequence[DigitRange], n: int) -> None:
        unread = {str(number): BoundTable(table, HostTable(None)) for number, table in enumerate(tables)}
        self._classifier = Classifier((condition,), CallShape(n, n, 8), unread)
        self._rows, self._n = rows, n

    def kinds(self, order: Order, keys: Sequence[DigitRange]) -> NDArray[np.int8]:
        """The kind of each tile ``[rows, keys]``: of groups of key tiles first, then of each tile in partial groups."""
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
    """At most ``most`` numbers below ``count``: a random one from each of equal stretches, with a fixed seed."""
    if count <= most:
        return np.arange(count)
    offsets = np.random.default_rng(count).random(most)
    return np.asarray((np.arange(most) + offsets) * count / most, np.int64)


def _tile_digits(order: Order, n: int, pieces: int) -> list[DigitRange]:
    """The positions in each tile of an order as digits; with ``pieces``, in each of the pieces into which it is cut."""
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
    """The tokens that a gathering condition lists; if it reads tables, some evenly spaced tokens instead."""
    if any(isinstance(node, Entry | Member) for node in walk(condition)):
        return np.arange(_SETS) * (n // _SETS)
    holds = evaluate(constructors.substitute(condition, {Q: K}), (), CallShape(n, 1), {})
    return np.flatnonzero(holds[0, 0, 0])


def _pieces(condition: Expr, rows: Order) -> int:
    """The number of pieces into which a row tile is cut because opaque functions read it by smaller blocks; else 1."""
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
    """The condition on ranks where the orders are sorted by them, and with table entries replaced by likely ones."""
    sides: list[tuple[Order, Position, Number]] = [(rows, Q, _RANKS[0]), (keys, K, _RANKS[1])]
    ranked: dict[Expr, Expr] = {order.sorted_by: rank for order, _, rank in sides if order.sorted_by is not None}
    if ranked:
        condition = constructors.substitute(condition, ranked)
        hidden: dict[Expr, Expr] = {side: Number(-3) for order, side, _ in sides if order.sorted_by is not None}
        condition = constructors.substitute(condition, hidden)
        condition = constructors.substitute(condition, {rank: position for _, position, rank in sides})
    return constructors.substitute(condition, dict(_contents(condition, n)))


def _contents(condition: Expr, n: int) -> Iterator[tuple[Expr, Expr]]:
    """Yields replacements for table entries.

    An entry that is compared with a block's number becomes a random one. The labels of tokens, such as documents,
    become the same for stretches of neighbours. A few blocks of keys, at random, are in a set of them. A divisor is the
    width of a square of all tokens.
    """
    for node in walk(condition):
        match node:
            case (
                Apply(op="eq" | "ne", args=(Entry() as entry, other))
                | Apply(op="eq" | "ne", args=(other, Entry() as entry))
            ):
                if isinstance(other, Entry):
                    for each in (entry, other):
                        if each.indices in ((Q,), (K,)) and each.type != "double":
                            label = constructors.floordiv(each.indices[0], n // _LABELS)
                            yield each, constructors.to_float(label) if each.type == "float" else label
                elif entry.type == "int" and (span := _span(other, n)):
                    yield entry, constructors.mod(constructors.hashed(Const(0), *entry.indices), span)
            case Member(element=element, indices=indices) if element != K and "k" in positions(element):
                span = _span(element, n)
                if span and not any("k" in positions(index) for index in indices):
                    chosen = constructors.mod(constructors.hashed(Const(0), element, *indices), Const(span))
                    yield node, constructors.less(chosen, Const(min(_BLOCKS, span)))
            case Apply(op="floordiv" | "mod", args=(_, Entry() as width)):
                yield width, Const(max(isqrt(n), 1))


def _span(x: Expr, n: int) -> int:
    """The number of values that a block's number takes; 0 if the expression is not one."""
    match x:
        case Position(name="q" | "k"):
            return n
        case Apply(op="floordiv", args=(inner, Const(value=int(divisor)))):
            return _span(inner, n) // divisor
        case _:
            return 0
