"""The audit at attention modules outside transformers' interface: sound ones are as declared, planted faults are found,
and what cannot be read is refused by name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import attnc
from attnc.cli import main

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what transformers warns of while it is imported is its own affair
    import transformers
    from transformers.models.falcon.modeling_falcon import FalconAttention
    from transformers.models.gpt_neo.modeling_gpt_neo import GPTNeoSelfAttention
    from transformers.models.roformer.modeling_roformer import RoFormerSelfAttention

    from attnc.integrations.transformers import use
    from attnc.integrations.transformers.audit import audit, read_masks, scenarios

N = 16
SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
ENCODER: dict[str, Any] = {**SIZES, "intermediate_size": 32, "max_position_embeddings": 64, "pad_token_id": 0}
BOTH: dict[str, Any] = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "vocab_size": 64, "pad_token_id": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet_and_without_builds() -> Iterator[None]:
    with warnings.catch_warnings(), attnc.settings.override(backend="blocked"):
        warnings.simplefilter("ignore")
        yield


def falcon(implementation: str = "sdpa", **more: Any) -> Any:
    config = transformers.FalconConfig(**SIZES, **more)
    return transformers.FalconForCausalLM._from_config(config, attn_implementation=implementation).eval()


def gpt_neo() -> Any:
    config = transformers.GPTNeoConfig(
        hidden_size=32, num_layers=2, num_heads=4, vocab_size=64, attention_types=[[["global", "local"], 1]],
        window_size=5, max_position_embeddings=64,
    )  # fmt: skip
    return transformers.GPTNeoForCausalLM(config).eval()


def mpt(**more: Any) -> Any:
    config = transformers.MptConfig(d_model=32, n_heads=4, n_layers=2, vocab_size=64, max_seq_len=64, **more)
    return transformers.MptForCausalLM(config).eval()


def bloom() -> Any:
    return transformers.BloomForCausalLM(
        transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=64)
    ).eval()


def longformer() -> Any:
    config = transformers.LongformerConfig(**ENCODER, attention_window=[4, 8])
    return transformers.LongformerModel(config).eval()


def big_bird() -> Any:
    config = transformers.BigBirdConfig(**ENCODER, block_size=2, num_random_blocks=1)
    return transformers.BigBirdModel(config).eval()


def led() -> Any:
    config = transformers.LEDConfig(
        **BOTH, attention_window=6, max_encoder_position_embeddings=64, max_decoder_position_embeddings=64
    )
    return transformers.LEDForConditionalGeneration(config).eval()


def roformer() -> Any:
    return transformers.RoFormerForCausalLM(transformers.RoFormerConfig(**ENCODER, is_decoder=True)).eval()


SOUND: dict[str, tuple[Callable[[], Any], int, set[str]]] = {
    "Falcon, rotary": (falcon, 6, {"k <= q"}),
    "Falcon, ALiBi in eager": (lambda: falcon("eager", alibi=True), 6, {"k <= q"}),
    "Falcon, groups": (lambda: falcon(new_decoder_architecture=True, num_kv_heads=2), 6, {"k <= q"}),
    "GPT-Neo": (gpt_neo, 10, {"k <= q", "0 <= q - k and q - k < 5"}),
    "MPT, bounded": (lambda: mpt(attn_config={"clip_qkv": 0.5}), 8, {"k <= q"}),
    "BLOOM": (bloom, 8, {"k <= q"}),
    "Longformer": (longformer, 4, {"abs(q - k) <= 2", "abs(q - k) <= 4"}),
    "RoFormer": (roformer, 8, {"k <= q"}),
    "LED": (led, 11, {"k <= q", "abs(q - k) <= 3", "true"}),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_model_is_read_at_its_modules(name: str) -> None:
    """Falcon drops packed documents, which is no fault of the reading; MPT and BLOOM are not told of them."""
    make, count, texts = SOUND[name]
    findings = [each for each in audit(make(), n=N) if not (name.startswith("Falcon") and each.scenario == "packed")]
    assert [str(each) for each in findings if each.difference is not None or each.unknown] == []
    agreeing = [each for each in findings if each.agrees]
    assert len(agreeing) == count + 2 * name.startswith("Falcon")
    assert {each.text for each in agreeing} == texts


def test_blocks_are_those_of_the_shipped_pattern() -> None:
    model = big_bird()
    findings = list(audit(model, n=N))
    assert [each.scenario for each in findings if each.agrees] == ["plain"] * 2 + ["left padding"] * 2
    (first, *_) = read_masks(model, scenarios(N)[0])
    assert first.mask[0, 0, 6].nonzero().flatten().tolist() == [0, 1, 4, 5, 6, 7, 8, 9, 14, 15]
    with pytest.raises(ValueError, match="n is 14, expected more than 14: the model would give up its blocks for good"):
        list(audit(model, n=14))


def test_documents_leak_in_a_packed_falcon() -> None:
    found = {(each.scenario, each.layer) for each in audit(falcon(), n=N) if each.difference is not None}
    assert found == {("packed", 0), ("packed", 1)}


@pytest.mark.parametrize("make", [falcon, gpt_neo, mpt, longformer])
def test_a_model_in_use_is_read_as_well(make: Callable[[], Any]) -> None:
    model = make()
    undo = use(model)
    findings = list(audit(model, n=N, only=scenarios(N)[:2]))
    assert len([each for each in findings if each.agrees]) == len(findings) == 4
    undo()


def test_a_model_in_use_under_another_pattern_is_told_from_its_configuration() -> None:
    model = gpt_neo()
    use(model, attnc.load("window").causal_window(size=3))
    found = {each.layer for each in audit(model, n=N, only=scenarios(N)[:1]) if each.difference is not None}
    assert found == {0, 1}


# Faults in modules that are read at their projections


def window_off_by_one(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    (_, local) = (module for module in model.modules() if isinstance(module, GPTNeoSelfAttention))
    i = torch.arange(local.bias.shape[-1])
    local.bias &= (i[:, None] - i < 4)[None, None]


def causality_lost(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    del model
    own = FalconAttention.forward

    def forward(self: Any, hidden: Tensor, attention_mask: Tensor | None, *given: Any, **named: Any) -> Any:
        self.is_causal = False
        mask = None if attention_mask is None else torch.ones_like(attention_mask)
        return own(self, hidden, *given, attention_mask=mask, **named)

    monkeypatch.setattr(FalconAttention, "forward", forward)


def padding_lost(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    del model
    own = RoFormerSelfAttention.forward

    def forward(self: Any, hidden: Tensor, attention_mask: Tensor, *given: Any, **named: Any) -> Any:
        return own(self, hidden, attention_mask[-1:].expand_as(attention_mask), *given, **named)

    monkeypatch.setattr(RoFormerSelfAttention, "forward", forward)


def a_key_dropped_in_a_step(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    attention = model.transformer.blocks[1].attn
    own = attention.forward

    def forward(hidden: Tensor, position_bias: Tensor, *given: Any, **named: Any) -> Any:
        mask = named["attention_mask"]
        if hidden.shape[1] == 1:
            keys = named["past_key_values"].get_seq_length() + 1
            mask = torch.zeros(1, 1, 1, keys if mask is None else mask.shape[-1], dtype=torch.bool)
            mask[..., 3] = True
        return own(hidden, position_bias, *given, **{**named, "attention_mask": mask})

    attention.forward = forward


FAULTS: dict[str, tuple[Callable[[], Any], Callable[[Any, pytest.MonkeyPatch], None], set[tuple[str, int]]]] = {
    "a window of GPT-Neo is one key short": (
        gpt_neo, window_off_by_one,
        {("plain", 1), ("left padding", 1), ("packed", 1), ("prefill and one token", 1)},
    ),
    "a Falcon is not causal": (
        falcon, causality_lost,
        {(s, layer) for s in ("plain", "left padding", "packed", "prefill and one token") for layer in (0, 1)},
    ),
    "a RoFormer sees padding": (roformer, padding_lost, {("left padding", 0), ("left padding", 1)}),
    "a layer of MPT drops a key in a step": (mpt, a_key_dropped_in_a_step, {("prefill and one token", 1)}),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, plant, where = FAULTS[name]
    model = make()
    plant(model, monkeypatch)
    found = {(each.scenario, each.layer) for each in audit(model, n=N) if each.difference is not None}
    assert found == where


# What cannot be told is said by name


def test_a_module_that_does_not_do_what_its_layout_says_is_refused_by_name() -> None:
    model = gpt_neo()
    attention = model.transformer.h[0].attn.attention
    own = attention._attn
    attention._attn = lambda q, k, v, mask: tuple(2 * x for x in own(q, k, v, mask))
    findings = list(audit(model, n=N, only=scenarios(N)[:1]))
    assert [(each.layer, each.unknown) for each in findings] == [(1, False), (None, True)]
    assert str(findings[1]) == (
        "plain: not read: GPTNeoSelfAttention: its rows are no means of the values that its projection gives it"
    )


def test_what_is_not_known_is_refused_by_the_name_of_its_class() -> None:
    config = transformers.ReformerConfig(
        hidden_size=32, attention_head_size=8, num_attention_heads=4, attn_layers=["local", "lsh"],
        axial_pos_embds=False, vocab_size=64, local_attn_chunk_length=4, lsh_attn_chunk_length=4, num_buckets=4,
        is_decoder=True, pad_token_id=0,
    )  # fmt: skip
    said = r"ReformerModel: its masks cannot be read: LSHSelfAttention: which keys a token sees depends on what the"
    with pytest.raises(ValueError, match=said):
        list(audit(transformers.ReformerModel(config).eval(), n=N))
    with pytest.raises(ValueError, match=r"masks cannot be read: no module that ran is named an attention$"):
        list(audit(transformers.MambaModel(transformers.MambaConfig(hidden_size=32, num_hidden_layers=1)), n=N))


def test_a_part_that_cannot_be_read_is_named_beside_the_layers_that_can() -> None:
    config = transformers.LongT5Config(
        d_model=32, d_kv=8, d_ff=32, num_layers=1, num_decoder_layers=1, num_heads=4, vocab_size=64, local_radius=3
    )
    findings = list(audit(transformers.LongT5Model(config).eval(), n=N, only=scenarios(N)[:1]))
    assert {each.module for each in findings if each.agrees} == {"LongT5Attention"}
    assert "not read: LongT5LocalAttention: its blocks of keys are padded" in str(findings[-1])


def test_a_layer_without_a_mask_is_named_and_no_fault() -> None:
    config = transformers.MiniMaxConfig(
        **SIZES, num_key_value_heads=2, intermediate_size=32, num_local_experts=2, num_experts_per_tok=1, head_dim=8,
        layer_types=["linear_attention", "full_attention"],
    )  # fmt: skip
    findings = list(audit(transformers.MiniMaxForCausalLM(config).eval(), n=N, only=scenarios(N)[:1]))
    assert [(each.module, each.agrees, each.unknown) for each in findings] == [
        ("MiniMaxAttention", True, False),
        ("MiniMaxLightningAttention: ", False, False),
    ]
    assert str(findings[1]).startswith("plain: not read: MiniMaxLightningAttention: it has no mask")


def test_pictures_are_given_by_the_caller() -> None:
    model = transformers.ViTModel(transformers.ViTConfig(**SIZES, intermediate_size=32, image_size=16, patch_size=4))
    with pytest.raises(ValueError, match="ViTModel: is called with pixel_values, expected a model of tokens"):
        list(audit(model, n=N))
    findings = list(audit(model, inputs={"pixel_values": torch.randn(2, 3, 16, 16)}))
    assert [(each.scenario, each.layer, each.text) for each in findings] == [("plain", 0, "true"), ("plain", 1, "true")]


FOLDERS: dict[str, tuple[Any, str]] = {
    "FalconForCausalLM": (transformers.FalconConfig(num_hidden_layers=1), "4 as declared, 1 different, 0 not known"),
    "BloomForCausalLM": (transformers.BloomConfig(n_layer=1), "4 as declared, 0 different, 0 not known"),
    "GPTJForCausalLM": (transformers.GPTJConfig(n_layer=1), "5 as declared, 0 different, 0 not known"),
    "LongformerModel": (transformers.LongformerConfig(num_hidden_layers=1), "2 as declared, 0 different, 0 not known"),
    "BigBirdModel": (transformers.BigBirdConfig(num_hidden_layers=1), "2 as declared, 0 different, 0 not known"),
    "GPTNeoForCausalLM": (
        transformers.GPTNeoConfig(num_layers=2, attention_types=[[["global", "local"], 1]]),
        "plain: layer 1 (GPTNeoSelfAttention): as declared: 0 <= q - k and q - k < 7",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_such_a_model_is_made_small(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, said = FOLDERS[name]
    config.architectures = [name]
    config.save_pretrained(tmp_path)
    assert main.run(["audit", str(tmp_path)]) == int("1 different" in said)
    assert said in capsys.readouterr().out
