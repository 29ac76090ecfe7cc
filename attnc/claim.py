"""`attnc test`: the test blocks of one file, judged and told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .compiler.claims import Outcome, run_test
from .compiler.module import bound_tests, load_file

Tally = tuple[int, int, int]  # passed, failed, undecided


def run_file(path: Path, say: Callable[[str], object]) -> Tally:
    """Judge every test block of a file; what did not pass is said, then a line for the file. Raises AttnError."""
    tally = [0, 0, 0]
    for test in bound_tests(load_file(path)):
        for outcome in run_test(test):
            tally[("passed", "failed", "undecided").index(outcome.verdict)] += 1
            if not outcome.passed:
                say("\n".join(told(path, test.title, outcome)))
    passed, failed, undecided = tally
    say(f"{path}: {passed} passed, {failed} failed, {undecided} undecided")
    return passed, failed, undecided


def told(path: Path, title: str, outcome: Outcome) -> list[str]:
    """What became of one check, and where it stands."""
    span = outcome.check.span
    place = "" if span is None else ":{}:{}".format(*span.position(span.start))
    lines = [f"{path}{place}: {title}: {outcome.verdict}: {outcome.message}".rstrip(": ")]
    if outcome.expected or outcome.got:
        wide = max(map(len, ("expected", *outcome.expected)))
        rows = max(len(outcome.expected), len(outcome.got))
        for number, (left, right) in enumerate(
            zip(_padded(outcome.expected, rows), _padded(outcome.got, rows), strict=True)
        ):
            if not number:
                lines.append(f"    {'expected':<{wide}}   got")
            lines.append(f"    {left:<{wide}}   {right}")
    return lines


def _padded(lines: tuple[str, ...], rows: int) -> tuple[str, ...]:
    return lines + ("",) * (rows - len(lines))
