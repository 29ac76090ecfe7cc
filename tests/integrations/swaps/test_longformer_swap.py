"""Judges Longformer and LED's encoder on attnc's kernels: equal to the library's own code, else to a dense formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LEDConfig, LEDModel, LongformerConfig, LongformerModel

from attnc.integrations.transformers import use
from tests.support.hf_models import Run, assert_equal, distance, drawn, run, without_builds  # noqa: F401


def longformer(seed: int, windows: list[int], **changed: Any) -> Any:
    sizes = {"attention_probs_dropout_prob": 0.0, **changed}
    config = LongformerConfig(
        vocab_size=60, hidden_size=32, num_attention_heads=4, num_hidden_layers=len(windows), intermediate_size=48,
        attention_window=windows, max_position_embeddings=120, hidden_dropout_prob=0.0, **sizes,
    )  # fmt: skip
    return drawn(LongformerModel, config, seed)


def documents(n: int, some: list[int]) -> dict[str, Tensor]:
    """Three rows that differ in padding and in their globals: ``some``, none, and two of which one is padding."""
    mask = torch.ones(3, n, dtype=torch.long)
    mask[0, n - 5 :] = 0
    mask[2, : n // 2] = 0
    is_global = torch.zeros_like(mask)
    is_global[0, some] = 1
    is_global[2, [2, n - 1]] = 1
    ids = torch.randint(3, 60, (3, n)).masked_fill(mask == 0, 1)
    return {"input_ids": ids, "attention_mask": mask, "global_attention_mask": is_global}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("seed", "windows", "n", "some"),
    [(0, [4, 12], 48, [0, 3, 17]), (1, [12, 4], 37, [0, 1, 2, 5, 8, 9, 11, 20, 30])],
    ids=["folded", "projected"],
)
def test_outputs_and_gradients_are_the_librarys(
    seed: int, windows: list[int], n: int, some: list[int], training: bool
) -> None:
    model = longformer(seed, windows).train(training)
    inputs = documents(n, some)
    real = inputs["attention_mask"] > 0
    own, names = run(model, inputs, real), list(model.state_dict())
    use(model)
    ours = run(model, inputs, real)
    assert list(model.state_dict()) == names
    assert_equal(ours, own)
    folded = "encoder.layer.0.attention.self.key_global.bias" not in ours.gradients
    assert folded == (len(some) * 4 <= 32)


def dense(layer: Any, hidden: Tensor, kind: Tensor, reach: int) -> Tensor:
    """The formula over every pair, of one row of the batch."""

    def heads(project: Any) -> Tensor:
        return project(hidden).view(len(hidden), layer.num_heads, layer.head_dim).transpose(0, 1)

    i, j = torch.arange(len(hidden))[:, None], torch.arange(len(hidden))[None]
    near = (kind[j] == 2) | (kind[j] == 1) & ((i - j).abs() <= reach)
    rows = []
    for names, kept in (("query key value", near), ("query_global key_global value_global", kind[j] != 0)):
        q, k, v = (heads(getattr(layer, name)) for name in names.split())
        scores = (q @ k.mT / layer.head_dim**0.5).masked_fill(~kept, float("-inf"))
        rows.append((scores.softmax(-1) @ v).transpose(0, 1).flatten(1))
    return torch.where(kind[:, None] == 0, 0.0, torch.where(kind[:, None] == 2, rows[1], rows[0]))


@pytest.mark.parametrize(("window", "n"), [(2, 23), (10, 23), (6, 5), (4, 1)])
def test_windows_that_the_library_cannot_run(window: int, n: int) -> None:
    """A window of 2, and windows that do not divide the length: padding rows are exactly 0."""
    layer = longformer(3, [window]).encoder.layer[0].attention.self
    use(layer)
    torch.manual_seed(n)
    hidden, kind = torch.randn(2, n, 32), torch.ones(2, n, dtype=torch.long)
    kind[0, n // 2], kind[1, 1 : n // 3] = 2, 0
    is_global = kind == 2
    (out,) = layer(hidden, None, kind == 0, is_global, bool(is_global.any()))
    for row in range(2):
        assert distance(out[row], dense(layer, hidden[row], kind[row], window // 2)) <= 5e-6
    assert bool((out[kind == 0] == 0).all())


def test_the_encoder_of_led() -> None:
    config = LEDConfig(
        vocab_size=60, d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, attention_window=[4, 8], dropout=0.0,
        max_encoder_position_embeddings=128, max_decoder_position_embeddings=64, attention_dropout=0.0,
        activation_dropout=0.0,
    )  # fmt: skip
    model = drawn(LEDModel, config, 4).train()
    inputs = {**documents(37, [0, 9]), "decoder_input_ids": torch.randint(3, 60, (3, 11))}
    every = torch.ones(3, 11, dtype=torch.bool)
    own = run(model, inputs, every)
    undo = use(model)
    assert_equal(run(model, inputs, every), own)
    assert sorted(undo.left) == ["decoder.layers.0.encoder_attn", "decoder.layers.0.self_attn"]
    assert "library's own code" in undo.left["decoder.layers.0.self_attn"]


def test_probabilities_are_dropped_in_training_alone() -> None:
    model = longformer(5, [4], attention_probs_dropout_prob=0.5)
    inputs = documents(24, [0])
    real = inputs["attention_mask"] > 0
    own = run(model, inputs, real)
    use(model)
    assert_equal(run(model, inputs, real), own)
    model.train()

    def seeded(seed: int) -> Run:
        torch.manual_seed(seed)
        return run(model, inputs, real)

    assert torch.equal(seeded(1).output, seeded(1).output)
    assert distance(seeded(1).output, seeded(2).output) > 1e-2
    # Global rows too, which then are not folded: their key projection has a gradient of its own.
    assert "encoder.layer.0.attention.self.key_global.bias" in seeded(1).gradients
