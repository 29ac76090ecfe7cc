"""Decoders with an attention of their own: MPT, Falcon, BLOOM and GPT-Neo."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.models.bloom.modeling_bloom import BloomAttention
from transformers.models.falcon.modeling_falcon import (
    FALCON_ATTENTION_CLASSES,
    FalconAttention,
    apply_rotary_pos_emb,
)
from transformers.models.gpt_neo.modeling_gpt_neo import GPT_NEO_ATTENTION_CLASSES, GPTNeoSelfAttention
from transformers.models.mpt.modeling_mpt import MptAttention

from .compose import text
from .key_mask import NAME, require_key_mask
from .swapped import Settings, Swapped, attend, merge_heads, refuse_probabilities, split_heads


class AttncMptAttention(Swapped, MptAttention):  # type: ignore[misc]
    """MPT's: causal, with ALiBi. A pattern may read ``slope``: float ``[head]``."""

    provides: ClassVar[tuple[str, ...]] = ("real", "slope")
    attnc_settings: Settings

    def forward(
        self,
        hidden_states: Tensor,
        position_bias: Tensor | None,
        past_key_values: Any = None,
        attention_mask: Any = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """``[batch, m, hidden]`` to one output of the same shape."""
        refuse_probabilities(kwargs.get("output_attentions"))
        mixed = self.Wqkv(hidden_states)
        if self.clip_qkv:
            mixed = mixed.clamp(min=-self.clip_qkv, max=self.clip_qkv)
        q, k, v = (split_heads(part, self.head_dim) for part in mixed.chunk(3, dim=2))
        if past_key_values is not None:
            k, v = past_key_values.update(k, v, self.layer_idx)
        if position_bias is None:
            slope = torch.zeros(self.n_heads, device=q.device)
        elif position_bias.shape[-1] < 2:
            raise ValueError(f"max_seq_len: is {position_bias.shape[-1]}, expected 2 or more, to read the slopes from")
        else:
            slope = position_bias[:, 0, -1] - position_bias[:, 0, -2]
        out = attend(
            text("mpt"), q, k, v, require_key_mask(attention_mask), self.attnc_settings, {"slope": slope},
            scale=self.softmax_scale, dropout=self.attn_dropout_p if self.training else 0.0,
        )  # fmt: skip
        return self.out_proj(merge_heads(out)), None


class AttncBloomAttention(Swapped, BloomAttention):  # type: ignore[misc]
    """BLOOM's: causal, with ALiBi over the tokens that are no padding. A pattern may read ``bias[head, k]``."""

    provides: ClassVar[tuple[str, ...]] = ("real", "bias")
    attnc_settings: Settings

    @classmethod
    def refusal(cls, module: Any) -> str | None:
        """Slices of the output projection, which leave out its bias."""
        if module.pretraining_tp > 1 and module.slow_but_exact:
            return "slow_but_exact is True, expected False: the output projection is not taken in slices here"
        return None

    def forward(
        self,
        hidden_states: Tensor,
        residual: Tensor,
        alibi: Tensor,
        attention_mask: Any,
        layer_past: Any = None,
        use_cache: bool = False,  # noqa: ARG002 - the cache is there or not
        output_attentions: bool = False,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """``[batch, m, hidden]`` to one output of the same shape, ``residual`` added."""
        refuse_probabilities(output_attentions)
        q, k, v = self._reshape(self.query_key_value(hidden_states))
        if layer_past is not None:
            k, v = layer_past.update(k, v, self.layer_idx)
        bias = alibi.view(len(q), self.num_heads, -1)
        out = attend(
            text("biased"), q, k, v, require_key_mask(attention_mask), self.attnc_settings, {"bias": bias},
            scale=self.inv_norm_factor, dropout=self.attention_dropout.p if self.training else 0.0,
        )  # fmt: skip
        dropped = nn.functional.dropout(self.dense(merge_heads(out)), p=self.hidden_dropout, training=self.training)
        return residual + dropped, None


class AttncFalconAttention(Swapped, FalconAttention):  # type: ignore[misc]
    """Falcon's: causal, one key head for all query heads or for some, with rotary positions or ALiBi.

    ALiBi counts once, as under ``"sdpa"``: the library's own ``"eager"`` adds it twice. Probabilities are dropped with
    ALiBi only, as in the original. Caches hold a head of keys for each group of queries, not for each query. A pattern
    may read ``bias[head, k]``, which is ALiBi divided by ``sqrt(head_dim)``.
    """

    provides: ClassVar[tuple[str, ...]] = ("real", "bias")
    attnc_settings: Settings

    def forward(
        self,
        hidden_states: Tensor,
        alibi: Tensor | None,
        attention_mask: Any,
        position_ids: Tensor | None = None,  # noqa: ARG002 - the embeddings hold them
        layer_past: Any = None,
        use_cache: bool = False,  # noqa: ARG002 - the cache is there or not
        output_attentions: bool = False,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """``[batch, m, hidden]`` to one output of the same shape."""
        refuse_probabilities(output_attentions)
        q, k, v = self._heads(self.query_key_value(hidden_states))
        if alibi is None:
            assert position_embeddings is not None
            q, k = apply_rotary_pos_emb(q, k, *position_embeddings)
        if layer_past is not None:
            k, v = layer_past.update(k, v, self.layer_idx)
        mask, settings = require_key_mask(attention_mask), self.attnc_settings
        if alibi is None:
            out = attend(text("causal"), q, k, v, mask, settings, scale=self.inv_norm_factor)
        else:
            bias = alibi.view(len(q), self.num_heads, -1) / math.sqrt(self.head_dim)
            dropout = self.attention_dropout.p if self.training else 0.0
            out = attend(
                text("biased"), q, k, v, mask, settings, {"bias": bias}, scale=self.inv_norm_factor, dropout=dropout
            )
        return self.dense(merge_heads(out)), None

    def _heads(self, fused: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``[batch, heads, m, head_dim]``, keys and values ``[batch, kv_heads, m, head_dim]``."""
        if not (self.new_decoder_architecture or self.multi_query):
            q, k, v = fused.view(*fused.shape[:2], self.num_heads, 3, self.head_dim).unbind(3)
        else:  # each group is its queries, then its key and its value
            groups = fused.view(*fused.shape[:2], self.num_kv_heads, -1, self.head_dim)
            q, k, v = groups[..., :-2, :].flatten(2, 3), groups[..., -2, :], groups[..., -1, :]
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


class AttncGPTNeoSelfAttention(Swapped, GPTNeoSelfAttention):  # type: ignore[misc]
    """GPT-Neo's: causal, or the last ``window_size`` keys; logits are not scaled."""

    attnc_settings: Settings

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Any = None,
        layer_past: Any = None,
        use_cache: bool = False,  # noqa: ARG002 - the cache is there or not
        output_attentions: bool = False,
        **_: Any,
    ) -> tuple[Tensor, None]:
        """``[batch, m, hidden]`` to one output of the same shape."""
        refuse_probabilities(output_attentions)
        q, k, v = (
            split_heads(project(hidden_states), self.head_dim) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if layer_past is not None:
            k, v = layer_past.update(k, v, self.layer_id)
        local = self.attention_type == "local"
        base = text("causal_window", size=self.config.window_size) if local else text("causal")
        out = attend(
            base, q, k, v, require_key_mask(attention_mask), self.attnc_settings,
            scale=1.0, dropout=self.attn_dropout.p if self.training else 0.0,
        )  # fmt: skip
        return self.resid_dropout(self.out_proj(merge_heads(out))), None


CLASSES: dict[type[Any], type[Swapped]] = {
    MptAttention: AttncMptAttention,
    BloomAttention: AttncBloomAttention,
    FalconAttention: AttncFalconAttention,
    GPTNeoSelfAttention: AttncGPTNeoSelfAttention,
}

# Models are built by the implementation that their configuration names; it may come from a model that is in use.
FALCON_ATTENTION_CLASSES.setdefault(NAME, FalconAttention)
GPT_NEO_ATTENTION_CLASSES.setdefault(NAME, GPTNeoSelfAttention)
