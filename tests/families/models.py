"""Tiny models with wide weights, built in one process from what the installed library has, and inputs for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import transformers
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, PreTrainedModel

from .tiny_configs import LAYERS, VOCABULARY, UnbuildableError, of_names, tiny_config

BATCH, LENGTH, MOST_WEIGHTS = 2, 19, 30_000_000
# In this order: a type is tried with each that it has, the last only where it has none of the others.
AUTO_CLASSES = (
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForMaskedLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForCTC",
    "AutoModelForImageClassification",
    "AutoModelForImageTextToText",
)
FALLBACK = "AutoModel"


@dataclass(frozen=True)
class Family:
    """A model type of the library, and one of the auto classes that make a model of it."""

    model_type: str
    auto_class: str

    def __str__(self) -> str:
        return f"{self.model_type}:{self.auto_class}"


def families() -> Iterator[Family]:
    """Every pair that the installed library has, by model type."""
    mappings = {name: getattr(transformers, name)._model_mapping for name in (*AUTO_CLASSES, FALLBACK)}
    kinds = {name: set(mapping.keys()) for name, mapping in mappings.items()}
    for model_type in sorted(CONFIG_MAPPING.keys()):
        try:
            config = CONFIG_MAPPING[model_type]
        except (ImportError, AttributeError):  # a package that is not installed
            continue
        found = [name for name in AUTO_CLASSES if config in kinds[name]]
        if config in kinds[FALLBACK] and not found:
            found = [FALLBACK]
        yield from (Family(model_type, name) for name in found)


def build(family: Family, layers: int = LAYERS) -> PreTrainedModel:
    """The model in float32, in evaluation mode. UnbuildableError where generic sizes do not fit."""
    torch.manual_seed(0)
    try:
        config = tiny_config(family.model_type, layers)
        make = getattr(transformers, family.auto_class).from_config
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in make(config, attn_implementation="eager").parameters())
        if size > MOST_WEIGHTS:
            raise UnbuildableError(f"{size / 1e6:.0f} million weights")
        model = make(config, attn_implementation="eager")
    except UnbuildableError:
        raise
    except Exception as error:  # whatever a configuration does not like
        raise UnbuildableError(f"{type(error).__name__}: {error}".splitlines()[0][:200]) from error
    widen(model)
    return model.float().eval()


def widen(model: nn.Module) -> None:
    """Draws weights so wide that attention moves the outputs."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.is_floating_point():
                continue
            if parameter.ndim > 1:
                fan = parameter.shape[-1] if parameter.ndim < 4 else parameter[0].numel()
                scale = 0.5 if "embed" in name else 1.5 / fan**0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            elif "sink" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))


def inputs(model: PreTrainedModel, family: Family) -> dict[str, Tensor]:
    """Inputs of a model: tokens, or pictures or sounds where it takes these. UnbuildableError for any other."""
    generator = torch.Generator().manual_seed(2)
    config = model.config
    main = model.main_input_name

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    vocabulary = min(VOCABULARY, of_names(config, ["vocab_size"]) or VOCABULARY)
    tokens = torch.randint(3, vocabulary - 8, (BATCH, LENGTH), generator=generator)
    given: dict[str, Tensor] = {}
    if family.auto_class in ("AutoModelForImageTextToText",):
        main = "input_ids"
    if main == "input_ids":
        given["input_ids"] = tokens
    elif main == "pixel_values":
        size = of_names(config, ["image_size"]) or 16
        height, width = (size, size) if isinstance(size, int) else tuple(size)[:2]
        given["pixel_values"] = drawn(BATCH, of_names(config, ["num_channels", "in_channels"]) or 3, height, width)
    elif main == "input_features":
        bins = of_names(config, ["num_mel_bins", "feature_size", "input_feat_per_channel", "input_dim"]) or 16
        length = 2 * (of_names(config, ["max_source_positions"]) or 32)
        channels_last = model.config.model_type in ("speech_to_text", "wav2vec2-bert", "parakeet_ctc", "lasr_ctc")
        given["input_features"] = drawn(BATCH, length, bins) if channels_last else drawn(BATCH, bins, length)
    elif main == "input_values":
        given["input_values"] = drawn(BATCH, 4000)
    else:
        raise UnbuildableError(f"takes {main}")
    if config.is_encoder_decoder and main != "decoder_input_ids":
        given["decoder_input_ids"] = tokens.flip(-1)[:, :11].contiguous()
    return given
