"""Merges partial attention results over disjoint sets of keys, as split keys, ring attention and decoding need it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

Part = tuple[Tensor, Tensor]


def merge(parts: Iterable[Part]) -> Part:
    """Combines partial results over disjoint sets of keys into the result over all keys. Twice differentiable.

    Each part is what a call with ``return_lse=True`` returns: out ``[batch, heads, m, value_dim]`` and lse
    ``[batch, heads, m]``, of the same queries. A row that keeps no key in a part (lse ``-inf``) takes nothing from that
    part. Only one part may include a sink, which its lse already counts. Computes in the dtype of the lse; the output
    has the dtype of the parts' outputs. TypeError and ValueError for parts that do not fit each other.
    """
    given = _checked(parts)
    lses = [lse for _, lse in given]
    greatest = torch.stack([lse.detach() for lse in lses]).amax(0)
    base = torch.where(greatest == -torch.inf, 0.0, greatest)
    weights = [(lse - base).exp() for lse in lses]
    total = torch.stack(weights).sum(0)
    alive = total != 0
    divisor = torch.where(alive, total, 1.0)
    out = torch.zeros_like(given[0][0], dtype=base.dtype)
    for (own, lse), weight in zip(given, weights, strict=True):
        # Whatever stands in a row that keeps nothing must not reach the sum, nor its gradient.
        kept = torch.where((lse == -torch.inf)[..., None], 0.0, own.to(base.dtype))
        out = out + (weight / divisor)[..., None] * kept
    return out.to(given[0][0].dtype), torch.where(alive, base + divisor.log(), -torch.inf)


def _checked(parts: Iterable[Part]) -> list[Part]:
    given: list[Any] = list(parts)
    if not given:
        raise ValueError("parts: is empty, expected at least one pair of an output and a log-sum-exp")
    for number, part in enumerate(given):
        if not (isinstance(part, (tuple, list)) and len(part) == 2 and all(isinstance(x, Tensor) for x in part)):
            raise TypeError(
                f"parts[{number}]: is {type(part).__name__}, expected a pair of tensors, an output and a lse"
            )
        out, lse = part
        first_out, first_lse = given[0]
        if out.shape[:-1] != lse.shape:
            raise ValueError(f"parts[{number}]: out has shape {list(out.shape)} and lse {list(lse.shape)}, "
                             "expected the same but for the last dimension of out")  # fmt: skip
        if out.shape != first_out.shape:
            raise ValueError(
                f"parts[{number}]: out has shape {list(out.shape)}, expected {list(first_out.shape)}, as parts[0] has"
            )
        for name, own, other in (("out", out, first_out), ("lse", lse, first_lse)):
            if own.dtype != other.dtype:
                raise TypeError(
                    f"parts[{number}]: {name} has dtype {own.dtype}, expected {other.dtype}, as parts[0] has"
                )
            if own.device != other.device:
                raise ValueError(f"parts[{number}]: {name} is on {own.device}, expected {other.device}, as parts[0] is")
    return [(out, lse) for out, lse in given]
