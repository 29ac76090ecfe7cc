"""Draws a mask as blocks for a terminal, or as PNG, SVG or HTML for a file, with the tiles that the compiler chose.

Every function takes a :class:`Picture`; none evaluates a pattern.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

INK = (31, 58, 96)
PAPER = (255, 255, 255)
FRAME = (216, 216, 216)  # paler than any cell that keeps something, so that it is not mistaken for one
FULL_TILE = (34, 139, 84)
PARTIAL_TILE = (222, 120, 24)
SHADES = " ░▒▓█"
SVG_LEVELS = 8
FAINTEST = 0.5  # the least ink of a cell that keeps anything, so that one pair in thousands can be seen
PALE = 0.5  # the strength of an outline's colour over cells that keep nothing
TINTS, PLAIN = ("", "\x1b[33m", "\x1b[32m"), "\x1b[0m"  # for characters in no tile, in a partial one, in a full one
OWN_COLOURS = (*TINTS[1:], PLAIN)


@dataclass(frozen=True)
class Tile:
    """Pairs that a kernel visits together: rows ``top .. bottom - 1``, columns ``left .. right - 1``."""

    top: int
    left: int
    bottom: int
    right: int
    full: bool


@dataclass(frozen=True)
class Visits:
    """``kinds`` ``[rows, columns]``: EMPTY, PARTIAL or FULL, the kind of tile that visits the middle of each cell;
    ``full`` and ``partial``: the numbers of tiles.
    """

    kinds: NDArray[np.uint8]
    full: int
    partial: int


@dataclass(frozen=True)
class Picture:
    """``density`` ``[rows, columns]``: the kept share of each cell's pairs, 0 to 1; a cell is one pair where all pairs
    fit.

    ``counts``, of the same shape, says how often each pair counts, where each cell is one pair of a multiset.
    """

    title: str
    queries: int
    keys: int
    density: NDArray[np.float32]
    counts: NDArray[np.int64] | None = None
    tiles: tuple[Tile, ...] = ()
    visits: Visits | None = None


def bins(length: int, limit: int) -> NDArray[np.int64]:
    """The first index of each of at most ``limit`` equal cells, then ``length``: ``[cells + 1]``; the last cell may be
    smaller.
    """
    step = max(1, -(-length // limit))
    return np.append(np.arange(0, length, step), length)


def blocks(picture: Picture, tinted: bool = False) -> str:
    """The picture as text, two rows of cells to a line, without a line break at the end.

    Half blocks where every cell is one pair; shades by density where cells hold many; for a multiset digits, a line for
    each row. ``tinted`` adds colours for a terminal: green in full tiles, yellow in partial ones.
    """
    return _tinted(_blocks(picture), picture) if tinted else _blocks(picture)


def _tinted(text: str, picture: Picture) -> str:
    """Colours each character by the tile that visits the middle of its cells."""
    if picture.visits is None or not picture.density.size:
        return text
    kinds = picture.visits.kinds
    if picture.counts is None:  # two rows to a line
        kinds = np.concatenate([kinds[1::2], kinds[len(kinds) // 2 * 2 :]])
    return "\n".join(_coloured(line, row) for line, row in zip(text.split("\n"), kinds, strict=True))


def tile_counts(visits: Visits) -> str:
    """The numbers of full and of partial tiles in words, each in its colour for a terminal."""
    counts = ((TINTS[2], visits.full, "full"), (TINTS[1], visits.partial, "partial"))
    return ", ".join(f"{tint}{count:,} {kind} tile{'s' * (count != 1)}{PLAIN}" for tint, count, kind in counts)


def _coloured(line: str, kinds: NDArray[np.uint8]) -> str:
    edges = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(line)]
    parts = ((line[left:right], TINTS[kinds[left]]) for left, right in pairwise(edges) if left < right)
    return "".join(f"{tint}{part}{PLAIN}" if tint else part for part, tint in parts)


def _blocks(picture: Picture) -> str:
    if picture.counts is not None:
        return "\n".join("".join(_count(int(value)) for value in row) for row in picture.counts)
    cells = picture.density
    if cells.shape[0] % 2:
        cells = np.vstack([cells, np.zeros((1, cells.shape[1]), np.float32)])
    pairs = zip(cells[0::2], cells[1::2], strict=True)
    if picture.density.shape == (picture.queries, picture.keys):
        return "\n".join("".join(_half(a > 0, b > 0) for a, b in zip(*pair, strict=True)) for pair in pairs)
    odd = picture.density.shape[0] % 2
    lines = [[_shade(a, b) for a, b in zip(*pair, strict=True)] for pair in pairs]
    if odd:
        lines[-1] = [_shade(a, a) for a in cells[-2]]
    return "\n".join("".join(line) for line in lines)


def _count(value: int) -> str:
    if value < 2:
        return ".#"[value]
    return str(value) if value < 10 else "+"


def _half(upper: bool, lower: bool) -> str:
    return " ▄▀█"[2 * int(upper) + int(lower)]


def _shade(upper: float, lower: float) -> str:
    """A block character by density: blank only if both cells keep nothing, solid only if both keep everything."""
    density = (float(upper) + float(lower)) / 2
    if density <= 0:
        return SHADES[0]
    return SHADES[4] if density >= 1 else SHADES[1 + min(2, int(density * 3))]


def write(picture: Picture, path: Path) -> None:
    """Writes the picture as ``.png``, ``.svg`` or ``.html``, by the path's ending; ValueError for another ending."""
    match path.suffix.lower():
        case ".png":
            image(picture).save(path, format="PNG")
        case ".svg":
            path.write_text(svg(picture), encoding="utf-8")
        case ".html":
            path.write_text(html(picture.title, svg(picture)), encoding="utf-8")
        case ending:
            raise ValueError(
                f"a picture is written as .png, .svg or .html, not {ending or 'a file without an ending'!r}"
            )


def _side(picture: Picture) -> int:
    """The side of a cell in pixels."""
    return max(1, min(16, 960 // max(picture.density.shape, default=1)))


def image(picture: Picture) -> Image.Image:
    """The picture as a bitmap: cells, a frame, the tiles, and a line of legend below."""
    from PIL import Image, ImageDraw  # only a picture needs it

    margin, foot = 8, 28
    cells = painted(picture, _side(picture))
    width, height = cells.width - 2, cells.height - 2
    canvas = Image.new("RGB", (max(width + 2 * margin, 420), height + 2 * margin + foot), PAPER)
    canvas.paste(cells, (margin - 1, margin - 1))
    _legend(ImageDraw.Draw(canvas), picture, margin, height + 2 * margin)
    return canvas


def painted(picture: Picture, side: int) -> Image.Image:
    """Cells of ``side`` pixels with the outlines of tiles over them, in a frame of one pixel.

    Outlines are pale over cells that keep nothing, so that they are not mistaken for kept cells.
    """
    from PIL import Image, ImageDraw

    def large(cells: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(np.repeat(cells, side, axis=0), side, axis=1)

    share = ink(picture.density)[:, :, None]
    pixels = large(np.rint(mixed(INK, PAPER, share)).astype(np.uint8))
    height, width = pixels.shape[:2]
    canvas = Image.new("RGB", (width + 2, height + 2), PAPER)
    ImageDraw.Draw(canvas).rectangle((0, 0, width + 1, height + 1), outline=FRAME)
    if pixels.size:
        colours = np.array([PAPER, FULL_TILE, PARTIAL_TILE])[_outlines(picture, width, height)]
        strength = np.where(large(picture.density > 0), 1.0, PALE)[:, :, None]
        outlined = np.rint(mixed(colours, PAPER, strength)).astype(np.uint8)
        seen = (colours != PAPER).any(axis=2, keepdims=True)
        canvas.paste(Image.fromarray(np.where(seen, outlined, pixels)), (1, 1))
    return canvas


def mixed(colour: Any, ground: Any, share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Blends two colours: ``colour`` by its share, ``ground`` by the rest."""
    return np.asarray(colour) * share + np.asarray(ground) * (1 - share)


def _outlines(picture: Picture, width: int, height: int) -> NDArray[np.uint8]:
    """The outlines of tiles, one pixel wide, ``[height, width]``: 1 for full tiles, 2 for partial ones, else 0."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(canvas)
    for (left, top, right, bottom), full in _boxes(picture, width, height):
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=1 if full else 2)
    return np.asarray(canvas)


def _legend(draw: ImageDraw.ImageDraw, picture: Picture, left: int, top: int) -> None:
    for text, colour in legend(picture):
        draw.text((left, top), text, fill=colour)
        left += int(draw.textlength(text)) + 14


def legend(picture: Picture) -> list[tuple[str, tuple[int, int, int]]]:
    """The words of the legend, each with its colour."""
    words: list[tuple[str, tuple[int, int, int]]] = [(f"{picture.title}  {picture.queries:,} x {picture.keys:,}", INK)]
    for full, name, colour in ((True, "full tiles", FULL_TILE), (False, "partial tiles", PARTIAL_TILE)):
        number = sum(tile.full is full for tile in picture.tiles)
        if number:
            words.append((f"{number:,} {name}", colour))
    return words


def ink(density: NDArray[np.floating]) -> NDArray[np.float64]:
    """How strongly a cell is coloured, by the share of its pairs that is kept: 0 for none, 1 for all."""
    share = np.asarray(density, np.float64)
    return np.where(share > 0, FAINTEST + (1 - FAINTEST) * share, 0.0)


def _boxes(picture: Picture, width: float, height: float) -> Iterator[tuple[tuple[int, int, int, int], bool]]:
    """Yields left, top, right and bottom of each tile, in pixels, and whether it is full; full tiles first."""
    across, down = width / max(picture.keys, 1), height / max(picture.queries, 1)
    for tile in sorted(picture.tiles, key=lambda tile: not tile.full):
        corners = (tile.left * across, tile.top * down, tile.right * across, tile.bottom * down)
        left, top, right, bottom = (round(value) for value in corners)
        yield (left, top, right, bottom), tile.full


def svg(picture: Picture) -> str:
    """The picture as an SVG document, in which equal neighbouring cells of a row are one rectangle."""
    side, margin, foot = _side(picture), 8, 24
    rows, columns = picture.density.shape
    width, height = columns * side, rows * side
    whole = (width + 2 * margin, height + 2 * margin + foot)
    words = "".join(
        f'<tspan fill="{hexadecimal(colour)}" dx="8">{escape(text)}</tspan>' for text, colour in legend(picture)
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole[0]}" height="{whole[1]}" '
        f'viewBox="{-margin} {-margin} {whole[0]} {whole[1]}" shape-rendering="crispEdges">',
        f"<title>{escape(picture.title)}</title>",
        *rectangles(picture, side, FRAME),
        f'<text x="-8" y="{height + 20}" font-family="sans-serif" font-size="12">{words}</text>',
    ]
    return "\n".join([*parts, "</svg>", ""])


def rectangles(picture: Picture, side: int, frame: tuple[int, int, int]) -> Iterator[str]:
    """Yields elements of an SVG document: a frame, the cells, each ``side`` wide, and the tiles over them."""
    rows, columns = picture.density.shape
    width, height = columns * side, rows * side
    yield f'<rect width="{width}" height="{height}" fill="{hexadecimal(PAPER)}" stroke="{hexadecimal(frame)}"/>'
    levels = np.ceil(picture.density * SVG_LEVELS).astype(np.int64)
    for y, row in enumerate(levels):
        for left, right, level in _equal(row):
            share = float(ink(np.array(level / SVG_LEVELS)))
            opacity = "" if level == SVG_LEVELS else f' fill-opacity="{share:.3g}"'
            place = f'x="{left * side}" y="{y * side}" width="{(right - left) * side}" height="{side}"'
            yield f'<rect {place} fill="{hexadecimal(INK)}"{opacity}/>'
    clear = f'stroke-opacity="{1 - PALE / 2:g}"'  # what lies below shows through
    for (left, top, right, bottom), full in _boxes(picture, width, height):
        place = f'x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"'
        yield f'<rect {place} fill="none" stroke="{hexadecimal(FULL_TILE if full else PARTIAL_TILE)}" {clear}/>'


def html(title: str, drawing: str) -> str:
    """An HTML page that contains one SVG document."""
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n{drawing}</html>\n'
    )


def _equal(row: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Yields runs of equal values other than 0: start, end, value."""
    edges = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), len(row)]
    for left, right in pairwise(edges):
        if left < right and row[left]:
            yield left, right, int(row[left])


def hexadecimal(colour: tuple[int, int, int]) -> str:
    """A colour as SVG writes it."""
    return "#" + "".join(f"{part:02x}" for part in colour)
