"""How long claims for every n take to decide: those of the shipped patterns, of patterns of papers, and random ones.

    python benchmarks/proofs.py

Each claim is decided several times, and its median counts; the process that proves is started before. A claim is affine
where its masks read no table and no hash. Prints the slowest of each group, and writes benchmarks/results/proofs.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from attnc.compiler.ir.expressions import Expr, walk  # noqa: E402
from attnc.compiler.ir.queries import is_opaque, tables_read  # noqa: E402
from attnc.compiler.modules.loader import bound_tests, load_file  # noqa: E402
from attnc.compiler.modules.test_cases import Claim  # noqa: E402
from attnc.compiler.verify.for_all import decide  # noqa: E402
from tests.fuzz.proofs import TABLES, generate  # noqa: E402

RESULT = Path(__file__).with_name("results") / "proofs.json"
RANDOM = 300  # masks, with three claims each
SLOWEST = 5


@dataclass(frozen=True)
class Asked:
    """One claim. ``group``: where it comes from."""

    group: str
    title: str
    mask: Expr
    claim: Claim
    tables: tuple[object, ...]
    heads: int | None

    @property
    def affine(self) -> bool:
        masks = [self.mask, *([] if self.claim.operand is None else [self.claim.operand])]
        return not any(tables_read(mask) or any(is_opaque(node) for node in walk(mask)) for mask in masks)


@dataclass(frozen=True)
class Row:
    """The time of one claim in milliseconds, the median of its rounds."""

    group: str
    title: str
    affine: bool
    verdict: str
    milliseconds: float


def asked() -> Iterator[Asked]:
    """Every claim that is measured."""
    for group, paths in (
        ("shipped", sorted((ROOT / "patterns").rglob("*.attn"))),
        ("papers", [ROOT / "tests" / "proofs" / "papers.attn"]),
    ):
        for path in paths:
            for test in bound_tests(load_file(path)):
                for check in test.checks if test.extent is None else ():
                    assert isinstance(check, Claim)
                    title = f"{path.stem}: {test.title}: {check.kind}"
                    yield Asked(group, title, test.subject.mask, check, test.subject.tables, test.heads)
    for seed in range(RANDOM):
        case = generate(seed)
        names = {name for mask in case.masks for name in tables_read(mask)}
        tables = tuple(table for table in TABLES if table.name in names)
        for claim in case.claims:
            yield Asked("random", f"seed {seed}: {claim.kind}", case.mask, claim, tables, None)


def measured(claim: Asked, rounds: int) -> Row:
    """One claim."""
    taken, verdict = [], ""
    for _ in range(rounds):
        start = time.perf_counter()
        verdict = decide(claim.mask, claim.tables, claim.claim, claim.heads).state  # type: ignore[arg-type]
        taken.append(time.perf_counter() - start)
    return Row(claim.group, claim.title, claim.affine, verdict, statistics.median(taken) * 1e3)


def summary(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """By group, affine claims and others: how many, the median, the most, and how many are undecided."""
    found = {}
    for group in dict.fromkeys(row.group for row in rows):
        for affine in (True, False):
            own = [row for row in rows if (row.group, row.affine) == (group, affine)]
            if own:
                times = [row.milliseconds for row in own]
                found[f"{group}, {'affine' if affine else 'others'}"] = {
                    "claims": len(own), "median": statistics.median(times), "most": max(times),
                    "undecided": sum(row.verdict == "undecided" for row in own),
                }  # fmt: skip
    return found


def document(rows: Sequence[Row]) -> str:
    """What is written: of random claims the figures of the group only."""
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    what = {"what": __doc__.partition("\n")[0], **machine, "milliseconds": summary(rows)}
    return json.dumps({**what, "rows": [asdict(row) for row in rows if row.group != "random"]}, indent=2) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each claim is decided (3)")
    parser.add_argument("--output", type=Path, default=RESULT, help="where the figures go")
    given = parser.parse_args(arguments)
    claims = list(asked())
    for claim in claims[:20]:
        measured(claim, 1)  # the worker is started, and whatever is loaded at first use
    rows = [measured(claim, given.rounds) for claim in claims]
    for group, figures in summary(rows).items():
        print(
            f"{group:<16}  {figures['claims']:5} claims  median {figures['median']:7.2f} ms  most "
            f"{figures['most']:8.2f} ms  {figures['undecided']} undecided"
        )
        own = [row for row in rows if f"{row.group}, {'affine' if row.affine else 'others'}" == group]
        for row in sorted(own, key=lambda row: -row.milliseconds)[:SLOWEST]:
            print(f"    {row.milliseconds:8.2f} ms  {row.verdict:<9}  {row.title}")
    given.output.write_text(document(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
