"""Sliding windows against the masks of attention-gym, PyTorch's own collection for FlexAttention.

Their windows are counted to one side and without the query itself: ``size`` keys of ours are ``size - 1`` of theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import attnc
from tests.systems import originals
from tests.systems.system import Compared, System

N, DIM, HEADS = 96, 16, 2


def _allowed(name: str, *sizes: int) -> Callable[..., Tensor]:
    """A mask function of attention-gym."""
    made: Callable[..., Tensor] = getattr(originals.module("attn_gym.masks"), name)(*sizes)
    return made


def compared(attend: Any, allowed: Callable[..., Tensor]) -> Compared:
    """Ours beside PyTorch's attention under their mask."""
    head, position = torch.arange(HEADS), torch.arange(N)
    theirs = allowed(torch.tensor(0), head[:, None, None], position[:, None], position).expand(HEADS, N, N)
    generator = torch.Generator().manual_seed(0)
    q, k, v, weights = (torch.randn(1, HEADS, N, DIM, generator=generator) for _ in range(4))
    leaves = {name: x.requires_grad_() for name, x in (("q", q), ("k", k), ("v", v))}
    outputs = attend(q, k, v), torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=theirs)
    ours, expected = (torch.autograd.grad((out * weights).sum(), list(leaves.values())) for out in outputs)
    gradients = dict(zip(leaves, zip(ours, expected, strict=True), strict=True))
    return Compared((attend.mask(N, heads=HEADS).expand_as(theirs), theirs), outputs, gradients)


def beside_flex(
    attend: Any, allowed: Callable[..., Tensor], n: int = 4096, heads: int = 12
) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Two forward passes, of ours and of FlexAttention, compiled, under their mask."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, n, 64, generator=generator) for _ in range(3))
    kept = create_block_mask(allowed, None, None, n, n, device="cpu")
    flex: Any = torch.compile(flex_attention)
    return (lambda: attend(q, k, v)), (lambda: flex(q, k, v, block_mask=kept))


def past() -> Compared:
    return compared(attnc.load("window").causal_window(size=13), _allowed("generate_sliding_window", 12))


def timed_past() -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    return beside_flex(attnc.load("window").causal_window(size=513), _allowed("generate_sliding_window", 512))


def dilated() -> Compared:
    attend = attnc.load("window").window(size=14, dilation=3)
    return compared(attend, _allowed("generate_dilated_sliding_window", 21, 3))


def timed_dilated() -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    attend = attnc.load("window").window(size=512, dilation=4)
    return beside_flex(attend, _allowed("generate_dilated_sliding_window", 1024, 4))


SYSTEMS: tuple[System, ...] = (
    System(
        "Sliding window",
        "Jiang et al., 2023",
        "window:causal_window",
        "attn_gym.masks.generate_sliding_window",
        True,
        past,
        ("--n", "64", "--set", "size=16"),
        timed=timed_past,
    ),
    System(
        "Sliding window, dilated",
        "Beltagy et al., 2020",
        "window:window",
        "attn_gym.masks.generate_dilated_sliding_window",
        True,
        dilated,
        ("--n", "64", "--set", "size=8", "--set", "dilation=3"),
        timed=timed_dilated,
    ),
)
