"""Small pieces of messages: the user's words, counts and lists, as plain English."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .diagnostic import Label, Span

_CLOSING = re.compile(r"(?:\s*\))*")


def at(span: Span, text: str = "") -> Label:
    return Label(span, text)


def words(span: Span) -> str:
    """The user's own words at a span, in one line, between backquotes."""
    return f"`{shortened(span.source.text[span.start : span.end])}`"


def listed(items: Iterable[str], last: str = "or") -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    several = list(items)
    return several[0] if len(several) == 1 else f"{', '.join(several[:-1])} {last} {several[-1]}"


def counted(number: int, noun: str, several: str = "") -> str:
    """``1 argument``, ``3 arguments``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {several or noun + 's'}"


def up_to(chain: Span, operand: Span) -> Span:
    """The part of a chain from its start to the end of one operand, with the brackets around it."""
    closing = _CLOSING.match(chain.source.text, operand.end, chain.end)
    return Span(chain.source, chain.start, operand.end if closing is None else closing.end())


def shortened(text: str, most: int = 40) -> str:
    """A piece of the text in one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
