"""The command line around the compiler: standard input, settings, the cache, completion of a shell's words."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from attnc.cli import main
from attnc.cli.app import HOMES, commands
from attnc.cli.help import SHELLS
from attnc.cli.status import size
from attnc.compiler.pipeline import STAGES
from attnc.runtime.base import cache
from attnc.runtime.base.configuration import Settings

ROOT = Path(__file__).parents[2]
TEXT = """\
pattern local(size: int = 4) = window(size)
pattern other = causal

test local at n = 4 { row 0 == {0..2} }
"""


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    code = main.run(list(arguments))
    return code, *capsys.readouterr()


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))


def test_check_reads_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, TEXT)
    assert ended(capsys, "check", "-") == (0, "<stdin>: no faults\n", "")
    type_in(monkeypatch, "pattern p = windw(8)\n")
    code, out, err = ended(capsys, "check", "-")
    assert (code, out) == (1, "")
    assert "<stdin>:1:13" in err
    type_in(monkeypatch, "pattern p = windw(8)\n")
    code, out, err = ended(capsys, "check", "--format", "json", "-")
    assert (code, json.loads(out)[0]["file"], err) == (1, "<stdin>", "")


def test_standard_input_imports_from_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "near.attn").write_text("pattern near = window(2)\n")
    type_in(monkeypatch, "from near import near\npattern p = near and causal\n")
    assert ended(capsys, "check", "-")[0] == 0


def test_show_and_run_read_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, TEXT)
    code, out, err = ended(capsys, "show", "-:other", "--n", "2")
    assert (code, out.splitlines()[0], err) == (0, "█▄", "")
    type_in(monkeypatch, TEXT)
    code, out, err = ended(capsys, "show", "-")
    assert (code, out) == (1, "")
    assert "<stdin> declares local, other: say which, as -:local" in err
    monkeypatch.setenv("ATTNC_BACKEND", "blocked")  # builds nothing
    type_in(monkeypatch, TEXT)
    code, out, err = ended(capsys, "run", "-:local", "--n", "32", "--head-dim", "16")
    assert code == 0, err
    assert "right" in out


def test_test_reads_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").mkdir()  # a folder of that name is ./-
    type_in(monkeypatch, TEXT)
    code, out, err = ended(capsys, "test", "-")
    assert (code, err) == (0, "")
    assert out.splitlines() == ["1 passed, 0 failed, 0 undecided"]
    type_in(monkeypatch, "test causal at n = 2 { row 0 == {1} }\n")
    assert ended(capsys, "test", "-")[0] == 1


def test_settings_are_listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNC_OPTIMISATION", "1")
    code, out, err = ended(capsys, "settings")
    assert (code, err) == (0, "")
    for setting in Settings.fields():
        assert setting.name in out
        assert " ".join(setting.sentence.split()) in " ".join(out.split())
    assert ["optimisation", "ATTNC_OPTIMISATION", "1"] in [line.split() for line in out.splitlines()]
    rows = json.loads(ended(capsys, "settings", "--format", "json")[1])
    assert [row["setting"] for row in rows] == [setting.name for setting in Settings.fields()]
    assert {row["setting"]: row["value"] for row in rows}["optimisation"] == 1


def test_a_variable_that_cannot_be_read(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNC_CACHE", "perhaps")
    code, out, err = ended(capsys, "settings")
    assert (code, err) == (1, "")
    assert "cannot be read: ATTNC_CACHE is 'perhaps': expected 0 or 1" in out
    assert "optimisation" in out
    for command in (["cache"], ["run", "causal", "--n", "16"]):
        code, out, err = ended(capsys, *command)
        assert (code, out) == (1, "")
        assert "error: ATTNC_CACHE is 'perhaps'" in err


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "kept"
    monkeypatch.setenv("ATTNC_CACHE_DIR", str(folder))
    monkeypatch.setenv("ATTNC_CACHE", "1")
    return folder


def test_the_cache_is_told_and_cleared(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(capsys, "cache") == (0, f"location  {kept}\nentries   0\nsize      0 bytes\n", "")
    cache.get("0" * 64, lambda: b"x" * 5000)
    cache.get("1" * 64, lambda: b"x")
    (kept / "note").write_text("not ours")
    found = json.loads(ended(capsys, "cache", "--format", "json")[1])
    assert (found["location"], found["entries"]) == (str(kept), 2)
    assert found["bytes"] == sum(file.stat().st_size for file in kept.iterdir())
    code, out, err = ended(capsys, "cache", "--clear")
    assert (code, err) == (0, "removed 2 entries\n")
    assert "entries   0" in out
    assert [file.name for file in kept.iterdir()] == ["note"]


def test_a_cache_that_others_may_write_to(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept.mkdir()
    kept.chmod(0o777)
    for more in ([], ["--clear"]):
        code, out, err = ended(capsys, "cache", *more)
        assert (code, out) == (1, "")
        assert "others may write to it" in err


def test_a_cache_that_is_off_says_so(
    kept: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTNC_CACHE", "0")
    assert "The setting cache is off" in ended(capsys, "cache")[1]
    assert json.loads(ended(capsys, "cache", "--format", "json")[1])["used"] is False
    assert kept.exists() is False


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (1, "1 byte"), (1023, "1,023 bytes"), (1536, "1,536 bytes (1.5 KiB)"), (2**50, "1024.0 TiB")],
)
def test_sizes_for_people(count: int, words: str) -> None:
    assert words in size(count)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_can_read_its_completion(shell: str, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = ended(capfd, "completion", shell)
    assert code == 0
    assert f"_ATTNC_COMPLETE={shell}_complete" in out
    assert ended(capfd, "completion", "tcsh")[0] == 2


def completed(*words: str) -> list[str]:
    """What is offered for the last of some words, through the very protocol of bash's script."""
    environment = {
        "PYTHONPATH": str(ROOT), "_ATTNC_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["attnc", *words]), "COMP_CWORD": str(len(words)),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", "from attnc.cli.main import main; main()"],
        capture_output=True, text=True, env=environment, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_names_stages_errors_and_commands_are_completed() -> None:
    assert completed("show", "longf") == ["plain,longformer", "file,longf"]
    assert completed("compile", "causal", "--target", "sm") == ["plain,sm_80", "plain,sm_90"]
    assert completed("show", "causal", "--stage", "s") == [f"plain,{name}" for name in STAGES if name.startswith("s")]
    assert completed("explain", "unknown-na") == ["plain,unknown-name"]
    assert completed("set") == ["plain,settings"]


def test_every_command_has_its_module_and_every_such_module_its_commands() -> None:
    context = click.Context(commands)
    assert all(commands.get_command(context, name) is not None for name in HOMES)
    assert sorted(commands.commands) == commands.list_commands(context)
    texts = {path.stem: path.read_text() for path in (ROOT / "attnc" / "cli").glob("*.py")}
    assert {name for name, text in texts.items() if "@commands.command(" in text} == set(HOMES.values())


@pytest.mark.parametrize("arguments", [["settings"], ["cache"], ["completion", "zsh"]])
def test_they_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from attnc.cli import main as cli; code = cli.run(sys.argv[1:]);"
        "heavy = {'torch', 'triton', 'transformers', 'islpy'} & set(sys.modules);"
        "print(sorted(heavy), file=sys.stderr); sys.exit(code)"
    )
    environment = {"PYTHONPATH": str(ROOT), "ATTNC_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_a_file_by_its_bare_name_is_pointed_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner.attn").write_text("pattern inner = causal\n")
    code, out, err = ended(capsys, "show", "inner")
    assert (code, out) == (1, "")
    assert "inner is no shipped pattern: did you mean inner.attn?" in err
    assert "did you mean" not in ended(capsys, "show", "nowhere.near")[2]


@pytest.mark.parametrize(
    ("given", "told"),
    [("g=0", "expected a set, as `{0}`, but there is 0"), ("g=7", "expected a set, as `{7}`, but there is 7")],
)
def test_a_number_for_a_set_is_told_how_it_is_written(
    given: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = ended(capsys, "show", "longformer", "--n", "16", "--set", given)
    assert (code, out) == (1, "")
    assert told in err
