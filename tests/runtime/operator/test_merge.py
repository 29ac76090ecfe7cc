"""attnc.merge: keys split into sets, and their results in one again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import attnc
from attnc.runtime.base.configuration import settings

MODULE = attnc.loads("""
pattern causal_in(first: int[], last: int[]) = k <= q and first <= k < last
attention sunk(first: int[], last: int[], logit: float[head]) {
    mask = k <= q and first <= k < last
    sink = logit[head]
}
""")
ONE = torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3)
EDGES = [(0, 10), (10, 11), (11, 40)]


def inputs(dtype: torch.dtype = torch.float64, n: int = 40) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(2, 3, n, 8, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3)]


@pytest.fixture(autouse=True)
def blocked() -> object:
    with settings.override(backend="blocked"):
        yield


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.bfloat16, 2e-2)])
def test_split_keys_are_the_whole(dtype: torch.dtype, tolerance: float) -> None:
    """Rows before a part keep nothing in it."""
    qkv = inputs(dtype)
    attend = MODULE.causal_in()
    whole = attend(*qkv, first=0, last=40, return_lse=True)
    merged = attnc.merge(attend(*qkv, first=first, last=last, return_lse=True) for first, last in EDGES)
    assert [x.dtype for x in merged] == [x.dtype for x in whole]
    for found, expected in zip(merged, whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_gradients_of_split_keys() -> None:
    qkv = [x.requires_grad_() for x in inputs()]
    attend = MODULE.causal_in()
    results = []
    for out, lse in (
        attend(*qkv, first=0, last=40, return_lse=True),
        attnc.merge([attend(*qkv, first=first, last=last, return_lse=True) for first, last in EDGES]),
    ):
        generator = torch.Generator().manual_seed(1)
        weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in (out, lse)]
        results.append(torch.autograd.grad((out * weights[0]).sum() + (lse * weights[1]).sum(), qkv))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_a_sink_in_one_part() -> None:
    qkv = inputs()
    logit = torch.tensor([0.5, -1.0, 3.0], dtype=torch.float64)
    whole = MODULE.sunk()(*qkv, first=0, last=40, logit=logit, return_lse=True)
    merged = attnc.merge([
        MODULE.sunk()(*qkv, first=0, last=0, logit=logit, return_lse=True),
        *(MODULE.causal_in()(*qkv, first=first, last=last, return_lse=True) for first, last in EDGES),
    ])  # fmt: skip
    for found, expected in zip(merged, whole, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_gradcheck() -> None:
    """Rows alive in both parts, in either, in neither; finite differences of the rows that are."""
    generator = torch.Generator().manual_seed(3)
    outs = torch.randn(2, 1, 2, 4, 3, generator=generator, dtype=torch.float64).requires_grad_()
    lses = torch.randn(2, 1, 2, 4, generator=generator, dtype=torch.float64).requires_grad_()
    dead = torch.tensor([[False, True, False, True], [False, False, True, True]]).reshape(2, 1, 1, 4)

    def merged(outs: Tensor, lses: Tensor) -> tuple[Tensor, Tensor]:
        lses = torch.where(dead, -torch.inf, lses)
        out, lse = attnc.merge(zip(outs, lses, strict=True))
        return out, torch.where(lse == -torch.inf, 0.0, lse)

    assert torch.autograd.gradcheck(merged, (outs, lses))
    assert torch.autograd.gradgradcheck(merged, (outs, lses))


def test_rows_that_keep_nothing() -> None:
    """Nothing reaches the sum from them, whatever stands there; nowhere a number that is none."""
    nothing = torch.full((1, 1, 2, 3), torch.nan, requires_grad=True)
    empty = torch.full((1, 1, 2), -torch.inf, requires_grad=True)
    out, lse = attnc.merge([(nothing, empty), (nothing, empty)])
    assert torch.equal(out, torch.zeros_like(out))
    assert torch.equal(lse, empty)
    something, weight = torch.ones(1, 1, 2, 3), torch.tensor([[[0.5, 800.0]]])
    merged = attnc.merge([(nothing, empty), (something, weight)])
    assert torch.equal(merged[0], something)
    assert torch.equal(merged[1], weight)
    (merged[0].sum() + merged[1].sum()).backward()
    assert nothing.grad is not None
    assert not nothing.grad.any()
    assert empty.grad is not None
    assert not empty.grad.any()


def test_one_part_is_itself() -> None:
    out, lse = MODULE.causal_in()(*inputs(torch.float32), first=5, last=30, return_lse=True)
    merged = attnc.merge([(out, lse)])
    assert torch.equal(merged[0], out)
    assert torch.equal(merged[1], lse)


def test_under_compile() -> None:
    parts = [MODULE.causal_in()(*inputs(), first=a, last=b, return_lse=True) for a, b in EDGES]
    compiled = torch.compile(attnc.merge, backend="eager", fullgraph=True)(parts)
    torch.testing.assert_close(compiled, attnc.merge(parts))


@pytest.mark.parametrize(
    ("parts", "kind", "message"),
    [
        ([], ValueError, "parts: is empty"),
        ([torch.zeros(2, 2)], TypeError, r"parts\[0\]: is Tensor, expected a pair"),
        ([(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 4))], ValueError, r"parts\[0\]: out has shape .* and"),
        (
            [ONE, (torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1))],
            ValueError,
            r"parts\[1\]: out has shape \[1, 2, 1, 4\], expected \[1, 2, 3, 4\]",
        ),
        (
            [ONE, (ONE[0].half(), ONE[1])],
            TypeError,
            r"parts\[1\]: out has dtype torch.float16",
        ),
        (
            [ONE, (ONE[0], torch.zeros(1, 2, 3, device="meta"))],
            ValueError,
            r"parts\[1\]: lse is on meta, expected cpu",
        ),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit(parts: list[object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        attnc.merge(parts)  # type: ignore[arg-type]
