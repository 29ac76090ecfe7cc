"""Judges generation with a cache that keeps what the mask can still read: equal to one that keeps everything."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import attnc

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what transformers warns of while it is imported is its own affair
    from transformers import (
        AutoModelForCausalLM,
        DynamicCache,
        Gemma3nTextConfig,
        GPTNeoConfig,
        LlamaConfig,
        MistralConfig,
        PreTrainedModel,
        Qwen3NextConfig,
    )

    from attnc.integrations.transformers import PatternCache, PatternCacheLayer, use

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 99, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FULL = MistralConfig(**SIZES, sliding_window=None)
PROMPT, STEPS = 14, 7


@pytest.fixture(autouse=True)
def _quiet_and_without_builds() -> Iterator[None]:
    with warnings.catch_warnings(), attnc.settings.override(backend="blocked"):
        warnings.simplefilter("ignore")
        yield


def model_of(config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=None).eval()
    for weight in model.parameters():
        weight.data.mul_(3)  # or attention hardly moves the logits
    return model  # type: ignore[no-any-return]


def generated(model: PreTrainedModel, cache: Any, padded: bool = True, **more: Any) -> Any:
    tokens = torch.randint(3, 99, (2, PROMPT), generator=torch.Generator().manual_seed(1))
    real = torch.ones_like(tokens)
    real[0, : 5 * padded] = 0
    return model.generate(
        tokens, attention_mask=real, past_key_values=cache, max_new_tokens=STEPS, min_new_tokens=STEPS, do_sample=False,
        output_logits=True, return_dict_in_generate=True, **more,
    )  # fmt: skip


def agree(model: PreTrainedModel, padded: bool = True, **more: Any) -> PatternCache:
    """Generates with both caches; the one that keeps what can be read."""
    cache = PatternCache(model.config)
    whole = generated(model, DynamicCache(), padded, **more)
    mine = generated(model, cache, padded, **more)
    assert torch.equal(mine.sequences, whole.sequences)
    torch.testing.assert_close(torch.stack(mine.logits), torch.stack(whole.logits), rtol=1e-4, atol=1e-5)
    return cache


PATTERNS = {
    "sinks": ("pattern p = causal and (q - k < 6 or k < 2)", 7),
    "dilated": ("pattern p = causal and q - k < 9 and (q - k) % 2 == 0", 8),
    "chunks": ("pattern p = causal and blocks(8)", (PROMPT + STEPS - 1) % 8),
    "window": ("pattern p = causal_window(5)", 4),
}


@pytest.mark.parametrize("padded", [False, True], ids=["", "padded"])
@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_put_into_a_model(name: str, padded: bool) -> None:
    text, kept = PATTERNS[name]
    pattern = attnc.loads(text).p()
    model = model_of(FULL)
    use(model, pattern)
    cache = agree(model, padded)
    assert cache.positions == [kept, kept]
    row = PROMPT + STEPS - 1  # the next
    plan = pattern.cache(row + 64)
    assert [len(plan.positions(row)) - (row in plan.positions(row))] * 2 == cache.positions


def test_each_layer_keeps_what_its_own_pattern_reads() -> None:
    model = model_of(FULL)
    use(model, [attnc.loads(PATTERNS[name][0]).p() for name in ("sinks", "window")])
    assert agree(model).positions == [7, 4]


def test_the_swapped_model_of_gpt_neo() -> None:
    config = GPTNeoConfig(
        vocab_size=99, hidden_size=32, num_layers=2, num_heads=4, window_size=5, intermediate_size=48,
        attention_types=[[["global", "local"], 1]], pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = model_of(config)
    use(model)
    assert agree(model).positions == [PROMPT + STEPS - 1, 4]


def test_beams_and_a_prompt_in_pieces() -> None:
    model = model_of(FULL)
    use(model, attnc.loads(PATTERNS["sinks"][0]).p())
    assert agree(model, num_beams=3).positions == [7, 7]
    assert agree(model, padded=False, prefill_chunk_size=5).positions == [7, 7]


def test_assisted_generation() -> None:
    model, assistant = model_of(LlamaConfig(**SIZES)), model_of(LlamaConfig(**{**SIZES, "num_hidden_layers": 1}))
    use(model, attnc.loads(PATTERNS["sinks"][0]).p())
    tokens = torch.randint(3, 99, (1, PROMPT), generator=torch.Generator().manual_seed(1))
    given = {"max_new_tokens": STEPS, "min_new_tokens": STEPS, "do_sample": False}
    cache = PatternCache(model.config)
    mine = model.generate(tokens, assistant_model=assistant, past_key_values=cache, **given)
    assert torch.equal(mine, model.generate(tokens, past_key_values=DynamicCache(), **given))
    assert all(held < PROMPT for held in cache.positions)


def test_layers_that_read_the_keys_of_others() -> None:
    config = Gemma3nTextConfig(
        **{**SIZES, "num_hidden_layers": 4}, head_dim=8, num_kv_shared_layers=2, sliding_window=5,
        layer_types=["sliding_attention", "full_attention"] * 2, vocab_size_per_layer_input=99, laurel_rank=4,
        hidden_size_per_layer_input=8, altup_num_inputs=2, activation_sparsity_pattern=[0.0] * 4,
    )  # fmt: skip
    model = model_of(config).double()  # whose layers double what rounding differs by
    model.set_attn_implementation("attnc")
    cache = agree(model)
    assert all(layer.waits for layer in cache.layers if isinstance(layer, PatternCacheLayer))
    cache.layers[0].crop(0)  # what was told at the last call is done
    assert cache.positions == [4, PROMPT + STEPS - 1]


def test_layers_that_are_no_attention_stay_the_librarys() -> None:
    config = Qwen3NextConfig(**{**SIZES, "num_hidden_layers": 4}, num_experts=2, num_experts_per_tok=1, head_dim=8)
    kinds = [isinstance(layer, PatternCacheLayer) for layer in PatternCache(config).layers]
    assert kinds == [False, False, False, True]


def test_eager_attention_keeps_everything() -> None:
    model = model_of(FULL)
    model.set_attn_implementation("eager")
    assert agree(model).positions == [PROMPT + STEPS - 1] * 2
