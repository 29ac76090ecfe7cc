"""Classifies tiles by subdivision: boxes of tiles first, and pieces of those that are partial, down to single tiles.

The cost grows with the boundary of the pattern, not with its area.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..analysis import Boxes, Classifier, DigitRange
from ..plan import EMPTY, FULL, PARTIAL
from .tile_boxes import Space, TileBoxes, cut
from .tile_ranges import Numbers

# The most boxes that are classified together, which limits memory.
_BATCH = 2**15
# Partial tiles are refined by classifying parts of them: first a sample; then all, if this decides at least that
# fraction of the sample and there are not too many tiles.
_TRIAL = 64
_WORTHWHILE = 0.05
_MOST_REFINED = 2**16


def subdivide(classifier: Classifier, space: Space, start: TileBoxes, most: int) -> tuple[TileBoxes, bool]:
    """The partial and full boxes inside the ``start`` boxes, and whether every partial one is a single tile.

    Boxes do not overlap. If the pieces of one level would be more than ``most``, its boxes stay whole and partial.
    """
    pending = start
    found = [pending.take(slice(0))]
    single = [pending.take(slice(0))]
    exact = True
    while len(pending):
        pending = _classified(classifier, space, pending)
        found.append(pending.take(pending.kind == FULL))
        partial = pending.take(pending.kind == PARTIAL)
        single.append(partial.take(partial.single))
        pending = partial.take(~partial.single)
        pieces = cut(space, pending)
        if pieces.count > most:
            found.append(pending)
            exact = False
            break
        pending = pieces.pieces
    return TileBoxes.joined([*found, _refined(classifier, space, TileBoxes.joined(single))]), exact


def _classified(classifier: Classifier, space: Space, boxes: TileBoxes) -> TileBoxes:
    """The boxes with their kinds; positions past the last token are not counted."""
    parts = [boxes.take(slice(first, first + _BATCH)) for first in range(0, len(boxes), _BATCH)]
    return boxes.of_kind(np.concatenate([_kinds(classifier, space, part) for part in parts]))


def _kinds(classifier: Classifier, space: Space, boxes: TileBoxes) -> NDArray[np.int8]:
    read, present = space.read(boxes)
    return np.where(present, classifier.classify(read), EMPTY).astype(np.int8)


def _refined(classifier: Classifier, space: Space, tiles: TileBoxes) -> TileBoxes:
    """The partial single tiles, refined: a tile is dropped if its parts are all empty, and FULL if they are all full.

    A sample is tried first: if the condition is classified exactly on whole tiles, refinement decides nothing.
    """
    if not len(tiles):
        return tiles
    trial = tiles.take(np.unique(np.linspace(0, len(tiles) - 1, _TRIAL).astype(np.int64)))
    decided = _kinds_by_parts(classifier, space, trial) != PARTIAL
    if decided.mean() < _WORTHWHILE or len(tiles) > _MOST_REFINED:
        return tiles
    step = _BATCH // 16
    parts = [tiles.take(slice(first, first + step)) for first in range(0, len(tiles), step)]
    tiles = tiles.of_kind(np.concatenate([_kinds_by_parts(classifier, space, part) for part in parts]))
    return tiles.take(tiles.kind != EMPTY)


def _kinds_by_parts(classifier: Classifier, space: Space, tiles: TileBoxes) -> NDArray[np.int8]:
    """The kind of each partial tile, from the kinds of its 16 parts: it is cut into four along both sides."""
    whole, _ = space.read(tiles)
    number = np.arange(16).repeat(len(tiles))
    parts = Boxes(
        query=_quarter(whole.query, number // 4),
        key=_quarter(whole.key, number % 4),
        batch=np.tile(whole.batch, 16),
        head=None if whole.head is None else np.tile(whole.head, 16),
    )
    kinds = classifier.classify(parts).reshape(16, -1)
    return np.where((kinds == EMPTY).all(0), EMPTY, np.where((kinds == FULL).all(0), FULL, PARTIAL)).astype(np.int8)


def _quarter(digits: tuple[DigitRange, ...], number: Numbers) -> tuple[DigitRange, ...]:
    """The lanes of quarter ``number`` of each tile; just the last lane if a short tile does not have that quarter."""
    *outer, lane = (_tiled(digit) for digit in digits)
    size = (lane.high - lane.low + 4) // 4
    low = np.minimum(lane.low + number * size, lane.high)
    return (*outer, DigitRange(lane.stride, low, np.minimum(low + size - 1, lane.high)))


def _tiled(digit: DigitRange) -> DigitRange:
    low = np.tile(digit.low, 16)
    return DigitRange(digit.stride, low, low if digit.high is digit.low else np.tile(digit.high, 16))
