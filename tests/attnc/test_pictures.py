"""Pictures: what stands in which place, for terminals and files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from attnc.compiler.arrange.search import arrange
from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import DEFAULT_SCALE, Attention, Dimension, Table
from attnc.compiler.ir.expressions import HEAD, LOGIT, Const, Entry, Expr, K, Q
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.oracle.interpreter import evaluate
from attnc.compiler.plan.orders import EMPTY, FULL, PARTIAL, Tiles
from attnc.compiler.schedule.segments import schedule
from attnc.compiler.verify.schedule_interpreter import mask
from attnc.pictures.picture import FULL_TILE, INK, PAPER, PARTIAL_TILE, Picture, Tile, bins, blocks, image, svg, write
from attnc.pictures.sample import sample_mask, segment_picture
from attnc.pictures.tile_walks import SegmentTiles, visits_of_cells, walks
from tests.support import handmade
from tests.support.oracles.brute import brute_schedule


def attention(mask: Expr, *tables: Table) -> Attention:
    return Attention("sample", mask, LOGIT, DEFAULT_SCALE, None, tables)


CAUSAL = attention(constructors.less_equal(K, Q))


def picture(rows: list[str], **more: object) -> Picture:
    cells = np.array([[float(c == "#") for c in row] for row in rows], np.float32)
    return Picture("sample", *cells.shape, cells, **more)  # type: ignore[arg-type]


def test_two_rows_make_a_line() -> None:
    assert blocks(picture(["##..", "#.#."])) == "█▀▄ "


def test_an_odd_last_row_is_the_upper_half() -> None:
    assert blocks(picture(["#.", "#.", "##"])) == "█ \n▀▀"


def test_a_multiset_is_drawn_in_digits() -> None:
    counts = np.array([[0, 1, 2], [9, 10, 3]])
    assert blocks(Picture("sample", 2, 3, (counts > 0).astype(np.float32), counts)) == ".#2\n9+3"


def test_shades_tell_nothing_from_little_and_much_from_all() -> None:
    density = np.array([[0, 0.001, 0.5, 0.999, 1.0]] * 2, np.float32)
    assert blocks(Picture("sample", 200, 500, density)) == " ░▒▓█"


@pytest.mark.parametrize("rows", [1, 3, 5])
def test_an_odd_last_row_is_as_dark_as_it_is(rows: int) -> None:
    for share, shade in ((1.0, "█"), (0.5, "▒"), (0.01, "░")):
        lines = blocks(Picture("sample", 100 * rows, 200, np.full((rows, 2), share, np.float32))).split("\n")
        assert lines == [shade * 2] * ((rows + 1) // 2)


@pytest.mark.parametrize(("length", "limit"), [(1, 1), (5, 8), (64, 64), (100, 64), (1000, 64), (65536, 128)])
def test_bins_cover_everything_once(length: int, limit: int) -> None:
    edges = bins(length, limit)
    widths = np.diff(edges)
    assert edges[0] == 0
    assert edges[-1] == length
    assert 1 <= len(widths) <= limit
    assert (widths > 0).all()
    assert len(set(widths[:-1].tolist())) <= 1


@pytest.mark.parametrize("n", [7, 64])
def test_a_small_mask_is_drawn_pair_by_pair(n: int) -> None:
    found, pairs = sample_mask(CAUSAL, CallShape(n, n), {}, 0, (64, 64))
    expected = evaluate(CAUSAL.mask, (), CallShape(n, n), {})[0, 0]
    assert np.array_equal(found.density > 0, expected)
    assert pairs == expected.sum()


def test_a_large_mask_is_drawn_by_density() -> None:
    found, pairs = sample_mask(CAUSAL, CallShape(1000, 1000), {}, 0, (10, 10))
    dense = evaluate(CAUSAL.mask, (), CallShape(1000, 1000), {})[0, 0].astype(float)
    assert np.allclose(found.density, dense.reshape(10, 100, 10, 100).mean(axis=(1, 3)))
    assert pairs == dense.sum()


def test_a_huge_mask_is_sampled() -> None:
    found, pairs = sample_mask(CAUSAL, CallShape(65536, 65536), {}, 0, (16, 16))
    assert pairs is None
    assert np.array_equal(found.density > 0, np.tril(np.ones((16, 16))) > 0)
    assert np.allclose(np.tril(found.density, -1)[np.tril_indices(16, -1)], 1)


def test_one_head_is_drawn() -> None:
    mask = constructors.less(Q, constructors.mul(HEAD, Const(4)))
    found, pairs = sample_mask(attention(mask), CallShape(8, 8, heads=3), {}, 1, (8, 8))
    assert pairs == 4 * 8
    assert (found.density[:4] == 1).all()


def test_rows_at_a_later_position_read_their_own_rows_of_a_table() -> None:
    table = Table("limit", "int", (Dimension("query"),))
    mask = constructors.less(K, Entry("limit", (Q,), "int"))
    limits = np.array([3, 0, 5], np.int32)
    found, _ = sample_mask(attention(mask, table), CallShape(8, 3, 1, (5,)), {"limit": HostTable(limits)}, 0, (8, 8))
    assert found.density.sum(axis=1).tolist() == [3, 0, 5]


def test_a_multiset_keeps_its_counts() -> None:
    mask = constructors.plus(constructors.less_equal(K, Q), constructors.equal(K, Const(0)))
    found, pairs = sample_mask(attention(mask), CallShape(3, 3), {}, 0, (8, 8))
    assert pairs == 9
    assert found.counts is not None
    assert found.counts.tolist() == [[2, 0, 0], [2, 1, 0], [2, 1, 1]]


def walk_of(subject: Attention, extent: CallShape, tiles: Tiles) -> SegmentTiles:
    """The one segment of a program without tables."""
    program = arrange(subject, tiles)
    (walk,) = walks(program, schedule(program, extent, ()), 0)
    return walk


def test_tiles_are_those_of_the_schedule() -> None:
    extent = CallShape(40, 40)
    tiles = list(walk_of(CAUSAL, extent, Tiles(16, 8)).tiles())
    dense = evaluate(CAUSAL.mask, (), extent, {})[0, 0]
    for tile in tiles:
        part = dense[tile.top : tile.bottom, tile.left : tile.right]
        assert part.all() if tile.full else part.any()
        dense[tile.top : tile.bottom, tile.left : tile.right] = False
    assert not dense.any()
    assert {tile.bottom for tile in tiles} == {16, 32, 40}


def test_a_png_shows_pairs_and_tiles(tmp_path: Path) -> None:
    found, _ = sample_mask(CAUSAL, CallShape(32, 32), {}, 0, (64, 64))
    found = replace(found, tiles=tuple(walk_of(CAUSAL, CallShape(32, 32), Tiles(8, 8)).tiles()))
    write(found, tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as opened:
        pixels = opened.convert("RGB")
    side, margin = 16, 8
    assert pixels.getpixel((margin + side // 2, margin + 31 * side + side // 2)) == INK
    assert pixels.getpixel((margin + 31 * side + side // 2, margin + side // 2)) == PAPER
    colours = {colour for _, colour in pixels.getcolors(1 << 20) or []}
    assert {FULL_TILE, PARTIAL_TILE} <= colours


def test_an_svg_holds_the_same_cells() -> None:
    found = picture(["##..", "#.#.", "...."], tiles=(Tile(0, 0, 2, 2, False),))
    root = ElementTree.fromstring(svg(found))
    name = "{http://www.w3.org/2000/svg}rect"
    inked = [rect for rect in root.iter(name) if rect.get("fill") == f"#{INK[0]:02x}{INK[1]:02x}{INK[2]:02x}"]
    side = int(inked[0].get("height", "0"))
    cells = {
        (int(rect.get("y", "")) // side, int(rect.get("x", "")) // side + step)
        for rect in inked
        for step in range(int(rect.get("width", "")) // side)
    }
    assert cells == {(0, 0), (0, 1), (1, 0), (1, 2)}
    assert sum(rect.get("fill") == "none" for rect in root.iter(name)) == 1


def test_a_title_cannot_break_a_drawing() -> None:
    title = "</text><script>"
    root = ElementTree.fromstring(svg(Picture(title, 1, 1, np.ones((1, 1), np.float32))))
    assert root.findtext("{http://www.w3.org/2000/svg}title") == title


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.png, \.svg or \.html, not '\.gif'"):
        write(picture(["#"]), tmp_path / "mask.gif")
    assert image(picture(["#"])).width > 0


LARGE = 4096  # cells: more than any of the pictures below has


def test_cells_take_the_kind_of_the_tile_that_visits_them() -> None:
    found = visits_of_cells([walk_of(CAUSAL, CallShape(16, 16), Tiles(4, 4))], bins(16, 8), bins(16, 8))
    assert (found.full, found.partial) == (6, 4)
    tile = np.arange(8) // 2
    expected = np.select([tile[:, None] > tile, tile[:, None] == tile], [FULL, PARTIAL], EMPTY)
    assert (found.kinds == expected).all()


@pytest.mark.parametrize("name", ["longformer", "boxes"])
def test_every_pair_is_in_the_picture_of_one_walk(name: str) -> None:
    """And in one of its tiles: longformer's band, its columns and its rows, in the orders in which they are walked; the
    keys of boxes as often as they are in one."""
    case = next(case for case in handmade.cases() if case.name == name)
    plan = brute_schedule(case.program, case.extent, case.contents)
    contents = {table.name: held for table, held in zip(case.program.tables, case.contents, strict=True)}
    expected = mask(case.program, case.extent, case.contents)[0, 1]
    kept = np.zeros_like(expected)
    for walk in walks(case.program, plan, 1):
        found = segment_picture(walk, case.program, case.extent, contents, 1, (LARGE, LARGE))
        inside = np.zeros(found.density.shape, bool)
        for tile in found.tiles:
            inside[tile.top : tile.bottom, tile.left : tile.right] = True
        rows, keys = walk.order()
        assert not found.density[~inside].any()
        np.add.at(kept, np.ix_(rows, keys), found.density.astype(np.int64))
        kinds, met = walk.kinds(np.arange(case.extent.m), np.arange(case.extent.n)), np.zeros(kept.shape, np.int64)
        np.add.at(met, np.ix_(rows, keys), inside)
        assert ((kinds > EMPTY) == (met > 0)).all()
        assert met.max() == 1
    assert (kept == expected).all()
