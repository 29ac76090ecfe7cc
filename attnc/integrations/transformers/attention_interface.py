"""What transformers calls for each layer: attention under the pattern that the mask is, with the layer's own score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .caches import HeldKeys, attend, held_keys
from .conditions import Position
from .packing import with_documents
from .pattern_mask import PatternMask
from .scores import dimensions, over_keys, scores_of
from .swaps import under_pattern
from .texts import attention_of, attention_text, conjunct


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: PatternMask | Tensor | None,
    scaling: float | Tensor | None = None,
    dropout: float = 0.0,
    **keywords: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer: ``[batch, m, heads, value_dim]``, and None in the place of the probabilities.

    ``query``: ``[batch, heads, m, head_dim]``; ``key`` and ``value``: ``[batch, kv_heads, n, …]``. Dropout in training
    only. Keys after the last that the mask is made for take no part.

    ValueError for a missing mask where the module is causal; TypeError for a keyword that would change the result and
    is not known.
    """
    held = held_keys(key)  # what a cache of attnc has kept of all keys
    keys = key.shape[2] if held is None else held.total
    if isinstance(attention_mask, PatternMask) and _broadcasts(attention_mask, query, keys):
        attention_mask = attention_mask.dense()  # made for other sizes than the layer's: as eager attention has it
    if isinstance(attention_mask, PatternMask):
        is_sparse = keywords.get("indices") is not None or keywords.get("block_indices") is not None
        mask = with_documents(attention_mask, keywords.get("position_ids"), is_sparse)
        part, additive = _of_pattern(mask, query, keys, held), None
        if held is None:
            key, value = key[:, :, : part.keys], value[:, :, : part.keys]
    else:
        _require_a_mask(module, attention_mask, query, keywords.get("is_causal"))
        part, additive = _of_tensor(attention_mask, query, keys)
    scores = scores_of(module, keywords, part.keys, additive)
    condition = part.condition if scores.condition is None else f"{conjunct(part.condition)} and {scores.condition}"
    text = attention_text(condition, {**part.types, **scores.types}, scores.score, scores.sink)
    tables: dict[str, Any] = {**part.tables, **scores.tables}
    if isinstance(scaling, Tensor):  # it may be learned
        query, scaling = query * scaling, 1.0
    attention, tables = under_pattern(
        module, attention_of(text), tables, _counts_from_the_first(attention_mask, query, keys)
    )
    drop = float(dropout) if module.training else 0.0
    out = attend(attention, query, key, value, tables, q_start=part.q_start, scale=scaling, dropout=drop)
    return out.transpose(1, 2).contiguous(), None


def _counts_from_the_first(mask: PatternMask | Tensor | None, query: Tensor, keys: int) -> bool:
    """Whether queries and keys of a call have the positions that they have in the text."""
    if isinstance(mask, PatternMask):
        return isinstance(mask.sizes.kv_offset, int) and mask.sizes.kv_offset == 0
    return query.shape[2] == keys


@dataclass(frozen=True, eq=False)
class _Part:
    """The mask's part of a layer's call, which has ``keys`` keys."""

    condition: str
    types: Mapping[str, str]
    tables: Mapping[str, Tensor]
    q_start: Position
    keys: int


def _broadcasts(mask: PatternMask, query: Tensor, keys: int) -> bool:
    """Whether a mask is made for one query or one key, and the layer has more: a tensor would be broadcast."""
    return (mask.sizes.q_length == 1 < query.shape[2]) or (mask.sizes.kv_length == 1 < keys)


def _of_pattern(mask: PatternMask, query: Tensor, key_rows: int, held: HeldKeys | None) -> _Part:
    """The part of a pattern. Keys after the last that the mask is made for take no part; where there are fewer, the
    tables end with them. ValueError where the mask is made for other queries, or for other keys than a cache of attnc
    has.
    """
    if mask.device != query.device:  # a model whose layers are on several devices
        mask = mask.to(query.device)
    m, keys = query.shape[2], min(key_rows, mask.sizes.kv_length)
    if held is not None and (mask.sizes.kv_length, mask.sizes.kv_offset) != (held.total, 0):
        raise ValueError(
            f"attention_mask: is made for {mask.sizes.kv_length} keys from position {mask.sizes.kv_offset} on, "
            f"expected all {held.total} positions of {held.layer!r}"
        )
    if mask.sizes.q_length != m:
        raise ValueError(
            f"attention_mask: is made for {mask.sizes.q_length} queries, expected the layer's, which are {m}"
        )
    tables = mask.tables
    if keys < mask.sizes.kv_length:
        types = mask.written.types
        tables = {name: table[..., :keys] if "token]" in types[name] else table for name, table in tables.items()}
    return _Part(mask.written.condition, mask.written.types, tables, mask.q_start, keys)


def _of_tensor(mask: Tensor | None, query: Tensor, keys: int) -> tuple[_Part, Tensor | None]:
    """The part of a mask that is a tensor, bool or additive, ``[batch, heads, m, n]``, each of which may be 1; or of no
    mask. The second: what is to be added to the scores.
    """
    if mask is None:
        return _Part("full", {}, {}, 0, keys), None
    mask = over_keys(mask, keys)
    if mask.dtype == torch.bool:
        table, kind, index = dimensions(mask, "bool")
        return _Part(f"allowed{index}", {"allowed": kind}, {"allowed": table}, 0, keys), None
    if not mask.is_floating_point():
        raise TypeError(
            f"attention_mask: has dtype {mask.dtype}, expected bool, or a float that is added to the scores"
        )
    return _Part("full", {}, {}, 0, keys), mask.to(query.dtype)


def _require_a_mask(module: nn.Module, mask: Tensor | None, query: Tensor, is_causal: bool | None) -> None:
    """ValueError for a causal module without a mask: eager attention would let every row see the keys after it."""
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    if mask is None and causal and query.shape[2] > 1:
        raise ValueError(
            f"attention_mask: is None, but {type(module).__name__} is causal, expected a mask: was the model built or "
            "loaded before attnc.integrations.transformers was imported, or the mask left out by the caller?"
        )
