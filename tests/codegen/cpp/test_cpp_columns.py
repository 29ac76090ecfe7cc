"""What C++ kernels really multiply, counted by kernels built to count, against what the schedule says they visit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

import attnc
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.plan.orders import Tiles
from attnc.compiler.plan.tile_choices import only
from attnc.compiler.schedule.statistics import totals
from attnc.compiler.schedule.tile_visits import Slot, Walked, visits
from attnc.runtime.base.configuration import settings
from attnc.runtime.base.launch import Launch
from attnc.runtime.call.checks import Call
from attnc.runtime.cpp import executor
from attnc.runtime.planning import launch_of
from tests.codegen.cpp.test_cpp_exact import normal
from tests.support.cpp_patterns import PATTERNS
from tests.support.oracles.dense_formula import Shape, launch

N = 4096
TEXT = """
pattern global_window(g: tokens) = window(512) or q in g or k in g
pattern dilated = abs(q - k) <= 1024 and (q - k) % 4 == 0
pattern every_second = abs(q - k) <= 512 and (q - k) % 2 == 0
pattern residues_of_blocks = (q // 64 - k // 64) % 3 == 0 and k <= q
pattern branch(segment: int, every: int) = q // segment == k // segment and q % every == 0 and k % every == 0
pattern longnet = causal and (branch(256, 1) or branch(1024, 4) or branch(4096, 16))
pattern neighbours = grid_window(64, 6, 6)
pattern summaries = fixed(256, 8)
pattern strides = strided(256)
pattern sinks = causal and (q - k < 1024 or k < 4)
pattern packed(doc: int[token]) = causal and doc[q] == doc[k]
pattern whole = causal
pattern band = abs(q - k) <= 512
pattern random_blocks_too(chosen: int[middle, draws]) =
    full if row in {0, last}
    else column in {0, last} or abs(row - column) <= 1 or any((column == chosen[row - 1, t]) for t in 0..<3)
    where row = q // 64, column = k // 64, last = n // 64 - 1
"""
GENERATOR = np.random.default_rng(3)
LENGTHS = (GENERATOR.lognormal(5.0, 0.7, 24) + 1).astype(np.int64)
TABLES: dict[str, dict[str, Tensor]] = {
    "global_window": {"g": torch.tensor([0, 17, 3000])},
    "packed": {"doc": torch.from_numpy(np.repeat(np.arange(24), LENGTHS * N // LENGTHS.sum() + 1)[:N])},
    "random_blocks_too": {"chosen": torch.from_numpy(GENERATOR.integers(0, N // 64, (N // 64 - 2, 3)))},
}
MODULE = attnc.loads(TEXT)
NAMES = [name for name in MODULE if name != "branch"]


@pytest.fixture(scope="module", autouse=True)
def _quick_builds() -> Iterator[None]:
    with settings.override(optimisation=0):
        yield


class Walk(NamedTuple):
    """Over all tiles that a schedule visits: ``pairs`` of tokens, and pairs of ``lanes``, empty ones too."""

    pairs: int
    lanes: int


def walk(call: Launch) -> Walk:
    """By walking the schedule tile by tile."""
    pairs = lanes = 0
    for kernel, schedule in zip(call.program.kernels, call.schedule.kernels, strict=True):
        heads = call.q.shape[1] if kernel.heads is None else len(kernel.heads)
        rows = Walked(kernel.rows, schedule.rows, call.q.shape[2])
        for segment, bounds in zip(kernel.segments, schedule.segments, strict=True):
            keys = Walked(segment.keys, bounds.keys, call.k.shape[2])
            for slot in (Slot(batch, place) for batch in range(call.q.shape[0]) for place in range(heads)):
                before = np.array([0, *(len(keys.held(t, t + 1, slot)) for t in range(keys.tiles.total))]).cumsum()
                for tile in range(rows.tiles.total):
                    its = list(visits(bounds.by_query, slot, tile, rows.tiles, keys.tiles))
                    held = len(rows.held(tile, tile + 1, slot))
                    pairs += held * sum(int(before[visit.last] - before[visit.first]) for visit in its)
                    tiles = sum(visit.last - visit.first for visit in its)
                    lanes += kernel.rows.tile * segment.keys.tile * tiles
    return Walk(pairs, lanes)


@pytest.mark.parametrize("name", NAMES)
def test_no_more_is_multiplied_than_the_area_says(name: str) -> None:
    attend = MODULE[name]()
    q, k, v = (torch.zeros(1, 1, N, 4) for _ in range(3))
    tables = TABLES.get(name, {})
    call = launch_of(attend._bound, Call(q, k, v, tables, None, 0, None, 0.0, 0), only(Tiles(64, 64)))
    found = executor.columns(call)
    walked = walk(call)
    assert round(totals(call.program, call.schedule, CallShape(N, N)).area * N) == walked.lanes
    assert int(attend.mask(N, **tables).sum()) <= found.multiplied <= found.visited == walked.pairs <= walked.lanes


@pytest.mark.parametrize("name", ["full", "window", "by head"])
def test_pairs_of_natural_tiles(name: str) -> None:
    """Full tiles are multiplied whole; every head and batch entry counts for itself."""
    shape = Shape(m=70, n=90, batch=2, heads=2, kv_heads=1, head_dim=4, value_dim=4, starts=(3,))
    call = launch(PATTERNS[name], shape, normal(shape), {}, torch.ones(2))
    found = executor.columns(call)
    assert found.visited == walk(call).pairs
    assert found.multiplied == found.visited if name == "full" else found.multiplied < found.visited
    half = replace(call, q=call.q[:1], k=call.k[:1], v=call.v[:1])
    assert executor.columns(half) == tuple(x // 2 for x in found)
