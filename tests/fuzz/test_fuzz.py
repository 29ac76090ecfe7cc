"""Long runs of random programs: they print their seed, go on where they stopped, and keep what fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz import masks as fuzz_masks
from tests.support.generators.programs import Program, generate


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "FOLDER", tmp_path / ".fuzz")
    monkeypatch.setattr(fuzz, "SAVED_EVERY", 3)


def recording(failing: int | None = None) -> tuple[fuzz.Campaign, list[int]]:
    seen: list[int] = []

    def fault(program: Program) -> str | None:
        seen.append(program.seed)
        return "as planted" if program.seed == failing else None

    return fuzz.Campaign(8, generate, fault), seen


def test_a_run_goes_on_where_it_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    campaign, seen = recording()

    class LimitExceeded(Exception):  # noqa: N818 - stands for an interrupt
        pass

    def show(name: str, progress: fuzz.Progress) -> None:
        raise LimitExceeded

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fuzz, "_show", show)
        with pytest.raises(LimitExceeded):
            fuzz.run("masks", campaign, None, 70)
    assert fuzz.run("masks", campaign, None, None)
    assert seen == list(range(70, 78))
    assert "seed 70, 8 programs, 3 done before" in capsys.readouterr().out
    assert fuzz.run("masks", campaign, 10, None), "more of the same run"
    assert seen == list(range(70, 80))


def test_a_failure_stops_the_run_and_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    campaign, seen = recording(failing=75)
    assert not fuzz.run("masks", campaign, None, 70)
    assert seen == list(range(70, 76))
    told = capsys.readouterr().out
    assert "seed 75 fails" in told
    assert "as planted" in told
    assert "python -m tests.fuzz masks --seed 75 --count 1" in told
    kept = fuzz_masks.from_json((tmp_path / ".fuzz" / "masks-75.json").read_text())
    assert kept.text == generate(75).text
    assert json.loads((tmp_path / ".fuzz" / "masks.json").read_text())["done"] == 5
    assert not fuzz.run("masks", campaign, None, None), "it fails again until it is mended"


def test_what_a_program_raises_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    def fault(program: Program) -> str | None:
        raise ZeroDivisionError

    assert not fuzz.run("masks", fuzz.Campaign(3, generate, fault), None, 1)
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_a_fresh_run_draws_its_seed(capsys: pytest.CaptureFixture[str]) -> None:
    campaign, seen = recording()
    assert fuzz.run("masks", campaign, 2, None)
    assert f"seed {seen[0]}, 2 programs, 0 done before" in capsys.readouterr().out
    assert fuzz.run("masks", campaign, 2, None)
    assert seen[2] != seen[0]
