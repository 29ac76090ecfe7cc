"""Every sample of the README does what the README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from attnc.cli import main
from tests.support import pages

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
SAMPLES = pages.samples(PAGE)


def of(language: str) -> list[pages.Sample]:
    return [sample for sample in SAMPLES if sample.language == language]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the README tells one to save."""
    pages.save(SAMPLES, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def test_every_sample_is_of_a_kind_that_is_tried() -> None:
    found = {sample.language for sample in SAMPLES}
    assert found == {"sh", "attn", "console", "python"}
    assert PAGE.count("```") == 2 * len(SAMPLES)


def test_the_readme_leads_with_the_two_commands() -> None:
    first = SAMPLES[0]
    assert first.language == "sh"
    assert [line.split("#")[0].split() for line in first.text.splitlines()] == [["make", "demo"], ["make", "test"]]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"demo", "test", "help", "lint", "fuzz", "bench", "clean"} <= set(targets)


def test_patterns_pass_their_own_tests(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [sample.file for sample in of("attn")]
    assert names
    assert all(names)
    assert main.run(["test", *names]) == 0, capsys.readouterr()
    assert "0 passed" not in capsys.readouterr().out.splitlines()[-1]


def test_commands_print_what_the_readme_shows(folder: Path) -> None:
    for sample in of("console"):
        for command, expected in pages.commands(sample.text):
            found, code = pages.run(command)
            assert code == 0, found
            assert found == expected, command


def test_python_runs(folder: Path) -> None:
    file = folder / "samples.py"
    file.write_text(pages.script(SAMPLES), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(file)], cwd=folder, capture_output=True, text=True, timeout=300,
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
