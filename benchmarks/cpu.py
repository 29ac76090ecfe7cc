"""attnc on a CPU, in calls large and small, beside PyTorch's attention and beside the machine's limits.

    python benchmarks/cpu.py [--only WORD] [--rounds N]

12 heads of 64, fp32. In each round every contestant of a row runs in turn, for about as long; a figure is the median of
the rounds' ratios. Of decoding it is the bytes of keys and values that a step keeps, in a second, over those of a copy
(256 MiB read and written); caches take turns, so that none of them lies in the processor's cache. Of masks and training
it is the floating-point operations that kept pairs need, in a second, over those of the product of two 2048 x 2048
matrices. Of all else it is attnc's time over PyTorch's. Prints a table, and writes benchmarks/results/cpu.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any

import torch
from _timing import write
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

import attnc

HEADS, DIM, CACHE, SQUARE = 12, 64, 65536, 2048
COPIED = 2**28  # bytes, which a copy reads and writes
BATCH = 0.02  # seconds for which a contestant runs in one round, at least once
TEXT = """
pattern window(size: int) = causal_window(size)
pattern near(width: int) = grid_window(width, 6, 6)
pattern packed(doc: int[token]) = causal and documents(doc)
"""


@dataclass(frozen=True)
class Question:
    """One row: ``ours`` beside ``other``. The figure, which ``told`` explains, is ``factor`` times the ratio of their
    times, or the inverse ratio where ``more`` is better; ``asked``: what is wanted of it.
    """

    name: str
    told: str
    ours: Callable[[], object]
    other: Callable[[], object]
    asked: float
    more: bool = False
    factor: float = 1.0


@dataclass(frozen=True)
class Row:
    name: str
    told: str
    figure: float
    asked: float
    more: bool
    ours_us: float
    other_us: float
    rounds: list[float]

    @property
    def met(self) -> bool:
        return self.figure >= self.asked if self.more else self.figure <= self.asked


def random(*shape: int, grad: bool = False) -> Tensor:
    return torch.randn(shape, requires_grad=grad)


def of_shape(m: int, n: int, grad: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    query, *others = (random(1, HEADS, tokens, DIM, grad=grad) for tokens in (m, n, n))
    return query, others[0], others[1]


def both_passes(attend: Callable[..., Tensor], inputs: Sequence[Tensor], gradient: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(attend(*inputs), inputs, gradient)


def copy() -> Callable[[], object]:
    source, target = torch.randn(COPIED // 4), torch.empty(COPIED // 4)
    return lambda: target.copy_(source)


def decoding() -> Iterator[Question]:
    """One token against 64k cached ones, at a new position each time."""
    limit = copy()
    caches = [(random(1, HEADS, CACHE, DIM), random(1, HEADS, CACHE, DIM)) for _ in range(2)]
    turns, query = cycle([(k, v, back) for back in range(5) for k, v in caches]), random(1, HEADS, 1, DIM)
    for name, attend, kept, asked in (
        ("decode, 64k cached, window 4,096", attnc.loads(TEXT).window(4096), 4096, 0.7),
        ("decode, 64k cached, causal", attnc.load("causal").causal(), CACHE, 0.8),
    ):

        def step(attend: Any = attend) -> object:
            k, v, back = next(turns)
            n = CACHE - 7 * back
            return attend(query, k[:, :, :n], v[:, :, :n], q_start=n - 1)

        kept_bytes = kept * HEADS * DIM * 2 * 4
        yield Question(name, "of a copy's bytes", step, limit, asked, True, kept_bytes / (2 * COPIED))


def small_calls() -> Iterator[Question]:
    full, causal = attnc.load("full").full(), attnc.load("causal").causal()
    q, k, v = of_shape(1, 16)
    yield Question("one query, 16 keys", "times SDPA's", lambda: full(q, k, v), lambda: sdpa(q, k, v), 2.5)
    prepared = full.prepare(q, k, v)
    yield Question("the same, prepared", "times SDPA's", lambda: prepared(q, k, v), lambda: sdpa(q, k, v), 2.5)
    inputs, gradient = of_shape(1, 16, grad=True), random(1, HEADS, 1, DIM)
    passes = both_passes(full, inputs, gradient), both_passes(sdpa, inputs, gradient)
    yield Question("one query, 16 keys, forward and backward", "times SDPA's", *passes, 2.5)
    for n, asked in ((64, 1.2), (128, 0.8)):
        given = of_shape(n, n)
        yield Question(
            f"causal, {n} tokens", "times SDPA's", lambda given=given: causal(*given),
            lambda given=given: sdpa(*given, is_causal=True), asked,
        )  # fmt: skip
    window, cache = attnc.loads(TEXT).window(256), (random(1, HEADS, 4096, DIM), random(1, HEADS, 4096, DIM))
    lengths, others = cycle(range(300, 4096)), cycle(range(300, 4096))

    def grow() -> object:
        n = next(lengths)
        return window(q, *(x[:, :, :n] for x in cache), q_start=n - 1)

    def sliced() -> object:
        n = next(others)
        return sdpa(q, *(x[:, :, n - 256 : n] for x in cache))

    yield Question("growing cache, window 256", "times SDPA's on the slice", grow, sliced, 2.0)


def causal_whole() -> Iterator[Question]:
    causal = attnc.load("causal").causal()
    inputs, gradient = of_shape(4096, 4096, grad=True), random(1, HEADS, 4096, DIM)
    plain = [x.detach() for x in inputs]

    def theirs(*given: Tensor) -> Tensor:
        return sdpa(*given, is_causal=True)

    yield Question(
        "causal, 4,096 tokens", "times as fast as SDPA", lambda: causal(*plain), lambda: theirs(*plain), 1.3, True
    )
    fast = "times as fast as SDPA"
    passes = both_passes(causal, inputs, gradient), both_passes(theirs, inputs, gradient)
    yield Question("causal, 4,096 tokens, forward and backward", fast, *passes, 1.3, True)


def masks() -> Iterator[Question]:
    """Shares of a matrix product's rate, forward."""
    square, module = torch.randn(SQUARE, SQUARE), attnc.loads(TEXT)
    lengths = torch.from_numpy(_documents(4096))
    for name, attend, n, tables, asked in (
        ("strided 128", attnc.load("strided").strided(128), 4096, {}, 0.55),
        ("13 x 13 on a grid of 64 x 64", module.near(64), 4096, {}, 0.5),
        ("documents of about 340", module.packed(), 4096, {"doc": lengths}, 0.7),
        ("window 513, 4,096 tokens", attnc.load("window").window(512), 4096, {}, 0.85),
        ("window 513, 16,384 tokens", attnc.load("window").window(512), 16384, {}, 0.85),
    ):
        given = of_shape(n, n)
        flops = 4 * DIM * attend.plan(n, heads=HEADS, **tables).pairs
        yield Question(
            name, "of a product's rate", lambda attend=attend, given=given, tables=tables: attend(*given, **tables),
            lambda: square @ square, asked, True, flops / (2 * SQUARE**3),
        )  # fmt: skip


def _documents(n: int) -> Any:
    """The number of its document for each token; lengths are lognormal."""
    import numpy as np

    drawn = np.random.default_rng(0).lognormal(np.log(250), 0.8, n)
    return np.searchsorted(np.cumsum(np.maximum(drawn.astype(np.int64), 16)), np.arange(n), side="right")


GROUPS: tuple[Callable[[], Iterator[Question]], ...] = (small_calls, decoding, causal_whole, masks)
ROWS = 15


def timed(run: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def measure(question: Question, rounds: int) -> Row:
    """The question's figure: contestants in turn, each for about :data:`BATCH` seconds in a round."""
    ways, counts = (question.ours, question.other), []
    for run in ways:
        timed(run, 3)
        counts.append(max(1, int(BATCH / timed(run, 3))))
    found = [[timed(run, count) for run, count in zip(ways, counts, strict=True)] for _ in range(rounds)]
    each = [question.factor * (other / ours if question.more else ours / other) for ours, other in found]
    ours, other = (1e6 * statistics.median(times) for times in zip(*found, strict=True))
    return Row(question.name, question.told, statistics.median(each), question.asked, question.more, ours, other, each)


def show(rows: Sequence[Row]) -> None:
    table = Table("", "figure", "", "asked", "attnc", "beside", box=box.SIMPLE_HEAD)
    for row in rows:
        asked = f"{'at least' if row.more else 'at most'} {row.asked:g}{'' if row.met else ', missed'}"
        times = f"{row.ours_us:,.0f} µs", f"{row.other_us:,.0f} µs"
        table.add_row(row.name, f"{row.figure:.2f}", row.told, asked, *times)
    Console().print(table)


def main(only: str = "", rounds: int = 11) -> list[Row]:
    torch.manual_seed(0)
    questions = (question for group in GROUPS for question in group() if only in question.name)
    console = Console(stderr=True)
    rows = [
        measure(question, rounds) for question in track(questions, "in turn", total=len(only) or 14, console=console)
    ]
    show(rows)
    if not only:
        path = write("cpu", {"rounds": rounds, "rows": [asdict(row) for row in rows]})
        console.print(f"written to {path}")
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="rows whose name holds this word; nothing is written")
    parser.add_argument("--rounds", type=int, default=11, help="rounds that count")
    options = parser.parse_args(sys.argv[1:])
    main(options.only, options.rounds)
