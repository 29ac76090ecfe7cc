"""attnc on Longformer's local window, beside what one would use instead, on the CPU in fp32.

    python benchmarks/cpu_window.py

12 heads of 64, a window of 513 keys, n = 4,096 and 16,384. All contestants of one length run in turn, and figures are
medians. Useful flops are what the window's pairs need: 4 per pair and channel forward, 10 backward; the limit is the
matrix product of two 2048 x 2048 matrices, timed in the same rounds. A number
behind a name is its block size. Prints a table, and writes benchmarks/results/cpu_window.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from _timing import Contestant, Times, fastest, interleave, write
from _window import BlockedSDPA, DenseSDPA, Flex, HuggingFace
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

import attnc

HEADS, HEAD_DIM, SIZE, SQUARE = 12, 64, 512, 2048
LIMIT, ATTNC = "limit: 2048 x 2048 product", "attnc"
FLOPS = {"forward": 4, "backward": 10}  # for each pair and channel: two products forward, five backward
DENSE_UP_TO = 4096


@dataclass(frozen=True)
class Row:
    """One contestant's pass. ``share``: useful flops per second, of the limit's; ``slower``: times attnc's median."""

    n: int
    direction: str
    name: str
    median: float
    seconds: list[float]
    share: float
    slower: float


def contestants(n: int, q: Tensor, k: Tensor, v: Tensor, gradient: Tensor) -> list[Contestant]:
    """All that compute the window over n tokens; of those with a block size, the fastest."""

    def of(name: str, attend: Callable[..., Tensor], differentiable: bool = True) -> Contestant:
        return Contestant(name, lambda: attend(q, k, v), (q, k, v) if differentiable else ())

    blocked = [of(f"blocked SDPA, {b}", BlockedSDPA(n, SIZE // 2, SIZE // 2, b)) for b in (128, 256, 512)]
    flex = [of(f"FlexAttention, {b}", Flex(n, SIZE // 2, SIZE // 2, b), differentiable=False) for b in (64, 128, 256)]
    chosen = [
        of(ATTNC, attnc.load("window").window(size=SIZE)),
        fastest(blocked, gradient, f"n = {n}: block size of blocked SDPA"),
        fastest(flex, None, f"n = {n}: block size of FlexAttention"),
        of("Hugging Face Longformer", HuggingFace(HEADS, HEAD_DIM, SIZE)),
    ]
    return [*chosen, of("SDPA, dense mask", DenseSDPA(n, SIZE // 2, SIZE // 2))] if n <= DENSE_UP_TO else chosen


def check(entered: list[Contestant]) -> None:
    """Raises ValueError unless all contestants compute the same."""
    with torch.no_grad():
        expected = entered[0].forward()
        for contestant in entered[1:]:
            difference = float((contestant.forward() - expected).abs().max())
            if not difference <= 1e-5:
                raise ValueError(f"{contestant.name} differs from {entered[0].name} by {difference:.1e}, expected 1e-5")


def measure(n: int, rounds: int) -> list[Row]:
    """All contestants over n tokens."""
    torch.manual_seed(n)
    q, k, v = (torch.randn(1, HEADS, n, HEAD_DIM, requires_grad=True) for _ in range(3))
    gradient = torch.randn(1, HEADS, n, HEAD_DIM)
    entered = contestants(n, q, k, v, gradient)
    check(entered)
    square = torch.randn(SQUARE, SQUARE)
    limit = Contestant(LIMIT, lambda: square @ square)
    return rows(n, interleave([limit, *entered], gradient, rounds, f"n = {n}: all in turn"))


def rows(n: int, times: dict[str, Times]) -> list[Row]:
    pairs = HEADS * (n * (SIZE + 1) - SIZE // 2 * (SIZE // 2 + 1))
    limit = 2 * SQUARE**3 / times[LIMIT].median("forward")
    made = []
    for direction, flops in FLOPS.items():
        fastest_of_all = times[ATTNC].median(direction)
        for name, each in times.items():
            seconds = getattr(each, direction)
            if seconds and name != LIMIT:
                median = each.median(direction)
                share = flops * pairs * HEAD_DIM / median / limit
                made.append(Row(n, direction, name, median, seconds, share, median / fastest_of_all))
    return made


def show(measured: list[Row]) -> None:
    table = Table("n", "pass", "", "median", "of limit", "times attnc", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for row in measured:
        figures = (f"{1e3 * row.median:.1f} ms", f"{row.share:.2f}", f"{row.slower:.2f}")
        table.add_row(f"{row.n:,}", row.direction, row.name, *figures)
    Console().print(table)


def main(lengths: tuple[int, ...] = (4096, 16384), rounds: int = 5) -> list[Row]:
    measured = [row for n in lengths for row in measure(n, rounds)]
    show(measured)
    path = write("cpu_window", {"rounds": rounds, "rows": [asdict(row) for row in measured]})
    Console(stderr=True).print(f"written to {path}")
    return measured


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    main(rounds=parser.parse_args(sys.argv[1:]).rounds)
