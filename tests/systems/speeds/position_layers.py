"""Layers of transformers and llm-foundry that add numbers to the logits by position, and T5's, at length."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BloomConfig, BloomModel, FalconConfig, FalconModel, MptConfig, MptModel, T5Config
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.falcon import modeling_falcon
from transformers.models.t5 import modeling_t5

import attnc
from tests.systems import hf_layers
from tests.systems.position_biases import (
    HEADS,
    foundry,
    foundry_bias,
    last_power_slopes,
    next_power_slopes,
    without_projections,
)
from tests.systems.speeds.beside import DIM, Attends, Calls, Timed, beside

LONG = 2048


def given_to(model: nn.Module, module: nn.Module) -> dict[str, Any]:
    """What a model gives to one of its modules by name in a pass over LONG tokens."""
    given: dict[str, Any] = {}
    handle = module.register_forward_pre_hook(lambda _, args, by_name: given.update(by_name), with_kwargs=True)
    with torch.no_grad():
        model(input_ids=hf_layers.tokens(LONG, 1))
    handle.remove()
    return given


def fused(
    attend: Attends, attention: Attends, laid: Attends, heads: int, key_heads: int | None = None, **tables: Any
) -> Calls:
    """A module without its projections; ``laid`` makes of q, k and v, each ``[1, n, heads, dim]``, what these give."""

    def theirs(*qkv: Tensor) -> Tensor:
        out: Tensor = attention(laid(*(one.transpose(1, 2) for one in qkv)))
        return out.view(1, LONG, heads, DIM).transpose(1, 2)

    return beside(attend, theirs, LONG, (heads, key_heads or heads), **tables)


def bloom(heads: int) -> Calls:
    config = BloomConfig(vocab_size=60, hidden_size=heads * DIM, n_head=heads, n_layer=1)
    model: Any = hf_layers.drawn(BloomModel, config)
    module = model.h[0].self_attention
    given = given_to(model, module)
    without_projections(module, ("query_key_value", "dense"))
    bias, mask, nothing = given["alibi"], given["attention_mask"], torch.zeros(())
    return fused(
        attnc.load("alibi").alibi(),
        lambda hidden: module(hidden, residual=nothing, alibi=bias, attention_mask=mask)[0],
        lambda *qkv: torch.stack(qkv, 3).flatten(2),
        heads,
        slope=last_power_slopes(heads),
    )


def mpt(heads: int) -> Calls:
    config = MptConfig(vocab_size=60, d_model=heads * DIM, n_heads=heads, n_layers=1, max_seq_len=LONG)
    model: Any = hf_layers.drawn(MptModel, config)
    module = model.blocks[0].attn
    given = given_to(model, module)
    without_projections(module, ("Wqkv", "out_proj"))
    bias, mask = given["position_bias"], given["attention_mask"]
    return fused(
        attnc.load("mpt").mpt(),
        lambda hidden: module(hidden, bias, attention_mask=mask)[0],
        lambda *qkv: torch.cat([one.flatten(2) for one in qkv], 2),
        heads,
        slope=next_power_slopes(heads),
    )


def falcon(heads: int) -> Calls:
    """In the form that uses PyTorch's attention, as in the comparison."""
    config = FalconConfig(
        vocab_size=60, hidden_size=heads * DIM, num_attention_heads=heads, num_hidden_layers=1, alibi=True,
        multi_query=False,
    )  # fmt: skip
    model: Any = hf_layers.drawn(FalconModel, config)
    config._attn_implementation = model.config._attn_implementation = "sdpa"
    module = model.h[0].self_attention
    given = given_to(model, module)
    without_projections(module, ("query_key_value", "dense"))
    bias, mask = given["alibi"], given["attention_mask"]
    return fused(
        attnc.load("falcon").falcon(DIM),
        lambda hidden: module(hidden, alibi=bias, attention_mask=mask)[0],
        lambda *qkv: torch.stack(qkv, 3).flatten(2),
        heads,
        bias=(last_power_slopes(heads)[:, None].bfloat16() * torch.arange(LONG)).float(),
    )


def falcon_rotary() -> Calls:
    """16 heads and one of keys, in the library's default form; both sides turn queries and keys, by no angle."""
    config = FalconConfig(hidden_size=16 * DIM, num_attention_heads=16, num_hidden_layers=1)
    config._attn_implementation = "sdpa"
    module = without_projections(modeling_falcon.FalconAttention(config, layer_idx=0), ("query_key_value", "dense"))
    module.eval()
    turns = torch.ones(1, LONG, DIM), torch.zeros(1, LONG, DIM)
    attend = attnc.load("causal").causal()

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(*modeling_falcon.apply_rotary_pos_emb(q, k, *turns), v)

    return fused(
        ours,
        lambda hidden: module(hidden, alibi=None, attention_mask=None, position_embeddings=turns)[0],
        lambda *qkv: torch.cat(qkv, 2).flatten(2),
        16,
        key_heads=1,
    )


def foundry_window(heads: int) -> Calls:
    """Windows of 512 over the past."""
    bias, function = foundry_bias(heads, LONG, True).float(), foundry().scaled_multihead_dot_product_attention

    def attention(hidden: Tensor) -> Tensor:
        out: Tensor = function(
            *hidden.unbind(-2), heads, heads, attn_bias=bias, is_causal=True, sliding_window_size=512
        )[0]
        return out

    return fused(
        attnc.load("mpt").mpt_window(),
        attention,
        lambda *qkv: torch.stack([one.flatten(2) for one in qkv], 2),
        heads,
        slope=next_power_slopes(heads),
    )


def t5_cross() -> Calls:
    """512 tokens of the decoder that read 2,048, 8 heads, in the library's default form."""
    layer: Any = modeling_t5.T5Attention(T5Config(is_decoder=True), has_relative_attention_bias=False, layer_idx=0)

    def theirs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sdpa_attention_forward(layer, q, k, v, None, scaling=1.0, is_causal=False)[0].transpose(1, 2)

    return beside(attnc.load("t5").t5_cross(), theirs, LONG, m=512)


TIMED: Mapping[str, Timed] = {
    **{f"ALiBi, {heads} heads": partial(bloom, heads) for heads in HEADS},
    **{f"MPT, {heads} heads": partial(mpt, heads) for heads in HEADS},
    **{f"Falcon, {heads} heads": partial(falcon, heads) for heads in HEADS},
    "Falcon, rotary positions": falcon_rotary,
    "MPT, window, 12 heads": lambda: foundry_window(12),
    "T5, decoder to encoder": t5_cross,
}
