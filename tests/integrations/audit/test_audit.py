"""The audit of models: no false alarm on sound ones, and each of a dozen planted faults is found where it is."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnc
from attnc.cli import main

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what transformers warns of while it is imported is its own affair
    from transformers import (
        AttentionInterface,
        AttentionMaskInterface,
        AutoModelForCausalLM,
        BertConfig,
        BertModel,
        Gemma3TextConfig,
        GPT2Config,
        GptOssConfig,
        Llama4TextConfig,
        MistralConfig,
        ModernBertConfig,
        ModernBertModel,
    )
    from transformers.masking_utils import eager_mask, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from attnc.integrations.transformers.audit import audit, model_of, read_masks, scenarios

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64,
    "pad_token_id": 0,
}  # fmt: skip
GROUPED: dict[str, Any] = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}
N = 16


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def mistral(implementation: str = "sdpa", window: int = 5) -> Any:
    return AutoModelForCausalLM.from_config(
        MistralConfig(**GROUPED, sliding_window=window), attn_implementation=implementation
    ).eval()


SOUND: dict[str, Callable[[], Any]] = {
    "Mistral, eager": lambda: mistral("eager"),
    "Mistral, sdpa": mistral,
    "Gemma 3": lambda: AutoModelForCausalLM.from_config(
        Gemma3TextConfig(**{**GROUPED, "num_hidden_layers": 6}, sliding_window=5)
    ),
    "Llama 4": lambda: AutoModelForCausalLM.from_config(
        Llama4TextConfig(**{**GROUPED, "num_hidden_layers": 4}, attention_chunk_size=5, num_local_experts=1)
    ),
    "GPT 2": lambda: AutoModelForCausalLM.from_config(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=64)),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_model_has_no_fault(name: str) -> None:
    findings = list(audit(SOUND[name](), n=N))
    assert {finding.scenario for finding in findings} == {each.name for each in scenarios(N)}
    assert [str(finding) for finding in findings if finding.difference is not None or finding.unknown] == []


@pytest.mark.parametrize(
    "model",
    [lambda: BertModel(BertConfig(**SIZES)), lambda: ModernBertModel(ModernBertConfig(**SIZES, local_attention=6))],
    ids=["BERT", "ModernBERT"],
)
def test_an_encoder_has_none_either(model: Callable[[], Any]) -> None:
    """It packs nothing and has no cache."""
    findings = list(audit(model(), n=N))
    assert {finding.scenario for finding in findings} == {"plain", "left padding"}
    assert [str(finding) for finding in findings if finding.difference is not None or finding.unknown] == []


def test_it_finds_by_itself_that_documents_leak_in_a_packed_gpt_oss() -> None:
    config = GptOssConfig(**GROUPED, sliding_window=5, num_local_experts=2, num_experts_per_tok=1)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    found = {(each.scenario, each.layer): each.difference for each in audit(model, n=N)}
    assert {place for place, difference in found.items() if difference is not None} == {("packed", 0), ("packed", 1)}
    first = found["packed", 1]
    assert first is not None
    assert (first.q, first.k) == (N // 3, 0), "the first token of the second document sees the first document"
    assert "+" * (N // 3) in "\n".join(first.pictures)


# Faults of the kinds that were reported of training and serving engines: what a wrong integration does to a mask.


def keep(change: Callable[[Tensor, int, int], Tensor]) -> Callable[..., Any]:
    """An implementation of attention that changes the bool mask ``[batch, heads, m, keys]`` of sdpa before it runs."""

    def attend(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **given: Any) -> Any:
        m, keys = q.shape[2], k.shape[2]
        whole = torch.ones(m, keys, dtype=torch.bool).tril(keys - m) if mask is None else mask[..., :keys]
        changed = change(whole.expand(q.shape[0], 1, m, keys).clone(), m, keys)
        given["is_causal"] = False
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, q, k, v, changed, **given)

    return attend


def distance(m: int, keys: int) -> Tensor:
    return torch.arange(keys - m, keys)[:, None] - torch.arange(keys)


def only_prefill(change: Callable[[Tensor, int, int], Tensor]) -> Callable[[Tensor, int, int], Tensor]:
    return lambda mask, m, keys: change(mask, m, keys) if m > 1 else mask


FAULTS: dict[str, tuple[Callable[[Tensor, int, int], Tensor], set[str]]] = {
    "a window of one key less": (
        lambda mask, m, keys: mask & (distance(m, keys) < 4),
        {"plain", "prefill and one token"},
    ),
    "a window of one key more": (
        lambda mask, m, keys: mask | (distance(m, keys) == 5),
        {"plain", "packed", "prefill and one token"},
    ),
    "a window that is dropped": (
        lambda mask, m, keys: mask | (distance(m, keys) >= 5),
        {"plain", "left padding", "packed", "prefill and one token"},
    ),
    "causality lost": (lambda mask, m, keys: mask | (distance(m, keys) == -1), {"plain", "packed"}),
    "everything kept": (lambda mask, m, keys: torch.ones_like(mask), {"plain", "left padding", "packed"}),
    "a row does not see itself": (lambda mask, m, keys: mask & (distance(m, keys) != 0), {"plain"}),
    "the first key is lost": (
        lambda mask, m, keys: mask & (torch.arange(keys) > 0) if m > 1 else mask,
        {"plain", "prefill and one token"},
    ),
    "a sink that was not asked for": (
        lambda mask, m, keys: mask | ((torch.arange(keys) == 0) & (distance(m, keys) >= 0)),
        {"plain", "packed"},
    ),
    "a step of decoding that sees one key less": (
        lambda mask, m, keys: mask & (torch.arange(keys) != keys - 2) if m == 1 else mask,
        {"prefill and one token"},
    ),
    "one head masks otherwise": (
        lambda mask, m, keys: torch.cat([mask.expand(-1, 3, -1, -1), mask & (distance(m, keys) < 2)], 1),
        {"plain", "left padding", "packed", "prefill and one token"},
    ),
    "only the second entry of a batch": (
        lambda mask, m, keys: mask & ((torch.arange(len(mask)) < 1)[:, None, None, None] | (distance(m, keys) < 2)),
        {"left padding"},
    ),
    "the mask is shifted by a row": (only_prefill(lambda mask, m, keys: mask.roll(1, 2)), {"plain", "packed"}),
}


@contextmanager
def registered(attend: Callable[..., Any], mask: Callable[..., Any] = sdpa_mask) -> Iterator[str]:
    AttentionInterface.register("planted", attend)
    AttentionMaskInterface.register("planted", mask)
    yield "planted"


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str) -> None:
    change, where = FAULTS[name]
    with registered(keep(change)) as implementation:
        findings = list(audit(mistral(implementation), n=N))
    found = {each.scenario for each in findings if each.difference is not None}
    assert where <= found
    assert {each.layer for each in findings if each.difference is not None} == {0, 1}
    (first, *_) = (each.difference for each in findings if each.difference is not None)
    assert first is not None
    assert first.pairs > 0
    assert "differs" in "\n".join(first.pictures)


def test_lost_documents_and_lost_padding_are_found() -> None:
    """By a mask function that was given neither."""

    def without(*args: Any, **given: Any) -> Any:
        from transformers.masking_utils import causal_mask_function

        given["mask_function"], given["attention_mask"] = causal_mask_function, None
        return eager_mask(*args, **given)

    with registered(ALL_ATTENTION_FUNCTIONS["sdpa"], without) as implementation:
        findings = list(audit(mistral(implementation, window=64), n=N))
    assert {each.scenario for each in findings if each.difference is not None} == {"left padding", "packed"}


def test_masks_are_read_and_the_model_left_as_it_was() -> None:
    model = mistral().train()
    (masks, *_) = (read_masks(model, scenario) for scenario in scenarios(N))
    assert [(each.layer, each.q_start, tuple(each.mask.shape)) for each in masks] == [
        (0, 0, (1, 4, N, N)),
        (1, 0, (1, 4, N, N)),
    ]
    assert model.training
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(masks[0].mask[0, 0], attnc.load("window").causal_window(size=5).mask(N)[0])


def test_positions_begin_again_with_each_document() -> None:
    packed = next(each for each in scenarios(12) if each.is_packed)
    assert packed.documents.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 2, 3, 4, 0, 1, 2]]
    assert packed.begins.tolist() == [[0, 0, 0, 0, 4, 4, 4, 4, 4, 9, 9, 9]]


# The command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    config = MistralConfig(sliding_window=4096, num_hidden_layers=2, architectures=["MistralForCausalLM"])
    config.save_pretrained(str(tmp_path / "mistral"))
    (tmp_path / "layers.attn").write_text(
        "pattern local(doc: int[token]) = causal_window(7) and doc[q] == doc[k]\npattern other = causal_window(8)\n"
    )
    (tmp_path / "audited_functions.py").write_text(
        "import torch\n"
        "from torch.nn.functional import scaled_dot_product_attention as attend\n"
        "def window(q, k, v):\n"
        "    i = torch.arange(q.shape[2])\n"
        "    return attend(q, k, v, attn_mask=(i[:, None] - i >= 0) & (i[:, None] - i < 7))\n"
        "def nothing(q, k, v):\n    return None\n"
        "def model():\n"
        "    from transformers import AutoModelForCausalLM, MistralConfig\n"
        f"    return AutoModelForCausalLM.from_config(MistralConfig(**{GROUPED!r}, sliding_window=7))\n"
    )
    BertConfig(**SIZES, architectures=["BertModel"]).save_pretrained(str(tmp_path / "bert"))
    for name, text in (("garbage", "no json"), ("odd", '{"model_type": "mistral", "architectures": ["logging", 3]}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    (tmp_path / "uneven").mkdir()
    (tmp_path / "uneven" / "config.json").write_text('{"model_type": "mistral", "num_key_value_heads": 3}')
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["mistral"], 0, "10 as declared, 0 different, 0 not known"),
        (["mistral", "--against", "layers.attn:local"], 0, "10 as declared"),
        (["mistral", "--against", "layers.attn:other"], 1, "pairs are not as declared by `0 <= q - k and q - k < 8`"),
        (["audited_functions:window", "--against", "layers.attn:local"], 0, "1 as declared"),
        (["audited_functions:window", "--against", "window:causal_window", "--set", "size=6"], 1, "1 different"),
        (["audited_functions:model"], 0, "10 as declared"),
        (["audited_functions:window"], 2, "audited_functions:window is a function: --against NAME says what it should"),
        (["audited_functions:nothing", "--against", "causal"], 1, "attend: returned NoneType"),
        (["audited_functions:absent"], 1, "has no attribute 'absent'; expected module:function, or a folder"),
        (["bert"], 0, "4 as declared, 0 different"),
        (["garbage"], 1, "transformers makes no model of it"),
        (["odd", "--against", "causal"], 1, "pairs are not as declared"),
        (["uneven"], 1, "does not run on tokens (plain)"),
        (["absent"], 1, "no such file, expected a folder with a config.json"),
        (["mistral", "--set", "size=4"], 2, "--set gives parameters of the text that --against names"),
    ],
)
def test_the_command(
    arguments: list[str], code: int, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["audit", *arguments, "--n", "16"]) == code
    ended = capsys.readouterr()
    assert said in ended.out + ended.err
    assert "Traceback" not in ended.err


def test_a_small_model_keeps_its_kinds_of_layers(tmp_path: Path) -> None:
    Gemma3TextConfig(num_hidden_layers=26, architectures=["Gemma3ForCausalLM"]).save_pretrained(str(tmp_path))
    model = model_of(tmp_path)
    declared = json.loads((tmp_path / "config.json").read_text())["layer_types"]
    assert model.config.layer_types == declared[: len(model.config.layer_types)]
    assert set(model.config.layer_types) == {"full_attention", "sliding_attention"}
    assert model.config.sliding_window == 7
    assert sum(parameter.numel() for parameter in model.parameters()) < 200_000
