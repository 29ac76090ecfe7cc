"""The operator where the compiler chooses other orders than the natural one, against the dense definition."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

import attnc
from attnc.compiler.analysis.classify import Classifier
from attnc.compiler.plan.orders import natural
from attnc.runtime import launch_cache, planning
from attnc.runtime.base.configuration import settings
from tests.runtime.operator.test_op import BACKENDS, agrees, inputs

MODULE = attnc.loads("""
pattern dilated = abs(q - k) <= 256 and (q - k) % 4 == 0
pattern around(size: int, g: tokens) = window(size) or q in g or k in g
pattern older = k <= q and (q - k < 32 or (q - k) % 32 == 0)
pattern blocks = (q // 8 - k // 8) % 3 == 0 and k <= q
pattern twice = (k <= q) + (abs(q - k) <= 512 and (q - k) % 8 == 0)
pattern apart = abs(q - k) <= 256 and (q - k) % 4 == 0 if head < 1 else window(16)
pattern buckets(rank: order[token]) = abs(rank[q] - rank[k]) <= 40
attention learned(g: tokens, weight: float[token], logit: float[head]) {
    mask = window(64) or k in g
    score = s + weight[k]
    sink = logit[head] + weight[q]
}
""")
N = 150


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with settings.override(backend=request.param, optimisation=0):
        yield request.param


def ranks(batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch)
    return torch.stack([torch.randperm(N, generator=generator) for _ in range(batch)])


TABLES: dict[str, dict[str, Any]] = {
    "dilated": {}, "around": {"g": torch.tensor([[0, 77, -1], [3, 80, 149]])}, "older": {}, "blocks": {}, "twice": {},
    "apart": {}, "buckets": {"rank": ranks(2)}, "learned": {"g": {0, 9}},
}  # fmt: skip
BINDINGS = {"around": {"size": 64}}
ORDERS = {
    "dilated": ("residue(4)",),
    "around": ("natural", "gathered q in g"),
    "blocks": ("residue(3) of blocks of 8",),
    "apart": ("natural", "residue(4)"),
    "buckets": ("sorted by rank[q]",),
    "learned": ("natural",),
}


def tables_of(name: str) -> dict[str, Any]:
    given = dict(TABLES[name])
    if name == "learned":
        generator = torch.Generator().manual_seed(3)
        for table, size in (("weight", N), ("logit", 2)):
            given[table] = torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()
    return given


@pytest.mark.parametrize("name", TABLES)
def test_orders_that_are_chosen(backend: str, name: str) -> None:
    attend, tables = MODULE[name](**BINDINGS.get(name, {})), tables_of(name)
    planned = attend.plan(N, heads=2, **tables)
    if name in ORDERS:
        assert set(planned.order) == set(ORDERS[name])
    orders = [kernel.rows for kernel in planned.kernels]
    orders += [segment.keys for kernel in planned.kernels for segment in kernel.segments]
    assert any(order != natural(order.tile) for order in orders)
    agrees(attend, inputs(m=N, n=N, gradients=True), **tables)


def test_rows_that_begin_anywhere(backend: str) -> None:
    """In the middle of a class of tokens, and in each batch entry elsewhere."""
    qkv = inputs(m=40, n=N, kv_heads=1, gradients=True)
    for start in (3, 4, torch.tensor([110, 5])):
        agrees(MODULE.dilated(), qkv, q_start=start)
        agrees(MODULE.around(64), qkv, q_start=start, g=TABLES["around"]["g"])


def test_dropout_drops_the_same_pairs_in_any_order(backend: str) -> None:
    agrees(MODULE.dilated(), inputs(m=N, n=N, gradients=True), dropout=0.25, seed=9)


def test_another_length_of_an_affine_pattern_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its schedule is one for all lengths."""
    attend = MODULE.dilated()
    attend.plan(N)
    monkeypatch.setattr(planning, "_plans", planning.Kept(8))
    monkeypatch.setattr(launch_cache, "_entries", planning.Kept(8))
    monkeypatch.setattr(Classifier, "classify", lambda *_: pytest.fail("tiles were looked at again"))
    for n in (N + 1, 4096, 1_000_003):
        assert attend.plan(n).schedule.n == n
