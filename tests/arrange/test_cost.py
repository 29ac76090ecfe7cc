"""Tiles counted at a stand-in length are those that a schedule visits; what tables may hold stands in for them."""

from __future__ import annotations

from random import Random

import pytest

from attnc.compiler.analysis.normal_form import normalise
from attnc.compiler.arrange.candidates import OrderPair, SearchContext, walks
from attnc.compiler.arrange.cost import (
    GATHER,
    LONGEST,
    LONGEST_OF_ALL,
    MERGE,
    PARTIAL_TILE,
    RUN,
    SHORTEST,
    SMALL_KEYS,
    SMALL_ROWS,
    cost,
    counted,
    stand_in_length,
)
from attnc.compiler.arrange.simplify import simplify_for_orders
from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import Dimension, Table
from attnc.compiler.ir.expressions import LOGIT, Const, Entry, Expr, K, Member, Q, walk
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.plan.orders import Axis, Gathered, Order, Tiles, View, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.compiler.schedule.segments import schedule
from attnc.compiler.schedule.statistics import totals
from tests.support.generators.walked_masks import drawn_case

TILES = Tiles(16, 8, 4)
D = constructors.sub(Q, K)
CAUSAL = constructors.less_equal(K, Q)


def near(reach: int) -> Expr:
    return constructors.less_equal(constructors.absolute(D), Const(reach))


@pytest.mark.parametrize("seed", range(60))
def test_as_many_keys_are_counted_as_a_schedule_visits(seed: int) -> None:
    draw = Random(seed)
    compared = 0
    for part in normalise(drawn_case(seed).mask):
        for term in part:
            if any(isinstance(node, Entry | Member) for node in walk(term.condition)):
                continue
            walked = draw.choice(walks(term, SearchContext(TILES, (), frozenset()), natural_rows=False))
            rows, n = walked.rows, 480  # so few that every row tile is looked at
            condition = simplify_for_orders(term.condition, rows, walked.keys, ())
            segment = Segment(walked.keys, condition)
            program = Program((Kernel(rows, (segment,), "store"),), condition, LOGIT, None, ())
            visited = totals(program, schedule(program, CallShape(n, n), ()), CallShape(n, n))
            lanes = rows.tile * walked.keys.tile / n
            found = counted(segment, rows, n, ())
            assert found.area >= (visited.full + visited.partial) * lanes - 1e-9
            if walked == OrderPair(natural(TILES.query), natural(TILES.key)):
                # A schedule looks into partial tiles once more, which decides little where tiles are intervals.
                assert found.area <= 1.3 * (visited.full + visited.partial) * lanes + 4 * walked.keys.tile
            compared += 1
    assert compared or any(isinstance(node, Entry | Member) for node in walk(drawn_case(seed).mask))


def test_a_band_is_counted_to_the_tile() -> None:
    found = counted(Segment(natural(8), near(32)), natural(16), 480, ())
    # 30 row tiles of 16 by 10 key tiles of 8; at each end those tiles fall away that there are not.
    assert found.area == (30 * 10 - 2 * (4 + 2)) * 8 * 16 / 480
    assert found.runs == pytest.approx(3, abs=0.3)


def test_what_a_set_holds_is_unknown_and_what_is_gathered_is_little() -> None:
    tables = (Table("g", "set", ()),)
    of_key = Member(K, "0", ())
    assert counted(Segment(natural(8), of_key), natural(16), 480, tables).area == 480
    assert counted(Segment(Gathered(of_key, 16), CAUSAL), natural(16), 480, tables).area == 16


def test_drawn_blocks_are_told_from_their_number() -> None:
    tables = (Table("r", "int", (Dimension("free", name="row"),)),)
    column = constructors.equal(constructors.floordiv(K, 8), Entry("0", (constructors.floordiv(Q, 8),), "int"))
    fine, coarse = (counted(Segment(natural(8), column), natural(rows), 480, tables).area for rows in (8, 16))
    assert fine == pytest.approx(8, abs=0.5)  # one block for each row block
    assert coarse == pytest.approx(16, rel=0.15)  # two, where they differ


def test_a_tile_is_whole_where_all_of_its_pieces_are() -> None:
    drawn = constructors.equal(
        constructors.mod(constructors.hashed(constructors.floordiv(Q, 8), constructors.floordiv(K, 8)), 2), Const(0)
    )
    fine, coarse = (counted(Segment(natural(8), drawn), natural(rows), 960, ()) for rows in (8, 16))
    assert (fine.area, fine.partial) == (pytest.approx(480, rel=0.05), 0)  # each block is kept or not
    assert coarse.area == pytest.approx(960 * 3 / 4, rel=0.05)  # one of two blocks is kept, or both
    assert coarse.partial == pytest.approx(960 / 2, rel=0.05)  # one of two


def test_costs_rise_with_partial_tiles_lists_small_tiles_and_merges() -> None:
    def price(*kernels: Kernel) -> float:
        return cost(kernels, 480, TILES, ())

    full = Kernel(natural(16), (Segment(natural(8), constructors.less(K, Const(10**6))),), "store")
    odd = Kernel(natural(16), (Segment(natural(8), constructors.equal(constructors.mod(D, 2), Const(0))),), "store")
    few = Kernel(natural(16), (Segment(Gathered(constructors.less(K, Const(4)), 4), CAUSAL),), "store")
    small = Kernel(natural(8), full.segments, "store")
    assert price(odd) > price(full)
    assert price(small) > price(full)
    assert 0 < price(few) < price(full) / 50
    assert price(full, Kernel(natural(16), few.segments, "merge")) > price(full) + price(few) + 100


def test_a_cost_is_the_sum_of_what_is_walked() -> None:
    """Worked out by hand for 480 tokens: what each part of a cost is a factor or a summand of."""

    def price(rows: Order, keys: Order, condition: Expr, n: int = 480) -> float:
        return cost((Kernel(rows, (Segment(keys, condition),), "store"),), n, TILES, ())

    always, never = constructors.less(K, Const(10**6)), constructors.less(K, Const(0))
    unknown = constructors.equal(constructors.mod(constructors.hashed(Q, K), 2), Const(0))
    one_run = RUN  # a run of whole tiles for each row tile
    assert price(natural(16), natural(8), never) == 0
    assert price(natural(16), natural(8), always) == pytest.approx(480 * (1 + SMALL_KEYS / 8) + one_run)
    partial = price(natural(16), natural(8), unknown)
    assert partial == pytest.approx(480 * PARTIAL_TILE * (1 + SMALL_KEYS / 8) + one_run)
    halves = price(natural(4), natural(8), unknown)  # two halvings of a row tile
    assert halves == pytest.approx(partial * (1 + 2 * SMALL_ROWS))
    even = constructors.equal(constructors.mod(K, 2), Const(0))
    listed = price(natural(16), Gathered(even, 8), unknown)
    assert listed == pytest.approx(240 * PARTIAL_TILE * GATHER * (1 + SMALL_KEYS / 8) + one_run)
    strided = price(natural(16), View((Axis(2, None, 8),)), unknown)
    assert strided < listed, "what strides lead to is had for less than what is listed"
    many = 2**15  # so many row tiles that a sample of them stands for all
    assert price(natural(16), natural(8), unknown, many) == pytest.approx(many / 480 * (partial - RUN) + RUN)


def test_a_later_kernel_pays_for_the_rows_that_it_merges() -> None:
    first = Kernel(natural(16), (), "store")
    for rows, share in (
        (natural(16), 1),
        (View((Axis(4, None, 16),)), 1 / 4),
        (Gathered(constructors.less(Q, Const(48)), 4), 0.1),
    ):
        assert cost((first, Kernel(rows, (), "merge")), 480, TILES, ()) == pytest.approx(MERGE * share, rel=0.1)


@pytest.mark.parametrize(
    ("mask", "n"),
    [
        (near(2), SHORTEST * TILES.key),
        (near(10**5), 2**17),
        (near(2**12), LONGEST * TILES.key),
        (near(10**9), LONGEST_OF_ALL * TILES.key),
        (constructors.equal(constructors.mod(D, 64), Const(0)), 4 * 64 * TILES.query),
    ],
)
def test_the_stand_in_length_follows_the_constants(mask: Expr, n: int) -> None:
    assert stand_in_length(mask, TILES) == n
