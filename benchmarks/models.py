"""Models of transformers on attnc's kernels, beside the same models with the attention that they come with.

    python benchmarks/models.py

Longformer, BigBird, Reformer and Mistral at n = 4,096 in training mode without dropout, fp32: attention modules with
their projections, and whole models of two layers. Three copies with the same weights run in turn: transformers' own,
the one that ``attnc.integrations.transformers.use`` made, and that one with an attention that costs nothing. Each ratio
is the median of the rounds' ratios. The limit is the ratio that the free attention has: what is left then (projections,
feed-forward layers, hashes, norms) is the same code on both sides, and no attention can be faster than none.

Outputs and gradients are compared first. Prints a table, and writes benchmarks/results/models.json.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass

import torch
from _systems import SYSTEMS, Part, Sizes, System, free_attention, small
from _timing import Times, write
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import Tensor, nn
from transformers.utils import logging

from attnc.integrations.transformers import use

OWN, ATTNC, FREE = "transformers", "attnc", "free"
PASSES = ("forward", "backward", "both")


@dataclass(frozen=True)
class Side:
    """One of the copies. ``around``: the context that it runs in."""

    module: nn.Module
    around: Callable[[], AbstractContextManager[None]] = nullcontext


@dataclass(frozen=True)
class Row:
    """One pass of one part. ``limit``: the ratio with free attention; ``rest``: the share of attnc's time that is left
    with it. ``output`` and ``gradient``: how far they differ, of their largest. Seconds of every round by side.
    """

    system: str
    part: str
    direction: str
    transformers: float
    attnc: float
    ratio: float
    asked: float | None
    limit: float
    rest: float
    output: float
    gradient: float
    reference: str
    seconds: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Difference:
    """The largest difference of the output, and of the watched gradient, of the largest of transformers'."""

    output: float
    gradient: float


def sides(system: System, part: Part) -> dict[str, Side]:
    """The three copies of a part. The last two are one."""
    swapped = copy.deepcopy(system.model)
    use(swapped)
    own, mine = (model.get_submodule(part.path) for model in (system.model, swapped))
    return {OWN: Side(own), ATTNC: Side(mine), FREE: Side(mine, free_attention)}


def run(side: Side, part: Part, weight: Tensor) -> tuple[Tensor, float, float]:
    """The output, and the seconds of a forward and a backward pass; gradients of all parameters are left behind.

    ``weight``: the gradient of the output.
    """
    side.module.zero_grad(set_to_none=True)
    part.watched(side.module).grad = None
    with side.around():
        start = time.perf_counter()
        output = part.forward(side.module)
        middle = time.perf_counter()
        output.backward(weight)
        end = time.perf_counter()
    return output.detach(), middle - start, end - middle


def compare(system: System, part: Part, own: Side, mine: Side, weight: Tensor) -> Difference:
    """How far the two differ. ValueError where that is more than the system's bound."""
    found = []
    for side in (own, mine):
        output, *_ = run(side, part, weight)
        gradient = part.watched(side.module).grad
        assert gradient is not None
        found.append((output, gradient.clone()))
    difference = Difference(*(float((a - b).abs().max() / a.abs().max()) for a, b in zip(*found, strict=True)))
    if not max(difference.output, difference.gradient) <= system.bound:
        raise ValueError(
            f"{system.name}, {part.name}: outputs differ by {difference.output:.1e} and gradients by "
            f"{difference.gradient:.1e} of their largest, expected at most {system.bound:.0e}"
        )
    return difference


def measure(system: System, part: Part, rounds: int, advance: Callable[[], None]) -> list[Row]:
    """All passes of a part, whose copies run in turn; the first round compares, and does not count."""
    entered = sides(system, part)
    with torch.no_grad():
        weight = torch.randn_like(part.forward(entered[OWN].module))
    difference = compare(system, part, entered[OWN], entered[ATTNC], weight)
    advance()
    times = {name: Times() for name in entered}
    for _ in range(rounds):
        for name, side in entered.items():
            _, forward, backward = run(side, part, weight)
            times[name].forward.append(forward)
            times[name].backward.append(backward)
        advance()
    return rows(system, part, times, difference)


def rows(system: System, part: Part, times: Mapping[str, Times], difference: Difference) -> list[Row]:
    """The figures of each pass, of the times by side."""
    made = []
    for direction in PASSES:
        seconds = {name: _of(each, direction) for name, each in times.items()}

        def ratio(name: str, other: str, seconds: Mapping[str, Sequence[float]] = seconds) -> float:
            return statistics.median(a / b for a, b in zip(seconds[name], seconds[other], strict=True))

        medians = {name: statistics.median(each) for name, each in seconds.items()}
        made.append(
            Row(
                system.name, part.name, direction, medians[OWN], medians[ATTNC], ratio(OWN, ATTNC),
                part.asked.get(direction), ratio(OWN, FREE), ratio(FREE, ATTNC), difference.output,
                difference.gradient, system.reference, seconds,
            )
        )  # fmt: skip
    return made


def _of(times: Times, direction: str) -> list[float]:
    if direction == "both":
        return [a + b for a, b in zip(times.forward, times.backward, strict=True)]
    return list(getattr(times, direction))


def show(measured: Sequence[Row]) -> None:
    """A line for each pass, and what the ratios are ratios to."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in (
        "",
        "part",
        "pass",
        "transformers",
        "attnc",
        "ratio",
        "asked",
        "limit",
        "rest",
        "output",
        "gradient",
    ):
        table.add_column(column, justify="left" if column in ("", "part", "pass") else "right")
    for row in measured:
        figures = (f"{1e3 * row.transformers:,.0f} ms", f"{1e3 * row.attnc:,.0f} ms", f"{row.ratio:.2f}")
        asked = "" if row.asked is None else f"{row.asked:g}"
        limits = (f"{row.limit:.2f}", f"{100 * row.rest:.0f} %")
        differences = (f"{row.output:.0e}", f"{row.gradient:.0e}") if row.direction == PASSES[0] else ()
        table.add_row(row.system, row.part, row.direction, *figures, asked, *limits, *differences)
    console = Console(width=120)
    console.print(table)
    console.print("limit: the ratio of an attention that costs nothing; rest: what of attnc's time is not attention")
    console.print("output, gradient: how far they differ, of their largest")
    for name, reference in {row.system: row.reference for row in measured}.items():
        console.print(f"{name}, transformers' own: {reference}", highlight=False)


def main(sizes: Sizes | None = None, rounds: int = 5, threads: int = 2, names: Sequence[str] = ()) -> list[Row]:
    """All systems, or those named, one after another. Results are kept of all systems at the full sizes."""
    sizes, measured = sizes or Sizes(), []
    logging.set_verbosity_error()
    torch.set_num_threads(threads)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for name in names or SYSTEMS:
            torch.manual_seed(0)
            system = SYSTEMS[name](sizes)
            for part in system.parts:
                task = progress.add_task(f"{system.name}, {part.name}", total=rounds + 1)
                measured += measure(system, part, rounds, lambda task=task: progress.advance(task))  # type: ignore[misc]
    show(measured)
    if sizes == Sizes() and not names:
        results = {"rounds": rounds, "sizes": asdict(sizes), "rows": [asdict(row) for row in measured]}
        Console(stderr=True).print(f"written to {write('models', results)}")
    return measured


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=tuple(SYSTEMS), default=(), metavar="SYSTEM", help="not all")
    parser.add_argument("--rehearse", action="store_true", help="small sizes: says nothing of speed")
    options = parser.parse_args(sys.argv[1:])
    main(small(Sizes()) if options.rehearse else None, options.rounds, options.threads, options.only)
