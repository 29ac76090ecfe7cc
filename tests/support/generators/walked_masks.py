"""Masks for which orders are found, each term walked as drawn: programs whose pairs a test can count."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from attnc.compiler.analysis.normal_form import normalise, parts
from attnc.compiler.arrange.assemble import AssignedTerm, assemble
from attnc.compiler.arrange.candidates import SearchContext, walks
from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import Dimension, Table
from attnc.compiler.ir.expressions import LOGIT, Const, Entry, Expr, K, Member, Position, Q
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.plan.orders import Axis, Box, Gathered, Order, Sorted, Tiles, View
from attnc.compiler.plan.programs import Kernel, Program
from tests.support.generators.random_expressions import Case, dense

TILES = Tiles(8, 4, 2)
DISTANCE = constructors.sub(Q, K)
TABLES = (
    Table("globals", "set", ()),
    Table("rank", "order", (Dimension("token"),)),
    Table("label", "int", (Dimension("token"),)),
)


def drawn_case(seed: int) -> Case:
    """A mask of bands, blocks, remainders, constant lists, sets and ranks; m = n, so that rows have ranks."""
    draw = Random(seed)
    random = np.random.default_rng(seed)
    n = draw.randint(1, 64)
    contents = (
        HostTable(random.random(draw.randint(1, n)) < 0.1),
        HostTable(random.permutation(n)),
        HostTable(np.sort(random.integers(0, 4, n))),
    )
    made = [_condition(draw, draw.randint(1, 3)) for _ in range(draw.choice((1, 1, 1, 2, 3)))]
    return Case(constructors.plus(*made), TABLES, contents, CallShape(n, n))


def _condition(draw: Random, depth: int) -> Expr:
    choice = draw.random()
    if depth and choice < 0.8:
        join = constructors.disjunction if choice < 0.45 else constructors.conjunction
        return join(*(_condition(draw, depth - 1) for _ in range(draw.randint(2, 3))))
    return constructors.negation(_test(draw)) if draw.random() < 0.1 else _test(draw)


def _test(draw: Random) -> Expr:
    size = draw.choice((2, 3, 4, 5, 8, 12))
    position = draw.choice((Q, K))
    match draw.randrange(13):
        case 0:
            return constructors.less_equal(K, Q)
        case 1:
            return constructors.less_equal(constructors.absolute(DISTANCE), Const(size))
        case 2:
            return constructors.equal(constructors.mod(DISTANCE, size), Const(draw.choice((0, 0, 1))))
        case 3:
            return constructors.equal(constructors.mod(Q, size), constructors.mod(K, size))
        case 4:
            blocks = constructors.sub(constructors.floordiv(Q, size), constructors.floordiv(K, size))
            return constructors.equal(constructors.mod(blocks, draw.choice((2, 3))), Const(0))
        case 5:
            return constructors.equal(constructors.mod(position, size), Const(draw.randrange(size)))
        case 6:
            return constructors.less_equal(Const(draw.randrange(size)), constructors.mod(position, size))
        case 7:
            return constructors.equal(constructors.floordiv(Q, size), constructors.floordiv(K, size))
        case 8:
            return Member(position, "0", ())
        case 9:
            return constructors.less(position, Const(size))
        case 10:
            ranks = (constructors.floordiv(Entry("1", (side,), "int"), size) for side in (Q, K))
            return constructors.equal(*ranks)
        case 11:
            return _neighbourhood(draw)
        case _:
            labels = (Entry("2", (side,), "int") for side in (Q, K))
            return constructors.equal(*labels)


def _neighbourhood(draw: Random) -> Expr:
    """On a grid, some of every other line or column only."""
    width = draw.choice((8, 8, 12))
    steps = [constructors.sub(split(Q, width), split(K, width)) for split in (constructors.floordiv, constructors.mod)]
    near: list[Expr] = []
    for step in steps:
        dilation = draw.choice((1, 1, 2))
        near.append(constructors.less_equal(constructors.absolute(step), Const(dilation * draw.randrange(3))))
        near += [constructors.equal(constructors.mod(step, dilation), Const(0))] if dilation > 1 else []
    return constructors.conjunction(*near)


def forced(
    mask: Expr, tables: Sequence[Table], draw: Random, tiles: Tiles = TILES, natural_rows: bool = False
) -> Program:
    """A program of the mask, each of its terms in one of the walks that suit it, at random."""
    known = SearchContext(tiles, tables, frozenset(str(number) for number in range(len(tables))))
    placed = tuple(
        AssignedTerm(number, term, draw.choice(walks(term, known, natural_rows)))
        for number, part in enumerate(normalise(mask))
        for term in part
    )
    kernels = assemble(placed, parts(mask), tiles, tables)
    return Program(kernels, mask, LOGIT, None, tuple(tables))


def counted(kernels: Sequence[Kernel], case: Case) -> NDArray[np.int64]:
    """How often the kernels keep each pair, [batch, heads, m, n]."""
    extent = case.extent
    total = np.zeros((1, extent.heads, extent.m, extent.n), np.int64)
    for kernel in kernels:
        heads = np.ones(extent.heads, bool) if kernel.heads is None else np.isin(np.arange(extent.heads), kernel.heads)
        rows = walked(kernel.rows, Q, case) & dense(kernel.owned_rows, case.tables, case.contents, extent)
        for segment in kernel.segments:
            kept = dense(segment.condition, case.tables, case.contents, extent).astype(np.int64)
            total = total + kept * (rows & walked(segment.keys, K, case)) * heads[:, np.newaxis, np.newaxis]
    return total


def walked(order: Order, side: Position, case: Case) -> NDArray[np.bool_]:
    """Which tokens an order has, along the axis of its side; of a box, for each row."""
    match order:
        case Gathered(condition=condition):
            return dense(condition, case.tables, case.contents, case.extent)
        case Sorted():
            return np.ones((1, 1, 1, 1), bool)
        case Box():
            return boxed(order, case.extent)
    count = case.extent.m if side == Q else case.extent.n
    there = np.zeros(count, bool)
    tokens = all_tokens(order, count)
    there[tokens] = True
    return there.reshape((1, 1, count, 1) if side == Q else (1, 1, 1, count))


def boxed(order: Box, extent: CallShape) -> NDArray[np.bool_]:
    """Which keys are in the box around the tile of each row, by their coordinates."""
    start = np.array(extent.q_start).reshape(-1, 1, 1, 1)
    row, key = start + np.arange(extent.m).reshape(-1, 1), np.arange(extent.n)
    there = np.ones((1, 1, 1, 1), bool)
    for axis, before, after in zip(order.view.axes, order.before, order.after, strict=True):
        of_row, of_key = ((x - order.view.offset) // axis.stride for x in (row, key))
        if axis.length is not None:
            of_row, of_key = of_row % axis.length, of_key % axis.length
        first = of_row // axis.tile * axis.tile
        there = there & (first - before <= of_key) & (of_key < first + axis.tile + after)
    return there


def all_tokens(view: View, count: int) -> NDArray[np.int64]:
    """The tokens of a view, tile by tile and lane by lane, without the lanes that hold none."""
    tokens = np.full(1, view.offset)
    for axis in view.axes:
        tiles = view.main_tiles(count) if axis.length is None else axis.tiles
        along = np.arange(tiles * axis.tile)
        along = along[along < _length(axis, count)] * axis.stride
        tokens = (tokens[:, np.newaxis] + along).reshape(-1)
    return tokens[tokens < count]


def _length(axis: Axis, count: int) -> int:
    return count if axis.length is None else axis.length
