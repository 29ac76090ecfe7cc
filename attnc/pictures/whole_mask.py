"""Draws the mask that a command looks at: pair by pair, or tile by tile where it is large."""

from __future__ import annotations

from dataclasses import replace

from ..compiler.oracle import OutOfTableError, TooLargeError
from ..compiler.plan import Schedule
from ..compiler.verify import IntegerRangeError
from ..inspection import WIDTH, InputError, LaunchView
from .picture import Picture, bins, blocks, tile_counts
from .sample import EXACT_PAIRS, sample_mask
from .tile_walks import all_natural, visits_of_cells, walks
from .tiled import mask_by_tiles


def mask(view: LaunchView, columns: int, tinted: bool = False) -> str:
    """The picture as text with a line of counts; if ``tinted``, in the colours of its tiles."""
    limit = max(2, min(columns, WIDTH))
    picture, pairs = sampled(view, limit, view.pipeline.schedule if tinted else None)
    m, n = view.extent.m, view.extent.n
    number = f"about {float(picture.density.mean()):.2%} of all pairs"
    if pairs is not None:
        counted = view.pipeline.attention.mask.type == "count"
        number = (
            f"{pairs:,} pairs, counted as often as they count" if counted else f"{pairs:,} pairs, {pairs / (m * n):.2%}"
        )
    scale = "" if picture.density.shape == (m, n) else f", {-(-n // picture.density.shape[1])} keys to a column"
    tiles = "" if picture.visits is None else f"\n{tile_counts(picture.visits)}"
    return f"{blocks(picture, tinted)}\n{view.title}: {m:,} queries × {n:,} keys, {number}{scale}{tiles}"


def sampled(view: LaunchView, limit: int, planned: Schedule | None) -> tuple[Picture, int | None]:
    """The chosen head's mask in at most ``limit`` cells each way, and its number of pairs, None if only a sample was
    counted.

    With a schedule also the kinds of tiles that visit the cells, and the tiles themselves where they are walked in
    natural order. InputError for an index outside its table or an integer beyond 63 bits.
    """
    pipeline = view.pipeline
    large = view.extent.m * view.extent.n > EXACT_PAIRS
    found = walks(pipeline.program, planned or pipeline.schedule, view.head) if planned is not None or large else []
    cells = (limit, limit)
    by_tiles = None
    if large:
        name = pipeline.attention.name
        by_tiles = mask_by_tiles(name, found, pipeline.program, view.extent, view.contents, view.head, cells)
    try:
        picture, pairs = by_tiles or sample_mask(pipeline.attention, view.extent, view.contents, view.head, cells)
    except (OutOfTableError, TooLargeError, IntegerRangeError) as error:
        raise InputError(str(error)) from None
    if planned is not None:
        visits = visits_of_cells(found, bins(picture.queries, limit), bins(picture.keys, limit))
        tiles = tuple(tile for walk in found for tile in walk.tiles()) if all_natural(found) else ()
        picture = replace(picture, visits=visits, tiles=tiles)
    return picture, pairs
