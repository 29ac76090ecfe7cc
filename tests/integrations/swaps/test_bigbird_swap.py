"""Judges BigBird and BigBird-Pegasus's encoder on attnc's kernels: equal to the library's own code, block by block."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import (
    BigBirdConfig,
    BigBirdForCausalLM,
    BigBirdModel,
    BigBirdPegasusConfig,
    BigBirdPegasusModel,
)

from attnc.integrations.transformers import use
from tests.support.hf_models import assert_equal, drawn, run, without_builds  # noqa: F401


def config(**changed: Any) -> BigBirdConfig:
    sizes: dict[str, Any] = {
        "vocab_size": 60, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 48,
        "max_position_embeddings": 256, "block_size": 4, "num_random_blocks": 3, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    return BigBirdConfig(**{**sizes, **changed})


def inputs(rows: int, n: int, padding: int) -> dict[str, Tensor]:
    mask = torch.ones(rows, n, dtype=torch.long)
    mask[0, n - padding :] = 0
    return {"input_ids": torch.randint(3, 60, (rows, n)).masked_fill(mask == 0, 0), "attention_mask": mask}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("n", "padding", "changed"),
    [
        (70, 9, {}),
        (46, 0, {"num_random_blocks": 3}),
        (1024, 200, {"block_size": 64, "max_position_embeddings": 2048, "num_hidden_layers": 1}),
    ],
    ids=["padded", "few blocks", "a length of the paper"],
)
def test_outputs_and_gradients_are_the_librarys(n: int, padding: int, changed: dict[str, Any], training: bool) -> None:
    model = drawn(BigBirdModel, config(**changed), n).train(training)
    given = inputs(1 if n > 1000 else 2, n, padding)
    real = given["attention_mask"] > 0
    own, names = run(model, given, real), list(model.state_dict())
    undo = use(model)
    np.random.seed(7)
    before = np.random.get_state()[1].copy()
    ours = run(model, given, real)
    assert list(model.state_dict()) == names
    assert_equal(ours, own)
    assert np.array_equal(np.random.get_state()[1], before)
    undo()
    assert torch.equal(run(model, given, real).output, own.output)


def test_a_layer_draws_other_blocks_in_training() -> None:
    model = drawn(BigBirdModel, config(), 1)
    use(model)
    first, second = (layer.attention.self for layer in model.encoder.layer)
    assert bool((first._chosen(96) == 0).all())
    model.train()
    drawn_blocks = first._chosen(96)
    assert drawn_blocks.shape == (4, 22, 3)
    assert not torch.equal(drawn_blocks, second._chosen(96))
    assert not torch.equal(drawn_blocks[0], drawn_blocks[1])


def test_a_short_text_makes_it_full_for_good() -> None:
    model, plain = (drawn(BigBirdModel, config(), 2).train() for _ in range(2))
    undo = use(model)
    short, long = inputs(2, 30, 4), inputs(2, 70, 4)
    for given in (short, long):
        real = given["attention_mask"] > 0
        assert_equal(run(model, given, real), run(plain, given, real))
    assert {type(layer.attention.self).__name__ for layer in model.encoder.layer} == {"AttncBigBirdSelfAttention"}
    undo()
    assert {type(layer.attention.self).__name__ for layer in model.encoder.layer} == {"BigBirdSelfAttention"}
    assert "attnc" not in str(vars(model.encoder.layer[0].attention.self))


def test_a_decoder_generates_what_the_whole_pass_gives() -> None:
    made = config(is_decoder=True, attention_type="original_full", pad_token_id=0, bos_token_id=1, eos_token_id=None)
    model = drawn(BigBirdForCausalLM, made, 3)
    prompt = inputs(2, 9, 0)["input_ids"]
    own = model(prompt).logits
    use(model)
    ours = model.generate(prompt, max_new_tokens=6, do_sample=False, output_logits=True, return_dict_in_generate=True)
    torch.testing.assert_close(model(prompt).logits, own, rtol=0, atol=2e-5)
    whole = model(ours.sequences).logits
    for step, logits in enumerate(ours.logits):
        torch.testing.assert_close(logits, whole[:, 8 + step], rtol=0, atol=2e-5)


@pytest.mark.parametrize("n", [70, 30], ids=["blocks", "full"])
def test_the_encoder_of_bigbird_pegasus(n: int) -> None:
    made = BigBirdPegasusConfig(
        vocab_size=60, d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, block_size=4, num_random_blocks=3,
        max_position_embeddings=256, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0,
    )  # fmt: skip
    model = drawn(BigBirdPegasusModel, made, 4).train()
    given = {**inputs(2, n, 9), "decoder_input_ids": torch.randint(3, 60, (2, 11))}
    every = torch.ones(2, 11, dtype=torch.bool)
    plain = drawn(BigBirdPegasusModel, made, 4).train()
    undo = use(model)
    assert_equal(run(model, given, every), run(plain, given, every))
    assert "attention interface" in undo.left["decoder.layers.0.self_attn"]
