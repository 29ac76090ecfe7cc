"""Proposes orders that may bring the pairs of a term close together, read off the constants of its conditions.

The proposals are not evaluated here: :mod:`compiler.arrange.search` tries them and takes those that cost least.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import lcm
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..analysis import Term, linear
from ..ir import (
    Apply,
    CallShape,
    Const,
    Entry,
    Expr,
    K,
    Member,
    Position,
    Q,
    Table,
    constructors,
    is_opaque,
    positions,
    walk,
)
from ..oracle import evaluate
from ..plan import Axis, Box, Gathered, Members, Order, Sorted, Tiles, View, is_natural, natural
from .halo import halo

# The most classes of tokens in an order. Each has tiles of its own, so more would leave tiles nearly empty.
_MOST_CLASSES = 4096
# The longest period or line of an order, in tokens: of a longer one, a call would see only the first.
_LONGEST = 2**22
# The shortest line or column, in tokens, of what is treated as a grid.
_NARROWEST = 8
# Listing pays if it keeps at most one of _SPARSE tokens, which is counted below position _LISTED_BELOW.
_SPARSE, _LISTED_BELOW = 16, 2**16


@dataclass(frozen=True)
class OrderPair:
    """An order of rows and an order of keys, to be used together. ``members``: a set off which rows read their keys."""

    rows: Order
    keys: Order
    members: Members | None = None


@dataclass(frozen=True)
class SearchContext:
    """What the search for orders may use: tile sizes, tables, and the names of those tables that the host can read."""

    tiles: Tiles
    tables: tuple[Table, ...]
    readable: frozenset[str]


def walks(term: Term, known: SearchContext, natural_rows: bool) -> tuple[OrderPair, ...]:
    """The orders that suit a term, natural order first. ``natural_rows``: rows may be in natural order only."""
    rows = [*_side(term.rows, Q, known, known.tiles.query), *_block_rows(term, known)]
    keys = [*_side(term.columns, K, known, known.tiles.key)]
    kinds = (_sorted, _cyclic, _windows, _grids) if term.relation else ()
    pairs = [pair for orders in kinds for pair in orders(term, known)]
    plain = OrderPair(natural(known.tiles.query), natural(known.tiles.key))
    sides = product([plain.rows, *rows], [plain.keys, *keys])
    listed = [OrderPair(*both) for both in sides]
    listed += [OrderPair(pair.rows, key) for pair in pairs for key in (pair.keys, *keys)]
    listed += [replace(plain, members=members) for members in _members(term, known)]
    usable = dict.fromkeys(walk for walk in listed if not natural_rows or is_natural(walk.rows))
    return tuple(usable)


def _side(conjuncts: tuple[Expr, ...], position: Position, known: SearchContext, tile: int) -> Iterator[Order]:
    """Orders of exactly those tokens that meet conditions on one position."""
    repeating = [part for part in conjuncts if _period(part, position)]
    if repeating:
        yield from _window_of_period(constructors.conjunction(*repeating), position, tile)
    listed = [part for part in conjuncts if part not in repeating and _listed(part, known)]
    if listed:
        yield Gathered(constructors.conjunction(*listed), known.tiles.gathered)


def _members(term: Term, known: SearchContext) -> Iterator[Members]:
    """The sets whose members name the keys of each row, where kernels read them: one distance or one key each."""
    for conjunct in term.relation if known.tiles.by_row else ():
        if isinstance(conjunct, Member) and not any("k" in positions(index) for index in conjunct.indices):
            terms = linear(conjunct.element, {}).factors
            sign = terms.get(K, 0)
            if sign in (1, -1) and not any("k" in positions(part) for part in terms if part != K):
                yield Members(conjunct, sign, constructors.substitute(conjunct.element, {K: Const(0)}))


def _listed(conjunct: Expr, known: SearchContext) -> bool:
    """Whether few tokens are expected to meet a condition on one position, and the host can list them."""
    if isinstance(conjunct, Member):
        return all(node.table in known.readable for node in walk(conjunct) if isinstance(node, Entry | Member))
    return _few(conjunct)


def _few(conjunct: Expr) -> bool:
    """Whether a condition reads no tables and keeps few tokens, such as the first ones or a random choice."""
    names = positions(conjunct)
    if len(names) != 1 or any(isinstance(node, Entry | Member) for node in walk(conjunct)):
        return False
    holds = _along(conjunct, _LISTED_BELOW)
    return 0 < int(holds.sum()) <= _LISTED_BELOW // _SPARSE


def _along(condition: Expr, length: int) -> NDArray[np.bool_]:
    """The values of a condition on one position, at positions ``0 .. length - 1``."""
    extent = CallShape(length, 1) if positions(condition) <= {"k"} else CallShape(1, length)
    return np.asarray(evaluate(condition, (), extent, {}), dtype=bool).reshape(-1)


def _period(conjunct: Expr, position: Position) -> int:
    """The period of a condition that reads one position only through remainders, of it or of blocks of tokens; 0 for
    other conditions.
    """
    period = 1
    stack = [conjunct]
    while stack:
        match stack.pop():
            case Apply(op="mod", args=(x, Const(value=int(divisor)))) if (shape := _shape(x)) and shape[1] == position:
                period = lcm(period, shape[0] * divisor)
            case Apply(op=op, args=args) as node if op != "float" and not is_opaque(node):
                stack.extend(args)
            case Const():
                continue
            case _:
                return 0
    return period if 1 < period <= _MOST_CLASSES else 0


def _shape(x: Expr) -> tuple[int, Position] | None:
    """``(divisor, position)`` if an expression is ``position + constant`` or its quotient by a divisor; else None."""
    match x:
        case Position(name="q" | "k"):
            return 1, x
        case Apply(op="add", args=(inner, Const())):
            return _shape(inner)
        case Apply(op="floordiv", args=(inner, Const(value=int(divisor)))):
            shape = _shape(inner)
            return None if shape is None else (shape[0] * divisor, shape[1])
    return None


def _window_of_period(condition: Expr, position: Position, tile: int) -> Iterator[View]:
    """Yields views of the tokens that meet a periodic condition, if they are neighbours in each period."""
    period = 1
    for conjunct in condition.args if isinstance(condition, Apply) and condition.op == "and" else (condition,):
        period = lcm(period, _period(conjunct, position))
    if not 1 < period <= _MOST_CLASSES:
        return
    holds = np.flatnonzero(_along(condition, period))
    width = len(holds)
    if not width or width == period or holds[-1] - holds[0] >= width:
        return
    offset = int(holds[0])
    if width == 1:
        yield View((Axis(period, None, tile),), offset)
        return
    for size in (tile, tile // 2):
        minor = min(size, _power(width))
        yield View((Axis(period, None, size // minor), Axis(1, width, minor)), offset)


def _power(width: int) -> int:
    """The least power of two that is at least ``width``."""
    return 1 << (width - 1).bit_length()


def _block_rows(term: Term, known: SearchContext) -> Iterator[View]:
    """Yields natural order in smaller tiles, if a term distinguishes blocks of rows that are smaller than a tile."""
    sizes: set[int] = set()
    for node in walk(term.condition):
        if isinstance(node, Apply) and node.op == "floordiv":
            shape = _shape(node)
            if shape is not None and shape[1] == Q:
                sizes.add(shape[0])
        if isinstance(node, Apply) and node.op in ("lt", "le") and positions(node) == {"q"}:
            sizes |= {int(part.value) for part in node.args if isinstance(part, Const)}
    for size in sorted(sizes, reverse=True):
        if 16 <= size < known.tiles.query and known.tiles.query % size == 0:
            yield natural(size)


def _cyclic(term: Term, known: SearchContext) -> Iterator[OrderPair]:
    """Yields orders by residue class (of tokens, or of blocks of tokens), if a relation compares remainders."""
    for block, count in dict.fromkeys(_compared(term)):
        if 2 <= count <= _MOST_CLASSES:
            yield OrderPair(_classed(block, count, known.tiles.query), _classed(block, count, known.tiles.key))


def _compared(term: Term) -> Iterator[tuple[int, int]]:
    """Yields ``(block, classes)`` for each remainder that a relation reads: of blocks of ``block`` tokens."""
    for conjunct in term.relation:
        for node in _arithmetic(conjunct):
            if isinstance(node, Apply) and node.op == "mod":
                yield from ((block, count) for block, count in _classes(node) if block * count <= _LONGEST)


def _arithmetic(conjunct: Expr) -> Iterator[Expr]:
    """Yields the parts of a condition, except for the arguments of opaque functions and the indices of tables."""
    stack = [conjunct]
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, Apply) and not is_opaque(node):
            stack.extend(node.args)


def _classes(remainder: Apply) -> Iterator[tuple[int, int]]:
    """Yields ``(block, classes)`` for each position that a remainder reads."""
    x, divisor = remainder.args
    if not isinstance(divisor, Const):  # an order of its classes would be another for each divisor
        return
    stack = [x]
    while stack:
        node = stack.pop()
        shape = _shape(node)
        if shape is not None:
            yield shape[0], int(divisor.value)
        elif isinstance(node, Apply) and node.op in ("add", "sub", "neg"):
            stack.extend(node.args)
        elif isinstance(node, Apply) and node.op == "mod":
            match node.args:
                case (inner, Const(value=int(outer))) if not outer % int(divisor.value):
                    stack.append(inner)  # whose remainder is the same


def _classed(block: int, count: int, tile: int) -> View:
    """The tokens by residue: those of blocks ``0, count, 2 * count, …``, then of blocks ``1, count + 1, …``, etc."""
    if block == 1:
        return View((Axis(1, count), Axis(count, None, tile)))
    minor = min(tile, _power(block))
    return View((Axis(block, count), Axis(block * count, None, tile // minor), Axis(1, block, minor)))


def _grids(term: Term, known: SearchContext) -> Iterator[OrderPair]:
    """Yields orders in tiles of several lines by several columns, if a relation reads a token's line and column.

    If it reads planes, also in tiles of several planes. If all keys of a tile are near it, also with halo boxes.
    """
    compared = tuple(dict.fromkeys(_compared(term)))
    for strides, flat in product(_lattices(term), (0, 1)):
        if flat and len(strides) == 2:
            continue
        plain = tuple(_Line((), axis) for axis in _lines(strides))
        dilated = tuple(_dilated(line.along, compared) for line in plain)
        for lattice in dict.fromkeys((plain, dilated)):
            rows, keys = (_cubes(lattice, flat, tile) for tile in (known.tiles.query, known.tiles.key))
            around = halo(term.relation, rows)
            if around is not None:
                yield OrderPair(rows, Box(rows, *around, known.tiles.key))
            yield OrderPair(rows, keys)


def _windows(term: Term, known: SearchContext) -> Iterator[OrderPair]:
    """Yields orders by windows of a grid, if a relation reads in which a token's line and column lie.

    Windows whose sides are powers of two are tiles of the grid, which :func:`_grids` yields.
    """
    for width, _ in (strides for strides in _lattices(term) if len(strides) == 2):
        high, wide = dict[int, None](), dict[int, None]()
        for node in (node for conjunct in term.relation for node in walk(conjunct)):
            match node:
                case Apply(op="floordiv", args=(Apply(op="mod", args=(x, Const(value=of))), Const(value=int(side)))):
                    if of == width and _shape(x) == (1, x) and 1 < side < width and not width % side:
                        wide[side] = None
                case Apply(op="floordiv") if (shape := _shape(node)) and shape[0] > width and not shape[0] % width:
                    high[shape[0] // width] = None
        for sides in product(high, wide):
            if any(side & (side - 1) for side in sides):
                rows, keys = (_windowed(width, *sides, tile) for tile in (known.tiles.query, known.tiles.key))
                yield OrderPair(rows, keys)


def _windowed(width: int, high: int, wide: int, tile: int) -> View:
    """Windows of ``high`` lines by ``wide`` columns: to a tile some that lie side by side, or a part of one."""
    columns = min(_power(wide), tile)
    lines = min(_power(high), tile // columns)
    beside = tile // (lines * columns)
    return View(
        (Axis(high * width), Axis(wide, width // wide, beside), Axis(width, high, lines), Axis(1, wide, columns))
    )


def _lattices(term: Term) -> Iterator[tuple[int, ...]]:
    """Yields the strides of the coordinates that a relation reads, greatest first: of all, then of each width alone."""
    divisors: set[int] = set()
    moduli: set[int] = set()
    for node in (node for conjunct in term.relation for node in walk(conjunct)):
        match node:
            case Apply(op="floordiv" | "mod" as op, args=(x, Const(value=int(divisor)))) if shape := _shape(x):
                (divisors if op == "floordiv" else moduli).add(shape[0] * divisor)
    widths = [width for width in sorted(divisors & moduli) if _NARROWEST <= width <= _LONGEST]
    chain = [1]
    for width in widths:
        if width % chain[-1] == 0 and width >= _NARROWEST * chain[-1]:
            chain.append(width)
    if len(chain) > 2:
        yield tuple(reversed(chain))
    yield from ((width, 1) for width in widths)


def _lines(strides: tuple[int, ...]) -> list[Axis]:
    return [Axis(strides[0]), *(Axis(inner, outer // inner) for outer, inner in itertools.pairwise(strides))]


class _Line(NamedTuple):
    """One axis of a lattice of coordinates (``along``) and, if it is dilated, the axis of its residue classes."""

    classes: tuple[Axis, ...]
    along: Axis


def _dilated(axis: Axis, compared: Iterable[tuple[int, int]]) -> _Line:
    """An axis, split into residue classes if remainders of its coordinates are compared."""
    for block, count in compared:
        if block == axis.stride and 1 < count <= _MOST_CLASSES:
            if axis.length is None:
                return _Line((Axis(block, count),), Axis(block * count))
            if count < axis.length and not axis.length % count:
                return _Line((Axis(block, count),), Axis(block * count, axis.length // count))
    return _Line((), axis)


def _cubes(lattice: Sequence[_Line], flat: int, tile: int) -> View:
    """The view of a lattice in tiles of ``tile`` lanes (a power of two), equally long along all axes if possible.

    Otherwise the last axes are longer. Along the first ``flat`` axes, tiles have a length of 1.
    """
    count = len(lattice) - flat
    each, over = divmod(tile.bit_length() - 1, count)
    sizes = [1] * flat + [1 << (each + (place >= count - over)) for place in range(count)]
    classes = [axis for line in lattice for axis in line.classes]
    return View((*classes, *(replace(line.along, tile=size) for line, size in zip(lattice, sizes, strict=True))))


def _sorted(term: Term, known: SearchContext) -> Iterator[OrderPair]:
    """Yields the orders sorted by a table of ranks, if a relation compares the ranks of a row and of a key."""
    ranks: dict[str, dict[str, Entry]] = {}
    for conjunct in term.relation:
        for node in walk(conjunct):
            if isinstance(node, Entry) and known.tables[int(node.table)].element == "order" and node.indices:
                last = node.indices[-1]
                others = frozenset().union(*(positions(index) for index in node.indices[:-1]))
                if last in (Q, K) and others <= {"head"} and node.table in known.readable:
                    ranks.setdefault(node.table, {})["q" if last == Q else "k"] = node
    for sides in ranks.values():
        if len(sides) == 2:  # not always of one rank: Reformer's rounds see the last chunk of the round before
            yield OrderPair(Sorted(sides["q"], known.tiles.query), Sorted(sides["k"], known.tiles.key))
