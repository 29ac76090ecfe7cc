"""Runs a model under an attention that reads the mask of each layer before it lets the model's own one compute."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ....testing import applied_mask
from .scenario import Scenario

_NAME = "attnc-audit"


@dataclass(frozen=True, eq=False)
class AppliedMask:
    """The mask of one layer in one scenario, bool ``[batch, heads, m, n]``, over the positions of all tokens.

    ``layer``: the number that the module says it has, else the place of its call. ``module``: None for a
    function.
    """

    scenario: Scenario
    layer: int
    module: nn.Module | None
    q_start: int
    mask: Tensor


@dataclass
class _Reader:
    """Takes the place of an implementation of attention, which it calls in the end."""

    implementation: str
    calls: list[tuple[nn.Module, Tensor]] = field(default_factory=list)

    def forward(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **keywords: Any
    ) -> Any:
        """Notes the mask ``[batch, heads, m, keys]`` of the call, and does what the model's own implementation does."""
        own = _own(self.implementation, module)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            out: Tensor = own(module, q, k, v, attention_mask, **keywords)[0]
            return out.transpose(1, 2)

        batch, heads, m, head_dim = query.shape
        found = applied_mask(
            attend, m, key.shape[2], heads, batch=batch, kv_heads=key.shape[1], head_dim=head_dim,
            value_dim=value.shape[-1], dtype=query.dtype, device=query.device,
        )  # fmt: skip
        self.calls.append((module, found))
        return own(module, query, key, value, attention_mask, **keywords)


def _own(implementation: str, module: nn.Module) -> Callable[..., Any]:
    """The function that a module would call. ValueError where its file has no eager attention for the interface."""
    if implementation != "eager":
        return ALL_ATTENTION_FUNCTIONS[implementation]  # type: ignore[no-any-return]
    for kind in type(module).__mro__:
        found = getattr(sys.modules[kind.__module__], "eager_attention_forward", None)
        if found is not None:
            return found  # type: ignore[no-any-return]
    raise ValueError(
        f"{type(module).__name__}: its module has no eager_attention_forward, expected one, or another implementation "
        "than eager"
    )


@contextmanager
def _reading(model: PreTrainedModel) -> Iterator[_Reader]:
    """The model's attention under a reader, and as it was in the end."""
    was = model.config._attn_implementation or "eager"
    reader = _Reader(was)
    AttentionInterface.register(_NAME, reader.forward)
    AttentionMaskInterface.register(_NAME, ALL_MASK_ATTENTION_FUNCTIONS[was])
    training = model.training
    model.eval()
    try:
        model.set_attn_implementation(_NAME)
        yield reader
    finally:
        model.set_attn_implementation(was)
        model.train(training)


def read_masks(model: PreTrainedModel, scenario: Scenario) -> list[AppliedMask]:
    """The masks that the layers of a model apply in a scenario, in the order in which they are called.

    The model runs as it is, on random tokens; each call of its attention is examined with inputs of its own (see
    :func:`attnc.testing.applied_mask`). ValueError where no layer asks the attention interface, and where the model
    does not run.
    """
    tokens = _tokens(model, scenario)
    with _reading(model) as reader, torch.no_grad():
        try:
            _run(model, scenario, tokens)
        except Exception as error:  # a model may fail in any way, and the audit cannot go on
            said = f"{type(error).__name__}: {error}"
            raise ValueError(f"{type(model).__name__}: does not run on tokens ({scenario.name}): {said}") from error
    if not reader.calls:
        raise ValueError(
            f"{type(model).__name__}: no layer asked transformers' attention interface, so its masks cannot be read; "
            "pass its attention as module:function instead"
        )
    found = []
    for place, (module, mask) in enumerate(reader.calls):
        q_start = scenario.n - 1 if scenario.decodes and mask.shape[2] == 1 else 0
        number = getattr(module, "layer_idx", None)
        layer = place if number is None else int(number)
        found.append(AppliedMask(scenario, layer, module, q_start, _over_all(mask, scenario, q_start)))
    return found


def _tokens(model: PreTrainedModel, scenario: Scenario) -> Tensor:
    size = getattr(model.config.get_text_config(), "vocab_size", 0) or 2
    draw = torch.Generator().manual_seed(0)
    return torch.randint(min(3, size - 1), size, tuple(scenario.documents.shape), generator=draw)


def _run(model: PreTrainedModel, scenario: Scenario, tokens: Tensor) -> None:
    given: dict[str, Any] = {}
    if scenario.is_padded:
        given["attention_mask"] = scenario.real.long()
    if scenario.is_packed:
        given["position_ids"] = scenario.position_ids
    if not scenario.decodes:
        model(tokens, **given, **({"use_cache": False} if hasattr(model.config, "use_cache") else {}))
        return
    cache = model(tokens[:, :-1], use_cache=True).past_key_values
    model(tokens[:, -1:], past_key_values=cache, use_cache=True)


def _over_all(mask: Tensor, scenario: Scenario, q_start: int) -> Tensor:
    """A mask whose keys are the last, or more, of those that there are, over all positions."""
    seen = q_start + mask.shape[2]
    keys = mask.shape[3]
    whole = torch.zeros(*mask.shape[:3], scenario.n, dtype=torch.bool)
    first = max(0, seen - keys)
    count = min(keys, seen)
    whole[..., first : first + count] = mask[..., :count]
    return whole
