"""Draws one head into a file, for `attnc show -o`, with a picture for each order other than the natural one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from ..compiler.ir import TRUE, expression
from ..compiler.pipeline import schedule
from ..compiler.plan import Kernel, Program, Segment, Tiles, natural
from ..inspection import LaunchView, stage
from .grid import Grid, Panel, Row, panel_side, write_grid
from .picture import write
from .plain import SIDE, write_plain
from .sample import segment_picture
from .tile_walks import SegmentTiles, all_natural, walks
from .whole_mask import sampled

CELLS = 960  # along the side of a picture that is alone in its file
LARGEST = 640  # pixels along the side of a picture that is not


def draw(view: LaunchView, path: Path, plain: bool = False) -> str:
    """Writes the mask with its tiles: one picture, or one for each order; ``plain``: the mask alone, in one picture.

    Returns a description of the file.
    """
    if plain:
        with stage("mask"):
            picture, pairs = sampled(view, SIDE, None)
        write_plain(replace(picture, title=view.title), path)
        return f"{picture.queries:,} × {picture.keys:,}" + ("" if pairs is None else f", {pairs:,} pairs")
    pipeline = view.pipeline
    with stage("schedule"):
        segments = walks(pipeline.program, pipeline.schedule, view.head)
    if not all_natural(segments):
        grid = chosen(view)
        write_grid(grid, path)
        return grid.title
    with stage("mask"):
        picture, _ = sampled(view, CELLS, pipeline.schedule)
    write(replace(picture, title=view.title), path)
    return f"{picture.queries:,} × {picture.keys:,}, {len(picture.tiles):,} tiles"


def chosen(view: LaunchView) -> Grid:
    """A picture in natural order with the tiles of that order, then for each kernel one picture per segment with its
    tiles.
    """
    pipeline = view.pipeline
    with stage("schedule"):
        segments = walks(pipeline.program, pipeline.schedule, view.head)
        plain = _in_natural_order(pipeline.program, pipeline.choices[0].tiles)
        standing = walks(plain, schedule(plain, view.extent, pipeline.contents), view.head)
    kernels = [list(group) for _, group in groupby(segments, key=lambda walk: walk.kernel_number)]
    limit = panel_side(max(map(len, kernels), default=1), LARGEST)
    names = {str(number): table.name for number, table in enumerate(pipeline.attention.tables)}
    with stage("mask"):
        picture, _ = sampled(view, limit, None)
        picture = replace(picture, tiles=tuple(tile for walk in standing for tile in walk.tiles()))
        rows = [Row("natural order", (Panel(_cost(standing, view.extent.m), picture),))]
        for group in kernels:
            panels = tuple(_panel(walk, view, names, limit) for walk in group)
            rows.append(Row(_label(group[0], names), panels))
    title = f"{view.title}: {view.extent.m:,} queries × {view.extent.n:,} keys, {_cost(segments, view.extent.m)}"
    return Grid(title, tuple(rows), LARGEST)


def _in_natural_order(program: Program, tiles: Tiles) -> Program:
    kernel = Kernel(natural(tiles.query), (Segment(natural(tiles.key), program.mask),), "store")
    return replace(program, kernels=(kernel,))


def _panel(walk: SegmentTiles, view: LaunchView, names: dict[str, str], limit: int) -> Panel:
    pipeline = view.pipeline
    picture = segment_picture(walk, pipeline.program, view.extent, view.contents, view.head, (limit, limit))
    return Panel(f"keys {walk.segment.keys.describe(names)}, {_tiles([walk])}", picture)


def _label(walk: SegmentTiles, names: dict[str, str]) -> str:
    where = "" if walk.kernel.owned_rows == TRUE else f" where {expression(walk.kernel.owned_rows, names)}"
    return f"kernel {walk.kernel_number}: rows {walk.kernel.rows.describe(names)}{where}"


def _cost(segments: Sequence[SegmentTiles], m: int) -> str:
    """The numbers of tiles, and the average number of keys computed for each query, in words."""
    lanes = sum(sum(walk.counts()) * walk.kernel.rows.tile * walk.segment.keys.tile for walk in segments)
    return f"{_tiles(segments)}, {lanes / max(m, 1):,.0f} keys a query"


def _tiles(segments: Sequence[SegmentTiles]) -> str:
    full, partial = (
        (sum(counts) for counts in zip(*(walk.counts() for walk in segments), strict=True)) if segments else (0, 0)
    )
    return f"{full:,} full and {partial:,} partial tiles"
