"""Schedules against the dense mask: no empty tile holds a pair, no full tile lacks one, both directions agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from attnc.compiler.plan import EMPTY, FULL, PARTIAL, Runs, Schedule
from attnc.compiler.schedule import schedule
from tests.random_expressions import Case, Generator

TILES = ((4, 4), (8, 4), (4, 16), (1, 1), (5, 3), (16, 16), (64, 64))


def grid(runs: Runs, slots: int, rows: int, columns: int) -> NDArray[Any]:
    """The kind of each tile, [slots, rows, columns]; fails where a tile is visited twice, or runs are not in order."""
    kinds = np.zeros((slots * rows, columns), np.uint8)
    assert runs.pointer[0] == 0
    assert runs.pointer[-1] == len(runs.start) == len(runs.length) == len(runs.kind)
    assert len(runs.pointer) == slots * rows + 1
    for row in range(slots * rows):
        end, last = 0, EMPTY
        for run in range(runs.pointer[row], runs.pointer[row + 1]):
            start, length = int(runs.start[run]), int(runs.length[run])
            assert length > 0
            assert start > end or (start == end and (runs.kind[run] != last or run == runs.pointer[row]))
            end, last = start + length, runs.kind[run]
            assert end <= columns
            kinds[row, start:end] = last
    return kinds.reshape(slots, rows, columns)


def kinds_of(plan: Schedule) -> NDArray[Any]:
    """The kind of each tile, [batch slots, head slots, query tiles, key tiles], the same in both directions."""
    slots = plan.batch_slots * plan.head_slots
    by_query = grid(plan.by_query, slots, plan.query_tiles, plan.key_tiles)
    by_key = grid(plan.by_key, slots, plan.key_tiles, plan.query_tiles)
    np.testing.assert_array_equal(by_query, by_key.transpose(0, 2, 1))
    assert plan.full == (by_query == FULL).sum()
    assert plan.partial == (by_query == PARTIAL).sum()
    return by_query.reshape(plan.batch_slots, plan.head_slots, plan.query_tiles, plan.key_tiles)


def check_sound(case: Case, plan: Schedule, mask: NDArray[Any]) -> tuple[int, int]:
    """Fails where a tile is called what it is not; how many tiles are partial, and how many had to be."""
    kinds = kinds_of(plan)
    batch, heads, m, n = mask.shape
    assert plan.batch_slots in (1, batch)
    assert plan.head_slots in (1, heads)
    padded = np.full(
        (batch, heads, plan.query_tiles * plan.query_tile, plan.key_tiles * plan.key_tile), -1, dtype=np.int64
    )
    padded[:, :, :m, :n] = mask
    tiles = padded.reshape(batch, heads, plan.query_tiles, plan.query_tile, plan.key_tiles, plan.key_tile)
    holds = (tiles > 0).any((3, 5))
    filled = (tiles == 1).all((3, 5))
    everywhere = np.broadcast_to(kinds, holds.shape)
    assert not (holds & (everywhere == EMPTY)).any(), case
    assert not (~filled & (everywhere == FULL)).any(), case
    return int((everywhere == PARTIAL).sum()), int((holds & ~filled).sum())


@pytest.mark.parametrize("block", range(10))
def test_random_masks_are_planned_soundly(block: int) -> None:
    for seed in range(block * 200, block * 200 + 200):
        case = Generator(seed).case()
        query_tile, key_tile = TILES[seed % len(TILES)]
        check_sound(case, schedule(case.program(query_tile, key_tile), case.extent, case.contents), case.dense())
