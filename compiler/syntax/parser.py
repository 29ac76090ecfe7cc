"""Text to tree. The grammar's tables say what fits; this module says what each piece becomes, and what a misfit is."""

from __future__ import annotations

from collections.abc import Sequence

from ..diagnostics import NESTING, Diagnostic, ErrorCollector, Source, Span, at, nearest
from . import tree as t
from .lalr import Make, Refused, makers, read, tables
from .lexer import STARTERS, Segment, segments
from .syntax_errors import misfit
from .tree_builder import Grower

_LOOKED_AT = 64  # words of a broken declaration, for what it would have declared


def parse(source: Source, reports: ErrorCollector) -> t.Tree:
    """The declarations that the text holds; each that has a fault is left out, and the fault is in ``reports``.

    Raises AttnError where the text is past a limit.
    """
    grower = Grower(source)
    make = makers(grower.rule)
    found: list[t.Declaration] = []
    broken: set[str] = set()
    for segment in segments(source, reports.add):
        declaration = _declaration(segment, source, grower, make, reports) if segment.whole else None
        if declaration is None:
            broken |= _names(segment, reports.full)
        else:
            found.append(declaration)
    return t.Tree(source, tuple(found), frozenset(broken))


def _names(segment: Segment, starts_only: bool) -> set[str]:
    """The names that a declaration, which could not be read, would have declared; also those after a misspelt word
    that may have been meant to start another, unless ``starts_only``.
    """
    words = segment.words
    if words[0].text == "from":
        return {word.text for word in words if word.kind == "word"}
    near = words[: 1 if starts_only else _LOOKED_AT]
    starts = [i for i, word in enumerate(near) if i == 0 or (word.kind == "word" and nearest(word.text, STARTERS))]
    return {words[i + 1].text for i in starts if i + 1 < len(words) and words[i + 1].kind == "word"}


def _declaration(
    segment: Segment, source: Source, grower: Grower, make: Sequence[Make], reports: ErrorCollector
) -> t.Declaration | None:
    grower.documentation = segment.documentation
    try:
        declaration: t.Declaration = read(segment.words, source.text, make)
    except Refused as refused:
        if reports.full:  # counted, and not shown
            word = segment.words[min(refused.index, len(segment.words) - 1)]
            reports.add(Diagnostic("syntax", "", at(Span(source, word.start, word.end))))
            return None
        reports.add(misfit(refused, segment, source, tables().spelling))
        return None
    deep = _too_deep(declaration)
    if deep is not None:
        message = f"operators are nested deeper than {NESTING}, the most that a text may have"
        helps = ("name a part of it in a `where`",)
        reports.add(Diagnostic("too-deep", message, at(deep), helps=helps))
        return None
    return declaration


def _too_deep(declaration: t.Declaration) -> Span | None:
    """Where an expression of the declaration is nested beyond the limit."""
    level = t.roots(declaration)
    for _ in range(NESTING):
        level = tuple([part for node in level for part in t.parts(node)])
        if not level:
            return None
    return level[0].span if level else None
