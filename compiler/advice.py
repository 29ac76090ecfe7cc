"""What to do about a fault, in the user's own words, and as edits that do it."""

from __future__ import annotations

import re

from . import tree as t
from .diagnostics import Edit, Span
from .reports import Advice, words


def declared(name: str, type_: str, span: Span, why: str = "") -> Advice:
    """Another type for a parameter, in the place of the one at a span."""
    return Advice((f"declare `{name}: {type_}`{why}",), (Edit(span, type_),))


def entered(text: str, node: t.Attention | t.Model) -> Advice:
    """What a declaration in curly brackets lacks, entered behind the first of them."""
    source = node.span.source
    heading = node.parameters[-1].span if node.parameters else node.name.span
    bracket = re.compile(r"(?:#.*|[^#{])*\{").match(source.text, heading.end)
    assert bracket is not None, "the grammar has one"
    place = Span(source, bracket.end(), bracket.end())
    return Advice((f"write `{text}`",), (Edit(place, f" {text}"),))


def whole_division(first: t.Expression, second: t.Expression) -> Advice:
    """`//` in the place of the `/` between two operands."""
    start = first.span.source.text.rindex("/", first.span.end, second.span.start)
    edit = Edit(Span(first.span.source, start, start + 1), "//")
    return Advice(("`//` divides integers, rounding down",), (edit,))


def bounded(node: t.Expression) -> Advice:
    """A difference of positions as a band."""
    difference = words(node.span)[1:-1]
    return _instead("to keep a band, bound it", f"abs({'q - k' if '…' in difference else difference}) <= 128", node)


def compared(node: t.Expression) -> Advice:
    """A number as a condition."""
    text = words(node.span).strip("`")
    simple = isinstance(node, t.Name | t.Builtin | t.Number | t.Application | t.Indexed)
    instead = "abs(q - k) <= 128" if "…" in text else f"{text} == 0" if simple else f"abs({text}) <= 128"
    return _instead("to make a condition of it, compare it", instead, node)


def conjoined(node: t.Comparison) -> Advice:
    """A chain of comparisons as pairs; of sums of conditions, which look like one, only what they lack."""
    if any(isinstance(part, t.Arithmetic) and set(part.signs) <= {"+", "-"} for part in node.operands):
        return Advice(("conditions joined by `+` stand in parentheses: `(q == k) + (k < 4)`",))
    parts = [words(part.span).strip("`") for part in node.operands]
    joined = " and ".join(f"{a} {sign} {b}" for a, sign, b in zip(parts, node.signs, parts[1:], strict=False))
    if "…" in joined:
        return Advice(("join comparisons by `and`: `a < b and b > c`",))
    return _instead("join comparisons by `and`", joined, node)


def _instead(what: str, text: str, node: t.Expression) -> Advice:
    return Advice((f"{what}: `{text}`",), (Edit(node.span, text),))
