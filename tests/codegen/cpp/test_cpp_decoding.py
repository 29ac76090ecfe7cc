"""The C++ kernels for few rows that begin anywhere, against the dense definition: patterns, positions and layouts."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

import attnc
from attnc.runtime.cpp import executor
from tests.runtime.operator.test_op import needs_compiler

pytestmark = needs_compiler

TEXTS = {
    "causal": "pattern p = causal",
    "full": "pattern p = full",
    "window": "pattern p = causal_window(150)",
    "narrow": "pattern p = causal_window(7)",
    "dilated": "pattern p = causal_window(9, dilation = 3)",
    "both sides": "pattern p = window(30)",
    "sinks": "pattern p = causal and (first(3) or causal_window(20))",
    "strided": "pattern p = strided(12)",
    "fixed": "pattern p = fixed(16, 3)",
    "chunked": "pattern p = chunked(40)",
    "hashed": "pattern p = causal and hash(3, q, k) % 3 == 0",
    "counts": "pattern p = causal_window(30) + causal_window(10)",
    "one head": "pattern p = causal_window(8) if head == 0 else causal",
    "heads in turn": "pattern p = causal_window(9) if head % 2 == 0 else causal_window(70)",
    "length": "pattern p(length: int[]) = causal and k < length",
    "slopes": "attention p(slope: float[head]) { mask = causal  score = s + slope[head] * (k - q) }",
    "cap": "attention p { mask = causal_window(40)  score = 5 * tanh(s / 5) }",
    "sink": "attention p(logit: float[head]) { mask = causal_window(33)  sink = logit[head] }",
    "bias": "attention p(bias: float[head, 64]) { mask = causal  score = s + bias[head, min(q - k, 63)] }",
}
TOLERANCES = {torch.float32: 3e-5, torch.float64: 1e-11, torch.bfloat16: 3e-2, torch.float16: 4e-3}


def tables_of(
    name: str, batch: int, heads: int, n: int, dtype: torch.dtype, draw: torch.Generator
) -> dict[str, Tensor]:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    match name:
        case "slopes":
            return {"slope": torch.rand(heads, generator=draw, dtype=wide)}
        case "sink":
            return {"logit": torch.randn(heads, generator=draw, dtype=wide)}
        case "bias":
            return {"bias": torch.randn((heads, 64), generator=draw, dtype=wide)}
        case "length":
            return {"length": torch.randint(0, n + 1, (batch,), generator=draw)}
    return {}


def drawn(shape: tuple[int, ...], by_token: bool, dtype: torch.dtype, draw: torch.Generator) -> Tensor:
    """A tensor of ``[batch, heads, tokens, dim]``, in memory by token before head as a cache may have it."""
    batch, heads, tokens, dim = shape
    if by_token:
        return torch.randn((batch, tokens, heads, dim), generator=draw, dtype=dtype).transpose(1, 2)
    return torch.randn(shape, generator=draw, dtype=dtype)


@pytest.mark.parametrize("name", TEXTS)
def test_against_the_definition(name: str) -> None:
    attend = attnc.loads(TEXTS[name]).p()
    rng, draw = Random(name), torch.Generator().manual_seed(len(name))
    form = rng.choice([(64, 64), (80, 17), (5, 5), (20, 8)]), rng.choice([torch.float32, torch.bfloat16, torch.float64])
    forms = [((64, 64), torch.float32), form]
    for (dim, value_dim), dtype in forms if list(TEXTS).index(name) % 3 == 0 else forms[:1]:
        for _ in range(6):
            batch, kv_heads, group = rng.choice([1, 2, 3]), rng.choice([1, 2]), rng.choice([1, 2, 4])
            n = rng.choice([1, 5, 63, 64, 65, 200, 1000])
            m = min(n, rng.choice([1, 1, 2, 7, 16]))
            by_token = rng.random() < 0.5
            q = drawn((batch, kv_heads * group, m, dim), by_token, dtype, draw)
            k = drawn((batch, kv_heads, n, dim), by_token, dtype, draw)
            v = drawn((batch, kv_heads, n, value_dim), by_token, dtype, draw)
            start: Any = rng.choice([n - m, rng.randint(0, n - m)])
            if batch > 1 and rng.random() < 0.5:
                start = torch.tensor([rng.randint(0, n - m) for _ in range(batch)])
            more: dict[str, Any] = rng.choice([{}, {}, {"scale": -1.0}, {"scale": 0.0}])
            tables = tables_of(name, batch, kv_heads * group, n, dtype, draw)
            out, lse = attend(q, k, v, q_start=start, return_lse=True, **more, **tables)
            wide = {key: table.double() if table.is_floating_point() else table for key, table in tables.items()}
            inputs = (x.double() for x in (q, k, v))
            expected, its = attend.reference(*inputs, q_start=start, return_lse=True, **more, **wide)
            tolerance = TOLERANCES[dtype]
            torch.testing.assert_close(out.double(), expected, atol=tolerance, rtol=tolerance)
            torch.testing.assert_close(lse.double(), its, atol=max(tolerance, 1e-4), rtol=1e-5)


@pytest.mark.parametrize("name", ["window", "sinks", "strided", "counts", "heads in turn", "chunked"])
def test_support(name: str) -> None:
    """q is 0 and values are 0 or 1: outputs times the row's count are whole numbers, and one key more or less shows."""
    attend = attnc.loads(TEXTS[name]).p()
    n, draw = 1000, torch.Generator().manual_seed(1)
    k, v = torch.randn((1, 2, n, 8), generator=draw), torch.randint(0, 2, (1, 2, n, 64), generator=draw).float()
    for m, start in ((1, 999), (1, 0), (5, 321), (16, 900), (16, 250)):
        counts = attend.mask(n, m, heads=4, q_start=start).double()  # [4, m, n]
        out = attend(torch.zeros(1, 4, m, 8), k, v, q_start=start)[0].double() * counts.sum(-1, keepdim=True)
        expected = counts @ v[0].double().repeat_interleave(2, 0)
        assert torch.equal(out.round(), expected)
        assert (out - expected).abs().max() < 0.01


def test_dropout_is_that_of_all_rows_at_once() -> None:
    attend = attnc.loads(TEXTS["window"]).p()
    q, k, v = torch.randn(3, 1, 2, 200, 8)
    whole = attend(q, k, v, dropout=0.4, seed=7)
    for start, m in ((0, 1), (77, 16), (199, 1)):
        rows = attend(q[:, :, start : start + m], k, v, q_start=start, dropout=0.4, seed=7)
        torch.testing.assert_close(rows, whole[:, :, start : start + m], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_keys_that_no_row_keeps_do_not_matter(poison: float) -> None:
    """Those of partial tiles too, and those beyond the keys, in a cache that is longer."""
    attend = attnc.loads("pattern p = causal and (first(3) or causal_window(20))").p()
    k, v = torch.randn(2, 1, 2, 400, 64)
    for start in (5, 100, 255, 300):
        q, n = torch.randn(1, 2, 1, 64), start + 1
        kept = attend.mask(n, 1, q_start=start)[0, 0].nonzero()[:, 0]
        bad_k, bad_v = torch.full_like(k, poison), torch.full_like(v, poison)
        bad_k[:, :, kept], bad_v[:, :, kept] = k[:, :, kept], v[:, :, kept]
        found = attend(q, bad_k[:, :, :n], bad_v[:, :, :n], q_start=start)
        torch.testing.assert_close(found, attend.reference(q, k[:, :, :n], v[:, :, :n], q_start=start))


def test_a_long_cache_is_split_and_gives_the_same_for_any_number_of_threads() -> None:
    attend = attnc.loads(TEXTS["causal"]).p()
    q, (k, v) = torch.randn(1, 4, 1, 64), torch.randn(2, 1, 2, 20_000, 64)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(attend(q, k, v, q_start=19_999))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    expected = attend.reference(q.double(), k.double(), v.double(), q_start=19_999).float()
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=1e-4)


def test_one_kernel_serves_all_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    attend = attnc.loads(TEXTS["narrow"]).p()
    k, v = torch.randn(2, 1, 2, 300, 24)
    attend(torch.randn(1, 2, 1, 24), k[:, :, :10], v[:, :, :10], q_start=9)
    monkeypatch.setattr(executor, "kernel_of", None)
    for n in range(11, 300, 17):
        attend(torch.randn(1, 2, 1, 24), k[:, :, :n], v[:, :, :n], q_start=n - 1)
