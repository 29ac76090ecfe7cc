"""Attention modules that do not ask transformers' interface: what makes their queries, keys and values, and what is
known of those that cannot be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..swaps import full_name


@dataclass(frozen=True)
class Layout:
    """Where a module computes queries, keys and values, and where its heads come together again.

    ``q``, ``k``, ``v``: names of projections, to ``heads * head_dim`` each; more than one where a module projects its
    tokens more than once. ``fused``: the name of one projection for all three, whose result is put together by
    ``arrange``. ``out``: the projection that the joined heads go to; None where the module returns them.
    ``heads`` and ``head_dim``: the names of these numbers. ``bounds``: attributes that bound what the projections give,
    which no mask depends on. ``pads``: whether the model adds padding after the last token.
    """

    heads: str
    head_dim: str
    q: tuple[str, ...] = ()
    k: tuple[str, ...] = ()
    v: tuple[str, ...] = ()
    fused: str = ""
    arrange: str = ""
    out: str | None = None
    bounds: tuple[str, ...] = ()
    pads: bool = False

    def sizes(self, module: nn.Module) -> tuple[int, int, int]:
        """Heads, heads of keys, and numbers in each."""
        heads = int(getattr(module, self.heads))
        groups = int(getattr(module, "num_kv_heads", heads)) if self.arrange == "groups" else heads
        return heads, groups, int(getattr(module, self.head_dim))


def arranged(how: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A fused projection's result, ``[batch, tokens, …]``, of ``[batch, heads, tokens, head_dim]`` each.

    ``"thirds"``: all queries, all keys, all values. ``"groups"``: for each head of keys its queries, its key, its
    value. ``"quarters"``: in each of four parts of the heads queries, values, keys.
    """
    if how == "thirds":
        return torch.cat([joined(each) for each in (q, k, v)], -1)
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    if how == "groups":
        batch, tokens, groups, dim = k.shape
        parts = q.reshape(batch, tokens, groups, -1, dim), k[..., None, :], v[..., None, :]
        return torch.cat(parts, 3).flatten(2)
    assert how == "quarters", how
    quarters = [each.reshape(*each.shape[:2], 4, -1) for each in (q, v, k)]
    return torch.cat(quarters, -1).flatten(2)


def joined(x: Tensor) -> Tensor:
    """``[batch, heads, tokens, head_dim]`` to ``[batch, tokens, heads * head_dim]``."""
    return x.transpose(1, 2).flatten(2)


_LIKE_BERT = Layout("num_attention_heads", "attention_head_size", ("query",), ("key",), ("value",))
_LIKE_BART = Layout("num_heads", "head_dim", ("q_proj",), ("k_proj",), ("v_proj",), out="out_proj")
_LIKE_GPTJ = Layout("num_attention_heads", "head_dim", ("q_proj",), ("k_proj",), ("v_proj",), out="out_proj")
_LONGFORMER = Layout(
    "num_heads", "head_dim", ("query", "query_global"), ("key", "key_global"), ("value", "value_global"), pads=True
)
_BLOCKS = replace(_LIKE_BERT, pads=True)

LAYOUTS: Mapping[str, Layout] = {
    "mpt.modeling_mpt.MptAttention": Layout(
        "n_heads", "head_dim", fused="Wqkv", arrange="thirds", out="out_proj", bounds=("clip_qkv",)
    ),
    "falcon.modeling_falcon.FalconAttention": Layout(
        "num_heads", "head_dim", fused="query_key_value", arrange="groups", out="dense"
    ),
    "bloom.modeling_bloom.BloomAttention": Layout(
        "num_heads", "head_dim", fused="query_key_value", arrange="groups", out="dense"
    ),
    "gpt_neox_japanese.modeling_gpt_neox_japanese.GPTNeoXJapaneseAttention": Layout(
        "num_attention_heads", "head_size", fused="query_key_value", arrange="groups", out="dense"
    ),
    "codegen.modeling_codegen.CodeGenAttention": Layout(
        "num_attention_heads", "head_dim", fused="qkv_proj", arrange="quarters", out="out_proj"
    ),
    "gpt_neo.modeling_gpt_neo.GPTNeoSelfAttention": _LIKE_BART,
    "gptj.modeling_gptj.GPTJAttention": _LIKE_GPTJ,
    "led.modeling_led.LEDDecoderAttention": _LIKE_BART,
    "mvp.modeling_mvp.MvpAttention": _LIKE_BART,
    "trocr.modeling_trocr.TrOCRAttention": _LIKE_BART,
    "xglm.modeling_xglm.XGLMAttention": _LIKE_BART,
    "longformer.modeling_longformer.LongformerSelfAttention": _LONGFORMER,
    "led.modeling_led.LEDEncoderSelfAttention": _LONGFORMER,
    "big_bird.modeling_big_bird.BigBirdBlockSparseAttention": _BLOCKS,
    "big_bird.modeling_big_bird.BigBirdSelfAttention": _LIKE_BERT,
    "bigbird_pegasus.modeling_bigbird_pegasus.BigBirdPegasusBlockSparseAttention": _BLOCKS,
    "bigbird_pegasus.modeling_bigbird_pegasus.BigBirdPegasusSelfAttention": _LIKE_BERT,
    "flava.modeling_flava.FlavaSelfAttention": _LIKE_BERT,
    "megatron_bert.modeling_megatron_bert.MegatronBertSelfAttention": _LIKE_BERT,
    "rembert.modeling_rembert.RemBertSelfAttention": _LIKE_BERT,
    "roformer.modeling_roformer.RoFormerSelfAttention": _LIKE_BERT,
    "tapas.modeling_tapas.TapasSelfAttention": _LIKE_BERT,
    "visual_bert.modeling_visual_bert.VisualBertSelfAttention": _LIKE_BERT,
    "mpnet.modeling_mpnet.MPNetSelfAttention": Layout(
        "num_attention_heads", "attention_head_size", ("q",), ("k",), ("v",), out="o"
    ),
}
"""Modules that are read, by the class's full name after ``transformers.models.``."""

_BY_CONTENT = "which keys a token sees depends on what the tokens hold"
_NO_SOFTMAX = "it has no mask: it carries a state from token to token, or weighs without a softmax"
_NO_TOKENS = "it has no mask: it weighs what earlier layers computed, not tokens"
WITHOUT_MASK = (_NO_SOFTMAX, _NO_TOKENS)
REASONS: Mapping[str, str] = {
    "LSHSelfAttention": f"{_BY_CONTENT} (hashes)",
    "LongT5LocalAttention": "its blocks of keys are padded, and its softmax is not scaled",
    "LongT5TransientGlobalAttention": "it has keys that are no tokens (summaries of blocks)",
    "PegasusXGlobalLocalAttention": "it has queries and keys that are no tokens (learned global ones)",
    "ProphetNetNgramSelfAttention": "it has several streams of queries",
    "ConvBertSelfAttention": "half of its heads are convolutions",
    "HieraMaskUnitAttention": "it runs on windows cut out before",
    "NystromformerSelfAttention": "it approximates the softmax by landmarks",
    "YosoSelfAttention": f"{_BY_CONTENT} (hashes)",
    "MraSelfAttention": f"{_BY_CONTENT} (blocks)",
    "RwkvSelfAttention": _NO_SOFTMAX,
    "MiniMaxLightningAttention": _NO_SOFTMAX,
    "OlmoHybridLinearAttentionDecoderLayer": _NO_SOFTMAX,
    "SwiftFormerEfficientAdditiveAttention": _NO_SOFTMAX,
    "Inkling2BlockAttentionResidual": _NO_TOKENS,
    "MultiheadAttention": "it is torch's own module, which projects by no module",
}
"""Why the masks of an attention module are not read, by the class's name."""


def layout_of(module: nn.Module) -> Layout | None:
    """The layout of a module, of its class or of one that its class is derived from; None where it is not known."""
    for kind in type(module).__mro__:
        found = LAYOUTS.get(full_name(kind))
        if found is not None:
            return found
    return None


def reason_not_read(module: Any) -> str:
    """Why a module's mask is not read."""
    for kind in type(module).__mro__:
        if kind.__name__ in REASONS:
            return REASONS[kind.__name__]
    return "it does not ask transformers' attention interface, and how it makes queries, keys and values is not known"
