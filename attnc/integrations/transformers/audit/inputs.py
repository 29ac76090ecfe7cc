"""What a model is called with in a scenario, and which scenarios it knows."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from .scenario import Scenario, plain

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Texts:
    """The tokens of a call: ``main``, and those of the decoder where the main ones are an encoder's.

    ``main`` is None for pictures and sounds. The two have different lengths, so that a layer's sizes tell which it
    reads.
    """

    main: Scenario | None
    decoder: Scenario | None = None


def texts_of(model: PreTrainedModel, scenario: Scenario, inputs: Inputs | None) -> Texts:
    """The tokens that a model is called with in a scenario."""
    if inputs is None:
        if not model.config.is_encoder_decoder:
            return Texts(scenario)
        length = scenario.n - scenario.n // 4
        own = plain(len(scenario.documents), length)
        return Texts(scenario, Scenario(scenario.name, own.documents, decodes=scenario.decodes))
    sides = {
        name: plain(len(inputs[name]), inputs[name].shape[1])
        for name in ("input_ids", "decoder_input_ids")
        if name in inputs and inputs[name].ndim == 2
    }
    return Texts(sides.get("input_ids"), sides.get("decoder_input_ids"))


def reason_not_to_run(model: PreTrainedModel, scenario: Scenario, inputs: Inputs | None) -> str | None:
    """Why a scenario does not apply to a model, or None."""
    kind = type(model).__name__
    if inputs is not None:
        return "the inputs are given, and are one plain call" if scenario.name != "plain" else None
    if model.main_input_name != "input_ids" or "input_ids" not in _parameters(model):
        raise ValueError(
            f"{kind}: is called with {model.main_input_name}, expected a model of tokens: from Python pass inputs=, "
            "what it is to be called with"
        )
    for module in model.modules():
        if "BlockSparse" in type(module).__name__ and scenario.n <= (needed := _least(module)):
            raise ValueError(
                f"{kind}: n is {scenario.n}, expected more than {needed}: the model would give up its blocks for good"
            )
    if scenario.is_packed and model.config.is_encoder_decoder:
        return f"{kind} has an encoder, which packs nothing"
    if scenario.is_packed and not _takes(model, "position_ids"):
        return f"{kind} takes no position_ids, so it is not told of documents"
    if scenario.decodes and not _takes(model, "past_key_values"):
        return f"{kind} has no cache"
    if scenario.is_padded and not _takes(model, "attention_mask"):
        return f"{kind} takes no attention_mask, so it is not told of padding"
    return None


def _least(module: Any) -> int:
    """The length up to which BigBird makes its attention full, and leaves it so."""
    return int((5 + 2 * module.num_random_blocks) * module.block_size)


def has_cache(model: PreTrainedModel) -> bool:
    """Whether a model decodes with a cache: an encoder does not."""
    return _takes(model, "past_key_values")


def _takes(model: PreTrainedModel, name: str) -> bool:
    """Whether a model's forward names an argument, itself or that of the base model that it hands its arguments to."""
    given = _parameters(model)
    hands_on = any(each.kind is each.VAR_KEYWORD for each in given.values())
    return name in given or (hands_on and name in _parameters(model.base_model))


def _parameters(model: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(model.forward).parameters


def run(model: PreTrainedModel, scenario: Scenario, inputs: Inputs | None) -> None:
    """Calls a model with random tokens in a scenario, or with the inputs given."""
    if inputs is not None:
        model(**inputs)
        return
    tokens = _tokens(model, tuple(scenario.documents.shape), 0)
    given: dict[str, Any] = {}
    if scenario.is_padded:
        given["attention_mask"] = scenario.real.long()
    if scenario.is_packed:
        given["position_ids"] = scenario.position_ids
    uncached = {"use_cache": False} if _takes(model, "use_cache") and hasattr(model.config, "use_cache") else {}
    if model.config.is_encoder_decoder:
        decoder = texts_of(model, scenario, None).decoder
        assert decoder is not None
        answer = _tokens(model, tuple(decoder.documents.shape), 1)
        if not scenario.decodes:
            model(tokens, decoder_input_ids=answer, **given, **uncached)
            return
        first = model(tokens, decoder_input_ids=answer[:, :-1], use_cache=True)
        encoded = BaseModelOutput(last_hidden_state=first.encoder_last_hidden_state)
        model(
            encoder_outputs=encoded, decoder_input_ids=answer[:, -1:], past_key_values=first.past_key_values,
            use_cache=True,
        )  # fmt: skip
        return
    if not scenario.decodes:
        model(tokens, **given, **uncached)
        return
    cache = model(tokens[:, :-1], use_cache=True).past_key_values
    model(tokens[:, -1:], past_key_values=cache, use_cache=True)


def _tokens(model: PreTrainedModel, shape: tuple[int, ...], seed: int) -> Tensor:
    size = getattr(model.config.get_text_config(), "vocab_size", 0) or 2
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(min(3, size - 1), size, shape, generator=draw)
