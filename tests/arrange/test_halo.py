"""Halos: no pair lies outside of what is said to hold all, at any length; and what boxes are made of them."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from attnc.compiler.arrange.cost import counted
from attnc.compiler.arrange.halo import halo
from attnc.compiler.arrange.search import arrange
from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import Attention
from attnc.compiler.ir.expressions import LOGIT, Const, Expr, K, N, Q
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.modules.loader import bind, load_text
from attnc.compiler.plan.orders import Axis, Box, Tiles, View
from attnc.compiler.plan.programs import Program, row_alignment
from attnc.compiler.schedule.segments import schedule
from attnc.compiler.schedule.statistics import totals
from tests.support.generators.random_expressions import dense
from tests.support.oracles.tile_promises import fault

WIDTH = 12
GRID = View((Axis(WIDTH, None, 2), Axis(1, WIDTH, 4)))
LINE = constructors.sub(constructors.floordiv(K, WIDTH), constructors.floordiv(Q, WIDTH))
COLUMN = constructors.sub(constructors.mod(K, WIDTH), constructors.mod(Q, WIDTH))


def between(low: int, x: Expr, high: int) -> Expr:
    return constructors.conjunction(constructors.less_equal(Const(low), x), constructors.less_equal(x, Const(high)))


def attention(mask: Expr) -> Attention:
    return Attention("p", (), mask, LOGIT, Const(1.0), None)


@pytest.mark.parametrize("seed", range(40))
def test_no_pair_lies_outside(seed: int) -> None:
    draw = Random(seed)
    low = [draw.randint(-4, 1) for _ in range(3)]
    conjuncts = [
        between(first, x, first + draw.randint(0, 4))
        for first, x in zip(low, (LINE, COLUMN, constructors.sub(K, Q)), strict=True)
    ]
    draw.shuffle(conjuncts)
    conjuncts = conjuncts[: draw.randint(1, 3)]
    if draw.random() < 0.3:
        conjuncts.append(
            constructors.disjunction(
                constructors.equal(COLUMN, Const(0)), constructors.equal(LINE, Const(draw.randint(-2, 2)))
            )
        )
    found = halo(conjuncts, GRID)
    assert found is None or all(before >= 0 and after >= 0 for before, after in zip(*found, strict=True))
    if found is None:
        return
    n = 10 * WIDTH + 5
    query, key = np.nonzero(dense(constructors.conjunction(*conjuncts), (), (), CallShape(n, n))[0, 0])
    for place, (a, b) in enumerate(((key // WIDTH, query // WIDTH), (key % WIDTH, query % WIDTH))):
        difference = a - b
        if len(difference):
            assert -found.before[place] <= difference.min()
            assert difference.max() <= found.after[place]


@pytest.mark.parametrize(
    ("conjuncts", "expected"),
    [
        ([between(-3, LINE, 1), between(-2, COLUMN, 2)], ((3, 2), (1, 2))),
        ([between(-3, LINE, 1)], ((3, 11), (1, 11))),  # all columns of some lines
        ([between(1, LINE, 2), between(1, COLUMN, 2)], ((0, 0), (2, 2))),
        ([between(-2, COLUMN, 2)], None),  # any line
        ([constructors.less_equal(K, N)], None),
        (
            [between(-1, LINE, 1), constructors.less(K, Const(40))],
            ((1, 11), (1, 11)),
        ),  # no end that depends on the line
    ],
)
def test_halos(conjuncts: list[Expr], expected: tuple[tuple[int, ...], tuple[int, ...]] | None) -> None:
    assert halo(conjuncts, GRID) == expected


@pytest.mark.parametrize("start", [0, 48])
@pytest.mark.parametrize("text", ["grid_window(24, 2, 3)", "grid_window(24, 1, 1) and k <= q", "grid_window(24, 3, 0)"])
def test_boxes_hold_every_pair_once(text: str, start: int) -> None:
    program = arrange(bind(load_text(f"pattern p = {text}"), "p", {}), Tiles(8, 16))
    assert isinstance(program.kernels[0].segments[0].keys, Box)
    assert row_alignment(program) == 48
    for n in (1, 24, 100, 24 * 9 + 7):
        extent = CallShape(n, max(n - start, 0), 1, (start,))
        assert fault(program, schedule(program, extent, ()), extent, ()) is None


def test_a_grid_too_wide_to_look_at_has_no_box() -> None:
    wide = View((Axis(10**7, None, 8), Axis(1, 10**7, 8)))
    near = [
        between(-1, constructors.sub(x, y), 1)
        for x, y in ((K, Q), (constructors.mod(K, 10**7), constructors.mod(Q, 10**7)))
    ]
    assert halo(near, wide) is None


def test_a_box_costs_what_its_tiles_do() -> None:
    program = arrange(bind(load_text("pattern p = grid_window(64, 3, 3)"), "p", {}), Tiles(64, 64))
    segment = program.kernels[0].segments[0]
    assert isinstance(segment.keys, Box)
    assert (segment.keys.extents, segment.keys.parts) == ((14, 14), 4)
    extent = CallShape(4096, 4096)
    assert totals(program, schedule(program, extent, ()), extent).area == 256
    assert counted(segment, program.kernels[0].rows, 4096, ()).area == 256


PLANES = "abs(q // 256 - k // 256) <= 1 and abs(q // 16 % 16 - k // 16 % 16) <= 1 and abs(q % 16 - k % 16) <= 1"
IMAGES = "q // 1024 == k // 1024 and abs(q // 32 % 32 - k // 32 % 32) <= 3 and abs(q % 32 - k % 32) <= 3"

DILATED = (
    "abs(q // 64 - k // 64) <= 12 and abs(q % 64 - k % 64) <= 12"
    " and (q // 64 - k // 64) % 4 == 0 and (q % 64 - k % 64) % 4 == 0"
)
WIDE_IMAGES = "q // 4096 == k // 4096 and abs(q // 64 % 64 - k // 64 % 64) <= 2 and abs(q % 64 - k % 64) <= 2"


@pytest.mark.parametrize(
    ("text", "extents", "area"),
    [
        (PLANES, (6, 6, 6), 256),
        (IMAGES, (1, 14, 14), 256),
        (WIDE_IMAGES, (1, 12, 12), 192),
        (DILATED, (1, 1, 14, 14), 256),
    ],
)
def test_grids_of_planes(text: str, extents: tuple[int, ...], area: int) -> None:
    program = arrange(bind(load_text(f"pattern p = {text}"), "p", {}), Tiles(64, 64))
    keys = program.kernels[0].segments[0].keys
    assert isinstance(keys, Box)
    assert keys.extents == extents
    extent = CallShape(8192, 8192)
    assert totals(program, schedule(program, extent, ()), extent).area == area
    small = CallShape(1100, 1100)
    assert fault(program, schedule(program, small, ()), small, ()) is None


def test_tiles_that_fill_their_window_need_no_box() -> None:
    program = arrange(bind(load_text("pattern p = grid_window(256, 32, 32)"), "p", {}), Tiles(64, 64))
    assert isinstance(program.kernels[0].segments[0].keys, View)


def test_where_the_rows_begin_is_not_known_there_is_no_box() -> None:
    program = arrange(bind(load_text("pattern p = grid_window(64, 3, 3)"), "p", {}), Tiles(64, 64), natural_rows=True)
    assert not any(isinstance(segment.keys, Box) for kernel in program.kernels for segment in kernel.segments)


def test_a_start_within_a_tile_is_refused() -> None:
    program: Program = arrange(bind(load_text("pattern p = grid_window(24, 2, 3)"), "p", {}), Tiles(8, 16))
    with pytest.raises(ValueError, match=r"^q_start: is \(24,\), expected multiples of 48$"):
        schedule(program, CallShape(100, 40, 1, (24,)), ())
