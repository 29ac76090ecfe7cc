"""What reaches a terminal: nothing from outside acts on it, and colours only where they are wanted."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnc.cli import main
from attnc.compiler.diagnostics.diagnostic import Diagnostic, Label, Source, Span, render, with_places
from attnc.compiler.diagnostics.terminal_text import visible, visible_line

ROOT = Path(__file__).parents[2]
# A title, a cleared line, a line break, an override of direction, a lone surrogate (a byte that is no UTF-8).
EVIL = "e\x1b]0;pwn\x07v\x9b2Ji\r\nl\u202e\u2066\u2028\udcff\x7f"
HARMFUL = {"Cc", "Cf", "Cs", "Zl", "Zp"}
GOOD, BAD = "pattern p = causal", "pattern p = windw(8) "
CLAIM = "test causal at n = 2 { row 0 == {1} }"
HOSTILE_COMMENT = " # \x1b]0;pwn\x07 \u202e\n"


def harmful(text: str) -> list[str]:
    """The characters that act on a terminal, line breaks aside."""
    return [character for character in text if character != "\n" and unicodedata.category(character) in HARMFUL]


@given(st.text(st.characters(exclude_categories=[])))
def test_nothing_that_acts_is_left_and_nothing_else_changes(text: str) -> None:
    assert not harmful(visible(text).replace("\t", ""))
    assert not harmful(visible_line(text))
    assert "\n" not in visible_line(text)
    plain = "".join(character for character in text if unicodedata.category(character) not in HARMFUL)
    assert visible(plain) == visible_line(plain) == plain
    assert visible(visible(text)) == visible(text)


def test_what_is_shown_instead_says_what_it_was() -> None:
    assert visible_line(EVIL) == r"e\x1b]0;pwn\x07v\x9b2Ji\r\nl\u202e\u2066\u2028\udcff\x7f"
    assert visible("Ünï Cödé\n\t漢字 ≤") == "Ünï Cödé\n\t漢字 ≤"


def test_every_part_of_a_fault_is_neutralised() -> None:
    source = Source(EVIL, f"one {EVIL} two")
    label = Label(Span(source, 4, 6), EVIL)
    rendered = render(Diagnostic("syntax", EVIL, label, (label,), (EVIL,), (EVIL,)))
    assert not harmful(rendered)
    assert rendered.count("\\x1b]0;pwn") == 6  # message, name, two labels, note, help; the excerpt has a sign for each
    assert not harmful(with_places(EVIL, label))


# The commands


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in (("good", GOOD), ("bad", BAD), ("claim", CLAIM)):
        (tmp_path / f"{EVIL}{name}.attn").write_text(text + HOSTILE_COMMENT, encoding="utf-8")
    (tmp_path / f"{EVIL}for_all.attn").write_text(
        f"pattern odd = q * q <= k * k + n * n\ntest odd for all n {{ contains full }}{HOSTILE_COMMENT}"
        f"test causal at n = 2 {{ row 0 =={HOSTILE_COMMENT} {{1}} }}",
        encoding="utf-8",
    )
    (tmp_path / f"{EVIL}cut.attn").write_text(f"pattern p = q <{HOSTILE_COMMENT}", encoding="utf-8")
    (tmp_path / f"d{EVIL}").mkdir()
    return tmp_path


COMMANDS: list[tuple[int, list[str]]] = [
    (0, ["check", f"{EVIL}good.attn"]),
    (1, ["check", f"{EVIL}bad.attn"]),
    (1, ["check", f"{EVIL}none.attn"]),
    (1, ["check", "--format", "json", f"{EVIL}bad.attn"]),
    (1, ["fmt", "--check", f"{EVIL}good.attn", f"{EVIL}claim.attn"]),
    (1, ["fmt", f"{EVIL}good.attn", f"{EVIL}cut.attn"]),
    (1, ["fmt", f"d{EVIL}"]),
    (0, ["show", f"{EVIL}good.attn", "--n", "4"]),
    (0, ["show", f"{EVIL}good.attn", "--stage", "tree"]),
    (0, ["show", f"{EVIL}good.attn", "--stage", "source"]),
    (0, ["show", f"{EVIL}good.attn", "--n", "4", "-o", f"{EVIL}.svg"]),
    (2, ["show", f"{EVIL}good.attn", "-o", f"{EVIL}/{EVIL}.svg"]),
    (2, ["show", f"{EVIL}good.attn", "-o", f"mask.{EVIL}"]),
    (1, ["show", f"{EVIL}bad.attn"]),
    (1, ["show", f"{EVIL}none.attn"]),
    (1, ["show", f"{EVIL}good.attn:{EVIL}"]),
    (1, ["show", f"{EVIL}for_all.attn:p"]),
    (1, ["show", EVIL]),
    (2, ["show", "causal", "--stage", EVIL]),
    (2, ["show", "window", "--set", EVIL]),
    (1, ["show", "window", "--set", f"size={EVIL}"]),
    (1, ["show", "window", "--set", f"size=8{EVIL}"]),
    (1, ["run", f"{EVIL}bad.attn"]),
    (1, ["run", "causal", "--n", "8", "--device", EVIL]),
    (1, ["explain", EVIL]),
    (1, ["test", f"{EVIL}claim.attn"]),
    (1, ["test", "."]),
    (1, ["test", f"d{EVIL}"]),
    (2, ["test", f"{EVIL}none.attn"]),
    (2, ["completion", EVIL]),
    (2, [EVIL]),
    (2, ["check", f"--{EVIL}"]),
]


@pytest.mark.parametrize(("code", "arguments"), COMMANDS)
def test_no_command_hands_on_what_acts(
    code: int, arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(arguments) == code
    out, err = capsys.readouterr()
    assert out + err
    assert not harmful(out + err), out + err
    assert "Traceback" not in err


def test_names_stay_on_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forged = "a\nall.attn: no faults\nb.attn"
    (folder / forged).write_text(GOOD)
    for arguments, lines in ((["check", forged], 1), (["show", forged + ":q"], 1), (["show", "none" + forged], 1)):
        main.run(arguments)
        assert len("".join(capsys.readouterr()).splitlines()) == lines


def test_values_of_variables_are_neutralised(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ATTNC_CXX", "\x1b]0;pwn\x07\n"), ("ATTNC_CACHE_DIR", f"{folder}/\x1b[2J\u202e")):
        monkeypatch.setenv(name, value)
    for command in (["settings"], ["settings", "--format", "json"], ["cache"], ["cache", "--clear"]):
        assert main.run(command) == 0
        assert not harmful("".join(capsys.readouterr()))
    monkeypatch.setenv("ATTNC_CACHE", "\x1b]0;pwn\x07")
    assert main.run(["settings"]) == main.run(["cache"]) == 1
    assert not harmful("".join(capsys.readouterr()))


def test_a_warning_is_a_line_and_neutralised(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr("attnc.cli.help.listed", lambda: warnings.warn(EVIL, RuntimeWarning, stacklevel=1) or "")
        assert main.run(["explain"]) == 0
    err = capsys.readouterr().err
    assert err.startswith(r"warning: e\x1b]0;pwn\x07v\x9b2Ji\r")
    assert not harmful(err)


def test_json_still_holds_what_there_was(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main.run(["check", "--format", "json", f"{EVIL}bad.attn"])
    assert json.loads(capsys.readouterr().out)[0]["file"] == f"{EVIL}bad.attn"


def test_a_text_is_laid_out_byte_for_byte_into_a_pipe_alone(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"{GOOD} {HOSTILE_COMMENT}".encode()
    seen = []
    for terminal in (False, True):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))
        monkeypatch.setattr(sys.stdout, "isatty", lambda answer=terminal: answer, raising=False)
        assert main.run(["fmt", "-"]) == 0
        seen.append(capfdbinary.readouterr().out)
    assert seen[0] == text
    assert seen[1].decode() == visible(text.decode())


@pytest.mark.parametrize("good", [True, False])
def test_the_plugin_hands_on_nothing_that_acts(good: bool, folder: Path) -> None:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "attnc.testing.pytest_plugin",
        "-p",
        "no:cacheprovider",
        "-v",
        "-rA",
    ]
    names = ("good", "claim", "for_all") if good else ("bad", "cut")
    paths = [f"{EVIL}{name}.attn" for name in names]
    done = subprocess.run([*command, *paths], cwd=folder, env=variables, capture_output=True, timeout=120, check=False)
    printed = done.stdout.decode("utf-8", "surrogateescape") + done.stderr.decode("utf-8", "surrogateescape")
    assert "2 failed, 1 xfailed" in printed if good else "2 errors" in printed, printed
    assert not harmful(printed), printed


# A terminal


MAIN = "from attnc.cli.main import main; main()"


def on_a_terminal(arguments: list[str], folder: Path, code: str = MAIN, **environment: str) -> str:
    """What a command writes to a terminal that is its stdout and stderr."""
    import pty

    ours, its = pty.openpty()
    base = {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "PATH": os.environ["PATH"], "HOME": str(folder)}
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder, stdin=its, stdout=its, stderr=its, env={**base, **environment}, close_fds=True,
    ) as process:  # fmt: skip
        os.close(its)
        text = b"".join(_read(ours))
        process.wait(timeout=120)
    os.close(ours)
    return text.decode("utf-8", "surrogateescape")


def _read(descriptor: int) -> Iterator[bytes]:
    try:
        while part := os.read(descriptor, 65536):
            yield part
    except OSError:  # EIO: the other end is closed
        return


ON_A_TERMINAL = [["show", "causal", "--n", "256"], ["check", "bad.attn"], ["show", "causal", "--n", "5000"]]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize("arguments", ON_A_TERMINAL)
def test_colours_are_left_out_where_they_are_not_wanted(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.attn").write_text(BAD)
    coloured = on_a_terminal(arguments, tmp_path)
    assert COLOUR.search(coloured)
    assert not COLOUR.search(on_a_terminal(arguments, tmp_path, NO_COLOR="1"))
    dumb = on_a_terminal(arguments, tmp_path, TERM="dumb")
    assert "\x1b" not in dumb
    assert dumb.splitlines()[-1] in COLOUR.sub("", coloured)


def test_an_empty_wish_for_no_colours_is_none(tmp_path: Path) -> None:
    """As the convention of NO_COLOR has it."""
    (tmp_path / "bad.attn").write_text(BAD)
    assert COLOUR.search(on_a_terminal(["check", "bad.attn"], tmp_path, NO_COLOR=""))


# What attnc itself sends to a terminal: colours, a cursor hidden and shown again, a line that is erased.
OURS = re.compile(r"\x1b\[\d*m|\x1b\[\?25[lh]|\r(\x1b\[1A)?\x1b\[2K|\r\n")
SOON = f"from attnc.cli import progress; progress.AFTER = 0.0; {MAIN}"


@pytest.mark.parametrize(("command", "code"), [("check", MAIN), ("test", SOON)], ids=["check", "test with a spinner"])
def test_a_hostile_name_on_a_terminal(command: str, code: str, folder: Path) -> None:
    printed = on_a_terminal([command, *(path.name for path in folder.glob("*.attn"))], folder, code)
    assert "pwn" in printed
    assert ("\x1b[?25l" in printed) == (code == SOON), "a spinner was there"
    assert not harmful(OURS.sub("", printed))


def screen(printed: str) -> list[str]:
    """What is to be seen on a terminal in the end, as far as the commands use one: lines that are drawn again."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[?\d;]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", printed):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\r":
            column = 0
        elif re.fullmatch(r"\x1b\[\d*A", part):
            row -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b"):
            before = lines[row].ljust(column)
            lines[row] = before[:column] + part + before[column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines]


def test_a_spinner_shows_where_the_work_is_and_leaves_nothing_behind(tmp_path: Path) -> None:
    checks = " ".join(f"row {i} == {{0..{i + (i == 40)}}}" for i in range(50))  # one of them fails, and is told
    (tmp_path / "many.attn").write_text(f"test causal at n = 50 {{ {checks} }}\n")
    said, plain = (on_a_terminal(["test", "many.attn"], tmp_path, code) for code in (SOON, MAIN))
    assert re.search(r"many\.attn: causal at n = 50: row \d+ ==", said)
    assert [line for line in screen(said) if line] == [line for line in screen(plain) if line]
    assert said.count("\x1b[?25l") == said.count("\x1b[?25h") > 0, "the cursor is there again"
    assert "\x1b[2K" not in on_a_terminal(["test", "many.attn"], tmp_path, SOON, TERM="dumb")
