"""Judges Reformer on attnc's kernels: equal to the library's code in float64, and to the numbers of its own tests."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import ReformerConfig, ReformerForMaskedLM, ReformerModel, ReformerModelWithLMHead
from transformers.models.reformer.modeling_reformer import ReformerLayer

import attnc
from attnc.integrations.transformers import use
from tests.support.hf_models import assert_equal, distance, drawn, run, without_builds  # noqa: F401


def config(**changed: Any) -> ReformerConfig:
    sizes: dict[str, Any] = {
        "vocab_size": 60, "hidden_size": 32, "attention_head_size": 8, "num_attention_heads": 4, "hash_seed": 0,
        "feed_forward_size": 48, "lsh_attn_chunk_length": 8, "local_attn_chunk_length": 8, "num_buckets": 8,
        "num_hashes": 3, "axial_pos_embds": False, "max_position_embeddings": 64, "hidden_dropout_prob": 0.0,
        "lsh_attention_probs_dropout_prob": 0.0, "local_attention_probs_dropout_prob": 0.0, "pad_token_id": 0,
    }  # fmt: skip
    return ReformerConfig(**{**sizes, **changed})


def inputs(n: int, padding: int = 0) -> dict[str, Tensor]:
    mask = torch.ones(2, n, dtype=torch.long)
    mask[0, n - padding :] = 0
    ids = torch.randint(3, 60, (2, n), generator=torch.Generator().manual_seed(n))
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


VARIANTS: dict[str, dict[str, Any]] = {
    "encoder": {"attn_layers": ["lsh", "local"], "is_decoder": False},
    "decoder": {"attn_layers": ["local", "lsh"], "is_decoder": True},
    "one round, factored buckets, chunks to both sides": {
        "attn_layers": ["lsh", "local"], "is_decoder": False, "num_hashes": 1, "num_buckets": [2, 4],
        "lsh_num_chunks_after": 1, "local_num_chunks_after": 1,
    },
    "two chunks": {"attn_layers": ["lsh", "local"], "is_decoder": False, "lsh_attn_chunk_length": 24,
                   "local_attn_chunk_length": 24, "local_num_chunks_after": 1, "lsh_num_chunks_after": 1},
}  # fmt: skip


@pytest.mark.parametrize("padding", [0, 9])
@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_and_gradients_are_the_librarys(variant: str, padding: int) -> None:
    model = drawn(ReformerModel, config(**VARIANTS[variant]), 1, torch.float64).train()
    given = inputs(48, padding)
    real = given["attention_mask"] > 0
    own, names = run(model, given, real), list(model.state_dict())
    undo = use(model)
    ours = run(model, given, real)
    assert list(model.state_dict()) == names
    assert_equal(ours, own, output=1e-11, gradients=1e-10)
    undo()
    assert torch.equal(run(model, given, real).output, own.output)


@pytest.mark.parametrize("n", [5, 8, 37], ids=["a short text", "a chunk", "an odd length"])
def test_lengths_that_the_model_pads_or_does_not_chunk(n: int) -> None:
    model = drawn(ReformerModel, config(**VARIANTS["encoder"]), 2, torch.float64)
    given = inputs(n, n // 4)
    with torch.no_grad():
        own = model(**given).last_hidden_state
        use(model)
        ours = model(**given).last_hidden_state
    assert distance(ours * given["attention_mask"][..., None], own * given["attention_mask"][..., None]) <= 1e-11


def test_buckets_are_returned_and_taken() -> None:
    model = drawn(ReformerModel, config(attn_layers=["lsh"], hash_seed=None), 3, torch.float64)
    layer = model.encoder.layers[0].attention.self_attention
    hidden = torch.randn(2, 48, 32, dtype=torch.float64)
    torch.manual_seed(4)
    own = layer(hidden)
    use(model)
    torch.manual_seed(4)
    ours = layer(hidden)
    assert torch.equal(ours.buckets, own.buckets)
    again = layer(hidden, buckets=own.buckets)
    assert distance(again.hidden_states, own.hidden_states) <= 1e-11
    torch.manual_seed(5)
    assert distance(layer(hidden).hidden_states, own.hidden_states) > 1e-3


def test_generation_with_a_cache_is_the_librarys() -> None:
    made = config(attn_layers=["local", "lsh"], is_decoder=True, eos_token_id=None)
    model = drawn(ReformerModelWithLMHead, made, 6, torch.float64)
    prompt = inputs(12)["input_ids"]
    keywords = {"max_new_tokens": 8, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    own = model.generate(prompt, **keywords)
    use(model)
    ours = model.generate(prompt, **keywords)
    assert torch.equal(ours.sequences, own.sequences)
    for step, logits in enumerate(ours.logits):
        assert distance(logits, own.logits[step]) <= 1e-9


@pytest.mark.parametrize("layer", ["lsh", "local"])
def test_probabilities_are_dropped_in_training(layer: str) -> None:
    made = config(attn_layers=[layer], lsh_attention_probs_dropout_prob=0.5, local_attention_probs_dropout_prob=0.5)
    module = drawn(ReformerModel, made, 7).train().encoder.layers[0].attention.self_attention
    use(module)
    hidden = torch.randn(1, 48, 32)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(
            module(hidden, **({"buckets": torch.arange(4 * 3 * 48).view(1, 4, 3, 48)} if layer == "lsh" else {}))
        )
    assert torch.equal(found[0].hidden_states, found[1].hidden_states)
    assert distance(found[2].hidden_states, found[1].hidden_states) > 1e-2


# What transformers' own tests of Reformer feed to a layer, and what they expect of it: numbers made with Google's trax.
# Their `test_local_layer_forward_complex` reads a row that keeps no key: the mean of all values there, and 0 here.
FED = """
1.90826353 -1.45999730 -0.620405462 1.52503433 -0.364464232 -0.827359235 0.839670803 0.244492178
0.498332758 2.69175139 -0.00708081422 1.04915401 -1.83476661 0.767220476 0.298580543 0.0284803992
-0.0266374286 0.433497576 0.310386309 0.546039944 -0.000247292666 -0.752305019 0.239162103 0.725216186
-0.758357372 0.420635998 -0.0404739919 0.159924145 2.05135748 -1.15997978 0.537166397 0.262873606
0.185247482 0.707046037 -0.677089715 -2.24209655 -0.0375307980 -0.859380874 -2.81027884 1.01276376
-1.69438001 0.417574660 -1.49196962 -1.76483717 -0.194566312 -1.71183858 0.772903565 -1.11557056
0.946069193 0.153417623 -0.958686996 0.118126669 1.75967724 1.62194590 -0.574108159 0.679920443
0.544028163 0.205466114 -0.363045868 0.241865062 0.320348382 -0.905611176 -0.192690727 -1.19917547
"""
LAYERS: dict[str, tuple[dict[str, Any], bool, list[float]]] = {
    "lsh": ({"attn_layers": ["lsh"], "is_decoder": False}, False, [1.6879, -1.3083, -0.4708, 1.3555, -0.6292]),
    "lsh, complex": (
        {"attn_layers": ["lsh"], "num_buckets": [2, 4]}, True, [1.6439, -1.2306, -0.5108, 1.3006, -0.6537],
    ),
    "local": ({"attn_layers": ["local"], "is_decoder": False}, False, [1.4212, -2.0576, -0.9688, 1.4599, -0.1344]),
}  # fmt: skip


def as_in_their_tests(**changed: Any) -> ReformerConfig:
    sizes = {
        "vocab_size": 320, "attention_head_size": 8, "hidden_size": 16, "num_attention_heads": 2, "num_buckets": 2,
        "num_hashes": 4, "lsh_attn_chunk_length": 4, "local_attn_chunk_length": 4, "feed_forward_size": 32,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "lsh_attention_probs_dropout_prob": 0.0,
        "local_attention_probs_dropout_prob": 0.0, "max_position_embeddings": 32, "axial_norm_std": 1.0,
        "layer_norm_eps": 1e-12, "axial_pos_shape": [4, 8], "axial_pos_embds_dim": [8, 8], "hash_seed": 0,
        "is_decoder": True,
    }  # fmt: skip
    return ReformerConfig(**{**sizes, **changed})


@pytest.mark.parametrize("name", LAYERS)
def test_numbers_of_the_librarys_layer_tests(name: str) -> None:
    changed, masked, expected = LAYERS[name]
    fed = torch.tensor([float(number) for number in FED.split()]).view(1, 4, 16)
    torch.manual_seed(0)
    layer = ReformerLayer(as_in_their_tests(**changed, lsh_num_chunks_before=0, local_num_chunks_before=0)).eval()
    use(layer)
    given = {"attention_mask": torch.tensor([[0, 1, 0, 0]])} if masked else {}
    out = layer(prev_attn_output=fed.clone(), hidden_states=fed, **given).hidden_states
    torch.testing.assert_close(out[0, 0, :5], torch.tensor(expected), rtol=1e-3, atol=1e-3)


TOKENS = """
89 279 286 84 194 316 182 28 283 37 169 7 253 267 107 250 44 7 102 62 3 243 171 265 302 48 164 264 148 229 280 150
9 192 66 112 163 83 135 70 224 96 31 80 196 80 63 22 85 100 47 283 0 163 126 143 195 82 53 82 18 27 182 52
"""
KEPT = "10011000101010010110110011001111 00000111111010011110010101100010"
MODELS: dict[str, tuple[Any, dict[str, Any], tuple[int, int], list[float]]] = {
    "lsh": (
        ReformerModel, {"attn_layers": ["lsh"] * 4, "num_buckets": [2, 4]}, (0, 0),
        [-0.9896, -0.9396, -1.0831, -0.0597, 0.2456],
    ),
    "local": (ReformerModel, {"attn_layers": ["local"] * 4}, (0, 0), [-1.6791, 0.7171, 0.1594, 0.4063, 1.2584]),
    "both": (
        ReformerForMaskedLM, {"attn_layers": ["local", "lsh"] * 3, "num_buckets": [2, 4], "is_decoder": False},
        (1, -1), [0.1018, -0.2026, 0.2116, 0.0270, -0.1233],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_numbers_of_the_librarys_model_tests(name: str) -> None:
    make, changed, (row, token), expected = MODELS[name]
    tokens = torch.tensor([int(each) for each in TOKENS.split()]).view(2, 32)
    kept = torch.tensor([[int(each) for each in line] for line in KEPT.split()])
    torch.manual_seed(0)
    model = make(as_in_their_tests(**changed)).eval()
    use(model)
    out = model(input_ids=tokens, attention_mask=kept)[0]
    torch.testing.assert_close(out[row, token, :5], torch.tensor(expected), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("changed", "loss", "gradient"),
    [
        ({"attn_layers": ["local"] * 4}, 5.8019, [-0.0005, -0.0001, -0.0002, -0.0006, -0.0006]),
        (
            {"attn_layers": ["lsh"] * 4, "num_buckets": [2, 4], "num_hashes": 6},
            5.7854,
            [0.0004, 0.0003, 0.0006, -0.0004, 0.0002],
        ),
    ],
    ids=["local", "lsh"],
)
def test_numbers_of_the_librarys_gradient_tests(changed: dict[str, Any], loss: float, gradient: list[float]) -> None:
    tokens = torch.tensor([int(each) for each in TOKENS.split()]).view(2, 32)
    torch.manual_seed(0)
    model = ReformerModelWithLMHead(as_in_their_tests(**changed)).train()
    use(model)
    found = model(input_ids=tokens, labels=tokens)[0]
    torch.testing.assert_close(found.detach(), torch.tensor(loss), rtol=1e-3, atol=1e-3)
    found.backward()
    grad = model.reformer.embeddings.word_embeddings.weight.grad[0, :5]
    torch.testing.assert_close(grad, torch.tensor(gradient), rtol=1e-3, atol=1e-4)


def test_each_round_is_walked_in_its_own_order() -> None:
    """And the last chunk of the round before in that one's: 2 chunks of 64 keys for each of 4 rounds, and no more."""
    lsh = attnc.load("reformer").reformer(chunk=64, rounds=4, before=1)
    draw = torch.Generator().manual_seed(0)
    rank = torch.stack([torch.randperm(1024, generator=draw) for _ in range(2 * 4)]).view(2, 4, 1024)
    plan = lsh.plan(1024, heads=2, rank=rank)
    assert plan.area == 4 * 2 * 64
    q, k, v = (torch.randn(1, 2, 1024, 16, generator=draw, dtype=torch.float64, requires_grad=True) for _ in range(3))
    out, expected = lsh(q, k, v, rank=rank), lsh.reference(q, k, v, rank=rank)
    torch.testing.assert_close(out, expected)
    gradients = (torch.autograd.grad(x.sin().sum(), (q, k, v)) for x in (out, expected))
    for mine, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, wanted)
