"""BigBird's self-attention, block-sparse and full, and that of BigBird-Pegasus's encoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers.models.big_bird import modeling_big_bird as big_bird
from transformers.models.bigbird_pegasus import modeling_bigbird_pegasus as pegasus

from ....attention import Attention
from .compose import filtered, text
from .key_mask import KeyMask, require_key_mask
from .swapped import Settings, Swapped, attend, call, merge_heads, refuse_probabilities, split_heads

_SPECIAL_LENGTHS = (1024, 3072, 4096)  # whose random blocks come from a plan for max_position_embeddings tokens


class BlockSparse(Swapped):
    """Block-sparse attention by the shipped pattern ``bigbird``, with the random blocks that the original draws.

    In training these depend on the layer and the length alone, so they are drawn once; numpy's generator, which the
    original seeds at each call, is left as it was. Probabilities are not dropped, as in the original.

    A pattern takes the place of all of it; it may read ``real``, and ``chosen``: int ``[head, middle, draws]``.
    """

    provides: ClassVar[tuple[str, ...]] = ("real", "chosen")
    attnc_settings: Settings
    query: nn.Module
    key: nn.Module
    value: nn.Module
    num_attention_heads: int
    attention_head_size: int
    num_random_blocks: int
    block_size: int
    max_seqlen: int
    seed: int
    training: bool

    def forward(
        self,
        hidden_states: Tensor,
        band_mask: Tensor | None = None,  # noqa: ARG002 - the mask of keys says the same, here and below
        from_mask: Tensor | None = None,  # noqa: ARG002
        to_mask: Tensor | None = None,
        from_blocked_mask: Tensor | None = None,  # noqa: ARG002
        to_blocked_mask: Tensor | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """``[batch, n, hidden]`` to one output of the same shape; padding rows are exactly 0.

        ValueError where the block does not divide ``n``: with it the random blocks would be others.
        """
        refuse_probabilities(kwargs.get("output_attentions"))
        n = hidden_states.shape[1]
        if n % self.block_size:
            raise ValueError(f"hidden_states: has {n} tokens, expected a multiple of block_size, {self.block_size}")
        q, k, v = (
            split_heads(project(hidden_states), self.attention_head_size)
            for project in (self.query, self.key, self.value)
        )
        real = None if to_mask is None else to_mask[:, 0, 0, :] > 0
        attention = self._attention(padded=real is not None)
        tables: dict[str, Tensor] = {}
        if "real" in attention.tables:
            tables["real"] = real if real is not None else torch.ones(len(q), n, dtype=torch.bool, device=q.device)
        if "chosen" in attention.tables and "chosen" not in self.attnc_settings.tables:
            tables["chosen"] = self._chosen(n).to(q.device)
        return merge_heads(call(attention, q, k, v, tables, self.attnc_settings)), None

    def _attention(self, padded: bool) -> Attention:
        pattern = self.attnc_settings.pattern
        if pattern is not None:
            return filtered(pattern, text("real_pairs")) if padded else pattern
        return text("bigbird_padded" if padded else "bigbird", block=self.block_size, draws=self.num_random_blocks)

    def _chosen(self, n: int) -> Tensor:
        """The random blocks of the rows between the first and the last, int64 ``[head, middle, draws]``."""
        known: dict[tuple[int, bool], Tensor] = self.__dict__.setdefault("attnc_chosen", {})
        key = (n, self.training)
        if key not in known:
            with _numpy_left_alone():
                if self.training:
                    np.random.seed(self.seed)
                known[key] = torch.from_numpy(np.stack(self._drawn(n), axis=0).astype(np.int64))
        return known[key]

    def _drawn(self, n: int) -> list[Any]:
        """The same by the original's functions, for each head."""
        block, draws, heads = self.block_size, self.num_random_blocks, self.num_attention_heads
        original: Any = self
        if n in _SPECIAL_LENGTHS:
            longest = self.max_seqlen
            drawn = [
                original._bigbird_block_rand_mask(longest, longest, block, block, draws, 1024) for _ in range(heads)
            ]
            return [each[: n // block - 2] for each in drawn]
        lengths, counts = original._get_rand_attn_plan(n, block, draws)
        found: list[Any] = original._bigbird_block_rand_mask_with_head(n, n, block, block, heads, lengths, counts)
        return found


@contextmanager
def _numpy_left_alone() -> Iterator[None]:
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)


class Full(Swapped):
    """Full attention: causal in a decoder, over another text's tokens where the layer is given those."""

    attnc_settings: Settings
    query: nn.Module
    key: nn.Module
    value: nn.Module
    dropout: nn.Dropout
    attention_head_size: int
    layer_idx: int
    training: bool

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Any = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Any = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        """``[batch, m, hidden]`` to one output of the same shape."""
        refuse_probabilities(kwargs.get("output_attentions"))
        q = split_heads(self.query(hidden_states), self.attention_head_size)
        crosses = encoder_hidden_states is not None
        mask = encoder_attention_mask if crosses else attention_mask
        if crosses and past_key_values is not None and past_key_values.get_seq_length(self.layer_idx) > 0:
            cached = past_key_values.layers[self.layer_idx]
            k, v = cached.keys, cached.values
        else:
            states = encoder_hidden_states if encoder_hidden_states is not None else hidden_states
            k, v = (split_heads(project(states), self.attention_head_size) for project in (self.key, self.value))
            if past_key_values is not None:
                k, v = past_key_values.update(k, v, self.layer_idx)
        keys = self._keys(mask, q, k)
        settings = Settings(None, {}) if crosses else self.attnc_settings
        dropout = self.dropout.p if self.training else 0.0
        return merge_heads(
            attend(text("causal" if keys.causal else "full"), q, k, v, keys, settings, dropout=dropout)
        ), None

    def _keys(self, mask: Any, q: Tensor, k: Tensor) -> KeyMask:
        """What the mask says. No mask keeps all; an additive one with a single row says which keys are kept."""
        if mask is None or isinstance(mask, Tensor):
            kept = None if mask is None else self._of_rows(mask)
            return KeyMask(kept, len(q), q.shape[2], k.shape[2], 0, False, q.dtype, q.device)
        return require_key_mask(mask)

    def _of_rows(self, mask: Tensor) -> Tensor:
        del mask
        raise ValueError("attention_mask: is a tensor, expected the mask that the model prepares")


class PegasusFull(Full):
    """The same in BigBird-Pegasus's encoder, whose mask is prepared for its decoder's implementation as well."""

    def _of_rows(self, mask: Tensor) -> Tensor:
        return mask[:, 0, 0] if mask.dtype == torch.bool else mask[:, 0, 0] == 0


class Switching(Swapped):
    """The module around both: a text too short for blocks makes it full for good, on attnc's kernels as before."""

    takes_pattern: ClassVar[bool] = False
    attention_type: str
    training: bool

    def set_attention_type(self, value: str, *arguments: Any, **keywords: Any) -> None:
        """Changes the kind of attention; the new one is swapped with the settings of the old."""
        inner: Any = self.self  # type: ignore[attr-defined]
        super().set_attention_type(value, *arguments, **keywords)  # type: ignore[misc]
        made: Any = self.self  # type: ignore[attr-defined]
        if made is not inner and isinstance(inner, Swapped):
            made.__dict__["attnc_settings"] = inner.attnc_settings
            made.__class__ = CLASSES[type(made)]


class AttncBigBirdBlockSparseAttention(BlockSparse, big_bird.BigBirdBlockSparseAttention):  # type: ignore[misc]
    """BigBird's."""


class AttncBigBirdSelfAttention(Full, big_bird.BigBirdSelfAttention):  # type: ignore[misc]
    """BigBird's."""


class AttncBigBirdAttention(Switching, big_bird.BigBirdAttention):  # type: ignore[misc]
    """BigBird's."""


class AttncBigBirdPegasusBlockSparseAttention(BlockSparse, pegasus.BigBirdPegasusBlockSparseAttention):  # type: ignore[misc]
    """BigBird-Pegasus's."""


class AttncBigBirdPegasusSelfAttention(PegasusFull, pegasus.BigBirdPegasusSelfAttention):  # type: ignore[misc]
    """BigBird-Pegasus's."""


class AttncBigBirdPegasusEncoderAttention(Switching, pegasus.BigBirdPegasusEncoderAttention):  # type: ignore[misc]
    """BigBird-Pegasus's."""


CLASSES: dict[type[Any], type[Swapped]] = {
    big_bird.BigBirdBlockSparseAttention: AttncBigBirdBlockSparseAttention,
    big_bird.BigBirdSelfAttention: AttncBigBirdSelfAttention,
    big_bird.BigBirdAttention: AttncBigBirdAttention,
    pegasus.BigBirdPegasusBlockSparseAttention: AttncBigBirdPegasusBlockSparseAttention,
    pegasus.BigBirdPegasusSelfAttention: AttncBigBirdPegasusSelfAttention,
    pegasus.BigBirdPegasusEncoderAttention: AttncBigBirdPegasusEncoderAttention,
}
