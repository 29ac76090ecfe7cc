"""The catalogue of errors: every slug has a page, and a faulty text with the message that it gets.

``tests/golden/errors/<slug>.attn`` is the text, ``<slug>.txt`` what is said of it (``pytest --update-golden`` writes
it). A first line ``#! …`` says how the text is read where that is the fault; see :data:`MANNERS`.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import attnc
from attnc.compiler.diagnostics.catalogue import CATALOGUE, PAGES, page
from attnc.compiler.diagnostics.diagnostic import AttnError, Diagnostic, Edit, edited, render
from attnc.compiler.modules.loader import bind, load_file, load_text
from attnc.compiler.syntax.grammar import vocabulary

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parents[1] / "golden/errors"
SHOWN = 4  # faults of one text that its golden shows
SLUGS = sorted(CATALOGUE)


def read_there(name: str) -> object:
    """The file as somebody reads it who works in its folder: no message holds where that lies."""
    with contextlib.chdir(FOLDER):
        return load_file(Path(name))


# Python arguments, by name, for the words after `#!`.
MANNERS: dict[str, Callable[[str, str, str], object]] = {
    "read": lambda name, text, slug: read_there(name),
    "bind": lambda name, text, slug: bind(load_text(text, f"{slug}.attn"), name, {}),
    "encode": lambda encoding, text, slug: load_text(text.encode(encoding), f"{slug}.attn"),
    "repeat": lambda times, text, slug: load_text(text.partition("\n")[2] * int(times), f"{slug}.attn"),
}


def faults(text: str, slug: str = "text") -> tuple[Diagnostic, ...]:
    """What is wrong with a text, read in the manner that it asks for."""
    try:
        manner = re.match(r"#! (\w+) (\S+)\n", text)
        if manner:
            MANNERS[manner[1]](manner[2], text, slug)
        else:
            load_text(text, f"{slug}.attn", FOLDER)
    except AttnError as error:
        return error.diagnostics
    return ()


def told(found: tuple[Diagnostic, ...]) -> str:
    """The faults as they are shown, without the middle of a long row of them."""
    texts = [render(fault) for fault in found]
    if len(texts) > SHOWN:
        texts = [texts[0], f"({len(texts) - 2} more)", texts[-1]]
    return "\n\n".join(texts) + "\n"


# The pairs


def test_every_slug_has_its_pair_and_its_page_and_nothing_else_lies_there() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.attn")) == SLUGS
    assert sorted(path.stem for path in FOLDER.glob("*.txt")) == SLUGS
    assert sorted(path.stem for path in PAGES.iterdir()) == SLUGS


@pytest.mark.parametrize("slug", SLUGS)
def test_a_text_gets_the_message_that_was_written_down(slug: str, update_golden: bool) -> None:
    found = faults((FOLDER / f"{slug}.attn").read_text(encoding="utf-8"), slug)
    assert slug in {fault.slug for fault in found}
    golden = FOLDER / f"{slug}.txt"
    if update_golden:
        golden.write_text(told(found), encoding="utf-8")
    assert told(found) == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("slug", SLUGS)
def test_a_message_keeps_the_style(slug: str) -> None:
    for fault in faults((FOLDER / f"{slug}.attn").read_text(encoding="utf-8"), slug):
        for sentence in (fault.message, *fault.notes, *fault.helps):
            words = re.sub(r"`[^`]*`|UTF-8|ASCII|Python", "_", sentence)
            assert not sentence.endswith("."), sentence
            assert not re.search(r"[A-Z]|unexpected|illegal|invalid|\btoken\b", words.replace("U+", "")), sentence
        for label in (fault.primary, *fault.related):
            assert label is None or not label.text.endswith("."), label


# The pages


def blocks(slug: str) -> list[tuple[str, str]]:
    """The examples of a page: their language and their text."""
    return re.findall(r"(?m)^```(\w+)\n([\s\S]*?)^```$", page(slug))


@pytest.mark.parametrize("slug", SLUGS)
def test_a_page_starts_with_its_slug_and_title(slug: str) -> None:
    lines = page(slug).splitlines()
    assert lines[0] == f"# {slug}: {CATALOGUE[slug]}"
    assert max(map(len, lines)) <= 120
    assert lines[1] == ""
    assert len(lines) > 2


@pytest.mark.parametrize("slug", SLUGS)
def test_the_wrong_example_of_a_page_is_wrong_in_that_way_alone_and_the_right_one_is_right(slug: str) -> None:
    found = blocks(slug)
    text = (FOLDER / f"{slug}.attn").read_text(encoding="utf-8")
    if text.startswith("#! read"):
        assert found == []
        return
    (language, wrong), (_, right) = found
    first = text.splitlines(keepends=True)[0] if text.startswith("#!") else ""
    assert language == ("text" if first else "attn")
    slugs = {fault.slug for fault in faults(first + wrong, slug)}
    assert slugs - {"not-a-condition", "duplicate-name"} == {slug} if slug == "too-many-faults" else slugs == {slug}
    assert faults(right) == ()


def test_the_pages_are_found_in_the_package_and_among_the_documentation() -> None:
    packaged = Path(attnc.__file__).parent / "compiler" / "diagnostics" / "errors"
    assert {path.name for path in packaged.iterdir()} == {f"{slug}.md" for slug in SLUGS}
    assert (ROOT / "docs" / "errors").resolve() == PAGES.resolve()


# The sources


def sources() -> Iterator[ast.AST]:
    for path in sorted((ROOT / "compiler").rglob("*.py")):
        yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def written_slugs() -> set[str]:
    """The slugs that the compiler's sources name; `layers` and `heads` share their faults."""
    found = set()
    for node in sources():
        if not isinstance(node, ast.Call) or not node.args:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        slug = node.args[0]
        if name not in ("Diagnostic", "fault", "past_limit"):
            continue
        if isinstance(slug, ast.JoinedStr):
            found |= {_joined(slug, noun) for noun in ("layer", "head")}
        elif isinstance(slug, ast.Constant):
            found.add(str(slug.value))
    # The one that is chosen by kind: `slug = "…"` before the call.
    for node in sources():
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["slug"]:
            found |= {str(part.value) for part in ast.walk(node.value) if isinstance(part, ast.Constant)}
    return found


def _joined(node: ast.JoinedStr, filling: str) -> str:
    return "".join(str(part.value) if isinstance(part, ast.Constant) else filling for part in node.values)


def test_the_sources_use_the_slugs_of_the_catalogue_and_all_of_them() -> None:
    assert sorted(written_slugs()) == SLUGS


def help_texts() -> set[str]:
    """Every help that the sources can give, whatever is filled in being `x`."""
    found: set[str] = set()
    for node in sources():
        part: ast.AST | None = None
        if isinstance(node, ast.keyword) and node.arg == "helps":
            part = node.value
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {getattr(name, "id", "") for target in targets for name in ast.walk(target)}
            if names & {"helps", "_INSTEAD", "_PYTHON_INSTEAD", "another"}:
                part = node.value
        elif isinstance(node, ast.FunctionDef) and node.name == "_misshapen":
            part = node
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Advice", "_instead"):
            part = ast.Tuple([*node.args[:1]]) if node.args else None
        if part is not None:
            found |= set(_texts(part))
    return {text for text in found if "`" in text}


def _texts(part: ast.AST) -> Iterator[str]:
    if isinstance(part, ast.JoinedStr):
        yield _joined(part, "x")
    elif isinstance(part, ast.Constant):
        yield str(part.value)
    else:
        for child in ast.iter_child_nodes(part):
            yield from _texts(child)


FORMS = (
    "pattern p = {}", "pattern p = q < {}", "{}", "pattern p({}) = full", "attention p {{ {} }}", "model p {{ {} }}",
    "test p {} {{ }}", "from std {}", "const p = {}", "model p {{ layers = 1 heads = 1 layer * {{ {} }} }}",
    "test p at n = 1, {} {{ }}", "pattern p(x: {}) = full", "pattern p = k in {}",
)  # fmt: skip
UNREAD = {"syntax", "bracket", "reserved-word", "unknown-character", "malformed-number"}
# Signs and words that a help names by themselves: they are not code but parts of it.
PARTS = (
    vocabulary().reserved
    | {"=", "==", "!=", "#", "**", "+", "//", "<", "<=", "_", "[", "(", "order", "else…", "pattern…"}
    | {'"""', "…", "/"}
)


def reads(snippet: str) -> bool:
    """Whether the grammar takes a snippet somewhere, whatever its names mean."""
    filled = re.sub(r"\bNAME\b", "name", snippet.replace("x * =", "layer * =")).replace(
        "(…)", "(x: int)" if "pattern" in snippet else "(q)"
    )
    filled = re.sub(r"^else …$", "1 if q < k else 0", filled)
    filled = re.sub(r"^… and not …$", "causal and not full", filled).replace("…", "q")
    return any(not {fault.slug for fault in faults(form.format(filled))} & UNREAD for form in FORMS)


def test_every_snippet_of_every_help_can_be_read() -> None:
    texts = help_texts()
    texts |= {told for slug in SLUGS for fault in faults((FOLDER / f"{slug}.attn").read_text()) for told in fault.helps}
    snippets = {snippet for text in texts for snippet in text.split("`")[1::2]} - PARTS
    assert len(snippets) > 40
    assert sorted(snippet for snippet in snippets if not reads(snippet)) == []


@pytest.mark.parametrize("wrong", ["q <", "layer 0", "else 3", "near(", "a b"])
def test_a_snippet_that_cannot_be_read_would_be_found(wrong: str) -> None:
    assert not reads(wrong)


# Edits


def faulty_texts() -> list[str]:
    cases = (FOLDER.parent / "language" / "faults.txt").read_text(encoding="utf-8").split("\n---\n")
    texts = [(FOLDER / f"{slug}.attn").read_text(encoding="utf-8") for slug in SLUGS]
    return [*(text for text in texts if not text.startswith("#!")), *(case.partition("\n>>>\n")[0] for case in cases)]


def test_what_a_help_says_to_the_letter_puts_its_fault_right() -> None:
    put_right: dict[str, int] = {}
    for text in faulty_texts():
        for fault in faults(text):
            if not fault.edits:
                continue
            assert fault.helps
            assert fault.primary is not None
            mended = edited(text, fault.edits)
            left = {(other.message, other.primary.span.start) for other in faults(mended) if other.primary}
            assert (fault.message, fault.primary.span.start) not in left, f"{text}\n{mended}"
            put_right[fault.slug] = put_right.get(fault.slug, 0) + 1
    assert put_right.keys() >= {
        "unknown-name", "unknown-parameter", "unknown-type", "unknown-setting", "unknown-module", "float-in-mask",
        "not-a-condition", "comparison-chain", "syntax", "heads-overlap", "layers-overlap", "wrong-type",
        "not-constant", "malformed-type", "missing-mask", "missing-size", "missing-setting",
    }  # fmt: skip


def test_edits_that_overlap_are_made_once() -> None:
    text = "pattern p = windw(8) and windw(8)"
    first, second = faults(text)
    assert edited(text, (*first.edits, *second.edits, *first.edits)) == "pattern p = window(8) and window(8)"
    again = Edit(first.edits[0].span, "band")
    assert edited(text, (*first.edits, again)) == "pattern p = window(8) and windw(8)"
