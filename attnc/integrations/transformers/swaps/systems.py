"""Which classes of transformers are swapped and by which module, and which are refused and why."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module

from torch import nn

from .swapped import Swapped

_MODELS = "transformers.models."

SYSTEMS: Mapping[str, str] = {
    "longformer.modeling_longformer.LongformerSelfAttention": "longformer",
    "led.modeling_led.LEDEncoderSelfAttention": "longformer",
    "big_bird.modeling_big_bird.BigBirdBlockSparseAttention": "bigbird",
    "big_bird.modeling_big_bird.BigBirdSelfAttention": "bigbird",
    "big_bird.modeling_big_bird.BigBirdAttention": "bigbird",
    "bigbird_pegasus.modeling_bigbird_pegasus.BigBirdPegasusBlockSparseAttention": "bigbird",
    "bigbird_pegasus.modeling_bigbird_pegasus.BigBirdPegasusSelfAttention": "bigbird",
    "bigbird_pegasus.modeling_bigbird_pegasus.BigBirdPegasusEncoderAttention": "bigbird",
    "reformer.modeling_reformer.LSHSelfAttention": "reformer",
    "reformer.modeling_reformer.LocalSelfAttention": "reformer",
    "mpt.modeling_mpt.MptAttention": "decoders",
    "falcon.modeling_falcon.FalconAttention": "decoders",
    "bloom.modeling_bloom.BloomAttention": "decoders",
    "gpt_neo.modeling_gpt_neo.GPTNeoSelfAttention": "decoders",
}
"""The module of this package that swaps a class, by the class's full name after ``transformers.models.``."""

OWN_MASKS = frozenset({"longformer", "big_bird", "mpt", "falcon", "bloom", "gpt_neo"})
"""The models in which every attention is swapped, so that no mask for each pair of positions is prepared."""

LEFT: Mapping[str, str] = {
    "led.modeling_led.LEDDecoderAttention": "full attention of the decoder, in the library's own code",
    "bigbird_pegasus.modeling_bigbird_pegasus.BigBirdPegasusDecoderAttention": (
        'goes through the attention interface: model.set_attn_implementation("attnc")'
    ),
}
"""Attention that stays as it is in models that are swapped, and how it runs."""

_BUCKETS = "its learned biases are looked up by logarithmic buckets of distances, and its"
REFUSED: Mapping[str, str] = {
    "longt5.modeling_longt5.LongT5LocalAttention": f"{_BUCKETS} blocks are padded",
    "longt5.modeling_longt5.LongT5TransientGlobalAttention": "it makes summary tokens that are keys beside the text's",
    "longt5.modeling_longt5.LongT5Attention": f"{_BUCKETS} softmax is not scaled",
    "swinv2.modeling_swinv2.Swinv2SelfAttention": "it normalises queries and keys, and runs on windows cut out before",
    "dinat.modeling_dinat.NeighborhoodAttention": "it calls the library natten, whose kernels it needs",
    "deberta.modeling_deberta.DisentangledSelfAttention": "positions are multiplied with queries and keys of their own",
    "deberta_v2.modeling_deberta_v2.DisentangledSelfAttention": (
        "positions are multiplied with queries and keys of their own"
    ),
    "funnel.modeling_funnel.FunnelRelMultiheadAttention": "positions are multiplied with queries of their own",
    "xlnet.modeling_xlnet.XLNetRelativeAttention": "positions are multiplied with queries of their own, in two streams",
    "falcon.modeling_falcon.FalconFlashAttention2": (
        'it was built for flash attention: load the model with attn_implementation="eager"'
    ),
    "gpt_neo.modeling_gpt_neo.GPTNeoFlashAttention2": (
        'it was built for flash attention: load the model with attn_implementation="eager"'
    ),
}
"""Attention that is known and not swapped, and why."""


def full_name(kind: type) -> str:
    """``family.module.Class`` of a class of transformers, or the full name of another."""
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix(_MODELS)


def family(kind: type) -> str:
    """The folder of transformers' models that a class is of."""
    return full_name(kind).partition(".")[0]


def swapped_class(module: nn.Module) -> type[Swapped] | None:
    """The class that a module becomes, or None.

    ValueError where its class is derived from one that is swapped, or its forward is replaced already.
    """
    kind = type(module)
    name = full_name(kind)
    if name not in SYSTEMS:
        known = [full_name(base) for base in kind.__mro__[1:] if full_name(base) in SYSTEMS]
        if known and name not in REFUSED and not issubclass(kind, Swapped):
            raise ValueError(
                f"{kind.__name__}: is derived from {known[0].rpartition('.')[2]}, with code that attnc does not know, "
                "expected the class itself"
            )
        return None
    if "forward" in module.__dict__:
        raise ValueError(
            f"{kind.__name__}: has a forward of its own on the instance (a dispatcher's hook?), expected that of its "
            "class: call use before the model is dispatched"
        )
    made: type[Swapped] = import_module(f".{SYSTEMS[name]}", __package__).CLASSES[kind]
    reason = made.refusal(module)
    if reason is not None:
        raise ValueError(f"{kind.__name__}: {reason}")
    return made


def through_the_interface(kind: type) -> bool:
    """Whether a class's module calls transformers' attention interface."""
    return "ALL_ATTENTION_FUNCTIONS" in vars(sys.modules.get(kind.__module__, object()))


def is_attention(module: nn.Module) -> bool:
    """Whether a module is an attention by its name, and holds no other that is."""
    return _named(module) and not any(_named(inner) for inner in module.modules() if inner is not module)


def _named(module: nn.Module) -> bool:
    return "Attention" in type(module).__name__
