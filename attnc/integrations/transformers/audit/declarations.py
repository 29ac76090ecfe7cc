"""What a model declares: its configuration's layers as texts; or a text that someone else wrote."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from .... import loads
from ....attention import Attention
from .scenario import Scenario


@dataclass(frozen=True)
class DeclaredMask:
    """What a layer should apply. Documents are kept apart and padding is left out in addition to what a text says."""

    attention: Attention

    def mask(self, scenario: Scenario, heads: int, q_start: int, m: int) -> Tensor:
        """The mask of some rows in a scenario, bool ``[batch, heads, m, n]``; keys after the last row do not exist yet.

        The text's own tables hold what the scenario tells: ``int[token]`` the document of each token (where it is named
        ``begin``, the position at which that document begins), ``bool[token]`` which tokens are no padding, ``int[]``
        how many of a row are none. ValueError for a table that no scenario tells.
        """
        tables: dict[str, Any] = {table.name: _contents(table, scenario) for table in self.attention._bound.parameters}
        own = self.attention.mask(scenario.n, m, heads=heads, q_start=q_start, **tables).bool()
        documents, end = scenario.documents, q_start + m
        same = (documents[:, q_start:end, None] == documents[:, None]) & scenario.real[:, None]
        same[..., end:] = False
        return own.expand(len(documents), heads, -1, -1) & same[:, None]


def _contents(table: Any, scenario: Scenario) -> Tensor:
    kinds = tuple(dimension.kind for dimension in table.dimensions)
    if (table.element, kinds) == ("int", ("token",)):
        return scenario.begins if table.name == "begin" else scenario.documents
    if (table.element, kinds) == ("bool", ("token",)):
        return scenario.real
    if (table.element, kinds) == ("int", ()):
        return scenario.real.sum(1)
    raise ValueError(
        f"{table.name}: the audit does not know what it holds, expected tables of type int[token] (documents), "
        "bool[token] (no padding) or int[] (lengths)"
    )


def of_attention(attention: Attention) -> DeclaredMask:
    """The same text for every layer."""
    return DeclaredMask(attention)


def declared(config: Any, layer: int, module: nn.Module) -> DeclaredMask | None:
    """What a configuration of transformers says of a layer: its kind (``layer_types``), the window or the chunk.

    None for a kind of layer that is not known: it is to be compared with a text. The configuration of a model of
    several parts is that of its text.
    """
    config = getattr(module, "config", None) or config.get_text_config()
    causal = bool(getattr(module, "is_causal", True))
    types = getattr(config, "layer_types", None)
    window = getattr(config, "sliding_window", None)
    if types is None:
        is_used = getattr(config, "use_sliding_window", True)
        kind = "sliding_attention" if window and is_used else "full_attention"
    else:
        kind = types[layer] if layer < len(types) else ""
    chunk = getattr(config, "attention_chunk_size", None)
    if kind == "full_attention":
        text = "causal" if causal else "full"
    elif kind == "sliding_attention" and window:
        text = f"causal_window({window})" if causal else f"abs(q - k) <= {window}"
    elif kind == "chunked_attention" and chunk and causal:
        text = f"causal and (q - begin[q]) // {chunk} == (k - begin[q]) // {chunk}"
    else:
        return None
    return DeclaredMask(_declared(text))


@lru_cache(maxsize=64)
def _declared(condition: str) -> Attention:
    reads = "(begin: int[token])" if "begin[" in condition else ""
    attention = loads(f"pattern declared{reads} = {condition}\n", "<the configuration>").declared()
    assert isinstance(attention, Attention)
    return attention


def is_row(scenario: Scenario, q_start: int, m: int) -> Tensor:
    """Which of ``m`` rows count, bool ``[batch, 1, m, 1]``: those of padding do not."""
    return scenario.real[:, None, q_start : q_start + m, None]


def first_difference(applied: Tensor, wanted: Tensor, counts: Tensor) -> tuple[int, int, int, int] | None:
    """The first (batch entry, head, row, key) at which two masks differ in a row that counts; None where nowhere."""
    differs = (applied != wanted) & counts
    if not differs.any():
        return None
    batch, head, row, key = (int(x) for x in torch.nonzero(differs)[0])
    return batch, head, row, key
