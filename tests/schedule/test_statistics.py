"""Tiles and pairs counted without visiting them, against visits one by one."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from attnc.compiler.plan.orders import FULL, PARTIAL, TileCount
from attnc.compiler.plan.schedule import UNBOUNDED, Bounds, Runs
from attnc.compiler.schedule.statistics import pairs, totals, visited
from attnc.compiler.schedule.tile_visits import Slot, visits
from attnc.compiler.verify.schedule_interpreter import mask
from tests.support import handmade
from tests.support.handmade import Case
from tests.support.oracles.brute import brute_schedule


def random_bounds(draw: Random) -> tuple[Bounds, TileCount, TileCount]:
    aligned, heads = draw.random() < 0.5, draw.choice((1, 1, 3))
    classes = draw.randint(1, 4)
    own = TileCount(classes, draw.randint(0, 12))
    other = TileCount(classes if aligned else draw.randint(1, 3), draw.randint(0, 12))
    period = draw.randint(1, 5)
    pointer, runs = [0], []
    for _ in range(heads * period):
        place = draw.choice((-UNBOUNDED, -9, -2, 0, 3))
        for _ in range(draw.randint(0, 3)):
            length = draw.choice((1, 2, 5, UNBOUNDED))
            runs.append((place, min(length, UNBOUNDED - max(place, 0)), draw.choice((PARTIAL, FULL))))
            place += length + draw.randint(0, 3)
            if place > 20:
                break
        pointer.append(len(runs))
    start, length, kind = np.array(runs, np.int64).reshape(-1, 3).T
    held = Runs(np.array(pointer), start.astype(np.int32), length.astype(np.int32), kind.astype(np.uint8))
    return Bounds(period, draw.randint(0, 3), aligned, 1, heads, held), own, other


def test_tiles_are_counted_as_they_are_visited() -> None:
    for seed in range(300):
        bounds, own, other = random_bounds(Random(seed))
        found = visited(bounds, own, other)
        for head in range(bounds.head_slots):
            expected = {PARTIAL: 0, FULL: 0}
            for tile in range(own.total):
                for first, last, kind in visits(bounds, Slot(0, head), tile, own, other):
                    expected[kind] += last - first
            assert (found.full[head], found.partial[head]) == (expected[FULL], expected[PARTIAL]), seed


@pytest.mark.parametrize("case", handmade.cases(), ids=lambda case: case.name)
def test_pairs(case: Case) -> None:
    expected = mask(case.program, case.extent, case.contents)
    schedule = brute_schedule(case.program, case.extent, case.contents)
    assert pairs(case.program, schedule, case.extent, case.contents, len(expected)) == expected.sum()
    if len(expected) == 1:
        assert pairs(case.program, schedule, case.extent, case.contents, 4) == 4 * expected.sum()


def test_area_of_rows_and_columns_gathered() -> None:
    """A band of 8 rows and 4 keys to a tile; two lanes to a tile of gathered rows."""
    case = handmade.cases()[0]
    program, extent = case.program, case.extent
    schedule = brute_schedule(program, extent, case.contents)
    found = totals(program, schedule, extent)
    band, columns = (segment.by_query.runs for segment in schedule.kernels[0].segments)
    (rows,) = (segment.by_query.runs for segment in schedule.kernels[1].segments)
    lanes = (len(band.start) + len(columns.start)) * 8 * 4 + len(rows.start) * 2 * 4
    assert found.full + found.partial == len(band.start) + len(columns.start) + len(rows.start)
    assert found.area == lanes / (extent.heads * 40)
