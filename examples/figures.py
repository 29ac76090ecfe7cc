"""What the examples leave behind: results as JSON, curves drawn by pillow, and the tables of docs/examples.md."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from textwrap import fill
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "examples.md"
PICTURES = HERE.parent / "docs" / "pictures"

WIDTH, HEIGHT, SCALE = 720, 420, 2  # pixels of a plot, and how many times larger it is drawn, for smooth lines
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 44, 56  # pixels around the axes
PAPER, INK, GRID = (255, 255, 255), (51, 51, 51), (224, 224, 224)
LINE = 118  # characters of the page's lines
COLOURS = ((31, 99, 181), (204, 96, 31), (60, 140, 70), (130, 80, 160))


def options_of(doc: str | None, small: str, picture: str | None = None) -> argparse.ArgumentParser:
    """The command line that examples share, with the first line of their text.

    ``small`` and ``picture``: what ``--small`` runs, and what ``-o`` draws; None for no such option.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    if picture is not None:
        parser.add_argument("-o", type=Path, metavar="FILE", help=f"draw {picture} as .png, .svg or .html")
    parser.add_argument("--small", action="store_true", help=small)
    parser.add_argument("--record", action="store_true", help="keep results, pictures and table in the repository")
    return parser


@dataclass(frozen=True)
class Curve:
    """Points joined by a line. ``dashed``: computed or of another kind than the rest."""

    label: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """``ticks``: the values that are written beside the axis; the first and the last are its ends."""

    title: str
    ticks: Sequence[tuple[float, str]]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value stands: 0 at the axis's beginning, 1 at its end."""
        first, last, at = self.ticks[0][0], self.ticks[-1][0], value
        if self.logarithmic:
            first, last, at = math.log(first), math.log(last), math.log(value)
        return (at - first) / (last - first)


def linear_axis(title: str, values: Sequence[float], ticks: int = 6) -> Axis:
    """An axis with round numbers around some values."""
    least, most = min(values), max(values)
    rough = max(most - least, 1e-9) / (ticks - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.floor(least / step), math.ceil(most / step)
    return Axis(title, [(step * number, f"{step * number:,.4g}") for number in range(first, last + 1)])


def doubling_axis(title: str, values: Sequence[float], unit: float = 1.0, every: int = 1) -> Axis:
    """A logarithmic axis over powers of two times a unit."""
    first, last = math.floor(math.log2(min(values) / unit)), math.ceil(math.log2(max(values) / unit))
    last += -(last - first) % every
    ticks = [(unit * 2.0**power, f"{2.0**power:,g}") for power in range(first, last + 1, every)]
    return Axis(title, ticks, logarithmic=True)


def plot(title: str, across: Axis, up: Axis, curves: Sequence[Curve]) -> Image.Image:
    """The curves in their axes, with a legend above them. What lies beyond an axis is left out."""
    canvas = Image.new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), PAPER)
    draw = ImageDraw.Draw(canvas)
    font, small = (ImageFont.load_default(size * SCALE) for size in (14, 12))
    inner_width, inner_height = (WIDTH - LEFT - RIGHT) * SCALE, (HEIGHT - TOP - BOTTOM) * SCALE

    def x(value: float) -> float:
        return LEFT * SCALE + across.place(value) * inner_width

    def y(value: float) -> float:
        return TOP * SCALE + (1 - up.place(value)) * inner_height

    for value, text in across.ticks:
        draw.line([(x(value), y(up.ticks[0][0])), (x(value), y(up.ticks[-1][0]))], fill=GRID, width=SCALE)
        draw.text((x(value), (HEIGHT - BOTTOM + 6) * SCALE), text, INK, small, anchor="ma")
    for value, text in up.ticks:
        draw.line([(x(across.ticks[0][0]), y(value)), (x(across.ticks[-1][0]), y(value))], fill=GRID, width=SCALE)
        draw.text(((LEFT - 8) * SCALE, y(value)), text, INK, small, anchor="rm")
    draw.text((LEFT * SCALE, 8 * SCALE), title, INK, font)
    draw.text(((WIDTH - RIGHT) * SCALE, (HEIGHT - 8) * SCALE), across.title, INK, small, anchor="rd")
    draw.text((LEFT * SCALE, (TOP - 4) * SCALE), up.title, INK, small, anchor="ld")
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        points = [(x(a), y(b)) for a, b in curve.points if 0 <= across.place(a) <= 1 and 0 <= up.place(b) <= 1]
        _line(draw, points, colour, curve.dashed)
    _legend(draw, curves, small)
    return canvas.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def _line(
    draw: ImageDraw.ImageDraw, points: Sequence[tuple[float, float]], colour: tuple[int, int, int], dashed: bool
) -> None:
    """A line through points, which are marked unless it is dashed or they are many."""
    if not dashed:
        draw.line(list(points), fill=colour, width=2 * SCALE, joint="curve")
        for a, b in points if len(points) <= 24 else ():
            draw.ellipse((a - 4 * SCALE, b - 4 * SCALE, a + 4 * SCALE, b + 4 * SCALE), fill=colour)
        return
    for (a, b), (c, d) in pairwise(points):
        pieces = max(1, round(math.hypot(c - a, d - b) / (6 * SCALE)))
        for piece in range(0, pieces, 2):
            ends = [(a + (c - a) * part / pieces, b + (d - b) * part / pieces) for part in (piece, piece + 1)]
            draw.line(ends, fill=colour, width=2 * SCALE)


def _legend(draw: ImageDraw.ImageDraw, curves: Sequence[Curve], font: Any) -> None:
    """The labels of all curves from right to left, above the axes."""
    right = float((WIDTH - RIGHT) * SCALE)
    for number, curve in reversed(list(enumerate(curves))):
        colour = COLOURS[number % len(COLOURS)]
        draw.text((right, (TOP - 4) * SCALE), curve.label, colour, font, anchor="rd")
        right -= draw.textlength(curve.label, font) + 14 * SCALE


def settings() -> dict[str, str | int]:
    """What the figures depend on beside the code."""
    return {
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "threads": torch.get_num_threads(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
    }


def record(name: str, results: Mapping[str, Any], section: str, folder: Path | None = None) -> None:
    """Writes examples/results/NAME.json, and the section of docs/examples.md between the marks of that name."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"settings": settings(), **results}, indent=2) + "\n"
    ((folder or RESULTS) / f"{name}.json").write_text(text, encoding="utf-8")
    if folder is None:
        PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), name, section), encoding="utf-8")


def recorded(name: str) -> dict[str, Any]:
    """What ``record`` wrote."""
    results: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return results


def renewed(page: str, name: str, section: str) -> str:
    """A page with another text between ``<!-- NAME -->`` and ``<!-- end of NAME -->``."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = page.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page has no section {name}")
    return f"{before}{start}\n{section}\n{end}{after}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, its first column to the left and all others to the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def section(pictures: Sequence[tuple[str, str]], table: str, words: str) -> str:
    """What the page says of an example: its first picture, the table, what else there is to say, the other pictures.

    ``pictures``: what each shows, and its file in docs/pictures.
    """
    first, *others = (f"![{shows}](pictures/{file})" for shows, file in pictures)
    return "\n\n".join([first, table, fill(words, LINE, break_long_words=False, break_on_hyphens=False), *others])


def median(seconds: Sequence[float]) -> float:
    """The median of all rounds but the first, in which kernels are built and memory is first touched."""
    return float(statistics.median(seconds[1:] or seconds))
