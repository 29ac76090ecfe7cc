"""The Triton kernels judged without a device: ``python -m tests.gate``.

Compiles the kernels of every shipped pattern for each target, and says of each what it needs and what its loops do.
``--choice 64x64w4s3`` asks instead what other tiles (queries by keys), warps and stages would give.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence

from . import table
from .account import UntoldError, account
from .kernels import Choice, compiled
from .patterns import DIMS, PASSES, PATTERNS, TARGETS


def choice(text: str) -> Choice:
    """A choice as it is written on the command line."""
    match = re.fullmatch(r"(\d+)x(\d+)w(\d+)s(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form 64x128w8s2: queries, keys, warps, stages")
    return Choice(*map(int, match.groups()))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("python -m tests.gate", description=(__doc__ or "").split("\n")[0])
    made.add_argument("--only", action="append", choices=PATTERNS, metavar="PATTERN", help=f"of {', '.join(PATTERNS)}")
    made.add_argument("--dim", action="append", type=int, metavar="D", help=f"head dimension: of {DIMS} unless given")
    made.add_argument("--target", action="append", choices=TARGETS, help="may be given several times")
    made.add_argument("--pass", action="append", choices=PASSES, dest="passes", help="may be given several times")
    made.add_argument(
        "--choice", action="append", type=choice, metavar="64x128w8s2",
        help="queries, keys, warps and stages to try in place of attnc's own; may be given several times",
    )  # fmt: skip
    return made


def rows(options: argparse.Namespace) -> Iterator[str]:
    """The lines of the table, each as soon as it is known."""
    for name in options.only or PATTERNS:
        attention = PATTERNS[name].attention()
        for dim in options.dim or DIMS:
            for target in options.target or TARGETS:
                for kind in options.passes or PASSES:
                    for tried in options.choice or (None,):
                        try:
                            for kernel in compiled(attention, dim, target, kind, tried):
                                yield from table.lines(name, account(kernel))
                        except UntoldError as error:
                            yield f"{name:11} {dim:3} {target:7} {kind:20} {error}"


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    print("\n".join((*table.legend(), table.HEADING)), flush=True)
    for line in rows(options):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
