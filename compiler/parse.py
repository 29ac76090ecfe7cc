"""Text to tree. Lark's tables say what fits; this module says what each piece becomes, and what a misfit is called."""

from __future__ import annotations

from functools import lru_cache

import lark
from lark.exceptions import UnexpectedInput

from . import tree as t
from .diagnostics import Diagnostic, Source, Span, nearest
from .grow import Grower
from .limits import NESTING
from .misfit import misfit
from .parser_tables import parser
from .reports import Reports, at
from .scan import STARTERS, Segment, segments

_LOOKED_AT = 500  # words of a broken declaration, for what it would have declared


@lru_cache(maxsize=1)
def grammar() -> lark.Lark:
    """The parser's tables, made ready once for each process, at the first text."""
    return parser()


@lru_cache(maxsize=1)
def _spelling() -> dict[str, str]:
    """What each terminal is in the text, where it is one word or sign."""
    found = {terminal.name: terminal.pattern.value.removesuffix(r"\b") for terminal in grammar().terminals}
    return found | {"RANGE": "..", "NOT_IN": "not in", "TEXT": '"""'}


def parse(source: Source, reports: Reports) -> t.Tree:
    """The declarations that the text holds; each that has a fault is left out, and the fault is in ``reports``.

    Raises AttnError where the text is past a limit.
    """
    grower = Grower(source)
    found: list[t.Declaration] = []
    broken: set[str] = set()
    for segment in segments(source, reports.add):
        declaration = _declaration(segment, source, grower, reports) if segment.whole else None
        if declaration is None:
            broken |= _names(segment)
        else:
            found.append(declaration)
    return t.Tree(source, tuple(found), frozenset(broken))


def _names(segment: Segment) -> set[str]:
    """The names that a declaration, which could not be read, would have declared."""
    words = segment.words
    if words[0].text == "from":
        return {word.text for word in words if word.kind == "word"}
    near = words[:_LOOKED_AT]
    starts = [i for i, word in enumerate(near) if i == 0 or (word.kind == "word" and nearest(word.text, STARTERS))]
    return {words[i + 1].text for i in starts if i + 1 < len(words) and words[i + 1].kind == "word"}


def _declaration(segment: Segment, source: Source, grower: Grower, reports: Reports) -> t.Declaration | None:
    start, end = segment.words[0].start, segment.words[-1].end
    try:
        raw = grammar().parse(source.text[start:end])
    except UnexpectedInput as error:
        reports.add(misfit(error, segment, source, _spelling()))
        return None
    assert isinstance(raw, lark.Tree)
    declaration: t.Declaration = grower.grow(raw, start, segment.documentation)
    deep = _too_deep(declaration)
    if deep is not None:
        message = f"operators are nested deeper than {NESTING}, the most that a text may have"
        helps = ("name a part of it in a `where`",)
        reports.add(Diagnostic("too-deep", message, at(deep), helps=helps))
        return None
    return declaration


def _too_deep(declaration: t.Declaration) -> Span | None:
    """Where an expression of the declaration is nested beyond the limit, found without recursion."""
    stack: list[tuple[t.Expression, int]] = [(root, 1) for root in t.roots(declaration)]
    while stack:
        node, depth = stack.pop()
        if depth > NESTING:
            return node.span
        stack.extend((part, depth + 1) for part in t.parts(node))
    return None
