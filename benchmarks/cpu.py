"""attnc on a CPU, in calls large and small, beside what one would use there and beside the machine's limits.

    python benchmarks/cpu.py                   the standard rows, eight minutes on two idle cores
    python benchmarks/cpu.py --full            every length, head dimension and dtype as well: hours
    python benchmarks/cpu.py --only decode     the rows with this in their name or group; several may be given
    python benchmarks/cpu.py --again           makes rows again that are there

Questions (groups small, tables, decode, causal, masks, training, dtypes and sparsity): 12 heads of 64 in fp32 unless a
row says otherwise. In each round attnc and what it is compared with run in turn, for about as long; a figure is the
median of the rounds' ratios. Of decoding it is the bytes of keys and values that a step keeps, in a second, over those
of a copy (256 MiB read and written); caches take turns, so that none of them lies in the processor's cache. Of masks
and training it is the floating-point operations that kept pairs need, in a second, over those of the product of two
2048 x 2048 matrices. Of sparsity chosen at run time (8 heads) it is the time for a pair over that of the causal window
of as many pairs. Of all else it is attnc's time over another's.

Peers (group peers): a pattern at a length, a head dimension and a dtype, forward and backward, by attnc and by all that
computes it: PyTorch's attention (causal, with a dense mask, block by block over slices), FlexAttention's forward,
transformers' Longformer and BigBird, ONNX Runtime's GroupQueryAttention and OpenVINO's attention, all in turn, beside
the product of two matrices. Results that differ are a fault. `make bench-peers` installs the last two, and what draws
the plot; without them a line says which are missing.

Each row is in the file (benchmarks/results/cpu.json, cpu_peers.json) as soon as it is made, and a second start goes on
behind it, for the same sources and versions. Prints a table of each, and draws benchmarks/results/cpu_peers.svg. The
exit code is 0 when all rows asked for are there and sound, else 1.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import _cpu_calls
import _cpu_masks
import _cpu_peers
import _rows
import _serving
import _timing
import torch
from _questions import Question, measure, met
from rich import box
from rich.console import Console
from rich.table import Table

GROUPS: Mapping[str, Callable[[], Iterator[Question]]] = {
    "small": _cpu_calls.small_calls,
    "tables": _cpu_calls.calls_with_tables,
    "decode": _cpu_calls.decoding,
    "causal": _cpu_masks.causal_whole,
    "masks": _cpu_masks.masks,
    "training": _cpu_masks.training,
    "dtypes": _cpu_masks.half_precision,
    "sparsity": _cpu_masks.sparsity,
}
WIDE = 200  # columns of a table that no terminal shows
SOURCES = ("attnc", "compiler", "runtime", "templates", "patterns", "benchmarks")


def asked_for(row: _rows.Row, only: Sequence[str]) -> bool:
    """Whether a row is among those chosen by words of names and groups; all are without words."""
    return not only or any(word == row.group or word.lower() in row.name.lower() for word in only)


def questions(only: Sequence[str], rounds: int) -> Iterator[_rows.Row]:
    """A row for each question that is asked for. Made one by one: each holds its tensors."""
    for group, made in GROUPS.items():
        for question in made():
            row = _rows.Row(group, question.name, partial(measure, question, rounds))
            if asked_for(row, only):
                yield row


def make(rows: Iterable[_rows.Row], ledger: _rows.Ledger, again: bool, console: Console) -> list[_rows.Made]:
    """Makes the rows that are not there, or all again; all that were asked for, in order."""
    found = []
    for row in rows:
        if again:
            ledger.rows.pop(row.name, None)
        if not ledger.has(row):
            console.print(f"{row.group}: {row.name}")
            _rows.make_all([row], ledger)
        found.append(ledger.rows[row.name])
        torch.compiler.reset()
    return found


def table_of_questions(made: Sequence[_rows.Made]) -> Table:
    table = Table("", "figure", "", "asked", "attnc", "beside", box=box.SIMPLE_HEAD)
    for row in made:
        if row.faults:
            table.add_row(row.name, "–", "; ".join(row.faults))
            continue
        figures: Any = row.figures
        bound = "at least" if figures["more"] else "at most"
        asked = "" if figures["asked"] is None else f"{bound} {figures['asked']:g}"
        missed = "" if met(figures) else ", missed"
        times = (f"{figures[key]:,.0f} µs" for key in ("ours_us", "other_us"))
        table.add_row(row.name, f"{figures['figure']:.2f}", figures["told"], asked + missed, *times)
    return table


def table_of_peers(made: Sequence[_rows.Made]) -> Table:
    """A line for each way to each cell; what a backward takes stands behind the forward."""
    columns = ("", "", "forward", "times attnc's", "of a product", "backward", "times attnc's", "")
    table = Table(*columns, box=box.SIMPLE_HEAD)
    for row in made:
        title = row.name
        for way, figures in row.figures.get("ways", {}).items():
            cells = []
            for direction in ("forward", "backward"):
                seconds = _cpu_peers.median(figures, direction)
                cells.append("" if seconds is None else f"{1e3 * seconds:,.2f} ms")
                cells.append("" if seconds is None else f"{figures['slower'][direction]:.2f}")
            share = figures["share"].get("forward")
            shown = "" if share is None else f"{share:.2f}"
            table.add_row(title, way, *cells[:2], shown, *cells[2:], figures["why"])
            title = ""
        if row.faults:
            table.add_row(title, "; ".join(row.faults))
    return table


def ledger(name: str, rounds: int) -> _rows.Ledger:
    """The rows that were made of these sources, in so many rounds, under these versions. Rows with faults are made
    again.
    """
    of = {"sources": _rows.digest(SOURCES), "rounds": rounds, **_timing.settings(), **_serving.versions()}
    found = _rows.Ledger(_timing.RESULTS / f"{name}.json", of, {})
    found.forget_faulty()
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="rows with this in name or group")
    parser.add_argument("--full", action="store_true", help="every length, head dimension and dtype of the peers")
    parser.add_argument("--again", action="store_true", help="make rows again that are there")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count: %(default)s")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # what transformers and torch's compiler say is their own affair
    torch.manual_seed(0)
    console = Console(stderr=True)
    for line in _serving.missing():
        console.print(line, markup=False)
    answers = make(questions(given.only, given.rounds), ledger("cpu", given.rounds), given.again, console)
    beside = (row for row in _cpu_peers.rows(given.full, given.rounds) if asked_for(row, given.only))
    kept = ledger("cpu_peers", given.rounds)
    peers = make(beside, kept, given.again, console)
    tables = Console(width=None if sys.stdout.isatty() else WIDE)
    if answers:
        tables.print(table_of_questions(answers))
    if peers:
        tables.print(table_of_peers(peers))
        _plot(kept, console)
    if not answers and not peers:
        console.print(f"no row has {' or '.join(given.only)} in its name or group", markup=False)
    return 1 if not (answers or peers) or any(row.faults for row in (*answers, *peers)) else 0


def _plot(kept: _rows.Ledger, console: Console) -> None:
    if not _serving.installed("matplotlib"):
        console.print(f"no plot: matplotlib is not installed: {_serving.INSTALL}", markup=False)
        return
    from _plot import plot

    path = _timing.RESULTS / "cpu_peers.svg"
    plot([row.figures for row in kept.rows.values() if not row.faults], path)
    console.print(f"drawn to {path}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
