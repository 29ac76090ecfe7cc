"""Longformer's self-attention, and that of LED's encoder: windows, and global tokens with projections of their own."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.models.led.modeling_led import LEDEncoderSelfAttention
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

from ....attention import Attention
from .compose import text, united
from .swapped import Settings, Swapped, call, merge_heads, refuse_probabilities, split_heads

PADDING, LOCAL, GLOBAL = 0, 1, 2


def token_kinds(is_masked: Tensor, is_global: Tensor) -> Tensor:
    """What each token is, int32 ``[batch, n]``. A token that is both padding and global is padding."""
    kinds = torch.where(is_global, GLOBAL, LOCAL)
    return torch.where(is_masked, PADDING, kinds).to(torch.int32)


class WindowedWithGlobals(Swapped):
    """The forward of both.

    Rows of local tokens have the projections ``query``, ``key`` and ``value``, rows of global tokens those with
    ``_global``. The gradient of ``key_global.bias`` is zero whatever the loss is (the bias adds one number to all
    logits of a row), and stays None where the key projection is folded into the query.

    A pattern takes the window's place: which local tokens see each other. It may read ``kind`` and the set ``g`` of
    the global tokens.
    """

    provides: ClassVar[tuple[str, ...]] = ("g", "kind", "real")
    attnc_settings: Settings
    query: nn.Module
    key: nn.Module
    value: nn.Module
    query_global: nn.Module
    key_global: nn.Linear
    value_global: nn.Linear
    num_heads: int
    head_dim: int
    dropout: float
    one_sided_attn_window_size: int
    training: bool

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,  # noqa: ARG002 - the two below say the same
        is_index_masked: Tensor | None = None,
        is_index_global_attn: Tensor | None = None,
        is_global_attn: bool | None = None,
        output_attentions: bool = False,
    ) -> tuple[Tensor]:
        """``[batch, n, hidden]`` to one output of the same shape, for any n; padding rows are exactly 0."""
        refuse_probabilities(output_attentions)
        assert is_index_masked is not None
        assert is_index_global_attn is not None
        kind = token_kinds(is_index_masked, is_index_global_attn)
        output = self._local_rows(hidden_states, kind)
        if is_global_attn:
            batch, position = (kind == GLOBAL).nonzero(as_tuple=True)
            if len(batch):
                rows = self._global_rows(hidden_states, kind, batch, position)
                output = output.index_put((batch, position), rows)
        return (output,)

    @property
    def _dropping(self) -> float:
        return self.dropout if self.training else 0.0

    def _local_rows(self, hidden_states: Tensor, kind: Tensor) -> Tensor:
        """The rows of local tokens, ``[batch, n, hidden]``; all other rows keep nothing and are 0."""
        q, k, v = (split_heads(project(hidden_states), self.head_dim) for project in (self.query, self.key, self.value))
        attention = self._local_attention()
        tables = {"kind": kind}
        if "g" in attention.tables:
            tables["g"] = kind == GLOBAL
        if "real" in attention.tables:
            tables["real"] = kind != PADDING
        out = call(attention, q, k, v, tables, self.attnc_settings, dropout=self._dropping)
        return merge_heads(out)

    def _local_attention(self) -> Attention:
        pattern = self.attnc_settings.pattern
        if pattern is None:
            return text("local_rows", size=2 * self.one_sided_attn_window_size)
        return united(text("local_to_global"), text("between_local"), pattern)

    def _global_rows(self, hidden_states: Tensor, kind: Tensor, batch: Tensor, position: Tensor) -> Tensor:
        """The rows of the global tokens at ``(batch, position)``, ``[globals, hidden]``."""
        slot = (torch.cumsum(kind == GLOBAL, dim=1) - 1)[batch, position]
        slots = int(slot.max()) + 1
        tokens = hidden_states.new_zeros(len(hidden_states), slots, hidden_states.shape[-1])
        tokens = tokens.index_put((batch, slot), hidden_states[batch, position])
        q = split_heads(self.query_global(tokens), self.head_dim)
        folding_pays = slots * self.num_heads <= hidden_states.shape[-1] and not self._dropping
        rows = self._folded if folding_pays and self._can_fold() else self._projected
        return rows(q, hidden_states, kind)[batch, slot]

    def _can_fold(self) -> bool:
        """Whether both projections are plain ones: folding reads their weights, past any adapter or quantisation."""
        return all(
            type(project) is nn.Linear and not _hooked(project) for project in (self.key_global, self.value_global)
        )

    def _projected(self, q: Tensor, hidden_states: Tensor, kind: Tensor) -> Tensor:
        """Queries ``[batch, heads, slots, head_dim]`` over all keys and values, to ``[batch, slots, hidden]``."""
        k, v = (split_heads(project(hidden_states), self.head_dim) for project in (self.key_global, self.value_global))
        out: Tensor = text("global_rows")(q, k, v, kind=kind, dropout=self._dropping)
        return merge_heads(out)

    def _folded(self, q: Tensor, hidden_states: Tensor, kind: Tensor) -> Tensor:
        """The same for few queries, without projecting every token.

        With keys ``W_k x + b_k`` the logits of query q are ``(W_k^T q) . x`` plus a constant that the softmax cancels,
        and with values ``W_v x + b_v`` the output is ``W_v (sum of p x) + b_v``. All heads then read the hidden states
        themselves: heads become rows, and one call attends over them all.
        """
        shape = (self.num_heads, self.head_dim, -1)
        folded = torch.einsum("bhsd,hde->bhse", q, self.key_global.weight.view(shape))
        tokens = hidden_states.unsqueeze(1)
        rows = folded.flatten(1, 2).unsqueeze(1)
        mixed: Tensor = text("global_rows")(rows, tokens, tokens, kind=kind, scale=self.head_dim**-0.5)
        mixed = mixed.view(len(q), self.num_heads, -1, mixed.shape[-1])
        out = torch.einsum("bhse,hde->bshd", mixed, self.value_global.weight.view(shape))
        return out.flatten(2) + self.value_global.bias


def _hooked(module: nn.Module) -> bool:
    """Whether calling the module does more than its forward."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


class AttncLongformerSelfAttention(WindowedWithGlobals, LongformerSelfAttention):  # type: ignore[misc]
    """Longformer's."""


class AttncLEDEncoderSelfAttention(WindowedWithGlobals, LEDEncoderSelfAttention):  # type: ignore[misc]
    """LED's."""


CLASSES: dict[type[Any], type[Swapped]] = {
    LongformerSelfAttention: AttncLongformerSelfAttention,
    LEDEncoderSelfAttention: AttncLEDEncoderSelfAttention,
}
