"""What the code promises its readers, as far as a program can see it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("compiler", "runtime", "attnc", "examples", "benchmarks", "tests")
LONGEST_FILE, LONGEST_FUNCTION = 500, 80
TEXTS = {".py", ".md", ".attn", ".lark", ".jinja", ".h", ".toml", ".txt", ".yml", ""}
# Places of one machine, and words of unfinished work.
FOREIGN = re.compile(r"(?<![\w.])/(?:home|root|work|Users)/\w|\bTODO\b|\bFIXME\b|\bXXX\b")


def sources() -> list[Path]:
    paths = {path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    return sorted(path for path in paths if not any((ROOT / "attnc" / f) in path.parents for f in FOLDERS))


def texts() -> list[Path]:
    folders = (*FOLDERS, "templates", "patterns", "docs", ".ci")
    found = {path for folder in folders for path in (ROOT / folder).rglob("*")} | set(ROOT.glob("*"))
    return sorted(
        path
        for path in found
        if path.is_file() and path.suffix in TEXTS and "__pycache__" not in path.parts and path != Path(__file__)
    )


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_can_be_read(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= LONGEST_FILE
    assert text == "" or ast.get_docstring(tree), "a module says in its first line what it is for"
    for function in functions(tree):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= LONGEST_FUNCTION, f"{function.name} has {length} lines"


TEMPLATES = sorted(path for path in (ROOT / "templates").rglob("*") if path.suffix in (".jinja", ".h"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_template_says_all_that_it_reads(path: Path) -> None:
    """What it includes sees its names, so it gives them none of its own; what it imports sees nothing of it."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    assert "with context" not in text
    if re.search(r"{%[-+]?\s*include\b", text):
        assert not re.search(r"{%[-+]?\s*set\b", text)
    if path.parent.name == "triton":
        assert not re.search(r"{%[-+]?\s*(include|extends|block)\b", text)
        assert text.startswith("{#"), "a template says in its first lines what it is for"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_name_says_something(path: Path) -> None:
    assert path.stem not in {"utils", "util", "misc", "common", "helpers"}


def test_texts_speak_of_the_product_alone() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {found.group()}"
        for path in texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (found := FOREIGN.search(line))
    ]
    assert wrong == []


@pytest.mark.parametrize("line", ["open('/home/me/x')", "cd /work/main", "# TODO later"])
def test_a_foreign_word_would_be_found(line: str) -> None:
    assert FOREIGN.search(line)
    assert not FOREIGN.search("shared/work/main and ~/work; a/root/b is a path of ours")


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md")), ids=lambda path: path.stem)
def test_a_decision_says_why_and_what_it_costs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    number = path.stem.partition("-")[0]
    assert text.startswith(f"# {number} ")
    assert "**Why:**" in text
    assert "What it costs:" in text
    assert f"({path.name})" in (path.parent / "README.md").read_text(encoding="utf-8")


def test_contributing_begins_with_the_file_to_read_first() -> None:
    first = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()[0]
    (named,) = re.findall(r"`([^`]+)`", first)
    assert (ROOT / named).is_file()
