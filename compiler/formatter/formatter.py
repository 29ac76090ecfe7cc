"""The canonical layout of a text: the same words, the same comments, and nothing that means anything moved."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..diagnostics import AttnError, Diagnostic, ErrorCollector, Source, limits, line_ends
from ..syntax import Segment, Word, branches, parse, paused, segments
from .document import Comment, OverlongError, laid_out
from .rules import Layout, Surroundings

WIDTH = 100
_COMMENTS = re.compile(r'"""[^"]*"""|(?P<comment>#[^\r\n]*)')
_CLOSERS = frozenset(")]}")
_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


@dataclass(frozen=True)
class _Found:
    """The comments of a text: those of its words, and those below the last word."""

    around: Surroundings
    below: tuple[Comment, ...]


def formatted(text: str, name: str = "<text>") -> str:
    """The text laid out: lines of at most 100 columns where words allow it, one blank line at most.

    Words and comments stay as they are and in their order; only a comma before a closing bracket may come or go. What
    is laid out already stays the same. Raises AttnError with every fault where the text cannot be read.
    """
    with paused(len(text)):
        return _formatted(text, name)


def _formatted(text: str, name: str) -> str:
    source = Source(name, text.removeprefix(_BOM))
    reports = ErrorCollector()
    parse(source, reports)
    reports.check()
    declarations = segments(source, reports.add)
    try:
        lines = list(_lines(source, declarations))
    except OverlongError:
        message = f"laid out, {name} is longer than {limits.BYTES:,} bytes, the most that a text may have"
        raise AttnError([Diagnostic("too-long", message)]) from None
    while lines and not lines[-1]:
        lines.pop()
    result = "".join(line + "\n" for line in lines)
    try:
        unchanged = _meant(Source(name, result)) == _meant(source)
    except AttnError as error:  # indentation or commas led past a limit
        past = error.diagnostics[0]
        raise AttnError([Diagnostic(past.slug, f"laid out, {past.message}")]) from None
    if not unchanged:
        raise RuntimeError(f"laying {name} out would change it")
    return result


def _lines(source: Source, declarations: tuple[Segment, ...]) -> Iterator[str]:
    found = _surroundings(source, [word for segment in declarations for word in segment.words])
    layout = Layout(found.around)
    tall_before, started = False, False
    for segment in declarations:
        first = segment.words[0]
        lines = laid_out(layout.declaration(branches(segment.words, source.text)), WIDTH)
        tall = len(lines) > 1
        comments = found.around.above.get(first.start, ())
        separate = first.start in found.around.apart
        if started and (tall or tall_before) and not separate and not any(comment.apart for comment in comments):
            comments, separate = _parted(comments)
        yield from _remarks(comments, started)
        if separate and (started or comments):
            yield ""
        yield from lines
        started, tall_before = True, tall
    yield from _remarks(found.below, started)


def _parted(comments: tuple[Comment, ...]) -> tuple[tuple[Comment, ...], bool]:
    """The comments above a declaration with a blank line before them; whether it stands below them instead."""
    if not comments:
        return comments, True
    return (replace(comments[0], apart=True), *comments[1:]), False


def _remarks(comments: tuple[Comment, ...], started: bool) -> Iterator[str]:
    for comment in comments:
        if comment.apart and started:
            yield ""
        yield comment.text
        started = True


def _surroundings(source: Source, words: list[Word]) -> _Found:
    """Which comments stand above which word, and which behind."""
    text = source.text
    starts = [word.start for word in words]
    above: dict[int, list[Comment]] = {}
    behind: dict[int, str] = {}
    done = [0] + [word.end for word in words]  # how far the text before each word has been looked through
    for match in _COMMENTS.finditer(text):
        if match["comment"] is None:
            continue
        index = bisect_left(starts, match.start())  # the word that follows
        between = text[done[index] : match.start()]
        if index and not line_ends(between, 0, len(between)) and done[index] == words[index - 1].end:
            behind[done[index]] = match.group().rstrip()
        else:
            comments = above.setdefault(index, [])
            comments.append(Comment(match.group().rstrip(), line_ends(between, 0, len(between)) > 1))
        done[index] = match.end()
    apart = frozenset(
        word.start for word, end in zip(words, done, strict=False) if line_ends(text, end, word.start) > 1
    )
    lines = zip(words, [*starts, len(text)][1:], strict=False)
    last = frozenset(word.end for word, following in lines if line_ends(text, word.end, following))
    below = tuple(above.pop(len(words), ()))
    around = Surroundings({starts[i]: tuple(comments) for i, comments in above.items()}, apart, behind, last)
    return _Found(around, below)


def _meant(source: Source) -> list[str]:
    """The words and comments of a text in their order, without commas before closing brackets."""
    words = [word for segment in segments(source, ErrorCollector().add) for word in segment.words]
    pieces = [(word.start, _rows(word.text) if word.kind == "text" else word.text) for word in words]
    comments = [
        (match.start(), match.group().rstrip()) for match in _COMMENTS.finditer(source.text) if match["comment"]
    ]
    kept: list[str] = []
    comma: int | None = None  # where the last word stands, if it is a comma
    for _, piece in sorted(pieces + comments):
        if comma is not None and piece in _CLOSERS:
            del kept[comma]
        if not piece.startswith("#"):
            comma = len(kept) if piece == "," else None
        kept.append(piece)
    return kept


def _rows(picture: str) -> str:
    """A picture without the blanks around its rows."""
    return '"""' + "\n".join(line.strip() for line in picture[3:-3].splitlines() if line.strip())
