"""Which rule of a block names each layer, or each head: runs of numbers, so that their length costs nothing."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from .diagnostics import Span

Run = tuple[int, int]  # the first and the last number


@dataclass(frozen=True, order=True)
class Claim:
    """The numbers that one item of a selector names; ``rule`` is the place of its rule in the block."""

    first: int
    last: int
    rule: int = field(compare=False)
    span: Span = field(compare=False)


@dataclass
class Owners:
    """Claims, rising and apart; ``rest`` is the rule of all numbers that none of them names."""

    claims: list[Claim] = field(default_factory=list)
    rest: int | None = None
    claimed: int = 0  # how many numbers

    def owner(self, number: int) -> Claim | None:
        """The claim that names a number."""
        claim = self._before(number)
        return claim if claim is not None and number <= claim.last else None

    def rule(self, number: int) -> int:
        """The rule that a number follows, where there is one."""
        claim = self.owner(number)
        found = self.rest if claim is None else claim.rule
        assert found is not None, number
        return found

    def taken(self, first: int, last: int) -> int | None:
        """The first number of a run that is claimed already."""
        if self.owner(first) is not None:
            return first
        following = bisect_right(self.claims, first, key=_first)
        claim = self.claims[following] if following < len(self.claims) else None
        return claim.first if claim is not None and claim.first <= last else None

    def enter(self, claim: Claim) -> None:
        """Add a claim to numbers that are free."""
        insort(self.claims, claim)
        self.claimed += claim.last - claim.first + 1

    def free(self, first: int, last: int) -> Iterator[Run]:
        """The runs between two numbers, these included, that nothing claims."""
        for claim in self.claims[max(bisect_right(self.claims, first, key=_first) - 1, 0) :]:
            if claim.first > last:
                break
            if claim.first > first:
                yield first, claim.first - 1
            first = max(first, claim.last + 1)
        if first <= last:
            yield first, last

    def _before(self, number: int) -> Claim | None:
        place = bisect_right(self.claims, number, key=_first)
        return self.claims[place - 1] if place else None


def _first(claim: Claim) -> int:
    return claim.first
