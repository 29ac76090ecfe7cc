"""Literal contents of tables, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from attnc.compiler.ir.attentions import Dimension, Literal_, Table
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.oracle.literal_tables import ContentsError, from_literal, literal_contents
from attnc.compiler.verify.samples import KINDS, contents_of

EXTENT = CallShape(4, 2, 3)
TOKEN, QUERY, HEAD = Dimension("token"), Dimension("query"), Dimension("head")
TWO, BLOCK = Dimension("fixed", 2), Dimension("free", name="block")


def table(element: str, *dimensions: Dimension, **more: Literal_) -> Table:
    return Table("t", element, dimensions, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("declared", "literal", "dtype", "values"),
    [
        (table("int"), 5, np.int32, 5),
        (table("int"), 2**40, np.int64, 2**40),
        (table("float"), 1, np.float64, 1.0),
        (table("int", TOKEN), (1, 2, 3, -4), np.int32, [1, 2, 3, -4]),
        (table("int", QUERY), (1, 2), np.int32, [1, 2]),
        (table("float", HEAD), (0.5, 1, 2.0), np.float64, [0.5, 1.0, 2.0]),
        (table("bool", TWO, TWO), ((True, False), (False, True)), np.bool_, [[True, False], [False, True]]),
        (table("order", TOKEN), (2, 0, 1, 3), np.int32, [2, 0, 1, 3]),
        (table("set"), frozenset({0, 2, -1}), np.bool_, [True, False, True]),
        (table("set"), frozenset(), np.bool_, [False]),
        (table("set", TWO), (frozenset({1}), frozenset()), np.bool_, [[False, True], [False, False]]),
        (table("set"), frozenset({2**40, 3, -2}), np.int64, [3, 2**40]),
        (table("set", TWO), (frozenset({10**6}), frozenset({7, 10**5})), np.int32, [[-1, 10**6], [7, 10**5]]),
        (table("int", BLOCK, TWO), (), np.int32, np.zeros((0, 2))),
    ],
)
def test_what_a_literal_becomes(declared: Table, literal: Literal_, dtype: type, values: Any) -> None:
    contents = from_literal(declared, literal, EXTENT, {})
    assert not contents.batched
    assert contents.values is not None
    assert contents.values.dtype == dtype
    assert contents.values.shape == np.shape(values)
    np.testing.assert_array_equal(contents.values, values)


@pytest.mark.parametrize(
    ("declared", "literal", "message"),
    [
        (table("int", TOKEN), (1, 2), r"table `t`: dimension 0 \(`token`\) has 2 entries, expected 4"),
        (table("int", QUERY), (1, 2, 3), r"dimension 0 \(`query`\) has 3 entries, expected 2"),
        (table("int", HEAD), (1,), r"dimension 0 \(`head`\) has 1 entry, expected 3"),
        (table("int", BLOCK, TWO), ((1, 2), (3,)), "the lists of dimension 1 differ in length: 2 and 1"),
        (table("int", BLOCK, BLOCK), ((1, 2, 3), (1, 2, 3)), r"dimension 1 \(`block`\) has 3 entries, expected 2"),
        (table("int", TWO), 5, "expected a list of values, but dimension 0 is no list"),
        (table("int", TWO, TWO), ((1, 2), 3), "expected values in lists nested 2 deep, but dimension 1 is no list"),
        (table("int"), (1, 2), "expected one value, but the lists are nested deeper"),
        (table("int"), 1.5, "expected int entries, but one is 1.5"),
        (table("int"), True, "expected int entries, but one is true"),
        (table("bool"), 1, "expected bool entries, but one is 1"),
        (table("float"), frozenset({1}), "expected float entries, but one is a set of 1"),
        (table("set"), 3, "expected a set, as `{3}`, but there is 3".replace("{", r"\{")),
        (table("set"), frozenset({2**63}), "9223372036854775808 does not fit 64 bits"),
        (table("int"), 2**63, "does not fit 64 bits"),
        (table("order", TOKEN), (0, 1, 1, 3), r"each last axis must hold every number of 0\.\.<4 once"),
        (table("order", TOKEN), (1, 2, 3, 4), r"each last axis must hold every number of 0\.\.<4 once"),
        (
            table("order", TWO, TOKEN),
            ((0, 1, 2, 3), (3, 2, 1, -1)),
            r"each last axis must hold every number of 0\.\.<4",
        ),
    ],
)
def test_what_does_not_fit(declared: Table, literal: Literal_, message: str) -> None:
    with pytest.raises(ContentsError, match=message):
        from_literal(declared, literal, EXTENT, {})


def test_free_sizes_agree_across_tables() -> None:
    first = Table("first", "int", (BLOCK,), value=(1, 2))
    second = Table("second", "int", (BLOCK, TWO), default=((1, 2), (3, 4)))
    open_table = Table("open", "int", (BLOCK,))
    assert set(literal_contents((first, second, open_table), EXTENT)) == {"first", "second"}
    with pytest.raises(ContentsError, match=r"table `third`: dimension 0 \(`block`\) has 3 entries, expected 2"):
        literal_contents((first, Table("third", "int", (BLOCK,), value=(1, 2, 3))), EXTENT)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_legal(kind: str) -> None:
    tables = tuple(
        Table(f"{element}{number}", element, dimensions)
        for element in ("int", "float", "bool", "set", "order")
        for number, dimensions in enumerate(((), (TOKEN,), (HEAD, TOKEN), (QUERY,), (TWO, BLOCK)))
        if element != "order" or dimensions[-1:] == (TOKEN,)
    )
    fixed = Table("fixed", "int", (BLOCK,), value=(7, 8, 9))
    found = contents_of((*tables, fixed), EXTENT, kind)  # type: ignore[arg-type]
    sizes = {"token": 4, "query": 2, "head": 3, "fixed": 2, "free": 3}
    for declared in tables:
        values = found[declared.name].values
        assert values is not None
        shape = tuple(sizes[dimension.kind] for dimension in declared.dimensions)
        assert values.shape == (shape if declared.element != "set" else (*shape, 4))
        if declared.element == "order":
            assert (np.sort(values, axis=-1) == np.arange(4)).all()
    assert found["fixed"].values is not None
    assert found["fixed"].values.tolist() == [7, 8, 9]
