"""Runs the checks of a ``test`` block against masks that the oracle makes.

At a given n every check passes or fails. For all n a claim passes where it is proved, fails where it is refuted, and
else stays undecided (:mod:`.for_all`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..ir import CallShape
from ..modules import BoundTest, Check, Claim, Column, Pairs, Picture, Row
from ..oracle import ContentsError, OutOfTableError, TooLargeError, literal_contents
from .counterexamples import Call, Counterexample, Masks, counterexample, told
from .for_all import Verdict, decide
from .integer_limits import IntegerRangeError
from .pictures import Counts, picture, picture_lines, set_text
from .samples import Sample


@dataclass(frozen=True)
class Outcome:
    """The result of one check.

    - ``message``: why it failed, or why it is undecided and on what lengths it was tried;
    - ``expected``, ``got``: the lines of a picture that failed, or one line each for a row, column or number of pairs;
    - ``checked_to``: for all n, the length up to which every length was tried;
    - ``counts``: the mask of a check that failed at a given n.
    """

    check: Check
    verdict: Literal["passed", "failed", "undecided"]
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
        masks = _masks(test, test.extent)
        outcomes = (_judge(masks, check) for check in test.checks)
        return tuple(found if found.passed else replace(found, counts=masks.counts) for found in outcomes)
    except (OutOfTableError, ContentsError, IntegerRangeError) as error:
        return tuple(Outcome(check, "failed", error.message) for check in test.checks)
    except TooLargeError as error:
        return tuple(Outcome(check, "failed", str(error)) for check in test.checks)


def _masks(test: BoundTest, extent: CallShape) -> Masks:
    sample = Sample(extent, literal_contents(test.subject.tables, extent))
    return Call(test.subject.tables, sample).masks(test.subject.mask, test.head)


def _judge(masks: Masks, check: Check) -> Outcome:
    counts, first = masks.counts, masks.q_start
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
            found = counterexample(masks, check)
            return _settled(check, found is None, "" if found is None else told(found), counterexample=found)


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


def _for_all(test: BoundTest, check: Check) -> Outcome:
    """The result of a claim for every length: ``not C`` passes where C is refuted."""
    if not isinstance(check, Claim):
        return Outcome(check, "failed", "only claims can be stated for all n")
    found = decide(test.subject.mask, test.subject.tables, check, test.heads)
    match found:
        case Verdict(state="undecided", message=message, checked_to=checked_to):
            return Outcome(check, "undecided", message, checked_to=checked_to)
        case Verdict(state="proved") if check.negated:
            return Outcome(check, "failed", "it holds for every n, and the test says that it does not")
        case Verdict(state="proved"):
            return Outcome(check, "passed")
    verdict: Literal["passed", "failed"] = "passed" if check.negated else "failed"
    return Outcome(check, verdict, found.message, counterexample=found.counterexample)
