"""What one would use instead of attnc, with torch alone: its attention with a dense mask, causal, on a slice of the
keys, and FlexAttention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .requests import Request, tables_of_rows

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
LARGEST_MASK = 2**31  # bytes


class NotOfferedError(Exception):
    """A rival cannot compute this; the message says why."""


@dataclass(frozen=True)
class Rival:
    """One way to compute it. ``otherwise``: what it computes where its results differ from the attention's;
    ``backward``: whether it has gradients here.
    """

    attend: Attend
    otherwise: str = ""
    backward: bool = True


class Masks:
    """The dense masks of a request, each made when it is first asked for: bool ``[heads or 1, rows, keys]``."""

    def __init__(self, request: Request) -> None:
        self.request = request

    @cached_property
    def whole(self) -> Tensor:
        """Of every query. NotOfferedError where it takes too much memory."""
        return self._of_rows(0, self.request.n)

    @cached_property
    def last(self) -> Tensor:
        """Of the last query."""
        return self._of_rows(self.request.n - 1, self.request.n)

    def _of_rows(self, start: int, stop: int) -> Tensor:
        request = self.request
        heads = request.heads if request.attention.facts.heads_differ else None
        size = (stop - start) * request.n * (heads or 1)
        if size > LARGEST_MASK:
            raise NotOfferedError(f"its mask takes {size / 2**30:.1f} GiB, and {LARGEST_MASK / 2**30:.0f} are allowed")
        tables = tables_of_rows(request, start, stop)
        mask: Tensor = request.attention.mask(request.n, heads=heads, q_start=start, **tables)
        return (mask if heads else mask[:1]).to(request.device, torch.bool)


def dense(masks: Masks) -> Rival:
    """SDPA with the whole mask, where an attention has nothing but a mask."""
    mask = masks.whole

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return scaled_dot_product_attention(q, k, v, attn_mask=mask)

    return Rival(attend, "its mask alone")


def causal(masks: Masks) -> Rival:
    """SDPA of all earlier keys, for a pattern that keeps some of them."""
    verdict = masks.request.attention.facts.causal
    if not verdict:
        raise NotOfferedError("the pattern is not causal, or not known to be")

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return scaled_dot_product_attention(q, k, v, is_causal=True)

    return Rival(attend, "all earlier keys")


def flex(masks: Masks) -> Rival:
    """FlexAttention, compiled; its mask_mod looks the mask up where a tile is kept in part."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    mask, request = masks.whole, masks.request
    heads_differ, on_cpu = mask.shape[0] > 1, request.device.type == "cpu"

    def kept(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:  # noqa: ARG001 - what a mask_mod is given
        return mask[head if heads_differ else 0, q, k]

    heads = request.heads if heads_differ else None
    blocks = create_block_mask(kept, None, heads, request.n, request.n, device=str(request.device))
    compiled = torch.compile(flex_attention, dynamic=False)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if on_cpu:  # it refuses inputs that need gradients
            q, k, v = q.detach(), k.detach(), v.detach()
        out: Tensor = compiled(q, k, v, block_mask=blocks)
        return out

    return Rival(attend, "its mask alone", backward=not on_cpu)


def whole_cache(masks: Masks) -> Rival:
    """SDPA of one query and every key, with the mask's last row."""
    mask = masks.last

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return scaled_dot_product_attention(q, k, v, attn_mask=mask)

    return Rival(attend, "its mask alone")


def sliced_cache(masks: Masks) -> Rival:
    """SDPA of one query and the keys from the first to the last that any head keeps: with a mask where some between
    them are not kept.
    """
    mask = masks.last
    kept = mask.any(dim=0)[0].nonzero().flatten().tolist()
    if not kept:
        raise NotOfferedError("the last query keeps no key")
    first, stop = kept[0], kept[-1] + 1
    between = mask[:, :, first:stop]
    bias = None if bool(between.all()) else between

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return scaled_dot_product_attention(q, k[:, :, first:stop], v[:, :, first:stop], attn_mask=bias)

    return Rival(attend, "its mask alone")


Maker: TypeAlias = Callable[[Masks], Rival]
WHOLE: Mapping[str, tuple[str, Maker]] = {
    "dense": ("SDPA, dense mask", dense),
    "causal": ("SDPA, causal", causal),
    "flex": ("FlexAttention", flex),
}
DECODING: Mapping[str, tuple[str, Maker]] = {
    "dense": ("SDPA, dense mask", whole_cache),
    "slice": ("SDPA, slice of the keys", sliced_cache),
}
"""What computes a whole call, and one query of decoding: by the word that users give, with the name that they read."""
