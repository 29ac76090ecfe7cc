"""Schedules for few rows at any position: no pair is lost, no full tile lacks one, whatever the position and length."""

from __future__ import annotations

import numpy as np
import pytest

import attnc
from attnc.compiler import pipeline
from attnc.compiler.ir import CallShape, HostTable
from attnc.compiler.plan import FULL, PARTIAL, Schedule, Tiles
from attnc.compiler.plan.programs import Program
from attnc.compiler.plan.tile_choices import only
from attnc.compiler.schedule import schedule_anywhere

TEXT = """
pattern causal_ = causal
pattern window_ = causal_window(37)
pattern dilated = causal_window(20, 3)
pattern around = band(21, 9)
pattern columns = strided(12)
pattern summaries = fixed(24, 5)
pattern blocks_ = block_band(10, 2, 0)
pattern sinks = causal and (q - k < 30 or k < 4)
pattern kept(length: int[]) = causal and k < length
pattern by_head = causal and (q - k < 9 if head < 2 else q - k < 50)
pattern cut = causal and k % 7 != 2 * (n % 2)
pattern tokens_(g: tokens) = causal or k in g
pattern parity = k % 2 == 0
pattern last = n - k < 5
"""
MODULE = attnc.loads(TEXT)
CLOSED = [
    "causal_",
    "window_",
    "dilated",
    "around",
    "columns",
    "summaries",
    "blocks_",
    "sinks",
    "kept",
    "by_head",
    "cut",
    "parity",
]
HEADS, LONGEST, TILE = 3, 512, 8


def arranged(name: str) -> tuple[Program, tuple[HostTable, ...]]:
    attention = MODULE[name]()._bound
    contents = tuple(HostTable(None if table.element == "set" else np.array(19)) for table in attention.tables)
    known = frozenset(i for i, held in enumerate(contents) if held.values is not None)
    return pipeline.program(attention, only(Tiles(16, TILE, 4)), HEADS, known, True), contents


def planned(name: str, m: int) -> Schedule | None:
    program, contents = arranged(name)
    return schedule_anywhere(program, CallShape(LONGEST, m, HEADS), contents)


def visits(name: str, schedule: Schedule, start: int, n: int, head: int) -> np.ndarray:
    """The kind of each key, 0 where its tile is not visited, as the kernels compute it: ``[n]``."""
    program, _ = arranged(name)
    kinds = np.zeros(n, np.uint8)
    (kernel,), (plan,) = program.kernels, schedule.kernels
    for part, its in zip(kernel.segments, plan.segments, strict=True):
        bounds, total = its.by_query, part.keys.tiles(n, its.keys).total
        row = head if bounds.head_slots > 1 else 0
        move = start // bounds.start_step * bounds.start_shift
        for run in range(bounds.runs.pointer[row], bounds.runs.pointer[row + 1]):
            first = int(bounds.runs.start[run]) + move
            for tile in range(max(first, 0), min(first + int(bounds.runs.length[run]), total)):
                listed = () if its.keys is None else its.keys.tokens[0].tolist()
                tokens = [token for token in part.keys.tokens(tile, n, listed) if token >= 0]
                kinds[tokens] = np.maximum(kinds[tokens], bounds.runs.kind[run])
    return kinds


@pytest.mark.parametrize("m", [1, 5, 16])
@pytest.mark.parametrize("name", CLOSED)
def test_tiles_are_sound_at_every_position(name: str, m: int) -> None:
    schedule = planned(name, m)
    assert schedule is not None
    assert schedule.anywhere
    tables = {"length": 19} if name == "kept" else {}
    for start, n in [(0, 40), (3, 19), (7, 8), (24, 25), (95, 96), (130, 90), (201, 217), (200, 131)]:
        mask = MODULE[name]().mask(n, m, heads=HEADS, q_start=start, **tables).numpy()
        for head in range(HEADS):
            kinds = visits(name, schedule, start, n, head)
            assert (kinds[mask[head].any(0)] >= PARTIAL).all(), (start, n)
            assert mask[head][:, kinds == FULL].all(), (start, n)


def test_few_tiles_are_visited_beyond_those_with_a_pair() -> None:
    schedule = planned("window_", 1)
    assert schedule is not None
    kinds = visits("window_", schedule, 203, 204, 0)
    assert (kinds > 0).sum() <= 37 + 2 * TILE
    assert (kinds == FULL).sum() >= 37 - 3 * TILE


@pytest.mark.parametrize("name", ["tokens_", "last"])
def test_what_no_shift_preserves_has_no_such_schedule(name: str) -> None:
    assert planned(name, 1) is None


def test_rows_must_fit_one_tile() -> None:
    assert planned("causal_", 16) is not None
    assert planned("causal_", 17) is None
