"""The dense definition against loops over pairs, and its gradients against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import attnc
from attnc.compiler.ir.operations import murmur

TEXT = """
pattern near(size: int = 4) = abs(q - k) <= size // 2
pattern around(g: tokens) = near or q in g or k in g
pattern twice = (k <= q) + near(6)
pattern nothing = k < 0
pattern late_rows = k <= q and q >= 3
pattern documents_of(doc: int[token]) = doc[q] == doc[k]
pattern shorter(length: int[]) = k < length
pattern limited(limit: int[query]) = k <= limit[q]
pattern reaching(reach: int[head]) = 0 <= q - k and q - k <= reach[head]
pattern half_heads = head % 2 == 0 or k <= q
attention sloped(slope: float[head]) { mask = k <= q   score = s + slope[head] * (k - q) }
attention capped(cap: float[]) { mask = k <= q   score = cap * tanh(s / cap) }
attention sunk(logit: float[head]) { mask = 2 <= q - k and q - k < 6   sink = logit[head] }
attention counted(logit: float[head]) { mask = (k <= q) + near(4)   score = 2 * s   sink = logit[head] }
attention far(w: float[]) { mask = k <= q   score = s + w * log(q - k) if q > k else s }
attention logs(w: float[]) { mask = k < q   score = s + w * log(q - k) }
attention unscaled { mask = k <= q   scale = 1.0 }
attention by_head { mask = k <= q   scale = 1 / (1 + head) }
attention beyond(bias: float[reach]) { mask = k <= q   score = s + bias[q - k] }
"""

MODULE = attnc.loads(TEXT)
Keep = Callable[[int, int, int, int], int]
Score = Callable[[float, int, int, int, int], float]


def inputs(
    batch: int = 2, heads: int = 2, m: int = 7, n: int = 7, d: int = 3, value_dim: int = 4, kv_heads: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(m * 100 + n)
    kv_heads = heads if kv_heads is None else kv_heads
    shapes = ((batch, heads, m, d), (batch, kv_heads, n, d), (batch, kv_heads, n, value_dim))
    q, k, v = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return q, k, v


def by_hand(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keep: Keep,
    score: Score = lambda s, b, h, i, j: s,
    sink: Callable[[int], float] | None = None,
    scale: Callable[[int], float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Pair by pair; positions start at 0."""
    batch, heads, m, d = q.shape
    group = heads // k.shape[1]
    out, lse = torch.zeros(batch, heads, m, v.shape[3], dtype=torch.float64), torch.zeros(batch, heads, m).double()
    for b in range(batch):
        for h in range(heads):
            for i in range(m):
                factor = 1 / math.sqrt(d) if scale is None else scale(h)
                weights = {}
                for j in range(k.shape[2]):
                    count = int(keep(b, h, i, j))
                    if count:
                        s = float(q[b, h, i] @ k[b, h // group, j]) * factor
                        weights[j] = count * math.exp(score(s, b, h, i, j))
                total = sum(weights.values()) + (math.exp(sink(h)) if sink else 0.0)
                for j, weight in weights.items():
                    out[b, h, i] += weight / total * v[b, h // group, j]
                lse[b, h, i] = math.log(total) if total else -math.inf
    return out, lse


def agrees(attend: attnc.Attention, keep: Keep, sizes: dict[str, int] | None = None, **more: Any) -> None:
    tables = more.pop("tables", {})
    q, k, v = inputs(**(sizes or {}))
    out, lse = attend.reference(q, k, v, return_lse=True, **tables)
    expected, expected_lse = by_hand(q, k, v, keep, **more)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(lse, expected_lse, rtol=1e-12, atol=1e-12)


def test_masks() -> None:
    agrees(MODULE.near(), lambda b, h, i, j: abs(i - j) <= 2)
    agrees(MODULE.near(size=8), lambda b, h, i, j: abs(i - j) <= 4, {"m": 5, "n": 9})
    agrees(MODULE.half_heads(), lambda b, h, i, j: h % 2 == 0 or j <= i)
    agrees(MODULE.nothing(), lambda b, h, i, j: 0)
    agrees(MODULE.late_rows(), lambda b, h, i, j: j <= i and i >= 3)


def test_counts() -> None:
    agrees(MODULE.twice(), lambda b, h, i, j: (j <= i) + (abs(i - j) <= 3))


def test_grouped_heads_and_other_value_dims() -> None:
    for kv_heads in (1, 2, 3):
        agrees(MODULE.half_heads(), lambda b, h, i, j: h % 2 == 0 or j <= i, {"heads": 6, "kv_heads": kv_heads})


def test_tables() -> None:
    doc = torch.tensor([0, 0, 1, 1, 1, 0, 2])
    agrees(MODULE.documents_of(), lambda b, h, i, j: doc[i] == doc[j], tables={"doc": doc})
    docs = torch.stack([doc, doc.flip(0)])
    agrees(MODULE.documents_of(), lambda b, h, i, j: docs[b, i] == docs[b, j], tables={"doc": docs})
    agrees(MODULE.shorter(), lambda b, h, i, j: j < 3, tables={"length": 3})
    agrees(MODULE.shorter(), lambda b, h, i, j: j < (3, 0)[b], tables={"length": [3, 0]})
    agrees(MODULE.reaching(), lambda b, h, i, j: 0 <= i - j <= (1, 4)[h], tables={"reach": torch.tensor([1, 4])})
    agrees(MODULE.around(), lambda b, h, i, j: abs(i - j) <= 2 or bool({i, j} & {0, 5}), tables={"g": {0, 5}})
    sets = [{0}, {6, 2}]
    agrees(MODULE.around(), lambda b, h, i, j: abs(i - j) <= 2 or bool({i, j} & sets[b]), tables={"g": sets})


def test_scores_sinks_and_scales() -> None:
    slope, logit = torch.tensor([0.5, -0.25]), torch.tensor([1.0, -2.0])
    causal: Keep = lambda b, h, i, j: j <= i  # noqa: E731
    agrees(
        MODULE.sloped(), causal, score=lambda s, b, h, i, j: s + float(slope[h]) * (j - i), tables={"slope": slope}
    )  # fmt: skip
    agrees(MODULE.capped(), causal, score=lambda s, b, h, i, j: 3 * math.tanh(s / 3), tables={"cap": 3.0})
    agrees(
        MODULE.sunk(), lambda b, h, i, j: 2 <= i - j < 6, sink=lambda h: float(logit[h]), tables={"logit": logit}
    )  # fmt: skip
    agrees(
        MODULE.counted(), lambda b, h, i, j: (j <= i) + (abs(i - j) <= 2), score=lambda s, b, h, i, j: 2 * s,
        sink=lambda h: float(logit[h]), tables={"logit": logit},
    )  # fmt: skip
    agrees(MODULE.unscaled(), causal, scale=lambda h: 1.0)
    agrees(MODULE.by_head(), causal, scale=lambda h: 1 / (1 + h))


def test_the_calls_scale_wins() -> None:
    q, k, v = inputs()
    causal: Keep = lambda b, h, i, j: j <= i  # noqa: E731
    for scale, of in ((0.5, lambda h: 0.5), (torch.tensor([0.5, 2.0]), lambda h: (0.5, 2.0)[h])):
        out = MODULE.unscaled().reference(q, k, v, scale=scale)
        torch.testing.assert_close(out, by_hand(q, k, v, causal, scale=of)[0])


def test_later_rows() -> None:
    q, k, v = inputs(m=7, n=7)
    attend = MODULE.late_rows()
    whole = attend.reference(q, k, v)
    torch.testing.assert_close(attend.reference(q[:, :, 4:], k, v, q_start=4), whole[:, :, 4:])
    mixed = torch.stack([q[0, :, 1:4], q[1, :, 3:6]])
    found = attend.reference(mixed, k, v, q_start=torch.tensor([1, 3]))
    torch.testing.assert_close(found, torch.stack([whole[0, :, 1:4], whole[1, :, 3:6]]))


def test_a_query_tables_rows_are_the_calls_rows() -> None:
    q, k, v = inputs(m=3)
    limit = torch.tensor([0, 6, 2])
    expected, _ = by_hand(q, k, v, lambda b, h, i, j: j <= int(limit[i]))
    torch.testing.assert_close(MODULE.limited().reference(q, k, v, limit=limit, q_start=4), expected)


def test_dropout_drops_what_the_hash_says() -> None:
    q, k, v = inputs(m=5, n=6)
    seed, rate = 2**40 + 12345, 0.4
    attend = MODULE.near(size=8)
    expected = torch.zeros(2, 2, 5, 4, dtype=torch.float64)
    kept_out, lse = attend.reference(q, k, v, q_start=1, return_lse=True)
    ones = torch.eye(6, dtype=torch.float64).expand(2, 2, 6, 6)
    p = attend.reference(q, k, ones, q_start=1)
    for b, h, i, j in torch.cartesian_prod(*map(torch.arange, (2, 2, 5, 6))).tolist():
        stays = murmur((seed % 2**32, seed >> 32, b, h, i + 1, j)) >= round(rate * 2**31)
        expected[b, h, i] += stays / (1 - rate) * p[b, h, i, j] * v[b, h, j]
    out, dropped_lse = attend.reference(q, k, v, q_start=1, dropout=rate, seed=seed, return_lse=True)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(dropped_lse, lse)
    assert not torch.allclose(out, kept_out)


GRADIENTS: dict[str, tuple[str, dict[str, Tensor]]] = {
    "plain": ("near", {}),
    "rows that keep nothing": ("late_rows", {}),
    "nothing": ("nothing", {}),
    "counts": ("twice", {}),
    "slope": ("sloped", {"slope": torch.tensor([0.5, -0.25])}),
    "slope with a batch": ("sloped", {"slope": torch.tensor([[0.5, -0.25], [1.0, 2.0]])}),
    "cap": ("capped", {"cap": torch.tensor(3.0)}),
    "sink": ("sunk", {"logit": torch.tensor([1.0, -2.0])}),
    "sink and counts": ("counted", {"logit": torch.tensor([1.0, -2.0])}),
    "infinite where not chosen": ("far", {"w": torch.tensor(0.5)}),
    "infinite where not kept": ("logs", {"w": torch.tensor(0.5)}),
}


@pytest.mark.parametrize("case", GRADIENTS)
def test_gradients(case: str) -> None:
    name, given = GRADIENTS[case]
    attend = MODULE[name]()
    sizes = {"m": 5, "n": 5, "d": 2, "value_dim": 2}
    arguments = [x.requires_grad_() for x in (*inputs(**sizes), *(table.double() for table in given.values()))]

    def call(q: Tensor, k: Tensor, v: Tensor, *tables: Tensor) -> tuple[Tensor, Tensor]:
        named = dict(zip(given, tables, strict=True))
        out, lse = attend.reference(q, k, v, return_lse=True, **named)
        return out, torch.where(lse == -torch.inf, 0.0, lse)

    # One random projection of the Jacobian shows a fault in any of its entries, at a hundredth of its time.
    assert torch.autograd.gradcheck(call, arguments, fast_mode=True)


def test_a_row_of_logits_that_are_no_numbers_is_no_number() -> None:
    q, k, v = inputs()
    clean, clean_lse = MODULE.sloped().reference(q, k, v, slope=torch.ones(2), return_lse=True)
    q[0, 0, 2] = math.nan
    out, lse = MODULE.sloped().reference(q, k, v, slope=torch.ones(2), return_lse=True)
    assert out[0, 0, 2].isnan().all()
    assert lse[0, 0, 2].isnan()
    clean[0, 0, 2] = out[0, 0, 2] = clean_lse[0, 0, 2] = lse[0, 0, 2] = 0
    assert torch.equal(out, clean)
    assert torch.equal(lse, clean_lse)


def test_rows_that_keep_nothing() -> None:
    q, k, v = (x.requires_grad_() for x in inputs())
    out, lse = MODULE.late_rows().reference(q, k, v, return_lse=True)
    assert bool((out[:, :, :3] == 0).all())
    assert bool((lse[:, :, :3] == -torch.inf).all())
    (out.sum() + lse[:, :, 3:].sum()).backward()
    assert q.grad is not None
    assert bool((q.grad[:, :, :3] == 0).all())
    assert all(bool(x.grad.isfinite().all()) for x in (q, k, v) if x.grad is not None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    q, k, v = (x.to(dtype) for x in inputs())
    out, lse = MODULE.twice().reference(q, k, v, return_lse=True)
    assert out.dtype == dtype
    assert lse.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    exact = MODULE.twice().reference(q.double(), k.double(), v.double())
    tolerance = {torch.bfloat16: 1e-2, torch.float16: 1e-3}.get(dtype, 1e-6)
    torch.testing.assert_close(out.double(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("sizes", [{"batch": 0}, {"heads": 0, "kv_heads": 0}, {"m": 0}, {"n": 0}, {"m": 1, "n": 1}])
def test_empty_sizes(sizes: dict[str, int]) -> None:
    q, k, v = inputs(**sizes)
    out, lse = MODULE.near().reference(q, k, v, return_lse=True)
    assert out.shape == (*q.shape[:3], 4)
    if sizes.get("n") == 0:
        assert bool((out == 0).all())
        assert bool((lse == -torch.inf).all())


def test_an_index_outside_its_table_raises() -> None:
    q, k, v = inputs()
    with pytest.raises(ValueError, match="outside dimension `reach`"):
        MODULE.beyond().reference(q, k, v, bias=torch.zeros(6, dtype=torch.float64))
    MODULE.beyond().reference(q, k, v, bias=torch.zeros(7, dtype=torch.float64))
