"""Attention.cache: what it says of shipped patterns, what it refuses, and decoding with nothing but what it keeps."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import attnc
from attnc.attention import Attention, Model
from attnc.compiler.oracle import row_reads
from tests.fuzz.caches import wrong_plan

FILES = (
    "alibi", "bigbird", "causal", "documents", "full", "longformer", "prefix_lm", "sink_window", "softcap", "std",
    "strided", "window",
)  # fmt: skip
"""Shipped files with masks of every kind that a cache tells apart."""
N, DIM = 40, 8
SMALL = {"size": 9, "stride": 5, "summary": 2, "sinks": 3}
"""Constants with which shipped patterns drop keys within N positions."""

NOT_CAUSAL = {
    "bigbird", "bigbird_padded", "bigbird_base", "full", "documents", "longformer", "longformer_base_4096", "prefix_lm",
    "window", "band", "sees_all", "seen_by_all", "global_tokens", "first", "prefix", "blocks", "block_band", "padded",
    "grid_window", "random_blocks", "longformer_padded", "longformer_local", "longformer_global",
    "longformer_dilated_heads", "led_base_16384",
}  # fmt: skip


def shipped() -> Iterator[tuple[str, Attention]]:
    """Every pattern, attention and layer of these files that is causal, once."""
    found: dict[Attention, str] = {}
    for file in FILES:
        module = attnc.load(file)
        for name in module:
            if name in NOT_CAUSAL:
                continue
            taken = inspect.signature(module[name]).parameters
            made: Any = module[name](**{key: value for key, value in SMALL.items() if key in taken})
            for layer in made.layers if isinstance(made, Model) else [made]:
                found.setdefault(layer, f"{file}.{name}")
    yield from ((name, attend) for attend, name in found.items())


SHIPPED = list(shipped())


def tables_of(attend: Attention, heads: int, n: int) -> dict[str, torch.Tensor]:
    made = {"doc": torch.arange(n) // 13, "slope": torch.linspace(0.1, 0.5, heads)}
    return {name: made[name] for name in attend.tables}


def heads_of(attend: Attention) -> int:
    return attend._bound.heads or 2


def test_the_patterns_that_are_left_out_are_not_causal() -> None:
    for file in FILES:
        module = attnc.load(file)
        for name in NOT_CAUSAL & {*module}:
            given = {"size": 4, "count": 2, "left": 2, "right": 1, "width": 4, "rows": 1, "cols": 1, "percent": 50}
            taken = inspect.signature(module[name]).parameters
            made: Any = module[name](**{key: value for key, value in given.items() if key in taken})
            for layer in (made.layers if isinstance(made, Model) else [made])[:1]:
                with pytest.raises(ValueError, match=r"is not (known to be )?causal, and a cache holds no keys that"):
                    layer.cache(9)


@pytest.mark.parametrize(("name", "attend"), SHIPPED, ids=[f"{name}-{i}" for i, (name, _) in enumerate(SHIPPED)])
def test_shipped_patterns_by_brute_force(name: str, attend: Attention) -> None:
    heads = heads_of(attend)
    for n in (1, 2, 9, 33, 70):
        tables = tables_of(attend, heads, n)
        mask = attend.mask(n, heads=heads, **tables).numpy()
        for given in (tables, {}):
            plan = attend.cache(n, heads=heads, **given)
            assert plan.exact or (attend.facts.mask_tables and not given), name
            assert wrong_plan(plan, mask, plan.exact, {0, n // 2, n - 1}) is None


NONE = "expected a causal mask: whatever its tables hold, this is none"
SOME = "expected a causal mask, or tables with which it is one:"


@pytest.mark.parametrize(
    ("attend", "rest"),
    [
        (attnc.load("full").full(), "at n = 9 row 0 reads key 1"),
        (attnc.load("prefix_lm").prefix_lm(), f"at n = 2 row 0 reads key 1 (length = 2); {SOME} length=…"),
        (attnc.load("documents").documents(), f"at n = 2 row 0 reads key 1 (doc = [0, 0]); {SOME} doc=…"),
        (attnc.load("longformer").longformer(), f"at n = 2 row 0 reads key 1 (g = {{0}}); {NONE}"),
        (
            attnc.load("bigbird").bigbird(),
            f"at n = 2 row 0 reads key 1 (chosen = [[[0, 0, 0], [0, 0, 0]]]); {NONE}",
        ),
    ],
)
def test_an_attention_without_a_cache_says_why(attend: Attention, rest: str) -> None:
    with pytest.raises(ValueError, match="is not causal, and a cache holds no keys that are still to come: ") as caught:
        attend.cache(9)
    assert str(caught.value).endswith(f" still to come: {rest}")


@pytest.mark.parametrize("backend", ["cpp", "blocked"])
def test_decoding_with_only_what_is_kept_equals_the_whole(backend: str) -> None:
    """Keys and values that a plan does not keep for a head are NaN.

    Every causal shipped pattern and layer on the blocked executor; on C++, since each takes a build, one layer of each
    model, and one attention for each mask.
    """
    generator = torch.Generator().manual_seed(5)
    each_mask = {attend._bound.mask: (name, attend) for name, attend in dict(SHIPPED).items()}
    for name, attend in SHIPPED if backend == "blocked" else each_mask.values():
        heads = heads_of(attend)
        q, k, v = (torch.randn(1, heads, N, DIM, generator=generator) for _ in range(3))
        tables = tables_of(attend, heads, N)
        plan = attend.cache(N, heads=heads, **tables)
        with attnc.settings.override(backend=backend, optimisation=0):
            whole = attend(q, k, v, **tables)
            for p in range(N):
                keys, values = (torch.full_like(x[:, :, : p + 1], torch.nan) for x in (k, v))
                for head in range(heads):
                    held = torch.from_numpy(plan.positions(p, head=head))
                    for cached, x in ((keys, k), (values, v)):
                        cached[:, head, held] = x[:, head, held]
                now = tables_of(attend, heads, p + 1)
                step = attend(q[:, :, p : p + 1], keys, values, q_start=p, **now)
                torch.testing.assert_close(step, whole[:, :, p : p + 1], rtol=1e-5, atol=1e-5, msg=f"{name}, row {p}")


MODULE = attnc.loads("""
pattern past(size: int) = causal and (first(2) or causal_window(size))
pattern packed(doc: int[token]) = causal and documents(doc)
pattern packed_window(doc: int[token]) = packed(doc) and causal_window(5)
pattern two(doc: int[token], real: bool[token]) = packed(doc) and real[k]
pattern choice(wide: bool[token]) = causal_window(2) if wide[q] else causal_window(5)
pattern scattered = causal and hash(q, k) % 4 == 0
pattern of_heads = causal_window(3) if head == 0 else chunked(4)
pattern ahead(size: int) = 0 <= q - k < size or n > 20 and k == q + 1
pattern squares = causal and q * q <= k * k + 30
attention sloped(slope: float[head]) { mask = causal_window(3)   score = s + slope[head] * (k - q) }
pattern usual(g: tokens = {1}) = causal and (k in g or causal_window(2))
""")


def test_a_plan_of_sinks_and_a_window() -> None:
    plan = MODULE.past(size=4).cache(12)
    assert (plan.n, plan.text, plan.exact, plan.bound, plan.largest) == (
        12, "n - 1 if k < 2 else min(k + 3, n - 1)", True, 6, 6,
    )  # fmt: skip
    assert plan.last_reader.tolist() == [[11, 11, *range(5, 12), 11, 11, 11]]
    assert plan.positions(8).tolist() == [0, 1, 5, 6, 7, 8] == plan.reads(8).tolist()
    assert (plan.shrinks, plan.reason) == (True, "")
    assert repr(plan).splitlines() == [
        "<attnc cache of past: 12 positions, heads 1, batch 1",
        " key k is last read by row n - 1 if k < 2 else min(k + 3, n - 1)",
        " positions held: at most 6, and at most 6 of any number>",
    ]
    assert MODULE.past(size=4).facts.last_reader.at(12).tolist() == plan.last_reader.tolist()


@pytest.mark.parametrize(
    ("attend", "reason"),
    [
        (attnc.load("causal").causal(), "the last row reads every key"),
        (attnc.load("strided").strided(4), "every key is read by one of the last 4 rows, however many there are"),
        (MODULE.past(size=50), "at this length the last row reads every key"),
        (MODULE.packed(), "the last row may read every key"),
    ],
)
def test_a_cache_that_cannot_shrink_says_why(attend: Attention, reason: str) -> None:
    plan = attend.cache(16)
    assert not plan.shrinks
    assert plan.reason == reason
    assert repr(plan).endswith(f"it does not shrink: {reason}>")


def test_tables_make_a_plan_exact_and_without_them_it_holds_for_all() -> None:
    doc = np.array([[0, 0, 0, 1, 1, 1, 1, 2], [0] * 8])
    open_, closed = MODULE.packed().cache(8), MODULE.packed().cache(8, doc=doc)
    assert (open_.exact, open_.depends_on, open_.last_reader.tolist()) == (False, ("doc",), [[7] * 8])
    assert (closed.exact, closed.depends_on) == (True, ())
    assert closed.last_reader.tolist() == [[[2, 2, 2, 6, 6, 6, 6, 7]], [[7] * 8]]
    assert closed.positions(4, entry=0).tolist() == [3, 4]
    assert closed.positions(4).tolist() == [0, 1, 2, 3, 4]
    assert closed.reads(4, entry=0).tolist() == [3, 4]
    window = MODULE.packed_window().cache(8)
    assert (window.text, window.exact, window.bound) == ("min(k + 4, n - 1)", False, 5)
    assert "an upper bound: for any contents of doc" in repr(window)
    assert MODULE.usual().cache(6).last_reader.tolist() == [[1, 5, 3, 4, 5, 5]]  # by the default of its table
    with pytest.raises(TypeError, match="real: missing; two expects a bool tensor"):
        MODULE.two().cache(8, doc=doc)


def test_what_a_row_may_read_holds_for_all_contents() -> None:
    attend = MODULE.choice()
    plan = attend.cache(9)
    assert (plan.exact, plan.text) == (False, "min(k + 4, n - 1)")
    assert plan.reads(7).tolist() == [3, 4, 5, 6, 7] == plan.positions(7).tolist()
    for wide in (np.zeros(9, bool), np.ones(9, bool), np.arange(9) % 2 == 0):
        assert wrong_plan(plan, attend.mask(9, wide=wide).numpy(), False, range(9)) is None
        assert wrong_plan(attend.cache(9, wide=wide), attend.mask(9, wide=wide).numpy(), True, range(9)) is None


def test_heads() -> None:
    plan = MODULE.of_heads().cache(9, heads=2)
    assert plan.last_reader.tolist() == [[2, 3, 4, 5, 6, 7, 8, 8, 8], [3, 3, 3, 3, 7, 7, 7, 7, 8]]
    assert plan.positions(5, head=0).tolist() == [3, 4, 5]
    assert plan.positions(5, head=[1]).tolist() == [4, 5]
    assert plan.positions(5).tolist() == [3, 4, 5] == plan.positions(5, head=(0, 1)).tolist()
    assert MODULE.sloped().cache(5).last_reader.tolist() == [[2, 3, 4, 4, 4]]  # no table of the score is asked for
    assert attnc.load("longformer").longformer_char_small().layers[0].cache(5).last_reader.shape == (8, 5)


def test_without_a_closed_form_rows_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for attend in (MODULE.scattered(), MODULE.squares()):
        for n in (1, 30, 300):
            plan = attend.cache(n)
            assert plan.exact
            assert wrong_plan(plan, attend.mask(n).numpy(), True, {0, n // 2, n - 1}) is None
    monkeypatch.setattr(row_reads, "MOST_PAIRS", 100)
    plan = MODULE.scattered().cache(30)
    assert (plan.exact, plan.text, plan.last_reader.tolist()) == (False, "n - 1", [[29] * 30])


def test_a_mask_that_is_causal_at_some_lengths() -> None:
    attend = MODULE.ahead(size=3)
    assert attend.cache(20).largest == 3
    with pytest.raises(ValueError, match=r"^ahead: is not causal, and .*: at n = 21 row 0 reads key 1$"):
        attend.cache(21)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda plan: MODULE.past(size=3).cache(-1), ValueError, "n: is -1, expected 0 or more"),
        (lambda plan: MODULE.past(size=3).cache("9"), TypeError, "n: is str, expected an int"),
        (lambda plan: MODULE.past(size=3).cache(9, doc=[0]), TypeError, "doc: past has no such table"),
        (lambda plan: MODULE.past(size=3).cache(9, 2), TypeError, "past"),
        (lambda plan: plan.positions(9), ValueError, "p: is 9, expected a row of the plan, 0 <= p < 9"),
        (lambda plan: plan.positions(-1), ValueError, "p: is -1"),
        (lambda plan: plan.positions(1.0), TypeError, "p: is float, expected an int"),
        (lambda plan: plan.positions(1, head=1), ValueError, "head: is 1, expected 0 <= head < 1"),
        (lambda plan: plan.reads(1, entry=1), ValueError, "entry: is 1, expected 0 <= entry < 1"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(MODULE.past(size=3).cache(9))


def test_no_tokens() -> None:
    plan = MODULE.past(size=3).cache(0)
    assert (plan.last_reader.shape, plan.largest, plan.shrinks) == ((1, 0), 0, True)


def test_a_last_reader_is_asked_for_lengths_alone() -> None:
    last = attnc.load("causal").causal().facts.last_reader
    assert last.at(3, heads=2).tolist() == [[2, 2, 2]] * 2
    for given, kind, said in (
        ({"n": -1}, ValueError, "n: is -1, expected 0 or more"),
        ({"n": 2.5}, TypeError, "n: is float, expected an int"),
        ({"n": 4, "heads": 0}, ValueError, "heads: is 0, expected 1 or more"),
    ):
        with pytest.raises(kind, match=said):
            last.at(**given)


def test_a_cache_of_keys_that_are_still_to_come_holds_none() -> None:
    later = attnc.loads("pattern p = k == q + 4 and n > 7").p()
    assert later.facts.last_reader.bound == 0
