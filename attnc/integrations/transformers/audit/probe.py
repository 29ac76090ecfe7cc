"""Runs a model and reads the mask of each layer: under an attention that reads it before it lets the model's own one
compute, and at the modules that do not ask for an attention.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ....testing import applied_mask
from ..swaps import is_attention, through_the_interface
from .inputs import Inputs, run, texts_of
from .layouts import reason_not_read
from .own_modules import OwnReader
from .places import AppliedMask, Call, placed
from .scenario import Scenario

_NAME = "attnc-audit"


@dataclass(frozen=True, eq=False)
class Reading:
    """What is read of a model in one scenario. ``unread``: attention modules that were called and cannot be read, and
    why.
    """

    masks: list[AppliedMask]
    unread: dict[nn.Module, str]


@dataclass
class _Reader:
    """Takes the place of an implementation of attention, which it calls in the end."""

    implementation: str
    configs: dict[int, str]
    calls: list[Call] = field(default_factory=list)

    def forward(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **keywords: Any
    ) -> Any:
        """Notes the mask ``[batch, heads, m, keys]`` of the call, and does what the model's own implementation does."""
        own = _own(self.configs.get(id(getattr(module, "config", None)), self.implementation), module)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            out: Tensor = own(module, q, k, v, attention_mask, **keywords)[0]
            return out.transpose(1, 2)

        batch, heads, m, head_dim = query.shape
        found = applied_mask(
            attend, m, key.shape[2], heads, batch=batch, kv_heads=key.shape[1], head_dim=head_dim,
            value_dim=value.shape[-1], dtype=query.dtype, device=query.device,
        )  # fmt: skip
        self.calls.append(Call(module, found, keywords.get("is_causal") is True))
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
    configs = [
        each.config for each in model.modules() if hasattr(getattr(each, "config", None), "_attn_implementation")
    ]
    held = {id(config): (config, config._attn_implementation_internal) for config in configs}
    reader = _Reader(was, {key: name or "eager" for key, (_, name) in held.items()})
    AttentionInterface.register(_NAME, reader.forward)
    AttentionMaskInterface.register(_NAME, ALL_MASK_ATTENTION_FUNCTIONS[was])
    try:
        model.set_attn_implementation(_NAME)
        yield reader
    finally:
        for config, name in held.values():
            config._attn_implementation_internal = name


def read_masks(model: PreTrainedModel, scenario: Scenario, inputs: Inputs | None = None) -> list[AppliedMask]:
    """The masks that the layers of a model apply in a scenario, in the order in which they are called; see
    :func:`read_model`.
    """
    return read_model(model, scenario, inputs).masks


def read_model(model: PreTrainedModel, scenario: Scenario, inputs: Inputs | None = None) -> Reading:
    """The masks that the layers of a model apply in a scenario, and which attention modules cannot be read.

    The model runs as it is, on random tokens or on ``inputs``; each call of its attention is examined with inputs of
    its own (see :func:`attnc.testing.applied_mask`). ValueError where no layer can be read, and where the model does
    not run.
    """
    own, called = OwnReader(), _Called()
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), own.watching(model), called.watching(model):
            _try(model, scenario, inputs)
        calls = [Call(module, mask) for module, mask in own.calls]
        if any(through_the_interface(type(module)) for module in model.modules()):
            with torch.no_grad(), _reading(model) as reader:
                _try(model, scenario, inputs)
            calls.extend(reader.calls)
    finally:
        model.train(training)
    tokens = scenario.documents if inputs is None else next(iter(inputs.values()))
    unread = called.unread({call.module for call in calls}, own.refused)
    if not calls:
        _refuse(model, unread)
    return Reading(placed(calls, texts_of(model, scenario, inputs), len(tokens)), unread)


def _try(model: PreTrainedModel, scenario: Scenario, inputs: Inputs | None) -> None:
    try:
        run(model, scenario, inputs)
    except Exception as error:  # a model may fail in any way, and the audit cannot go on
        said = f"{type(error).__name__}: {error}"
        raise ValueError(f"{type(model).__name__}: does not run on tokens ({scenario.name}): {said}") from error


def _refuse(model: nn.Module, unread: dict[nn.Module, str]) -> NoReturn:
    """Raises ValueError for a model of which no layer can be read."""
    reasons = {type(module).__name__: reason for module, reason in unread.items()}
    said = "; ".join(f"{name}: {reason}" for name, reason in sorted(reasons.items()))
    advice = "; pass its attention as module:function instead, a function of q, k and v"
    raise ValueError(
        f"{type(model).__name__}: its masks cannot be read: "
        f"{said + advice if said else 'no module that ran is named an attention'}"
    )


class _Called:
    """Which attention modules of a model are called."""

    def __init__(self) -> None:
        self.names: dict[nn.Module, str] = {}
        self.modules: dict[nn.Module, None] = {}

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """The model with hooks on these modules, and without them in the end."""
        self.names = {module: name for name, module in model.named_modules()}
        hooks = [
            module.register_forward_hook(lambda module, *_: self.modules.setdefault(module))
            for module in self.names
            if is_attention(module)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def unread(self, read: set[nn.Module], refused: dict[nn.Module, str]) -> dict[nn.Module, str]:
        """The called modules of which no part was read, nor what they are a part of; and why."""
        found = {module: reason for module, reason in refused.items() if module not in read}
        names = [f"{self.names.get(module, '?')}." for module in (*read, *found)]
        for module in self.modules:
            own = f"{self.names[module]}."
            if not any(own.startswith(name) or name.startswith(own) for name in names):
                found[module] = reason_not_read(module)
        return found
