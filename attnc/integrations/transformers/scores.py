"""What a layer does to its scores, from the keywords of a call: as text, with the tables that the text reads."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from .texts import number

# What eager attention of some model reads besides the mask, and attnc does as well.
DONE = frozenset({"softcap", "s_aux", "sinks", "position_bias"})
# What every eager attention reads or passes over: flash attention reads some of these in the mask's place.
PLAIN = frozenset({
    "module", "query", "key", "value", "attention_mask", "scaling", "dropout", "kwargs", "is_causal", "sliding_window",
    "position_ids",
})  # fmt: skip


@dataclass(frozen=True, eq=False)
class Scores:
    """``condition``, ``score`` and ``sink`` of the text, and the tables that they read: types and tensors by name.

    ``condition``: what a row keeps of the keys that the mask keeps; None for all of them.
    """

    condition: str | None
    score: str
    sink: str | None
    types: Mapping[str, str]
    tables: Mapping[str, Tensor]


def scores_of(module: nn.Module, keywords: Mapping[str, Any], keys: int, additive: Tensor | None) -> Scores:
    """The score of a layer. ``keys``: how many keys the call has; ``additive``: a float mask, added at the end.

    TypeError for a keyword that this layer's eager attention would read and attnc does not know, and for weights that
    are asked for.
    """
    _refuse(module, keywords)
    types: dict[str, str] = {}
    tables: dict[str, Tensor] = {}
    score = "s"
    cap = keywords.get("softcap")
    if cap is not None:
        score = f"{number(cap)} * tanh(s / {number(cap)})"
    for name, table in (("bias", keywords.get("position_bias")), ("additive", additive)):
        if table is not None:
            held, kind, index = dimensions(over_keys(table, keys), "float")
            types[name], tables[name] = kind, held.clamp(min=torch.finfo(held.dtype).min)
            score = f"{score} + {name}{index}"
    sink = None
    logits = keywords.get("sinks") if keywords.get("s_aux") is None else keywords.get("s_aux")
    if logits is not None:
        sink = "sink_logit[head]"
        types["sink_logit"], tables["sink_logit"] = "float[head]", logits
        if logits.ndim == 4:  # one for each row: [batch, heads, m, 1]
            sink = "sink_logit[head, q]"
            types["sink_logit"], tables["sink_logit"] = "float[head, query]", logits[..., 0]
    condition = _chosen(module, keywords, types, tables)
    return Scores(condition, score, sink, types, tables)


def _chosen(
    module: nn.Module, keywords: Mapping[str, Any], types: dict[str, str], tables: dict[str, Tensor]
) -> str | None:
    """The keys that a sparse layer has chosen for each row, which the library writes into the mask for eager attention
    alone: ``indices`` of keys ``[batch, m, slots]``, or ``block_indices`` ``[batch, index_heads, m, slots]``.

    TypeError for blocks of a size that the layer does not tell.
    """
    keys, blocks = keywords.get("indices"), keywords.get("block_indices")
    if keys is not None:
        types["chosen"], tables["chosen"] = "set[query]", keys
        return "k in chosen[q]"
    if blocks is None:
        return None
    size = getattr(getattr(module, "indexer", None), "block_size", None)
    heads = getattr(getattr(module, "config", None), "num_attention_heads", None)
    if not isinstance(size, int) or not isinstance(heads, int):
        raise TypeError(
            f"block_indices: is given to {type(module).__name__}, which does not say how large a block is, "
            "expected None"
        )
    types["chosen"], tables["chosen"] = "set[index_head, query]", blocks
    return f"k // {size} in chosen[head // {heads // blocks.shape[1]}, q]"


def over_keys(table: Tensor, keys: int) -> Tensor:
    """A table ``[…, n]`` for so many keys: cut where it has more, expanded where it has one."""
    return table.expand(*table.shape[:-1], keys) if table.shape[-1] == 1 else table[..., :keys]


def dimensions(table: Tensor, element: str) -> tuple[Tensor, str, str]:
    """A table ``[batch, heads, m, n]``, each of which may be 1: without the dimensions of 1, its type and its index.

    ValueError for another number of dimensions.
    """
    if table.ndim != 4:
        raise ValueError(f"attention_mask: has shape {list(table.shape)}, expected [batch, heads, queries, keys]")
    names, indices, axes = ["token"], ["k"], []
    for axis, name, index in ((2, "query", "q"), (1, "head", "head")):
        if table.shape[axis] == 1:
            axes.append(axis)
        else:
            names.insert(0, name)
            indices.insert(0, index)
    for axis in axes:
        table = table.squeeze(axis)
    return table, f"{element}[{', '.join(names)}]", f"[{', '.join(indices)}]"


def _refuse(module: nn.Module, keywords: Mapping[str, Any]) -> None:
    if keywords.get("output_attentions"):
        raise TypeError(
            "output_attentions: is True, but attnc never holds the probabilities, expected False; "
            "attn_implementation='eager' returns them"
        )
    name = _first_unknown(type(module).__module__, tuple(name for name in keywords if keywords[name] is not None))
    if name:
        raise TypeError(
            f"{name}: is given to {type(module).__name__}, whose eager attention reads it, but attnc does not; "
            "expected None; attn_implementation='eager' takes it"
        )


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _first_unknown(module: str, given: tuple[str, ...]) -> str:
    """The first of the keywords that eager attention of a module of the library reads and attnc does not; or ''."""
    return next((name for name in given if name in _unknown(module)), "")


@lru_cache(maxsize=512)
def _unknown(module: str) -> frozenset[str]:
    function = getattr(sys.modules.get(module), "eager_attention_forward", None)
    return frozenset() if function is None else frozenset(signature(function).parameters) - DONE - PLAIN
