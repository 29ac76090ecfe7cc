"""Judges the audit over families: a dozen of the many that ``python -m tests.families --audit`` runs raise no alarm
but those that are known to be true.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import attnc

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what transformers warns of while it is imported is its own affair
    from tests.families import audit as command
    from tests.families.audit import IMPLEMENTATIONS, Outcome, examine, summary, true_alarms
    from tests.families.models import Family

CAUSAL_LM, MASKED_LM, SEQ2SEQ = "AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM"
# Each with what it has that the others have not.
FAMILIES = (
    Family("gemma3_text", CAUSAL_LM),  # windows and none
    Family("llama4_text", CAUSAL_LM),  # chunks
    Family("gpt_oss", CAUSAL_LM),  # the library drops packing
    Family("moshi", CAUSAL_LM),  # the library drops the window
    Family("inkling_text", CAUSAL_LM),  # layers that are a window and a convolution
    Family("codegen", CAUSAL_LM),  # outside the interface
    Family("bart", SEQ2SEQ),  # an encoder, a decoder, and attention between them
    Family("t5gemma2", SEQ2SEQ),  # a window that is not as long to both sides
    Family("qwen2_vl_text", "AutoModel"),  # positions of three axes
    Family("splinter", "AutoModel"),  # an encoder whose modules do not say so
    Family("modernbert", MASKED_LM),
    Family("clip_text_model", "AutoModel"),  # causal by the call alone
    Family("vit", "AutoModelForImageClassification"),
    Family("parakeet_ctc", "AutoModelForCTC"),  # sounds
)


@pytest.fixture(autouse=True)
def _quiet_and_without_builds() -> Iterator[None]:
    threads = torch.get_num_threads()
    with warnings.catch_warnings(), attnc.settings.override(backend="blocked"):
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_a_family_raises_no_alarm_that_is_not_true(family: Family) -> None:
    implementations = IMPLEMENTATIONS if family.model_type in ("gpt_oss", "clip_text_model") else ("own",)
    for implementation, outcome in examine(family, implementations, n=20).items():
        assert outcome.state == ""
        assert outcome.unknown == {}
        assert sum(outcome.layers.values()) >= 2
        assert set(outcome.alarms) == true_alarms(family.model_type, implementation), outcome.alarms


def test_results_are_kept_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "STATE", tmp_path / "audit.json")
    monkeypatch.setattr(command, "families", lambda: [Family("mpnet", MASKED_LM), Family("bert", MASKED_LM)])
    monkeypatch.setattr(command, "examine", lambda family: found)
    found = {name: Outcome(layers={"plain": 2}) for name in IMPLEMENTATIONS}
    assert command.run(["mpnet:"], again=False) == 0
    assert "own: 1 models audited (1 types), 2 layers and scenarios as declared, 0 not known" in capsys.readouterr().out
    found = {name: Outcome(alarms={"plain": ["layer 0"]}) for name in IMPLEMENTATIONS}
    assert command.run(["mpnet:"], again=False) == 0, "what is known is not tried again"
    assert command.run(["mpnet:"], again=True) == 1
    assert "mpnet:AutoModelForMaskedLM own plain: layer 0\n" in capsys.readouterr().out


def test_an_alarm_that_is_known_to_be_true_is_counted_apart() -> None:
    outcome = Outcome(alarms={"packed": ["layer 0"]}, unknown={"plain: X: y": 2})
    own, mine = summary({"gpt_oss:AutoModelForCausalLM": dict.fromkeys(IMPLEMENTATIONS, outcome)}).split("\nattnc")
    assert "1 scenarios with an alarm, 1 of them known to be true\n  not known: 2 of plain: X: y" in own
    assert "1 scenarios with an alarm, 0 of them known to be true" in mine, "attnc keeps documents apart"
