"""The shipped patterns: their own tests, and each against a formula of its paper written here once more."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import attnc
from attnc.compiler import ir
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.modules.loader import Module, bind, bound_tests, load_shipped
from attnc.compiler.modules.test_cases import Claim, Picture, Row
from attnc.compiler.oracle.interpreter import NumpyArrays, TableValues, environment, evaluate, interpret
from attnc.compiler.verify.claims import run_test

FOLDER = Path(attnc.__file__).parent / "patterns"
NAMES = sorted(path.stem for path in FOLDER.rglob("*.attn"))
REQUIRED = {
    "full", "causal", "window", "longformer", "bigbird", "strided", "documents", "prefix_lm", "sink_window", "alibi",
    "softcap", "std", "axial", "natten", "swin", "natten_3d", "sta", "svg", "vsa",
}  # fmt: skip


UNDECIDABLE: frozenset[tuple[str, str, object]] = frozenset()
"""Claims of shipped files that may stay undecided, by file, title and check, each with its reason beside it: at most
five, and none so far.
"""


@dataclass(frozen=True)
class Case:
    """A declaration with its parameters, and what it must keep: ``formula(i, j, h)`` over queries, keys and heads."""

    file: str
    name: str
    formula: Callable[[Any, Any, Any], Any]
    constants: Mapping[str, object] = field(default_factory=dict)
    tables: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    n: int = 48
    heads: int = 1
    layer: int | None = None


def bitmap(*members: int) -> NDArray[np.bool_]:
    return np.isin(np.arange(max(members, default=0) + 1), members)


DOCUMENTS = np.repeat([3, 1, 4, 1, 5], [7, 13, 2, 20, 6])
REAL = np.arange(48) < 41
CHOSEN = np.random.default_rng(0).integers(0, 6, (2, 4, 3))


def bigbird(i: Any, j: Any, h: Any) -> Any:
    """Blocks of 8 in 48 tokens."""
    row, column = i // 8, j // 8
    some = (column == 0) | (column == 5) | (abs(row - column) <= 1)
    draws = CHOSEN[h, np.clip(row - 1, 0, 3)]
    counts = some + sum(draws[..., t] == column for t in range(3))
    return np.where((row == 0) | (row == 5), 1, counts)


CASES = [
    Case("full", "full", lambda i, j, h: i == i),
    Case("causal", "causal", lambda i, j, h: j <= i),
    Case("window", "window", lambda i, j, h: abs(i - j) <= 5, {"size": 11}),
    Case("window", "window", lambda i, j, h: np.isin(i - j, [-6, -3, 0, 3, 6]), {"size": 4, "dilation": 3}),
    Case("window", "causal_window", lambda i, j, h: np.isin(i - j, range(7)), {"size": 7}),
    Case("window", "causal_window", lambda i, j, h: np.isin(i - j, [0, 4, 8]), {"size": 3, "dilation": 4}),
    Case(
        "longformer",
        "longformer",
        lambda i, j, h: (abs(i - j) <= 4) | np.isin(i, [0, 30]) | np.isin(j, [0, 30]),
        {"size": 8},
        {"g": bitmap(0, 30)},
    ),
    Case(
        "longformer",
        "longformer_base_4096",
        lambda i, j, h: (abs(i - j) <= 256) | (i == 2) | (j == 2),
        tables={"g": bitmap(2)},
        n=600,
        heads=12,
        layer=7,
    ),
    Case(
        "longformer",
        "longformer_char_small",
        lambda i, j, h: (i >= j) & np.where(h < 2, (i - j) % 3 == 0, i - j < 512),
        n=60,
        heads=8,
        layer=9,
    ),
    Case("longformer", "longformer_char_small", lambda i, j, h: (i >= j) & (i - j < 64), n=90, heads=8, layer=1),
    Case("bigbird", "bigbird", bigbird, {"block": 8}, {"chosen": CHOSEN}, heads=2),
    Case(
        "bigbird",
        "bigbird_padded",
        lambda i, j, h: bigbird(i, j, h) * REAL[i] * REAL[j],
        {"block": 8},
        {"chosen": CHOSEN, "real": REAL},
        heads=2,
    ),
    Case("strided", "strided", lambda i, j, h: (j <= i) & ((i - j < 6) | ((i - j) % 6 == 0)), {"stride": 6}),
    Case(
        "strided",
        "fixed",
        lambda i, j, h: (j <= i) & ((i // 6 == j // 6) | (j % 6 >= 4)),
        {"stride": 6, "summary": 2},
    ),
    Case("documents", "documents", lambda i, j, h: DOCUMENTS[i] == DOCUMENTS[j], tables={"doc": DOCUMENTS}),
    Case(
        "documents",
        "causal_documents",
        lambda i, j, h: (DOCUMENTS[i] == DOCUMENTS[j]) & (i >= j),
        tables={"doc": DOCUMENTS},
    ),
    Case(
        "documents",
        "window_documents",
        lambda i, j, h: (DOCUMENTS[i] == DOCUMENTS[j]) & (i >= j) & (j > i - 5),
        {"size": 5},
        {"doc": DOCUMENTS},
    ),
    Case("prefix_lm", "prefix_lm", lambda i, j, h: (j <= i) | (j < 13), tables={"length": np.array(13)}),
    Case(
        "sink_window",
        "sink_window",
        lambda i, j, h: (j <= i) & ((j < 3) | (j > i - 10)),
        {"size": 10, "sinks": 3},
    ),
    Case("alibi", "alibi", lambda i, j, h: j <= i, tables={"slope": np.array([0.5, 0.25])}, heads=2),
    Case("alibi", "alibi_window", lambda i, j, h: np.isin(i - j, range(9)), {"size": 9}, {"slope": np.array([0.5])}),
    Case("softcap", "softcap", lambda i, j, h: np.isin(i - j, range(9)), {"size": 9}),
    Case("softcap", "softcap_causal", lambda i, j, h: j <= i),
]


def applicable(module: Module) -> set[str]:
    """What a test can apply: an ``index`` takes its value from another pattern only."""
    return {
        own.name
        for own in module.declarations.values()
        if own.kind in ("pattern", "attention", "model")
        and not any(parameter.type.element == "index" for parameter in own.parameters)
    }


def test_all_that_was_promised_is_shipped() -> None:
    assert set(NAMES) >= REQUIRED


def test_folders_sort_files_and_names_need_none() -> None:
    """A module is found by its name alone, or with its folder; by no other folder."""
    assert len(NAMES) == len(set(NAMES)), "two files of one name"
    assert load_shipped("longformer").source == load_shipped("text.longformer").source
    text = "from longformer import longformer as a\nfrom text.longformer import longformer as b\npattern p = {}\n"
    same = [attnc.loads(text.format(f"{name}({{}}, size = 8)")).p().mask(20) for name in "ab"]
    assert same[0].equal(same[1])
    for name in ("packing.longformer", "patterns.text.longformer", "text.std", "text", "..text.longformer", ""):
        with pytest.raises(FileNotFoundError):
            load_shipped(name)
    with pytest.raises(attnc.AttnError, match="there is no module"):
        attnc.loads("from packing.longformer import longformer")


@pytest.mark.parametrize("name", NAMES)
def test_the_file_s_own_tests(name: str) -> None:
    for test in bound_tests(load_shipped(name)):
        for outcome in run_test(test):
            assert outcome.passed or (name, test.title, outcome.check) in UNDECIDABLE, (
                f"{test.title}: {outcome.check}: {outcome.verdict}: {outcome.message}"
            )


@pytest.mark.parametrize("name", NAMES)
def test_a_file_says_of_each_pattern_what_it_keeps_for_every_n(name: str) -> None:
    """Causal, symmetric, diagonal and rows nonempty, each with or without ``not``, of each layer of a model."""
    module = load_shipped(name)
    stated: dict[str, set[str]] = {}
    for test in bound_tests(module):
        if test.extent is None:
            claims = {check.kind for check in test.checks if isinstance(check, Claim)}
            stated.setdefault(re.split(r"\W", test.title)[0], set()).update(claims)
    usual = {"causal", "symmetric", "diagonal", "rows nonempty"}
    named = applicable(module)
    assert {own: usual - stated.get(own, set()) for own in named} == {own: set() for own in named}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "std"])
def test_a_file_has_a_picture_a_row_and_claims_for_all_n(name: str) -> None:
    """A row is worked out by hand from the paper's words: a picture alone may be what the pattern drew."""
    module = load_shipped(name)
    tests = bound_tests(module)
    checks = {type(check) for test in tests for check in test.checks if test.extent is not None}
    assert {Picture, Row} <= checks
    assert any(isinstance(check, Claim) for test in tests if test.extent is None for check in test.checks)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "std"])
def test_every_declaration_of_a_file_has_a_test_of_its_own(name: str) -> None:
    """Those that only others can apply as well: a test gives their indices as ``q``, ``k`` and ``n``."""
    module = load_shipped(name)
    tested = {re.split(r"\W", test.title)[0] for test in bound_tests(module)}
    assert {own.name for own in module.declarations.values() if own.kind != "const"} == tested


def test_few_claims_may_stay_undecided() -> None:
    assert len(UNDECIDABLE) <= 5


@pytest.mark.parametrize("name", sorted(REQUIRED - {"std"}))
def test_a_file_names_its_paper_and_has_tests(name: str) -> None:
    module = load_shipped(name)
    assert name in module.declarations, "a file offers what it is called"
    documentation = " ".join(declaration.documentation for declaration in module.declarations.values())
    assert any(f"{year}," in documentation for year in range(2017, 2026)), "no paper is named"
    assert any(test.extent is not None for test in bound_tests(module))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}.{case.name}")
def test_against_a_formula(case: Case) -> None:
    subject = bind(load_shipped(case.file), case.name, case.constants)
    if isinstance(subject, ir.Model):
        assert case.layer is not None
        assert subject.heads == case.heads
        subject = subject.layers[case.layer]
    contents = {name: HostTable(values) for name, values in case.tables.items()}
    h, i, j = np.ogrid[: case.heads, : case.n, : case.n]
    expected = np.broadcast_to(case.formula(i, j, h), (case.heads, case.n, case.n))
    mask = evaluate(subject.mask, subject.tables, CallShape(case.n, case.n, case.heads), contents)
    np.testing.assert_array_equal(mask[0], expected)
    assert expected.any()
    start = case.n - 3
    last = evaluate(subject.mask, subject.tables, CallShape(case.n, 3, case.heads, (start,)), contents)
    np.testing.assert_array_equal(last[0], expected[:, start:])


def attention(file: str, name: str, **constants: object) -> ir.Attention:
    subject = bind(load_shipped(file), name, constants)
    assert isinstance(subject, ir.Attention)
    return subject


def test_scores() -> None:
    logit = np.random.default_rng(0).normal(size=(1, 2, 5, 5))
    slope = np.array([0.5, 0.25])
    h, i, j = np.ogrid[:2, :5, :5]
    expected = {
        ("alibi", "alibi"): logit[0] + slope[h] * (j - i),
        ("softcap", "softcap"): 50 * np.tanh(logit[0] / 50),
    }
    for (file, name), values in expected.items():
        subject = attention(file, name)
        tables = {table.name: TableValues(table, slope) for table in subject.tables}
        bound = environment(NumpyArrays(), 5, 5, 2, np.array([0]), tables, logit=logit)
        np.testing.assert_allclose(interpret(subject.score, bound)[0], values, rtol=1e-15)


def test_models_have_the_published_layers() -> None:
    sizes = {
        ("longformer", "longformer_base_4096"): (12, 12),
        ("longformer", "longformer_char_small"): (12, 8),
        ("longformer", "longformer_char_large"): (30, 8),
        ("longformer", "led_base_16384"): (6, 12),
        ("reformer", "reformer_enwik8"): (12, 8),
        ("etc", "etc_base"): (12, 12),
        ("longnet", "longnet_base"): (12, 12),
        ("strided", "sparse_transformer_enwik8"): (30, 8),
        ("bigbird", "bigbird_base"): (12, 12),
        ("alibi", "mpt_7b"): (32, 32),
        ("softcap", "gemma2_2b"): (26, 8),
    }
    for (file, name), (layers, heads) in sizes.items():
        model = bind(load_shipped(file), name, {})
        assert isinstance(model, ir.Model)
        assert (len(model.layers), model.heads) == (layers, heads)
