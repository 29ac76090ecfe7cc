"""Training on a CPU: what it costs when only some gradients are asked for, memory, and packed sequences.

    python benchmarks/training.py [--only gradients|memory|packed] [--rounds N]

12 heads of 64, fp32. `gradients`: the time of a backward pass that gives some of q, k and v, over that of one that
gives all; five products of matrices are two, three or four then. `memory`: the most that a backward pass of 65,536
tokens takes beyond its inputs and results, each in a process of its own, on Linux. `packed`: 8,192 tokens of sequences
of random lengths as nested tensors, forward and backward, over a call for each sequence. Contestants take turns; a
figure is the median of the rounds' ratios. Prints tables, and writes benchmarks/results/training.json.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from _timing import write
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nested import nested_tensor_from_jagged

import attnc

HEADS, DIM, N, LONG, PACKED = 12, 64, 4096, 65536, 8192
ROOT = Path(__file__).parents[1]
TEXT = """
pattern near(size: int = 513) = window(size)
pattern longformer(g: tokens) = window(513) or q in g or k in g
pattern lines = causal and (causal_window(128) or k < 4)
"""
MEASURED = """
import sys
import torch
sys.path[:0] = ["benchmarks", "examples"]
from peak_memory import peak_memory
from training import DIM, HEADS, attention_of

def beyond(n):
    attend, tables = attention_of(sys.argv[1], n)
    q, k, v = (torch.randn(1, HEADS, n, DIM, requires_grad=True) for _ in range(3))
    out = attend(q, k, v, **tables)
    gradient = torch.ones_like(out)
    with peak_memory() as peak:
        out.backward(gradient)
    return None if peak.bytes is None else (peak.bytes - 3 * q.nbytes) / 2**20

beyond(2048)  # builds kernels and starts threads
print(beyond(int(sys.argv[2])))
"""


def attention_of(name: str, n: int) -> tuple[attnc.Attention, dict[str, Any]]:
    """An attention of the memory table, and its tables for so many tokens."""
    if name == "bigbird":
        generator = torch.Generator().manual_seed(0)
        blocks = n // 64
        return attnc.load("bigbird").bigbird(), {
            "chosen": torch.randint(1, blocks - 1, (HEADS, blocks - 2, 3), generator=generator)
        }
    module = attnc.loads(TEXT)
    return module[name](), {"g": {0, 7, 900}} if name == "longformer" else {}


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def gradients(rounds: int) -> dict[str, float]:
    """Backward passes by what they give, as shares of the time of one that gives everything."""
    attend, _ = attention_of("near", N)
    given = [torch.randn(1, HEADS, N, DIM) for _ in range(3)]
    grad = torch.randn(1, HEADS, N, DIM)
    subsets = {
        ", ".join(name for name, its in zip("qkv", chosen, strict=True) if its): chosen
        for chosen in product((True, False), repeat=3)
        if any(chosen)
    }
    times: dict[str, list[float]] = {name: [] for name in subsets}
    for _ in range(rounds + 1):
        for name, chosen in subsets.items():
            leaves = [x.detach().requires_grad_(its) for x, its in zip(given, chosen, strict=True)]
            out = attend(*leaves)
            times[name].append(seconds(lambda out=out: out.backward(grad)))  # type: ignore[misc]
    whole = times["q, k, v"][1:]
    return {
        name: statistics.median(own / all_ for own, all_ in zip(taken[1:], whole, strict=True))
        for name, taken in times.items()
    }


def memory() -> dict[str, float | None]:
    """MiB beyond inputs and results, of patterns of 65,536 tokens."""
    found: dict[str, float | None] = {}
    for name in ("near", "longformer", "bigbird"):
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, name, str(LONG)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        told = done.stdout.split()[-1]
        found[name] = None if told == "None" else float(told)
    return found


def packed(rounds: int) -> dict[str, float]:
    """Packed sequences in one call of nested tensors, as shares of the time of a call for each."""
    found = {}
    for name, mean in product(("near", "lines"), (64, 340, 2048)):
        attend, _ = attention_of(name, PACKED)
        ratios = []
        for turn in range(rounds + 1):
            generator = torch.Generator().manual_seed(turn)
            cuts = torch.randperm(PACKED - 1, generator=generator)[: PACKED // mean - 1].sort().values + 1
            offsets = torch.cat([torch.tensor([0]), cuts, torch.tensor([PACKED])])
            q, k, v = (torch.randn(PACKED, HEADS, DIM, generator=generator).requires_grad_() for _ in range(3))

            def nested(attend: attnc.Attention = attend, offsets: Tensor = offsets, qkv: Any = (q, k, v)) -> None:
                inputs = [nested_tensor_from_jagged(x, offsets).transpose(1, 2) for x in qkv]
                attend(*inputs).values().sum().backward()

            def each(attend: attnc.Attention = attend, offsets: Tensor = offsets, qkv: Any = (q, k, v)) -> None:
                parts = [x.transpose(0, 1)[None].split(offsets.diff().tolist(), 2) for x in qkv]
                torch.cat([attend(*one) for one in zip(*parts, strict=True)], 2).sum().backward()

            ratios.append(seconds(nested) / seconds(each))
        found[f"{name}, sequences of about {mean}"] = statistics.median(ratios[1:])
    return found


def main(arguments: list[str] | None = None) -> None:
    """Measures what is asked for, and writes it beside what was measured before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("gradients", "memory", "packed"))
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args(arguments)
    parts: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
        "gradients": ("time over that of all gradients", lambda: gradients(chosen.rounds)),
        "memory": (f"MiB beyond inputs and results, n = {LONG:,}", memory),
        "packed": ("time over that of a call for each", lambda: packed(chosen.rounds)),
    }
    results: dict[str, Any] = {}
    for name, (told, measure) in parts.items():
        if chosen.only not in (None, name):
            continue
        results[name] = measure()
        table = Table(name, told, box=None, title_justify="left")
        for row, figure in results[name].items():
            table.add_row(row, "not told by this system" if figure is None else f"{figure:.2f}")
        Console().print(table)
    if chosen.only is None:
        Console(stderr=True).print(f"kept in {write('training', results)}")


if __name__ == "__main__":
    main()
