"""The Triton kernels judged without a device: ``python -m tests.gate``.

Compiles the kernels of every shipped pattern for each target, and FlexAttention's templates for the same masks; reads
from the machine code what each needs and what its loops do, and predicts times on Hopper. Prints a line for each kernel
as soon as it is known, then each target of tests/gate/targets.py as met or missed; ends with 1 where one is missed. A
run without choices writes benchmarks/results/gate.json. Compiled kernels are kept in ``.gate/``.

``--choice 64x64w4s3`` asks instead what other tiles (queries by keys), warps and stages would give.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from . import table
from .figures import Figures, measure
from .kernels import Choice
from .patterns import DIMS, KINDS, PATTERNS, TARGETS, kinds
from .targets import results

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "gate.json"
Task = tuple[str, int, str, str, Choice | None, bool]


def choice(text: str) -> Choice:
    """A choice as it is written on the command line."""
    match = re.fullmatch(r"(\d+)x(\d+)w(\d+)s(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 64x128w8s2: queries, keys, warps, stages")
    return Choice(*map(int, match.groups()))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("python -m tests.gate", description=(__doc__ or "").split("\n")[0])
    made.add_argument("--only", action="append", choices=PATTERNS, metavar="PATTERN", help=f"of {', '.join(PATTERNS)}")
    made.add_argument("--dim", action="append", type=int, metavar="D", help="head dimension")
    made.add_argument("--target", action="append", choices=TARGETS, help=f"of {', '.join(TARGETS)}")
    made.add_argument("--pass", action="append", choices=KINDS, dest="passes", help=f"of {', '.join(KINDS)}")
    made.add_argument(
        "--choice", action="append", type=choice, metavar="64x128w8s2",
        help="queries, keys, warps and stages to try in place of attnc's own; no target is judged",
    )  # fmt: skip
    made.add_argument("--alone", action="store_true", help="without FlexAttention and predictions")
    made.add_argument("--workers", type=int, default=2, help="processes that compile (2)")
    made.add_argument("--json", type=Path, metavar="FILE", help="where to write what is found of a part")
    return made


def tasks(options: argparse.Namespace) -> list[Task]:
    """What is to be measured, in the order of the table."""
    return [
        (name, dim, target, kind, tried, options.alone)
        for target in options.target or TARGETS
        for name in options.only or PATTERNS
        for dim in options.dim or DIMS[target]
        for kind in kinds(name, target)
        if not options.passes or kind in options.passes
        for tried in options.choice or (None,)
    ]


def measured(wanted: Sequence[Task], workers: int) -> Iterator[Figures]:
    """The figures of each task, in order."""
    if workers < 2 or len(wanted) < 2:
        yield from (measure(*task) for task in wanted)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(measure, *zip(*wanted, strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    print("\n".join((*table.LEGEND, table.HEADING)), flush=True)
    found = []
    for figures in measured(tasks(options), options.workers):
        found.append(figures)
        print("\n".join(table.lines(figures)), flush=True)
    if options.choice:
        return 0
    judged = results(found)
    print("\n".join(table.verdict(judged)))
    whole = not (options.only or options.dim or options.target or options.passes or options.alone)
    path = options.json or (RESULTS if whole else None)
    if path is not None:
        path.write_text(table.record(found, judged), encoding="utf-8")
    return int(not all(result.met for result in judged))


if __name__ == "__main__":
    sys.exit(main())
