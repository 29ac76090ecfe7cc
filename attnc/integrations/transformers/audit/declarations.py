"""What a model declares: its configuration's layers as texts; or a text that someone else wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .... import loads
from ....attention import Attention
from .inputs import has_cache
from .own_declarations import of_own_module
from .places import AppliedMask
from .scenario import Scenario

_FULL = ("full_attention", "hybrid")
_SLIDING = ("sliding_attention", "hybrid_sliding")
# Windows to both sides that are not as long as ``sliding_window`` to each, by the model type of the configuration.
_WINDOWS = {"t5gemma2_text": "q - k < ({0} + 1) // 2 and k - q < {0} // 2 + 1"}


@dataclass(frozen=True)
class DeclaredMask:
    """What a layer should apply. Documents are kept apart and padding is left out in addition to what a text says; of
    another text's keys all are kept that are no padding. ``tables``: what it reads beside what a scenario tells, by the
    number of tokens.
    """

    attention: Attention
    tables: Mapping[str, Callable[[int], Tensor]] = field(default_factory=dict)

    def mask(self, applied: AppliedMask) -> Tensor:
        """What an applied mask should be, bool ``[batch, heads, m, n]``; keys after the last row do not exist yet.

        The text's own tables hold what the scenario tells: ``int[token]`` the document of each token (where it is named
        ``begin``, the position at which that document begins), ``bool[token]`` which tokens are no padding, ``int[]``
        how many of a row are none. ValueError for a table that no scenario tells.
        """
        heads, m = applied.mask.shape[1:3]
        if applied.keys is not None:
            return applied.keys.real[:, None, None].expand(-1, heads, m, -1)
        scenario, q_start = applied.scenario, applied.q_start
        tables: dict[str, Any] = {table.name: self._contents(table, scenario) for table in self._tables}
        own = self.attention.mask(scenario.n, m, heads=heads, q_start=q_start, **tables).bool()
        documents, end = scenario.documents, q_start + m
        same = (documents[:, q_start:end, None] == documents[:, None]) & scenario.real[:, None]
        same[..., end:] = False
        return own.expand(len(documents), heads, -1, -1) & same[:, None]

    @property
    def _tables(self) -> Any:
        return self.attention._bound.parameters

    def _contents(self, table: Any, scenario: Scenario) -> Tensor:
        made = self.tables.get(table.name)
        return _contents(table, scenario) if made is None else made(scenario.n)


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


def declared(model: PreTrainedModel, applied: AppliedMask) -> DeclaredMask | str:
    """What the configuration of a model says of a layer, or why that is not known: it is to be compared with a text.

    The kind of the layer (``layer_types``), the window or the chunk are those of the configuration of the part of the
    model that the layer is in.
    """
    module = applied.module
    assert module is not None, "a layer of a model"
    if applied.keys is not None:
        return DeclaredMask(_declared("full"))
    found = of_own_module(module, applied.layer)
    if found is not None:
        return DeclaredMask(_declared(found)) if isinstance(found, str) else DeclaredMask(*found)
    config = _config_of(model, module)
    if getattr(config, "use_bidirectional_attention", None) is True and has_cache(model):
        return "its rows see later ones within what token_type_ids say, which no scenario gives"
    kind, window = _kind_of(config, applied.layer), getattr(config, "sliding_window", None)
    causal, chunk = is_causal(model, applied), getattr(config, "attention_chunk_size", None)
    if kind in _FULL:
        return DeclaredMask(_declared("causal" if causal else "full"))
    if kind in _SLIDING and window and causal:
        return DeclaredMask(_declared(f"causal_window({window})"))
    if kind in _SLIDING and window:
        return DeclaredMask(_declared(_WINDOWS.get(config.model_type, "abs(q - k) <= {0}").format(window)))
    if kind == "chunked_attention" and chunk and causal:
        return DeclaredMask(_declared(f"causal and (q - begin[q]) // {chunk} == (k - begin[q]) // {chunk}"))
    return f"its kind is {kind or 'not named'}"


def _kind_of(config: Any, layer: int) -> str:
    types = getattr(config, "layer_types", None)
    if types is None:
        is_used = getattr(config, "use_sliding_window", True)
        return "sliding_attention" if getattr(config, "sliding_window", None) and is_used else "full_attention"
    return str(types[layer]) if layer < len(types) else ""


def _config_of(model: PreTrainedModel, module: nn.Module) -> Any:
    """The configuration of a module, or that of the innermost part of the model that holds it and has one."""
    own = getattr(module, "config", None)
    if own is not None:
        return own
    inside = [part for part in model.modules() if isinstance(part, PreTrainedModel) and module in set(part.modules())]
    return inside[-1].config.get_text_config()


def is_causal(model: PreTrainedModel, applied: AppliedMask) -> bool:
    """Whether rows see no later keys: by the call, by the module, or because a model with a cache is a decoder."""
    assert applied.module is not None, "a layer of a model"
    own = of_own_module(applied.module, applied.layer)
    if own is not None:
        return isinstance(own, str) and own.startswith("causal")
    said = [getattr(applied.module, name, None) for name in ("is_causal", "is_decoder")]
    if applied.said_causal or True in said:
        return True
    return said == [None, None] and applied.is_text and has_cache(model) and not _is_encoder(model, applied)


def _is_encoder(model: PreTrainedModel, applied: AppliedMask) -> bool:
    return bool(model.config.is_encoder_decoder) and applied.module not in set(model.get_decoder().modules())


@lru_cache(maxsize=64)
def _declared(condition: str) -> Attention:
    reads = "(begin: int[token])" if "begin[" in condition else ""
    attention = loads(f"pattern declared{reads} = {condition}\n", "<the configuration>").declared()
    assert isinstance(attention, Attention)
    return attention


def is_row(applied: AppliedMask) -> Tensor:
    """Which rows count, bool ``[batch, 1, m, 1]``: those of padding do not."""
    return applied.scenario.real[:, None, applied.q_start : applied.q_start + applied.mask.shape[2], None]


def first_difference(applied: Tensor, wanted: Tensor, counts: Tensor) -> tuple[int, int, int, int] | None:
    """The first (batch entry, head, row, key) at which two masks differ in a row that counts; None where nowhere."""
    differs = (applied != wanted) & counts
    if not differs.any():
        return None
    batch, head, row, key = (int(x) for x in torch.nonzero(differs)[0])
    return batch, head, row, key
