"""Judges whole models: twelve families of the many that `make families` checks, equal to eager attention."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import attnc

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what transformers warns of while it is imported is its own affair
    from transformers import CompileConfig

    from attnc.integrations import transformers as integration
    from attnc.integrations.transformers import attention_interface
    from tests.families import __main__ as command
    from tests.families.__main__ import Outcome as FamilyOutcome
    from tests.families.__main__ import goes_through, summary
    from tests.families.checks import CHECKS, DisagreementError, InapplicableError, Subject, subject
    from tests.families.models import Family

CAUSAL_LM, MASKED_LM = "AutoModelForCausalLM", "AutoModelForMaskedLM"
# Each with what it has that the others have not.
FAMILIES = {
    Family("mistral", CAUSAL_LM): "left inner packed checkpointing dynamic sliding static pattern_cache fullgraph",
    Family("gemma2", CAUSAL_LM): "plain left gradients sliding",  # softcap, layers with and without a window
    Family("gpt_oss", CAUSAL_LM): "plain packed gradients sliding pattern_cache",  # sinks; the library drops packing
    Family("llama4_text", CAUSAL_LM): "left packed sliding pattern_cache",  # chunks, which a sliding cache shifts
    Family("deepseek_v3", CAUSAL_LM): "plain gradients dynamic",  # values narrower than keys
    Family("hy_v4", CAUSAL_LM): "plain left static",  # keys chosen for each row, sinks
    Family("minimax_m3_vl_text", "AutoModel"): "plain right",  # blocks of keys chosen for each row
    Family("qwen3_next", CAUSAL_LM): "plain",  # most layers are no attention
    Family("t5", "AutoModelForSeq2SeqLM"): "plain left gradients",  # position bias, cross-attention
    Family("bert", MASKED_LM): "plain inner gradients",
    Family("modernbert", MASKED_LM): "plain left",  # windows to both sides
    Family("vit", "AutoModelForImageClassification"): "plain gradients",  # no mask at all
}


@pytest.fixture(autouse=True)
def _quiet_and_without_builds() -> Iterator[None]:
    """On the executor that builds nothing; the library's own warnings are its own affair."""
    threads = torch.get_num_threads()
    with warnings.catch_warnings(), attnc.settings.override(backend="blocked"):
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_a_family_agrees_with_eager_attention(family: Family) -> None:
    of = subject(family)
    assert goes_through(of)
    for check in FAMILIES[family].split():
        CHECKS[check](of)


@pytest.fixture(scope="module")
def mistral() -> Subject:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return subject(Family("mistral", CAUSAL_LM))


def test_a_pass_has_one_attention_and_the_same_tables_in_every_layer(
    mistral: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    made = attention_interface._of_pattern

    def noted(mask: object, *given: object) -> object:
        part = made(mask, *given)  # type: ignore[arg-type]
        seen.append((part.condition, *map(id, part.tables.values())))
        return part

    monkeypatch.setattr(attention_interface, "_of_pattern", noted)
    padding = torch.ones_like(mistral.given["input_ids"])
    padding[0, :5] = 0
    positions = torch.cat([torch.arange(8), torch.arange(11)])[None]
    for more in ({"attention_mask": padding}, {"position_ids": positions}):
        seen.clear()
        mistral.run("attnc", lambda more=more: mistral.model(**mistral.given, **more))
        assert len(seen) == 2
        assert len(set(seen)) == 1
        assert len(seen[0]) > 1, "it has tables"


def test_generation_compiles_into_one_graph_for_each_token() -> None:
    """With a static cache the library prepares the masks outside of the compiled call, and hands them in."""
    of = subject(Family("gemma2", CAUSAL_LM))
    tokens = of.given["input_ids"][:, :9]
    padding = torch.ones_like(tokens)
    padding[0, :3] = 0
    compiled = CompileConfig(backend="eager", fullgraph=True, mode=None)
    compiled._compile_all_devices = True

    def run(**more: object) -> torch.Tensor:
        result = of.model.generate(
            tokens, attention_mask=padding, max_new_tokens=7, min_new_tokens=7, do_sample=False, output_logits=True,
            return_dict_in_generate=True, cache_implementation="static", **more,
        )  # fmt: skip
        return torch.stack(result.logits)

    torch.compiler.reset()
    graphs = torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    mine = of.run("attnc", lambda: run(compile_config=compiled))
    made = graphs["unique_graphs"] - before
    torch.compiler.reset()
    torch.testing.assert_close(mine, of.run("eager", lambda: run(disable_compile=True)), rtol=1e-4, atol=1e-4)
    assert 1 <= made <= 2


@pytest.mark.parametrize("fault", ["mask", "padding", "scale"])
def test_a_fault_would_be_found(mistral: Subject, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks notice a causal mask that is off by one, padding that is seen, and a scale that is dropped."""
    made = attention_interface.attention_text
    if fault == "scale":
        forward = attention_interface.attention_of

        def without_scale(text: str) -> object:
            return lambda *given, scale, **named: forward(text)(*given, **named, scale=1.1 * scale)

        monkeypatch.setattr(attention_interface, "attention_of", without_scale)
    else:
        old, new = ("causal_window(7)", "causal_window(8)") if fault == "mask" else ("first <= k", "first <= k + 1")
        monkeypatch.setattr(
            attention_interface, "attention_text", lambda condition, *rest: made(condition.replace(old, new), *rest)
        )
    with pytest.raises(DisagreementError):
        CHECKS["left"](mistral)


def test_what_does_not_apply_is_told_apart_and_counted(mistral: Subject) -> None:
    with pytest.raises(InapplicableError, match="no decoder of tokens"):
        CHECKS["packed"](Subject(Family("vit", "AutoModelForImageClassification"), mistral.model, {}))
    said = summary(
        {
            "a:X": FamilyOutcome("", {"plain": "ok", "left": "– none"}),
            "b:X": FamilyOutcome("", {"plain": "DisagreementError: far"}),
            "c:X": FamilyOutcome("does not build: no"),
        }
    )
    assert said.startswith(
        "3 pairs of a model type and an auto class; 2 build from a tiny configuration; 2 go through the attention "
        "interface (2 types); 1 agree in every check that applies (1 types)"
    )


def test_the_command_goes_on_where_it_was_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "STATE", tmp_path / "state.json")
    tried = []

    def plain(of: Subject) -> None:
        tried.append(str(of.family))
        if of.family.model_type == "eurobert":
            raise DisagreementError("too far")

    monkeypatch.setattr(command, "CHECKS", {"plain": plain, "left": lambda of: None})
    names = ["vit:AutoModelForImage", "distilbert:AutoModelForM"]
    assert command.main([*names, "--checks", "plain"]) == 0
    assert command.main(names) == 0
    assert tried == ["distilbert:AutoModelForMaskedLM", "vit:AutoModelForImageClassification"], "each once"
    capsys.readouterr()
    assert command.main(["eurobert:AutoModelForM"]) == 1
    said = capsys.readouterr().out
    assert "eurobert:AutoModelForMaskedLM plain: DisagreementError: too far\n" in said
    assert "\n  plain            2 agree,   1 do not,   0 not applicable\n" in said


def test_warnings_are_given_anew_when_they_are_forgotten(mistral: Subject) -> None:
    positions = torch.cat([torch.arange(8), torch.arange(11)])[None]
    for _ in range(2):
        integration.forget_warnings()
        with pytest.warns(UserWarning, match="several packed documents"):
            mistral.run("attnc", lambda: mistral.model(**mistral.given, position_ids=positions))
