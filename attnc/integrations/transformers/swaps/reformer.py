"""Reformer's self-attention: by buckets of hashes (LSH), and local."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers.models.reformer.modeling_reformer import (
    LocalSelfAttention,
    LocalSelfAttentionOutput,
    LSHSelfAttention,
    LSHSelfAttentionOutput,
)

from ....attention import Attention
from .compose import filtered, text, with_pattern
from .swapped import Settings, Swapped, call, merge_heads, refuse_probabilities, split_heads


def _attention(base: Attention, module: Any, mask: Tensor | None, padding: str) -> Attention:
    """The base under the module's pattern, where it has one, causality and padding."""
    conditions = (text("causal"),) if module.is_decoder else ()
    if mask is not None:
        conditions = (*conditions, text(padding))
    pattern = module.attnc_settings.pattern
    return filtered(base, *conditions) if pattern is None else with_pattern(base, pattern, *conditions)


def _require_chunks(n: int, chunk: int, before: int, after: int) -> None:
    """ValueError where chunks do not divide the length, or one would see itself around the circle."""
    if n % chunk:
        raise ValueError(f"hidden_states: has {n} tokens, expected a multiple of the chunk's {chunk}")
    if max(before, after) > n // chunk:
        raise ValueError(
            f"num_chunks_before, num_chunks_after: are {before} and {after}, expected at most the {n // chunk} chunks "
            f"of {n} tokens"
        )


class AttncLSHSelfAttention(Swapped, LSHSelfAttention):  # type: ignore[misc]
    """LSH attention: one softmax in which a key counts once for each slot of each round that it is seen in.

    Buckets are hashed and sorted by the original's functions, from the same random numbers, and returned. A single
    token after cached ones runs in the original's own code. A pattern takes the place of the chunks: nothing is hashed.
    """

    provides: ClassVar[tuple[str, ...]] = ("real",)
    attnc_settings: Settings

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        num_hashes: int | None = None,
        buckets: Tensor | None = None,
        past_buckets_states: Any = None,
        use_cache: bool = False,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> Any:
        """``hidden_states``: ``[batch, n, heads * head_dim]``; ``buckets``: ``[batch, heads, rounds, n]`` or None."""
        refuse_probabilities(output_attentions)
        if past_buckets_states is not None and len(past_buckets_states) > self.layer_idx:
            self._refuse_pattern()
            return super().forward(
                hidden_states, attention_mask, num_hashes, buckets, past_buckets_states, use_cache, False, **kwargs
            )
        q = split_heads(self.query_key(hidden_states), self.attention_head_size)
        v = split_heads(self.value(hidden_states), self.attention_head_size)
        k = self._len_norm(q)
        tables: dict[str, Tensor] = {}
        n = hidden_states.shape[1]
        if self.attnc_settings.pattern is not None or n <= self.chunk_length:
            base, buckets = text("shared_projection"), None
        else:
            rounds = self.num_hashes if num_hashes is None else num_hashes
            rank, buckets = self._ranks(q, attention_mask, rounds, buckets)
            before, after = self.num_chunks_before, self.num_chunks_after
            _require_chunks(n, self.chunk_length, before, after)
            base = text("reformer", chunk=self.chunk_length, rounds=rounds, before=before, after=after)
            tables["rank"] = rank
        attention = _attention(base, self, attention_mask, "real_keys_or_self")
        if "real" in attention.tables:
            tables["real"] = q.new_ones(len(q), n).bool() if attention_mask is None else attention_mask.bool()
        dropout = self.dropout if self.training else 0.0
        out = call(attention, q, k, v, tables, self.attnc_settings, dropout=dropout)
        return LSHSelfAttentionOutput(hidden_states=merge_heads(out), attention_probs=(), buckets=buckets)

    def _ranks(self, q: Tensor, mask: Tensor | None, rounds: int, buckets: Tensor | None) -> tuple[Tensor, Tensor]:
        """The place of each token among its round's sorted tokens, and the buckets, ``[batch, heads, rounds, n]``."""
        batch, heads, n, _ = q.shape
        if self.num_buckets is None:
            self._set_num_buckets(n)
        if buckets is None:
            buckets = self._hash_vectors(q, rounds, mask)
        flat = buckets.view(batch, heads, rounds * n)
        _, places = self._get_sorted_bucket_idx_and_undo_sorted_bucket_idx(n, flat, rounds)
        first = n * torch.arange(rounds, device=q.device).view(-1, 1)
        return places.view(batch, heads, rounds, n) - first, flat.view(batch, heads, rounds, n)

    def _refuse_pattern(self) -> None:
        if self.attnc_settings.pattern is not None:
            raise ValueError(
                "past_buckets_states: is given, expected None: under a pattern of its own Reformer's attention keeps "
                "no buckets to go on from (use_cache=False)"
            )


class AttncLocalSelfAttention(Swapped, LocalSelfAttention):  # type: ignore[misc]
    """Local attention: chunks on a circle. A single token after cached ones runs in the original's own code."""

    attnc_settings: Settings

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        past_buckets_states: Any = None,
        use_cache: bool = False,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> Any:
        """``hidden_states``: ``[batch, n, heads * head_dim]``."""
        refuse_probabilities(output_attentions)
        if past_buckets_states is not None and len(past_buckets_states) > self.layer_idx:
            if self.attnc_settings.pattern is not None:
                raise ValueError(
                    "past_buckets_states: is given, expected None: the cache holds the last chunks alone, which is not "
                    "what the pattern may read (use_cache=False)"
                )
            return super().forward(hidden_states, attention_mask, past_buckets_states, use_cache, False, **kwargs)
        q, k, v = (
            split_heads(project(hidden_states), self.attention_head_size)
            for project in (self.query, self.key, self.value)
        )
        n, chunk = hidden_states.shape[1], self.chunk_length
        base = text("full")
        if n > chunk and self.attnc_settings.pattern is None:
            _require_chunks(n, chunk, self.num_chunks_before, self.num_chunks_after)
            base = text("reformer_local", chunk=chunk, before=self.num_chunks_before, after=self.num_chunks_after)
        attention = _attention(base, self, attention_mask, "real_keys")
        tables: dict[str, Tensor] = {}
        if "real" in attention.tables:
            tables["real"] = q.new_ones(len(q), n).bool() if attention_mask is None else attention_mask.bool()
        dropout = self.dropout if self.training else 0.0
        out = call(attention, q, k, v, tables, self.attnc_settings, dropout=dropout)
        return LocalSelfAttentionOutput(hidden_states=merge_heads(out), attention_probs=())


CLASSES: dict[type[Any], type[Swapped]] = {
    LSHSelfAttention: AttncLSHSelfAttention,
    LocalSelfAttention: AttncLocalSelfAttention,
}
