"""The mask that an attention function really applies, read off by calling it: ours, torch's, and some with a fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import attnc
from attnc.testing import applied_mask

MODULE = attnc.loads(
    """
    pattern near = causal_window(5) or k < 2
    pattern by_head = k <= q if head == 0 else k == q
    pattern of_documents(doc: int[token]) = causal and doc[q] == doc[k]
    pattern twice = causal + (k == 0)
    attention sloped(slope: float[head]) { mask = causal  score = s + slope[head] * (k - q)  sink = slope[head] }
    attention capped { mask = window(6)  score = 50 * tanh(s / 50) }
    """
)
N = 19


@pytest.fixture(autouse=True)
def blocked() -> Iterator[None]:
    """Nothing here is about one executor: take the one that builds nothing."""
    with attnc.settings.override(backend="blocked"):
        yield


CASES: dict[str, dict[str, Any]] = {
    "near": {},
    "by_head": {},
    "of_documents": {"doc": torch.tensor([[i // 5 for i in range(N)], [i // 13 for i in range(N)]])},
    "twice": {},
    "sloped": {"slope": torch.tensor([9.0, 0.5])},
    "capped": {},
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_call_applies_is_its_mask(name: str) -> None:
    attend, tables = getattr(MODULE, name)(), CASES[name]
    found = applied_mask(
        lambda q, k, v: attend(q, k, v, q_start=N - 11, **tables), 11, N, 2, batch=2, kv_heads=1, value_dim=7
    )
    wanted = attend.mask(N, 11, heads=2, q_start=N - 11, **tables)
    assert torch.equal(found, wanted.bool().expand(2, 2, 11, N))


def additive(keep: Tensor, masked: float) -> Callable[..., Tensor]:
    """An eager attention that adds a number to the logits of pairs that it does not keep."""

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        logits = q @ k.mT * q.shape[-1] ** -0.5 + torch.where(keep, 0.0, masked)
        return logits.softmax(-1) @ v

    return attend


@pytest.mark.parametrize("masked", [float("-inf"), torch.finfo(torch.float32).min, -1e4])
def test_an_additive_mask_is_read(masked: float) -> None:
    keep = torch.rand(1, 3, 11, 13, generator=torch.Generator().manual_seed(1)) < 0.3
    keep[0, 0, 5] = False
    keep[0, 0, 5, 3] = True
    found = applied_mask(additive(keep, masked), 11, 13, 3)
    somewhere = keep.any(-1, keepdim=True)
    assert torch.equal(found & somewhere, keep)
    nothing = found[~somewhere.expand_as(found)]
    assert nothing.all() or masked == float("-inf"), "a row of equal logits weighs all keys alike"
    assert not nothing.any() or masked != float("-inf"), "and a row of NaN none"


@pytest.mark.parametrize("fault", ["one key less", "one key more", "causality lost", "one pair"])
def test_a_fault_of_one_pair_is_seen(fault: str) -> None:
    q, k = torch.arange(N)[:, None], torch.arange(N)
    declared = (k <= q) & (q - k < 8)
    applied = {
        "one key less": (k <= q) & (q - k < 7),
        "one key more": (k <= q) & (q - k < 9),
        "causality lost": (q - k).abs() < 8,
        "one pair": declared ^ ((q == 17) & (k == 16)),
    }[fault]
    found = applied_mask(lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=applied), N, N, 2)
    assert torch.equal(found, applied.expand(1, 2, N, N))
    assert not torch.equal(found[0, 0], declared)


def test_torchs_own_masks_are_read() -> None:
    found = applied_mask(lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=True), 9, 9, 4, head_dim=8)
    assert torch.equal(found, torch.ones(9, 9).tril().bool().expand(1, 4, 9, 9))


@pytest.mark.parametrize("bounded", ["softcap", "normalised"])
@pytest.mark.parametrize("slope", [0.0, 8.0])
def test_bounded_logits_beside_a_bias_are_refused(bounded: str, slope: float) -> None:
    """Without a bias no weight vanishes, and the mask is read as ever."""
    keep, distance = torch.ones(40, 40).tril().bool(), (torch.arange(40)[:, None] - torch.arange(40)).abs()

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if bounded == "normalised":
            q, k = (torch.nn.functional.normalize(x, dim=-1) for x in (q, k))
        logits = q @ k.mT * q.shape[-1] ** -0.5
        logits = 30 * torch.tanh(logits / 30) - slope * distance
        return logits.masked_fill(~keep, -torch.inf).softmax(-1) @ v

    if slope:
        with pytest.raises(ValueError, match="attend: bounds its logits, and adds a bias"):
            applied_mask(attend, 40, 40)
    else:
        assert torch.equal(applied_mask(attend, 40, 40)[0, 0], keep)


def test_a_row_that_masks_every_key_alike_says_nothing_of_bounds() -> None:
    """Rows of padding, in a model that adds a bias of positions and then one large negative number."""
    keep, distance = torch.ones(40, 40).tril().bool(), (torch.arange(40)[:, None] - torch.arange(40)).abs()
    keep[:5] = False

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        logits = q @ k.mT * q.shape[-1] ** -0.5 - 8.0 * distance
        return logits.masked_fill(~keep, torch.finfo(torch.float32).min).softmax(-1) @ v

    found = applied_mask(attend, 40, 40)[0, 0]
    assert torch.equal(found[5:], keep[5:])
    assert found[:5].all()


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"attend: returned shape \[1, 4, 2, 16\], expected \[1, 2, 4, 16\]"):
        applied_mask(lambda q, k, v: q.transpose(1, 2), 4, 4, 2)
    with pytest.raises(TypeError, match="attend: returned NoneType, expected a tensor"):
        applied_mask(lambda q, k, v: None, 4, 4)
    with pytest.raises(ValueError, match="m: is 0, expected 1 or more"):
        applied_mask(lambda q, k, v: q, 0, 4)
    with pytest.raises(TypeError, match="n: is float, expected an int"):
        applied_mask(lambda q, k, v: q, 4, 4.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kv_heads: is 3, expected a divisor of heads = 4"):
        applied_mask(lambda q, k, v: q, 4, 4, 4, kv_heads=3)
