"""BigBird's block-sparse attention, as transformers computes it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from transformers import BigBirdConfig
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention, BigBirdModel

BLOCK, DRAWS = 64, 3


class HuggingFaceBigBird:
    """What ``BigBirdBlockSparseAttention`` does between its projections. It draws its blocks anew in each call, from
    one seed, so that they are always the same.
    """

    def __init__(self, n: int, heads: int, dim: int) -> None:
        config = BigBirdConfig(
            hidden_size=heads * dim, num_attention_heads=heads, num_hidden_layers=1, block_size=BLOCK,
            num_random_blocks=DRAWS, max_position_embeddings=max(n, 4096), attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        self.layer = BigBirdBlockSparseAttention(config, seed=5).train()
        masks = BigBirdModel.create_masks_for_block_sparse_attn(torch.ones(1, n), BLOCK)
        blocked, band, rows, keys = masks
        self.masks = (band, rows, keys, blocked, blocked)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        _, heads, n, dim = q.shape
        masks = [mask.to(q.dtype) for mask in self.masks]
        sizes = (heads, DRAWS, dim, BLOCK, BLOCK, 1, n, n)
        out: Tensor = self.layer.bigbird_block_sparse_attention(
            q, k, v, *masks, *sizes, seed=self.layer.seed, plan_from_length=None, plan_num_rand_blocks=None
        )[0]
        return out.transpose(1, 2)

    def chosen(self, n: int) -> Tensor:
        """The blocks that it draws, ``[heads, middle, draws]``, by its own functions."""
        layer, sizes = self.layer, (BLOCK, BLOCK)
        np.random.seed(layer.seed)
        if n in (1024, 3072, 4096):  # plans of the paper, which it has for these lengths
            longest = layer.max_seqlen
            drawn = [
                layer._bigbird_block_rand_mask(longest, longest, *sizes, DRAWS, last_idx=1024)[: n // BLOCK - 2]
                for _ in range(layer.num_attention_heads)
            ]
        else:
            plan = layer._get_rand_attn_plan(n, BLOCK, DRAWS)
            drawn = layer._bigbird_block_rand_mask_with_head(n, n, *sizes, layer.num_attention_heads, *plan)
        return torch.from_numpy(np.stack(drawn).astype(np.int64))
