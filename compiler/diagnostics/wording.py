"""Pieces of messages in plain English: quotations from the text, counts and lists."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .diagnostic import Label, Span

_CLOSING = re.compile(r"(?:\s*\))*")


def at(span: Span, text: str = "") -> Label:
    """A label at a place, with what is said of it there."""
    return Label(span, text)


def words(span: Span) -> str:
    """The text at a span, quoted for a message: on one line, cut where it is long, between backquotes."""
    return f"`{shortened(span.source.text[span.start : span.end])}`"


def listed(items: Iterable[str], last: str = "or") -> str:
    """A list in words: ``a``, ``a or b``, ``a, b or c``."""
    several = list(items)
    return several[0] if len(several) == 1 else f"{', '.join(several[:-1])} {last} {several[-1]}"


def counted(number: int, noun: str, several: str = "") -> str:
    """A number with its noun: ``1 argument``, ``3 arguments``. ``several``: a plural that is not regular."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {several or noun + 's'}"


def up_to(chain: Span, operand: Span) -> Span:
    """The span from the start of a chain of operators to the end of one operand, closing brackets included."""
    closing = _CLOSING.match(chain.source.text, operand.end, chain.end)
    return Span(chain.source, chain.start, operand.end if closing is None else closing.end())


def shortened(text: str, most: int = 40) -> str:
    """A piece of text on one line, cut with ``…`` to at most ``most`` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
