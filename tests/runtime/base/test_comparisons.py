"""Floats in a mask are compared in their table's own dtype, exactly, the same by every executor and in `.mask`."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import attnc
from attnc.runtime.call.comparisons import _derive

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SIGNS: dict[str, Callable[[object, object], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
EXECUTORS = ("cpp", "blocked")
N = 24


def kept(attention: attnc.Attention, dtype: torch.dtype, **tables: Any) -> Tensor:
    """Which pairs a call keeps, bool ``[n, n]``: the outputs where the values are the identity."""
    q, k = (torch.zeros(1, 1, N, 4, dtype=dtype) for _ in range(2))
    out = attention(q, k, torch.eye(N, dtype=dtype)[None, None], **tables)
    return out[0, 0] > 0


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Iterator[str]:
    with attnc.settings.override(backend=request.param, optimisation=0):
        yield request.param


def near(value: float, dtype: torch.dtype, draw: Random) -> Tensor:
    """Entries at a value, beside it in this dtype and in the others, and far from it."""
    exact = torch.tensor([value], dtype=torch.float64)
    entries = [exact.to(other).to(torch.float64) for other in DTYPES]
    entries += [torch.nextafter(x, torch.full_like(x, far)) for x in entries for far in (math.inf, -math.inf)]
    own = exact.to(dtype).to(torch.float32).numpy()
    entries += [torch.from_numpy(np.nextafter(own, far, dtype=np.float32)).double() for far in (np.inf, -np.inf)]
    entries += [torch.tensor([x], dtype=torch.float64) for x in (0.0, -0.0, math.inf, -math.inf, math.nan, 3.0, 7.5)]
    drawn = [draw.choice(entries) for _ in range(N)]
    return torch.cat(drawn).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compute", [torch.float32, torch.float64])
def test_an_entry_beside_a_literal_is_compared_as_torch_compares(
    executor: str, compute: torch.dtype, dtype: torch.dtype
) -> None:
    draw = Random(f"{dtype}{compute}")
    literals = ("0.3", "0.1", "16777217.0", "1e-40", "0.0") if executor == "blocked" else ("0.3", "1e-40")
    for literal in literals:
        for sign in SIGNS if literal == "0.3" and executor == "blocked" else ("<=", "=="):
            attention = attnc.loads(f"pattern p(b: float[token]) = b[k] {sign} {literal}").p()
            b = near(float(literal), dtype, draw)
            wanted = SIGNS[sign](b, float(literal))
            assert isinstance(wanted, Tensor)
            assert torch.equal(attention.mask(N, b=b)[0], wanted.expand(N, N)), (sign, literal)
            assert torch.equal(kept(attention, compute, b=b), wanted.expand(N, N)), (sign, literal)


@pytest.mark.parametrize(
    "dtypes", [(torch.float64, torch.float32), (torch.float64, torch.float64), (torch.bfloat16, torch.float16)]
)
def test_entries_of_two_tables_are_compared_exactly(executor: str, dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    draw = Random(str(dtypes))
    for sign in SIGNS if executor == "blocked" else ("<", "=="):
        attention = attnc.loads(f"pattern p(a: float[token], b: float[token]) = a[q] {sign} b[k]").p()
        a, b = (near(0.3, dtype, draw) for dtype in dtypes)
        wanted = SIGNS[sign](a.double()[:, None], b.double()[None, :])
        assert isinstance(wanted, Tensor)
        assert torch.equal(attention.mask(N, a=a, b=b)[0], wanted), sign
        assert torch.equal(kept(attention, torch.float32, a=a, b=b), wanted), sign


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_integer_beside_an_entry_is_compared_exactly(executor: str, dtype: torch.dtype) -> None:
    """In Python, whose comparison of an int with a float rounds neither."""
    draw = Random(str(dtype))
    b = torch.cat([near(16_777_217.0, dtype, draw)[:12], near(2.5, dtype, draw)[:12]])
    for sign in SIGNS if executor == "blocked" else ("<", "=="):
        compare = SIGNS[sign]
        for left, number in (("k + 16777206", lambda k: k + 16_777_206), ("k", lambda k: k)):
            text = f"pattern p(b: float[token]) = {left} {sign} b[q] and not (b[q] {sign} k + 1000)"
            attention = attnc.loads(text).p()
            wanted = torch.tensor(
                [[compare(number(k), x) and not compare(x, k + 1000) for k in range(N)] for x in b.tolist()]
            )
            assert torch.equal(attention.mask(N, b=b)[0], wanted), text
            assert torch.equal(kept(attention, torch.float32, b=b), wanted), text


def test_a_choice_between_floats_is_compared(executor: str) -> None:
    attention = attnc.loads(
        "pattern p(b: float[token]) = (b[k] if q % 2 == 0 else 0.25) < (b[q] if k > 3 else 0.3)"
    ).p()
    b = near(0.3, torch.float64, Random(3))
    values = b.tolist()
    wanted = torch.tensor(
        [[(values[k] if q % 2 == 0 else 0.25) < (values[q] if k > 3 else 0.3) for k in range(N)] for q in range(N)]
    )
    assert torch.equal(attention.mask(N, b=b)[0], wanted)
    assert torch.equal(kept(attention, torch.float32, b=b), wanted)


def test_a_table_that_score_and_mask_read_keeps_its_gradient(executor: str) -> None:
    attention = attnc.loads("attention p(b: float[token]) { mask = b[k] > 0.3 or k == q  score = s + b[k] }").p()
    b = near(0.3, torch.float64, Random(5)).nan_to_num(0.5, 1.0, -1.0)
    q, k, v = (torch.randn(1, 1, N, 4, generator=torch.Generator().manual_seed(i)) for i in range(3))
    ours, judge = (b.clone().requires_grad_() for _ in range(2))
    attention(q, k, v, b=ours).square().sum().backward()
    attention.reference(q, k, v, b=judge).square().sum().backward()
    assert ours.grad is not None
    assert judge.grad is not None
    torch.testing.assert_close(ours.grad, judge.grad, rtol=1e-4, atol=1e-5)


def test_a_scalar_beside_an_entry_is_rounded_to_its_dtype(executor: str) -> None:
    """As torch takes a number: however it was written, as a default, at the call or as a literal."""
    attention = attnc.loads("pattern p(b: float[token], t: float[] = 0.3) = b[k] >= t or b[q] > t").p()
    for dtype in DTYPES:
        b = torch.full((N,), 0.3, dtype=dtype)
        for given in ({}, {"t": 0.3}, {"t": torch.tensor(0.3, dtype=torch.float64)}):
            assert attention.mask(N, b=b, **given).all(), (dtype, given)
            assert kept(attention, torch.float32, b=b, **given).all(), (dtype, given)
    never = attnc.loads("pattern p(b: float[token], t: float[] = 0.3) = b[k] > t").p()
    assert not never.mask(N, b=torch.full((N,), 0.3)).any()


def test_a_literal_beside_a_default_is_compared_in_double_precision(executor: str) -> None:
    attention = attnc.loads("pattern p(b: float[] = 0.30000001192092896) = b > 0.3 and causal").p()
    assert attention.mask(N).any()
    assert torch.equal(kept(attention, torch.float32), attention.mask(N)[0])


def test_the_parts_of_a_double_are_in_its_order() -> None:
    draw = np.random.default_rng(7)
    bits = torch.from_numpy(draw.integers(-(2**63), 2**63 - 1, 3000))
    x = torch.cat([bits.view(torch.float64), torch.tensor([0.0, -0.0, math.inf, -math.inf, 5e-324, -5e-324])])
    x = x[~x.isnan()]
    parts = torch.stack([_derive(x, kind) for kind in ("high", "middle", "low")]).T.tolist()
    values = x.tolist()
    for i, j in zip(range(len(values)), draw.permutation(len(values)).tolist(), strict=True):
        assert (parts[i] < parts[j]) == (values[i] < values[j])
        assert (parts[i] == parts[j]) == (values[i] == values[j])
    assert _derive(torch.tensor([0.0]), "low").item() == _derive(torch.tensor([0.0]), "high").item() == 0
    assert _derive(torch.tensor([math.nan]), "high").item() < min(part[0] for part in parts)
