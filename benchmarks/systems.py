"""Shipped systems beside their originals' own code, on a CPU.

    python benchmarks/systems.py [--only PART …] [--rounds 5] [--again]

Each system that ``tests/systems`` offers for it: a forward pass without gradients at a size at which speed matters,
ours and theirs in turn, in one process. The ratio is the median of the rounds' ratios. Results are kept row by row in
benchmarks/results/systems_speed.json; a run that was broken off goes on, and a row is made again where the system's
text or its comparison has changed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import _rows
import _timing
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.systems import all_systems
from tests.systems.comparison import distance
from tests.systems.freshness import speed_settings_of
from tests.systems.system import System

OURS, THEIRS = "attnc", "original"
AGREED = 1e-2  # of the largest entry: the two sides compute the same. Transformers' Reformer is 3e-3 off in float32


def timed() -> tuple[System, ...]:
    """The systems whose original can be timed."""
    return tuple(system for system in all_systems.SYSTEMS if system.timed is not None)


def rows(rounds: int) -> Iterator[_rows.Row]:
    """A row for each of them."""
    for system in timed():
        yield _rows.Row("speed", system.name, partial(measure, system, rounds), speed_settings_of(system))


def measure(system: System, rounds: int) -> _rows.Found:
    """Medians in seconds, and how often ours goes into theirs."""
    assert system.timed is not None
    torch.compiler.reset()  # what an original compiles does not depend on those before it
    ours, theirs = system.timed()
    contestants = [_timing.Contestant(OURS, ours), _timing.Contestant(THEIRS, theirs)]
    with torch.no_grad():
        faults = tuple(disagreement(ours(), theirs()))
    times = _timing.interleave(contestants, None, rounds, system.name)
    seconds = {name: found.forward for name, found in times.items()}
    return _rows.Found(figures(seconds), faults)


def disagreement(ours: object, theirs: object) -> Iterator[str]:
    """Yields a fault where two tensors of one shape are not about equal. Originals may return other things as well, of
    which nothing is said here.
    """
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor) and ours.shape == theirs.shape:
        found = distance((ours, theirs))
        if not found <= AGREED:
            yield f"the two sides differ by {found:.1e} of the largest entry"


def figures(seconds: Mapping[str, Sequence[float]]) -> Mapping[str, object]:
    """What is kept of the seconds of every round."""
    ratios = [theirs / ours for ours, theirs in zip(seconds[OURS], seconds[THEIRS], strict=True)]
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return {**medians, "ratio": statistics.median(ratios), "seconds": seconds}


def table(made: Sequence[_rows.Made]) -> Table:
    shown = Table("system", "attnc", "original", "original / attnc", "", box=box.SIMPLE)
    for row in made:
        numbers = [row.figures.get(key) for key in (OURS, THEIRS, "ratio")]
        cells = [f"{1e3 * x:,.1f} ms" if x else "–" for x in numbers[:2]]
        shown.add_row(row.name, *cells, f"{numbers[2]:.2f}×" if numbers[2] else "–", "; ".join(row.faults))
    return shown


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="systems with this in their name")
    parser.add_argument("--rounds", type=int, default=5, help="%(default)s unless given")
    parser.add_argument("--again", action="store_true", help="make the rows again that are there")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    every = list(rows(given.rounds))
    asked = [row for row in every if not given.only or any(part.lower() in row.name.lower() for part in given.only)]
    beside = {"settings": _timing.settings()}
    ledger = _rows.Ledger(_timing.RESULTS / "systems_speed.json", {"rounds": given.rounds}, beside)
    known = {row.name for row in every} - ({row.name for row in asked} if given.again else set())
    ledger.rows = {name: made for name, made in ledger.rows.items() if name in known}
    ledger.forget_faulty()
    outcome = _rows.make_all(asked, ledger)
    Console().print(table([ledger.rows[row.name] for row in asked if ledger.has(row)]))
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
