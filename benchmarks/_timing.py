"""Times several ways to the same result in turn, with a bar of progress, and keeps what was found."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from torch import Tensor

from attnc.measuring import Contestant, Times, passes_in_turn

RESULTS = Path(__file__).with_name("results")


def interleave(contestants: Sequence[Contestant], gradient: Tensor | None, rounds: int, title: str) -> dict[str, Times]:
    """The times of all contestants in turn, with a bar that shows how far they are."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        passes = sum(2 if contestant.inputs else 1 for contestant in contestants)
        task = progress.add_task(title, total=(rounds + 1) * passes)
        return passes_in_turn(contestants, gradient, rounds, at=lambda _: progress.advance(task))


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
