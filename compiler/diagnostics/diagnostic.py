"""Faults of a text: the places, the message and the helps that each holds, and how it is rendered."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from .terminal_text import visible, visible_line

WIDTH = 100  # columns, of a rendered note and of an excerpt from a long line
CANDIDATES = 1000  # known names, at most, that a misspelt one is compared with


_LINE_END = re.compile(r"\r\n|\r|\n")


def line_ends(text: str, start: int, end: int) -> int:
    """The number of line ends in ``text[start:end]``: line feeds, carriage returns, and pairs of them, counted once."""
    feeds = text.count("\n", start, end)
    if text.find("\r", start, end) < 0:
        return feeds
    pairs = text.count("\r\n", start, end)
    cut = end > start and end < len(text) and text[end - 1] == "\r" and text[end] == "\n"  # in the middle of a pair
    return feeds + text.count("\r", start, end) - pairs - cut


def line_start(text: str, offset: int) -> int:
    """The offset at which the line that contains ``offset`` starts."""
    if text[max(offset - 1, 0) : offset + 1] == "\r\n":  # in the middle of a pair
        offset -= 1
    feed = text.rfind("\n", 0, offset) + 1
    return max(feed, text.rfind("\r", feed, offset) + 1)


@dataclass(frozen=True)
class Source:
    """One text, and the name that errors give it: a file's, or ``<text>``."""

    name: str
    text: str


@dataclass(frozen=True)
class Span:
    """A half-open range of characters of one source. Line and column are derived, never stored."""

    source: Source = field(repr=False)
    start: int
    end: int

    def position(self, offset: int) -> tuple[int, int]:
        """The line and column of an offset, both from 1."""
        text = self.source.text
        return line_ends(text, 0, offset) + 1, offset - line_start(text, offset) + 1


@dataclass(frozen=True)
class Label:
    """A place in a text that a diagnostic points at, and what is said of it there."""

    span: Span
    text: str = ""


@dataclass(frozen=True)
class Edit:
    """A correction: ``text`` replaces what is at ``span``. Where the span is empty, ``text`` is inserted there."""

    span: Span
    text: str


@dataclass(frozen=True)
class Diagnostic:
    """One fault, shown as ``error[slug]: message``, with its place and related ones.

    ``notes`` state facts, ``helps`` say what to do. ``edits``, which never overlap, do exactly what the first help
    says; there are none where it cannot be done by replacing text.
    """

    slug: str
    message: str
    primary: Label | None = None
    related: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    helps: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()


class AttnError(Exception):
    """Raised for a text with faults. Holds, at once, all faults that do not follow from one another."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)
        super().__init__("\n\n".join(map(render, self.diagnostics)))

    def __reduce__(self) -> tuple[type[AttnError], tuple[tuple[Diagnostic, ...]]]:
        return type(self), (self.diagnostics,)


class ArgumentError(AttnError, TypeError):
    """A constant given from Python that the declaration cannot take: unknown, missing, or of another type."""


@dataclass(frozen=True)
class _Mark:
    """One underlined stretch of a line. ``line`` and ``column`` count from 1."""

    line: int
    column: int
    width: int
    glyph: str
    text: str


def render(diagnostic: Diagnostic) -> str:
    """The fault as text for people: message, places with the lines around them, notes and helps.

    Control characters are escaped, so that no text and no file name can change the state of a terminal.
    """
    parts = [f"error[{diagnostic.slug}]: {visible_line(diagnostic.message)}"]
    gutter = 1
    if diagnostic.primary is not None:
        lines, gutter = _excerpts((diagnostic.primary, *diagnostic.related))
        parts.extend(lines)
    for kind, items in (("note", diagnostic.notes), ("help", diagnostic.helps)):
        parts.extend(_paragraph(f"{' ' * gutter} = {kind}: ", visible_line(item)) for item in items)
    return "\n".join(parts)


def with_places(message: str, *labels: Label) -> str:
    """A message, with the lines of the text that it is about below it; the first place is underlined as a fault's is.

    For errors outside a text that still point into it: a call's wrong argument, a test that fails.
    """
    return "\n".join([visible(message), *_excerpts(labels)[0]]) if labels else visible(message)


def _excerpts(labels: Sequence[Label]) -> tuple[list[str], int]:
    """The excerpts of one or more labels, file by file, and the width of their line numbers in columns."""
    by_source: dict[int, list[tuple[Label, str]]] = {}
    for label, glyph in zip(labels, "^" + "-" * len(labels), strict=False):
        by_source.setdefault(id(label.span.source), []).append((label, glyph))
    marks = [[_mark(label, glyph) for label, glyph in group] for group in by_source.values()]
    gutter = max(len(str(mark.line)) for group in marks for mark in group)
    lines: list[str] = []
    for arrow, group, found in zip(("-->", *[":::"] * len(marks)), by_source.values(), marks, strict=False):
        lines.extend(_excerpt(group[0][0].span.source, found, arrow, gutter))
    return lines, gutter


def _mark(label: Label, glyph: str) -> _Mark:
    span = label.span
    line, column = span.position(span.start)
    end_line, end_column = span.position(max(span.end, span.start))
    if end_line != line:
        end_column = len(_line(span.source.text, span.start)[0]) + 1
    return _Mark(line, column, max(end_column - column, 1), glyph, visible_line(label.text))


def _line(text: str, offset: int) -> tuple[str, int]:
    """The line that contains an offset, and the offset at which it starts."""
    start = line_start(text, offset)
    end = _LINE_END.search(text, offset)
    return text[start : len(text) if end is None else end.start()], start


def _excerpt(source: Source, marks: list[_Mark], arrow: str, gutter: int) -> Iterator[str]:
    yield f"{' ' * gutter}{arrow} {visible_line(source.name)}:{marks[0].line}:{marks[0].column}"
    yield f"{' ' * gutter} |"
    last = None
    for number in sorted({mark.line for mark in marks}):
        if last is not None and number > last + 1:
            yield "..."
        here = sorted((mark for mark in marks if mark.line == number), key=lambda mark: mark.glyph == "-")
        text, skipped = _cropped(_numbered_line(source.text, number), here[0])
        yield f"{number:>{gutter}} | {text}".rstrip()
        row = ""
        for mark in sorted(here, key=lambda mark: (mark.glyph == "-", mark.column)):
            column = max(mark.column - skipped, 1)
            if row and (len(row) >= column or mark.glyph == "^"):
                yield f"{' ' * gutter} | {row}".rstrip()
                row = ""
            row = row.ljust(column - 1) + mark.glyph * max(min(mark.width, len(text) + 1 - column), 1)
            if mark.text:
                yield f"{' ' * gutter} | {row} {mark.text}".rstrip()
                row = ""
        if row:
            yield f"{' ' * gutter} | {row}".rstrip()
        last = number


def _numbered_line(text: str, number: int) -> str:
    start = 0
    for _ in range(number - 1):
        end = _LINE_END.search(text, start)
        start = 0 if end is None else end.end()
    return _line(text, start)[0]


def _cropped(line: str, mark: _Mark) -> tuple[str, int]:
    """At most WIDTH columns of a line around a mark, without control characters, and how many were cut off before."""
    skipped = 0
    if len(line) > WIDTH:
        skipped = max(0, min(mark.column - 1 - WIDTH // 4, len(line) - WIDTH))
        line = line[skipped : skipped + WIDTH]
    return "".join(c if c.isprintable() else " " if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line), skipped


def _paragraph(head: str, text: str) -> str:
    return textwrap.fill(
        head + text, WIDTH, subsequent_indent=" " * len(head), break_long_words=False, break_on_hyphens=False
    )


def edited(text: str, edits: Iterable[Edit]) -> str:
    """The text with edits made, which may come from several faults. Where two overlap, the first is made."""
    parts, place = [], 0
    for edit in sorted(dict.fromkeys(edits), key=lambda edit: (edit.span.start, edit.span.end)):
        if edit.span.start >= place:
            parts += [text[place : edit.span.start], edit.text]
            place = edit.span.end
    return "".join([*parts, text[place:]])


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one most likely means; None where none is similar."""
    alike = (name for name in known if abs(len(name) - len(word)) <= 3)
    found = difflib.get_close_matches(word, list(islice(alike, CANDIDATES)), n=1)
    return found[0] if found else None
