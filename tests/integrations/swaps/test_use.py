"""Judges ``use`` itself: what it takes back, what it refuses by name, and other patterns in any model."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    BigBirdConfig,
    BigBirdModel,
    BloomConfig,
    BloomModel,
    CLIPConfig,
    CLIPModel,
    CodeGenConfig,
    CodeGenModel,
    DebertaConfig,
    DebertaModel,
    DynamicCache,
    FNetConfig,
    FNetModel,
    FunnelConfig,
    FunnelModel,
    LongformerConfig,
    LongformerForSequenceClassification,
    LongformerModel,
    LongT5Config,
    LongT5Model,
    MistralConfig,
    MistralForCausalLM,
    MistralModel,
    MptConfig,
    MptModel,
    ReformerConfig,
    ReformerModel,
    Swinv2Config,
    Swinv2Model,
    T5Config,
    T5Model,
    XLNetConfig,
    XLNetModel,
)
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention
from transformers.models.mpt.modeling_mpt import MptAttention

import attnc
from attnc.compiler.modules.loader import bound_tests, load_file
from attnc.compiler.verify.claims import run_test
from attnc.integrations.transformers import TEXTS, use
from tests.support.hf_models import assert_equal, distance, drawn, run, without_builds  # noqa: F401

window = attnc.load("window").window
causal_window = attnc.load("window").causal_window


def longformer(make: Any = LongformerModel, windows: tuple[int, ...] = (4, 8)) -> Any:
    config = LongformerConfig(
        vocab_size=60, hidden_size=32, num_attention_heads=4, num_hidden_layers=len(windows), intermediate_size=48,
        attention_window=list(windows), max_position_embeddings=120, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return drawn(make, config, 0)


def mistral(sliding_window: int | None) -> Any:
    config = MistralConfig(
        vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, sliding_window=sliding_window,
    )  # fmt: skip
    return drawn(MistralModel, config, 0)


def mpt() -> Any:
    return drawn(MptModel, MptConfig(vocab_size=60, d_model=32, n_heads=4, n_layers=2, max_seq_len=64), 0)


def inputs(n: int, padding: int = 0) -> dict[str, Tensor]:
    mask = torch.ones(2, n, dtype=torch.long)
    mask[0, :padding] = 0
    ids = torch.randint(3, 60, (2, n), generator=torch.Generator().manual_seed(n))
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


def test_every_text_holds_what_it_says_of_itself() -> None:
    tests = [test for path in TEXTS.values() for test in bound_tests(load_file(path))]
    assert len(tests) >= 2  # those of shipped texts are run with the gallery
    for test in tests:
        for check in run_test(test):
            assert check.passed, check


def test_undo_leaves_nothing_and_twice_is_refused() -> None:
    model = longformer(LongformerForSequenceClassification)
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    implementation = model.config._attn_implementation
    undo = use(model)
    assert repr(undo) == "<undo of LongformerForSequenceClassification: 2 modules>"
    assert isinstance(model.longformer.encoder.layer[1].attention.self, LongformerSelfAttention)
    with pytest.raises(ValueError, match=r"is in use already, at longformer\.encoder\.layer\.0\.attention\.self"):
        use(model)
    undo()
    undo()
    after = {name: dict(vars(module)) for name, module in model.named_modules()}
    assert {name: set(each) for name, each in after.items()} == {name: set(each) for name, each in before.items()}
    assert all(not module._forward_pre_hooks for module in model.modules())
    assert model.config._attn_implementation == implementation
    assert type(model.longformer.encoder.layer[1].attention.self) is LongformerSelfAttention


def test_a_model_in_use_is_copied_saved_and_loaded() -> None:
    model, given = mpt(), inputs(11)
    use(model)
    own = model(**given).last_hidden_state
    assert torch.equal(copy.deepcopy(model)(**given).last_hidden_state, own)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(**given).last_hidden_state, own)
    other = MptModel(model.config)
    with pytest.raises(ValueError, match="built from the configuration of another that is in use"):
        other(**given)


@pytest.mark.parametrize("make", [longformer, mpt], ids=["longformer", "mpt"])
def test_probabilities_are_refused_by_name(make: Callable[[], Any]) -> None:
    model, given = make(), inputs(9)
    undo = use(model)
    with pytest.raises(ValueError, match="output_attentions: is True, expected False"):
        model(**given, output_attentions=True)
    undo()
    if make is mpt:  # whose probabilities are of one length
        assert model(**given, output_attentions=True).attentions[0].shape == (2, 4, 9, 9)


def test_checkpointing_and_half_precision() -> None:
    model, given = longformer().train(), inputs(16)
    given["global_attention_mask"] = torch.zeros_like(given["attention_mask"])
    given["global_attention_mask"][:, 3] = 1
    real = given["attention_mask"] > 0
    use(model)
    own = run(model, given, real)
    model.activation_checkpointing_enable()
    assert_equal(run(model, given, real), own)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = run(model, given, real)
    assert distance(half.output.float(), own.output) < 0.1
    half = run(model.to(torch.bfloat16), given, real)
    assert distance(half.output.float(), own.output) < 0.1


class _OfAnother(MptAttention):  # type: ignore[misc]
    """A user's own."""


@pytest.mark.parametrize(
    ("make", "config", "wanted"),
    [
        (DebertaModel, DebertaConfig(num_hidden_layers=1), "DisentangledSelfAttention: attnc does not swap it"),
        (FunnelModel, FunnelConfig(block_sizes=[1, 1]), "FunnelRelMultiheadAttention: attnc does not swap it"),
        (XLNetModel, XLNetConfig(n_layer=1), "XLNetRelativeAttention: attnc does not swap it"),
        (LongT5Model, LongT5Config(num_layers=1), "LongT5LocalAttention: attnc does not swap it"),
        (Swinv2Model, Swinv2Config(depths=[1], num_heads=[3]), "Swinv2SelfAttention: attnc does not swap it"),
        (CodeGenModel, CodeGenConfig(n_layer=1), r"CodeGenModel: .*\(CodeGenAttention\) neither goes through"),
        (FNetModel, FNetConfig(num_hidden_layers=1), "FNetModel: .*no class of its modules is named an attention"),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else "",
)
def test_what_is_not_swapped_is_refused_by_name(make: Any, config: Any, wanted: str) -> None:
    with torch.device("meta"):
        model = make(config)
    with pytest.raises(ValueError, match=wanted):
        use(model)


def test_code_of_another_is_refused_by_name() -> None:
    model = mpt()
    model.blocks[1].attn.__class__ = _OfAnother
    with pytest.raises(ValueError, match="_OfAnother: is derived from MptAttention, with code that attnc does not"):
        use(model)
    model = mpt()
    model.blocks[1].attn.forward = lambda *_: None
    with pytest.raises(ValueError, match="MptAttention: has a forward of its own on the instance"):
        use(model)
    made = BloomConfig(vocab_size=60, hidden_size=32, n_head=4, n_layer=1, slow_but_exact=True, pretraining_tp=2)
    with pytest.raises(ValueError, match="BloomAttention: slow_but_exact is True, expected False"):
        use(BloomModel(made))
    with pytest.raises(ValueError, match="Linear: attnc does not know how to run it"):
        use(nn.Linear(2, 2))


def test_a_model_of_the_interface_gets_its_implementation() -> None:
    model, given = mistral(7), inputs(21, 4)
    real = given["attention_mask"] > 0
    own = run(model, given, real)
    undo = use(model)
    assert model.config._attn_implementation == "attnc"
    assert_equal(run(model, given, real), own)
    undo()
    assert model.config._attn_implementation == "sdpa"
    with torch.device("meta"):
        undo = use(CLIPModel(CLIPConfig()))
    assert len(undo.swapped) == 24
    undo()


def test_a_full_decoder_becomes_a_windowed_one() -> None:
    model, given = mistral(None), inputs(21, 4)
    real = given["attention_mask"] > 0
    own = run(model, given, real)
    undo = use(model, causal_window(size=7))
    assert_equal(run(model, given, real), run(mistral(7), given, real))
    with pytest.raises(ValueError, match="is in use already"):
        use(model)
    undo()
    assert torch.equal(run(model, given, real).output, own.output)
    use(model, window(size=12))  # to both sides: no row sees a later key all the same
    assert_equal(run(model, given, real), run(mistral(7), given, real))


def test_patterns_layer_by_layer() -> None:
    layers = attnc.loads(
        "model windows { layers = 2  heads = 4  layer 0 = causal_window(3)  layer 1 = causal_window(9) }"
    ).windows()
    model, given = mistral(None), inputs(21)
    real = given["attention_mask"] > 0
    both = [causal_window(size=3), causal_window(size=9)]
    found = []
    for pattern in (layers, both, [None, both[1]]):
        undo = use(model, pattern)
        found.append(run(model, given, real))
        undo()
    assert_equal(found[1], found[0])
    assert distance(found[2].output, found[0].output) > 1e-2
    with pytest.raises(ValueError, match="pattern: is for 3 layers, expected 2, those of the model"):
        use(model, [None, None, None])
    with pytest.raises(TypeError, match=r"pattern: is function, expected an attnc\.Attention"):
        use(model, window)


def test_a_pattern_with_tables_and_a_name() -> None:
    model, given = drawn(BertModel, BertConfig(
        vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
    ), 0), inputs(12)  # fmt: skip
    doc = torch.arange(12) // 5
    undo = use(model, "documents", doc=doc)
    out = model(**given).last_hidden_state
    undo()
    alone = model(**{name: each[:, :5] for name, each in given.items()}).last_hidden_state
    torch.testing.assert_close(out[:, :5], alone, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"doc: is read by documents in .*expected it in use\(model, pattern, doc=…\)"):
        use(model, "documents")
    with pytest.raises(ValueError, match="docs: is read by no layer's pattern, which read none"):
        use(model, window(size=4), docs=doc)
    with pytest.raises(ValueError, match="has an encoder and a decoder, expected one of them with pattern"):
        use(T5Model(T5Config(d_model=16, d_kv=4, num_layers=1, num_heads=4, d_ff=16, vocab_size=60)), window(size=4))


def test_another_window_in_longformer() -> None:
    """Global tokens stay those of the input."""
    model, other, given = longformer(windows=(4, 4)), longformer(windows=(8, 8)), inputs(24, 5)
    given["global_attention_mask"] = torch.zeros_like(given["attention_mask"])
    given["global_attention_mask"][:, 7] = 1
    real = given["attention_mask"] > 0
    wanted = run(other, given, real)
    undo = use(model, window(size=8))
    assert_equal(run(model, given, real), wanted)
    undo()
    undo = use(model, attnc.load("longformer").longformer(size=8))  # whose g is the global tokens
    assert_equal(run(model, given, real), wanted)
    undo()
    counted = attnc.loads("pattern twice(size: int) = window(size) + (q == k)").twice(size=8)
    use(model, counted)
    assert distance(run(model, given, real).output, wanted.output) > 1e-2


def test_a_wider_pattern_stays_causal() -> None:
    """In a model that is swapped: to both sides is to the side before, whatever comes after."""
    model, given = mpt(), inputs(21, 4)
    real = given["attention_mask"] > 0
    undo = use(model, causal_window(size=7))
    one_side = run(model, given, real)
    undo()
    use(model, window(size=12))
    assert_equal(run(model, given, real), one_side)


@pytest.mark.parametrize("padding", [0, 4])
def test_a_pattern_reads_what_the_layer_provides(padding: int) -> None:
    text = """
    attention own(real: bool[token], slope: float[head]) {
        mask  = causal_window(7) and real[k]
        score = s + slope[head] * (k - q)
    }
    pattern other(real: int[token]) = real[k] > 0
    """
    model, given = mpt(), inputs(21, padding)
    real = given["attention_mask"] > 0
    undo = use(model, causal_window(size=7))
    wanted = run(model, given, real)
    undo()
    undo = use(model, attnc.loads(text).own())
    assert_equal(run(model, given, real), wanted)
    undo()
    if padding:
        use(model, attnc.loads(text).other())
        with pytest.raises(ValueError, match=r"real: is int\[token\] and bool\[token\], in the pattern and in"):
            model(**given)


def dense_bigbird(model: Any, kept: Tensor) -> None:
    """Gives every layer a plain attention of the pairs kept, ``[batch, n, n]``."""
    for layer in model.encoder.layer:
        layer.attention.self.forward = lambda hidden, *_, own=layer.attention.self, **__: (
            _dense(own, hidden, kept),
            None,
        )


def _dense(own: Any, hidden: Tensor, kept: Tensor) -> Tensor:
    q, k, v = (project(hidden).unflatten(-1, (4, 8)).transpose(1, 2) for project in (own.query, own.key, own.value))
    out = nn.functional.scaled_dot_product_attention(q, k, v, kept[:, None])
    return out.transpose(1, 2).flatten(2).nan_to_num() * kept.any(-1)[..., None]


def test_another_pattern_in_bigbird() -> None:
    config = BigBirdConfig(
        vocab_size=60, hidden_size=32, num_attention_heads=4, num_hidden_layers=2, intermediate_size=48, block_size=4,
        max_position_embeddings=256, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_random_blocks=3,
    )  # fmt: skip
    model, plain, given = drawn(BigBirdModel, config, 1), drawn(BigBirdModel, config, 1), inputs(60, 9)
    real = given["attention_mask"] > 0
    i = torch.arange(60)
    dense_bigbird(plain, real[:, None] & real[..., None] & ((i[:, None] - i).abs() <= 5))
    use(model, window(size=10))
    assert_equal(run(model, given, real), run(plain, given, real))


@pytest.mark.parametrize("layer", ["lsh", "local"])
def test_another_pattern_in_reformer(layer: str) -> None:
    """Blocks of 16: a token moves the rows of its own block, and all of those."""
    config = ReformerConfig(
        vocab_size=60, hidden_size=32, attention_head_size=8, num_attention_heads=4, attn_layers=[layer],
        axial_pos_embds=False, max_position_embeddings=64, hidden_dropout_prob=0.0, feed_forward_size=48,
        local_attn_chunk_length=8, lsh_attn_chunk_length=8, num_buckets=4, is_decoder=False, pad_token_id=0,
    )  # fmt: skip
    model = drawn(ReformerModel, config, 2)
    given = inputs(32)
    use(model, attnc.load("std").blocks(size=16))
    with torch.no_grad():
        out = model(**given).last_hidden_state
        changed = {**given, "input_ids": given["input_ids"].clone()}
        changed["input_ids"][:, 20] = 1
        moved = (model(**changed).last_hidden_state - out).abs().amax(-1) > 0
    assert not bool(moved[:, :16].any())
    assert bool(moved[:, 16:].all())


def test_generation_under_a_pattern_of_an_interface_model() -> None:
    config = mistral(None).config
    model = drawn(MistralForCausalLM, config, 3)
    given = inputs(8, 3)
    use(model, causal_window(size=4))
    keywords: dict[str, Any] = {
        "max_new_tokens": 7, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, "output_logits": True,
        "return_dict_in_generate": True,
    }  # fmt: skip
    made = model.generate(**given, **keywords)
    mask = torch.cat([given["attention_mask"], torch.ones(2, 7, dtype=torch.long)], 1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    whole = model(made.sequences, attention_mask=mask, position_ids=positions).logits
    for step, logits in enumerate(made.logits):
        torch.testing.assert_close(logits, whole[:, 7 + step], rtol=0, atol=1e-4)


def test_a_pattern_is_refused_where_a_cache_has_dropped_keys() -> None:
    model = drawn(MistralForCausalLM, mistral(5).config, 3)
    given = inputs(8, 3)
    use(model, attnc.load("std").chunked(size=4))
    keywords: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with pytest.raises(ValueError, match="chunked: is a pattern of use, but the cache holds the last keys alone"):
        model.generate(**given, **keywords)
    assert model.generate(**given, **keywords, past_key_values=DynamicCache()).shape == (2, 12)
