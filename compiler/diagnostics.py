"""What a fault of a text is, and the only place that knows what one looks like."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Source:
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
        line = self.source.text.count("\n", 0, offset) + 1
        return line, offset - self.source.text.rfind("\n", 0, offset)


@dataclass(frozen=True)
class Label:
    span: Span
    text: str = ""


@dataclass(frozen=True)
class Diagnostic:
    """One fault: `error[slug]: message`, the place, related places, facts (notes) and acts (helps)."""

    slug: str
    message: str
    primary: Label | None = None
    related: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    helps: tuple[str, ...] = ()


class AttnError(Exception):
    """Every fault of a text, all independent ones at once."""

    def __init__(self, diagnostics: Iterable[Diagnostic]):
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)
        super().__init__("\n\n".join(map(render, self.diagnostics)))
