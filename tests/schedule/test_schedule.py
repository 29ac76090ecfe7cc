"""Schedules against the dense mask: no empty tile holds a pair, no full tile lacks one, both directions agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from attnc.compiler.arrange.search import arrange
from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import Attention, Dimension, Table
from attnc.compiler.ir.expressions import FALSE, HEAD, LOGIT, TRUE, Const, Entry, Expr, K, Member, N, Q
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.modules.loader import bind, load_shipped
from attnc.compiler.plan.orders import EMPTY, FULL, TileCount, Tiles, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.compiler.plan.schedule import Bounds
from attnc.compiler.schedule.segments import schedule, schedule_depends
from attnc.compiler.schedule.statistics import Totals, totals
from attnc.compiler.schedule.strategies import SearchLimits
from attnc.compiler.schedule.tile_visits import Slot, visits
from tests.support.generators.random_expressions import Generator, dense
from tests.support.oracles import tile_promises as tiles

TILES = ((4, 4), (8, 4), (4, 16), (1, 1), (5, 3), (16, 16), (64, 64))

D = constructors.sub(Q, K)
CAUSAL = constructors.less_equal(K, Q)
TOKENS = Table("g", "set", ())
DOCUMENTS = Table("doc", "int", (Dimension("token"),))
LENGTH = Table("length", "int", ())
SAME_DOCUMENT = constructors.equal(Entry("0", (Q,), "int"), Entry("0", (K,), "int"))


def program(mask: Expr, *tables: Table, tile: int = 64, score: Expr = LOGIT) -> Program:
    segment = Segment(natural(tile), mask)
    return Program((Kernel(natural(tile), (segment,), "store"),), mask, score, None, tables)


def window(size: int) -> Expr:
    return constructors.less_equal(constructors.absolute(D), Const(size // 2))


def causal_window(size: int) -> Expr:
    return constructors.conjunction(constructors.less_equal(Const(0), D), constructors.less(D, Const(size)))


def blocks(size: int) -> Expr:
    return constructors.equal(constructors.floordiv(Q, size), constructors.floordiv(K, size))


def bitmap(n: int, *members: int) -> HostTable:
    flags = np.zeros(n, bool)
    flags[list(members)] = True
    return HostTable(flags)


def documents(n: int, count: int, seed: int = 0) -> HostTable:
    cuts = np.sort(np.random.default_rng(seed).choice(np.arange(1, n), count - 1, replace=False))
    return HostTable(np.searchsorted(cuts, np.arange(n), side="right").astype(np.int32))


def check(
    program: Program,
    extent: CallShape,
    contents: tuple[HostTable, ...] = (),
    limits: SearchLimits = SearchLimits(),  # noqa: B008 - frozen
) -> Totals:
    plan = schedule(program, extent, contents, limits)
    assert tiles.fault(program, plan, extent, contents) is None
    return totals(program, plan, extent)


HOWEVER_FEW = pytest.mark.parametrize(
    "limits", [SearchLimits(few_tiles=0), SearchLimits()], ids=["all strategies", "few tiles subdivided"]
)
"""Every strategy is used even where there are so few tiles that subdivision is cheaper, or not."""


@HOWEVER_FEW
@pytest.mark.parametrize("block", range(10))
def test_random_masks_are_planned_soundly(block: int, limits: SearchLimits) -> None:
    for seed in range(block * 100, block * 100 + 100):
        case = Generator(seed).case()
        planned = case.program(*TILES[seed % len(TILES)])
        plan = schedule(planned, case.extent, case.contents, limits)
        fault = tiles.fault(planned, plan, case.extent, case.contents)
        assert fault is None, f"seed {seed}: {fault}: {case.mask}"
        bounds = plan.kernels[0].segments[0].by_query
        assert bounds.batch_slots in (1, case.dense().shape[0])
        assert bounds.head_slots in (1, case.extent.heads)


PATTERNS: dict[str, tuple[Expr, tuple[Table, ...], tuple[HostTable, ...]]] = {
    "full": (TRUE, (), ()),
    "none": (FALSE, (), ()),
    "causal": (CAUSAL, (), ()),
    "window": (window(24), (), ()),
    "dilated window": (
        constructors.conjunction(window(60), constructors.equal(constructors.mod(D, 3), Const(0))),
        (),
        (),
    ),
    "causal window": (causal_window(20), (), ()),
    "longformer": (
        constructors.disjunction(window(24), Member(Q, "0", ()), Member(K, "0", ())),
        (TOKENS,),
        (bitmap(130, 0, 77),),
    ),
    "blocks": (blocks(16), (), ()),
    "chunked": (constructors.conjunction(CAUSAL, blocks(16)), (), ()),
    "strided": (
        constructors.conjunction(
            CAUSAL,
            constructors.disjunction(
                constructors.less(D, Const(12)), constructors.equal(constructors.mod(D, 12), Const(0))
            ),
        ),
        (),
        (),
    ),
    "fixed": (
        constructors.conjunction(
            CAUSAL, constructors.disjunction(blocks(32), constructors.less_equal(Const(28), constructors.mod(K, 32)))
        ),
        (),
        (),
    ),
    "documents": (constructors.conjunction(CAUSAL, SAME_DOCUMENT), (DOCUMENTS,), (documents(130, 7),)),
    "grid": (
        constructors.conjunction(
            constructors.less_equal(
                constructors.absolute(constructors.sub(constructors.floordiv(Q, 13), constructors.floordiv(K, 13))),
                Const(2),
            ),
            constructors.less_equal(
                constructors.absolute(constructors.sub(constructors.mod(Q, 13), constructors.mod(K, 13))), Const(2)
            ),
        ),
        (),
        (),
    ),
    "bigbird as a count": (
        constructors.plus(
            window(24),
            constructors.less(
                constructors.mod(constructors.hashed(constructors.floordiv(Q, 8), constructors.floordiv(K, 8)), 100),
                Const(20),
            ),
        ),
        (),
        (),
    ),
}


@HOWEVER_FEW
@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize(
    "extent", [CallShape(128, 128), CallShape(130, 130), CallShape(130, 31, q_start=(99,)), CallShape(130, 1)]
)
def test_published_patterns_are_planned_soundly(name: str, extent: CallShape, limits: SearchLimits) -> None:
    mask, tables, contents = PATTERNS[name]
    for tile in (1, 8, 16, 64):
        check(program(mask, *tables, tile=tile), extent, contents, limits)


def planned_totals(program: Program, extent: CallShape, contents: tuple[HostTable, ...] = ()) -> Totals:
    """Of a launch too large to be looked at pair by pair."""
    return totals(program, schedule(program, extent, contents), extent)


def row_kinds(bounds: Bounds, tile: int, own: TileCount, other: TileCount) -> np.ndarray[Any, Any]:
    """The kind of every tile that one tile may visit, in the first slot."""
    found = np.full(other.total, EMPTY, np.uint8)
    for first, last, kind in visits(bounds, Slot(0, 0), tile, own, other):
        found[first:last] = kind
    return found


LARGE = 65_536
AFFINE: dict[str, tuple[Expr, tuple[Table, ...], tuple[HostTable, ...]]] = {
    "full": (TRUE, (), ()),
    "causal": (CAUSAL, (), ()),
    "window": (window(512), (), ()),
    "causal window": (causal_window(4096), (), ()),
    "band": (
        constructors.conjunction(constructors.less_equal(Const(-100), D), constructors.less_equal(D, Const(5000))),
        (),
        (),
    ),
    "longformer": (
        constructors.disjunction(window(512), Member(Q, "0", ()), Member(K, "0", ())),
        (TOKENS,),
        (bitmap(LARGE, 0, 1, 40_000),),
    ),
    "first": (
        constructors.conjunction(
            CAUSAL, constructors.disjunction(constructors.less(D, Const(1024)), constructors.less(K, Const(4)))
        ),
        (),
        (),
    ),
    "prefix": (
        constructors.disjunction(CAUSAL, constructors.less(K, Entry("0", (), "int"))),
        (LENGTH,),
        (HostTable(np.array(7777)),),
    ),
    "blocks": (blocks(512), (), ()),
    "odd blocks": (blocks(1000), (), ()),
    "chunked": (constructors.conjunction(CAUSAL, blocks(8192)), (), ()),
    "block band": (
        constructors.conjunction(
            constructors.less_equal(
                Const(-2), constructors.sub(constructors.floordiv(Q, 128), constructors.floordiv(K, 128))
            ),
            constructors.less_equal(
                constructors.sub(constructors.floordiv(Q, 128), constructors.floordiv(K, 128)), Const(3)
            ),
        ),
        (),
        (),
    ),
    "documents": (SAME_DOCUMENT, (DOCUMENTS,), (documents(LARGE, 24),)),
    "causal documents": (constructors.conjunction(CAUSAL, SAME_DOCUMENT), (DOCUMENTS,), (documents(LARGE, 24, 1),)),
    "padded": (constructors.less(K, Entry("0", (), "int")), (LENGTH,), (HostTable(np.array(60_001)),)),
}


@pytest.mark.parametrize("name", AFFINE)
def test_affine_patterns_evaluate_at_most_one_pair_in_a_hundred(name: str) -> None:
    mask, tables, contents = AFFINE[name]
    assert (
        planned_totals(program(mask, *tables), CallShape(LARGE, LARGE), contents).partial * 64 * 64
        <= LARGE * LARGE // 100
    )


PRELUDE: dict[str, tuple[dict[str, int], tuple[HostTable, ...]]] = {
    "full": ({}, ()),
    "causal": ({}, ()),
    "window": ({"size": 512}, ()),
    "causal_window": ({"size": 4096}, ()),
    "band": ({"left": 1000, "right": 200}, ()),
    "sees_all": ({}, (bitmap(LARGE, 0, 1, 40_000),)),
    "seen_by_all": ({}, (bitmap(LARGE, 0, 1, 40_000),)),
    "global_tokens": ({}, (bitmap(LARGE, 0, 1, 40_000),)),
    "first": ({"count": 4}, ()),
    "prefix": ({}, (HostTable(np.array(1234)),)),
    "blocks": ({"size": 500}, ()),
    "block_band": ({"size": 128, "left": 3, "right": 0}, ()),
    "chunked": ({"size": 8192}, ()),
    "documents": ({}, (documents(LARGE, 24),)),
    "padded": ({}, (HostTable(np.array(60_001)),)),
    "random_blocks": ({"size": 64, "percent": 2}, ()),
}


@pytest.mark.parametrize("name", PRELUDE)
def test_the_prelude_evaluates_at_most_one_pair_in_a_hundred(name: str) -> None:
    constants, contents = PRELUDE[name]
    subject = bind(load_shipped("std"), name, constants)
    assert isinstance(subject, Attention)
    found = planned_totals(arrange(subject, Tiles(64, 64)), CallShape(LARGE, LARGE), contents)
    assert found.partial * 64 * 64 <= LARGE * LARGE // 100


@pytest.mark.parametrize(
    ("name", "full", "partial"),
    [
        ("full", 1024 * 1024, 0),
        ("causal", 1024 * 1023 // 2, 1024),
        ("window", 1024 * 7 - 3 * 4, 2 * (1024 - 4)),
        ("blocks", 1024 * 8, 0),
        ("block band", (512 * 6 - 3 - (1 + 2 + 3)) * 4, 0),
        ("padded", 1024 * 937, 1024),
    ],
)
def test_affine_patterns_are_planned_exactly(name: str, full: int, partial: int) -> None:
    """Tiles are partial only where the pattern's boundary passes through them."""
    mask, tables, contents = AFFINE[name]
    assert planned_totals(program(mask, *tables), CallShape(LARGE, LARGE), contents)[:2] == (full, partial)


def test_large_plans_are_sound_at_sampled_pairs() -> None:
    """Where the dense mask would be too large, tiles drawn at random are compared pair by pair."""
    draw = np.random.default_rng(0)
    for mask, tables, contents in AFFINE.values():
        bounds = schedule(program(mask, *tables), CallShape(LARGE, LARGE), contents).kernels[0].segments[0].by_query
        count = natural(64).tiles(LARGE)
        for row in draw.integers(0, count.total, 6):
            kinds = row_kinds(bounds, int(row), count, count)
            rows = dense(mask, tables, contents, CallShape(LARGE, 64, q_start=(int(row) * 64,)))[0, 0]
            by_tile = rows.reshape(64, count.total, 64)
            assert not by_tile.any((0, 2))[kinds == EMPTY].any()
            assert by_tile.all((0, 2))[kinds == FULL].all()


def test_a_full_tile_may_hang_over_the_end() -> None:
    assert check(program(TRUE, tile=16), CallShape(40, 24))[:2] == (6, 0)
    beyond = constructors.less_equal(Const(40), K)  # true only past the last key
    assert check(program(beyond, tile=16), CallShape(40, 24))[:2] == (0, 0)


def test_nothing_to_plan() -> None:
    for extent in (CallShape(0, 5), CallShape(5, 0), CallShape(0, 0), CallShape(5, 5, heads=0)):
        for mask in (
            constructors.less(HEAD, K),
            CAUSAL,
            TRUE,
            constructors.conjunction(CAUSAL, constructors.less(HEAD, K)),
        ):
            assert planned_totals(program(mask), extent)[:2] == (0, 0) or extent.n * extent.m
    nobody = HostTable(np.zeros((0, 8), np.int32), batched=True)
    plan = schedule(program(SAME_DOCUMENT, DOCUMENTS), CallShape(8, 8), (nobody,))
    assert plan.kernels[0].segments[0].by_query.batch_slots == 1


def test_slots_stand_only_where_plans_differ() -> None:
    labels = np.arange(24).reshape(3, 8) // 4
    extent = CallShape(8, 8, heads=2)

    def slots(mask: Expr, contents: tuple[HostTable, ...] = (), extent: CallShape = extent) -> tuple[int, int]:
        tables = (DOCUMENTS,) if contents else ()
        planned = program(mask, *tables, tile=2)
        check(planned, extent, contents)
        bounds = schedule(planned, extent, contents).kernels[0].segments[0].by_query
        return bounds.batch_slots, bounds.head_slots

    assert slots(CAUSAL) == (1, 1)
    assert slots(constructors.less(K, HEAD)) == (1, 2)
    assert slots(SAME_DOCUMENT, (HostTable(labels, batched=True),)) == (3, 1)
    assert slots(SAME_DOCUMENT, (HostTable(labels[:1], batched=True),)) == (1, 1)
    assert slots(
        constructors.conjunction(SAME_DOCUMENT, constructors.less(HEAD, K)), (HostTable(labels, batched=True),)
    ) == (3, 2)
    assert slots(CAUSAL, (HostTable(labels, batched=True),)) == (1, 1)  # the mask does not read it
    assert slots(CAUSAL, extent=CallShape(8, 4, q_start=(0, 2, 4))) == (3, 1)
    assert slots(CAUSAL, extent=CallShape(8, 4, q_start=(2, 2, 2))) == (1, 1)
    assert slots(constructors.less(K, N), extent=CallShape(8, 4, q_start=(0, 2, 4))) == (1, 1)


def test_what_only_the_device_knows_is_partial() -> None:
    unknown = (HostTable(None, batched=True, shape=(3, 64)),)
    documents = program(constructors.conjunction(CAUSAL, SAME_DOCUMENT), DOCUMENTS, tile=16)
    assert schedule(documents, CallShape(64, 64), unknown).kernels[0].segments[0].by_query.batch_slots == 1
    assert planned_totals(documents, CallShape(64, 64), unknown)[:2] == (0, 10)
    later = CallShape(64, 16, q_start=None)
    assert planned_totals(program(CAUSAL, tile=16), later)[:2] == (0, 4)
    assert planned_totals(program(constructors.less(K, Const(32)), tile=16), later)[:2] == (2, 0)


def test_a_finer_look_finds_tiles_that_are_empty_or_full() -> None:
    """Rows of a grid that is no multiple of the tile: whole tiles straddle two of them, quarters seldom do."""
    mask, _, _ = PATTERNS["grid"]
    wide = constructors.substitute(mask, {Const(13): Const(200)})
    extent = CallShape(2400, 2400)
    holds = dense(wide, (), (), extent)[0, 0]
    padded = np.zeros((2432, 2432), bool)
    padded[:2400, :2400] = holds
    needed = int(padded.reshape(38, 64, 38, 64).any((1, 3)).sum())
    assert check(program(wide), extent).partial <= 1.25 * needed


def test_a_finer_look_calls_a_tile_full_by_its_parts() -> None:
    low = constructors.less(constructors.mod(K, 16), Const(8))
    high = constructors.less_equal(Const(8), constructors.mod(constructors.add(K, Const(8)), 16))
    assert check(program(constructors.iff(low, high), tile=32), CallShape(72, 72))[:2] == (9, 0)


def test_past_the_cap_whole_boxes_are_partial() -> None:
    odd = constructors.equal(constructors.mod(constructors.hashed(Q, K), 4), Const(0))  # no other way than to descend
    mask = constructors.conjunction(CAUSAL, odd)
    extent = CallShape(256, 256)
    exact = check(program(mask, tile=2), extent)
    coarse = check(program(mask, tile=2), extent, limits=SearchLimits(boxes=700))
    assert exact.partial < coarse.partial < 128 * 128


def test_which_tables_decide_a_schedule() -> None:
    bias = Entry("1", (constructors.sub(Q, K),), "float")
    table = Table("bias", "float", (Dimension("free", name="a"),))
    reading = program(constructors.conjunction(SAME_DOCUMENT, Member(K, "2", ())), DOCUMENTS, table, TOKENS, score=bias)
    assert schedule_depends(reading) == {0, 2}
    assert schedule_depends(program(CAUSAL)) == frozenset()
