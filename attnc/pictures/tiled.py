"""Draws a large mask exactly, by counting pairs tile by tile: full tiles cost little, and empty ones nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..compiler.ir import CallShape, HostTable
from ..compiler.plan import Program
from .picture import Picture, bins
from .sample import EXACT_PAIRS, condition_of, holding
from .tile_walks import SegmentTiles, all_natural

RUNS = 2**15  # runs of partial tiles, at most: evaluating one takes time however few its pairs are
STEPS = 2**28  # keys of full tiles in other orders than the natural one, at most: each is assigned to a cell


def mask_by_tiles(
    title: str,
    segments: Sequence[SegmentTiles],
    program: Program,
    extent: CallShape,
    contents: Mapping[str, HostTable],
    head: int,
    limit: tuple[int, int],
) -> tuple[Picture, int | None] | None:
    """Draws a mask exactly, as :func:`.sample.sample_mask` does a small one, from the tiles of its ``segments``.

    Returns the picture and the number of pairs; None where the tiles are too many to evaluate.

    A pair that a multiset counts several times is drawn as one pair, and the number of pairs is None then. An index
    outside its table reads 0 instead of raising, as in the kernels.
    """
    if not _affordable(segments):
        return None
    tops, lefts = bins(extent.m, limit[0]), bins(extent.n, limit[1])
    row_cells, key_cells = _cells(tops), _cells(lefts)
    kept = np.zeros((len(tops) - 1, len(lefts) - 1))
    for walk in segments:
        rows, keys = walk.order()
        holds = holding(condition_of(walk), program, extent, contents, head)
        served = np.all(holding(walk.kernel.owned_rows, program, extent, contents, head)(rows, keys[:1]), axis=1)
        natural = all_natural([walk])
        for run in walk.runs():
            seen = keys[run.left : run.right]
            above = row_cells[rows[run.top : run.bottom]]
            if not run.full:
                at, key = np.nonzero(holds(rows[run.top : run.bottom], seen))
                np.add.at(kept, (above[at], key_cells[seen][key]), 1)
                continue
            inside: NDArray[np.int64] = np.clip(lefts, run.left, run.right)
            each = inside[1:] - inside[:-1] if natural else np.bincount(key_cells[seen], minlength=kept.shape[1])
            at, times = np.unique(
                above[served[run.top : run.bottom]], return_counts=True
            )  # in a full tile it keeps every pair of the rows that it owns
            kept[at] += times[:, None] * each
    pairs_of = np.diff(tops)[:, None] * np.diff(lefts)
    counted = program.mask.type == "count"
    density = np.minimum(kept / pairs_of, 1).astype(np.float32)
    return Picture(title, extent.m, extent.n, density), None if counted else int(kept.sum())


def _affordable(segments: Sequence[SegmentTiles]) -> bool:
    """Whether partial tiles are few enough in pairs and in runs, and full tiles in other orders few enough in keys."""
    pairs = sum(walk.counts()[1] * walk.kernel.rows.tile * walk.segment.keys.tile for walk in segments)
    if pairs > EXACT_PAIRS:
        return False
    runs = steps = 0
    for walk in segments:
        natural = all_natural([walk])
        for run in walk.runs():
            runs += not run.full
            steps += run.full and not natural and run.right - run.left
            if runs > RUNS or steps > STEPS:
                return False
    return True


def _cells(edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """The cell that each index lies in, for cells that begin at ``edges[:-1]``."""
    return np.repeat(np.arange(len(edges) - 1), np.diff(edges))
