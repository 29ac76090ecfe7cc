"""C++ kernels whose keys come in halo boxes: lines, grids and volumes, alone and beside other orders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from attnc.compiler.ir import constructors as f
from attnc.compiler.ir.expressions import TRUE, Const, Expr, K, Q
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.plan.orders import Axis, Box, Order, View, natural
from attnc.compiler.plan.programs import Kernel, Program
from attnc.compiler.schedule.statistics import totals
from attnc.runtime.base.configuration import settings
from attnc.runtime.base.launch import Launch
from attnc.runtime.cpp import executor
from tests.codegen.cpp.test_cpp import compare, inputs, run
from tests.codegen.cpp.test_cpp_columns import walk
from tests.codegen.cpp.test_cpp_exact import everything, margins, normal, same_bits
from tests.codegen.cpp.test_cpp_orders import only, segments
from tests.support.cpp_patterns import PATTERNS, random_tables
from tests.support.oracles.dense_formula import Grid, Pattern, Shape, attention, counts, launch, named

LINE, GRID = natural(8), View((Axis(7, None, 2), Axis(1, 7, 4)))
VOLUME = View((Axis(12, None, 2), Axis(4, 3, 2), Axis(1, 4, 3)))
OFFSET = View((Axis(8, None, 4), Axis(1, 3, 3)), 5)  # the last three of every eight
BOXES = {
    "a line": Box(LINE, (11,), (6,), 16),
    "a line, each box one tile": Box(LINE, (5,), (3,), 24),
    "a grid whose width is no multiple of the tile": Box(GRID, (3, 2), (1, 2), 16),
    "a grid, keys of the same column only": Box(GRID, (5, 0), (0, 0), 8),
    "a grid, keys of the same line only": Box(GRID, (0, 9), (0, 7), 32),
    "a volume": Box(VOLUME, (1, 1, 1), (2, 0, 2), 32),
}
TWO = ["a line", "a grid whose width is no multiple of the tile"]


@pytest.fixture(scope="module", autouse=True)
def _quick_builds() -> Iterator[None]:
    with settings.override(optimisation=0):
        yield


def near(box: Box) -> Expr:
    """Whether a pair's key is in reach of its query."""
    found = []
    for axis, before, after in zip(box.view.axes, box.before, box.after, strict=True):
        q, k = (f.floordiv(x, axis.stride) for x in (Q, K))
        if axis.length is not None:
            q, k = f.mod(q, axis.length), f.mod(k, axis.length)
        found += [f.less_equal(Const(-before), f.sub(k, q)), f.less_equal(f.sub(k, q), Const(after))]
    return f.conjunction(*found)


def in_reach(box: Box, grid: Grid) -> Tensor:
    """The same of all pairs."""
    found = torch.ones((), dtype=torch.bool)
    for axis, before, after in zip(box.view.axes, box.before, box.after, strict=True):
        q, k = grid.q // axis.stride, grid.k // axis.stride
        if axis.length is not None:
            q, k = q % axis.length, k % axis.length
        found = found & (-before <= k - q) & (k - q <= after)
    return found


def around(pattern: Pattern, box: Box) -> Pattern:
    """Of a pattern what is in reach."""
    return replace(
        pattern,
        mask=only(near(box), pattern.mask),
        keeps=lambda grid, tables: pattern.keeps(grid, tables) * in_reach(box, grid),
    )


def program(pattern: Pattern, rows: Order, keys: Order) -> Program:
    mask, score, sink = named(pattern)
    return Program((Kernel(rows, segments((keys, mask)), "store"),), mask, score, sink, pattern.tables)


def shape_of(box: Box, **sizes: Any) -> Shape:
    """Rows that begin in the middle, and some beyond the keys."""
    starts = box.alignment, 2 * box.alignment
    shape = Shape(m=53, n=71, batch=2, heads=4, kv_heads=2, head_dim=8, value_dim=5, starts=starts)
    return replace(shape, **sizes)


def check(
    pattern: Pattern, its: Program, shape: Shape, tolerance: float = 2e-5, dtype: torch.dtype = torch.float32,
    **rest: Any,
) -> None:  # fmt: skip
    qkv, grads, scale = inputs(shape, dtype)
    tables = random_tables(pattern, shape)
    call = launch(pattern, shape, qkv, tables, scale, program=its, **rest)
    dropout = {name: rest[name] for name in ("dropout", "seed") if name in rest}
    expected = attention(pattern, shape, qkv, tables, scale, grads, **dropout)
    compare(run(call, grads), expected, tolerance)


@pytest.mark.parametrize("which", BOXES)
@pytest.mark.parametrize("name", ["full", "counts"])
def test_boxes(name: str, which: str) -> None:
    box = BOXES[which]
    pattern = around(PATTERNS[name], box)
    check(pattern, program(pattern, box.view, box), shape_of(box))


@pytest.mark.parametrize("name", ["sink of each row, and a score", "relative bias", "global tokens"])
def test_sinks_and_tables(name: str) -> None:
    box = BOXES[TWO[1]]
    pattern = around(PATTERNS[name], box)
    check(pattern, program(pattern, box.view, box), shape_of(box))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3), (torch.float64, 1e-12)]
)
@pytest.mark.parametrize("which", TWO)
def test_types(which: str, dtype: torch.dtype, tolerance: float) -> None:
    pattern = around(PATTERNS["alibi"], BOXES[which])
    check(pattern, program(pattern, BOXES[which].view, BOXES[which]), shape_of(BOXES[which]), tolerance, dtype)


def test_dropout_and_positions_of_64_bits() -> None:
    box = BOXES[TWO[1]]
    pattern = around(PATTERNS["softcap"], box)
    shape = shape_of(box, m=20, n=41)
    check(pattern, program(pattern, box.view, box), shape, dropout=0.3, seed=12345678901234, wide=True)


@pytest.mark.parametrize("box", [Box(OFFSET, (2, 1), (3, 2), 8), Box(OFFSET, (0, 2), (9, 0), 16)])
def test_views_that_leave_tokens_out(box: Box) -> None:
    """Rows and keys 5, 6 and 7 of every eight; the other rows keep nothing."""
    pattern = Pattern(
        f.conjunction(*(f.less_equal(Const(5), f.mod(x, 8)) for x in (Q, K)), shifted(near(box))),
        lambda g, _: (g.q % 8 >= 5) & (g.k % 8 >= 5) & in_reach(box, replace(g, q=g.q - 5, k=g.k - 5)),
    )
    mask, score, sink = named(pattern)
    here = Kernel(box.view, segments((box, mask)), "merge", f.less_equal(Const(5), f.mod(Q, 8)))
    its = Program((Kernel(natural(8), (), "store"), here), mask, score, sink, ())
    check(pattern, its, shape_of(box))


def shifted(condition: Expr) -> Expr:
    """A condition of positions as one of positions less 5."""
    return f.substitute(condition, {x: f.sub(x, Const(5)) for x in (Q, K)})


@pytest.mark.parametrize("which", TWO)
@pytest.mark.parametrize("kernels", [1, 2])
def test_boxes_and_the_rest_in_other_orders(which: str, kernels: int) -> None:
    """Under one softmax, and merged."""
    box, pattern = BOXES[which], PATTERNS["counts"]
    mask, score, sink = named(pattern)
    both = segments((box, only(near(box), mask)), (natural(16), only(f.negation(near(box)), mask)))
    made = (
        (Kernel(box.view, both, "store"),)
        if kernels == 1
        else (Kernel(natural(24), both[1:], "store"), Kernel(box.view, both[:1], "merge"))
    )
    check(pattern, Program(made, mask, score, sink, ()), shape_of(box))


@pytest.mark.parametrize("which", BOXES)
def test_few_tokens_or_none(which: str) -> None:
    box = BOXES[which]
    pattern = around(PATTERNS["sink of each head"], box)
    for m, n in ((1, 1), (5, 0), (0, 5), (3, 90)):
        check(pattern, program(pattern, box.view, box), shape_of(box, m=m, n=n, kv_heads=4))


@pytest.mark.parametrize("which", TWO)
def test_the_same_bits_again_whatever_the_threads(which: str) -> None:
    box = BOXES[which]
    pattern = around(PATTERNS["full"], box)
    shape = shape_of(box, m=333, n=300, value_dim=8)
    call = launch(pattern, shape, normal(shape), {}, torch.ones(4), program=program(pattern, box.view, box))
    same_bits(call, torch.randn(2, 4, 333, 8, generator=torch.Generator().manual_seed(9)))


@pytest.mark.parametrize("which", BOXES)
def test_nothing_outside_the_tensors_is_read(which: str) -> None:
    """Boxes hang over the first token and over the last one."""
    box = BOXES[which]
    pattern = around(PATTERNS["full"], box)
    shape = shape_of(box, starts=(0, box.alignment))
    qkv, grad_out = normal(shape), torch.randn(2, 4, 53, 5, generator=torch.Generator().manual_seed(9))

    def found(tensors: list[Tensor], grad: Tensor) -> list[Tensor]:
        call = launch(pattern, shape, tensors, {}, torch.ones(4), program=program(pattern, box.view, box))
        return everything(call, grad)

    plain, amid = found(qkv, grad_out), found([margins(x, torch.nan) for x in qkv], margins(grad_out, torch.nan))
    assert all(torch.equal(a, b) for a, b in zip(plain, amid, strict=True))


WIDE = View((Axis(40, None, 8), Axis(1, 40, 8)))
AROUND = Box(WIDE, (6, 6), (6, 6), 64)
SQUARE = Shape(m=1600, n=1600, heads=2, kv_heads=1, head_dim=16, value_dim=16)


def neighbours(keys: Order, pattern: Pattern) -> Launch:
    qkv, _, scale = inputs(SQUARE)
    return launch(pattern, SQUARE, qkv, {}, scale, program=program(pattern, WIDE, keys))


def test_a_neighbourhood_of_13_by_13() -> None:
    """In boxes and in aligned tiles: both as the definition says."""
    pattern = around(Pattern(TRUE, lambda g, _: g.q >= 0), AROUND)
    qkv, grads, scale = inputs(SQUARE)
    expected = attention(pattern, SQUARE, qkv, {}, scale, grads)
    for keys in (AROUND, WIDE):
        compare(run(neighbours(keys, pattern), grads), expected, 2e-5)


def test_no_more_is_visited_than_the_area_says() -> None:
    pattern = around(Pattern(TRUE, lambda g, _: g.q >= 0), AROUND)
    call = neighbours(AROUND, pattern)
    found, walked = executor.columns(call), walk(call)
    assert round(totals(call.program, call.schedule, CallShape(1600, 1600, 2)).area * 2 * 1600) == walked.lanes
    kept = int(counts(pattern, SQUARE, {}).sum())
    assert kept <= found.multiplied <= found.visited == walked.pairs <= walked.lanes
    assert found.visited < executor.columns(neighbours(WIDE, pattern)).visited
