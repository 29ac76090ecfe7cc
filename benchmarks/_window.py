"""Windows (so many keys ``before`` and ``after`` each query, and itself) as one would compute them without attnc."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import LongformerConfig
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention


class Blocks(torch.autograd.Function):
    """``[heads, blocks * size + reach, d]`` as overlapping views ``[heads, blocks, size + reach, d]``.

    ``size`` divides ``reach``. The backward adds the overlaps slice by slice: about ten times faster than PyTorch's own
    for ``as_strided``.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, size: int, reach: int) -> Tensor:
        heads, length, d = tokens.shape
        ctx.size, ctx.length = size, length
        by_head, by_token, _ = tokens.stride()
        shape = (heads, (length - reach) // size, size + reach, d)
        return tokens.as_strided(shape, (by_head, size * by_token, by_token, 1))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        heads, blocks, length, d = gradient.shape
        total = gradient.new_zeros(heads, ctx.length, d)
        for first in range(0, length, ctx.size):
            covered = total[:, first : first + blocks * ctx.size].unflatten(1, (blocks, ctx.size))
            covered.add_(gradient[:, :, first : first + ctx.size])
        return total, None, None


class BlockedSDPA:
    """SDPA of blocks of queries over overlapping views of the keys, the band as a cached bias. ``block`` divides n."""

    def __init__(self, n: int, before: int, after: int, block: int, dtype: torch.dtype = torch.float32) -> None:
        self.block, self.after = block, after
        self.reach = -(-(before + after) // block) * block  # views begin at multiples of the block
        row = torch.arange(block)[:, None]
        column = torch.arange(block + self.reach)[None]
        distance = row + self.reach - after - column
        first = torch.arange(0, n, block)[:, None, None]
        position = first + column - (self.reach - after)
        kept = (distance <= before) & (distance >= -after) & (position >= 0) & (position < n)
        self.bias = torch.where(kept, 0.0, float("-inf"))[None].to(dtype)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        _, heads, n, d = q.shape
        keys, values = (
            Blocks.apply(pad(x[0], (0, 0, self.reach - self.after, self.after)), self.block, self.reach) for x in (k, v)
        )
        queries = q[0].unflatten(1, (n // self.block, self.block))
        out = scaled_dot_product_attention(queries, keys, values, attn_mask=self.bias)
        return out.reshape(1, heads, n, d)


class SlicedSDPA:
    """SDPA of one block of queries after the other, each over the slice of keys that it needs, as written by hand."""

    def __init__(self, n: int, before: int, after: int, block: int) -> None:
        self.parts = []
        for first in range(0, n, block):
            queries = slice(first, min(n, first + block))
            keys = slice(max(0, first - before), min(n, queries.stop + after))
            distance = torch.arange(queries.start, queries.stop)[:, None] - torch.arange(keys.start, keys.stop)
            self.parts.append((queries, keys, (distance <= before) & (distance >= -after)))

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = [
            scaled_dot_product_attention(q[:, :, queries], k[:, :, keys], v[:, :, keys], attn_mask=mask)
            for queries, keys, mask in self.parts
        ]
        return torch.cat(parts, dim=2)


class DenseSDPA:
    """SDPA with the whole mask."""

    def __init__(self, n: int, before: int, after: int) -> None:
        position = torch.arange(n)
        distance = position[:, None] - position
        self.mask = (distance <= before) & (distance >= -after)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return scaled_dot_product_attention(q, k, v, attn_mask=self.mask)


class Flex:
    """FlexAttention, compiled; on CPUs it has no backward."""

    compiled = staticmethod(torch.compile(flex_attention, dynamic=False))

    def __init__(self, n: int, before: int, after: int, block: int) -> None:
        def window(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:  # noqa: ARG001
            return (q - k <= before) & (k - q <= after)

        self.mask = create_block_mask(window, None, None, n, n, device="cpu", BLOCK_SIZE=block)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.compiled(q.detach(), k.detach(), v.detach(), block_mask=self.mask)


class HuggingFace:
    """What ``LongformerSelfAttention`` does between its projections, without global tokens or padding."""

    def __init__(self, heads: int, d: int, size: int) -> None:
        config = LongformerConfig(hidden_size=heads * d, num_attention_heads=heads, attention_window=[size])
        self.attention = LongformerSelfAttention(config, 0)
        self.side = size // 2

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        queries, keys, values = (x.transpose(1, 2) for x in (q / q.shape[-1] ** 0.5, k, v))
        scores = self.attention._sliding_chunks_query_key_matmul(queries, keys, self.side)
        ones = scores.new_zeros(*scores.shape[:2], 1, 1)
        scores = scores + self.attention._sliding_chunks_query_key_matmul(ones + 1, ones, self.side)
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32)
        return self.attention._sliding_chunks_matmul_attn_probs_value(weights, values, self.side).transpose(1, 2)
