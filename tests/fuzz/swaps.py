"""Random tiny models of transformers that ``use`` swaps, against the library's code: sizes, padding, globals, modes.

In float64 where the library computes in it; the loss reads the tokens that are no padding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
from torch import Tensor

import attnc

VOCABULARY = 60


@dataclass(frozen=True)
class Case:
    """A model, by the class and its configuration's arguments, and what it is given."""

    seed: int
    family: str
    sizes: dict[str, Any]
    training: bool
    inputs: dict[str, Tensor] = field(repr=False)


def told(case: Case) -> str:
    masks = {name: value.tolist() for name, value in case.inputs.items() if name != "input_ids"}
    return f"{case}\n{masks}"


def kept(case: Case) -> bytes:
    return told(case).encode()


def generate(seed: int) -> Case:
    """The case of a seed."""
    draw = Random(seed)
    family = draw.choice(sorted(FAMILIES))
    sizes, n = FAMILIES[family](draw)
    rows = draw.randrange(1, 4)
    mask = torch.stack([_padding(draw, n) for _ in range(rows)])
    ids = torch.randint(3, VOCABULARY, (rows, n), generator=torch.Generator().manual_seed(seed))
    inputs = {"input_ids": ids, "attention_mask": mask}
    if family == "longformer" and draw.random() < 0.8:
        is_global = torch.zeros_like(mask)
        for row in is_global:
            row[[draw.randrange(n) for _ in range(draw.choice([0, 1, 3, 14]))]] = 1
        inputs["global_attention_mask"] = is_global
    return Case(seed, family, sizes, draw.random() < 0.5, inputs)


def _padding(draw: Random, n: int) -> Tensor:
    """One row's mask: padding before the text, after it, within it or nowhere, and at least one token."""
    kept = torch.ones(n, dtype=torch.long)
    count = draw.randrange(max(1, n // 2))
    where = draw.choice(["before", "after", "within", "nowhere"])
    if where == "before":
        kept[:count] = 0
    elif where == "after":
        kept[n - count :] = 0
    elif where == "within":
        kept[[draw.randrange(1, n) for _ in range(count)]] = 0
    return kept


def _longformer(draw: Random) -> tuple[dict[str, Any], int]:
    size = 2 * draw.randrange(2, 7)
    windows = [size, size * draw.choice([1, 1, 2])]
    draw.shuffle(windows)
    return {"attention_window": windows}, draw.randrange(2 * size, 60)


def _big_bird(draw: Random) -> tuple[dict[str, Any], int]:
    block, drawn = draw.choice([1, 2, 3, 4, 8]), draw.randrange(1, 4)
    shortest = (5 + 2 * drawn) * block
    return {"block_size": block, "num_random_blocks": drawn}, draw.randrange(max(1, shortest - 9), shortest + 60)


def _reformer(draw: Random) -> tuple[dict[str, Any], int]:
    chunk, chunks = draw.choice([2, 4, 8]), draw.randrange(1, 7)
    sizes: dict[str, Any] = {"lsh_attn_chunk_length": chunk, "local_attn_chunk_length": chunk}
    for layer in ("lsh", "local"):
        for side in ("before", "after"):
            sizes[f"{layer}_num_chunks_{side}"] = draw.randrange(min(3, chunks + 1))
    sizes |= {
        "attn_layers": draw.choice([["lsh"], ["local"], ["lsh", "local"]]), "is_decoder": draw.random() < 0.5,
        "num_hashes": draw.randrange(1, 5), "num_buckets": draw.choice([2, 4, 8, [2, 4], None]),
        "hash_seed": draw.randrange(9),
    }  # fmt: skip
    return sizes, chunk * chunks


def _falcon(draw: Random) -> tuple[dict[str, Any], int]:
    heads = draw.randrange(1, 9)
    sizes = draw.choice(
        [
            {"multi_query": True},
            {"multi_query": False},
            {"new_decoder_architecture": True, "num_kv_heads": draw.choice([k for k in range(1, 9) if heads % k == 0])},
            {"alibi": True, "multi_query": draw.random() < 0.5},
        ]
    )
    return {**sizes, "num_attention_heads": heads, "hidden_size": 8 * heads}, draw.randrange(1, 30)


def _mpt(draw: Random) -> tuple[dict[str, Any], int]:
    heads = draw.randrange(1, 9)
    return {"n_heads": heads, "d_model": 8 * heads, "max_seq_len": draw.choice([30, 64])}, draw.randrange(1, 30)


def _bloom(draw: Random) -> tuple[dict[str, Any], int]:
    heads = draw.randrange(1, 9)
    return {"n_head": heads, "hidden_size": 8 * heads}, draw.randrange(1, 30)


def _gpt_neo(draw: Random) -> tuple[dict[str, Any], int]:
    return {"window_size": draw.randrange(2, 9)}, draw.randrange(1, 30)


FAMILIES: dict[str, Callable[[Random], tuple[dict[str, Any], int]]] = {
    "longformer": _longformer, "big_bird": _big_bird, "reformer": _reformer, "falcon": _falcon, "mpt": _mpt,
    "bloom": _bloom, "gpt_neo": _gpt_neo,
}  # fmt: skip
SINGLE = ("longformer", "mpt", "bloom", "gpt_neo")  # whose own code computes something in float32


def build(case: Case) -> Any:
    """The model of a case, in its mode."""
    import transformers as library

    from tests.support.hf_models import drawn

    encoder: dict[str, Any] = {
        "vocab_size": VOCABULARY, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2,
        "intermediate_size": 48, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 256,
    }  # fmt: skip
    plain: dict[str, Any] = {"vocab_size": VOCABULARY, "attention_dropout": 0.0}
    makers: dict[str, tuple[Any, dict[str, Any]]] = {
        "longformer": (library.LongformerModel, encoder),
        "big_bird": (library.BigBirdModel, encoder),
        "reformer": (library.ReformerModel, {
            "vocab_size": VOCABULARY, "hidden_size": 32, "attention_head_size": 8, "num_attention_heads": 4,
            "feed_forward_size": 48, "axial_pos_embds": False, "max_position_embeddings": 64, "pad_token_id": 0,
            "hidden_dropout_prob": 0.0, "lsh_attention_probs_dropout_prob": 0.0,
            "local_attention_probs_dropout_prob": 0.0,
        }),
        "falcon": (library.FalconModel, {**plain, "num_hidden_layers": 1, "hidden_dropout": 0.0}),
        "mpt": (library.MptModel, {"vocab_size": VOCABULARY, "n_layers": 1}),
        "bloom": (library.BloomModel, {**plain, "n_layer": 1, "hidden_dropout": 0.0}),
        "gpt_neo": (library.GPTNeoModel, {
            **plain, "hidden_size": 32, "num_heads": 4, "num_layers": 2, "intermediate_size": 48,
            "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 64, "resid_dropout": 0.0,
            "embed_dropout": 0.0,
        }),
    }  # fmt: skip
    make, sizes = makers[case.family]
    config = make.config_class(**{**sizes, **case.sizes})
    if case.family == "falcon":
        config._attn_implementation = "sdpa"  # "eager" adds ALiBi twice
    dtype = torch.float32 if case.family in SINGLE else torch.float64
    # A reversible model has a backward pass in training only.
    return drawn(make, config, case.seed, dtype).train(case.training or case.family == "reformer")


def fault(case: Case) -> str | None:
    """What differs between the library's code and attnc's, or None."""
    from attnc.integrations.transformers import use
    from tests.support.hf_models import assert_equal, run

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are small
    model, real = build(case), case.inputs["attention_mask"] > 0
    own = run(model, case.inputs, real)
    use(model)
    with attnc.settings.override(backend="blocked"):
        ours = run(model, case.inputs, real)
    torch.set_num_threads(threads)
    bounds = (5e-6, 1e-4) if case.family in SINGLE else (1e-10, 1e-8)
    try:
        assert_equal(ours, own, *bounds)
    except AssertionError as error:
        return f"{case.family}: outputs or gradients differ: {error}"
    return None
