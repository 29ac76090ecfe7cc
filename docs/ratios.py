"""Makes the README's table of measured ratios from benchmarks/results: `python -m docs.build` writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
MODELS = (
    ("Longformer", "attention", "Longformer attention"),
    ("BigBird", "attention", "BigBird attention"),
    ("Reformer", "LSH attention", "Reformer LSH attention"),
    ("Reformer", "local attention", "Reformer local attention"),
    ("Mistral", "whole model", "Mistral, a whole model"),
)
WINDOW = (("FlexAttention", "compiled FlexAttention"), ("blocked SDPA", "PyTorch's attention over blocks"))
DIRECTIONS = ("forward", "backward")


def ratios() -> str:
    """The table: how many times as long each alternative takes, by direction, and the command that measures it."""
    lines = ["| CPU, fp32, n = 4,096: times as fast as | forward | backward | measured by |", "|---|---|---|---|"]
    models, window = _rows("models.json"), _rows("cpu_window.json")
    for system, part, words in MODELS:
        found = {row["direction"]: row["ratio"] for row in models if (row["system"], row["part"]) == (system, part)}
        lines.append(_line(f"transformers' {words}", found, "models"))
    for start, words in WINDOW:
        found = {
            row["direction"]: row["slower"] for row in window if row["n"] == 4096 and row["name"].startswith(start)
        }
        lines.append(_line(f"{words}, a window of 513 keys", found, "cpu_window"))
    return "\n".join(lines)


def _rows(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((RESULTS / name).read_text(encoding="utf-8"))["rows"]
    return found


def _line(words: str, found: Mapping[str, float], script: str) -> str:
    numbers = (f"{found[direction]:.1f}" if direction in found else "–" for direction in DIRECTIONS)
    return f"| {words} | {' | '.join(numbers)} | `python benchmarks/{script}.py` |"
