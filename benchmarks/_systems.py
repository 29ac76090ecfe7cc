"""The models that ``models.py`` times: how each is built and called, and which of its modules is its attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from transformers import (
    BigBirdConfig,
    BigBirdModel,
    LongformerConfig,
    LongformerModel,
    MistralConfig,
    MistralForCausalLM,
    ReformerConfig,
    ReformerModel,
)

import attnc

WHOLE = "whole model"


@dataclass(frozen=True)
class Sizes:
    """Of every model. ``window``: of Longformer and Mistral; ``block``: of BigBird; ``chunk``: of Reformer."""

    n: int = 4096
    hidden: int = 768
    heads: int = 12
    kv_heads: int = 4
    layers: int = 2
    intermediate: int = 2048
    vocabulary: int = 1000
    window: int = 512
    block: int = 64
    random_blocks: int = 3
    chunk: int = 64
    hashes: int = 4


@dataclass(frozen=True)
class Part:
    """A model, or its module ``path``, called by ``forward``. ``hidden``: the input whose gradient is compared, or
    None where that is the word embeddings'. ``asked``: the ratio that is wanted of each pass.
    """

    name: str
    path: str
    forward: Callable[[nn.Module], Tensor]
    hidden: Tensor | None = None
    asked: Mapping[str, float] = field(default_factory=dict)

    def watched(self, module: nn.Module) -> Tensor:
        """The leaf whose gradient is compared."""
        if self.hidden is not None:
            return self.hidden
        weight: Tensor = module.get_input_embeddings().weight  # type: ignore[operator]
        return weight


@dataclass(frozen=True)
class System:
    """``model``: in training mode, with transformers' own attention. ``reference``: what that computes, in words.

    ``bound``: of how far outputs and gradients may differ, of their largest.
    """

    name: str
    model: nn.Module
    reference: str
    parts: tuple[Part, ...]
    bound: float = 1e-5


class _FreeAttention(torch.autograd.Function):
    """The queries as they are; the gradient as it comes for queries, keys and values: no arithmetic, and no copy."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # noqa: ARG004 - its gradient is given
        ctx.kv_heads = k.shape[1]
        return q.view_as(q)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (gradient,) = gradients
        narrow = gradient[:, : ctx.kv_heads]  # type: ignore[attr-defined]
        return gradient, narrow, narrow


def _cost_free(_attention: attnc.Attention, q: Tensor, k: Tensor, v: Tensor, **_given: Any) -> Tensor:
    """In the place of ``Attention.__call__``, for heads whose keys are as many as the queries or fewer."""
    if q.shape[2] != k.shape[2]:  # Longformer's global rows
        return q.view_as(q)
    return _FreeAttention.apply(q, k, v)  # type: ignore[no-any-return,no-untyped-call]


@contextmanager
def free_attention() -> Iterator[None]:
    """Attention costs nothing within: what is left of a swapped model is all that is not attention."""
    with patch.object(attnc.Attention, "__call__", _cost_free):
        yield


def _hidden(sizes: Sizes) -> Tensor:
    return torch.randn(1, sizes.n, sizes.hidden, requires_grad=True)


def _tokens(sizes: Sizes) -> Tensor:
    return torch.randint(3, sizes.vocabulary, (1, sizes.n))


def longformer(sizes: Sizes) -> System:
    """A window to both sides, the first token global."""
    config = LongformerConfig(
        vocab_size=sizes.vocabulary, hidden_size=sizes.hidden, num_attention_heads=sizes.heads,
        num_hidden_layers=sizes.layers, intermediate_size=sizes.intermediate, attention_window=sizes.window,
        max_position_embeddings=sizes.n + 2, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0,
    )  # fmt: skip
    model = LongformerModel(config, add_pooling_layer=False).train()
    hidden, tokens = _hidden(sizes), _tokens(sizes)
    is_global = torch.zeros(1, sizes.n, dtype=torch.bool)
    is_global[:, 0] = True
    none = torch.zeros_like(is_global)
    mask = is_global.float()

    def attention(module: nn.Module) -> Tensor:
        return module(hidden, mask, none, is_global, True)[0]  # type: ignore[no-any-return]

    def whole(module: nn.Module) -> Tensor:
        given = {"attention_mask": torch.ones_like(tokens), "global_attention_mask": is_global.long()}
        return module(tokens, **given).last_hidden_state  # type: ignore[no-any-return]

    return System(
        "Longformer", model, "overlapping chunks of keys in full, the band cut out of them, global keys beside it",
        (
            Part("attention", "encoder.layer.0.attention.self", attention, hidden, {"forward": 4, "backward": 4}),
            Part(WHOLE, "", whole),
        ),
    )  # fmt: skip


def bigbird(sizes: Sizes) -> System:
    """Blocks: the first and the last, three neighbours, and random ones for each head."""
    config = BigBirdConfig(
        vocab_size=sizes.vocabulary, hidden_size=sizes.hidden, num_attention_heads=sizes.heads,
        num_hidden_layers=sizes.layers, intermediate_size=sizes.intermediate, block_size=sizes.block,
        num_random_blocks=sizes.random_blocks, max_position_embeddings=sizes.n,
        attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0,
    )  # fmt: skip
    model = BigBirdModel(config, add_pooling_layer=False).train()
    hidden, tokens = _hidden(sizes), _tokens(sizes)
    blocked, band, rows, keys = model.create_masks_for_block_sparse_attn(torch.ones(1, sizes.n), sizes.block)

    def attention(module: nn.Module) -> Tensor:
        return module(hidden, band, rows, keys, blocked, blocked)[0]  # type: ignore[no-any-return]

    def whole(module: nn.Module) -> Tensor:
        return module(tokens).last_hidden_state  # type: ignore[no-any-return]

    return System(
        "BigBird", model, "blocks gathered to copies, random ones drawn anew by numpy at each call",
        (
            Part("attention", "encoder.layer.0.attention.self", attention, hidden, {"forward": 3.5, "backward": 2}),
            Part(WHOLE, "", whole),
        ),
    )  # fmt: skip


def reformer(sizes: Sizes) -> System:
    """LSH and local layers in turn. A fixed seed of the hashes: both sides get the same buckets.

    GELU in the place of ReLU: of so many activations a few lie so near 0 that rounding decides their sign, and with it
    one token's part of a gradient, which would hide what attention does.
    """
    rows = 2 ** (sizes.n.bit_length() // 2)
    config = ReformerConfig(
        vocab_size=sizes.vocabulary, hidden_size=sizes.hidden, num_attention_heads=sizes.heads,
        attention_head_size=sizes.hidden // sizes.heads, attn_layers=["lsh", "local"] * (sizes.layers // 2),
        feed_forward_size=sizes.intermediate, max_position_embeddings=sizes.n, num_hashes=sizes.hashes, hash_seed=0,
        num_buckets=2 * sizes.n // sizes.chunk, lsh_attn_chunk_length=sizes.chunk, local_attn_chunk_length=sizes.chunk,
        axial_pos_shape=(rows, sizes.n // rows), axial_pos_embds_dim=(sizes.hidden // 4, sizes.hidden * 3 // 4),
        hidden_act="gelu",
        is_decoder=False, hidden_dropout_prob=0.0, lsh_attention_probs_dropout_prob=0.0,
        local_attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = ReformerModel(config).train()
    hidden, tokens = _hidden(sizes), _tokens(sizes)

    def attention(module: nn.Module) -> Tensor:
        return module(hidden).hidden_states  # type: ignore[no-any-return]

    def whole(module: nn.Module) -> Tensor:
        return module(tokens).last_hidden_state  # type: ignore[no-any-return]

    return System(
        "Reformer", model, "sorted copies in chunks, each round for itself, then merged",
        (
            Part("LSH attention", "encoder.layers.0.attention.self_attention", attention, hidden),
            Part("local attention", "encoder.layers.1.attention.self_attention", attention, hidden),
            Part(WHOLE, "", whole),
        ),
    )  # fmt: skip


def mistral(sizes: Sizes) -> System:
    """A causal window, grouped heads, logits of every token."""
    config = MistralConfig(
        vocab_size=sizes.vocabulary, hidden_size=sizes.hidden, num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads, num_hidden_layers=sizes.layers, intermediate_size=sizes.intermediate,
        max_position_embeddings=sizes.n, sliding_window=sizes.window, attn_implementation="sdpa",
    )  # fmt: skip
    tokens = _tokens(sizes)

    def whole(module: nn.Module) -> Tensor:
        return module(tokens, use_cache=False).logits  # type: ignore[no-any-return]

    asked = {"forward": 2, "both": 2.5}
    return System(
        "Mistral", MistralForCausalLM(config).train(), "torch's SDPA over all pairs, with a dense mask",
        (Part(WHOLE, "", whole, asked=asked),),
    )  # fmt: skip


SYSTEMS: Mapping[str, Callable[[Sizes], System]] = {
    "longformer": longformer, "bigbird": bigbird, "reformer": reformer, "mistral": mistral
}  # fmt: skip


def small(sizes: Sizes) -> Sizes:
    """Sizes of a rehearsal: every path is taken, and nothing takes long."""
    return replace(
        sizes, n=256, hidden=32, heads=4, kv_heads=2, intermediate=48, vocabulary=60, window=32, block=8,
        random_blocks=2, chunk=16, hashes=2,
    )  # fmt: skip
