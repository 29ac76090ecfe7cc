"""Judges MPT, Falcon, BLOOM and GPT-Neo on attnc's kernels: equal to the library's own code, token by token too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    MptConfig,
    MptForCausalLM,
)

from attnc.integrations.transformers import use
from tests.support.hf_models import assert_equal, distance, drawn, run, without_builds  # noqa: F401


def mpt(**attention: Any) -> tuple[Any, Any]:
    made = MptConfig(vocab_size=60, d_model=36, n_heads=6, n_layers=2, max_seq_len=64, attn_config=attention or None)
    return MptForCausalLM, made


def falcon(**changed: Any) -> tuple[Any, Any]:
    made = FalconConfig(
        vocab_size=60, hidden_size=48, num_attention_heads=6, num_hidden_layers=2, hidden_dropout=0.0,
        **{"attention_dropout": 0.0, **changed},
    )  # fmt: skip
    made._attn_implementation = "sdpa"  # "eager" adds ALiBi twice
    return FalconForCausalLM, made


def bloom(dropout: float = 0.0) -> tuple[Any, Any]:
    made = BloomConfig(
        vocab_size=60, hidden_size=48, n_head=6, n_layer=2, hidden_dropout=0.0, attention_dropout=dropout
    )
    return BloomForCausalLM, made


def gpt_neo(dropout: float = 0.0) -> tuple[Any, Any]:
    made = GPTNeoConfig(
        vocab_size=60, hidden_size=48, num_heads=6, num_layers=2, attention_types=[[["global", "local"], 1]],
        window_size=5, max_position_embeddings=64, intermediate_size=48, resid_dropout=0.0, embed_dropout=0.0,
        attention_dropout=dropout,
    )  # fmt: skip
    return GPTNeoForCausalLM, made


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "mpt": mpt,
    "mpt, clipped": lambda: mpt(clip_qkv=0.8, softmax_scale=0.3),
    "falcon, one key head": lambda: falcon(multi_query=True),
    "falcon, groups": lambda: falcon(new_decoder_architecture=True, num_kv_heads=2),
    "falcon, alibi": lambda: falcon(alibi=True, multi_query=False),
    "bloom": bloom,
    "gpt-neo": gpt_neo,
}


def inputs(n: int, left: int = 0, right: int = 0) -> dict[str, Tensor]:
    mask = torch.ones(2, n, dtype=torch.long)
    mask[0, :left], mask[1, n - right :] = 0, 0
    ids = torch.randint(3, 60, (2, n), generator=torch.Generator().manual_seed(n))
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_gradients_are_the_librarys(name: str) -> None:
    for seed, training, given in ((1, False, inputs(29, left=7, right=3)), (2, True, inputs(29)), (3, True, inputs(1))):
        make, config = MODELS[name]()
        model = drawn(make, config, seed).train(training)
        real = given["attention_mask"] > 0
        own, names = run(model, given, real, "logits"), list(model.state_dict())
        undo = use(model)
        assert list(model.state_dict()) == names
        assert_equal(run(model, given, real, "logits"), own)
        undo()
        assert torch.equal(run(model, given, real, "logits").output, own.output)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("name", MODELS)
def test_generation_is_the_whole_pass(name: str, cache: str) -> None:
    """With padding before the text; the keys of a static cache that are not written yet take no part."""
    if cache == "static" and name in ("falcon, alibi", "bloom"):
        pytest.skip("the library prepares no ALiBi for a static cache")
    make, config = MODELS[name]()
    model = drawn(make, config, 2)
    use(model)
    given = inputs(8, left=3)
    made = model.generate(
        **given, max_new_tokens=6, do_sample=False, output_logits=True, return_dict_in_generate=True,
        cache_implementation="static" if cache == "static" else None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    mask = torch.cat([given["attention_mask"], torch.ones(2, 6, dtype=torch.long)], 1)
    positions = {}
    if "mpt" not in name and name != "bloom":
        positions["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    whole = model(made.sequences, attention_mask=mask, **positions).logits
    for step, logits in enumerate(made.logits):
        torch.testing.assert_close(logits, whole[:, 7 + step], rtol=0, atol=3e-5 * float(whole.detach().abs().max()))


@pytest.mark.parametrize(
    ("make", "config"),
    [bloom(0.5), gpt_neo(0.5), falcon(alibi=True, multi_query=False, attention_dropout=0.5)],
    ids=["bloom", "gpt-neo", "falcon"],
)
def test_probabilities_are_dropped_in_training(make: Any, config: Any) -> None:
    model = drawn(make, config, 3).train()
    use(model)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(model(**inputs(17)).logits)
    assert torch.equal(found[0], found[1])
    assert distance(found[2], found[1]) > 1e-2


def test_falcon_keeps_a_key_head_for_each_group_in_its_cache() -> None:
    make, config = MODELS["falcon, groups"]()
    model = drawn(make, config, 4)
    use(model)
    assert model(**inputs(9)).past_key_values.layers[0].keys.shape == (2, 2, 9, 8)


def test_a_mask_for_each_pair_is_refused_by_name() -> None:
    make, config = MODELS["mpt"]()
    model = drawn(make, config, 5)
    use(model)
    with pytest.raises(ValueError, match=r"attention_mask: is a tensor \[2, 1, 9, 9\], expected \[batch, positions\]"):
        model(inputs(9)["input_ids"], attention_mask=torch.ones(2, 1, 9, 9, dtype=torch.bool))
