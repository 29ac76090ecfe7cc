"""What a model is called with in a scenario, and which scenarios it knows."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .scenario import Scenario, plain, scenarios

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Texts:
    """The tokens of a call: ``main``, and those of the decoder where the main ones are an encoder's. Of these two the
    decoder's alone are packed.

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
        if scenario.is_packed:
            (own,) = (each for each in scenarios(length) if each.is_packed)
            return Texts(replace(scenario, documents=torch.zeros_like(scenario.documents), is_packed=False), own)
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
    positions = "decoder_position_ids" if model.config.is_encoder_decoder else "position_ids"
    if scenario.is_packed and not _takes(model, positions):
        return f"{kind} takes no {positions}, so it is not told of documents"
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
    if scenario.is_packed and not model.config.is_encoder_decoder:
        given["position_ids"] = _positions(model, scenario)
    uncached = {"use_cache": False} if has_cache(model) else {}  # with one the library does not look for documents
    if model.config.is_encoder_decoder:
        decoder = texts_of(model, scenario, None).decoder
        assert decoder is not None
        answer = _tokens(model, tuple(decoder.documents.shape), 1)
        if scenario.is_packed:
            given["decoder_position_ids"] = decoder.position_ids
        if not scenario.decodes:
            model(tokens, decoder_input_ids=answer, **given, **uncached)
            return
        encoded = model.get_encoder()(tokens)
        cache = model(encoder_outputs=encoded, decoder_input_ids=answer[:, :-1], use_cache=True).past_key_values
        model(encoder_outputs=encoded, decoder_input_ids=answer[:, -1:], past_key_values=cache, use_cache=True)
        return
    if not scenario.decodes:
        model(tokens, **given, **uncached)
        return
    cache = model(tokens[:, :-1], use_cache=True).past_key_values
    model(tokens[:, -1:], past_key_values=cache, use_cache=True)


def _positions(model: PreTrainedModel, scenario: Scenario) -> Tensor:
    """The positions of packed documents. A model with rotary positions of several axes, of pictures, takes a row for
    each of these, after one of the text's.
    """
    rope = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    axes = rope.get("mrope_section")
    return scenario.position_ids if not axes else scenario.position_ids.expand(1 + len(axes), -1, -1)


def _tokens(model: PreTrainedModel, shape: tuple[int, ...], seed: int) -> Tensor:
    size = getattr(model.config.get_text_config(), "vocab_size", 0) or 2
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(min(3, size - 1), size, shape, generator=draw)
