"""Every sample of the README does what the README says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from attnc import cli

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


@dataclass(frozen=True)
class Sample:
    """One fenced block: its language, the file that it is to be saved as, its text."""

    language: str
    file: str
    text: str


def samples() -> list[Sample]:
    fences = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [Sample(*parts) for parts in fences]


def of(language: str) -> list[Sample]:
    return [sample for sample in samples() if sample.language == language]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the README tells one to save."""
    for sample in samples():
        if sample.file:
            (tmp_path / sample.file).write_text(sample.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def test_every_sample_is_of_a_kind_that_is_tried() -> None:
    found = {sample.language for sample in samples()}
    assert found == {"sh", "attn", "console", "python"}
    assert README.read_text(encoding="utf-8").count("```") == 2 * len(samples())


def test_the_readme_leads_with_the_two_commands() -> None:
    first = samples()[0]
    assert first.language == "sh"
    assert [line.split("#")[0].split() for line in first.text.splitlines()] == [["make", "demo"], ["make", "test"]]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"demo", "test", "help", "lint", "fuzz", "bench", "clean"} <= set(targets)


def test_patterns_pass_their_own_tests(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [sample.file for sample in of("attn")]
    assert names
    assert all(names)
    assert cli.run(["test", *names]) == 0, capsys.readouterr()
    assert "0 passed" not in capsys.readouterr().out.splitlines()[-1]


def test_commands_print_what_the_readme_shows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for sample in of("console"):
        for part in re.split(r"^\$ ", sample.text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            name, *arguments = shlex.split(command)
            assert name == "attnc"
            assert cli.run(arguments) == 0, capsys.readouterr().err
            found = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
            assert found == expected.strip("\n"), command


def test_python_runs(folder: Path) -> None:
    script = folder / "samples.py"
    script.write_text("\n".join(sample.text for sample in of("python")), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], cwd=folder, capture_output=True, text=True, timeout=300,
        env={"PYTHONPATH": str(ROOT), **_environment()},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def _environment() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
