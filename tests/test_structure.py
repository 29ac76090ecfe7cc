"""What a kernel is made from, and the numbers that are passed to it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from attnc.compiler.arrange.search import arrange
from attnc.compiler.codegen.lifting import filled, lift
from attnc.compiler.ir.attentions import Attention
from attnc.compiler.ir.expressions import TRUE, Apply, Const, Expr, Number, walk
from attnc.compiler.modules.loader import bind, load_text
from attnc.compiler.plan.orders import Gathered, Sorted, Tiles
from attnc.compiler.plan.printer import program as described
from attnc.compiler.plan.programs import Kernel, Program

from .random_expressions import Generator
from .walked_masks import TILES, drawn_case, forced

WIDE = Tiles(64, 64)


def program(mask: str, parameters: str = "", **constants: int) -> Program:
    text = f"attention subject{parameters} {{ mask = {mask}   score = s + (q - k) / 7   sink = 0.5 }}"
    subject = bind(load_text(text, "<test>", Path()), "subject", constants)
    assert isinstance(subject, Attention)
    return arrange(subject, WIDE)


def expressions(subject: Program) -> list[Expr]:
    each = [x for kernel in subject.kernels for x in (kernel.where, *(part.condition for part in kernel.segments))]
    return [*each, subject.score, *([] if subject.sink is None else [subject.sink])]


def test_twelve_windows_have_one_structure() -> None:
    sizes = [32 * layer + 8 for layer in range(12)]
    lifted = [lift(program("window(size) or q in g or k in g", "(g: tokens, size: int)", size=size)) for size in sizes]
    assert len({program for program, _ in lifted}) == 1
    assert len({numbers for _, numbers in lifted}) == 12
    assert lifted[3].numbers == (sizes[3] // 2,) * 2  # of the window, and of the guard against it


def test_equal_numbers_stay_apart() -> None:
    mask, parameters = "-a <= q - k and q - k <= b", "(a: int, b: int)"
    differing, equal = (lift(program(mask, parameters, a=a, b=b)) for a, b in ((3, 5), (4, 4)))
    assert differing.program == equal.program


def test_divisors_strides_and_floats_stay() -> None:
    found = lift(program("(q - k) % 4 == 1 and q // 3 == k // 3"))
    kept = {node for x in expressions(found.program) for node in walk(x) if isinstance(node, Const)}
    assert kept == {Const(4), Const(3), Const(0.5), TRUE} | {node for node in kept if node.type == "float"}
    assert lift(program("(q - k) % 4 == 1 and q // 3 == k // 3")) != lift(
        program("(q - k) % 5 == 1 and q // 3 == k // 3")
    )


def test_what_no_kernel_reads_is_the_same_in_all() -> None:
    subject = program("k in g or q in g or window(8)", "(g: tokens)")
    lifted = lift(subject).program
    assert lifted.mask == TRUE
    gathered = [order for kernel in lifted.kernels for order in _orders(kernel) if isinstance(order, Gathered)]
    assert len(gathered) == 2
    assert len(set(gathered)) == 1
    ranks = lift(program("rank[q] // 8 == rank[k] // 8", "(rank: order[token])")).program
    (kernel,) = ranks.kernels
    (segment,) = kernel.segments
    assert isinstance(kernel.rows, Sorted)
    assert isinstance(segment.keys, Sorted)
    assert kernel.rows == segment.keys
    assert ranks == lift(program("order[q] // 8 == order[k] // 8", "(order: order[token])")).program


def _orders(kernel: Kernel) -> list[object]:
    return [kernel.rows, *(segment.keys for segment in kernel.segments)]


@pytest.mark.parametrize("seed", range(60))
def test_with_its_numbers_back_a_program_is_what_it_was(seed: int) -> None:
    case = Generator(seed).case()
    drawn = drawn_case(seed)
    for subject in (case.program(8, 4), forced(drawn.mask, drawn.tables, Random(seed), TILES)):
        lifted = lift(subject)
        back = [filled(x, lifted.numbers) for x in expressions(lifted.program)]
        assert back == expressions(subject), described(subject)
        for expr in expressions(lifted.program):
            _only_divisors(expr)
        assert set(range(len(lifted.numbers))) == {
            node.index for x in expressions(lifted.program) for node in walk(x) if isinstance(node, Number)
        }


def _only_divisors(expr: Expr) -> None:
    """An integer constant stands behind ``//`` and ``%`` alone."""
    for node in walk(expr):
        if isinstance(node, Apply):
            parts = node.args[:1] if node.op in ("floordiv", "mod") else node.args
            assert not any(isinstance(part, Const) and part.type == "int" for part in parts)
