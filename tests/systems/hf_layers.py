"""Layers of the library's models: what a model gives to its attention, and what its own code makes of that.

All in float64: in float32 the rounding of gradients alone, PyTorch's as well as ours, comes to 3e-6 of the largest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, masking_utils
from transformers.integrations.sdpa_attention import sdpa_attention_forward

import attnc
from tests.systems.system import Compared, Pair

EAGER = "eager_attention_forward"
"""The function that each file of a model has, and that a model of ``attn_implementation="eager"`` looks up there."""
MaskFunction = Callable[..., Any]
"""Of the library: whether a pair is kept, of a batch entry, a head, a query and a key, each a tensor of indices."""


@dataclass(frozen=True)
class LayerCall:
    """One call of a model's own attention function.

    ``query``: [batch, heads, m, d]; ``key`` and ``value``: [batch, kv_heads, n, d]. ``mask``: what is added to the
    logits, [batch, 1, m, n], or None where the model made none. ``arguments``: the others, by name.
    """

    own: Callable[..., tuple[Tensor, Tensor | None]]
    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Learned:
    """A parameter of the model's attention that is a table of ours: ``laid`` lays theirs out as the table is."""

    theirs: Tensor
    laid: Callable[[Tensor], Tensor] = field(default=lambda theirs: theirs)


def layer_calls(model: nn.Module, file: ModuleType, **inputs: Any) -> list[LayerCall]:
    """What each layer of an eager model gives to the attention function of its file, in the order of the calls.

    The model runs in the dtype that it has; what it gave is in float64, and its attention layers are from then on.
    """
    made: list[LayerCall] = []
    own = getattr(file, EAGER)

    def recorder(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **arguments: Any) -> Any:
        given = {name: one.double() if isinstance(one, Tensor) else one for name, one in arguments.items()}
        kept = None if mask is None else mask.double()
        made.append(LayerCall(own, module, query.double(), key.double(), value.double(), kept, given))
        return own(module, query, key, value, mask, **arguments)

    with mock.patch.object(file, EAGER, recorder), torch.no_grad():
        model(**inputs)
    for call in made:
        call.module.double()
    return made


def drawn(make: Callable[[Any], nn.Module], config: PreTrainedConfig) -> nn.Module:
    """An eager model in evaluation mode, with weights wide enough that logits differ by some units."""
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = make(config).eval()
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=1.0 if "embed" in name or "bias" in name else 1.5 * parameter.shape[-1] ** -0.5)
            elif "sinks" in name:
                parameter.normal_()
    return model


def tokens(n: int, batch: int = 2) -> Tensor:
    """Tokens of a vocabulary of 60, [batch, n]."""
    return torch.randint(3, 60, (batch, n), generator=torch.Generator().manual_seed(n))


def compared(
    call: LayerCall,
    attend: attnc.Attention,
    real: Tensor | None = None,
    learned: Mapping[str, Learned] | None = None,
    **tables: Any,
) -> Compared:
    """The model's attention function and ours on the same queries, keys and values.

    ``real``: the rows that count, bool [batch, m]: where a row keeps no key, eager attention takes the mean of all.
    """
    inputs = {"query": call.query, "key": call.key, "value": call.value}
    theirs = {name: one.detach().clone().requires_grad_() for name, one in inputs.items()}
    ours = {name: one.detach().clone().requires_grad_() for name, one in inputs.items()}
    parameters = {name: one.laid(one.theirs).detach().clone().requires_grad_() for name, one in (learned or {}).items()}
    wanted = call.own(call.module, *theirs.values(), call.mask, **call.arguments)[0].transpose(1, 2)
    found = attend(*ours.values(), **tables, **parameters)
    weight = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(5), dtype=wanted.dtype)
    if real is not None:
        rows = real[:, None, :, None]
        wanted, found, weight = wanted * rows, found * rows, weight * rows
    leaves = {**theirs, **{name: one.theirs for name, one in (learned or {}).items()}}
    slopes = torch.autograd.grad((wanted * weight).sum(), list(leaves.values()))
    own = torch.autograd.grad((found * weight).sum(), [*ours.values(), *parameters.values()])
    gradients: dict[str, Pair] = {}
    for name, one, other in zip(leaves, own, slopes, strict=True):
        gradients[name] = one, learned[name].laid(other) if learned and name in learned else other
    return Compared(
        mask=masks(call, attend, **tables, **parameters), outputs=(found.detach(), wanted.detach()), gradients=gradients
    )


def masks(call: LayerCall, attend: attnc.Attention, **tables: Any) -> Pair:
    """Both masks, bool [batch, heads, m, n]. A model that made no mask keeps all pairs."""
    (batch, heads, m), n = call.query.shape[:3], call.key.shape[2]
    ours = attend.mask(n, m, heads=heads, **tables)
    theirs = torch.ones(1, 1, m, n, dtype=torch.bool) if call.mask is None else call.mask == 0
    shape = (batch, heads, m, n)
    return ours.expand(shape), theirs.expand(shape)


def last_rows(model: attnc.Model, config: PreTrainedConfig, kinds: Mapping[str, MaskFunction], n: int) -> Compared:
    """What the last query of n sees in each layer of a published model, against the library's mask functions.

    ``kinds``: the mask function of each type of layer that the configuration names; of a configuration that names none,
    the only one. Masks are [layers, heads, 1, n].
    """
    types = getattr(config, "layer_types", None) or list(kinds) * config.num_hidden_layers
    shape = (config.num_attention_heads, 1, n)
    query, keys = torch.tensor([[n - 1]]), torch.arange(n)
    theirs = torch.stack([kinds[kind](0, 0, query, keys).expand(shape) for kind in types])
    assert len(model) == len(types)
    floats = {name: torch.zeros(model.heads) for name in model.layers[0].tables if name == "logit"}
    ours = [layer.mask(n, 1, q_start=n - 1, heads=model.heads, **floats) for layer in model.layers]
    return Compared(mask=(torch.stack(ours), theirs))


def beside(
    ours: Callable[..., Any],
    theirs: Callable[[Tensor, Tensor, Tensor], Any],
    n: int = 4096,
    heads: tuple[int, int] = (4, 2),
    width: int = 64,
    **tables: Any,
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Two calls on the same queries and keys of one text, ours and theirs; ``heads``: of queries, and of keys."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, count, n, width, generator=generator) for count in (heads[0], heads[1], heads[1]))

    def own() -> Any:
        with torch.no_grad():
            return ours(q, k, v, **tables)

    def original() -> Any:
        with torch.no_grad():
            return theirs(q, k, v)

    return own, original


def dense(mask: MaskFunction, n: int = 4096, groups: int = 2) -> Callable[[Tensor, Tensor, Tensor], Any]:
    """The library's default attention: PyTorch's, with the mask that a model makes once; causality needs none."""
    module: Any = SimpleNamespace(num_key_value_groups=groups, is_causal=mask is masking_utils.causal_mask_function)
    made = (
        None if module.is_causal else masking_utils.sdpa_mask(1, n, n, mask_function=mask, allow_is_causal_skip=False)
    )
    return lambda q, k, v: sdpa_attention_forward(module, q, k, v, made)


def eager(
    function: Callable[..., Any], mask: MaskFunction, n: int = 4096, groups: int = 2, **arguments: Any
) -> Callable[[Tensor, Tensor, Tensor], Any]:
    """A model's own attention function, with the mask that a model makes once; ``arguments`` are its module's, too."""
    module: Any = SimpleNamespace(num_key_value_groups=groups, training=False, **arguments)
    made = masking_utils.eager_mask(1, n, n, mask_function=mask)
    return lambda q, k, v: function(module, q, k, v, made, scaling=q.shape[-1] ** -0.5, **arguments)
