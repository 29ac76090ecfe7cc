"""Decides a claim for every length: by a proof, or by a counterexample that the oracle confirms.

The prover (:mod:`compiler.proofs`) excludes lengths at which nothing can contradict a claim: all of them, or those
below some n. From there on masks are made, with contents of the tables that the prover names and with some made up,
until one contradicts the claim. A refutation is always the oracle's; a proof is always the prover's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Literal

from ..analysis import any_count
from ..diagnostics import limits
from ..ir import Apply, Expr, Table, is_opaque, positions, tables_read, walk
from ..modules import Claim
from ..oracle import ContentsError, OutOfTableError
from ..proofs import ContradictionError, Proved, Suspect, Unknown, prove, question
from .counterexamples import Call, Counterexample, counterexample, cut, told
from .integer_limits import IntegerRangeError
from .long_calls import confirmed
from .samples import Sample, samples
from .witnesses import witnesses

EVERY_LENGTH = 32
"""Where it has to be searched for a counterexample, every length up to this one is tried, and then SOME_LENGTHS."""

SOME_LENGTHS = (48, 64, 96, 129)

_MOST_PAIRS = 2**20  # of all heads: masks with more are not made as a whole, but for one at the only length


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds for every n, with m = n, every head and number of heads, and whatever the tables hold.

    True as a condition where it is proved. ``message``: why it is refuted, or why it is undecided. ``counterexample``:
    the smallest in n that was found, and unless tables of the call have a part in it the smallest that there is; then
    the smallest in q, k and head. ``str()`` draws it. ``checked_to``: where it is undecided, the length up to which
    every length was tried.
    """

    claim: str
    state: Literal["proved", "refuted", "undecided"]
    message: str = ""
    counterexample: Counterexample | None = None
    checked_to: int | None = None

    @property
    def proved(self) -> bool:
        return self.state == "proved"

    @property
    def refuted(self) -> bool:
        return self.state == "refuted"

    @property
    def undecided(self) -> bool:
        return self.state == "undecided"

    def __bool__(self) -> bool:
        return self.proved

    def __str__(self) -> str:
        """The state, why, and the pictures of a counterexample."""
        head = f"{self.claim}: {self.state}"
        if self.counterexample is not None:
            return f"{head}: {self.counterexample}"
        return f"{head}: {self.message}" if self.message else head


@dataclass(frozen=True)
class _Case:
    """A claim about a mask; ``heads`` and ``only`` are the only number of heads and the only length, where the text or
    one of its tables gives one.
    """

    mask: Expr
    tables: Sequence[Table]
    claim: Claim
    heads: int | None
    only: int | None

    @property
    def most_pairs(self) -> int:
        """Of a mask that is made as a whole."""
        return _MOST_PAIRS if self.only is None else limits.PAIRS

    @property
    def masks(self) -> tuple[Expr, ...]:
        return (self.mask, *(() if self.claim.operand is None else (self.claim.operand,)))

    @property
    def stays(self) -> bool:
        """Whether what contradicts the claim at one length does at every greater one, whatever the lengths."""
        alone = self.claim.kind not in ("rows nonempty", "columns nonempty")
        return alone and not self.tables and not any("n" in positions(expr) for expr in self.masks)


def decide(mask: Expr, tables: Sequence[Table], claim: Claim, heads: int | None) -> Verdict:
    """The verdict on a claim, whether or not the text negates it. ``tables`` has those of the mask and the operand."""
    name = claim.kind
    read = tables_read(mask) | (set() if claim.operand is None else tables_read(claim.operand))
    tables = [table for table in tables if table.name in read or table.value is not None]
    of_counts = claim.kind == "equals"
    kept = mask if of_counts else any_count(mask)
    operand = claim.operand if claim.operand is None or of_counts else any_count(claim.operand)
    try:
        asked = question(claim.kind, kept, operand, tables, heads)
    except ContradictionError as error:
        return Verdict(name, "undecided", str(error), checked_to=0)
    answer = prove(asked)
    if isinstance(answer, Proved):
        return Verdict(name, "proved")
    case = _Case(mask, tables, claim, asked.heads, asked.n)
    suspect = answer if isinstance(answer, Suspect) else None
    lengths = _lengths(case, suspect)
    found = _smallest(case, lengths, suspect)
    if found is not None:
        return Verdict(name, "refuted", told(found), found)
    if isinstance(answer, Unknown):
        reason = f"not proved: {answer.reason}"
    else:
        reason = f"not proved: {_may_contradict(case)} from n = {answer.n:,} on"
    checked, tried = _tried(case, lengths)
    return Verdict(name, "undecided", f"{tried}; {reason}", checked_to=checked)


def _may_contradict(case: _Case) -> str:
    """What stands between a suspicion and a verdict: what the masks read, or a length too long to be looked at."""
    nodes = [node for mask in case.masks for node in walk(mask)]
    if case.tables or any(is_opaque(node) or _is_product(node) for node in nodes):
        return "what the masks read may contradict it"
    return "isl finds a contradiction, too far off to be looked at,"


def _is_product(node: Expr) -> bool:
    return isinstance(node, Apply) and node.op == "mul" and sum(bool(positions(part)) for part in node.args) > 1


def _lengths(case: _Case, suspect: Suspect | None) -> list[int]:
    """The lengths to try, rising: the only one; or every one up to EVERY_LENGTH and some more, from the least on that
    the prover does not exclude, as far as whole masks are made.
    """
    if case.only is not None:
        return [case.only]
    least, room = 1 if suspect is None else suspect.n, _room(case)
    if least <= EVERY_LENGTH:
        return [n for n in (*range(least, EVERY_LENGTH + 1), *SOME_LENGTHS) if n <= room or n == least]
    more = (n for n in (*SOME_LENGTHS, 3 * least // 2, 2 * least, 3 * least) if least < n <= room)
    return sorted({least, *more})


def _room(case: _Case) -> int:
    """The greatest length of which the whole mask is made."""
    return isqrt(case.most_pairs // max(_heads(case, None)))


def _tried(case: _Case, lengths: Sequence[int]) -> tuple[int, str]:
    """The length up to which every one was tried, or excluded by the prover, and all that was tried, in words."""
    room = _room(case)
    if case.only is not None:
        return (case.only, f"checked at n = {case.only:,}") if case.only <= room else (0, "checked at no length")
    every = max(lengths[0] - 1, min(EVERY_LENGTH, room))
    some = max((n for n in lengths if n <= room), default=0)
    return every, f"checked to n = {every:,}" + (f", and at some n up to {some:,}" if some > every else "")


def _smallest(case: _Case, lengths: Sequence[int], suspect: Suspect | None) -> Counterexample | None:
    """The counterexample at the smallest length for which one is found, those between the given ones included."""
    before = lengths[0] - 1
    for n in lengths:
        found = _refuted_at(case, n, suspect)
        if found is not None and case.stays:
            while before + 1 < n:
                middle = (before + 1 + n) // 2
                nearer = _refuted_at(case, middle, suspect)
                before, n, found = (before, middle, nearer) if nearer is not None else (middle, n, found)
            return found
        if found is not None:
            smaller = (_refuted_at(case, length, suspect) for length in range(before + 1, n))
            return next((nearer for nearer in smaller if nearer is not None), found)
        before = n
    return None


def _refuted_at(case: _Case, n: int, suspect: Suspect | None) -> Counterexample | None:
    """The first counterexample by q, k, head and number of heads among calls of one length; None if none is found.

    Calls that read outside a table, or compute an integer beyond 63 bits, are skipped.
    """
    named = suspect if suspect is not None and suspect.n == n else None
    heads = _heads(case, named)
    if max(heads) * n * n > case.most_pairs:
        return None if named is None else confirmed(case.mask, case.tables, case.claim, named)
    found: list[Counterexample] = []
    for sample in _calls(case, n, heads, named):
        call = Call(case.tables, sample)
        for head in range(sample.extent.heads):
            try:
                contradiction = counterexample(call.masks(case.mask, head), case.claim)
            except (OutOfTableError, IntegerRangeError):
                break
            if contradiction is not None:
                found.append(contradiction)
    return cut(min(found, key=_order)) if found else None


def _order(found: Counterexample) -> tuple[int, int, int, int]:
    return found.q or 0, found.k or 0, found.head, found.heads


def _calls(case: _Case, n: int, heads: Sequence[int], named: Suspect | None) -> Iterator[Sample]:
    """Calls with the contents that the prover names, where tables can have them, and calls with contents made up."""
    if named is not None and named.values:
        yield from witnesses(named, case.tables)
    try:
        yield from samples(case.tables, n, heads)
    except ContentsError:
        return  # a table that the test gives has another length


def _heads(case: _Case, named: Suspect | None) -> tuple[int, ...]:
    """The numbers of heads to try: what the text says; else 1 to 3 if the claim or the mask reads ``head``, or else 1,
    and what the prover names.
    """
    if case.heads is not None:
        return (case.heads,)
    names = {name for expr in case.masks for name in positions(expr)}
    usual = (1, 2, 3) if names & {"head", "heads"} else (1,)
    return usual if named is None else tuple(sorted({*usual, named.heads}))
