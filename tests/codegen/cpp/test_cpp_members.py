"""The C++ kernels whose rows read their keys off run-time sets, against the dense definition, forward and backward."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

import attnc
from attnc.compiler.plan.programs import Kernel
from attnc.runtime.base.configuration import settings
from tests.runtime.operator.test_op import needs_compiler

pytestmark = needs_compiler

TEXTS = {
    "slashes": "pattern p(z: set[head]) = causal and q - k in z[head]",
    "ahead": "pattern p(z: set[head]) = k - q + 3 in z[head]",
    "lines": "pattern p(w: set[head], z: set[head]) = causal and (k in w[head] or q - k in z[head])",
    "chosen": "pattern p(t: set[token]) = causal and k in t[q]",
    "chosen by head": "pattern p(t: set[head, token]) = k in t[head, q]",
    "chosen by block": "pattern p(b: set[head, 40]) = causal and k in b[head, q // 16]",
    "beside a window": "pattern p(t: set[token]) = causal_window(9) or causal and k in t[q]",
    "two sets": "pattern p(z: set[head], t: set[token]) = q - k in z[head] or k in t[q]",
    "every third row": "pattern p(z: set[head]) = causal and q - k in z[head] if q % 3 == 0 else causal_window(4)",
    "counts": "pattern p(z: set[head]) = causal_window(5) + (causal and q - k in z[head])",
    "counted twice": "pattern p(z: set[head]) = (causal and q - k in z[head]) + (causal and q - k in z[0])",
    "some heads": "pattern p(z: set[head]) = causal and q - k in z[head] if head < 1 else causal_window(20)",
    "slopes": """attention p(z: set[head], slope: float[head]) {
                     mask = causal and q - k in z[head]   score = s + slope[head] * (k - q) }""",
    "bias": """attention p(z: set[head], bias: float[head, 64]) {
                   mask = causal and q - k in z[head]   score = s + bias[head, min(q - k, 63)] }""",
    "cap and sink": """attention p(z: set[token], logit: float[head]) {
                           mask = k in z[q]   score = 5 * tanh(s / 5)   sink = logit[head] }""",
}
TOLERANCES = {torch.float32: 3e-5, torch.float64: 1e-11, torch.bfloat16: 4e-2, torch.float16: 5e-3}
FLOATS = {"slope", "bias", "logit"}
SETS = {"z": "head", "w": "head", "t": "token", "b": "block"}


def tables_of(name: str, heads: int, n: int, batch: int | None, draw: torch.Generator) -> dict[str, Tensor]:
    """Sets with members twice, unused slots and members far away; learned tables in fp64."""
    found = {}
    for table in attnc.loads(TEXTS[name]).p().tables:
        if table in FLOATS:
            sizes = (heads, 64) if table == "bias" else (heads,)
            found[table] = torch.randn(sizes, generator=draw, dtype=torch.float64)
            continue
        kind = "token" if name == "cap and sink" else SETS[table]
        if kind == "token" and name == "chosen by head":
            sizes = (heads, n)
        else:
            sizes = {"head": (heads,), "token": (n,), "block": (heads, 40)}[kind]
        lead = () if batch is None else (batch,)
        members = torch.randint(-1, n + 9, (*lead, *sizes, 7), generator=draw)
        members[..., 0] = members[..., 1]
        found[table] = members
    return found


def kernels(attend: Any, n: int, heads: int, tables: dict[str, Tensor]) -> tuple[Kernel, ...]:
    kernels: tuple[Kernel, ...] = attend.plan(n, heads=heads, target="cpu", **tables).kernels
    return kernels


def gradients(attend: Any, inputs: list[Tensor], grad: Tensor, grad_lse: Tensor, **given: Any) -> list[Tensor]:
    out, lse = attend(*inputs[:3], return_lse=True, **given)
    finite = torch.where(lse.isfinite(), lse, 0.0)
    wanted = [x for x in (*inputs, *given.values()) if isinstance(x, Tensor) and x.requires_grad]
    total = (out * grad.to(out.dtype)).sum() + (finite * grad_lse.to(lse.dtype)).sum()
    return [out, lse, *torch.autograd.grad(total, wanted)]


@pytest.mark.parametrize("name", TEXTS)
def test_against_the_definition(name: str) -> None:
    attend = attnc.loads(TEXTS[name]).p()
    rng, draw = Random(name), torch.Generator().manual_seed(len(name))
    forms: list[tuple[tuple[int, int], torch.dtype]] = [((24, 7), torch.float64)]
    if list(TEXTS).index(name) % 4 == 0:
        forms += [((64, 64), torch.float32), ((20, 80), torch.bfloat16), ((64, 64), torch.float16)]
    with settings.override(optimisation=0 if len(forms) == 1 else 2):
        for (dim, value_dim), dtype in forms:
            for _ in range(3):
                batch, kv_heads, group = rng.choice([1, 2]), rng.choice([1, 2]), rng.choice([1, 2])
                n, heads = rng.choice([1, 40, 64, 130, 200]), kv_heads * group
                start = rng.choice([0, 0, n // 2])
                tables = tables_of(name, heads, n, rng.choice([None, batch]), draw)
                if name != "some heads" or heads > 1:
                    assert any(its.members for its in kernels(attend, n, heads, tables))
                q = torch.randn((batch, n - start, heads, dim), generator=draw).transpose(1, 2)
                k = torch.randn((batch, kv_heads, n, dim), generator=draw)
                v = torch.randn((batch, n, kv_heads, value_dim), generator=draw).transpose(1, 2)
                inputs = [x.to(dtype).requires_grad_() for x in (q, k, v)]
                grad = torch.randn((batch, heads, n - start, value_dim), generator=draw)
                grad_lse = torch.randn((batch, heads, n - start), generator=draw)
                wide = torch.float64 if dtype == torch.float64 else torch.float32
                own = {x: y.to(wide).requires_grad_() if x in FLOATS else y for x, y in tables.items()}
                far = {x: y.requires_grad_() if x in FLOATS else y for x, y in tables.items()}
                found = gradients(attend, inputs, grad, grad_lse, q_start=start, **own)
                double = [x.detach().double().requires_grad_() for x in inputs]
                expected = gradients(attend.reference, double, grad.double(), grad_lse.double(), q_start=start, **far)
                tolerance = TOLERANCES[dtype]
                for its, right in zip(found, expected, strict=True):
                    finite = right.detach()[right.isfinite()]
                    scale = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
                    within = tolerance * scale
                    torch.testing.assert_close(its.double(), right, atol=within, rtol=tolerance, equal_nan=True)


@pytest.mark.parametrize("name", ["slashes", "lines", "chosen", "two sets", "counted twice", "chosen by block"])
def test_support(name: str) -> None:
    """q is 0 and values are 0 or 1: outputs times the row's count are whole numbers, and one key more or less shows."""
    attend = attnc.loads(TEXTS[name]).p()
    n, draw = 330, torch.Generator().manual_seed(1)
    tables = tables_of(name, 4, n, None, draw)
    k, v = torch.randn((1, 2, n, 8), generator=draw), torch.randint(0, 2, (1, 2, n, 64), generator=draw).float()
    counts = attend.mask(n, heads=4, **tables).double().expand(4, n, n)
    v.requires_grad_()
    out = attend(torch.zeros(1, 4, n, 8), k, v, **tables)
    total = counts.sum(-1, keepdim=True)
    whole = out[0].detach().double() * total
    expected = counts @ v[0].detach().double().repeat_interleave(2, 0)
    assert torch.equal(whole.round(), expected)
    assert (whole - expected).abs().max() < 0.01
    grad = torch.randint(0, 2, out.shape, generator=draw).float()
    (its,) = torch.autograd.grad(out, v, grad)
    shares = torch.where(total > 0, counts / total.clamp(min=1), 0.0)
    right = (shares.transpose(-1, -2) @ grad[0].double()).reshape(2, 2, n, 64).sum(1)
    torch.testing.assert_close(its[0].double(), right, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["slashes", "chosen"])
def test_keys_that_no_row_keeps_do_not_matter(name: str, poison: float) -> None:
    attend = attnc.loads(TEXTS[name]).p()
    n, draw = 200, torch.Generator().manual_seed(2)
    tables = {x: y[..., :2] for x, y in tables_of(name, 2, n, None, draw).items()}
    if name == "chosen":
        tables["t"] = tables["t"] // 3 * 3
    q, k, v = torch.randn((3, 1, 2, n, 16), generator=draw)
    seen = attend.mask(n, heads=2, **tables).expand(2, n, n).any(1)[None, :, :, None]
    assert not seen.all()
    bad = [torch.where(seen, x, poison).requires_grad_() for x in (k, v)]
    good = [torch.where(seen, x, 0.0).requires_grad_() for x in (k, v)]
    q.requires_grad_()
    found, right = attend(q, *bad, **tables), attend.reference(q, *good, **tables)
    torch.testing.assert_close(found, right)
    for its, other in zip(
        *(torch.autograd.grad(x.sum(), [q, *y]) for x, y in ((found, bad), (right, good))), strict=True
    ):
        torch.testing.assert_close(its, other, atol=1e-4, rtol=1e-4)


def test_dropout_drops_the_same() -> None:
    attend = attnc.loads(TEXTS["lines"]).p()
    tables = tables_of("lines", 2, 150, None, torch.Generator().manual_seed(5))
    q, k, v = (x.requires_grad_() for x in torch.randn(3, 1, 2, 150, 8, dtype=torch.float64))
    found, right = (f(q, k, v, dropout=0.4, seed=7, **tables) for f in (attend, attend.reference))
    torch.testing.assert_close(found, right)
    for its, other in zip(*(torch.autograd.grad(x.square().sum(), [q, k, v]) for x in (found, right)), strict=True):
        torch.testing.assert_close(its, other)


def test_parts_of_the_keys_make_the_whole() -> None:
    attend = attnc.loads(TEXTS["two sets"]).p()
    n = 170
    tables = tables_of("two sets", 2, n, None, torch.Generator().manual_seed(6))
    q, k, v = (x.requires_grad_() for x in torch.randn(3, 1, 2, n, 8, dtype=torch.float64))
    cuts = [0, 50, 51, 130, n]
    parts = [
        attend(q, k[:, :, a:b], v[:, :, a:b], k_start=a, n=n, return_lse=True, **tables) for a, b in pairwise(cuts)
    ]
    found, right = attnc.merge(parts)[0], attend.reference(q, k, v, **tables)
    torch.testing.assert_close(found, right)
    for its, other in zip(*(torch.autograd.grad(x.square().sum(), [q, k, v]) for x in (found, right)), strict=True):
        torch.testing.assert_close(its, other)


def test_any_number_of_threads_gives_the_same() -> None:
    attend = attnc.loads(TEXTS["lines"]).p()
    tables = tables_of("lines", 4, 900, None, torch.Generator().manual_seed(3))
    q, k, v = (x.requires_grad_() for x in torch.randn(3, 1, 4, 900, 16))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = attend(q, k, v, **tables)
            results.append([out, *torch.autograd.grad(out.square().sum(), [q, k, v])])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(x, y) for other in results[1:] for x, y in zip(results[0], other, strict=True))


@pytest.mark.parametrize("name", ["slashes", "lines"])
def test_few_rows_at_any_position(name: str) -> None:
    attend = attnc.loads(TEXTS[name]).p()
    n = 260
    tables = tables_of(name, 2, n, None, torch.Generator().manual_seed(4))
    q, k, v = torch.randn(3, 1, 2, n, 8, dtype=torch.float64)
    for m, start in ((1, 259), (1, 0), (3, 77), (16, 200)):
        found = attend(q[:, :, :m], k, v, q_start=start, **tables)
        torch.testing.assert_close(found, attend.reference(q[:, :, :m], k, v, q_start=start, **tables))


def test_sets_kept_as_lists_or_as_bitmaps() -> None:
    """Many sets of few members are searched, others are looked up; some have more members than are listed at once."""
    attend = attnc.loads(TEXTS["slashes"]).p()
    few = torch.randint(0, 70_000, (2, 12))
    q = torch.randn(1, 2, 60, 8, dtype=torch.float64)
    k, v = torch.randn(2, 1, 2, 70_000, 8, dtype=torch.float64)
    found = attend(q, k, v, q_start=69_940, z=few)
    torch.testing.assert_close(found, attend.reference(q, k, v, q_start=69_940, z=few))
    many = torch.randperm(3000)[:2500].expand(2, -1)
    q, k, v = torch.randn(3, 1, 2, 3000, 8, dtype=torch.float64)
    torch.testing.assert_close(attend(q, k, v, z=many), attend.reference(q, k, v, z=many))


def test_as_many_keys_are_computed_as_are_named() -> None:
    n, draw = 1024, torch.Generator().manual_seed(8)
    attend = attnc.loads(TEXTS["lines"]).p()
    tables = {x: torch.stack([torch.randperm(n, generator=draw)[:32] for _ in range(4)]) for x in ("w", "z")}
    plan = attend.plan(n, heads=4, target="cpu", **tables)
    assert plan.pairs == int(attend.mask(n, heads=4, **tables).sum())
    assert plan.pairs <= plan.area * n * 4 <= 1.5 * plan.pairs
    distances = tables["z"][0].unique()
    only = attnc.loads(TEXTS["slashes"]).p().plan(n, heads=1, target="cpu", z=tables["z"][:1])
    assert only.pairs == int((n - distances).sum()) == round(only.area * n)
    ahead = attnc.loads(TEXTS["ahead"]).p().plan(n, heads=1, target="cpu", z=tables["z"][:1])
    assert ahead.pairs == round(ahead.area * n)
    assert not any(its.members for its in attend.plan(n, heads=4, target="sm_90", **tables).kernels)
