"""The command line as a user meets it: what it prints where, and how it ends."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from attnc.cli import main
from attnc.compiler.pipeline import STAGES
from attnc.runtime.backends import targets
from attnc.runtime.base.configuration import settings

ROOT = Path(__file__).parents[2]
LOCAL = """\
# A window, and tokens that see and are seen by all.
pattern local(g: tokens, size: int = 4) = window(size) or q in g or k in g
pattern other = causal

test local(g = {0}) at n = 8 { row 5 == {0, 3..7}  symmetric }
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local.attn").write_text(LOCAL)
    (tmp_path / "broken.attn").write_text("pattern p = windw(8)\npattern r = q - k\n")
    return tmp_path


class Ended:
    """How one command ended: exit code, stdout, stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        self.code = main.run(list(arguments))
        self.out, self.err = capsys.readouterr()


def test_check_says_nothing_but_that_a_file_is_good(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, "check", "local.attn")
    assert (ended.code, ended.out, ended.err) == (0, "local.attn: no faults\n", "")


def test_check_reports_every_fault_of_every_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, "check", "broken.attn", "local.attn", "broken.attn")
    assert ended.code == 1
    assert ended.out == "local.attn: no faults\n"
    assert ended.err.count("unknown-name") == 2
    assert ended.err.count("not-a-condition") == 2
    assert "broken.attn:1:13" in ended.err
    assert "did you mean `window`?" in ended.err


def test_check_for_editors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, "check", "--format", "json", "broken.attn", "local.attn")
    faults = json.loads(ended.out)
    assert (ended.code, ended.err, len(faults)) == (1, "", 2)
    first = faults[0]
    assert (first["slug"], first["line"], first["column"], first["end_line"]) == ("unknown-name", 1, 13, 1)
    assert first["file"].endswith("broken.attn")
    assert json.loads(Ended(capsys, "check", "--format", "json", "local.attn").out) == []


def test_a_missing_file_is_a_fault_of_the_input(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, "check", "nowhere.attn")
    assert ended.code == 1
    assert "nowhere.attn" in ended.err
    assert Ended(capsys, "show", "nowhere.attn").code == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show"], "Missing argument"),
        (["show", "causal", "--n", "0"], "--n"),
        (["show", "causal", "--stage", "nonsense"], "--stage"),
        (["show", "causal", "-o", "mask.gif"], "FILE.png, FILE.svg or FILE.html"),
        (["show", "causal", "-o", "mask.png", "--stage", "program"], "--stage mask"),
        (["show", "window", "--set", "size"], "NAME=VALUE"),
        (["nonsense"], "No such command"),
        (["check"], "Missing argument"),
    ],
)
def test_wrong_use_ends_with_2(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, *arguments)
    assert ended.code == 2
    assert ended.out == ""
    assert words in ended.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "longfromer"], "did you mean longformer?"),
        (["show", "longformer:longformr"], "did you mean longformer?"),
        (["show", "window", "--set", "sise=8"], "did you mean size?"),
        (["show", "window", "--set", "size=x"], "a number, a set or a list was expected"),
        (["show", "documents", "--n", "8", "--set", "doc=[1, 2]"], "expected 8"),
        (["show", "local.attn:another"], "declares no another"),
        (["run", "causal", "--n", "32", "--device", "nonsense"], "--device nonsense"),
    ],
)
def test_a_fault_in_the_input_ends_with_1(
    arguments: list[str], words: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = Ended(capsys, *arguments)
    assert ended.code == 1
    assert ended.out == ""
    assert words in ended.err
    assert "Traceback" not in ended.err


def test_what_is_proved_is_shown_with_the_schedule(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proved = "kernel 0, segment 0: proved for every length"
    for verify in (False, True):
        with settings.override(verify=verify):
            assert (proved in Ended(capsys, "show", "causal", "--stage", "schedule").out) == verify


def test_a_fault_of_ours_says_so_and_where(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr("attnc.compiler.pipeline.schedule", broken)
    ended = Ended(capsys, "show", "causal", "--stage", "schedule")
    assert ended.code == 3
    assert "bug in attnc, stage schedule" in ended.err
    assert "please report it" in ended.err
    assert "nobody thought of this" in ended.err


def test_show_draws_a_shipped_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, "show", "causal", "--n", "4")
    assert ended.code == 0
    assert ended.out.splitlines()[:2] == ["█▄  ", "███▄"]
    assert "10 pairs" in ended.out
    assert ended.err == ""


def test_show_says_what_it_made_up_on_stderr(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, "show", "local.attn:local", "--n", "8")
    assert "g: tokens was not given: {0}" in ended.err
    given = Ended(capsys, "show", "local.attn:local", "--n", "8", "--set", "g={0}")
    assert given.err == ""
    assert given.out == ended.out
    other = Ended(capsys, "show", "local.attn", "--n", "8", "--set", "g={7}", "--set", "size=2")
    assert other.code == 0
    assert other.out != ended.out


def test_show_reaches_the_prelude(capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, "show", "blocks", "--n", "4", "--set", "size=2")
    assert ended.out.splitlines()[:2] == ["██  ", "  ██"]


def test_show_reaches_layers_and_heads_of_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    narrow = Ended(capsys, "show", "longformer:longformer_base_4096", "--layer", "3", "--head", "0", "--n", "2048")
    assert narrow.code == 0, narrow.err
    assert "layer 3, head 0" in narrow.out
    assert Ended(capsys, "show", "longformer:longformer_base_4096", "--layer", "99").code == 2
    assert Ended(capsys, "show", "longformer:longformer_base_4096", "--head", "99").code == 2


@pytest.mark.parametrize("stage", list(STAGES))
def test_every_stage_can_be_shown(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, "show", "window", "--set", "size=8", "--stage", stage)
    assert ended.code == 0, ended.err
    assert len(ended.out) > 40


def test_the_schedule_names_the_tiles(capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, "show", "causal", "--n", "256", "--stage", "schedule")
    assert "rows natural   4 tiles of 64" in ended.out
    assert "tile t: [0, t - 1] full, t partial" in ended.out
    assert ended.out.endswith("6 full tiles, 4 partial; 160.0 keys for each query\n")


@pytest.mark.parametrize("target", targets())
def test_source_is_that_of_the_target(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, "show", "window", "--set", "size=8", "--stage", "source", "--target", target)
    assert ended.code == 0, ended.err
    assert ("#include" in ended.out) == (target == "cpu")
    assert ("triton" in ended.out) == (target != "cpu")


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_show_draws_into_a_file(ending: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, "show", "causal", "--n", "256", "-o", f"mask.{ending}")
    assert ended.code == 0, ended.err
    assert ended.out == ""
    if ending == "png":
        with Image.open("mask.png") as picture:
            assert min(picture.size) > 256
    else:
        assert (folder / "mask.svg").read_text().startswith("<svg")


def test_a_file_that_cannot_be_written_is_no_fault_of_ours(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, "show", "causal", "-o", "/proc/mask.png")
    assert ended.code == 1
    assert "Traceback" not in ended.err


def test_test_blocks_are_judged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(capsys, "test", "local.attn")
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "2 passed, 0 failed, 0 undecided")
    (folder / "wrong.attn").write_text('test causal at n = 2 { picture """\n#.\n#.\n""" }\n')
    ended = Ended(capsys, "test", "wrong.attn", "local.attn")
    assert (ended.code, ended.out.splitlines()[-1]) == (1, "2 passed, 1 failed, 0 undecided")
    assert "wrong.attn:3:1" in ended.out
    assert "##" in ended.out


def test_a_broken_file_among_tests_is_a_fault(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for files, passed in ((["broken.attn"], 0), (["local.attn", "broken.attn"], 2), (["broken.attn", "local.attn"], 2)):
        ended = Ended(capsys, "test", *files)
        assert (ended.code, ended.out.splitlines()[-1]) == (1, f"{passed} passed, 0 failed, 0 undecided, 1 with faults")
        assert "unknown-name" in ended.err


def test_long_tests_say_where_they_are(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnc.cli.progress.AFTER", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    quiet = Ended(capsys, "test", "local.attn")
    assert quiet.err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    ended = Ended(capsys, "test", "local.attn")
    assert ended.out == quiet.out
    shown = [line for line in re.split(r"\x1b\[[?\d;]*[a-zA-Z]|[\r\n]", ended.err) if line.strip()]
    assert len([line for line in shown if "local.attn: " in line]) >= 1
    assert all(len(line) < 80 for line in shown)
    assert "\x1b[2K" in ended.err[ended.err.rindex("local.attn: ") :], "and the line is taken away"


def test_only_what_is_proved_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "pattern squares = q * q <= k * k + n * n\ntest squares for all n { contains full }\n"
    (folder / "claim.attn").write_text(text)
    ended = Ended(capsys, "test", "claim.attn")
    assert (ended.code, ended.out.splitlines()[-1]) == (1, "0 passed, 0 failed, 1 undecided")
    assert "`--undecided pass`" in ended.err
    ended = Ended(capsys, "test", "claim.attn", "--undecided", "pass")
    assert (ended.code, ended.err) == (0, "")
    (folder / "claim.attn").write_text("test full for all n { causal }\n")
    assert Ended(capsys, "test", "claim.attn", "--undecided", "pass").code == 1


@pytest.mark.parametrize("more", [[], ["--backward"], ["--backward", "--dtype", "fp64", "--heads", "3"]])
def test_run_checks_and_measures(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "longformer", "--n", "300", "--set", "size=32", "--head-dim", "16", *more]
    ended = Ended(capsys, *arguments)
    assert ended.code == 0, ended.err
    assert "right" in ended.out
    assert "WRONG" not in ended.out
    assert ("backward" in ended.out) == ("--backward" in more)
    assert "GFLOP/s" in ended.out
    assert "checking against the reference" in ended.err
    assert "g: tokens was not given" in ended.err


def test_run_notices_a_wrong_result(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from attnc.measuring import measurement

    attend = measurement.attend
    monkeypatch.setattr(measurement, "attend", lambda *arguments: attend(*arguments) * 1.001)
    ended = Ended(capsys, "run", "causal", "--n", "64", "--head-dim", "16")
    assert ended.code == 3
    assert "WRONG" in ended.out
    assert "bug in attnc" in ended.err


def test_run_reaches_a_layer_of_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    ended = Ended(
        capsys, "run", "longformer:longformer_base_4096", "--layer", "1", "--n", "100", "--head-dim", "8", "--backward"
    )
    assert ended.code == 0, ended.err
    assert "layer 1" in ended.out


def test_names_without_colour_where_nobody_looks(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from attnc.cli.main import main; main()", "check", "broken.attn"],
        cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    assert done.stdout == ""


HEAVY = {"torch", "triton", "transformers", "islpy"}


def imported(arguments: list[str], folder: Path) -> set[str]:
    """What a process has imported that ran one command."""
    code = (
        "import sys; from attnc.cli import main as cli; code = cli.run(sys.argv[1:]);"
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "arguments",
    [["show", "local.attn:local"], ["show", "causal", "--stage", "schedule"], ["test", "local.attn"],
     ["show", "causal", "--stage", "source", "--target", "sm_90"], ["show", "causal", "-o", "mask.png"]],
)  # fmt: skip
def test_looking_imports_nothing_heavy(arguments: list[str], folder: Path) -> None:
    assert not imported(arguments, folder) & HEAVY


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["check", "local.attn"], ["check", "--format", "json", "local.attn"], ["fmt", "local.attn"],
     ["explain", "syntax"], ["completion", "bash"]],
)  # fmt: skip
def test_reading_a_text_takes_no_numbers(arguments: list[str], folder: Path) -> None:
    assert not imported(arguments, folder) & {*HEAVY, "numpy", "rich", "PIL"}


@pytest.mark.parametrize("arguments", [["--version"], ["explain", "syntax"], ["completion", "bash"]])
def test_what_reads_no_text_builds_no_parser(arguments: list[str], folder: Path) -> None:
    assert "lark" not in imported(arguments, folder)
