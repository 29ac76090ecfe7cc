"""Every operation of the table: the same in Python, numpy, PyTorch and the text, spelled by each target, analysed.

Nothing here names a function: one that is added to the table is asked all of this.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, get_args

import numpy as np
import pytest
import torch
import triton.language as tl

import attnc
from attnc.compiler.analysis.classify import Boxes, Classifier, DigitRange
from attnc.compiler.analysis.shift import shift_divisor
from attnc.compiler.codegen.cpp.dialect import CppDialect
from attnc.compiler.codegen.straight_line import lower
from attnc.compiler.codegen.triton.dialect import TritonDialect
from attnc.compiler.diagnostics.diagnostic import AttnError
from attnc.compiler.ir import constructors, printer
from attnc.compiler.ir.attentions import Dimension, Table
from attnc.compiler.ir.derivatives import derivative
from attnc.compiler.ir.expressions import LOGIT, TRUE, Apply, Const, Entry, Expr, K, N, Q, walk
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.ir.operations import FUNCTIONS, OPERATIONS, ROUNDINGS, Op, Operation, Type
from attnc.compiler.oracle.interpreter import NumpyArrays, TableValues, environment, evaluate, interpret
from attnc.compiler.plan.orders import EMPTY, FULL
from attnc.compiler.syntax.grammar import vocabulary
from tests.support.operation_cases import ARRAYS, called

ROOT = Path(__file__).parents[2]
TABLE = sorted(OPERATIONS.values(), key=lambda operation: operation.op)
GIVING_INTS = [o for o in TABLE if o.type_of(o.takes[0]) == "int"]
GIVING_FLOATS = [o for o in TABLE if o.type_of(o.takes[-1]) == "float" or (None is o.gives and "float" in o.takes)]
EVERY = pytest.mark.parametrize("operation", TABLE, ids=lambda operation: operation.op)
EVERY_FUNCTION = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=lambda function: function.op)
DIVISIONS = ("floordiv", "mod")
SAMPLES: dict[Type, tuple[Any, ...]] = {
    "int": (-(2**40), -9, -1, 0, 1, 2, 7, 64, 2**31, 2**40 + 3),
    "float": (-800.0, -2.5, -0.75, 0.25, 0.5, 1.0, 3.0, 8.5),
    "bool": (False, True),
    "count": (0, 1, 2),
}


def kinds(operation: Operation) -> Iterator[tuple[Type, ...]]:
    """The types of the arguments that it may be given, of each number of arguments that is tried."""
    least, most = operation.arity
    guard: tuple[Type, ...] = ("bool",) if operation.guarded else ()
    for taken, count in product(operation.takes, range(least, (least + 1 if most is None else most) + 1)):
        yield (*guard, *(taken for _ in range(count - len(guard))))


def value(operation: Operation, *numbers: Any) -> Any:
    return reduce(operation.python, numbers) if operation.joins else operation.python(*numbers)


def samples(operation: Operation, taken: tuple[Type, ...]) -> list[tuple[Any, ...]]:
    """Numbers for which it has a value."""
    found: list[tuple[Any, ...]] = []
    for numbers in product(*(SAMPLES[kind] for kind in taken)):
        if operation.op in DIVISIONS and numbers[1] < 1:
            continue
        if operation.domain is None or operation.domain.contains(numbers[0]):
            found.append(numbers)
    chosen = found if len(found) < 200 else Random(3).sample(found, 200)
    # Products and sums of the largest leave 64 bits: there the language refuses the call.
    chosen = [numbers for numbers in chosen if abs(value(operation, *numbers)) < 2**63]
    assert len(chosen) >= 2
    return chosen


def leaves(taken: tuple[Type, ...]) -> tuple[Expr, ...]:
    """Entries of the tables ``a``, ``b``, … at the key; a count is a sum of two."""

    def leaf(place: int, kind: Type) -> Expr:
        name = "abcd"[place]
        if kind == "count":
            return Apply("plus", (Entry(f"{name}1", (K,), "bool"), Entry(f"{name}2", (K,), "bool")), "count")
        return Entry(name, (K,), kind)

    return tuple(leaf(place, kind) for place, kind in enumerate(taken))


def columns(taken: tuple[Type, ...], rows: list[tuple[Any, ...]]) -> dict[str, np.ndarray]:
    """What those tables hold, a row of numbers for each key."""
    dtypes = {"int": np.int64, "float": np.float64, "bool": np.bool_}
    held = {}
    for name, kind, column in zip("abcd", taken, zip(*rows, strict=True), strict=False):
        if kind == "count":
            held |= {f"{name}1": np.array(column) > 0, f"{name}2": np.array(column) > 1}
        else:
            held[name] = np.array(column, dtypes[kind])
    return held


def node(operation: Operation, taken: tuple[Type, ...], arguments: tuple[Expr, ...]) -> Apply:
    if operation.op in DIVISIONS:
        arguments = (arguments[0], Const(7))
    return Apply(operation.op, arguments, operation.type_of(taken[-1]))


def test_the_names_are_those_of_the_type() -> None:
    assert set(OPERATIONS) == set(get_args(Op))
    assert {name: operation.op for name, operation in OPERATIONS.items()} == {name: name for name in OPERATIONS}
    assert list(FUNCTIONS) == [operation.op for operation in OPERATIONS.values() if operation.help]


@EVERY
def test_what_a_record_says_fits_together(operation: Operation) -> None:
    least, most = operation.arity
    assert most is None or most >= least >= 1
    assert operation.takes
    assert not (operation.sign and operation.help), "an operator or a function"
    assert bool(operation.sign) == bool(operation.binds)
    assert operation.joins <= (least == 2)
    assert operation.opaque is None or (operation.takes, operation.gives) == (("int",), "int")
    assert operation.domain is None or operation.of_floats
    assert operation.domain is None or operation.domain.note.startswith(f"`{operation.op}` takes ")
    assert operation.help == "" or operation.help.startswith(f"{operation.op}(")
    if operation.derivative is not None:
        assert operation.arity == (1, 1)
        assert operation in GIVING_FLOATS


# What it means


@EVERY
def test_python_numpy_and_torch_agree(operation: Operation) -> None:
    for taken in kinds(operation):
        rows = samples(operation, taken)
        arguments = leaves(taken)
        if operation.op in DIVISIONS:
            rows = [(number, 7) for number, _ in rows]
        expr, held = node(operation, taken, arguments), columns(taken, rows)
        expected = [value(operation, *numbers) for numbers in rows]
        tables = {name: TableValues(Table(name, "int", (Dimension("token"),)), column) for name, column in held.items()}
        of_numpy = interpret(expr, environment(NumpyArrays(), len(rows), 1, 1, np.zeros(1, np.int64), tables))
        tensors = {name: replace(held, values=torch.from_numpy(held.values)) for name, held in tables.items()}
        of_torch = interpret(expr, environment(ARRAYS, len(rows), 1, 1, torch.zeros(1, dtype=torch.int64), tensors))
        for found in (of_numpy, of_torch.numpy()):
            assert found.dtype == {"int": np.int64, "count": np.int64, "bool": np.bool_, "float": np.float64}[expr.type]
            if expr.type == "float":
                np.testing.assert_allclose(found[0, 0, 0], expected, rtol=1e-13, atol=1e-300)
            else:
                assert found[0, 0, 0].tolist() == expected


@EVERY
def test_constants_are_folded_to_the_same(operation: Operation) -> None:
    for taken in kinds(operation):
        for numbers in samples(operation, taken) if "count" not in taken else ():
            folded = constructors.apply(operation.op, tuple(map(Const, numbers)))
            assert folded == Const(value(operation, *numbers)), numbers
            assert folded.type == operation.type_of(taken[-1])


@EVERY_FUNCTION
def test_where_it_has_no_value_a_constant_is_left_as_it_stands(function: Operation) -> None:
    """Which is where its domain does not reach."""
    for number in (*SAMPLES["float"], 0.0, 1e4) if function.of_floats and function.arity == (1, 1) else ():
        found = constructors.apply(function.op, (Const(number),))
        assert isinstance(found, Const) == (function.domain is None or function.domain.contains(number)), number
        assert isinstance(found, Const) or found == Apply(function.op, (Const(number),), "float")


@pytest.mark.parametrize("operation", GIVING_FLOATS, ids=lambda operation: operation.op)
def test_derivatives_are_those_of_torch(operation: Operation) -> None:
    """By the logit, which stands in every argument, and at more than one place."""
    taken = next(taken for taken in kinds(operation) if "float" in taken or operation.op == "float")
    logits = [x for x in (-2.25, -0.6, 0.3, 0.8, 1.0, 1.7, 6.5) if not operation.domain or operation.domain.contains(x)]
    s = torch.tensor(logits, dtype=torch.float64).reshape(1, 1, 1, -1).requires_grad_()
    parts: dict[Type, list[Expr]] = {
        "float": [LOGIT, constructors.mul(LOGIT, LOGIT), constructors.add(LOGIT, Const(0.125))],
        "bool": [constructors.less(K, Const(2))],
        "int": [K],
    }
    arguments = tuple(parts[kind][(place - operation.guarded) % len(parts[kind])] for place, kind in enumerate(taken))
    expr = Apply(operation.op, arguments, "float")
    bound = environment(ARRAYS, len(logits), 1, 1, torch.zeros(1, dtype=torch.int64), {}, logit=s)
    found = interpret(derivative(expr, LOGIT), replace(bound, logit=s.detach())).expand_as(s)
    result = interpret(expr, bound)
    expected = torch.autograd.grad(result.sum(), s)[0] if result.requires_grad else torch.zeros_like(s)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


# How it is written


@EVERY
def test_the_text_of_an_operation_is_read_as_that_operation(operation: Operation) -> None:
    """The printer, the grammar and the checker have one notation."""
    for taken in kinds(operation):
        arguments = node(operation, taken, leaves(taken)).args
        expr = constructors.apply(operation.op, arguments)
        if operation.op in ROUNDINGS:  # no text has them: calls add them, and they are printed as what they round
            assert printer.expression(expr) == "a[k]"
            continue
        mask, score = (TRUE, expr) if expr.type == "float" else (expr, LOGIT)
        if expr.type == "int":
            mask = constructors.equal(expr, Const(3))
        parameters = ", ".join(f"{part.table}: {part.type}[token]" for part in entries(expr))
        text = f"mask = {printer.expression(mask)} score = {printer.expression(score)}"
        read = attnc.loads(f"attention p({parameters}) {{ {text} }}").p()._bound
        if operation.op == "sub" and expr.type == "float":  # the checker adds up
            score = constructors.add(arguments[0], constructors.neg(arguments[1]))
        assert (read.mask, read.score) == (mask, score), text


def entries(expr: Expr) -> list[Entry]:
    return [part for part in walk(expr) if isinstance(part, Entry)]


@EVERY
def test_every_target_spells_it(operation: Operation) -> None:
    spelled: dict[str, set[str]] = {}
    for taken in kinds(operation):
        expr = node(operation, taken, leaves(taken))
        names = {part.table: str(number) for number, part in enumerate(entries(expr))}
        tables = tuple(Table(name, "int", (Dimension("token"),)) for name in names)
        numbered = constructors.rename_tables(expr, names)
        dialects = {
            "cpp": CppDialect(tables),
            "triton": TritonDialect(tables),
            "wide": TritonDialect(tables, wide=True),
        }
        for target, dialect in dialects.items():
            text = lower([numbered], dialect).statements[-1].text
            spelled.setdefault(target, set()).add(text)
            if target != "cpp":
                ast.parse(text)
    headers = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "templates" / "cpp").glob("*.h"))
    for name in called_names(spelled["cpp"]) - {"Int"}:
        assert re.search(rf"\b{name}\(", headers), name
    module = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "templates" / "triton").glob("*.jinja"))
    for name in called_names(spelled["triton"] | spelled["wide"]) - {"to"}:
        assert hasattr(tl, name) or f"def {name}(" in module, name


def called_names(texts: set[str]) -> set[str]:
    return {name for text in texts for name in re.findall(r"([A-Za-z_]\w*)(?:<\d+>)?\(", text)}


def test_no_two_operations_are_spelled_alike() -> None:
    for dialect in (CppDialect(()), TritonDialect(())):
        texts: dict[str, list[Op]] = {}
        for operation in TABLE:
            taken = next(kinds(operation))
            arguments = ("x", "7") if operation.op in DIVISIONS else ("x", "y", "z")[: len(taken)]
            text = dialect.operation(operation.op, arguments, taken, operation.type_of(taken[-1]))
            texts.setdefault(text, []).append(operation.op)
        alike = [ops for ops in texts.values() if len(ops) > 1]
        assert all(set(ops) in ({"eq", "iff"}, {"add", "plus"}, {"fp32", "fp64"}) for ops in alike), alike


def test_the_words_are_those_of_the_grammar_the_page_and_the_editor() -> None:
    assert set(vocabulary().spellings["FUNCTION"]) == set(FUNCTIONS)
    page = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
    paragraph = re.search(r"^- \*\*Functions\*\*: (.+?)^- \*\*", page, re.MULTILINE | re.DOTALL)
    assert paragraph is not None
    anywhere, of_scores = paragraph[1].split("In a score also")
    assert re.findall(r"`([a-z]+)", anywhere) == [name for name, f in FUNCTIONS.items() if not f.of_floats]
    assert re.findall(r"`([a-z]+)", of_scores.split(". ")[0]) == [name for name, f in FUNCTIONS.items() if f.of_floats]


# What the checker says of it


def slugs(text: str) -> list[str]:
    try:
        attnc.loads(text)
    except AttnError as error:
        return [diagnostic.slug for diagnostic in error.diagnostics]
    return []


@EVERY_FUNCTION
def test_a_function_takes_what_the_table_says(function: Operation) -> None:
    least, most = function.arity
    good = called(function.op, *["q"] * least)
    body = "attention p(x: float[]) {{ mask = full score = {} }}"
    assert slugs(body.format(good)) == []
    if least > 1:
        assert slugs(body.format(called(function.op, *["q"] * (least - 1)))) == ["wrong-arguments"]
    if most is not None:
        assert slugs(body.format(called(function.op, *["q"] * (most + 1)))) == ["wrong-arguments"]
    else:
        assert slugs(body.format(called(function.op, *["q"] * 7))) == []
    assert slugs(body.format(called(function.op, "q < k", *["q"] * (least - 1)))) == ["not-a-number"]
    of_float = slugs(body.format(called(function.op, "x", *["q"] * (least - 1))))
    assert of_float == ([] if "float" in function.takes else ["not-an-int"])
    in_mask = slugs(f"pattern p = {good} == 1")
    assert in_mask == (["float-in-mask"] if function.of_floats else [])


@EVERY_FUNCTION
def test_a_constant_outside_its_domain_is_a_fault(function: Operation) -> None:
    others = ["1.5"] * (function.arity[0] - 1)
    for number in (-1.5, 0.0, 0.5, 1e4):
        text = f"attention p {{ mask = full score = {called(function.op, str(number), *others)} }}"
        outside = function.domain is not None and not function.domain.contains(number)
        assert slugs(text) == (["bad-argument"] if outside else ["not-an-int"] if "float" not in function.takes else [])
        if outside:
            with pytest.raises(AttnError, match=re.escape(function.domain.note)):  # type: ignore[union-attr]
                attnc.loads(text)


# What the analysis knows of it


def integers(operation: Operation) -> Iterator[Expr]:
    """It, of positions; the first argument of a choice says which of them."""
    guard = (constructors.less(K, Q),) if operation.guarded else ()
    least, most = operation.arity
    for count in {least, most or least + 1}:
        positions = (Q, constructors.sub(K, constructors.mul(Q, Const(3))), N)[: count - len(guard)]
        arguments = (positions[0], Const(7)) if operation.op in DIVISIONS else (*guard, *positions)
        yield Apply(operation.op, arguments, "int")
        yield Apply(operation.op, tuple(constructors.neg(x) if x == Q else x for x in arguments), "int")


def boxes(draw: Random, n: int, count: int) -> tuple[Boxes, np.ndarray]:
    ends = np.sort(np.array([[draw.randrange(n) for _ in range(2)] for _ in range(2 * count)]), axis=1)
    single = np.arange(2 * count) % 5 == 0
    ends[single, 1] = ends[single, 0]
    query, key = ends[:count], ends[count:]
    sides = [(DigitRange(1, side[:, 0], side[:, 1]),) for side in (query, key)]
    return Boxes(sides[0], sides[1], np.zeros(count, np.int64)), np.concatenate([query, key], axis=1)


@pytest.mark.parametrize("operation", GIVING_INTS, ids=lambda operation: operation.op)
def test_an_integer_lies_between_the_bounds_of_a_box(operation: Operation) -> None:
    """And where the box is one pair, its value is known: what is not followed is opaque, and nothing else."""
    n = 40
    for expr in integers(operation):
        values = interpret(expr, environment(NumpyArrays(), n, n, 1, np.zeros(1, np.int64), {}))
        values = np.broadcast_to(values, (1, 1, n, n))[0, 0]
        drawn, ends = boxes(Random(1), n, 200)
        (bounds,) = Classifier((expr,), CallShape(n, n), {}).evaluate_boxes(drawn)
        assert isinstance(bounds, tuple), "an integer without bounds"
        singles = 0
        for low, high, (q0, q1, k0, k1) in zip(*bounds, ends, strict=True):
            inside = values[q0 : q1 + 1, k0 : k1 + 1]
            assert low <= inside.min() <= inside.max() <= high
            if inside.size == 1:
                assert low == high
                singles += 1
        assert singles > 3


@pytest.mark.parametrize("operation", GIVING_INTS, ids=lambda operation: operation.op)
def test_a_move_that_changes_nothing_changes_nothing(operation: Operation) -> None:
    n = 60
    for expr in integers(operation):
        moving = [constructors.less(expr, constructors.mul(Q, Const(factor))) for factor in range(-3, 4)]
        for condition in (*moving, constructors.equal(expr, constructors.mod(K, 5))):
            divisor = shift_divisor(condition)
            mask = evaluate(condition, (), CallShape(n, n), {})[0, 0]
            if divisor is not None:
                assert divisor < n
                assert (mask[divisor:, divisor:] == mask[:-divisor, :-divisor]).all()


@pytest.mark.parametrize("operation", [o for o in TABLE if o.gives == "bool"], ids=lambda operation: operation.op)
def test_a_condition_is_classified_as_its_pairs_are(operation: Operation) -> None:
    n = 30
    parts = {
        "int": (constructors.floordiv(Q, 3), constructors.sub(K, Const(5)), N),
        "bool": (
            constructors.less(K, Q),
            constructors.equal(constructors.mod(Q, 4), Const(1)),
            constructors.less(Q, N),
        ),
    }
    for taken in kinds(operation):
        if taken[0] not in parts:
            continue
        expr = Apply(operation.op, parts[taken[0]][: len(taken)], "bool")
        mask = np.broadcast_to(evaluate(expr, (), CallShape(n, n), {}), (1, 1, n, n))[0, 0]
        drawn, ends = boxes(Random(2), n, 300)
        found = Classifier((expr,), CallShape(n, n), {}).classify(drawn)
        for kind, (q0, q1, k0, k1) in zip(found, ends, strict=True):
            inside = mask[q0 : q1 + 1, k0 : k1 + 1]
            if inside.size == 1:
                assert kind == (FULL if inside.all() else EMPTY)
            assert kind != FULL or inside.all()
            assert kind != EMPTY or not inside.any()


def test_what_the_analysis_does_not_follow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never taken for something that merely has no structure."""
    name = next(o.op for o in TABLE if o.opaque is not None)
    expr = Apply(name, (Q,), "int")
    assert Classifier((expr,), CallShape(9, 9), {}) is not None
    monkeypatch.setitem(OPERATIONS, name, replace(OPERATIONS[name], opaque=None))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"does not follow `{name}`"):
        Classifier((expr,), CallShape(9, 9), {})


@pytest.mark.parametrize("function", [o for o in TABLE if o.opaque is not None], ids=lambda function: function.op)
def test_the_ends_of_an_opaque_function_are_kept(function: Operation) -> None:
    assert function.opaque is not None
    draw = Random(7)
    for _ in range(2000):
        number = value(function, *(draw.randint(-(2**62), 2**62) for _ in range(function.arity[1] or 3)))
        assert function.opaque[0] <= number <= function.opaque[1]
        assert not math.isnan(number)
