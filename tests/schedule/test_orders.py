"""Orders: the tokens of their tiles, and what ranges of tiles read as; rows of runs, united, met and turned round."""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest

from attnc.compiler.ir.expressions import TRUE
from attnc.compiler.plan.orders import EMPTY, FULL, PARTIAL, Axis, Box, Gathered, View, natural
from attnc.compiler.plan.schedule import UNBOUNDED, Listing
from attnc.compiler.schedule import by_value, run_rows
from attnc.compiler.schedule.run_rows import Repeat, TileRuns, combined, intersect, ordered, transpose, union
from attnc.compiler.schedule.tile_boxes import Slots, Space, TileBoxes, split
from attnc.compiler.schedule.tile_positions import tokens_of
from attnc.compiler.schedule.tile_ranges import ListRanges, TileRanges, ViewRanges
from attnc.compiler.verify.schedule_interpreter import tile_tokens
from tests.support.generators.random_orders import OrderGenerator


def views() -> list[View]:
    several = [OrderGenerator(seed).view() for seed in range(60)]
    return [
        *several,
        View((Axis(1, 3), Axis(3, 2), Axis(6, None, 2))),
        View((Axis(30, None, 2), Axis(6, 5, 2), Axis(1, 6, 4))),
    ]


@pytest.mark.parametrize("tokens", [0, 1, 17, 64])
def test_tokens_of_tiles(tokens: int) -> None:
    for view in views():
        tiles = tokens_of(view, None, np.arange(view.tiles(tokens).total), tokens)
        assert tiles.shape == (view.tiles(tokens).total, view.tile)
        held = tiles[tiles >= 0]
        assert len(set(held.tolist())) == len(held)
        assert held.max(initial=-1) < tokens
        expected = tile_tokens(view, None, tokens)
        assert [tile[tile >= 0].tolist() for tile in tiles] == [tile.tolist() for tile in expected]
    listing = Listing(np.array([[4, 7, 9, 11, 12], [1, 2, -1, -1, -1]], np.int32), 2, 1)
    order = Gathered(TRUE, 3)
    assert tokens_of(order, listing.tokens[0], np.array([1, 0]), 20).tolist() == [[11, 12, -1], [4, 7, 9]]
    assert tokens_of(order, listing.tokens[1], np.array([0, 1]), 20).tolist() == [[1, 2, -1], [-1, -1, -1]]


def test_tokens_of_boxes() -> None:
    """Each lane's own token, or none: past the box's end, an axis or the last token, and before the first."""
    grid, volume = View((Axis(7, None, 2), Axis(1, 7, 4))), View((Axis(35, None, 2), Axis(5, 7, 2), Axis(1, 5, 4)))
    classes = View((Axis(10, 2), Axis(1, 2), Axis(20, None, 2), Axis(2, 5, 2)))
    boxes = [
        Box(grid, (3, 2), (1, 2), 8), Box(grid, (0, 7), (2, 0), 4), Box(volume, (1, 2, 1), (0, 1, 3), 8),
        Box(classes, (0, 0, 1, 1), (0, 0, 2, 1), 8), Box(natural(4), (5,), (3,), 4),
    ]  # fmt: skip
    for box in boxes:
        for tokens in (0, 1, 36, 97):
            count = box.tiles(tokens).total
            tiles, expected = tokens_of(box, None, np.arange(count), tokens), tile_tokens(box, None, tokens)
            assert tiles.shape == (count, box.tile)
            assert [tile[tile >= 0].tolist() for tile in tiles] == [tile.tolist() for tile in expected]
            assert set(tiles[tiles >= 0].tolist()) == set(range(tokens))


def test_an_order_that_leaves_a_token_out_does_not_cover() -> None:
    for view in views():
        tiles = tokens_of(view, None, np.arange(view.tiles(480).total), 480)
        assert view.covers == (set(tiles[tiles >= 0].tolist()) == set(range(480)))
    assert natural(8).covers
    assert not View((Axis(1, None, 8),), 1).covers
    assert not View((Axis(2, None, 8),)).covers


def positions(side: TileRanges, low: int, high: int) -> set[int] | None:
    """All that a range reads as; None where nothing is there."""
    digits, present = side.read(np.array([low]), np.array([high]), np.zeros(1, np.int64))
    if not present[0]:
        return None
    ranges = [range(int(d.low[0]) * d.stride, int(d.high[0]) * d.stride + 1, d.stride) for d in digits]
    return {sum(values) for values in product(*ranges)}


def check_ranges(side: TileRanges, tiles: list[set[int]], alone: TileRanges) -> None:
    """Cut down to single tiles, every range reads as at least what its tiles hold; a tile as little beyond it."""
    space = Space(side, alone, Slots(1, None))
    pending = space.start
    seen: list[int] = []
    while len(pending):
        for low, high in zip(pending.query_low.tolist(), pending.query_high.tolist(), strict=True):
            read = positions(side, low, high) or set()
            held = set().union(*tiles[low : high + 1])
            assert held <= read
            if low == high:
                seen.append(low)
                assert not read or max(read) - min(read) <= max(tiles[low]) - min(tiles[low]) + 64
        pending = pending.take(pending.query_low < pending.query_high)
        pending = split(space, pending)
    assert sorted(seen) == list(range(len(tiles)))


def test_ranges_of_tiles_read_as_their_tokens() -> None:
    alone = ViewRanges.whole(natural(1), 1)
    for view in views():
        for tokens in (1, 29, 64):
            listed = tokens_of(view, None, np.arange(view.tiles(tokens).total), tokens)
            check_ranges(ViewRanges.whole(view, tokens), [set(tile[tile >= 0].tolist()) for tile in listed], alone)


def test_a_whole_tile_reads_as_its_tokens_alone() -> None:
    for view in views():
        side = ViewRanges.whole(view, 10_000)
        for number in range(min(view.tiles(10_000).total, 12)):
            held = tokens_of(view, None, np.array([number]), 10_000)[0]
            assert positions(side, number, number) == set(held[held >= 0].tolist())


def test_ranges_of_a_list_read_from_its_first_to_its_last() -> None:
    values = np.array([[2, 3, 9, 20, 21, 0], [5, 0, 0, 0, 0, 0]], np.int64)
    side = ListRanges(values, np.array([5, 1]), np.array([0, 1]), 2)
    assert side.start == [(0, 2)]
    low, high, slot = np.array([0, 1, 2, 0, 1]), np.array([0, 2, 2, 2, 1]), np.array([0, 0, 0, 1, 1])
    (digit,), present = side.read(low, high, slot)
    assert present.tolist() == [True, True, True, True, False]
    assert list(zip(digit.low[:4].tolist(), digit.high[:4].tolist(), strict=True)) == [
        (2, 3),
        (9, 21),
        (21, 21),
        (5, 5),
    ]


def random_rows(draw: Random, count: int, columns: int) -> TileRuns:
    runs = []
    for row in range(count):
        place = draw.randint(0, 3)
        while place < columns:
            end = min(place + draw.randint(1, 5), columns)
            runs.append((row, place, end, draw.choice((PARTIAL, FULL))))
            place = end + draw.randint(0, 4)
    row, start, end, kind = np.array(runs, np.int64).reshape(-1, 4).T
    return ordered(count, row, start, end, kind.astype(np.uint8))


def spread_out(rows: TileRuns, low: int, high: int) -> np.ndarray[Any, Any]:
    found = np.zeros((rows.count, high - low), np.uint8)
    for row, start, end, kind in zip(rows.row, rows.start, rows.end, rows.kind, strict=True):
        assert start < end
        found[row, max(start - low, 0) : max(end - low, 0)] = kind
    return found


def test_rows_united_and_met() -> None:
    for seed in range(200):
        draw = Random(seed)
        parts = [random_rows(draw, 4, 20) for _ in range(draw.randint(1, 4))]
        dense = np.stack([spread_out(part, 0, 20) for part in parts])
        np.testing.assert_array_equal(spread_out(union(parts), 0, 20), dense.max(0))
        np.testing.assert_array_equal(spread_out(intersect(parts), 0, 20), dense.min(0))
        twice = spread_out(combined(parts, full=2, some=1), 0, 20)
        kinds = np.where((dense == FULL).sum(0) >= 2, FULL, PARTIAL)
        np.testing.assert_array_equal(twice, np.where((dense != EMPTY).any(0), kinds, EMPTY))


@pytest.mark.parametrize("most", [run_rows._MOST_MARKED, 0])
def test_tiles_that_many_runs_cover(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marked one by one, and where they would be too many, sorted."""
    monkeypatch.setattr(run_rows, "_MOST_MARKED", most)
    for seed in range(200):
        draw = Random(seed)
        runs = [(draw.randrange(4), draw.randrange(16), draw.randint(1, 4)) for _ in range(draw.randint(0, 30))]
        row, start, length = np.array(runs, np.int64).reshape(-1, 3).T
        dense = np.full((4, 20), EMPTY)
        for at, first, tiles in runs:
            dense[at, first : first + tiles] = PARTIAL
        found = run_rows.covered(4, row, start, start + length)
        np.testing.assert_array_equal(spread_out(found, 0, 20), dense)
        assert len(found) == len(ordered(4, found.row, found.start, found.end, found.kind)), "neighbours are joined"


@pytest.mark.parametrize("most", [by_value._MOST_ENTRIES, 40, 1])
def test_sets_of_a_row_are_joined_before_they_are_read(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few are read together, also where that parts the sets of a row."""
    monkeypatch.setattr(by_value, "_MOST_ENTRIES", most)
    draw = np.random.default_rng(0)
    bitmaps, row, chosen = draw.random((9, 13)) < 0.2, np.repeat([0, 2, 3, 7], [1, 5, 2, 9]), draw.integers(0, 9, 17)
    rows, members = by_value._joined(bitmaps, row, chosen)
    wanted = {
        (int(one), int(member)) for one, at in zip(row, chosen, strict=True) for member in np.flatnonzero(bitmaps[at])
    }
    assert set(zip(rows.tolist(), members.tolist(), strict=True)) == wanted
    assert len(by_value._joined(bitmaps, row[:0], chosen[:0])[0]) == 0


def test_rows_turned_round() -> None:
    for seed in range(200):
        draw = Random(seed)
        slots, rows, columns = draw.randint(1, 3), draw.randint(1, 6), draw.randint(1, 20)
        held = random_rows(draw, slots * rows, columns)
        dense = spread_out(held, 0, columns).reshape(slots, rows, columns)
        found = transpose(held, Repeat(rows, 0), columns)
        assert found is not None
        by_column = spread_out(found, 0, rows).reshape(slots, columns, rows)
        np.testing.assert_array_equal(by_column.swapaxes(1, 2), dense)
        again = transpose(found, Repeat(columns, 0), rows)
        assert again is not None
        for name in ("row", "start", "end", "kind"):
            np.testing.assert_array_equal(getattr(again, name), getattr(held, name))


def repeating(rows: TileRuns, steps: Repeat, height: int, low: int, high: int) -> np.ndarray[Any, Any]:
    """The tiles ``low .. high - 1`` of the rows ``-height .. height - 1`` of one slot."""
    found = np.zeros((2 * height, high - low), np.uint8)
    for row in range(-height, height):
        cycle, place = divmod(row, steps.period)
        its = rows.row == place
        one = TileRuns(1, np.zeros(its.sum(), np.int64), rows.start[its], rows.end[its], rows.kind[its])
        found[row + height] = spread_out(one.moved(cycle * steps.shift), low, high)[0]
    return found


def test_repeating_rows_turned_round() -> None:
    turned_round = 0
    for seed in range(300):
        draw = Random(seed)
        steps = Repeat(draw.randint(1, 4), draw.randint(1, 5))
        rows = random_rows(draw, steps.period, 16).moved(-8)
        if draw.random() < 0.5:  # and all before them
            row = np.arange(steps.period)
            before = TileRuns(
                steps.period, row, np.full_like(row, -UNBOUNDED), row * 0 - 6, np.full(len(row), FULL, np.uint8)
            )
            rows = union([rows, before])
        found = transpose(rows, steps, 0)
        assert found is not None
        turned_round += 1
        back = Repeat(steps.shift, steps.period)
        there = repeating(rows, steps, 24, -24, 24)
        np.testing.assert_array_equal(repeating(found, back, 24, -24, 24).T, there, err_msg=f"seed {seed}")
    assert turned_round == 300


def test_rows_that_come_and_go_for_ever_are_not_turned_round() -> None:
    row = np.array([0])
    every_other = TileRuns(2, row, row - UNBOUNDED, row, np.full(1, FULL, np.uint8))
    assert transpose(every_other, Repeat(2, 2), 0) is None


def test_boxes_are_cut_into_all_of_their_tiles() -> None:
    for view in views():
        rows, keys = ViewRanges.whole(view, 40), ViewRanges.whole(natural(3), 40)
        space = Space(rows, keys, Slots(1, None))
        pending, singles = space.start, [TileBoxes.product(1, [], [])]
        while len(pending):
            singles.append(pending.take(pending.single))
            pending = split(space, pending.take(~pending.single))
        found = TileBoxes.joined(singles)
        tiles = list(zip(found.query_low.tolist(), found.key_low.tolist(), strict=True))
        assert sorted(tiles) == list(product(range(view.tiles(40).total), range(14)))
