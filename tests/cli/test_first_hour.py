"""A stranger's first hour, replayed by the real command line: a text with mistakes, put right by what the messages say,
drawn, tested, collected by pytest, run, and called from Python.

The steps share a folder and build on each other; each is a test of its own, so that the one that breaks is named.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import attnc
from attnc.compiler.diagnostics.diagnostic import Edit, Source, Span, edited

ROOT = Path(__file__).parents[2]
PLUGIN = "attnc.testing.pytest_plugin"
MAIN = "from attnc.cli.main import main; main()"
ROUNDS = 3  # of checking and mending: what hides behind a mended fault takes another

# Five mistakes of five kinds, and a sixth that only a test can find: the picture lacks the last row's window.
PAPER = '''\
# A paper: words near each other, and a title that sees all and is seen by all.
pattern near(size) = abs(q - k) <= size

pattern paper(title: tokens, width: int = 4) =
    windw(width) or q in title or k in title

pattern first_half = k < n / 2

model papers(title: tokens) {
    layers = 2
    heads  = 4
    layer 0 {
        head 0..1 = paper(title, widht = 2)
        head 1..3 = near(3)
    }
    layer 1 = first_half
}

test paper(title = {0}) at n = 6 {
    picture """
        ######
        ####..
        #####.
        ######
        #.####
        #....#
    """
    symmetric
}
'''
MISTAKES = {
    "syntax": "every parameter has a type: `size: int`, or `size: tokens` for a set of positions",
    "unknown-name": "did you mean `window`?",
    "float-in-mask": "`//` divides integers, rounding down",
    "unknown-parameter": "did you mean `width`?",
    "heads-overlap": "write `2..3`, which no rule before names",
}


def attnc_command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"},
    )  # fmt: skip


def faults(folder: Path) -> list[dict[str, Any]]:
    done = attnc_command(folder, "check", "--format", "json", "paper.attn")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert done.returncode == int(bool(found))
    return found


def mended(text: str, found: list[dict[str, Any]]) -> str:
    """The text after every edit that the messages offer. They know nothing of patterns, and neither does this."""
    source = Source("paper.attn", text)
    edits = [edit for fault in found for edit in fault["edits"]]
    return edited(text, (Edit(Span(source, edit["start"], edit["end"]), edit["text"]) for edit in edits))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first_hour")
    (folder / "paper.attn").write_text(PAPER, encoding="utf-8")
    return folder


def test_1_all_mistakes_are_told_at_once(folder: Path) -> None:
    done = attnc_command(folder, "check", "paper.attn")
    assert (done.returncode, done.stdout) == (1, "")
    told = re.findall(r"^error\[([\w-]+)\]", done.stderr, re.MULTILINE)
    assert sorted(told) == sorted(MISTAKES)
    assert re.findall(r"= help: (.*)", done.stderr) == [MISTAKES[slug] for slug in told]
    for slug in told:
        explained = attnc_command(folder, "explain", slug)
        assert explained.returncode == 0
        assert explained.stdout.startswith(f"# {slug}: ") or slug in explained.stdout.splitlines()[0]


def test_2_doing_what_the_messages_say_puts_them_right(folder: Path) -> None:
    path = folder / "paper.attn"
    for _ in range(ROUNDS):
        found = faults(folder)
        if not found:
            break
        assert all(fault["edits"] for fault in found), [fault["message"] for fault in found]
        path.write_text(mended(path.read_text(encoding="utf-8"), found), encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    for right in ("near(size: int)", "window(width)", "n // 2", "width = 2", "head 2..3"):
        assert right in text
    done = attnc_command(folder, "check", "paper.attn")
    assert (done.returncode, done.stdout, done.stderr) == (0, "paper.attn: no faults\n", "")
    assert attnc_command(folder, "fmt", "paper.attn").returncode == 0
    assert attnc_command(folder, "fmt", "--check", "paper.attn").returncode == 0


def test_3_it_is_drawn(folder: Path) -> None:
    done = attnc_command(folder, "show", "paper.attn:paper", "--n", "12", "--set", "title={0}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == "████▀▀▀▀▀▀▀▀"
    assert "paper, head 0: 12 queries × 12 keys, " in done.stdout
    for name, start in (("mask.png", b"\x89PNG"), ("mask.svg", b"<svg"), ("mask.html", b"<!DOCTYPE html>")):
        done = attnc_command(folder, "show", "paper.attn:paper", "--n", "200", "-o", name)
        assert done.returncode == 0, done.stderr
        assert start.lower() in (folder / name).read_bytes()[:100].lower()
    whole = attnc_command(folder, "show", "paper.attn:papers", "--n", "64", "-o", "model.svg")
    assert whole.returncode == 0, whole.stderr
    assert (folder / "model.svg").stat().st_size > 1000


def test_4_a_wrong_picture_is_shown_beside_the_right_one(folder: Path) -> None:
    path = folder / "paper.attn"
    done = attnc_command(folder, "test", "paper.attn")
    assert done.returncode == 1
    assert "failed: paper(title = {0}) at n = 6: picture" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 passed, 1 failed, 0 undecided"
    rows = re.findall(r"^ +(\d+)  ([#.]+) +([#.]+)  +(\S+)$", done.stdout, re.MULTILINE)
    assert [row[0] for row in rows] == list("012345")
    assert [row[1] for row in rows if row[1] != row[2]] == ["#....#"]
    text = path.read_text(encoding="utf-8")
    for _, expected, got, _ in rows:
        if expected != got:
            assert text.count(expected) == 1
            text = text.replace(expected, got)
    path.write_text(text, encoding="utf-8")
    done = attnc_command(folder, "test", "paper.attn")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "2 passed, 0 failed, 0 undecided")


def test_5_pytest_collects_it(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", PLUGIN, "-rA", "."],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "PASSED paper.attn::paper(title = {0}) at n = 6: picture" in done.stdout
    assert "2 passed" in done.stdout


def test_6_it_runs(folder: Path) -> None:
    command = ("run", "paper.attn:paper", "--n", "100", "--head-dim", "16", "--set", "title={0, 7}", "--backward")
    done = attnc_command(folder, *command)
    assert done.returncode == 0, done.stderr
    assert re.search(r"forward .* right: largest error", done.stdout)
    assert re.search(r"backward .* right: largest error", done.stdout)


def test_7_a_program_calls_it(folder: Path) -> None:
    attend = attnc.load(folder / "paper.attn").paper(width=6)
    q, k, v = (torch.randn(2, 4, 70, 16, requires_grad=True) for _ in range(3))
    out = attend(q, k, v, title=torch.tensor([0, 7]))
    expected = attend.reference(q, k, v, title=torch.tensor([0, 7]))
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    gradients = torch.autograd.grad(out, (q, k, v), weight)
    for got, wanted in zip(gradients, torch.autograd.grad(expected, (q, k, v), weight), strict=True):
        torch.testing.assert_close(got, wanted)


def test_8_a_call_that_does_not_fit_points_into_the_text(folder: Path) -> None:
    attend = attnc.load(folder / "paper.attn").paper()
    q = torch.randn(1, 2, 8, 16)
    with pytest.raises(TypeError) as caught:
        attend(q, q, q, titel=torch.tensor([0]))
    message = str(caught.value)
    assert message.startswith("titel: paper has no such table; did you mean title?\n")
    assert "paper.attn:4:15" in message
    assert "4 | pattern paper(title: tokens, width: int = 4) =" in message
