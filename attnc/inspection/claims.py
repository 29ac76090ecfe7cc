"""Names and runs the checks of `test` blocks, and reports failures with pictures; for `attnc test` and pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..compiler.diagnostics import Label, Span, visible_line, with_places
from ..compiler.modules import BoundTest, Check, Claim, Column, Module, Picture, Row, bound_tests
from ..compiler.verify import Counts, Outcome, Panel, contrast, drawn, picture, run_test, side_by_side
from .stdin import load, shown_name

Tally = tuple[int, int, int]  # passed, failed, undecided
LONGEST_NAME = 72


@dataclass(frozen=True)
class NamedCheck:
    """One check: ``name`` is unique in its file, ``test`` contains this check alone, ``line`` counts from 1."""

    name: str
    test: BoundTest
    check: Check
    line: int


def named_checks(module: Module) -> tuple[NamedCheck, ...]:
    """Every check of a text, in its order, with names such as ``longformer at n = 8: row 5 == {0, 3..7}``."""
    found: list[NamedCheck] = []
    seen: dict[str, int] = {}
    for test in bound_tests(module):
        for check in test.checks:
            span = check.span or test.span
            name = visible_line(" ".join(f"{test.title}: {_words(check)}".split()))
            seen[name] = seen.get(name, 0) + 1
            if seen[name] > 1:
                name = f"{name} ({seen[name]})"
            found.append(NamedCheck(name, replace(test, checks=(check,)), check, span.position(span.start)[0]))
    return tuple(found)


def _words(check: Check) -> str:
    """The check as the text has it, on one line."""
    if isinstance(check, Picture):
        return "picture"
    if check.span is None:
        return type(check).__name__.lower()
    text = " ".join(check.span.source.text[check.span.start : check.span.end].split())
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


def judge(named: NamedCheck) -> Outcome:
    """Runs one check."""
    (outcome,) = run_test(named.test)
    return outcome


def undecided(outcome: Outcome) -> str:
    """How far a claim for all n was checked that neither passed nor failed, and why it is not proved."""
    return f"undecided: {outcome.message}"


def failure_report(named: NamedCheck, outcome: Outcome) -> str:
    """The report of a failed check: its name, its place in the text, and pictures."""
    lines = [f"{outcome.verdict}: {named.name}"]
    span = place(outcome)
    if span is None:
        lines.append(outcome.message)
    else:
        lines = [with_places(lines[0], Label(span, outcome.message))]
    shown = pictures(named, outcome)
    return "\n".join([*lines, "", *(f"    {line}" for line in shown)] if shown else lines)


def place(outcome: Outcome) -> Span | None:
    """The place of a check in its text; for a picture that differs, the first line that differs."""
    check = outcome.check
    span = check.span
    if span is None or not isinstance(check, Picture):
        return span
    text = span.source.text
    start = text.find('"""', span.start, span.end) + 3
    rows: list[Span] = []
    for line in text[start : text.rfind('"""', start, span.end)].splitlines(keepends=True):
        bare = line.strip()
        if bare:
            left = start + line.index(bare)
            rows.append(Span(span.source, left, left + len(bare)))
        start += len(line)
    pairs = zip(rows, outcome.expected, strict=False)
    differing = (row for number, (row, line) in enumerate(pairs) if outcome.got[number : number + 1] != (line,))
    return next(differing, span)


def pictures(named: NamedCheck, outcome: Outcome) -> list[str]:
    """The pictures of a failed check: expected beside got, or the mask and the pairs that contradict the claim."""
    check, counts = outcome.check, outcome.counts
    extent = named.test.extent
    first = 0 if extent is None or extent.q_start is None else extent.q_start[0]
    if isinstance(check, Claim) and outcome.counterexample is not None:
        return drawn(outcome.counterexample)
    if counts is None:
        return []
    match check:
        case Picture(negated=False):
            return contrast(outcome.expected, outcome.got, (first, 0))
        case Row(i=i, members=members) if first <= i < first + len(counts):
            keys = range(counts.shape[1])
            return contrast(_line(members, keys), _line(_kept(counts[i - first]), keys), (i, 0))
        case Column(j=j, members=members) if 0 <= j < counts.shape[1]:
            rows = range(first, first + len(counts))
            expected, got = _stack(members, rows), _stack({q + first for q in _kept(counts[:, j])}, rows)
            return contrast(expected, got, (first, 0))
    return side_by_side((Panel("got", picture(counts)),), (first, 0))


def _kept(counts: Counts) -> set[int]:
    return {int(place) for place in np.flatnonzero(counts)}


def _line(members: Iterable[int], places: range) -> tuple[str, ...]:
    """A set of positions as one line of a picture."""
    inside = frozenset(members)
    return ("".join("#" if place in inside else "." for place in places),)


def _stack(members: Iterable[int], places: range) -> tuple[str, ...]:
    """A set of positions as a picture of one column."""
    return tuple(_line(members, places)[0])


def run_file(path: Path, say: Callable[[str], object], at: Callable[[str], object], summed: bool = True) -> Tally:
    """Runs every check of a file and returns how many passed, failed and were undecided. Raises AttnError.

    ``say`` gets a report of each check that did not pass, and with ``summed`` a line for the file; ``at`` gets the name
    of each check before it runs.
    """
    tally = [0, 0, 0]
    for named in named_checks(load(path)):
        at(f"{shown_name(path)}: {named.name}")
        outcome = judge(named)
        tally[("passed", "failed", "undecided").index(outcome.verdict)] += 1
        if outcome.verdict == "failed":
            say(failure_report(named, outcome) + "\n")
        elif outcome.verdict == "undecided":
            say(f"{shown_name(path)}:{named.line}: {named.name}: {undecided(outcome)}")
    passed, failed, left = tally
    if summed:
        say(f"{shown_name(path)}: {passed} passed, {failed} failed, {left} undecided")
    return passed, failed, left
