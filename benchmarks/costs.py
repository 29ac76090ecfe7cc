"""What the constants of compiler/arrange/cost.py are on this computer's CPU, in fp32.

    python benchmarks/costs.py

4 heads of 64, full attention over n = 2,048 tokens, whose every tile is full: by itself, and with one thing changed.
All variants run in turn, and each figure is the median, over the rounds, of what a variant takes of the plain one of
its round. Prints a table, and writes benchmarks/results/costs.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from _timing import Contestant as Timed
from _timing import interleave, write
from rich import box
from rich.console import Console
from rich.table import Table as Printed
from torch import Tensor

from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import Table
from attnc.compiler.ir.expressions import LOGIT, TRUE, Const, Expr, K, Member
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.plan.orders import PARTIAL, Axis, Gathered, Order, View, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.compiler.plan.schedule import Bounds, Runs, Schedule
from attnc.compiler.schedule.segments import schedule
from attnc.runtime.base.launch import Launch, TableArgument
from attnc.runtime.cpp import executor

HEADS, HEAD_DIM, N, TILE = 4, 64, 2048, 64
PLAIN = "plain"
TABLES = (Table("all", "set", ()),)
ALL_KEYS = Member(K, "0", ())
HALF = constructors.less(K, Const(N // 2))


@dataclass(frozen=True)
class Row:
    """``share``: of what the plain variant takes, forward; ``value``: what it says of a constant."""

    variant: str
    share: float
    constant: str
    value: float


def program(rows: Order, keys: Order, condition: Expr = TRUE) -> Program:
    return Program((Kernel(rows, (Segment(keys, condition),), "store"),), condition, LOGIT, None, TABLES)


def merged() -> Program:
    """Half of the keys in one kernel, the others in a second."""
    halves = (HALF, constructors.negation(HALF))
    kernels = (
        Kernel(natural(TILE), (Segment(natural(TILE), half),), output)
        for half, output in zip(halves, ("store", "merge"), strict=True)
    )
    return Program(tuple(kernels), TRUE, LOGIT, None, TABLES)


def changed(planned: Schedule, change: Callable[[Bounds], Bounds]) -> Schedule:
    """The schedule of a program of one kernel and one segment, with other bounds."""
    (kernel,) = planned.kernels
    (segment,) = kernel.segments
    other = replace(segment, by_query=change(segment.by_query), by_key=change(segment.by_key))
    return replace(planned, kernels=(replace(kernel, segments=(other,)),))


def partial(bounds: Bounds) -> Bounds:
    return replace(bounds, runs=replace(bounds.runs, kind=np.full_like(bounds.runs.kind, PARTIAL)))


def one_by_one(bounds: Bounds) -> Bounds:
    """A run for each tile."""
    tiles = N // TILE
    start = np.tile(np.arange(tiles, dtype=np.int32), tiles)
    pointer = np.arange(tiles + 1, dtype=np.int64) * tiles
    runs = Runs(pointer, start, np.ones_like(start), np.full(len(start), bounds.runs.kind[0]))
    return Bounds(tiles, 0, False, 1, 1, runs)


Change = Callable[[Bounds], Bounds] | None


def launch(
    subject: Program, inputs: tuple[Tensor, Tensor, Tensor], change: Callable[[Bounds], Bounds] | None
) -> Launch:
    everything = HostTable(np.ones(N, bool))
    planned = schedule(subject, CallShape(N, N, HEADS), (everything,))
    table = TableArgument(torch.ones(N, dtype=torch.uint8), False)
    q, k, v = inputs
    scale = torch.full((HEADS,), HEAD_DIM**-0.5)
    start = torch.zeros(1, dtype=torch.int64)
    planned = planned if change is None else changed(planned, change)
    return Launch(subject, planned, q, k, v, (table,), scale, start, False, 0.0, 0)


def variants(inputs: tuple[Tensor, ...]) -> dict[str, Launch]:
    whole = natural(TILE)
    residues = View((Axis(1, 4), Axis(4, None, TILE)))
    near = constructors.less_equal(constructors.absolute(constructors.sub(K, Const(N))), Const(4 * N))
    made: dict[str, tuple[Program, Change]] = {
        PLAIN: (program(whole, whole), None),
        "every tile partial": (program(whole, whole, near), partial),
        "gathered keys, 64 to a tile": (program(whole, Gathered(ALL_KEYS, TILE)), None),
        "gathered keys, 16 to a tile": (program(whole, Gathered(ALL_KEYS, 16)), None),
        "32 keys to a tile": (program(whole, natural(32)), None),
        "16 keys to a tile": (program(whole, natural(16)), None),
        "32 rows to a tile": (program(natural(32), whole), None),
        "16 rows to a tile": (program(natural(16), whole), None),
        "residues": (program(residues, residues), None),
        "a run for each tile": (program(whole, whole), one_by_one),
        "a second kernel": (merged(), None),
    }
    return {name: launch(subject, inputs, change) for name, (subject, change) in made.items()}


# For each variant, the constant of compiler/arrange/cost.py that it tells, from its share of the plain variant.
CONSTANTS: dict[str, tuple[str, Callable[[float], float]]] = {
    "every tile partial": ("PARTIAL_TILE", lambda share: share),
    "gathered keys, 64 to a tile": ("GATHER", lambda share: share),
    "32 keys to a tile": ("SMALL_KEYS", lambda share: (share - 1) / (1 / 32 - share / 64)),
    "16 keys to a tile": ("SMALL_KEYS", lambda share: (share - 1) / (1 / 16 - share / 64)),
    "32 rows to a tile": ("SMALL_ROWS", lambda share: share - 1),
    "16 rows to a tile": ("SMALL_ROWS", lambda share: (share - 1) / 2),
    "a run for each tile": ("RUN", lambda share: (share - 1) * TILE),
    "a second kernel": ("MERGE", lambda share: (share - 1) * N),
}


def measure(rounds: int) -> list[Row]:
    torch.manual_seed(0)
    inputs = (
        torch.randn(1, HEADS, N, HEAD_DIM),
        torch.randn(1, HEADS, N, HEAD_DIM),
        torch.randn(1, HEADS, N, HEAD_DIM),
    )
    entered = variants(inputs)
    expected = executor.forward(entered[PLAIN])[0]
    for name, each in entered.items():
        if not torch.allclose(executor.forward(each)[0], expected, atol=1e-5):
            raise ValueError(f"{name} differs from {PLAIN}")
    timed = [Timed(name, lambda each=each: executor.forward(each)[0]) for name, each in entered.items()]
    times = interleave(timed, None, rounds, "all in turn")
    rows = []
    for name, each in times.items():
        ratios = (own / plain for own, plain in zip(each.forward, times[PLAIN].forward, strict=True))
        share = statistics.median(ratios)
        constant, value = CONSTANTS.get(name, ("", lambda share: share))
        rows.append(Row(name, share, constant, value(share)))
    return rows


def main(rounds: int = 15) -> None:
    measured = measure(rounds)
    table = Printed("", "times plain", "constant", "value", box=box.SIMPLE_HEAD)
    for row in measured:
        table.add_row(row.variant, f"{row.share:.3f}", row.constant, f"{row.value:.2f}" if row.constant else "")
    Console().print(table)
    path = write("costs", {"n": N, "rounds": rounds, "rows": [asdict(row) for row in measured]})
    Console(stderr=True).print(f"written to {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="rounds that count")
    main(parser.parse_args(sys.argv[1:]).rounds)
