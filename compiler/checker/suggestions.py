"""Suggestions how to correct a fault: help texts that quote the user's text, and the edits that do what they say."""

from __future__ import annotations

import re

from ..diagnostics import Edit, Span, Suggestion, words
from ..syntax import tree as t


def declared(name: str, type_: str, span: Span, why: str = "") -> Suggestion:
    """Suggest another type for a parameter, in the place of the one at ``span``."""
    return Suggestion((f"declare `{name}: {type_}`{why}",), (Edit(span, type_),))


def entered(text: str, node: t.Attention | t.Model) -> Suggestion:
    """Suggest an entry that a declaration in braces lacks, inserted after the opening brace."""
    source = node.span.source
    heading = node.parameters[-1].span if node.parameters else node.name.span
    bracket = re.compile(r"(?:#.*|[^#{])*\{").match(source.text, heading.end)
    assert bracket is not None, "the grammar has one"
    place = Span(source, bracket.end(), bracket.end())
    return Suggestion((f"write `{text}`",), (Edit(place, f" {text}"),))


def whole_division(first: t.Expression, second: t.Expression) -> Suggestion:
    """Suggest ``//`` in the place of the ``/`` between two operands."""
    start = first.span.source.text.rindex("/", first.span.end, second.span.start)
    edit = Edit(Span(first.span.source, start, start + 1), "//")
    return Suggestion(("`//` divides integers, rounding down",), (edit,))


def bounded(node: t.Expression) -> Suggestion:
    """Suggest a band, ``abs(q - k) <= 128``, for a difference of positions that is not compared with anything."""
    difference = words(node.span)[1:-1]
    return _instead("to keep a band, bound it", f"abs({'q - k' if '…' in difference else difference}) <= 128", node)


def compared(node: t.Expression) -> Suggestion:
    """Suggest a comparison for a number that is used as a condition."""
    text = words(node.span).strip("`")
    simple = isinstance(node, t.Name | t.Builtin | t.Number | t.Application | t.Indexed)
    instead = "abs(q - k) <= 128" if "…" in text else f"{text} == 0" if simple else f"abs({text}) <= 128"
    return _instead("to make a condition of it, compare it", instead, node)


def braced(node: t.ListLiteral) -> Suggestion:
    """Suggest the set, in braces, for a list of numbers that is used as one."""
    span = node.span
    within = span.source.text[span.start : span.end]
    if not (within[0] == "[" and within[-1] == "]") or not all(
        isinstance(item, t.Number | t.Name | t.Builtin | t.Arithmetic | t.Negative) for item in node.items
    ):
        return Suggestion(("a set stands in braces: `k in {0, 3}`",))
    text = words(span).strip("`")
    first, last = Span(span.source, span.start, span.start + 1), Span(span.source, span.end - 1, span.end)
    shown = "{0, 1}" if "…" in text else "{" + text[1:-1] + "}"
    return Suggestion((f"a set stands in braces: `{shown}`",), (Edit(first, "{"), Edit(last, "}")))


def unchosen(node: t.Expression) -> Suggestion | None:
    """Suggest the bare condition for a choice between 1 and 0, or true and false; None for any other expression."""
    if not isinstance(node, t.Conditional):
        return None
    chosen = tuple(part.value if isinstance(part, t.Number | t.Truth) else None for part in (node.then, node.otherwise))
    if chosen not in ((1, 0), (0, 1)):
        return None
    text = words(node.condition.span).strip("`")
    whole = node.condition.span.source.text[node.condition.span.start : node.condition.span.end]
    if chosen == (0, 1):
        return Suggestion((f"a condition needs no `if`: write `not ({text})`",), (Edit(node.span, f"not ({whole})"),))
    inside = whole if isinstance(node.condition, t.Comparison | t.Name | t.Application) else f"({whole})"
    return Suggestion((f"a condition needs no `if`: write `{text}`",), (Edit(node.span, inside),))


def conjoined(node: t.Comparison) -> Suggestion:
    """Suggest ``and`` between the comparisons of a chain that is not allowed; and parentheses, where a ``+`` in it may
    have been meant to join conditions.
    """
    in_the_middle = node.operands[1:-1]
    sums = any(isinstance(part, t.Arithmetic) and set(part.signs) == {"+"} for part in in_the_middle)
    parts = [words(part.span).strip("`") for part in node.operands]
    joined = " and ".join(f"{a} {sign} {b}" for a, sign, b in zip(parts, node.signs, parts[1:], strict=False))
    if sums:
        helps = ("conditions joined by `+` stand in parentheses: `(q == k) + (k < 4)`",)
        return Suggestion(helps if "…" in joined else (*helps, f"join comparisons by `and`: `{joined}`"))
    if "…" in joined:
        return Suggestion(("join comparisons by `and`: `a < b and b > c`",))
    return _instead("join comparisons by `and`", joined, node)


def _instead(what: str, text: str, node: t.Expression) -> Suggestion:
    return Suggestion((f"{what}: `{text}`",), (Edit(node.span, text),))
