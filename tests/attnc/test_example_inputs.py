"""Contents that are made up for tables that nobody gave."""

from __future__ import annotations

import numpy as np
import pytest

from attnc.compiler.ir.attentions import Attention, Dimension, Table
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.modules.loader import bind, load_shipped, load_text
from attnc.compiler.oracle.interpreter import evaluate
from attnc.compiler.verify.table_use import uses
from attnc.inspection.example_inputs import inputs


def table(element: str, *kinds: str, **more: object) -> Table:
    sizes = {"fixed": 3}
    names = {"free": "width"}
    dimensions = tuple(Dimension(kind, sizes.get(kind), names.get(kind, "")) for kind in kinds)  # type: ignore[arg-type]
    return Table("t", element, dimensions, **more)  # type: ignore[arg-type]


EXTENT = CallShape(20, 10, heads=4, q_start=(10,))


@pytest.mark.parametrize(
    ("made", "shape"),
    [
        (table("set"), (1,)), (table("int", "token"), (20,)), (table("int"), ()),
        (table("int", "head", "query"), (4, 10)),
        (table("float", "head"), (4,)), (table("float"), ()), (table("float", "head", "free"), (4, 16)),
        (table("bool", "token", "fixed"), (20, 3)), (table("bool"), ()), (table("order", "head", "token"), (4, 20)),
        (table("order", "token"), (20,)), (table("set", "head", "fixed"), (4, 3, 3)),
    ],
)  # fmt: skip
def test_every_kind_of_table_can_be_made_up(made: Table, shape: tuple[int, ...]) -> None:
    found = inputs([made], {}, EXTENT, {}, {})
    values = found.contents["t"].values
    assert values is not None
    assert values.shape == shape
    assert len(found.made_up) == 1
    assert found.made_up[0].startswith("t: ")
    again = inputs([made], {}, EXTENT, {}, {}).contents["t"].values
    assert again is not None
    assert np.array_equal(values, again)


def test_documents_are_sorted_lengths() -> None:
    labels = inputs([table("int", "token")], {}, EXTENT, {}, {}).contents["t"].values
    assert labels is not None
    assert (np.diff(labels) >= 0).all()


def test_labels_that_are_compared_with_one_number_too_are_several() -> None:
    """A mark such as -1, and others beside it: were all tokens marked, a picture would tell nothing."""
    attention = bind(load_text("pattern p(t: int[token]) = t[q] == -1 or t[q] == t[k]\n"), "p", {})
    assert isinstance(attention, Attention)
    found = inputs(attention.tables, {}, EXTENT, {}, uses(attention, EXTENT))
    labels = found.contents["t"].values
    assert labels is not None
    assert labels[0] == -1
    assert (np.diff(labels) >= 0).all()
    assert len(np.unique(labels)) > 1
    assert found.made_up[0].endswith("one after the other, numbered from -1")


def test_what_is_given_wins_over_a_default_and_nothing_is_said() -> None:
    made = table("set", default=frozenset({7}))
    given = inputs([made], {"t": frozenset({2})}, EXTENT, {}, {})
    assert given.made_up == ()
    assert np.flatnonzero(given.contents["t"].values).tolist() == [2]
    assert np.flatnonzero(inputs([made], {}, EXTENT, {}, {}).contents["t"].values).tolist() == [7]


def test_a_free_size_is_learned_from_what_is_given() -> None:
    first = table("float", "free")
    second = Table("u", "float", first.dimensions)
    found = inputs([second, first], {"t": (1.0, 2.0, 3.0)}, EXTENT, {}, {})
    values = found.contents["u"].values
    assert values is not None
    assert values.shape == (3,)


def test_a_literal_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 20"):
        inputs([table("int", "token")], {"t": (1, 2, 3)}, EXTENT, {}, {})


def bound(name: str, **constants: int) -> Attention:
    found = bind(load_shipped(name), name, constants)
    assert isinstance(found, Attention)
    return found


@pytest.mark.parametrize(("n", "blocks"), [(64, 1), (640, 10), (2048, 32)])
def test_numbers_of_blocks_are_those_that_there_are(n: int, blocks: int) -> None:
    attention, extent = bound("bigbird"), CallShape(n, n, heads=2)
    found = inputs(attention.tables, {}, extent, {}, uses(attention, extent))
    values = found.contents["chosen"].values
    assert values is not None
    assert values.shape == (2, max(blocks - 1, 1), 3) or values.shape == (2, blocks, 3)
    assert 0 <= values.min() <= values.max() < blocks
    assert f"random numbers of 0..{blocks - 1}" in found.made_up[0]
    assert len(np.unique(values)) >= min(blocks, 2)
    evaluate(attention.mask, attention.tables, extent, found.contents)  # no index leaves the table


@pytest.mark.parametrize(
    ("text", "size", "values"),
    [
        ("pattern p(t: int[block]) = q // 4 == t[k // 4]", 5, (2, 4)),
        ("pattern p(t: int[token]) = t[q] == t[k]", 20, None),  # a name for each: anything will do
        ("pattern p(t: int[query]) = q - k <= t[q]", 20, (-9, 19)),
        ("pattern p(t: set[block]) = k in t[q // 8]", 3, None),
        ("attention p(t: float[distance]) { mask = causal_window(6) score = s + t[q - k] }", 6, None),
        ("attention p(t: float[far]) { mask = causal score = s + t[min(q - k, 7)] }", 8, None),
        ("pattern p(t: int[w]) = k < t[0] and k >= 4 and t[0] <= 9", 1, (9, 9)),
    ],
)
def test_what_a_pattern_does_with_a_table(text: str, size: int, values: tuple[int, int] | None) -> None:
    attention = bind(load_text(text), "p", {})
    assert isinstance(attention, Attention)
    found = uses(attention, CallShape(20, 10, heads=4, q_start=(10,)))["t"]
    assert (found.sizes[0], found.values) == (size, values)
