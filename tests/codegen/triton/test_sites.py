"""Gradients of tables: which entries the pairs of a diagonal share, and how many there are to choose from."""

from __future__ import annotations

import pytest

from attnc.compiler.codegen.triton.sites import few_entries, gradient_sites, of_difference
from attnc.compiler.ir import Attention
from attnc.compiler.ir.constructors import rename_tables
from attnc.compiler.ir.expressions import Entry, Expr, walk
from attnc.compiler.modules.loader import bind, load_text
from attnc.compiler.plan.orders import natural
from attnc.compiler.plan.programs import Kernel, Program, Segment


def index(text: str) -> Expr:
    """An index as a text spells it."""
    made = program("bias: float[a], t: int[token]", f"s + bias[{text}]")
    return next(node.indices[0] for node in walk(made.score) if isinstance(node, Entry) and node.table == "0")


def program(parameters: str, score: str) -> Program:
    module = load_text(f"attention subject({parameters}) {{ mask = causal   score = {score} }}")
    attention = bind(module, "subject", {})
    assert isinstance(attention, Attention)
    tables = {table.name: str(number) for number, table in enumerate(attention.tables)}
    kernel = Kernel(natural(16), (Segment(natural(16), attention.mask),), "store")
    return Program((kernel,), attention.mask, rename_tables(attention.score, tables), None, attention.tables)


@pytest.mark.parametrize(
    "text",
    [
        "q - k", "k - q + 23", "min(max(q - k, -16), 16) + 16", "abs(k - q) // 4", "(q - k) % 7 - (k - q) // 2",
        "16 if k > q else 0", "3 if q == k else abs(q - k)", "(5 + q) - (k - 2)", "t[q - k]", "n - 1 - (q - k)",
        "(1 if k <= q + 3 else 2) + head",
    ],
)  # fmt: skip
def test_indices_that_are_equal_along_a_diagonal(text: str) -> None:
    assert of_difference(index(text))


@pytest.mark.parametrize(
    "text",
    ["q", "k", "q + k", "q - k + q", "min(q, k)", "q // 2 - k // 2", "t[q] - t[k]", "1 if q < 5 else 0", "k % 3"],
)
def test_indices_that_may_differ_along_a_diagonal(text: str) -> None:
    assert not of_difference(index(text))


@pytest.mark.parametrize(
    ("parameters", "score", "few"),
    [
        ("bias: float[32]", "s + bias[q - k]", 32),
        ("bias: float[head, 33]", "s + bias[head, q - k]", 64),
        ("bias: float[head, 5]", "s + bias[head, min(q - k, 4)]", 16),
        ("bias: float[head, 7, 9]", "s + bias[head, q % 7, k % 9]", 64),
        ("bias: float[128]", "s + bias[q - k]", 128),
        ("bias: float[129]", "s + bias[q - k]", 0),
        ("bias: float[head, a]", "s + bias[head, q - k]", 0),
        ("bias: float[a, 9]", "s + bias[3, q - k]", 16),
        ("bias: float[9]", "s + bias[q % 9]", 0),
    ],
)
def test_how_many_lanes_hold_what_query_and_key_choose_among(parameters: str, score: str, few: int) -> None:
    made = program(parameters, score)
    (site,) = gradient_sites(made)
    assert few_entries(site, made.tables) == few
