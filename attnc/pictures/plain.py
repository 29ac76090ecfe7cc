"""Draws a mask alone into a file: cells in a frame, without tiles and words, for pages that show many of them."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .picture import FRAME, Picture, hexadecimal, html, painted, rectangles

if TYPE_CHECKING:
    from PIL import Image

SIDE = 384  # pixels, at most, and cells
SEVERAL = (222, 120, 24)
"""Pairs that count more than once."""
COLOURS = 256  # of a file that lists its colours, and so is small


def write_plain(picture: Picture, path: Path) -> None:
    """Writes the picture as ``.png``, ``.svg`` or ``.html``, by the path's ending; ValueError for another ending."""
    match path.suffix.lower():
        case ".png":
            plain_image(picture).save(path, format="PNG", optimize=True)
        case ".svg":
            path.write_text(plain_svg(picture), encoding="utf-8")
        case ".html":
            path.write_text(html(picture.title, plain_svg(picture)), encoding="utf-8")
        case ending:
            raise ValueError(f"a picture is written as .png, .svg or .html, not {ending!r}")


def _side(picture: Picture) -> int:
    """The side of a cell in pixels."""
    return max(1, SIDE // max(picture.density.shape, default=1))


def plain_image(picture: Picture) -> Image.Image:
    """The picture as a bitmap, with a frame of one pixel; with a list of its colours where they are few."""
    from PIL import Image  # only a picture needs it

    side = _side(picture)
    canvas = painted(replace(picture, tiles=()), side)
    if picture.counts is not None and picture.counts.size:
        pixels = np.array(canvas)
        several = np.repeat(np.repeat(picture.counts > 1, side, axis=0), side, axis=1)
        pixels[1:-1, 1:-1][several] = SEVERAL
        canvas = Image.fromarray(pixels)
    if canvas.getcolors(COLOURS) is None:
        return canvas
    return canvas.convert("P", palette=Image.Palette.ADAPTIVE, colors=COLOURS)


def plain_svg(picture: Picture) -> str:
    """The picture as an SVG document."""
    side = _side(picture)
    rows, columns = picture.density.shape
    width, height = columns * side + 2, rows * side + 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="-1 -1 {width} {height}" shape-rendering="crispEdges">',
        f"<title>{escape(picture.title)}</title>",
        *rectangles(replace(picture, tiles=()), side, FRAME),
    ]
    if picture.counts is not None:
        parts += [
            f'<rect x="{column * side}" y="{row * side}" width="{side}" height="{side}" fill="{hexadecimal(SEVERAL)}"/>'
            for row, column in np.argwhere(picture.counts > 1).tolist()
        ]
    return "\n".join([*parts, "</svg>", ""])
