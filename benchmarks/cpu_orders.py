"""Patterns that natural order serves badly, on the CPU in fp32, beside a plain window and what their area predicts.

    python benchmarks/cpu_orders.py

12 heads of 64, n = 16,384. The measure is an undilated window of 513 keys in natural order: what it takes for each key
of its area (keys computed for each query) times another pattern's area is what that is predicted to take. The dilated
window keeps as many keys as the plain one; so does the dilated neighbourhood. All patterns run in turn, and figures are
medians of as many ratios within one round. Prints a table, and writes benchmarks/results/cpu_orders.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import asdict, dataclass

import torch
from _timing import Contestant, Times, interleave, write
from rich import box
from rich.console import Console
from rich.table import Table

import attnc

HEADS, HEAD_DIM, N = 12, 64, 16384
MEASURE = "window of 513"
TEXT = """
pattern window(reach: int, dilation: int) = abs(q - k) <= reach * dilation and (q - k) % dilation == 0
pattern branch(segment: int, every: int) = q // segment == k // segment and q % every == 0 and k % every == 0
pattern longnet(size: int) = causal and (branch(size // 16, 1) or branch(size // 4, 4) or branch(size, 16))
pattern both(stride: int) = strided(stride)
pattern near(width: int, reach: int, dilation: int) =
    grid_window(width, reach * dilation, reach * dilation)
    and (q // width - k // width) % dilation == 0 and (q % width - k % width) % dilation == 0
"""


@dataclass(frozen=True)
class Row:
    """One pattern's pass. ``predicted``: times what its area predicts; ``slower``: times the measure's."""

    name: str
    area: float
    direction: str
    median: float
    seconds: list[float]
    predicted: float
    slower: float


def attentions(n: int) -> dict[str, attnc.Attention]:
    module = attnc.loads(TEXT)
    return {
        MEASURE: module.window(256, 1),
        "the same, dilation 4": module.window(256, 4),
        "strided(256)": module.both(256),
        "LongNet": module.longnet(n),
        "7 by 7 on a grid 128 wide": module.near(128, 3, 1),
        "7 by 7, dilation 4": module.near(128, 3, 4),
    }


def measure(n: int, rounds: int) -> list[Row]:
    torch.manual_seed(n)
    q, k, v = (torch.randn(1, HEADS, n, HEAD_DIM, requires_grad=True) for _ in range(3))
    gradient = torch.randn(1, HEADS, n, HEAD_DIM)
    named = attentions(n)
    areas = {name: float(attend.plan(n).area) for name, attend in named.items()}
    entered = [Contestant(name, lambda attend=attend: attend(q, k, v), (q, k, v)) for name, attend in named.items()]
    return rows(areas, interleave(entered, gradient, rounds, f"n = {n}: all in turn"))


def rows(areas: dict[str, float], times: dict[str, Times]) -> list[Row]:
    made = []
    for direction in ("forward", "backward"):
        base = getattr(times[MEASURE], direction)
        for name, each in times.items():
            seconds = getattr(each, direction)
            slower = statistics.median(own / other for own, other in zip(seconds, base, strict=True))
            predicted = slower * areas[MEASURE] / areas[name]
            made.append(Row(name, areas[name], direction, each.median(direction), seconds, predicted, slower))
    return made


def show(measured: list[Row]) -> None:
    table = Table("", "pass", "area", "median", "times the window", "times what its area predicts", box=box.SIMPLE_HEAD)
    for row in measured:
        figures = (f"{row.area:,.0f}", f"{1e3 * row.median:.1f} ms", f"{row.slower:.2f}", f"{row.predicted:.2f}")
        table.add_row(row.name, row.direction, *figures)
    Console().print(table)


def main(n: int = N, rounds: int = 7) -> list[Row]:
    measured = measure(n, rounds)
    show(measured)
    path = write("cpu_orders", {"n": n, "rounds": rounds, "rows": [asdict(row) for row in measured]})
    Console(stderr=True).print(f"written to {path}")
    return measured


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count")
    main(rounds=parser.parse_args(sys.argv[1:]).rounds)
