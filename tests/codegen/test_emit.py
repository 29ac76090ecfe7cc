"""Single literals and operations as each target spells them, where a slip changes a value and no shape."""

from __future__ import annotations

import math

import pytest

from attnc.compiler.codegen.cpp.dialect import CppDialect
from attnc.compiler.codegen.triton.dialect import TritonDialect, floating
from attnc.compiler.ir.attentions import Dimension, Table

TABLES = (
    Table("0", "int", (Dimension("query"), Dimension("token"))),
    Table("1", "set", (Dimension("head"),)),
    Table("2", "float", ()),
)
CPP, TRITON = CppDialect(TABLES), TritonDialect(TABLES)


@pytest.mark.parametrize(
    ("value", "cpp", "triton"),
    [
        (True, "true", "True"),
        (0, "0", "0"),
        (-1, "(-1)", "(-1)"),
        (2**31 - 1, "2147483647", "2147483647"),
        (-(2**31), "int64_t(-2147483648LL)", "(-2147483648)"),
        (2**40, "int64_t(1099511627776LL)", "1099511627776"),
        (-(2**63), "INT64_MIN", "(-9223372036854775808)"),
        (0.5, "Real(0.5)", "0.5"),
        (-2.0, "Real(-2.0)", "(-2.0)"),
        (1e-7, "Real(1e-07)", "1e-07"),
        (math.inf, "INFINITE", 'float("inf")'),
        (-math.inf, "(-INFINITE)", 'float("-inf")'),
        (math.nan, "NOT_A_NUMBER", 'float("nan")'),
    ],
)
def test_literals(value: bool | int | float, cpp: str, triton: str) -> None:
    assert (CPP.constant(value), TRITON.constant(value)) == (cpp, triton)


@pytest.mark.parametrize(
    ("value", "single", "double"),
    [
        (1e39, 'float("inf")', "1e+39"),
        (-1e39, 'float("-inf")', "(-1e+39)"),
        (3.4028234663852886e38, "3.4028234663852886e+38", "3.4028234663852886e+38"),
        (1e-40, "0.0", "1e-40"),
        (-1e-40, "0.0", "(-1e-40)"),
        (2.0**-126, repr(2.0**-126), repr(2.0**-126)),
    ],
)
def test_floats_beyond_what_single_precision_holds(value: float, single: str, double: str) -> None:
    assert (floating(value), floating(value, double=True)) == (single, double)


def test_reads_are_bounded_and_count_a_calls_rows_from_its_first() -> None:
    inside = "((q - q_first) >= 0) & ((q - q_first) < table0_size0) & (k >= 0) & (k < table0_size1)"
    place = TRITON.place(0, ("q", "k"))
    assert place.offset == "((q - q_first)) * table0_size1 + k"
    assert place.inside == f"({inside}) != 0"
    assert TRITON.place(2, ()).inside is None
    assert TRITON.member("k", 1, ("head",)).endswith("other=0) != 0")
    assert CPP.entry(0, ("row.q", "key.k"), "int") == "entry(head.table0, row.q - head.start, key.k)"
    assert CPP.member("key.k", 1, ("head.index",)) == "member(head.table1, key.k, head.index)"


@pytest.mark.parametrize(
    ("op", "kinds", "kind", "cpp", "triton"),
    [
        ("sub", ("int", "int"), "int", "a - b", "a - b"),
        ("lt", ("int", "int"), "bool", "truth(a < b)", "a < b"),
        ("le", ("float", "float"), "bool", "truth(a <= b)", "a <= b"),
        ("ne", ("int", "int"), "bool", "truth(a != b)", "a != b"),
        ("iff", ("bool", "bool"), "bool", "same(a, b)", "a == b"),
        ("and", ("bool", "bool"), "bool", "all(a, b)", "a & b"),
        ("or", ("bool", "bool"), "bool", "any(a, b)", "a | b"),
        ("plus", ("bool", "count"), "count", "number(a) + b", "tl.cast(a, tl.int32) + b"),
        ("filter", ("bool", "count"), "count", "choose(a, b, Int(0))", "tl.where(a, b, 0)"),
    ],
)
def test_operations(op: str, kinds: tuple[str, ...], kind: str, cpp: str, triton: str) -> None:
    assert CPP.operation(op, ("a", "b"), kinds, kind) == cpp  # type: ignore[arg-type]
    assert TRITON.operation(op, ("a", "b"), kinds, kind) == triton  # type: ignore[arg-type]


def test_triton_rounds_quotients_down_as_the_language_does() -> None:
    kinds = ("int", "int")
    assert TRITON.operation("floordiv", ("a", "7"), kinds, "int") == "a // 7 - tl.where(a % 7 < 0, 1, 0)"
    assert TRITON.operation("mod", ("a", "7"), kinds, "int") == "a % 7 + tl.where(a % 7 < 0, 7, 0)"
