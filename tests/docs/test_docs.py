"""Every sample of the documentation does what its page says, every link leads somewhere, what is generated is fresh."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from attnc.compiler.diagnostics import limits
from attnc.compiler.diagnostics.diagnostic import AttnError
from attnc.compiler.modules.loader import Module, bound_tests, load_file, load_shipped
from attnc.compiler.syntax.grammar import GRAMMAR, build_parser, vocabulary
from attnc.compiler.syntax.lexer import tokens
from attnc.compiler.verify.claims import run_test
from tests.support import pages

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NAMES = (
    "README",
    "api",
    "compiler",
    "examples",
    "flex_attention",
    "hugging-face",
    "language",
    "serving",
    "tutorial",
    "what-attnc-knows",
)
PAGES: Mapping[str, str] = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in NAMES}
LINKED = (*(DOCS / f"{name}.md" for name in NAMES), ROOT / "README.md", ROOT / "CONTRIBUTING.md")
WITH_PYTHON = [name for name in NAMES if pages.script(pages.samples(PAGES[name]))]
# One process for all: importing torch is most of the work.
RUN_ALL = "import os, runpy, sys\nfor folder in sys.argv[1:]:\n    os.chdir(folder); runpy.run_path('samples.py')\n"


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}


def saved(name: str, folder: Path) -> Path:
    """A folder with the files of a page, and its Python as samples.py."""
    found = pages.samples(PAGES[name])
    pages.save(found, folder)
    (folder / "samples.py").write_text(pages.script(found), encoding="utf-8")
    return folder


def modules(name: str, folder: Path, faulty: bool) -> Iterator[Module]:
    """The checked `.attn` files of a page that are, or are not, wrong on purpose."""
    saved(name, folder)
    files = {
        sample.file for sample in pages.samples(PAGES[name]) if sample.language == "attn" and sample.faulty == faulty
    }
    assert "" not in files, "a text has a name, so that other samples can use it"
    return (load_file(folder / file) for file in sorted(files))


def test_generated_parts_and_printed_output_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.build", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_sample_is_of_a_kind_that_is_tried(name: str) -> None:
    found = pages.samples(PAGES[name])
    assert {sample.language for sample in found} <= {"attn", "console", "python", "lark", "text"}
    assert len(re.findall(r"^ *```", PAGES[name], re.MULTILINE)) == 2 * len(found)
    assert all(list(pages.commands(sample.text)) for sample in found if sample.language == "console")


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_right_and_their_tests_hold(name: str, tmp_path: Path) -> None:
    for module in modules(name, tmp_path, faulty=False):
        for test in bound_tests(module):
            failed = [outcome.message for outcome in run_test(test) if outcome.verdict == "failed"]
            assert not failed, f"{test.title}: {failed}"


def test_texts_that_are_wrong_on_purpose_are_wrong(tmp_path: Path) -> None:
    verdicts: list[str] = []
    for sample in pages.samples(PAGES["tutorial"]):
        if sample.faulty:
            file = tmp_path / sample.file
            file.write_text(sample.text, encoding="utf-8")
            try:
                verdicts += [outcome.verdict for test in bound_tests(load_file(file)) for outcome in run_test(test)]
            except AttnError as error:
                verdicts.append(f"{len(error.diagnostics)} faults")
    assert verdicts == ["3 faults", "failed"]


def test_python_runs(tmp_path: Path) -> None:
    folders = []
    for name in WITH_PYTHON:
        (tmp_path / name).mkdir()
        folders.append(str(saved(name, tmp_path / name)))
    assert len(folders) == 6
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN_ALL, *folders], cwd=tmp_path, capture_output=True, text=True,
        timeout=300, env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_pattern_of_the_flex_attention_page_is_compared(tmp_path: Path) -> None:
    (module,) = modules("flex_attention", tmp_path, faulty=False)
    text = pages.script(pages.samples(PAGES["flex_attention"]))
    compared = re.findall(r"^same(?:_score)?\((\w+)", text, re.MULTILINE)
    assert sorted(compared) == sorted(module.declarations)


def test_a_mask_that_differs_would_be_noticed(tmp_path: Path) -> None:
    """The page's own comparison, with one of its patterns changed."""
    folder = saved("flex_attention", tmp_path)
    text = (folder / "flex.attn").read_text(encoding="utf-8")
    changed = text.replace("q - k <= size", "q - k < size", 1)
    assert changed != text
    (folder / "flex.attn").write_text(changed, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "samples.py"], cwd=folder, capture_output=True, text=True, timeout=300, env=environment()
    )
    assert "AssertionError: sliding_window" in done.stderr


UNBOUNDED = {"NAME", "INT", "FLOAT", "TEXT"}


def test_the_examples_of_the_grammar_use_all_of_it() -> None:
    """docs/build.py parses them by their rules; here, that nothing of the grammar is left out."""
    rules = re.findall(r"^[?]*([a-z_]+):", GRAMMAR.read_text(encoding="utf-8"), re.MULTILINE)
    examples: dict[str, list[str]] = {}
    for block in (DOCS / "grammar.txt").read_text(encoding="utf-8").split("\n\n")[1:]:
        name, *lines = block.strip("\n").splitlines()
        examples[name] = re.split(r"\n(?=\S)", "\n".join(line[4:] for line in lines))
    assert list(examples) == rules
    parser = build_parser(rules)
    used: set[str] = set()  # words and signs, and the terminals of names, numbers and pictures
    for name, given in examples.items():
        for example in given:
            read = parser.parse_interactive(tuple(tokens(example)), start=name).exhaust_lexer()
            parser.parse(tuple(tokens(example)), start=name)
            used |= {token.type if token.type in UNBOUNDED else token.value for token in read}
            assert example.splitlines()[0] in PAGES["language"]
    assert used == set(vocabulary().types) | UNBOUNDED


def test_the_language_page_leaves_nothing_out() -> None:
    page = " ".join(PAGES["language"].split())
    listed = re.search(r"Reserved: `([^`]+)`", page)
    assert listed is not None
    assert set(listed[1].split()) == vocabulary().reserved
    assert all(f"`{name}" in page for name in load_shipped("std").declarations)
    for number in (limits.TOKENS, limits.NODES, limits.PAIRS):
        assert f"{number:,} " in page
    assert (limits.BYTES, limits.NESTING, limits.DIGITS, limits.NAME) == (1 << 20, 64, 18, 64)
    assert (limits.EXPANDED_NESTING, limits.FAULTS) == (128, 100)


@pytest.mark.parametrize("path", LINKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in pages.links(path.read_text(encoding="utf-8")):
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), target
        assert found.is_relative_to(ROOT), target
        if anchor:
            assert anchor in pages.anchors(found.read_text(encoding="utf-8")), target


def test_the_tutorial_needs_twenty_lines() -> None:
    found = pages.samples(PAGES["tutorial"])
    text, python = found[0], next(sample for sample in found if sample.language == "python")
    assert text.language == "attn"
    assert [sum(map(bool, sample.text.splitlines())) for sample in (text, python)] == [14, 6]


def test_the_index_has_every_page() -> None:
    assert {f"{name}.md" for name in NAMES} - {"README.md"} <= set(pages.links(PAGES["README"]))


def test_output_is_compared_but_for_times() -> None:
    shown = "  forward   25.6 ms   9.9 GFLOP/s  2 threads, error 6e-07"
    assert pages.comparable("attnc run a.attn", shown) == "  forward 0.0 ms 0.0 GFLOP/s 0 threads, error 0.0"
    assert pages.comparable("attnc show a.attn", shown) == shown
    table = [
        " pass      median\n ────────────────\n forward   1.5 ms",
        " pass       median\n ─────────\n forward   21.5 ms",
    ]
    assert {pages.comparable("attnc bench a.attn", each) for each in table} == {" pass median\n \n forward 0.0 ms"}


def test_anchors_are_spelt_as_github_does() -> None:
    page = "# From `A`, to B\n\n```text\n# no heading\n```\n## The x_y-z: 2\n[a](b.md#c) `[d](e)` [f](https://g.h)\n"
    assert pages.anchors(page) == {"from-a-to-b", "the-x_y-z-2"}
    assert pages.links(page) == ["b.md#c"]
