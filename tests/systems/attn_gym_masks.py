"""Systems held against the masks of attention-gym, PyTorch's own collection for FlexAttention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

import attnc
from tests.systems import originals
from tests.systems.system import Compared, System

N, DIM = 96, 16


def compared(attend: Any, make: Callable[[Any], Callable[..., Tensor]], tables: Mapping[str, Any]) -> Compared:
    """Ours beside PyTorch's attention under their mask; ``make`` takes the masks of attention-gym."""
    allowed = make(originals.module("attn_gym.masks"))
    head, query, key = torch.arange(2), torch.arange(N), torch.arange(N)
    at = torch.tensor(0), head[:, None, None], query[:, None], key
    theirs = allowed(*at).expand(len(head), N, N)
    generator = torch.Generator().manual_seed(0)
    q, k, v, weights = (torch.randn(1, 2, N, DIM, generator=generator) for _ in range(4))
    leaves = {name: x.requires_grad_() for name, x in (("q", q), ("k", k), ("v", v))}
    ours = attend(q, k, v, **tables)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=theirs)
    pairs = zip(
        *(torch.autograd.grad((one * weights).sum(), list(leaves.values())) for one in (ours, out)), strict=True
    )
    mask = attend.mask(N, heads=2, **tables).expand_as(theirs)
    return Compared((mask, theirs), (ours, out), dict(zip(leaves, pairs, strict=True)))


def beside_flex(
    attend: Any, allowed: Callable[..., Tensor], n: int = 4096, heads: int = 12
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Two forward passes, of ours and of FlexAttention, compiled, under a mask of attention-gym."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, n, 64, generator=generator) for _ in range(3))
    kept = create_block_mask(allowed, None, None, n, n, device="cpu")
    flex: Any = torch.compile(flex_attention)
    return (lambda: attend(q, k, v)), (lambda: flex(q, k, v, block_mask=kept))


def causal() -> Compared:
    return compared(attnc.load("causal").causal(), lambda masks: masks.causal_mask, {})


def sliding_window() -> Compared:
    """Their window keeps ``q - k <= size``, so one key more than ours of that size."""
    attend = attnc.load("window").causal_window(size=13)
    return compared(attend, lambda masks: masks.generate_sliding_window(12), {})


def prefix() -> Compared:
    attend = attnc.load("prefix_lm").prefix_lm()
    return compared(attend, lambda masks: masks.generate_prefix_lm_mask(31), {"length": 31})


SYSTEMS: tuple[System, ...] = (
    System(
        "Causal attention",
        "Vaswani et al., 2017",
        "causal:causal",
        "attn_gym.masks.causal_mask",
        True,
        causal,
        ("--n", "64"),
    ),
    System(
        "Sliding window",
        "Beltagy et al., 2020",
        "window:causal_window",
        "attn_gym.masks.generate_sliding_window",
        True,
        sliding_window,
        ("--n", "64", "--set", "size=16"),
        timed=lambda: beside_flex(
            attnc.load("window").causal_window(size=513),
            originals.module("attn_gym.masks").generate_sliding_window(512),
        ),
    ),
    System(
        "Prefix language model",
        "Raffel et al., 2020",
        "prefix_lm:prefix_lm",
        "attn_gym.masks.generate_prefix_lm_mask",
        True,
        prefix,
        ("--n", "64", "--set", "length=20"),
    ),
)
