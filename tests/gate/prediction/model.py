"""Predicted time and work of a pass over one head: attnc's beside FlexAttention's.

Time = for each program a prologue and epilogue, for each loop that it enters a pipeline to fill, and for each turn of a
loop the clocks that the simulator finds with the resident blocks. The two constants are guesses, the same for both
sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attnc.compiler import pipeline
from attnc.compiler.ir import Attention, CallShape, HostTable

from ..account import NORMAL_KEYS, NORMAL_ROWS, Account, Turn, Work
from ..kernels import Visits
from ..store import digest, kept
from .flex import BLOCK
from .simulator import kept_clocks

PROLOGUE = 3000
"""Clocks before the first and after the last turn of a program."""
REFILL = 700
"""Clocks until a pipeline of loads is full again: the latency of the second-level cache."""


@dataclass(frozen=True)
class Blocks:
    """The blocks of 128 by 128 pairs that FlexAttention visits for one head, on average over heads."""

    full: float
    partial: float


def flex_blocks(name: str, attention: Attention, n: int, heads: int, contents: tuple[HostTable, ...]) -> Blocks:
    """The blocks of a block mask, found by looking at every pair."""
    tables = [[table.name, digest(np.ascontiguousarray(held.values).tobytes()) if held.values is not None else ""]
              for table, held in zip(attention.tables, contents, strict=True)]  # fmt: skip
    key = digest(name, repr(attention.mask), n, heads, tables)
    return Blocks(**kept("blocks", key, lambda: _count(attention, n, heads, contents)))


def _count(attention: Attention, n: int, heads: int, contents: tuple[HostTable, ...]) -> dict[str, float]:
    full = partial = 0.0
    for row in range(0, n, BLOCK):
        strip = pipeline.mask(attention, CallShape(n, BLOCK, heads, (row,)), contents)[0].astype(bool)
        pairs = strip.reshape(len(strip), BLOCK, n // BLOCK, BLOCK).sum((1, 3))
        whole, some = int((pairs == BLOCK * BLOCK).sum()), int((pairs > 0).sum())
        full, partial = full + whole / len(strip), partial + (some - whole) / len(strip)
    return {"full": full, "partial": partial}


def turn_clocks(turn: Turn, blocks: int) -> float:
    """The simulated clocks of one turn of a loop. UnknownError where the model does not know it."""
    return kept_clocks(turn.instructions, turn.warps, max(blocks, 1), turn.ahead)


def attnc_clocks(functions: Sequence[tuple[Account, Sequence[Visits]]]) -> float:
    """The clocks of a multiprocessor that one pass takes for one head, by its functions."""
    return sum(_function_clocks(its, seen) for its, seen in functions)


def _function_clocks(its: Account, seen: Sequence[Visits]) -> float:
    blocks = max(its.blocks, 1)
    first = seen[0]
    steps = first.tile / (its.works[0].typical.keys if its.kind == "backward_keys" else its.works[0].typical.rows)
    total = first.stays * steps * first.parts * PROLOGUE / blocks
    for work, visit in zip(its.works, seen, strict=True):
        if visit.parts == 1:
            total += visit.entered * steps * REFILL / blocks
        turns = visit.area / (work.typical.rows * work.typical.keys)
        for pairs, turn in ((visit.full, work.full or work.partial), (visit.partial, work.partial or work.full)):
            assert turn is not None
            total += pairs * turns * turn_clocks(turn, blocks) if pairs else 0.0
    return total


def flex_clocks(its: Account, blocks: Blocks, n: int) -> float:
    """The clocks of a multiprocessor that FlexAttention's forward pass takes for one head."""
    (work,) = its.works
    assert work.full is not None
    assert work.partial is not None
    resident = max(its.blocks, 1)
    turns = BLOCK * BLOCK / (work.full.rows * work.full.keys)
    loops = turns * (
        blocks.full * turn_clocks(work.full, resident) + blocks.partial * turn_clocks(work.partial, resident)
    )
    return loops + n / work.full.rows * (PROLOGUE + 2 * REFILL) / resident


def attnc_work(functions: Sequence[tuple[Account, Sequence[Visits]]]) -> float:
    """Instructions in the loops of one pass for one head, in those of a warp for 64 rows by 128 keys."""
    return sum(
        _work(work, visit.full * visit.area, visit.partial * visit.area)
        for its, seen in functions
        for work, visit in zip(its.works, seen, strict=True)
    )


def flex_work(its: Account, blocks: Blocks) -> float:
    """As :func:`attnc_work`, of FlexAttention's forward pass."""
    (work,) = its.works
    return _work(work, blocks.full * BLOCK * BLOCK, blocks.partial * BLOCK * BLOCK)


def _work(work: Work, full: float, partial: float) -> float:
    on_full, on_partial = work.full or work.partial, work.partial or work.full
    assert on_full is not None
    assert on_partial is not None
    return (full * on_full.count + partial * on_partial.count) / (NORMAL_ROWS * NORMAL_KEYS)


def full_tile_clocks(its: Sequence[Account]) -> float:
    """The simulated clocks of a backward pass for 64 by 64 pairs of full tiles, by its kernels' first segments."""
    total = 0.0
    for each in its:
        turn = each.works[0].full
        assert turn is not None
        total += turn_clocks(turn, each.blocks) * 64 * 64 / (turn.rows * turn.keys)
    return total
