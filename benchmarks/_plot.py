"""The plot of ``cpu.py``: for each pattern, what share of a matrix product's rate each way reaches over the length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLUMNS = 3
OWN = "attnc"


def series(rows: Sequence[Mapping[str, Any]], direction: str) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """By pattern, with head dimension and dtype, then by way: length and share, in the order of lengths."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in sorted(rows, key=lambda row: row["n"]):
        if row["pattern"].startswith("decode"):  # which a product's rate does not limit
            continue
        lines = found.setdefault(f"{row['pattern']}, d = {row['dim']}, {row['dtype']}", {})
        for way, figures in row["ways"].items():
            if direction in figures["share"]:
                lines.setdefault(way, []).append((row["n"], figures["share"][direction]))
    return {title: lines for title, lines in found.items() if lines}


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draws all patterns, forward above and backward below, to an .svg or .png. Without a row it draws nothing."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    panels = [
        (f"{title}, {direction}", lines)
        for direction in ("forward", "backward")
        for title, lines in series(rows, direction).items()
    ]
    if not panels:
        return
    ways = sorted({way for _, lines in panels for way in lines}, key=lambda way: (way != OWN, way))
    colours = {way: f"C{number % 10}" for number, way in enumerate(ways)}
    height = -(-len(panels) // COLUMNS)
    figure, axes = pyplot.subplots(height, COLUMNS, figsize=(5 * COLUMNS, 3.2 * height), squeeze=False)
    for place, axis in enumerate(axes.flat):
        if place >= len(panels):
            axis.set_visible(False)
            continue
        title, lines = panels[place]
        for way, points in lines.items():
            width = 2.5 if way == OWN else 1.2
            axis.plot(*zip(*points, strict=True), marker="o", label=way, color=colours[way], linewidth=width)
        axis.set_xscale("log", base=2)
        axis.set_ylim(bottom=0)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("tokens")
        axis.set_ylabel("share of a matrix product's rate", fontsize=8)
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
