"""Longformer's self-attention on attnc's kernels: weights, arguments and results are those of Hugging Face's.

``use_attnc(model)`` puts it into a ``transformers.LongformerModel``; nothing else of the model changes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers.models.longformer.modeling_longformer import LongformerModel, LongformerSelfAttention

import attnc

PATTERNS = Path(__file__).with_name("longformer_document.attn")
PADDING, LOCAL, GLOBAL = 0, 1, 2

Attend = Callable[..., Tensor]


def token_kinds(is_masked: Tensor, is_global: Tensor) -> Tensor:
    """What each token is, int32 ``[batch, n]``. A token that is both padding and global is padding."""
    kinds = torch.where(is_global, GLOBAL, LOCAL)
    return torch.where(is_masked, PADDING, kinds).to(torch.int32)


class CompiledSelfAttention(nn.Module):
    """In the place of one layer's ``LongformerSelfAttention``, whose six projections it shares under the same names.

    ``local_rows`` and ``global_rows`` are the patterns of ``longformer_document.attn``, bound to the layer's window.
    The gradient of ``key_global.bias`` is zero whatever the loss is (the bias adds one number to all logits of a row),
    and stays None where the key projection is folded into the query.
    """

    def __init__(self, original: LongformerSelfAttention, local_rows: Attend, global_rows: Attend) -> None:
        super().__init__()
        self.query, self.key, self.value = original.query, original.key, original.value
        self.query_global = original.query_global
        self.key_global, self.value_global = original.key_global, original.value_global
        self.heads, self.head_dim = original.num_heads, original.head_dim
        self.dropout = original.dropout
        self.original = (original,)  # in a tuple: no submodule, its weights are registered above
        self.local_rows, self.global_rows = local_rows, global_rows

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
        if output_attentions:
            raise ValueError(
                "output_attentions is True, but these kernels never hold the probabilities: expected False"
            )
        assert is_index_masked is not None
        assert is_index_global_attn is not None
        kind = token_kinds(is_index_masked, is_index_global_attn)
        output = self.attend_locally(hidden_states, kind)
        if is_global_attn:
            batch, position = (kind == GLOBAL).nonzero(as_tuple=True)
            rows = self.attend_globally(hidden_states, kind, batch, position)
            output = output.index_put((batch, position), rows)
        return (output,)

    @property
    def probability_of_dropping(self) -> float:
        return self.dropout if self.training else 0.0

    def split_heads(self, projected: Tensor) -> Tensor:
        """``[batch, tokens, heads * head_dim]`` to ``[batch, heads, tokens, head_dim]``, without a copy."""
        return projected.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)

    def attend_locally(self, hidden_states: Tensor, kind: Tensor) -> Tensor:
        """The rows of local tokens, ``[batch, n, hidden]``; all other rows keep nothing and are 0."""
        q, k, v = (self.split_heads(project(hidden_states)) for project in (self.query, self.key, self.value))
        out = self.local_rows(q, k, v, kind=kind, dropout=self.probability_of_dropping)
        return out.transpose(1, 2).flatten(2)

    def attend_globally(self, hidden_states: Tensor, kind: Tensor, batch: Tensor, position: Tensor) -> Tensor:
        """The rows of the global tokens at ``(batch, position)``, ``[globals, hidden]``."""
        slot = (torch.cumsum(kind == GLOBAL, dim=1) - 1)[batch, position]
        slots = int(slot.max()) + 1
        tokens = hidden_states.new_zeros(len(hidden_states), slots, hidden_states.shape[-1])
        q = self.split_heads(self.query_global(tokens.index_put((batch, slot), hidden_states[batch, position])))
        folding_pays = slots * self.heads <= hidden_states.shape[-1] and not self.probability_of_dropping
        attend = self.attend_folded if folding_pays else self.attend_projected
        return attend(q, hidden_states, kind)[batch, slot]

    def attend_projected(self, q: Tensor, hidden_states: Tensor, kind: Tensor) -> Tensor:
        """Queries ``[batch, heads, slots, head_dim]`` over all keys and values, to ``[batch, slots, hidden]``."""
        k, v = (self.split_heads(project(hidden_states)) for project in (self.key_global, self.value_global))
        out = self.global_rows(q, k, v, kind=kind, dropout=self.probability_of_dropping)
        return out.transpose(1, 2).flatten(2)

    def attend_folded(self, q: Tensor, hidden_states: Tensor, kind: Tensor) -> Tensor:
        """The same for few queries, without projecting every token.

        With keys ``W_k x + b_k`` the logits of query q are ``(W_k^T q) . x`` plus a constant that the softmax cancels,
        and with values ``W_v x + b_v`` the output is ``W_v (sum of p x) + b_v``. All heads then read the hidden states
        themselves: heads become rows, and one call attends over them all.
        """
        folded = torch.einsum("bhsd,hde->bhse", q, self.key_global.weight.unflatten(0, (self.heads, self.head_dim)))
        tokens = hidden_states.unsqueeze(1)
        mixed = self.global_rows(
            folded.flatten(1, 2).unsqueeze(1), tokens, tokens, kind=kind, scale=self.head_dim**-0.5
        )
        mixed = mixed.squeeze(1).unflatten(1, (self.heads, -1))
        weight = self.value_global.weight.unflatten(0, (self.heads, self.head_dim))
        return torch.einsum("bhse,hde->bshd", mixed, weight).flatten(2) + self.value_global.bias


def use_attnc(model: LongformerModel, window_error: int = 0) -> None:
    """Put attnc's kernels into every layer. ``window_error`` widens each side of the window: a fault, to be found."""
    patterns = attnc.load(PATTERNS)
    global_rows = patterns.global_rows()
    for layer in model.encoder.layer:
        original = layer.attention.self
        size = 2 * (original.one_sided_attn_window_size + window_error)
        layer.attention.self = CompiledSelfAttention(original, patterns.local_rows(size=size), global_rows)


def use_own(model: LongformerModel) -> None:
    """Give every layer back its own attention."""
    for layer in model.encoder.layer:
        (layer.attention.self,) = layer.attention.self.original
