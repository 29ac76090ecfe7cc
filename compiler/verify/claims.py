"""Runs the checks of a ``test`` block against masks that the oracle makes.

At a given n every check passes or fails. For all n a claim is refuted by the smallest counterexample that a search
finds, or stays undecided, since trying some lengths proves nothing about the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..analysis import BoundTable
from ..ir import CallShape, Expr, Position, walk
from ..modules import BoundTest, Check, Claim, Column, Pairs, Picture, Row
from ..oracle import ContentsError, OutOfTableError, TooLargeError, evaluate, literal_contents
from .integer_limits import IntegerRangeError, check_integers
from .samples import Sample, samples

EVERY_LENGTH = 32
"""A claim for all n is tried at every length up to this one, and then at SOME_LENGTHS."""

SOME_LENGTHS = (48, 64, 96, 129)

Verdict = Literal["passed", "failed", "undecided"]
Counts = NDArray[np.int64]  # [m, n], of the one head that a test looks at


@dataclass(frozen=True)
class Counterexample:
    """A pair, row (``k`` None) or column (``q`` None) that contradicts a claim at one length.

    To draw it: ``counts`` is the mask, ``other`` the mask of the claim's operand, and ``wrong`` marks every pair that
    contradicts the claim, all ``[m, n]``.
    """

    n: int
    q: int | None
    k: int | None
    heads: int = 1
    head: int = 0
    counts: Counts | None = field(default=None, compare=False, repr=False)
    other: Counts | None = field(default=None, compare=False, repr=False)
    wrong: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Outcome:
    """The result of one check.

    - ``message``: why it failed, or on what lengths an undecided one was tried;
    - ``expected``, ``got``: the lines of a picture that failed, or one line each for a row, column or number of pairs;
    - ``checked_to``: for all n, the length up to which every length was tried;
    - ``counts``: the mask of a check that failed at a given n.
    """

    check: Check
    verdict: Verdict
    message: str = ""
    expected: tuple[str, ...] = ()
    got: tuple[str, ...] = ()
    counterexample: Counterexample | None = None
    checked_to: int | None = None
    counts: Counts | None = field(default=None, compare=False, repr=False)

    @property
    def passed(self) -> bool:
        return self.verdict == "passed"


def run_test(test: BoundTest) -> tuple[Outcome, ...]:
    """Run the checks of a test, in order.

    All fail, with the reason as their message, if the test reads outside its tables, computes an integer beyond 63
    bits, or has too many heads for its mask to be made.
    """
    if test.extent is None:
        return tuple(_for_all(test, check) for check in test.checks)
    try:
        situation = _situation(test, test.extent)
        outcomes = (_judge(situation, check) for check in test.checks)
        return tuple(found if found.passed else replace(found, counts=situation.counts) for found in outcomes)
    except (OutOfTableError, ContentsError, IntegerRangeError) as error:
        return tuple(Outcome(check, "failed", error.message) for check in test.checks)
    except TooLargeError as error:
        return tuple(Outcome(check, "failed", str(error)) for check in test.checks)


@dataclass(frozen=True)
class _Situation:
    """The mask that checks look at, and the call that it is for; :meth:`operand` makes others for the same call."""

    test: BoundTest
    sample: Sample
    head: int
    counts: Counts
    counted: bool

    @property
    def q_start(self) -> int:
        assert self.sample.extent.q_start is not None
        return self.sample.extent.q_start[0]

    def operand(self, expr: Expr) -> Counts:
        return _counts(self.test, expr, self.sample, self.head)


def _situation(test: BoundTest, extent: CallShape) -> _Situation:
    return _at(test, Sample(extent, literal_contents(test.subject.tables, extent)), test.head)


def _at(test: BoundTest, sample: Sample, head: int) -> _Situation:
    counts = _counts(test, test.subject.mask, sample, head)
    return _Situation(test, sample, head, counts, test.subject.mask.type == "count")


def _counts(test: BoundTest, expr: Expr, sample: Sample, head: int) -> Counts:
    tables = {table.name: BoundTable(table, sample.contents[table.name]) for table in test.subject.tables}
    check_integers(expr, None, None, tables, sample.extent)
    mask: NDArray[Any] = evaluate(expr, test.subject.tables, sample.extent, sample.contents)
    return np.asarray(mask[0, head], dtype=np.int64)


def _judge(situation: _Situation, check: Check) -> Outcome:
    counts, first = situation.counts, situation.q_start
    match check:
        case Picture(lines=lines):
            expected, got = picture_lines(lines), picture(counts)
            same = expected == got
            return _settled(check, same, _unlike(expected, got), expected, got)
        case Row(i=i, members=members):
            row = counts[i - first] if first <= i < first + len(counts) else None
            return _line(check, f"row {i}", members, None if row is None else np.flatnonzero(row))
        case Column(j=j, members=members):
            column = counts[:, j] if 0 <= j < counts.shape[1] else None
            return _line(check, f"column {j}", members, None if column is None else np.flatnonzero(column) + first)
        case Pairs(n=expected_pairs):
            total = int(counts.sum())
            message = f"{total} pairs are kept, not {expected_pairs}"
            return _settled(check, total == expected_pairs, message, (str(expected_pairs),), (str(total),))
        case Claim():
            found = _counterexample(situation, check)
            return _settled(check, found is None, _told(check, found), counterexample=found)


def _unlike(expected: tuple[str, ...], got: tuple[str, ...]) -> str:
    """A message how a mask differs from a picture: in size, or else in how many pairs."""
    if [*map(len, expected)] != [*map(len, got)]:
        keys = len(got[0]) if got else 0
        return f"the mask has another size: {len(got)} rows of {keys} keys"
    wrong = sum(a != b for rows in zip(expected, got, strict=True) for a, b in zip(*rows, strict=True))
    return f"the mask differs in {wrong} of {sum(map(len, got))} pairs"


def _settled(
    check: Check,
    holds: bool,
    message: str,
    expected: tuple[str, ...] = (),
    got: tuple[str, ...] = (),
    counterexample: Counterexample | None = None,
) -> Outcome:
    """The outcome of a check that ``holds`` or not. ``message`` and what follows are kept if they explain a failure."""
    if holds != check.negated:
        return Outcome(check, "passed")
    if check.negated:
        return Outcome(check, "failed", "it holds, and the test says that it does not")
    return Outcome(check, "failed", message, expected, got, counterexample)


def _line(check: Check, name: str, members: frozenset[int], kept: NDArray[np.int64] | None) -> Outcome:
    if kept is None:
        return Outcome(check, "failed", f"there is no {name}")
    got = frozenset(int(x) for x in kept)
    message = "; ".join(
        f"{word} {set_text(difference)}"
        for word, difference in (("lacks", members - got), ("also keeps", got - members))
        if difference
    )
    return _settled(check, got == members, f"{name} {message}", (set_text(members),), (set_text(got),))


# -- claims --------------------------------------------------------------------------------------------------------


def _counterexample(situation: _Situation, claim: Claim) -> Counterexample | None:
    """The first pair, row or column, in reading order, that contradicts a claim; None if it holds."""
    counts, first = situation.counts, situation.q_start
    kept = counts > 0
    q, k = np.arange(first, first + counts.shape[0])[:, None], np.arange(counts.shape[1])[None, :]
    match claim.kind:
        case "causal":
            return _pair(situation, kept & (k > q))
        case "symmetric":
            return _pair(situation, kept & ~_mirrored(kept, first))
        case "diagonal":
            row = _first(~(kept & (k == q)).any(axis=1))
            return None if row is None else _place(situation, first + row, first + row, (k == q) & ~kept)
        case "rows nonempty":
            empty = np.asarray(~kept.any(axis=1))
            row = _first(empty)
            return None if row is None else _place(situation, first + row, None, empty[:, None])
        case "columns nonempty":
            empty = np.asarray(~kept.any(axis=0))
            column = _first(empty)
            return None if column is None else _place(situation, None, column, empty[None, :])
    assert claim.operand is not None
    other = situation.operand(claim.operand)
    match claim.kind:
        case "within":
            return _pair(situation, kept & (other == 0), other)
        case "contains":
            return _pair(situation, ~kept & (other > 0), other)
        case "equals":
            return _pair(situation, counts != other, other)
        case "disjoint":
            return _pair(situation, kept & (other > 0), other)


def _mirrored(kept: NDArray[np.bool_], first: int) -> NDArray[np.bool_]:
    """Whether the mirror image ``(k, q)`` of each pair is kept; true where that is not a pair of the call."""
    rows, columns = kept.shape
    mirrored = np.ones_like(kept)
    last = min(first + rows, columns)
    if first < last:  # positions that are both rows and keys
        square = kept[: last - first, first:last]
        mirrored[: last - first, first:last] = square.T
    return mirrored


def _first(wrong: Any) -> int | None:
    """The index of the first true entry of a one-dimensional array; None if there is none."""
    return int(np.argmax(wrong)) if wrong.any() else None


def _pair(situation: _Situation, wrong: NDArray[np.bool_], other: Counts | None = None) -> Counterexample | None:
    place = _first(wrong.ravel())
    if place is None:
        return None
    row, column = divmod(place, wrong.shape[1])
    return _place(situation, situation.q_start + row, column, wrong, other)


def _place(
    situation: _Situation, q: int | None, k: int | None, wrong: NDArray[np.bool_], other: Counts | None = None
) -> Counterexample:
    extent, counts = situation.sample.extent, situation.counts
    everywhere = np.broadcast_to(wrong, counts.shape)
    return Counterexample(extent.n, q, k, extent.heads, situation.head, counts, other, everywhere)


def _told(claim: Claim, found: Counterexample | None) -> str:
    if found is None:
        return ""
    where = f"at n = {found.n}" + (f", head {found.head} of {found.heads}" if found.heads > 1 else "")
    pair = f"(q = {found.q}, k = {found.k})"
    match claim.kind:
        case "causal":
            return f"the pair {pair} is kept {where}, and k > q"
        case "symmetric":
            return f"the pair {pair} is kept {where}, and its mirror image is not"
        case "diagonal":
            return f"query {found.q} does not see itself {where}"
        case "rows nonempty":
            return f"row {found.q} keeps nothing {where}"
        case "columns nonempty":
            return f"column {found.k} is kept by no row {where}"
        case "contains":
            return f"the pair {pair} is not kept {where}"
        case "equals":
            return f"the two differ at {pair} {where}"
        case "within":
            return f"the pair {pair} is kept {where}, and not by the other"
        case "disjoint":
            return f"the pair {pair} is kept by both {where}"


# -- for all n -----------------------------------------------------------------------------------------------------


def _for_all(test: BoundTest, check: Check) -> Outcome:
    """Search for the smallest counterexample to a claim; without one it is undecided."""
    if not isinstance(check, Claim):
        return Outcome(check, "failed", "only claims can be stated for all n")
    found = None
    before = 0
    for n in (*range(1, EVERY_LENGTH + 1), *SOME_LENGTHS):
        if _refuted_at(test, check, n) is not None:
            smaller = (_refuted_at(test, check, length) for length in range(before + 1, n + 1))
            found = next(counterexample for counterexample in smaller if counterexample is not None)
            break
        before = n
    if found is not None:
        if check.negated:
            return Outcome(check, "passed", _told(check, found), counterexample=found)
        return Outcome(check, "failed", _told(check, found), counterexample=found)
    tried = f"every n up to {EVERY_LENGTH} and some up to {SOME_LENGTHS[-1]}"
    return Outcome(check, "undecided", f"no counterexample at {tried}", checked_to=EVERY_LENGTH)


def _refuted_at(test: BoundTest, claim: Claim, n: int) -> Counterexample | None:
    """The first counterexample among sample calls of one length, or None.

    Calls that read outside a table, or compute an integer beyond 63 bits, are skipped.
    """
    tables = test.subject.tables
    try:
        calls = list(samples(tables, n, _heads(test, claim)))
    except ContentsError:
        return None  # a table that the test gives has another length
    for sample in calls:
        for head in range(sample.extent.heads):
            try:
                found = _counterexample(_at(test, sample, head), claim)
            except (OutOfTableError, IntegerRangeError):
                continue
            if found is not None:
                return found
    return None


def _heads(test: BoundTest, claim: Claim) -> tuple[int, ...]:
    """The numbers of heads to try: what the test says; else 1 to 3 if the claim or the mask reads ``head``; else 1."""
    if test.heads is not None:
        return (test.heads,)
    expressions = [test.subject.mask] + ([claim.operand] if claim.operand is not None else [])
    names = {node.name for expr in expressions for node in walk(expr) if isinstance(node, Position)}
    return (1, 2, 3) if names & {"head", "heads"} else (1,)


# -- pictures ------------------------------------------------------------------------------------------------------


def picture(counts: Counts) -> tuple[str, ...]:
    """A mask as lines, one for each row: ``.`` not kept, ``#`` kept once, a digit its count, ``+`` a count above 9."""
    symbols = np.array([".", "#", *"23456789", "+"])
    return tuple("".join(row) for row in symbols[np.minimum(counts, 10)])


def picture_lines(lines: tuple[str, ...]) -> tuple[str, ...]:
    """The picture of a text in the form that :func:`picture` gives: without blanks, ``.`` for 0 and ``#`` for 1."""
    bare = ("".join(line.split()).translate({ord("0"): ".", ord("1"): "#"}) for line in lines)
    return tuple(line for line in bare if line)


def set_text(members: frozenset[int]) -> str:
    """A set as the language writes it, three or more neighbours as a range: ``{0, 4..7}``."""
    parts: list[str] = []
    ordered = sorted(members)
    start = 0
    for place, member in enumerate(ordered):
        if place + 1 < len(ordered) and ordered[place + 1] == member + 1:
            continue
        low = ordered[start]
        parts.append(str(member) if low == member else f"{low}..{member}" if member - low > 1 else f"{low}, {member}")
        start = place + 1
    return "{" + ", ".join(parts) + "}"
