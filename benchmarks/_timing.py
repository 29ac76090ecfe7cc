"""Times several ways to the same result in turn, so that what else the computer does falls on all of them alike."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from torch import Tensor

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Contestant:
    """One way to compute it. With ``inputs``, the gradients of these are timed too, as a pass of its own."""

    name: str
    forward: Callable[[], Tensor]
    inputs: Sequence[Tensor] = ()


@dataclass(frozen=True)
class Times:
    """Seconds of every counted round."""

    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)

    def median(self, direction: str) -> float:
        return float(statistics.median(getattr(self, direction)))


def interleave(contestants: Sequence[Contestant], gradient: Tensor | None, rounds: int, title: str) -> dict[str, Times]:
    """Each round runs every contestant once; the first round does not count."""
    times = {contestant.name: Times() for contestant in contestants}
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=(rounds + 1) * len(contestants))
        for turn in range(rounds + 1):
            for contestant in contestants:
                forward, backward = _seconds(contestant, gradient)
                if turn:
                    times[contestant.name].forward.append(forward)
                    times[contestant.name].backward.extend(backward)
                progress.advance(task)
    return times


def _seconds(contestant: Contestant, gradient: Tensor | None) -> tuple[float, list[float]]:
    with torch.set_grad_enabled(bool(contestant.inputs)):
        start = time.perf_counter()
        out = contestant.forward()
        middle = time.perf_counter()
    if not contestant.inputs:
        return middle - start, []
    torch.autograd.grad(out, contestant.inputs, gradient)
    return middle - start, [time.perf_counter() - middle]


def fastest(contestants: Sequence[Contestant], gradient: Tensor | None, title: str) -> Contestant:
    """The contestant whose passes together took least, of three rounds."""
    times = interleave(contestants, gradient, 3, title)
    return min(contestants, key=lambda each: sum(min(x) for x in vars(times[each.name]).values() if x))


def settings() -> dict[str, str | int]:
    """What the figures depend on beside the code."""
    return {
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "threads": torch.get_num_threads(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
    }


def write(name: str, results: Mapping[str, Any]) -> Path:
    """The results as JSON, beside the benchmarks; the path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"settings": settings(), **results}, indent=2) + "\n", encoding="utf-8")
    return path
