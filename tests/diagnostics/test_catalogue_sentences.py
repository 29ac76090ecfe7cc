"""The catalogue of errors against the page of the language: what a sentence excludes gets its fault.

``tests/golden/language/sentences.txt`` is the table. A case is a sentence of docs/language.md, or a part of one,
after ``> ``; a text that goes against it; and after ``>>>`` what is said: the slugs with the words that they point
at, or, where only running the test tells, ``fails: `` and why. The last block lists, after ``= ``, the sentences that
state a fact and leave nothing to get wrong in a text. Together they are the whole page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from attnc.compiler.diagnostics.catalogue import CATALOGUE
from attnc.compiler.diagnostics.diagnostic import AttnError, Diagnostic
from attnc.compiler.modules.loader import bound_tests, load_text
from attnc.compiler.verify.claims import run_test

ROOT = Path(__file__).parents[2]
*BLOCKS, FACTS = (
    (ROOT / "tests/golden/language/sentences.txt").read_text(encoding="utf-8").rstrip("\n").split("\n---\n")
)
# Faults of files, of bytes, of values that Python gives, and of texts larger than belong into a table.
ELSEWHERE = {
    "import-cycle", "import-outside", "index-parameter", "missing-file", "not-utf8", "too-long", "too-many-faults",
    "too-many-tokens", "unreadable-file",
}  # fmt: skip


def plain(text: str) -> str:
    return " ".join(text.split())


def case(block: str) -> tuple[str, str, list[str]]:
    """A sentence, a text, and what is said of it."""
    head, said = block.split("\n>>>\n")
    sentence, _, text = head.removeprefix("> ").partition("\n")
    return plain(sentence), text, said.splitlines()


CASES = [case(block) for block in BLOCKS]


def sentences() -> Iterator[str]:
    """The sentences and rows of the page, up to the grammar; samples and the table of the prelude left out."""
    page, _, _ = (ROOT / "docs/language.md").read_text(encoding="utf-8").partition("## The grammar")
    page = re.sub(r"<!-- prelude -->[\s\S]*<!-- end of prelude -->", "", page)
    page = re.sub(r"^```[\s\S]*?^```$", "", page, flags=re.MULTILINE)
    for block in re.split(r"\n\s*\n", page):
        lines = block.strip()
        if not lines or lines.startswith("#"):
            continue
        if lines.startswith("|"):
            parts = [row.strip("| ") for row in lines.splitlines()[2:]]
        else:
            parts = re.split(r"^- ", lines, flags=re.MULTILINE)[lines.startswith("- ") :]
        for part in parts:
            yield from re.split(r"(?<=[.;])\*{0,2} (?=[A-Z`*(])", plain(part))


SENTENCES = list(sentences())


def faults(text: str) -> tuple[Diagnostic, ...]:
    try:
        load_text(text, "text.attn")
    except AttnError as error:
        return error.diagnostics
    return ()


def pointed_at(fault: Diagnostic) -> str:
    assert fault.primary is not None
    span = fault.primary.span
    assert span.source.name == "text.attn", "a fault points into the text that has it"
    return plain(span.source.text[span.start : span.end])


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: f"{number}: {CASES[number][1][:40]!r}")
def test_what_a_sentence_excludes_gets_its_fault(number: int) -> None:
    _, text, said = CASES[number]
    found = [f"{fault.slug}: {pointed_at(fault)}" for fault in faults(text)]
    if not found:
        outcomes = [outcome for test in bound_tests(load_text(text)) for outcome in run_test(test)]
        found = [f"fails: {outcome.message}" for outcome in outcomes if outcome.verdict == "failed"]
    assert found == said


def test_every_sentence_of_the_page_has_its_cases_or_leaves_nothing_to_get_wrong() -> None:
    facts = [line.removeprefix("= ") for line in FACTS.splitlines()]
    quoted = {sentence for sentence, _, _ in CASES}
    unmatched = [quote for quote in quoted if not any(quote in sentence for sentence in SENTENCES)]
    assert unmatched == []
    assert [fact for fact in facts if fact not in SENTENCES] == []
    open_ = [s for s in SENTENCES if s not in facts and not any(quote in s for quote in quoted)]
    assert open_ == [], "a sentence without a case: what text goes against it?"
    assert [fact for fact in facts if any(quote in fact for quote in quoted)] == []


def test_the_cases_bring_out_the_whole_catalogue() -> None:
    slugs = {line.partition(":")[0] for _, _, said in CASES for line in said} - {"fails"}
    assert slugs | ELSEWHERE == set(CATALOGUE)
    assert not slugs & ELSEWHERE


def test_the_page_is_read_whole() -> None:
    assert len(SENTENCES) > 100
    assert any(sentence.startswith("`any(e for x in S)`") or "**Folds**" in sentence for sentence in SENTENCES)
    assert SENTENCES[-1].startswith("All independent faults")
