"""Windows of a grid that are no power of two lines high or columns wide: tiles of lanes that are not all used."""

from __future__ import annotations

import numpy as np
import pytest

from attnc.compiler.arrange.search import arrange
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.modules.loader import bind, load_text
from attnc.compiler.plan.orders import Axis, Tiles, View
from attnc.compiler.plan.programs import Program
from attnc.compiler.schedule import schedule
from attnc.compiler.schedule.statistics import totals
from tests.support.generators.walked_masks import all_tokens
from tests.support.oracles.tile_promises import fault


def arranged(width: int, high: int, wide: int, tiles: Tiles) -> Program:
    text = f"q // {width} // {high} == k // {width} // {high} and q % {width} // {wide} == k % {width} // {wide}"
    return arrange(bind(load_text(f"pattern p = {text}"), "p", {}), tiles)


def test_a_window_of_seven_is_a_tile() -> None:
    program = arranged(56, 7, 7, Tiles(64, 64))
    (kernel,) = program.kernels
    assert kernel.rows == View((Axis(392), Axis(7, 8), Axis(56, 7, 8), Axis(1, 7, 8)))
    extent = CallShape(3136, 3136)
    counts = totals(program, schedule(program, extent, ()), extent)
    assert counts.area == pytest.approx(64 * 64 / 49)


def test_windows_smaller_than_a_tile_share_one_and_larger_ones_take_some() -> None:
    small = arranged(48, 3, 3, Tiles(128, 64)).kernels[0]
    assert small.rows == View((Axis(144), Axis(3, 16, 8), Axis(48, 3, 4), Axis(1, 3, 4)))
    large = arranged(48, 12, 12, Tiles(128, 64)).kernels[0]
    assert large.rows == View((Axis(576), Axis(12, 4), Axis(48, 12, 8), Axis(1, 12, 16)))
    assert large.segments[0].keys == View((Axis(576), Axis(12, 4), Axis(48, 12, 4), Axis(1, 12, 16)))


@pytest.mark.parametrize("tiles", [Tiles(64, 64), Tiles(16, 8), Tiles(8, 16)], ids=str)
@pytest.mark.parametrize(("width", "high", "wide"), [(56, 7, 7), (24, 3, 8), (30, 5, 6), (12, 12, 3), (36, 2, 12)])
def test_every_pair_is_kept_once(width: int, high: int, wide: int, tiles: Tiles) -> None:
    program = arranged(width, high, wide, tiles)
    rows = program.kernels[0].rows
    assert isinstance(rows, View)
    assert len(rows.axes) == 4, "the case is about windows"
    for n in (1, width - 1, width * high, width * high * 2 + 5):
        extent = CallShape(n, n)
        assert fault(program, schedule(program, extent, ()), extent, ()) is None
        assert (np.sort(all_tokens(rows, n)) == np.arange(n)).all()
