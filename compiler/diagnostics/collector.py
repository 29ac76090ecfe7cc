"""The faults of one text as they are found, and the phrases that all of them use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from . import limits
from .diagnostic import AttnError, Diagnostic, Edit, Source, Span, nearest
from .wording import at


class Suggestion(NamedTuple):
    """What to do about a fault, in words, and as edits where the first of them says it to the letter."""

    helps: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()


class ErrorCollector:
    """Collects faults: each once, and no more than people read. ``outer`` is where these will go in the end."""

    def __init__(self, outer: ErrorCollector | None = None) -> None:
        self.outer = outer
        self.found: list[Diagnostic] = []
        self.more = 0
        self.members = 0  # of the sets that are kept member by member
        self.steps = 0  # in which declarations were checked by themselves
        self.filled = 0  # steps in which constants and tests were filled in
        self._known: set[tuple[str, int, int, int]] = set()

    @property
    def full(self) -> bool:
        return len(self.found) >= limits.FAULTS or (self.outer is not None and self.outer.full)

    def add(self, diagnostic: Diagnostic) -> None:
        place = diagnostic.primary.span if diagnostic.primary else None
        key = (diagnostic.slug, id(place.source), place.start, place.end) if place else (diagnostic.message, 0, 0, 0)
        if key in self._known:
            return
        self._known.add(key)
        if self.full:
            self.more += 1
        else:
            self.found.append(diagnostic)

    def may_keep(self, members: int) -> bool:
        """Count the members of a set that is kept one by one; whether the text is still within its limit."""
        self.members += members
        return (self.outer is None or self.outer.may_keep(members)) and self.members <= limits.MEMBERS

    @property
    def may_fill(self) -> bool:
        """Whether the constants and tests of the text are within their limit together."""
        return self.filled <= limits.TOGETHER

    def fill(self, steps: int, span: Span) -> None:
        """Count the steps of a constant or a test, and report once that they are too many."""
        before = self.may_fill
        self.filled += steps
        if before and not self.may_fill:
            message = f"the constants and tests of this text come to more than {limits.TOGETHER:,} steps once they are "
            self.add(Diagnostic("too-large", message + "filled in, the most that there may be", at(span)))

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        for diagnostic in diagnostics:
            self.add(diagnostic)

    def absorb(self, other: ErrorCollector) -> None:
        """Take over what was collected apart."""
        self.extend(other.found)
        self.more += other.more

    def meant(self, word: str, known: Iterable[str], span: Span) -> Suggestion:
        """A help that names the nearest known name, if there is one, in the place of the word at a span."""
        found = None if self.full else nearest(word, known)
        return Suggestion((f"did you mean `{found}`?",), (Edit(span, found),)) if found else Suggestion()

    def error(self) -> AttnError | None:
        """All faults in the order of the text, or None."""
        if not self.found:
            return None
        order = {id(source): number for number, source in enumerate(_sources(self.found))}
        found = sorted(
            self.found, key=lambda d: (order[id(d.primary.span.source)], d.primary.span.start) if d.primary else (0, 0)
        )
        if self.more:
            found.append(Diagnostic("too-many-faults", f"and {self.more:,} more faults, not shown"))
        return AttnError(found)

    def check(self) -> None:
        """Raise AttnError if there was any fault."""
        error = self.error()
        if error is not None:
            raise error


def _sources(found: Iterable[Diagnostic]) -> list[Source]:
    return list({id(d.primary.span.source): d.primary.span.source for d in found if d.primary}.values())
