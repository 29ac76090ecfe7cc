"""What a kernel is made from: the numbers that are passed to it, the statements and the stages at which they run."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from attnc.compiler.arrange.search import arrange
from attnc.compiler.codegen.cpp.dialect import CppDialect
from attnc.compiler.codegen.cpp.stages import Stage, lower_in_stages
from attnc.compiler.codegen.lifting import lift_constants, restore_constants
from attnc.compiler.codegen.straight_line import Dialect, lower
from attnc.compiler.codegen.triton.dialect import TritonDialect
from attnc.compiler.ir.attentions import Attention
from attnc.compiler.ir.constructors import add, conjunction, less, less_equal, maximum, mul, sub
from attnc.compiler.ir.expressions import HEAD, TRUE, Apply, Const, Expr, K, N, Number, Q, walk
from attnc.compiler.modules.loader import bind, load_text
from attnc.compiler.plan.orders import Gathered, Sorted, Tiles
from attnc.compiler.plan.printer import program as described
from attnc.compiler.plan.programs import Kernel, Program
from tests.support.generators.random_expressions import Generator
from tests.support.generators.walked_masks import TILES, drawn_case, forced

WIDE = Tiles(64, 64)


def program(mask: str, parameters: str = "", **constants: int) -> Program:
    text = f"attention subject{parameters} {{ mask = {mask}   score = s + (q - k) / 7   sink = 0.5 }}"
    subject = bind(load_text(text, "<test>", Path()), "subject", constants)
    assert isinstance(subject, Attention)
    return arrange(subject, WIDE)


def expressions(subject: Program) -> list[Expr]:
    each = [x for kernel in subject.kernels for x in (kernel.owned_rows, *(part.condition for part in kernel.segments))]
    return [*each, subject.score, *([] if subject.sink is None else [subject.sink])]


def test_twelve_windows_have_one_structure() -> None:
    sizes = [32 * layer + 8 for layer in range(12)]
    mask, parameters = "window(size) or q in g or k in g", "(g: tokens, size: int)"
    lifted = [lift_constants(program(mask, parameters, size=size)) for size in sizes]
    assert len({program for program, _ in lifted}) == 1
    assert len({numbers for _, numbers in lifted}) == 12
    assert lifted[3].numbers == (sizes[3] // 2,) * 2  # of the window, and of the guard against it


def test_equal_numbers_stay_apart() -> None:
    mask, parameters = "-a <= q - k and q - k <= b", "(a: int, b: int)"
    differing, equal = (lift_constants(program(mask, parameters, a=a, b=b)) for a, b in ((3, 5), (4, 4)))
    assert differing.program == equal.program


def test_divisors_strides_and_floats_stay() -> None:
    found = lift_constants(program("(q - k) % 4 == 1 and q // 3 == k // 3"))
    kept = {node for x in expressions(found.program) for node in walk(x) if isinstance(node, Const)}
    assert kept == {Const(4), Const(3), Const(0.5), TRUE} | {node for node in kept if node.type == "float"}
    assert lift_constants(program("(q - k) % 4 == 1 and q // 3 == k // 3")) != lift_constants(
        program("(q - k) % 5 == 1 and q // 3 == k // 3")
    )


def test_what_no_kernel_reads_is_the_same_in_all() -> None:
    subject = program("k in g or q in g or window(8)", "(g: tokens)")
    lifted = lift_constants(subject).program
    assert lifted.mask == TRUE
    gathered = [order for kernel in lifted.kernels for order in _orders(kernel) if isinstance(order, Gathered)]
    assert len(gathered) == 2
    assert len(set(gathered)) == 1
    ranks = lift_constants(program("rank[q] // 8 == rank[k] // 8", "(rank: order[token])")).program
    (kernel,) = ranks.kernels
    (segment,) = kernel.segments
    assert isinstance(kernel.rows, Sorted)
    assert isinstance(segment.keys, Sorted)
    assert kernel.rows == segment.keys
    assert ranks == lift_constants(program("order[q] // 8 == order[k] // 8", "(order: order[token])")).program


def _orders(kernel: Kernel) -> list[object]:
    return [kernel.rows, *(segment.keys for segment in kernel.segments)]


@pytest.mark.parametrize("seed", range(60))
def test_with_its_numbers_back_a_program_is_what_it_was(seed: int) -> None:
    case = Generator(seed).case()
    drawn = drawn_case(seed)
    for subject in (case.program(8, 4), forced(drawn.mask, drawn.tables, Random(seed), TILES)):
        lifted = lift_constants(subject)
        assert lift_constants(lifted.program) == (lifted.program, ()), "numbers are taken out once"
        back = [restore_constants(x, lifted.numbers) for x in expressions(lifted.program)]
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


# Found in the text alone, as a reader would: a variable, or the field of a record that holds it.
VARIABLE = re.compile(r"\b(?:(?:head|row|key)\.)?t\d+\b")
# Each stage that has a record, and the stages that are known before it.
RECORDS: dict[Stage, tuple[Stage, ...]] = {"head": (), "row": ("head",), "key": ("head",)}


@pytest.mark.parametrize("seed", range(60))
def test_a_statement_names_what_it_reads(seed: int) -> None:
    case = Generator(seed).case()
    dialects: tuple[Dialect, ...] = (CppDialect(case.tables), TritonDialect(case.tables))
    for dialect in dialects:
        before: set[str] = set()
        for statement in lower([case.mask], dialect).statements:
            assert set(statement.operands) == set(VARIABLE.findall(statement.text)) <= before
            before.add(statement.reference)


@pytest.mark.parametrize("seed", range(60))
def test_each_stage_reads_what_is_known_there(seed: int) -> None:
    """A stage has its own variables and the records of the stages before it; a record has what others read."""
    drawn = Generator(seed)
    roots = [drawn.condition(3), drawn.condition(2)]
    stages = lower_in_stages(roots, CppDialect(tuple(drawn.tables)))
    lines = {stage: stages.statements(stage) for stage in RECORDS} | {"pair": stages.pair(*roots)}
    declared = {f"{stage}.{text.split(' ')[1].rstrip(';')}" for stage in RECORDS for text in stages.fields(stage)}
    wanted = {text for text in stages.spelled.values() if VARIABLE.fullmatch(text)}
    for stage, known in (*RECORDS.items(), ("pair", tuple(RECORDS))):
        own: set[str] = set()
        for line in lines[stage]:
            left, right = line.split(" = ", 1)
            read = set(VARIABLE.findall(right))
            assert all(name.partition(".")[0] in known for name in read - own)
            wanted |= read - own
            own.add(left.split(" ")[-1])
        assert {name for name in own if "." in name} == {name for name in declared if name.startswith(stage)}
    assert declared == {name for name in wanted if "." in name}


def test_a_value_is_computed_where_it_is_first_known() -> None:
    by_head, by_row, by_key = mul(HEAD, N), mul(Q, N), maximum(add(K, HEAD), mul(K, K))
    kept = conjunction(less(by_head, by_row), less_equal(by_key, sub(Q, K)))
    stages = lower_in_stages([kept], CppDialect(()))
    assert stages.fields("head") == ("Int t0;",)
    assert stages.statements("head") == ("head.t0 = head.index * head.n;",)
    assert stages.fields("row") == ("Bools t2;",)
    assert stages.statements("row") == ("const Ints t1 = row.q * head.n;", "row.t2 = truth(head.t0 < t1);")
    assert stages.fields("key") == ("Int t5;",)
    assert [line.partition(" = ")[0] for line in stages.statements("key")] == ["const Int t3", "const Int t4", "key.t5"]
    assert stages.straight(kept).statements == (
        "const Ints t6 = row.q - key.k;",
        "const Bools t7 = truth(key.t5 <= t6);",
        "const Bools t8 = all(row.t2, t7);",
    )
    assert stages.straight(kept).result == "t8"
