"""A dense mask is made block by block: the same as at once, in little more memory than its own, or refused by name."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import attnc
from attnc.cli.main import commands
from attnc.compiler.ir import constructors as f
from attnc.compiler.ir.attentions import Dimension, Table
from attnc.compiler.ir.expressions import Const, Entry, Expr, K, Member, N, Q
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.modules.loader import bound_tests, load_text
from attnc.compiler.oracle import dense
from attnc.compiler.oracle.dense import Alike, blocks, read_through
from attnc.compiler.oracle.interpreter import NumpyArrays, TableValues, environment, evaluate, interpret
from attnc.compiler.oracle.out_of_table import OutOfTableError
from attnc.compiler.verify.claims import run_test
from attnc.inspection.claims import judge, named_checks
from tests.fuzz.masks import bound
from tests.fuzz.programs import generate_any
from tests.oracle.test_interpreter import _random_condition

SEEDS = 60
TOKENS = 4096
LIMIT = "expected at most 8,589,934,592"


@pytest.fixture
def in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_PAIRS", 24), ("_KEYS", 5), ("_ROWS", 2), ("_MANY", 0)):
        monkeypatch.setattr(dense, name, value)


def at_once(expr: Expr, tables: tuple[Table, ...], extent: CallShape, contents: Mapping[str, HostTable]) -> Any:
    held = {table.name: contents[table.name] for table in tables}
    values = {table.name: TableValues(table, held[table.name].values, held[table.name].batched) for table in tables}
    floats = [own.values.dtype for own in values.values() if own.table.element == "float"]
    arrays = NumpyArrays(np.result_type(*floats) if floats else np.float64)
    bound = environment(arrays, extent.n, extent.m, extent.heads, np.asarray(extent.q_start), values)
    with np.errstate(all="ignore"):
        return np.broadcast_to(interpret(expr, bound), (len(bound.batch), extent.heads, extent.m, extent.n))


def test_blocks_cover_each_pair_once() -> None:
    draw = random.Random(2)
    for _ in range(60):
        shape = tuple(draw.choice((1, 2, draw.randint(1, 40), draw.randint(1, 700))) for _ in range(3))
        shape = (draw.randint(1, 3), *shape)
        met = np.zeros(shape, np.int8)
        for block in blocks(shape):
            met[block] += 1
            assert met[block].size <= dense._PAIRS
        assert (met == 1).all()
    assert len(list(blocks((1, 1, 1, 2**17)))) == 16
    assert list(blocks((1, 2, 0, 5))) == []


def test_a_table_shorter_than_the_keys_is_read_where_it_is_reached() -> None:
    """Rows and keys are compared with one another by what a table holds only where it holds one for each."""
    table = Table("t", "int", (Dimension("fixed", 8),))
    held = {"t": HostTable(np.arange(8, dtype=np.int32) // 2)}
    for position, other, extent in ((K, Q, CallShape(9, 600)), (Q, K, CallShape(600, 9))):
        reached = f.less_equal(f.floordiv(position, 8), f.floordiv(other, 1000))  # the first 8
        mask = f.conjunction(reached, f.equal(Entry("t", (position,), "int"), Const(1)))
        found = evaluate(mask, (table,), extent, held)[0, 0]
        assert np.flatnonzero(found.any(axis=0 if position == K else 1)).tolist() == [2, 3]


@pytest.mark.usefixtures("in_small_blocks")
def test_random_masks_are_the_same_in_blocks() -> None:
    kept = 0
    for seed in range(SEEDS):
        subject = bound(generate_any(seed))
        given = subject.attention.mask, subject.attention.tables, subject.program.sizes.extent, subject.contents
        expected = at_once(*given)
        found = evaluate(*given)
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected), f"seed {seed}\n{subject.program.text}"
        kept += 0 < int((found > 0).sum()) < found.size
    assert kept > SEEDS // 3


@pytest.mark.usefixtures("in_small_blocks")
def test_an_index_outside_is_refused_at_its_own_pair() -> None:
    tables = (Table("label", "int", (Dimension("free", name="b"),)), Table("chosen", "set", (Dimension("fixed", 5),)))
    extent = CallShape(9, 6, 3, (0, 2))
    refused = agreed = 0
    for seed in range(300):
        draw, state = random.Random(seed), np.random.default_rng(seed)
        expr = _random_condition(draw, 4)
        contents = {
            "label": HostTable(state.integers(-1, 6, (2, 20)), batched=True),
            "chosen": HostTable(state.random((5, 4)) < 0.5),
        }
        given = expr, tables, extent, contents
        try:
            expected = at_once(*given)
        except OutOfTableError:
            with pytest.raises(OutOfTableError) as caught:
                evaluate(*given)
            error, refused = caught.value, refused + 1
            b, head, row, key = error.pair
            one = {"label": HostTable(contents["label"].values[b]), "chosen": contents["chosen"]}  # type: ignore[index]
            start = extent.q_start[b] + row  # type: ignore[index]
            with pytest.raises(OutOfTableError) as again:
                _at(expr, tables, start, key, head, extent, one)
            assert not 0 <= error.value < error.size
            assert again.value.table.name in ("label", "chosen")
        else:
            agreed += 1
            assert np.array_equal(evaluate(*given), expected)
    assert min(refused, agreed) > 30


def _at(
    expr: Expr, tables: tuple[Table, ...], q: int, k: int, head: int, extent: CallShape, held: Mapping[str, HostTable]
) -> None:
    """One pair alone."""
    values = {table.name: TableValues(table, held[table.name].values) for table in tables}
    one = environment(NumpyArrays(), extent.n, 1, extent.heads, np.array([q]), values)
    one.positions["k"] = np.full((1, 1, 1, 1), k)  # type: ignore[index]
    one.positions["head"] = np.full((1, 1, 1, 1), head)  # type: ignore[index]
    interpret(expr, one)


def test_positions_that_are_alike() -> None:
    same = f.equal(f.floordiv(Q, 4), f.floordiv(K, 4))
    by_block = f.conjunction(same, f.less(f.mod(Q, 8), f.sub(N, f.floordiv(K, 2))))
    assert read_through(by_block, Q) == [f.floordiv(Q, 4), f.mod(Q, 8)]
    assert Q in read_through(f.less(f.sub(Q, K), f.floordiv(Q, 4)), Q)
    assert Q in read_through(f.conjunction(same, Member(Q, "g", ())), Q), "a table is read at the position itself"
    label = f.equal(Entry("doc", (Q,), "int"), Entry("doc", (K,), "int"))
    assert Q in read_through(label, Q), "its table may not hold every row"
    assert read_through(label, Q, {"doc"}) == [Entry("doc", (Q,), "int")]
    assert read_through(f.less(K, N), Q) == []
    assert read_through(f.less(K, N), K) == [f.less(K, N)]
    alike = Alike.where_equal([np.array([5, 5, 1, 1, 5]), np.array([0, 0, 0, 2, 0])])
    assert alike.first.tolist() == [0, 2, 3]
    assert alike.kind.tolist() == [0, 0, 1, 2, 0]
    assert not alike.is_trivial


SHIPPED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "causal": ("causal", {}, {}),
    "dilated window": ("window", {"size": 512, "dilation": 3}, {}),
    "longformer": ("longformer", {}, {"g": [0, 5, 700]}),
    "strided": ("strided", {}, {}),
    "documents": ("causal_documents", {}, {"doc": torch.arange(TOKENS) // 700}),
    "bigbird": ("bigbird", {}, {"chosen": torch.arange(3 * 62).reshape(1, 62, 3) * 7 % 64}),
    "by head": ("random_blocks", {"size": 3, "percent": 10}, {}),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_mask_takes_little_more_than_itself(name: str) -> None:
    pattern, constants, tables = SHIPPED[name]
    file = {"dilated window": "window", "by head": "std"}.get(name, name)
    attend = getattr(attnc.load(file), pattern)(**constants)
    heads, tokens = (2, TOKENS // 2) if name == "by head" else (1, TOKENS)
    attend.mask(64, heads=heads, **{table: value[:64] if table == "doc" else value for table, value in tables.items()})
    tracemalloc.start()
    try:
        mask = attend.mask(tokens, heads=heads, **tables)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 3 * mask.numel() * mask.element_size()


# -- the limit -----------------------------------------------------------------------------------------------------


def test_a_mask_beyond_the_limit_is_refused_before_it_is_made() -> None:
    attend = attnc.load("causal").causal()
    several = attnc.loads("pattern p(g: set[head]) = k in g[head]").p()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"n: is 10,000,000, and the dense mask of 1 × 1 × .* {LIMIT}"):
            attend.mask(10**7)
        with pytest.raises(ValueError, match=LIMIT):
            attend.mask(10, 10**9)
        with pytest.raises(ValueError, match=LIMIT):
            attend.mask(70_000, heads=2)
        with pytest.raises(ValueError, match=LIMIT):
            several.mask(60_000, g=[[{1}, {2}], [{3}, set()]])
        with pytest.raises(ValueError, match=LIMIT):
            attnc.loads("pattern p = causal + window(3)").p().mask(40_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**24
    assert dense.LARGEST == 2**33


def test_the_reference_is_refused_where_its_mask_would_be() -> None:
    q, k, v = (torch.zeros(1, 1, 1, 8).expand(1, 1, 100_000, 8) for _ in range(3))
    with pytest.raises(ValueError, match=f"n: is 100,000, and the dense mask .* {LIMIT}"):
        attnc.load("causal").causal().reference(q, k, v)


HEADS = "pattern p = k <= q + head\ntest p at n = 4000, heads = 1000 { rows nonempty diagonal }\n"


def test_a_test_of_too_many_heads_fails_and_says_so() -> None:
    """As `attnc test` and the plugin of pytest tell it."""
    module = load_text(HEADS, "p.attn", Path())
    (test,) = bound_tests(module)
    for outcome in (*run_test(test), *map(judge, named_checks(module))):
        assert outcome.verdict == "failed"
        assert LIMIT in outcome.message


@pytest.mark.parametrize(
    "arguments",
    [
        ("causal", "--n", "1000000000000"),
        ("causal", "--n", "1000000000000", "--stage", "schedule"),
        ("causal", "--n", "10", "--m", "1000000000000"),
        ("causal", "--n", "60000000", "-o", "x.png"),
        ("documents:documents", "--n", "1000000000000"),
        ("longformer:longformer_base_4096", "--n", "1000000000000"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_command_shows_no_more_than_the_limit(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(commands, ["show", *arguments])
    assert LIMIT in str(done.exception)
    assert type(done.exception).__name__ == "InputError"


def test_tables_are_made_up_to_the_limit_only() -> None:
    text = "pattern p(bias: int[token, token]) = bias[q, k] > 0"
    with pytest.raises(Exception, match=r"bias: .* 400,000,000 made-up entries would take .* expected at most"):
        CliRunner().invoke(commands, ["show", "-", "--n", "20000"], input=text, catch_exceptions=False)


@pytest.mark.parametrize("n", [10**11, 10**12, 2**48])
def test_a_plan_of_more_tiles_than_bounds_hold_is_refused_by_name(n: int) -> None:
    with pytest.raises(ValueError, match=r"^[mn]: is [\d,]+, which makes [\d,]+ tiles, expected at most 536,870,912"):
        attnc.load("causal").causal().plan(n)


def test_pairs_are_counted_up_to_a_limit_and_tiles_exactly() -> None:
    plan = attnc.load("causal").causal().plan(2**34)
    tiles = 2**34 // 64
    assert (plan.full, plan.partial) == (tiles * (tiles - 1) // 2, tiles)
    with pytest.raises(ValueError, match=r"^n: is 17,179,869,184, and 268,435,456 partial tiles would be looked at"):
        plan.pairs  # noqa: B018 - asked for
