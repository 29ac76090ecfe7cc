"""A clone may lie anywhere: in a path with capitals, spaces and letters beyond ASCII; else `make` says so."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from attnc.cli import main

ROOT = Path(__file__).parents[2]
ODD = "Ünï Cödé/Clone 1"
NEEDED = ("Makefile", "constraints.txt", "pyproject.toml", "hatch_build.py", "tests/systems/originals.txt")
REACHED = "Python was asked"


def made(folder: Path) -> subprocess.CompletedProcess[str]:
    """How `make` begins to make an environment in a folder; its Python does nothing but tell that it was reached."""
    folder.mkdir(parents=True)
    for name in NEEDED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    python = folder.parent / "python"
    python.write_text(f"#!/bin/sh\necho '{REACHED}' >&2\nexit 1\n")
    python.chmod(0o755)
    environment = {"PATH": os.environ["PATH"]}
    command = ["make", "test", "PYTHON=../python"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", [ODD, "Clone", "it's (1) & #2 100%", "a*[b]"])
def test_an_environment_is_made_in_an_odd_place(name: str, tmp_path: Path) -> None:
    done = made(tmp_path / name / "attnc")
    assert REACHED in done.stderr, done.stderr
    assert "cannot work" not in done.stderr


@pytest.mark.parametrize(
    ("name", "character"),
    [("a:b", ":"), ("a$HOME b", "$"), ('a "b', '"'), ("a `b", "`"), ("a \\b", "\\"), ("a\nb", "a line break")],
)
def test_a_character_that_the_tools_cannot_take_is_named_at_once(name: str, character: str, tmp_path: Path) -> None:
    done = made(tmp_path / name / "attnc")
    assert done.returncode != 0
    assert f"the tools cannot work in a path with {character}: move the clone out of" in done.stderr
    assert REACHED not in done.stderr


def test_everything_that_is_written_may_lie_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text, the cache, what a build leaves for the compiler."""
    folder = tmp_path / ODD
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    for name in ("TMPDIR", "ATTNC_CACHE_DIR"):
        (folder / name).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(folder / name))
    monkeypatch.setattr("tempfile.tempdir", str(folder / "TMPDIR"))
    monkeypatch.setenv("ATTNC_BACKEND", "cpp")
    (folder / "Möre.attn").write_text("pattern near = abs(q - k) <= 41\n\ntest near at n = 2 { symmetric }\n")
    for arguments in (
        ["check", "Möre.attn"], ["fmt", "--check", "Möre.attn"], ["test", str(folder)],
        ["show", f"{folder}/Möre.attn:near"], ["run", "Möre.attn", "--n", "32", "--head-dim", "8"],
    ):  # fmt: skip
        assert main.run(arguments) == 0, capsys.readouterr().err
    assert "building included" in capsys.readouterr().out
