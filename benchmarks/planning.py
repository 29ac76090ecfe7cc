"""What planning costs: the schedules of published patterns for 1,048,576 tokens, beside torch's block mask.

    python benchmarks/planning.py

One thread, and its processor time, which what else the computer does adds nothing to. For each pattern the time of a
first schedule, with nothing remembered but the program; of the same one again; of one for another length; the most
memory that the first takes beyond what it is given; and what bounds it ends with. Beside them
``create_block_mask`` of causal and of a window at 16,384 tokens, in the same run: it takes time and memory in the
square of the length. Prints a table, and writes benchmarks/results/planning.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from _patterns import PUBLISHED, Published
from _timing import write
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from attnc.compiler.arrange.search import arrange
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.plan.orders import Tiles
from attnc.compiler.plan.schedule import Bounds, Schedule
from attnc.compiler.schedule import periodic
from attnc.compiler.schedule.segments import schedule
from attnc.compiler.schedule.statistics import totals

N, OTHER, PEER = 2**20, 2**20 - 1000, 2**14
TILES = Tiles(64, 64)


@dataclass(frozen=True)
class Row:
    """Seconds of the processor, and bytes. ``bounds``: of each segment, in words."""

    name: str
    n: int
    arranged: float
    first: float
    again: float
    other: float
    bytes: int
    area: float
    bounds: list[str]


def seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def peak(call: Callable[[], Any]) -> int:
    tracemalloc.start()
    call()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def measure(pattern: Published, rounds: int) -> Row:
    attention, contents = pattern.attention(N), pattern.contents(N)
    start = time.process_time()
    program = arrange(attention, TILES)
    arranged = time.process_time() - start

    def plan(n: int = N) -> Schedule:
        return schedule(program, CallShape(n, n), contents if n == N else pattern.contents(n))

    def first() -> Schedule:
        periodic.forget()
        return plan()

    found = plan()
    return Row(
        name=pattern.title,
        n=N,
        arranged=arranged,
        first=statistics.median(seconds(first) for _ in range(rounds)),
        again=statistics.median(seconds(plan) for _ in range(rounds)),
        other=statistics.median(seconds(lambda n=OTHER - 64 * turn: plan(n)) for turn in range(rounds)),
        bytes=peak(first),
        area=totals(program, found, CallShape(N, N)).area,
        bounds=[described(segment.by_query) for kernel in found.kernels for segment in kernel.segments],
    )


def described(bounds: Bounds) -> str:
    runs = f"{len(bounds.runs.start):,} runs"
    if not bounds.shift and bounds.period > 1:
        return f"{runs} in rows of their own"
    return f"closed form, {runs}" if bounds.period == 1 else f"period of {bounds.period}, {runs}"


def peers(rounds: int) -> list[dict[str, object]]:
    """torch's own block masks, of a length that it can bear."""

    def causal(_batch: Tensor, _head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return k <= q

    def window(_batch: Tensor, _head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q - k).abs() <= 512

    found: list[dict[str, object]] = []
    for keeps in (causal, window):
        make = partial(create_block_mask, keeps, None, None, PEER, PEER, "cpu")
        took = statistics.median(seconds(make) for _ in range(rounds))
        found.append({"name": f"create_block_mask, {keeps.__name__}", "n": PEER, "seconds": took})
    return found


def show(rows: list[Row], beside: list[dict[str, object]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, title=f"Schedules for {N:,} tokens")
    for column in ("pattern", "first, ms", "again, ms", "another n, ms", "MiB", "bounds"):
        table.add_column(column, justify="left" if column in ("pattern", "bounds") else "right")
    for row in rows:
        times = (f"{1000 * x:,.1f}" for x in (row.first, row.again, row.other))
        table.add_row(row.name, *times, f"{row.bytes / 2**20:.1f}", "; ".join(row.bounds))
    for peer in beside:
        table.add_row(
            f"{peer['name']} at n = {peer['n']:,}", f"{1000 * float(str(peer['seconds'])):,.1f}", "", "", "", ""
        )
    Console(width=200).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(pattern, arguments.rounds) for pattern in PUBLISHED]
    beside = peers(max(arguments.rounds // 3, 1))
    show(rows, beside)
    path = write("planning", {"rounds": arguments.rounds, "rows": [asdict(row) for row in rows], "beside": beside})
    print(path)


if __name__ == "__main__":
    main()
