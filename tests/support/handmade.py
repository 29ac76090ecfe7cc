"""Programs made by hand: every kind of order, several segments and kernels, rows owned, heads apart, sinks, counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import Dimension, Table
from attnc.compiler.ir.expressions import FALSE, HEAD, LOGIT, TRUE, Const, Entry, Expr, K, Member, Q
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.plan.orders import Axis, Box, Gathered, Sorted, View, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment


@dataclass(frozen=True)
class Case:
    """A program, and a launch for which it is right."""

    name: str
    program: Program
    extent: CallShape
    contents: tuple[HostTable, ...] = ()


D = constructors.sub(Q, K)
CAUSAL = constructors.less_equal(K, Q)
GLOBALS = Table("g", "set", ())
WEIGHT = Table("weight", "float", (Dimension("token"),))  # the last table of each program


def within(reach: int) -> Expr:
    return constructors.less_equal(constructors.absolute(D), Const(reach))


def divisible(x: Expr, by: int, remainder: int = 0) -> Expr:
    return constructors.equal(constructors.mod(x, by), Const(remainder))


def residues(modulus: int, tile: int) -> View:
    return View((Axis(1, modulus), Axis(modulus, None, tile)))


def everything(mask: Expr, *kernels: Kernel, tables: tuple[Table, ...] = (), sink: bool = False) -> Program:
    """The score is the logit, a tenth of the distance and the key's weight; the sink a quarter and the query's."""
    number = str(len(tables))
    of_query, of_key = (Entry(number, (position,), "float") for position in (Q, K))
    score = constructors.add(LOGIT, constructors.mul(Const(0.1), constructors.to_float(D)), of_key)
    return Program(kernels, mask, score, constructors.add(Const(0.25), of_query) if sink else None, (*tables, WEIGHT))


def longformer(rows: int = 8, keys: int = 4) -> Program:
    """A band, a few gathered columns, and the rows of the same few positions in a kernel of their own."""
    of_query, of_key, band = Member(Q, "0", ()), Member(K, "0", ()), within(5)
    kernel = Kernel(
        natural(rows),
        (
            Segment(natural(keys), band),
            Segment(Gathered(of_key, keys), constructors.negation(band)),
        ),
        "store",
        constructors.negation(of_query),
    )
    globals_ = Kernel(Gathered(of_query, 2), (Segment(natural(keys), TRUE),), "merge", of_query)
    return everything(constructors.disjunction(band, of_query, of_key), kernel, globals_, tables=(GLOBALS,))


def strided(stride: int = 5) -> Program:
    """A window in natural order, and what is older in the order of residues."""
    near, older = (
        constructors.conjunction(CAUSAL, constructors.less(D, Const(stride))),
        constructors.less_equal(Const(stride), D),
    )
    columns = constructors.conjunction(older, divisible(D, stride))
    return everything(
        constructors.disjunction(near, columns),
        Kernel(natural(8), (Segment(natural(4), near),), "store"),
        Kernel(residues(stride, 2), (Segment(residues(stride, 4), columns),), "merge"),
        sink=True,
    )


def sublattice() -> Program:
    """Rows 1, 4, 7, … against keys 1, 4, 7, …: the other rows keep nothing."""
    here = View((Axis(3, None, 4),), 1)
    mask = constructors.conjunction(divisible(Q, 3, 1), divisible(K, 3, 1))
    return everything(
        mask, Kernel(natural(8), (), "store"), Kernel(here, (Segment(here, mask),), "merge", divisible(Q, 3, 1))
    )


def blocks() -> Program:
    """Every third block of four keys sees every third block, causally."""
    order = View((Axis(4, 3), Axis(12), Axis(1, 4, 4)))
    mask = constructors.conjunction(
        CAUSAL, divisible(constructors.sub(constructors.floordiv(Q, 4), constructors.floordiv(K, 4)), 3)
    )
    return everything(mask, Kernel(order, (Segment(order, mask),), "store"))


def grid(width: int = 7) -> Program:
    """A neighbourhood of 3 by 3 on a grid whose width is no multiple of the tile."""

    def near(a: Expr, b: Expr) -> Expr:
        return constructors.less_equal(constructors.absolute(constructors.sub(a, b)), Const(1))

    mask = constructors.conjunction(
        near(constructors.floordiv(Q, width), constructors.floordiv(K, width)),
        near(constructors.mod(Q, width), constructors.mod(K, width)),
    )
    rows, keys = (View((Axis(width, None, a), Axis(1, width, b))) for a, b in ((2, 4), (4, 2)))
    return everything(mask, Kernel(rows, (Segment(keys, mask),), "store"))


def neighbourhood(width: int, lines: tuple[int, int], columns: int) -> Expr:
    """On a grid so wide: keys so many lines from their queries, the least and the most, and at most so many columns."""
    line = constructors.sub(constructors.floordiv(K, width), constructors.floordiv(Q, width))
    column = constructors.sub(constructors.mod(K, width), constructors.mod(Q, width))
    return constructors.conjunction(
        constructors.less_equal(Const(lines[0]), line),
        constructors.less_equal(line, Const(lines[1])),
        constructors.less_equal(constructors.absolute(column), Const(columns)),
    )


def boxes(width: int = 7, tile: int = 8) -> Program:
    """A neighbourhood of 3 lines before and 1 behind by 2 columns on either side, with the box around each tile."""
    mask = neighbourhood(width, (-3, 1), 2)
    rows = View((Axis(width, None, 2), Axis(1, width, 4)))
    return everything(mask, Kernel(rows, (Segment(Box(rows, (3, 2), (1, 2), tile), mask),), "store"))


def dilated_boxes(width: int = 10, tile: int = 8) -> Program:
    """Every other line and every other column of a neighbourhood, lines and columns in classes of their own."""
    steps = [constructors.sub(constructors.floordiv(K, width), constructors.floordiv(Q, width)), constructors.sub(K, Q)]
    mask = constructors.conjunction(neighbourhood(width, (-2, 4), 3), *(divisible(step, 2) for step in steps))
    rows = View((Axis(width, 2), Axis(1, 2), Axis(2 * width, None, 2), Axis(2, width // 2, 2)))
    return everything(mask, Kernel(rows, (Segment(Box(rows, (0, 0, 1, 1), (0, 0, 2, 1), tile), mask),), "store"))


def buckets() -> Program:
    """Rows and keys walked in a given order, near in it."""
    order = Table("rank", "order", (Dimension("token"),))
    rank = [Entry("0", (position,), "int") for position in (Q, K)]
    mask = constructors.less_equal(constructors.absolute(constructors.sub(*rank)), Const(3))
    return everything(mask, Kernel(Sorted(rank[0], 4), (Segment(Sorted(rank[1], 2), mask),), "store"), tables=(order,))


def counted() -> Program:
    """Pairs of a window count once more where the key is even; the parts are segments of different orders."""
    first, second = within(4), constructors.conjunction(CAUSAL, divisible(K, 2))
    kernel = Kernel(natural(4), (Segment(natural(8), first), Segment(Gathered(divisible(K, 2), 4), CAUSAL)), "store")
    return everything(constructors.plus(first, second), kernel)


def groups() -> Program:
    """Heads 0 and 2 dilated, head 1 not; every head has its own store."""
    dilated, plain = constructors.conjunction(within(8), divisible(D, 4)), within(3)
    mask = constructors.choose(constructors.equal(HEAD, Const(1)), plain, dilated)
    order = residues(4, 2)
    return everything(
        mask,
        Kernel(order, (Segment(order, dilated),), "store", heads=(0, 2)),
        Kernel(natural(4), (Segment(natural(4), plain),), "store", heads=(1,)),
    )


def by_head() -> Program:
    """Gathered keys that differ from head to head and from one entry of the batch to another."""
    chosen = Table("c", "set", (Dimension("head"),))
    of_key = Member(K, "0", (HEAD,))
    mask = constructors.conjunction(of_key, CAUSAL)
    return everything(mask, Kernel(natural(8), (Segment(Gathered(of_key, 4), CAUSAL),), "store"), tables=(chosen,))


def nothing() -> Program:
    return everything(FALSE, Kernel(natural(4), (), "store"), sink=True)


def _bits(shape: tuple[int, ...], *members: int) -> HostTable:
    held = np.zeros(shape, bool)
    held[..., list(members)] = True
    return HostTable(held)


def cases() -> list[Case]:
    """All of them, each for a launch of an odd size; some at later positions."""
    draw = np.random.default_rng(5)
    chosen = HostTable(draw.random((2, 3, 29)) < 0.2, batched=True)
    made = [
        Case("longformer", longformer(), CallShape(37, 37, 2), (_bits((30,), 0, 3, 17),)),
        Case("longformer later", longformer(), CallShape(37, 20, 2, (9, 17)), (_bits((60,), 0, 13, 36),)),
        Case("longformer without globals", longformer(), CallShape(21, 21), (_bits((1,)),)),
        Case("longformer of many", longformer(), CallShape(23, 23), (_bits((23,), *range(0, 23, 2)),)),
        Case("strided", strided(), CallShape(33, 33, 2)),
        Case("strided later", strided(), CallShape(43, 13, 1, (30,))),
        Case("sublattice", sublattice(), CallShape(20, 20)),
        Case("blocks", blocks(), CallShape(41, 41)),
        Case("grid", grid(), CallShape(7 * 6 + 3, 7 * 6 + 3, 2)),
        Case("grid of fewer rows", grid(), CallShape(45, 12, 1, (14,))),
        Case("boxes", boxes(), CallShape(7 * 7 + 3, 7 * 7 + 3, 2)),
        Case("boxes of fewer rows", boxes(tile=16), CallShape(59, 11, 1, (14, 42))),
        Case("boxes of rows beyond the keys", boxes(tile=4), CallShape(40, 30, 1, (28,))),
        Case("boxes wider than the grid", boxes(3), CallShape(32, 32)),
        Case("dilated boxes", dilated_boxes(), CallShape(37, 37, 1)),
        Case("dilated boxes of fewer rows", dilated_boxes(tile=4), CallShape(47, 15, 1, (40,))),
        Case("buckets", buckets(), CallShape(26, 26, 2), (HostTable(draw.permutation(26).astype(np.int32)),)),
        Case(
            "buckets of each entry",
            buckets(),
            CallShape(19, 19),
            (HostTable(np.stack([draw.permutation(19) for _ in range(3)]), batched=True),),
        ),
        Case("counted", counted(), CallShape(31, 31)),
        Case("groups", groups(), CallShape(21, 21, 3)),
        Case("by head", by_head(), CallShape(29, 29, 3), (chosen,)),
        Case("nothing", nothing(), CallShape(9, 9, 2)),
        Case("one token", strided(), CallShape(1, 1)),
    ]
    return [
        Case(case.name, case.program, case.extent, (*case.contents, HostTable(draw.normal(size=case.extent.n))))
        for case in made
    ]
