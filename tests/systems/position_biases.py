"""Attention that adds a number to each logit by position: ALiBi as BLOOM, MPT and Falcon have it, and T5's buckets."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BloomConfig, BloomModel, FalconConfig, FalconModel, MptConfig, MptModel, T5Config, T5Model
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import causal_mask_function
from transformers.models.t5 import modeling_t5

import attnc
from tests.systems import originals
from tests.systems.hf_layers import LayerCall, Learned, beside, compared, drawn, last_rows, layer_calls, tokens
from tests.systems.system import Compared, System

N, WIDTH = 41, 8
HEADS = (4, 12)
"""A power of two, and none."""
FAR = 150  # from 128 on, T5 has one bucket
FOUNDRY = "llmfoundry/models/layers/attention.py"


def next_power_slopes(heads: int) -> Tensor:
    """MPT's slopes, as the text tells: those of the next power of two, of even numbers first."""
    power = 2 ** math.ceil(math.log2(heads))
    slopes = [2.0 ** (-8 * t / power) for t in range(1, power + 1)]
    return torch.tensor((slopes if power == heads else slopes[1::2] + slopes[::2])[:heads])


def last_power_slopes(heads: int) -> Tensor:
    """Falcon's and BLOOM's: those of the power of two below, then odd ones of twice as many."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8 * t / power) for t in range(1, power + 1)]
    return torch.tensor((slopes + [2.0 ** (-4 * t / power) for t in range(1, 2 * power, 2)])[:heads])


def fused(
    attend: attnc.Attention,
    attention: Callable[[Tensor], Tensor],
    laid: Callable[[Tensor, Tensor, Tensor], Tensor],
    heads: int,
    kept: Tensor,
    key_heads: int | None = None,
    **tables: Any,
) -> Compared:
    """A module without its projections and ours, on the same queries, keys and values, [2, heads, N, WIDTH].

    ``laid`` makes of these, each [2, N, heads, WIDTH], what the projection would have given; ``attention`` returns
    [2, N, heads * WIDTH]. ``kept``: the mask that its model made, bool, which broadcasts to [2, heads, N, N].
    """
    generator = torch.Generator().manual_seed(0)
    counts = (heads, key_heads or heads, key_heads or heads)
    inputs = [torch.randn(2, count, N, WIDTH, generator=generator, dtype=torch.float64) for count in counts]
    ours, theirs = ([one.clone().requires_grad_() for one in inputs] for _ in range(2))
    found = attend(*ours, **tables)
    wanted = attention(laid(*(one.transpose(1, 2) for one in theirs))).view(2, N, heads, WIDTH).transpose(1, 2)
    weight = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
    own, slopes = (torch.autograd.grad((out * weight).sum(), of) for out, of in ((found, ours), (wanted, theirs)))
    gradients = dict(zip(("query", "key", "value"), zip(own, slopes, strict=True), strict=True))
    mask = attend.mask(N, heads=heads, **tables)
    return Compared(
        (mask.expand(2, -1, -1, -1), kept.expand(2, heads, N, N)), (found.detach(), wanted.detach()), gradients
    )


def given_to(model: nn.Module, module: nn.Module) -> dict[str, Any]:
    """What a model gives to one of its modules by name in a pass over 41 tokens; floats are made float64."""
    given: dict[str, Any] = {}
    handle = module.register_forward_pre_hook(lambda _, args, by_name: given.update(by_name), with_kwargs=True)
    with torch.no_grad():
        model(input_ids=tokens(N))
    handle.remove()
    return {
        name: one.double() if torch.is_tensor(one) and one.is_floating_point() else one for name, one in given.items()
    }


def without_projections(module: nn.Module, names: Iterable[str]) -> Any:
    """The module, whose projections give back what they are given."""
    for name in names:
        setattr(module, name, nn.Identity())
    return module


def mpt(heads: int) -> Compared:
    """The library's MptAttention, with the bias and the mask that its model makes."""
    config = MptConfig(vocab_size=60, d_model=heads * WIDTH, n_heads=heads, n_layers=1, max_seq_len=64)
    model: Any = drawn(MptModel, config)
    module = model.blocks[0].attn
    given = given_to(model, module)
    without_projections(module, ("Wqkv", "out_proj"))
    return fused(
        attnc.load("mpt").mpt(),
        lambda hidden: module(hidden, given["position_bias"], attention_mask=given["attention_mask"])[0],
        lambda *qkv: torch.cat([one.flatten(2) for one in qkv], 2),
        heads,
        ~given["attention_mask"],
        slope=next_power_slopes(heads),
    )


def bloom(heads: int) -> Compared:
    """The library's BloomAttention, under the plain text of ALiBi."""
    config = BloomConfig(vocab_size=60, hidden_size=heads * WIDTH, n_head=heads, n_layer=1)
    model: Any = drawn(BloomModel, config)
    module = model.h[0].self_attention
    given = given_to(model, module)
    without_projections(module, ("query_key_value", "dense"))
    bias, mask = given["alibi"], given["attention_mask"]
    return fused(
        attnc.load("alibi").alibi(),
        lambda hidden: module(hidden, residual=torch.zeros(()), alibi=bias, attention_mask=mask)[0],
        lambda *qkv: torch.stack(qkv, 3).flatten(2),
        heads,
        mask == 0,
        slope=last_power_slopes(heads),
    )


def falcon(heads: int) -> Compared:
    """The library's FalconAttention in the form that uses PyTorch's attention: the other counts the bias twice."""
    config = FalconConfig(
        vocab_size=60, hidden_size=heads * WIDTH, num_attention_heads=heads, num_hidden_layers=1, alibi=True,
        multi_query=False,
    )  # fmt: skip
    model: Any = drawn(FalconModel, config)
    config._attn_implementation = model.config._attn_implementation = "sdpa"
    module = model.h[0].self_attention
    given = given_to(model, module)
    without_projections(module, ("query_key_value", "dense"))
    bias, mask = given["alibi"], given["attention_mask"]
    positions = torch.arange(N)
    return fused(
        attnc.load("falcon").falcon(WIDTH),
        lambda hidden: module(hidden, alibi=bias, attention_mask=mask)[0],
        lambda *qkv: torch.stack(qkv, 3).flatten(2),
        heads,
        mask > torch.finfo(torch.float32).min,
        bias=(last_power_slopes(heads)[:, None].bfloat16() * positions).float(),
    )


def falcon_rotary() -> Compared:
    """FalconAttention with rotary positions, which are turned by no angle, and one head of keys for all queries."""
    config = FalconConfig(vocab_size=60, hidden_size=7 * WIDTH, num_attention_heads=7, num_hidden_layers=1)
    model: Any = drawn(FalconModel, config)
    module = model.h[0].self_attention
    mask = given_to(model, module)["attention_mask"]
    without_projections(module, ("query_key_value", "dense"))
    unturned = (torch.ones(1, N, WIDTH, dtype=torch.float64), torch.zeros(1, N, WIDTH, dtype=torch.float64))
    return fused(
        attnc.load("causal").causal(),
        lambda hidden: module(hidden, alibi=None, attention_mask=mask, position_embeddings=unturned)[0],
        lambda *qkv: torch.cat(qkv, 2).flatten(2),
        7,
        mask == 0,
        key_heads=1,
    )


def falcon_layers() -> Compared:
    """The library's defaults are those of Falcon 7B, whose layers are all causal."""
    return last_rows(attnc.load("falcon").falcon_7b(), FalconConfig(), {"causal": causal_mask_function}, 200)


@cache
def foundry() -> ModuleType:
    """llm-foundry's file of attention, by itself: what it imports of the rest builds layers and registers names."""
    originals.module("einops")
    registry = SimpleNamespace(register_class=lambda name: lambda kind: kind, register=lambda name, func: func)
    stubs = {
        "llmfoundry.layers_registry": SimpleNamespace(attention_classes=registry, attention_implementations=registry),
        "llmfoundry.models.layers.layer_builders": SimpleNamespace(build_fc=None, build_norm=None),
        "llmfoundry.models.utils.config_defaults": SimpleNamespace(fc_type_defaults={}),
    }
    return originals.single(FOUNDRY, stubs)


def foundry_bias(heads: int, n: int, causal: bool) -> Tensor:
    """What llm-foundry adds to the logits: [1, heads, 1 or n, n]."""
    file = foundry()
    shape = file.attn_bias_shape("torch", heads, n, alibi=True, causal=causal, use_sequence_id=False)
    return file.build_attn_bias("torch", torch.zeros(shape), heads, n, causal=causal, alibi=True).double()


def foundry_window(heads: int, size: int, causal: bool) -> Compared:
    """llm-foundry's attention function with a window: pairs of a weight are those that it keeps."""
    bias = foundry_bias(heads, N, causal)
    function = foundry().scaled_multihead_dot_product_attention

    def attention(hidden: Tensor, weights: bool = False) -> Any:
        q, k, v = hidden.unbind(-2)
        found = function(
            q, k, v, heads, heads, attn_bias=bias, is_causal=causal, sliding_window_size=size, needs_weights=weights
        )
        return found[1] if weights else found[0]

    kept = attention(torch.zeros(2, N, 3, heads * WIDTH, dtype=torch.float64), weights=True) > 0
    module = attnc.load("mpt")
    attend = module.mpt_window(size=size) if causal else module.mpt_window_both(size=size)
    slope = next_power_slopes(heads)
    return fused(
        attend, attention, lambda *qkv: torch.stack([one.flatten(2) for one in qkv], 2), heads, kept, slope=slope
    )


def t5(kind: str) -> Compared:
    """One layer of T5: the encoder's, the decoder's, or the decoder's to the encoder; 150 tokens meet every bucket."""
    config = T5Config(
        vocab_size=60, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=4, dropout_rate=0.0,
        decoder_start_token_id=0,
    )  # fmt: skip
    read, written = tokens(FAR, 1), tokens(FAR - 1 if kind == "decoder" else 7, 1)
    calls = layer_calls(drawn(T5Model, config), modeling_t5, input_ids=read, decoder_input_ids=written)
    call = dict(zip(("encoder", "decoder", "cross"), calls, strict=True))[kind]
    module = attnc.load("t5")
    if kind == "cross":
        return compared(call, module.t5_cross())
    attend = module.t5() if kind == "encoder" else module.t5_decoder()
    return compared(
        biased(call), attend, learned={"bias": Learned(call.module.relative_attention_bias.weight, torch.t)}
    )


def biased(call: LayerCall) -> LayerCall:
    """The call with a bias that the layer's own code makes of its learned numbers now, so that they have gradients."""
    bias = call.module.compute_bias(call.query.shape[2], call.key.shape[2])
    return replace(call, arguments={**call.arguments, "position_bias": bias})


def timed_foundry(causal: bool) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Windows of 512 in 2,048 tokens of 4 heads."""
    bias, function = foundry_bias(4, 2048, causal).float(), foundry().scaled_multihead_dot_product_attention
    module = attnc.load("mpt")
    attend = module.mpt_window() if causal else module.mpt_window_both()

    def theirs(*qkv: Tensor) -> Any:
        flat = [one.transpose(1, 2).flatten(2) for one in qkv]
        return function(*flat, 4, 4, attn_bias=bias, is_causal=causal, sliding_window_size=512)

    return beside(attend, theirs, 2048, (4, 4), slope=next_power_slopes(4))


def timed_t5(causal: bool) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """2,048 tokens of 8 heads, in the library's default form, with the bias that the first layer makes for all."""
    config = T5Config(is_decoder=causal)
    layer: Any = modeling_t5.T5Attention(config, has_relative_attention_bias=True, layer_idx=0, is_causal=causal)
    with torch.no_grad():
        table = layer.relative_attention_bias.weight.normal_(generator=torch.Generator().manual_seed(1)).T.contiguous()
        bias = layer.compute_bias(2048, 2048)
    module = attnc.load("t5")

    def theirs(q: Tensor, k: Tensor, v: Tensor) -> Any:
        return sdpa_attention_forward(layer, q, k, v, None, scaling=1.0, position_bias=bias)

    return beside(module.t5_decoder() if causal else module.t5(), theirs, 2048, (8, 8), bias=table)


def foundry_row(name: str, declaration: str, heads: int, causal: bool) -> System:
    """llm-foundry's function beside a declaration of the file mpt."""
    return System(
        f"MPT, {name}, {heads} heads",
        MPT,
        f"mpt:{declaration}",
        "llm-foundry, scaled_multihead_dot_product_attention",
        True,
        lambda: foundry_window(heads, 7, causal),
        (f"mpt:{declaration}", "--n", "32", "--set", "size=7"),
        timed=(lambda: timed_foundry(causal)) if heads == 4 else None,
        note=DOUBLE,
    )


def t5_row(name: str, declaration: str, kind: str, timed: Any = None) -> System:
    """One kind of T5's layers."""
    return System(
        f"T5, {name}",
        "Raffel et al., 2020",
        f"t5:{declaration}",
        "transformers, T5Attention",
        True,
        lambda: t5(kind),
        (f"t5:{declaration}", "--n", "32"),
        timed=timed,
        note=f"{DOUBLE}, at distances of up to {FAR - 1} tokens",
    )


DOUBLE = "in float64"
MPT = "MosaicML, 2023"

SYSTEMS: tuple[System, ...] = (
    *(
        System(
            f"ALiBi, {heads} heads", "Press et al., 2022", "alibi:alibi", "transformers, BloomAttention", True,
            partial(bloom, heads), ("alibi:alibi", "--n", "32"), note=DOUBLE,
        )
        for heads in HEADS
    ),
    *(
        System(
            f"MPT, {heads} heads", MPT, "mpt:mpt", "transformers, MptAttention", True, partial(mpt, heads),
            ("mpt:mpt", "--n", "32"), note=DOUBLE,
        )
        for heads in HEADS
    ),
    *(foundry_row("window", "mpt_window", heads, True) for heads in HEADS),
    foundry_row("window on both sides", "mpt_window_both", 4, False),
    *(
        System(
            f"Falcon, {heads} heads", "Penedo et al., 2023", "falcon:falcon", "transformers, FalconAttention", True,
            partial(falcon, heads), ("falcon:falcon", "--n", "32"), note=DOUBLE,
        )
        for heads in HEADS
    ),
    System(
        "Falcon, rotary positions", "Penedo et al., 2023", "causal:causal", "transformers, FalconAttention", True,
        falcon_rotary, ("causal:causal", "--n", "32"), note=DOUBLE,
    ),
    System(
        "Falcon 7B, all layers", "Penedo et al., 2023", "falcon:falcon_7b",
        "transformers, FalconConfig and mask functions", True, falcon_layers,
        ("falcon:falcon_7b", "--layer", "0", "--n", "32"),
    ),
    t5_row("encoder", "t5", "encoder", lambda: timed_t5(False)),
    t5_row("decoder", "t5_decoder", "decoder", lambda: timed_t5(True)),
    t5_row("decoder to encoder", "t5_cross", "cross"),
)  # fmt: skip
