"""Decides which probabilities dropout drops, by hashing positions: the same on every backend, nothing is stored."""

from __future__ import annotations

import torch
from torch import Tensor

_LOW = 0xFFFFFFFF


def threshold(dropout: float) -> int:
    """The number below which a hash, in ``0 .. 2**31 - 1``, means that the probability is dropped."""
    return round(dropout * 2**31)


def split_seed(seed: int) -> tuple[int, int]:
    """The low and the high 32 bits of a seed."""
    return seed & _LOW, seed >> 32 & _LOW


def kept(dropout: float, seed: int, batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Whether each probability is kept and not dropped: bool, of the shape to which the int64 positions broadcast.

    It is kept where ``hash(seed low, seed high, batch, head, q, k) >= threshold``, with the language's ``hash``.
    """
    low, high = split_seed(seed)
    h = torch.full((), 0x9E3779B9, dtype=torch.int64, device=q.device)
    for x in (low, high, batch, head, q, k):  # products wrap around int64, whose low 32 bits stay exact
        h = h ^ (x & _LOW)
        h = ((h ^ (h >> 16)) * 0x85EBCA6B) & _LOW
        h = ((h ^ (h >> 13)) * 0xC2B2AE35) & _LOW
        h = h ^ (h >> 16)
    return (h >> 1) >= threshold(dropout)
