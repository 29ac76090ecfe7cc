"""Arranges many pictures in rows: a model's layers, each with its different heads, or one head in several orders.

Every function takes a :class:`Grid`; none evaluates a pattern.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from .picture import FRAME, INK, PAPER, Picture, blocks, hexadecimal, html, painted, rectangles

if TYPE_CHECKING:
    from PIL import Image

GAP, LINE, LETTER = 16, 18, 7  # pixels: between panels, of a line of words, of one letter at most
WIDE, LARGEST, SMALLEST = 1440, 240, 48  # pixels: the width of a full row; a panel's side, at most and at least
SMALLEST_TILE = 8  # pixels: outlines of smaller tiles would hide the mask
TERMINAL_PANEL, TERMINAL_GAP = 24, 3  # characters


@dataclass(frozen=True)
class Panel:
    """The picture of heads that keep the same pairs, or of one segment, with a label."""

    label: str
    picture: Picture


@dataclass(frozen=True)
class Row:
    """The panels of successive layers that keep the same pairs, or of the segments of a kernel, with a label."""

    label: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Grid:
    """A whole model, or one head in several orders. ``largest``: the side of a panel in a file, in pixels, at most."""

    title: str
    rows: tuple[Row, ...]
    largest: int = LARGEST


def panel_side(across: int, largest: int = LARGEST) -> int:
    """The side of a panel in a file, in pixels, where ``across`` panels share a row."""
    return max(SMALLEST, min(largest, WIDE // max(across, 1)))


def grid_blocks(grid: Grid, columns: int, tinted: bool = False) -> str:
    """The grid as text: under each row's label its panels, with as many on a line as ``columns`` characters allow."""
    lines: list[str] = []
    for row in grid.rows:
        lines.append(row.label)
        width = max(max(len(panel.label), panel.picture.density.shape[1]) for panel in row.panels) + TERMINAL_GAP
        most = max(1, (columns - 2) // width)
        for first in range(0, len(row.panels), most):
            lines += _beside(row.panels[first : first + most], width, tinted)
            lines.append("")
    return "\n".join([*lines, grid.title])


def _beside(panels: tuple[Panel, ...], width: int, tinted: bool) -> Iterator[str]:
    """Yields the lines of panels side by side, ``width`` characters each; colour codes do not count as characters."""
    yield "  " + "".join(f"{panel.label:<{width}}" for panel in panels).rstrip()
    drawn = [blocks(panel.picture, tinted).splitlines() for panel in panels]
    for parts in zip_longest(*drawn):
        pieces = [
            (part or " " * panel.picture.density.shape[1]) + " " * (width - panel.picture.density.shape[1])
            for part, panel in zip(parts, panels, strict=True)
        ]
        yield ("  " + "".join(pieces)).rstrip()


def write_grid(grid: Grid, path: Path) -> None:
    """Writes the grid as ``.png``, ``.svg`` or ``.html``, by the path's ending; ValueError for another ending."""
    match path.suffix.lower():
        case ".png":
            grid_image(grid).save(path, format="PNG")
        case ".svg":
            path.write_text(grid_svg(grid), encoding="utf-8")
        case ".html":
            path.write_text(html(grid.title, grid_svg(grid)), encoding="utf-8")
        case ending:
            raise ValueError(f"a picture is written as .png, .svg or .html, not {ending!r}")


@dataclass(frozen=True)
class _Words:
    """A label, and the position of its line in pixels."""

    left: int
    top: int
    text: str


def _layout(grid: Grid) -> tuple[list[tuple[int, int, Picture, int]], list[_Words], tuple[int, int]]:
    """Positions in pixels: of pictures (left, top, picture, side of a cell) and of labels; and the total size."""
    places: list[tuple[int, int, Picture, int]] = []
    words: list[_Words] = []
    side = panel_side(max((len(row.panels) for row in grid.rows), default=1), grid.largest)
    top, right = GAP, LETTER * len(grid.title) + 2 * GAP
    for row in grid.rows:
        words.append(_Words(GAP, top, row.label))
        right = max(right, LETTER * len(row.label) + 2 * GAP)
        left, bottom = GAP, top
        for panel in row.panels:
            cell = max(1, side // max(panel.picture.density.shape, default=1))
            height, width = (cell * cells for cells in panel.picture.density.shape)
            words.append(_Words(left, top + LINE, panel.label))
            places.append((left, top + 2 * LINE, _without_small_tiles(panel.picture, width), cell))
            left += max(width, LETTER * len(panel.label)) + GAP
            bottom = max(bottom, top + 2 * LINE + height)
        top, right = bottom + GAP, max(right, left)
    words.append(_Words(GAP, top, grid.title))
    return places, words, (right, top + LINE + GAP)


def _without_small_tiles(picture: Picture, width: int) -> Picture:
    """The picture, without its tiles where they are too small to be distinguished."""
    widest = max((tile.right - tile.left for tile in picture.tiles), default=0)
    return picture if widest * width >= SMALLEST_TILE * picture.keys else replace(picture, tiles=())


def grid_image(grid: Grid) -> Image.Image:
    """The grid as a bitmap."""
    from PIL import Image, ImageDraw  # only a picture needs it

    places, words, size = _layout(grid)
    canvas = Image.new("RGB", size, PAPER)
    for left, top, picture, cell in places:
        canvas.paste(painted(picture, cell), (left - 1, top - 1))
    draw = ImageDraw.Draw(canvas)
    for line in words:
        draw.text((line.left, line.top), line.text.replace("×", "x"), fill=INK)  # not in every font
    return canvas


def grid_svg(grid: Grid) -> str:
    """The grid as an SVG document."""
    places, words, (width, height) = _layout(grid)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'shape-rendering="crispEdges">',
        f"<title>{escape(grid.title)}</title>",
        f'<rect width="{width}" height="{height}" fill="{hexadecimal(PAPER)}"/>',
    ]
    for left, top, picture, cell in places:
        parts += [f'<g transform="translate({left} {top})">', *rectangles(picture, cell, FRAME), "</g>"]
    for line in words:
        place = f'x="{line.left}" y="{line.top + 12}" font-family="sans-serif" font-size="12"'
        parts.append(f'<text {place} fill="{hexadecimal(INK)}">{escape(line.text)}</text>')
    return "\n".join([*parts, "</svg>", ""])
