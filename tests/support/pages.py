"""Pages of Markdown: their samples, what a command prints, their links. `docs/build.py` writes with it, tests read.

A sample is a fenced block. After its language may stand the file that it is saved as (blocks of one name make one
file), and after that `faulty`, for a text that is wrong on purpose:

    ```attn local.attn
    pattern local(size: int = 512) = window(size)
    ```

A ``console`` sample is commands, each after ``$ ``, and what they print: standard output, and where a command fails
standard error after it. A command is `attnc`, and may end in `| sed -n '/FIRST/,/LAST/p'`, which keeps the lines from
one to another. Times and rates differ from run to run: where `attnc run` or `attnc bench` is shown, numbers with a
point or an exponent are compared as `0.0`, other numbers as `0`, and spaces before a number as one; and so are the
spaces and lines of a table, which are as wide as its numbers.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnc.cli import main

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w+)(?: (\S+))?( faulty)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CUT = re.compile(r" \| sed -n '/(.+)/,/(.+)/p'$")


@dataclass(frozen=True)
class Sample:
    """One fenced block: its language, the file that it is to be saved as or "", its text."""

    language: str
    file: str
    text: str
    faulty: bool = False


def samples(page: str) -> list[Sample]:
    """The fenced blocks of a page's text, in order."""
    return [
        Sample(language, file, text, bool(faulty))
        for language, file, faulty, text in (found.groups(default="") for found in FENCE.finditer(page))
    ]


def save(found: Sequence[Sample], folder: Path) -> None:
    """Write the files that the samples are to be saved as."""
    files: dict[str, list[str]] = {}
    for sample in found:
        if sample.file:
            files.setdefault(sample.file, []).append(sample.text)
    for name, texts in files.items():
        (folder / name).write_text("\n".join(texts), encoding="utf-8")


def script(found: Sequence[Sample]) -> str:
    """The Python of a page, as one program."""
    return "\n".join(sample.text for sample in found if sample.language == "python")


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console sample, each with what it is shown to print."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed.strip("\n")


def run(command: str) -> tuple[str, int]:
    """What a command prints in the working directory, and its exit code."""
    cut = CUT.search(command)
    name, *arguments = shlex.split(CUT.sub("", command))
    if name == "python":
        return _python(arguments)
    if name != "attnc":
        raise ValueError(f"{name}: a sample's command is attnc, or python")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.run(arguments)
    if cut:
        return "\n".join(_between(out.getvalue().splitlines(), *cut.groups())), code
    streams = (out, err) if code else (out,)
    lines = (line.rstrip() for stream in streams for line in stream.getvalue().strip("\n").splitlines())
    return "\n".join(lines), code


def _python(arguments: Sequence[str]) -> tuple[str, int]:
    """What Python prints in the working directory, in a process of its own, and its exit code."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": path},
    )
    return (done.stdout + (done.stderr if done.returncode else "")).strip("\n"), done.returncode


def _between(lines: Sequence[str], first: str, last: str) -> Iterator[str]:
    """As sed has it: from each line that matches the one expression to the next that matches the other."""
    inside = False
    for line in lines:
        if inside or re.search(first, line):
            yield line.rstrip()
            inside = not (inside and re.search(last, line))


def comparable(command: str, printed: str) -> str:
    """What is printed, without what differs from run to run."""
    if not command.startswith(("attnc run ", "attnc bench ")):
        return printed
    printed = printed.replace(", building included", "")  # said where a kernel was not kept from an earlier run
    number = r" *\d[\d,]*(\.\d+|)(?:e[-+]\d+)?"
    printed = re.sub(number, lambda found: " 0.0" if found[1] or "e" in found[0] else " 0", printed)
    return re.sub(r"[ ─]{2,}", " ", printed) if command.startswith("attnc bench ") else printed


@contextlib.contextmanager
def within(folder: Path) -> Iterator[None]:
    """Work in a folder, on a terminal of 80 columns."""
    before, columns = Path.cwd(), os.environ.get("COLUMNS")
    os.chdir(folder)
    os.environ["COLUMNS"] = "80"
    try:
        yield
    finally:
        os.chdir(before)
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns


def without_samples(page: str) -> str:
    """A page's prose."""
    return FENCE.sub("", page)


def links(page: str) -> list[str]:
    """The targets of a page's links, but for those into the web."""
    found = LINK.findall(re.sub(r"`[^`\n]*`", "", without_samples(page)))
    return [target for target in found if not re.match(r"https?://|mailto:", target)]


def anchors(page: str) -> set[str]:
    """What `#…` may name on a page: its headings, as GitHub spells them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(without_samples(page)))
    return {heading.strip().replace(" ", "-") for heading in plain}
