"""Collects the faults of one text while it is checked, and suggests corrections of misspelt names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from . import limits
from .diagnostic import AttnError, Diagnostic, Edit, Source, Span, nearest
from .wording import at


class Suggestion(NamedTuple):
    """What to do about a fault: helps in words, and ``edits`` that do exactly what the first of them says."""

    helps: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()


class ErrorCollector:
    """Collects the faults of a text, each once, up to ``limits.FAULTS``; of the others only the number is kept.

    ``outer`` is the collector whose :meth:`absorb` will take these faults; while that is full, so is this one.
    """

    def __init__(self, outer: ErrorCollector | None = None) -> None:
        self.outer = outer
        self.found: list[Diagnostic] = []
        self.more = 0
        self.members = 0  # of all sets that are kept member by member
        self.steps = 0  # work done to check declarations by themselves
        self.binding_steps = 0  # work done to compute constants and bind tests
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
        """Add to the number of members kept one by one; False when the text goes past ``limits.MEMBERS``."""
        self.members += members
        return (self.outer is None or self.outer.may_keep(members)) and self.members <= limits.MEMBERS

    @property
    def may_bind(self) -> bool:
        """Whether the constants and tests bound so far took at most ``limits.TOGETHER`` steps, so that more may be."""
        return self.binding_steps <= limits.TOGETHER

    def add_binding_steps(self, steps: int, span: Span) -> None:
        """Add the steps that a constant or a test took; report, once, when all of them together are too many."""
        before = self.may_bind
        self.binding_steps += steps
        if before and not self.may_bind:
            message = f"the constants and tests of this text come to more than {limits.TOGETHER:,} steps once they are "
            self.add(Diagnostic("too-large", message + "filled in, the most that there may be", at(span)))

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        for diagnostic in diagnostics:
            self.add(diagnostic)

    def absorb(self, other: ErrorCollector) -> None:
        """Add the faults of another collector, and its number of faults that are not shown."""
        self.extend(other.found)
        self.more += other.more

    def meant(self, word: str, known: Iterable[str], span: Span) -> Suggestion:
        """Suggest the known name nearest to a misspelt one, and the edit to it; empty where none is near."""
        found = None if self.full else nearest(word, known)
        return Suggestion((f"did you mean `{found}`?",), (Edit(span, found),)) if found else Suggestion()

    def error(self) -> AttnError | None:
        """The error that holds all faults, in the order of the text; None if there are none."""
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
