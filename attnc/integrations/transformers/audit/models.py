"""Models to audit: from a folder with a config.json, made small where no mask can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoModel, PreTrainedModel

# Sizes on which no mask depends, and what they are in an audit.
SMALL = {"intermediate_size": 32, "moe_intermediate_size": 16, "vocab_size": 64, "hidden_size": 8, "num_experts": 4}
WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
BLOCK = 2  # of BigBird, whose text must be longer than a dozen blocks or more
LAYERS = 8


def model_of(folder: Path, window: int = 7, implementation: str | None = None) -> PreTrainedModel:
    """The model that a folder's ``config.json`` describes, with random weights and small sizes.

    Windows and chunks longer than ``window`` become that long, so that a few tokens show them; there are LAYERS layers
    at most, of every kind that the configuration has among its first ones. ``implementation`` of attention: the
    configuration's, unless given. FileNotFoundError, or ValueError where transformers cannot read the configuration.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file, expected a folder with a config.json")
    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        _shrink(config.get_text_config(), window)
        model = _kind(config)(config, attn_implementation=implementation)
    except Exception as error:  # whatever a configuration makes the library do, the file is at fault
        raise ValueError(f"{path}: transformers makes no model of it: {type(error).__name__}: {error}") from error
    assert isinstance(model, PreTrainedModel)
    return model.eval()


def _kind(config: Any) -> Any:
    """What makes the model: the first class of ``architectures`` that is a model of the library, else AutoModel."""
    for name in getattr(config, "architectures", None) or ():
        found = getattr(transformers, str(name), None)
        if isinstance(found, type) and issubclass(found, PreTrainedModel):
            kind: Any = found
            return kind._from_config
    return AutoModel.from_config


def _shrink(config: Any, window: int) -> None:
    """Makes the sizes of a configuration small, as far as it has them."""
    heads = getattr(config, "num_attention_heads", None)
    for name, size in SMALL.items():
        if isinstance(getattr(config, name, None), int):
            setattr(config, name, size)
    if isinstance(heads, int) and isinstance(getattr(config, "hidden_size", None), int):
        own, derived = getattr(config, "head_dim", None), getattr(type(config), "head_dim", None)
        config.hidden_size = heads * 8
        if isinstance(own, int) and not isinstance(derived, property):
            config.head_dim = 8
        if isinstance(getattr(config, "rotary_dim", None), int):
            config.rotary_dim = min(config.rotary_dim, 8)
    for name in WINDOWS:
        if isinstance(getattr(config, name, None), int):
            setattr(config, name, min(getattr(config, name), window))
    around = getattr(config, "attention_window", None)  # Longformer's, even, for all layers or for each
    if isinstance(around, int):
        config.attention_window = min(around, window - window % 2)
    elif isinstance(around, list):
        config.attention_window = [min(size, window - window % 2) for size in around][:LAYERS]
    if isinstance(getattr(config, "num_random_blocks", None), int):
        config.block_size = BLOCK
    layers = getattr(config, "num_hidden_layers", None)
    if isinstance(layers, int) and layers > LAYERS:
        config.num_hidden_layers = LAYERS
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:LAYERS]
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if isinstance(getattr(config, name, None), int):
            setattr(config, name, 0)
