"""NaN and infinity in all that a call does not keep: they must change nothing, forward or backward."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

POISONS = (float("nan"), float("inf"), float("-inf"))


@dataclass(frozen=True)
class Unused:
    """What no kept pair touches: rows ``[batch, heads, m]`` and keys ``[batch, kv_heads, n]``, bool."""

    rows: Tensor
    keys: Tensor


def unused(mask: Tensor, batch: int, kv_heads: int) -> Unused:
    """What a call with the dense mask ``[batch or none, heads, m, n]``, bool or a count, has no use for."""
    kept = (mask > 0).expand(batch, *mask.shape[-3:])
    grouped = kept.unflatten(1, (kv_heads, -1)) if kv_heads else kept[:, :, None]
    return Unused(~kept.any(-1), ~grouped.any(3).any(2))


def poisoned(x: Tensor, where: Tensor, generator: torch.Generator) -> Tensor:
    """x ``[batch, heads, tokens, …]`` with poison in the tokens ``where``, in the same memory layout; x stays clean.

    Some features or all of them. What the batch shares is poisoned where all of the batch has no use for it.
    """
    if not x.numel():
        return x
    shared = x.stride(0) == 0 and x.shape[0] > 1
    if shared:
        found = x[:1].clone().expand(x.shape)
        where = where.all(0, keepdim=True).expand(where.shape)
    else:  # whatever lies between is NaN too
        reach = 1 + sum((size - 1) * step for size, step in zip(x.shape, x.stride(), strict=True))
        found = torch.full((reach,), torch.nan, dtype=x.dtype).as_strided(x.shape, x.stride()).copy_(x)
    kinds = torch.tensor(POISONS, dtype=x.dtype)
    drawn = kinds[torch.randint(0, len(POISONS), x.shape[1:], generator=generator)]
    touched = torch.rand(x.shape[1:], generator=generator) < torch.rand((), generator=generator) + 0.1
    spot = where.reshape(*where.shape, *(1,) * (x.ndim - where.ndim)) & touched
    target = found[:1] if shared else found
    target.copy_(torch.where(spot[: target.shape[0]], drawn, target))
    return found
