"""C++ kernels in any orders: several segments and kernels, views, listings, rows owned, heads apart, split visits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from attnc.compiler.codegen.lifting import lift_constants
from attnc.compiler.ir import constructors as f
from attnc.compiler.ir.expressions import FALSE, HEAD, TRUE, Const, Expr, K, Q
from attnc.compiler.plan.orders import Axis, Gathered, Order, Sorted, View, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.runtime.base.configuration import settings
from attnc.runtime.cpp import executor
from attnc.runtime.cpp.backend import CPP
from tests.codegen.cpp.test_cpp import compare, inputs, run
from tests.codegen.cpp.test_cpp_exact import everything, normal, same_bits
from tests.support import executors, handmade
from tests.support.cpp_patterns import PATTERNS, random_tables
from tests.support.oracles.dense_formula import Pattern, Shape, attention, launch, named

CASES = {case.name: case for case in handmade.cases()}
GRID = View((Axis(7, None, 2), Axis(1, 7, 4)))
TALL = View((Axis(7, None, 4), Axis(1, 7, 2)))
RESIDUES = View((Axis(1, 3), Axis(3, None, 8)))
BLOCKS = View((Axis(4, 3), Axis(12, None, 2), Axis(1, 4, 4)))
OFFSET = View((Axis(8, None, 3), Axis(1, 3, 3)), 5)  # the last three of every eight


@pytest.fixture(scope="module", autouse=True)
def _quick_builds() -> Iterator[None]:
    with settings.override(optimisation=0):
        yield


def only(condition: Expr, mask: Expr) -> Expr:
    """A mask, or a count, where a condition holds."""
    return f.filtered(condition, mask) if mask.type == "count" else f.conjunction(condition, mask)


def segments(*orders: tuple[Order, Expr]) -> tuple[Segment, ...]:
    return tuple(Segment(order, condition) for order, condition in orders)


def odd(x: Expr) -> Expr:
    return handmade.divisible(x, 2, 1)


def kernels(how: str, mask: Expr) -> tuple[Kernel, ...]:
    """The same pairs in other orders."""
    even_keys, third = f.negation(odd(K)), handmade.divisible(Q, 3, 1)
    behind, early, order = f.less(K, f.sub(Q, Const(9))), f.less(Q, Const(14)), natural(8)
    match how:
        case "residues":
            return (Kernel(RESIDUES, segments((RESIDUES, mask)), "store"),)
        case "a grid whose width is no multiple of the tile":
            return (Kernel(GRID, segments((TALL, mask)), "store"),)
        case "blocks by gathered keys":
            listed = (Gathered(odd(K), 8), only(odd(K), mask)), (Gathered(even_keys, 4), only(even_keys, mask))
            return (Kernel(BLOCKS, segments(*listed), "store"),)
        case "segments of different tiles":
            return (Kernel(natural(24), segments((natural(16), only(behind, mask)),
                                                 (RESIDUES, only(f.negation(behind), mask))), "store"),)  # fmt: skip
        case "rows gathered and the rest":
            first = Kernel(order, segments((natural(16), mask)), "store", f.negation(third))
            return (first, Kernel(Gathered(third, 16), segments((RESIDUES, mask)), "merge", third))
        case "keys shared out, some parts empty":
            first = Kernel(order, segments((order, only(behind, mask))), "store")
            second = Kernel(RESIDUES, segments((order, only(f.negation(f.disjunction(behind, odd(K))), mask))), "merge")
            rest = only(f.conjunction(f.negation(behind), odd(K)), mask)
            return (first, second, Kernel(Sorted(f.neg(Q), 16), segments((order, rest)), "merge"))  # type: ignore[arg-type]
        case "nothing stored first":
            late = f.negation(early)
            return (
                Kernel(order, (), "store"),
                Kernel(natural(16), segments((order, mask)), "merge", early),
                Kernel(GRID, segments((Sorted(f.neg(K), 8), mask)), "merge", late),  # type: ignore[arg-type]
            )
        case "heads apart":
            return (
                Kernel(order, segments((natural(16), mask)), "store", heads=(1, 2)),
                Kernel(RESIDUES, segments((order, only(behind, mask))), "store", heads=(3, 0)),
                Kernel(
                    order, segments((OFFSET, FALSE), (order, only(f.negation(behind), mask))), "merge", heads=(0, 3)
                ),
            )
    raise AssertionError(how)


ORDERS = (
    "residues", "a grid whose width is no multiple of the tile", "blocks by gathered keys",
    "segments of different tiles", "rows gathered and the rest", "keys shared out, some parts empty",
    "nothing stored first", "heads apart",
)  # fmt: skip
SHAPE = Shape(m=53, n=71, batch=2, heads=4, kv_heads=2, head_dim=8, value_dim=5, starts=(3, 18))


def program_in(how: str, pattern: Pattern) -> Program:
    mask, score, sink = named(pattern)
    return Program(kernels(how, mask), mask, score, sink, pattern.tables)


def check(
    pattern: Pattern, how: str, shape: Shape = SHAPE, tolerance: float = 2e-5, dtype: torch.dtype = torch.float32,
    **rest: object,
) -> None:  # fmt: skip
    qkv, grads, scale = inputs(shape, dtype)
    tables = random_tables(pattern, shape)
    call = launch(pattern, shape, qkv, tables, scale, program=program_in(how, pattern), **rest)  # type: ignore[arg-type]
    dropout = {name: rest[name] for name in ("dropout", "seed") if name in rest}
    expected = attention(pattern, shape, qkv, tables, scale, grads, **dropout)  # type: ignore[arg-type]
    compare(run(call, grads), expected, tolerance)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_programs_made_by_hand(name: str, dtype: torch.dtype) -> None:
    executors.check(
        CPP, CASES[name], executors.launch_of(CASES[name], dtype=dtype), 1e-11 if dtype == torch.float64 else 3e-5
    )


IN_ORDERS = ("counts", "sink of each row, and a score", "relative bias", "global tokens")


@pytest.mark.parametrize("how", ORDERS)
@pytest.mark.parametrize("turn", range(2))
def test_orders(turn: int, how: str) -> None:
    """Two of four patterns in each order: each pattern is walked in four of the orders."""
    check(PATTERNS[IN_ORDERS[(ORDERS.index(how) + 2 * turn) % 4]], how)


@pytest.mark.parametrize("how", ["blocks by gathered keys", "keys shared out, some parts empty", "heads apart"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3), (torch.float64, 1e-12)]
)
def test_types(how: str, dtype: torch.dtype, tolerance: float) -> None:
    check(PATTERNS["alibi"], how, dtype=dtype, tolerance=tolerance)


@pytest.mark.parametrize("how", ["segments of different tiles", "rows gathered and the rest", "heads apart"])
def test_dropout_drops_the_same_pairs_in_every_order(how: str) -> None:
    shape = Shape(20, 24, batch=2, heads=4, kv_heads=2, starts=(0, 5))
    check(PATTERNS["softcap"], how, shape, dropout=0.3, seed=12345678901234)
    check(PATTERNS["counts"], how, shape, dropout=0.3, seed=5)


@pytest.mark.parametrize("how", ["residues", "keys shared out, some parts empty"])
def test_positions_of_64_bits(how: str) -> None:
    check(PATTERNS["chosen blocks"], how, wide=True)


@pytest.mark.parametrize("how", ORDERS)
def test_few_tokens_or_none(how: str) -> None:
    for shape in (Shape(1, 1, heads=4, kv_heads=4), Shape(5, 0, heads=4), Shape(0, 5, heads=4)):
        check(PATTERNS["sink of each head"], how, shape)


def global_rows(rows: Expr, tile: int = 16) -> tuple[Kernel, ...]:
    first = Kernel(natural(64), segments((natural(64), f.less_equal(f.absolute(f.sub(Q, K)), Const(5)))), "store",
                   f.negation(rows))  # fmt: skip
    return (first, Kernel(Gathered(rows, tile), segments((natural(16), TRUE)), "merge", rows))


LONG = Shape(m=700, n=700, batch=1, heads=2, kv_heads=1, head_dim=8, value_dim=8)


@pytest.mark.parametrize("shape", [LONG, replace(LONG, m=90, starts=(400,))])
def test_few_rows_over_all_keys_are_split_along_the_keys(shape: Shape) -> None:
    rows = handmade.divisible(Q, 300, 7)
    mask = f.disjunction(rows, f.less_equal(f.absolute(f.sub(Q, K)), Const(5)))
    pattern = Pattern(mask, lambda g, _: (g.q % 300 == 7) | ((g.q - g.k).abs() <= 5))
    qkv, grads, scale = inputs(shape)
    program = Program(global_rows(rows), mask, *named(pattern)[1:], ())
    call = launch(pattern, shape, qkv, {}, scale, program=program)
    compare(run(call, grads), attention(pattern, shape, qkv, {}, scale, grads), 2e-5)


def test_a_sink_counts_once_for_rows_that_are_split_along_the_keys() -> None:
    """In the kernel that stores, beside another: so few rows see so many keys that each tile is split, too."""
    shape, rows = Shape(m=40, n=700, heads=2, starts=(660,)), handmade.divisible(Q, 7, 3)
    stores = Kernel(natural(16), segments((natural(16), handmade.CAUSAL)), "store", f.negation(rows))
    gathers = Kernel(Gathered(rows, 4), segments((natural(16), TRUE)), "merge", rows)
    pattern = replace(
        PATTERNS["sink of each head"],
        mask=f.disjunction(handmade.CAUSAL, rows),
        keeps=lambda g, _: (g.k <= g.q) | (g.q % 7 == 3),
    )
    qkv, grads, scale = inputs(shape)
    tables = random_tables(pattern, shape)
    program = Program((stores, gathers), *named(pattern), pattern.tables)
    call = launch(pattern, shape, qkv, tables, scale, program=program)
    compare(run(call, grads), attention(pattern, shape, qkv, tables, scale, grads), 2e-5)


@pytest.mark.parametrize("name", ["causal", "counts", "sink of each head", "relative bias"])
def test_one_query_over_many_keys(name: str) -> None:
    shape = Shape(1, 900, batch=1, heads=2, kv_heads=1, starts=(899,))
    pattern = PATTERNS[name]
    qkv, grads, scale = inputs(shape)
    tables = random_tables(pattern, shape)
    call = launch(pattern, shape, qkv, tables, scale)
    compare(run(call, grads), attention(pattern, shape, qkv, tables, scale, grads), 2e-5)


@pytest.mark.parametrize("name", ["global tokens", "sink of each row, and a score"])
@pytest.mark.parametrize("how", ["rows gathered and the rest", "keys shared out, some parts empty", "heads apart"])
def test_the_same_bits_again_whatever_the_threads(name: str, how: str) -> None:
    shape = replace(SHAPE, m=333, n=300)
    tables = random_tables(PATTERNS[name], shape)
    call = launch(PATTERNS[name], shape, normal(shape), tables, torch.ones(4), program=program_in(how, PATTERNS[name]))
    grad_out = torch.randn(2, 4, 333, 5, generator=torch.Generator().manual_seed(9))
    same_bits(call, grad_out)


def test_the_same_bits_of_split_visits_whatever_the_threads() -> None:
    rows = handmade.divisible(Q, 300, 7)
    pattern = Pattern(TRUE, lambda g, _: g.q >= 0)
    program = Program(global_rows(rows), TRUE, *named(pattern)[1:], ())
    call = launch(pattern, LONG, normal(LONG), {}, torch.ones(2), program=program)
    same_bits(call, torch.randn(1, 2, 700, 8, generator=torch.Generator().manual_seed(9)))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_rows_that_a_kernel_does_not_speak_for_may_hold_anything(value: float) -> None:
    """A bad query spoils its own row and the gradients of its own keys, in whichever kernel it is walked."""
    rows = handmade.divisible(Q, 300, 7)
    near = f.less_equal(f.absolute(f.sub(Q, K)), Const(5))
    mask = f.conjunction(f.disjunction(rows, near), f.not_equal(Q, Const(77)))
    pattern = Pattern(mask, lambda g, _: ((g.q % 300 == 7) | ((g.q - g.k).abs() <= 5)) & (g.q != 77))
    owned = f.conjunction(f.negation(rows), f.not_equal(Q, Const(77)))
    first, second = global_rows(rows)
    program = Program((replace(first, owned_rows=owned), second), mask, *named(pattern)[1:], ())
    qkv = normal(LONG)
    grad_out = torch.randn(1, 2, 700, 8, generator=torch.Generator().manual_seed(9))
    plain = everything(launch(pattern, LONG, qkv, {}, torch.ones(2), program=program), grad_out)
    qkv[0][:, :, 77] = value
    grad_out[:, :, 77] = value
    found = everything(launch(pattern, LONG, qkv, {}, torch.ones(2), program=program), grad_out)
    assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))
    assert (found[1][:, :, 77] == -torch.inf).all()


@pytest.mark.parametrize("numbers", [(3, 9), (8, 2)])
def test_heads_and_numbers_are_arguments(numbers: tuple[int, int]) -> None:
    """Other windows and other heads, the same source: see also the count of sources below."""
    pattern = windows(*numbers)
    qkv, grads, scale = inputs(SHAPE)
    call = launch(pattern, SHAPE, qkv, {}, scale, program=windows_program(pattern, *numbers))
    compare(run(call, grads), attention(pattern, SHAPE, qkv, {}, scale, grads), 2e-5)


def windows(near: int, far: int) -> Pattern:
    mask = f.choose(f.less(HEAD, Const(2)), handmade.within(near), handmade.within(far))
    return Pattern(mask, lambda g, _: (g.q - g.k).abs() <= torch.where(g.head < 2, near, far))


def windows_program(pattern: Pattern, near: int, far: int) -> Program:
    heads = (0, 1), (2, 3)
    parts = (Kernel(natural(16), segments((natural(16), handmade.within(reach))), "store", heads=its)
             for reach, its in zip((near, far), heads, strict=True))  # fmt: skip
    return Program(tuple(parts), *named(pattern), ())


def test_programs_that_differ_in_numbers_and_heads_share_one_source() -> None:
    calls = [
        launch(windows(*numbers), SHAPE, normal(SHAPE), {}, torch.ones(4), program=program)
        for numbers in ((3, 9), (8, 2))
        for program in (windows_program(windows(*numbers), *numbers),)
    ]
    other = tuple(replace(kernel, heads=heads) for kernel, heads in
                  zip(calls[0].program.kernels, ((3, 1), (0, 2)), strict=True))  # fmt: skip
    programs = [calls[0].program, calls[1].program, replace(calls[0].program, kernels=other)]
    variant = executor.source_variant("backward", calls[0])
    assert len({CPP.render(lift_constants(program).program, variant).text for program in programs}) == 1
