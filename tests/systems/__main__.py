"""Every system against its original, every declaration against its definition: ``python -m tests.systems``.

    python -m tests.systems [--only PART …] [--backend cpp] [--again]

Kernels are built quickly, as those of the tests are, unless ATTNC_OPTIMISATION says otherwise: which pairs they keep
is in their source. On C++ kernels what was found is kept in ``benchmarks/results/systems.json``, row by row: a run that
was broken off goes on, and a row is made again where its text or its comparison has changed. Ends with 1 where
something differs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import attnc
from tests.systems import declarations
from tests.systems.all_systems import HERE, SYSTEMS
from tests.systems.comparison import differences, faults
from tests.systems.declarations import Declared
from tests.systems.freshness import settings_of
from tests.systems.system import System

BENCHMARKS = HERE.parents[1] / "benchmarks"
RESULTS = BENCHMARKS / "results" / "systems.json"
SYSTEM, DECLARATION = "system", "declaration"

sys.path.insert(0, str(BENCHMARKS))
import _rows  # noqa: E402
import _timing  # noqa: E402


def rows() -> Iterator[_rows.Row]:
    """A row for each system, and for each declaration."""
    for system in SYSTEMS:
        yield _rows.Row(SYSTEM, system.name, partial(_system, system), settings_of(system))
    for subject in declarations.declared():
        yield _rows.Row(DECLARATION, str(subject), partial(_declaration, subject), settings_of(subject))


def _system(system: System) -> _rows.Found:
    compared = system.compare()
    found = differences(compared)
    figures = {
        "pairs_that_differ": found.pairs,
        "pairs": None if compared.mask is None else compared.mask[0].numel(),
        "output": found.output,
        "gradient": found.gradient,
        "tolerance": system.tolerance,
    }
    return _rows.Found(figures, faults(compared, system.tolerance))


def _declaration(subject: Declared) -> _rows.Found:
    bindings = declarations.bound(subject, several=True)
    wrong = []
    for one in bindings:
        try:
            declarations.check(subject, one)
        except AssertionError as error:
            wrong.append(f"{one.title}: {error}")
    return _rows.Found({"bindings": len(bindings)}, tuple(wrong))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.systems", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="PART", help="rows with this in their name")
    parser.add_argument("--backend", choices=("cpp", "blocked"), default="cpp", help="%(default)s unless given")
    parser.add_argument("--again", action="store_true", help="make the rows again that are there")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    every = list(rows())
    asked = [row for row in every if not given.only or any(part.lower() in row.name.lower() for part in given.only)]
    level = attnc.settings.optimisation if os.environ.get("ATTNC_OPTIMISATION") else 0
    with (
        tempfile.TemporaryDirectory() as folder,
        attnc.settings.override(backend=given.backend, optimisation=level),
    ):
        path = RESULTS if given.backend == "cpp" else Path(folder, "systems.json")
        ledger = _rows.Ledger(path, {"backend": given.backend}, {"settings": _timing.settings()})
        known = {row.name for row in every} - ({row.name for row in asked} if given.again else set())
        ledger.rows = {name: made for name, made in ledger.rows.items() if name in known}
        ledger.forget_faulty()
        outcome = _rows.make_all(asked, ledger, told=_told)
        made = [ledger.rows[row.name] for row in asked if ledger.has(row)]
    _print(made)
    print(f"{outcome.sound} sound, {outcome.faulty} faulty, {outcome.left} left")
    return outcome.code


def _told(made: _rows.Made) -> None:
    print(f"{made.name}: {'; '.join(made.faults) or 'sound'} ({made.seconds:.1f} s)", file=sys.stderr, flush=True)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"


def _print(made: Sequence[_rows.Made]) -> None:
    """The systems as a table, and what is wrong."""
    table = Table("system", "mask", "output", "gradient", "allowed")
    for row in made:
        if row.group == SYSTEM and row.figures:
            pairs = row.figures["pairs_that_differ"]
            mask = "–" if pairs is None else "equal" if pairs == 0 else f"{pairs} differ"
            table.add_row(row.name, mask, *(_number(row.figures[key]) for key in ("output", "gradient", "tolerance")))
    if table.row_count:
        Console().print(table)
    for row in made:
        for fault in row.faults:
            print(f"{row.name}: {fault}")


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    sys.exit(main())
