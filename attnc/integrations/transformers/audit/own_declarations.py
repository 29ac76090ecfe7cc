"""What configurations say of layers with an attention of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .... import load
from ....attention import Attention
from ..swaps import full_name

Declared = str | tuple[Attention, Mapping[str, Callable[[int], Tensor]]]


def of_own_module(module: nn.Module, layer: int) -> Declared | None:
    """The condition of a layer, or an attention with tables by the number of tokens; None for a module of no such kind.

    Of BigBird the blocks are those of evaluation, where the library draws the first block in place of random ones.
    """
    for kind in type(module).__mro__:
        said = _OWN.get(full_name(kind))
        if said is not None:
            return said(module, layer)
    return None


def _causal(module: Any, layer: int) -> Declared:
    del module, layer
    return "causal"


def _gpt_neo(module: Any, layer: int) -> Declared:
    config = module.config
    return f"causal_window({config.window_size})" if config.attention_layers[layer] == "local" else "causal"


def _longformer(module: Any, layer: int) -> Declared:
    windows = module.config.attention_window
    size = windows if isinstance(windows, int) else windows[layer]
    return f"abs(q - k) <= {size // 2}"


def _blocks(module: Any, layer: int) -> Declared:
    del layer
    block, draws, heads = module.block_size, module.num_random_blocks, module.num_attention_heads
    attention = load("bigbird").bigbird(block=block, draws=draws)
    assert isinstance(attention, Attention)
    return attention, {"chosen": lambda n: torch.zeros(heads, n // block - 2, draws, dtype=torch.int64)}


_OWN: Mapping[str, Callable[[Any, int], Declared]] = {
    "mpt.modeling_mpt.MptAttention": _causal,
    "falcon.modeling_falcon.FalconAttention": _causal,
    "bloom.modeling_bloom.BloomAttention": _causal,
    "gpt_neox_japanese.modeling_gpt_neox_japanese.GPTNeoXJapaneseAttention": _causal,
    "codegen.modeling_codegen.CodeGenAttention": _causal,
    "gpt_neo.modeling_gpt_neo.GPTNeoSelfAttention": _gpt_neo,
    "longformer.modeling_longformer.LongformerSelfAttention": _longformer,
    "led.modeling_led.LEDEncoderSelfAttention": _longformer,
    "big_bird.modeling_big_bird.BigBirdBlockSparseAttention": _blocks,
    "bigbird_pegasus.modeling_bigbird_pegasus.BigBirdPegasusBlockSparseAttention": _blocks,
}
