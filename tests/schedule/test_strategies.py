"""The ways of scheduling that are not a plain descent: what they visit, and what they look at for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from attnc.compiler.analysis.classify import Classifier
from attnc.compiler.arrange.search import arrange
from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import Attention, Dimension, Table
from attnc.compiler.ir.expressions import HEAD, LOGIT, TRUE, Const, Entry, Expr, K, Member, Q
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.modules.loader import bind, load_shipped
from attnc.compiler.plan.orders import FULL, Gathered, Order, Sorted, Tiles, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.compiler.plan.schedule import UNBOUNDED, Bounds
from attnc.compiler.schedule import segments, strategies
from attnc.compiler.schedule.run_rows import transpose
from attnc.compiler.schedule.segments import schedule_depends
from attnc.compiler.schedule.statistics import totals
from attnc.compiler.schedule.strategies import SearchLimits
from tests.support.oracles import tile_promises as tiles

D = constructors.sub(Q, K)
CAUSAL = constructors.less_equal(K, Q)
CHOSEN = Table("chosen", "int", (Dimension("free", name="rows"), Dimension("free", name="draws")))
SETS = Table("sets", "set", (Dimension("free", name="rows"),))
TOKENS = Table("g", "set", ())
DOCUMENTS = Table("doc", "int", (Dimension("token"),))
RANK = Table("rank", "order", (Dimension("token"),))
MILLION = 2**20


HOWEVER_FEW = SearchLimits(few_tiles=0)
schedule = partial(segments.schedule, limits=HOWEVER_FEW)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many boxes each look was at."""
    found: list[int] = []
    usual = Classifier.evaluate_boxes

    def evaluate_boxes(self: Classifier, boxes: Any) -> Any:
        found.append(len(boxes))
        return usual(self, boxes)

    monkeypatch.setattr(Classifier, "evaluate_boxes", evaluate_boxes)
    return found


def program(condition: Expr, *tables: Table, rows: Order | None = None, keys: Order | None = None) -> Program:
    segment = Segment(natural(4) if keys is None else keys, condition)
    kernel = Kernel(natural(4) if rows is None else rows, (segment,), "store")
    return Program((kernel,), condition, LOGIT, None, tables)


def wide(condition: Expr, *tables: Table) -> Program:
    return program(condition, *tables, rows=natural(64), keys=natural(64))


def planned(program: Program, extent: CallShape, *contents: HostTable, limits: SearchLimits = HOWEVER_FEW) -> Bounds:
    """The bounds by query, once they have been held against every pair."""
    plan = segments.schedule(program, extent, contents, limits)
    assert tiles.fault(program, plan, extent, contents) is None
    return plan.kernels[0].segments[0].by_query


def visited(bounds: Bounds) -> int:
    return int(bounds.runs.length.sum())


def drawn(block: int, places: int = 3) -> Expr:
    """Blocks of keys that a table lists for each block of rows."""
    rows, column = constructors.floordiv(Q, block), constructors.floordiv(K, block)
    return constructors.disjunction(
        *(constructors.equal(column, Entry("0", (rows, Const(t)), "int")) for t in range(places))
    )


def numbers(*shape: int, below: int, seed: int = 0) -> HostTable:
    return HostTable(np.random.default_rng(seed).integers(0, below, shape, np.int32))


@pytest.mark.parametrize("block", [4, 8, 3, 1])
def test_tiles_that_a_table_lists(block: int) -> None:
    for condition in (drawn(block), constructors.conjunction(drawn(block), CAUSAL)):
        planned(program(condition, CHOSEN), CallShape(60, 60), numbers(60 // block, 3, below=60 // block))
        planned(
            program(condition, CHOSEN), CallShape(60, 21, q_start=(37,)), numbers(60 // block, 3, below=70 // block)
        )


def test_listing_looks_at_what_is_listed_alone(looks: list[int]) -> None:
    held = numbers(MILLION // 64, 3, below=MILLION // 64)
    plan = schedule(wide(drawn(64), CHOSEN), CallShape(MILLION, MILLION), (held,))
    bounds = plan.kernels[0].segments[0].by_query
    distinct = sum(len(set(row)) for row in held.values.tolist())
    assert visited(bounds) == distinct
    assert (bounds.runs.kind == FULL).all()
    assert sum(looks) < 20 * distinct


def test_sets_list_tiles_too(looks: list[int]) -> None:
    condition = Member(constructors.floordiv(K, 4), "0", (constructors.floordiv(Q, 8),))
    bitmap = np.zeros((8, 12), bool)
    bitmap[np.arange(8), np.arange(8) * 5 % 12] = True
    assert visited(planned(program(condition, SETS), CallShape(48, 48), HostTable(bitmap))) == 12
    many = np.zeros((1024, 1024), bool)
    many[np.arange(1024), np.arange(1024) * 7 % 1024] = True
    looks.clear()
    large = constructors.substitute(
        condition,
        {
            constructors.floordiv(K, 4): constructors.floordiv(K, 64),
            constructors.floordiv(Q, 8): constructors.floordiv(Q, 64),
        },
    )
    plan = schedule(wide(large, SETS), CallShape(65_536, 65_536), (HostTable(many),))
    assert visited(plan.kernels[0].segments[0].by_query) == 1024
    assert sum(looks) < 20_000


def test_keys_that_are_functions_of_the_query(looks: list[int]) -> None:
    """Not a table at all: the one key of each row is found by value."""
    condition = constructors.equal(K, constructors.hashed(constructors.mod(Q, 50)))
    near = constructors.equal(K, constructors.mod(constructors.mul(Q, Const(7)), 40))
    planned(program(condition), CallShape(40, 40))
    assert visited(planned(program(near), CallShape(40, 40))) <= 40
    looks.clear()
    schedule(
        wide(constructors.equal(K, constructors.mod(constructors.mul(Q, Const(7)), 65_536))),
        CallShape(65_536, 65_536),
        (),
    )
    assert sum(looks) < 65_536 * 8


def labels(n: int, *cuts: int) -> HostTable:
    return HostTable(np.searchsorted(np.array(cuts), np.arange(n), side="right").astype(np.int32))


SAME = constructors.equal(Entry("0", (Q,), "int"), Entry("0", (K,), "int"))


def test_labels_that_rise_are_searched(looks: list[int]) -> None:
    bounds = planned(program(SAME, DOCUMENTS), CallShape(60, 60), labels(60, 5, 24, 30))
    assert bounds.period == 15
    for condition in (
        SAME,
        constructors.conjunction(CAUSAL, SAME),
        constructors.conjunction(SAME, constructors.less(D, Const(9))),
    ):
        planned(program(condition, DOCUMENTS), CallShape(60, 60), labels(60, 5, 24, 30))
        planned(program(condition, DOCUMENTS), CallShape(61, 22, q_start=(38,)), labels(61, 5, 24, 30, 55))
        planned(program(condition, DOCUMENTS), CallShape(20, 20), HostTable(np.arange(20) * 7 % 5))  # that do not rise
        batch = np.stack([labels(20, 3, 9).values, labels(20, 11).values])
        assert (
            planned(program(condition, DOCUMENTS), CallShape(20, 20), HostTable(batch, batched=True)).batch_slots == 2
        )
    looks.clear()
    cuts = np.sort(np.random.default_rng(0).integers(0, MILLION, 2000))
    schedule(
        wide(constructors.conjunction(CAUSAL, SAME), DOCUMENTS), CallShape(MILLION, MILLION), (labels(MILLION, *cuts),)
    )
    assert sum(looks) < 3 * MILLION // 64


@pytest.mark.parametrize("compare", [constructors.less_equal, constructors.less])
@pytest.mark.parametrize("swapped", [False, True])
def test_comparisons_that_rise_are_searched(compare: Any, swapped: bool) -> None:
    sides = Entry("0", (Q,), "int"), Entry("0", (K,), "int")
    condition = compare(*(sides[::-1] if swapped else sides))
    bounds = planned(program(condition, DOCUMENTS), CallShape(50, 50), labels(50, 8, 9, 24, 30))
    assert visited(bounds) < 13 * 13
    planned(program(condition, DOCUMENTS), CallShape(50, 9, q_start=(30,)), labels(50, 8, 9, 24, 30))


def bits(n: int, *members: int) -> HostTable:
    held = np.zeros(n, bool)
    held[list(members)] = True
    return HostTable(held)


def test_a_union_of_unlike_members() -> None:
    """A band, rows, columns and a table's blocks, each in its own way, under a guard that all share."""
    band = constructors.less_equal(constructors.absolute(D), Const(6))
    mask = constructors.disjunction(band, Member(Q, "1", ()), Member(K, "1", ()), drawn(4))
    held = numbers(15, 3, below=15), bits(60, 3, 40)
    guarded = constructors.conjunction(
        mask, constructors.negation(constructors.equal(constructors.mod(D, 5), Const(0)))
    )
    for condition in (mask, guarded):
        bounds = planned(program(condition, CHOSEN, TOKENS), CallShape(60, 60), *held)
        assert visited(bounds) < 15 * 15
    rows = planned(program(mask, CHOSEN, TOKENS), CallShape(60, 60), *held)
    assert (rows.runs.kind == FULL).any()


def test_tiles_by_key_are_found_when_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forward pass never reads them."""
    calls: list[int] = []

    def counted(*given: Any) -> Any:
        calls.append(1)
        return transpose(*given)

    monkeypatch.setattr(strategies, "transpose", counted)
    listed = constructors.conjunction(Member(K, "0", ()), Member(Q, "0", ()))
    held = schedule(program(listed, TOKENS), CallShape(60, 60), (bits(60, 1, 33),)).kernels[0].segments[0]
    assert held.by_query.runs.start.tolist()
    assert calls == []
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: held.by_key.runs.start.tolist(), range(8)))
    assert found[0]
    assert found == found[:1] * 8
    assert (again := len(calls)) >= 1
    assert replace(held.by_key.runs, kind=held.by_key.runs.kind).pointer.tolist() == held.by_key.runs.pointer.tolist()
    assert len(calls) == again
    with pytest.raises(AttributeError, match="ends"):
        _ = held.by_key.runs.ends  # type: ignore[attr-defined]


def test_rows_alone_and_keys_alone_are_looked_at_once(looks: list[int]) -> None:
    held = (bits(MILLION, 0, 70_000),)
    columns = schedule(wide(Member(K, "0", ()), TOKENS), CallShape(MILLION, MILLION), held).kernels[0].segments[0]
    assert (columns.by_query.period, columns.by_query.runs.start.tolist()) == (1, [0, 1093])
    assert columns.by_key.runs.length.tolist() == [2 * UNBOUNDED - 1] * 2
    rows = schedule(wide(Member(Q, "0", ()), TOKENS), CallShape(MILLION, MILLION), held).kernels[0].segments[0]
    assert (rows.by_key.period, rows.by_key.runs.start.tolist()) == (1, [0, 1093])
    assert sum(looks) < 2000
    small = bits(40, 0, 17)
    planned(program(Member(K, "0", ()), TOKENS), CallShape(40, 40), small)
    planned(program(Member(Q, "0", ()), TOKENS), CallShape(40, 40), small)


def test_what_does_not_depend_on_the_pair_is_all_or_nothing(looks: list[int]) -> None:
    for condition, runs in ((TRUE, 1), (constructors.less(HEAD, Const(1)), 1)):
        bounds = planned(program(condition), CallShape(50, 50, 2))
        assert (bounds.period, bounds.shift, len(bounds.runs.start)) == (1, 0, runs)
    assert sum(looks) < 20


def gathered(position: Expr, tile: int = 4) -> Gathered:
    return Gathered(Member(position, "0", ()), tile)


NEAR = constructors.less_equal(constructors.absolute(D), Const(5))


@pytest.mark.parametrize("members", [(), (0,), (3, 4, 5, 33), tuple(range(0, 60, 2)), tuple(range(60))])
@pytest.mark.parametrize(
    "condition", [TRUE, CAUSAL, NEAR, constructors.negation(NEAR), constructors.equal(constructors.mod(D, 3), Const(0))]
)
def test_gathered_keys_and_rows(members: tuple[int, ...], condition: Expr) -> None:
    for short in (64, 0):
        limits = replace(HOWEVER_FEW, short_list=short)
        for extent in (CallShape(60, 60), CallShape(60, 25, q_start=(30,))):
            held = bits(60, *members)
            planned(program(condition, TOKENS, keys=gathered(K)), extent, held, limits=limits)
            planned(program(condition, TOKENS, rows=gathered(Q)), extent, held, limits=limits)
            planned(program(condition, TOKENS, rows=gathered(Q), keys=gathered(K, 8)), extent, held, limits=limits)


def test_a_few_gathered_keys_are_full_away_from_the_band() -> None:
    """Keys far from one another in one tile: the tile is partial near each of them alone."""
    planned_program = program(constructors.negation(NEAR), TOKENS, keys=gathered(K, 16))
    bounds = planned(planned_program, CallShape(200, 200), bits(200, 2, 100, 180))
    assert (bounds.runs.kind == FULL).sum() >= 50 - 3 * 4


def test_gathering_is_refused_where_it_cannot_be_decided() -> None:
    unknown = HostTable(None, shape=(60,))
    with pytest.raises(ValueError, match="the host cannot decide"):
        schedule(program(CAUSAL, TOKENS, keys=gathered(K)), CallShape(60, 60), (unknown,))
    later = program(CAUSAL, rows=Gathered(constructors.less(Q, Const(4)), 4))
    with pytest.raises(ValueError, match="the host cannot decide"):
        schedule(later, CallShape(60, 60, q_start=None), ())


def sorted_(position: Expr, tile: int = 4) -> Sorted:
    return Sorted(Entry("0", (position,), "int"), tile)


def near_in_rank(size: int) -> Expr:
    apart = constructors.sub(*(constructors.floordiv(Entry("0", (x,), "int"), size) for x in (Q, K)))
    return constructors.less_equal(constructors.absolute(apart), Const(1))


def test_sorted_rows_and_keys_are_planned_by_rank() -> None:
    order = HostTable(np.random.default_rng(0).permutation(60).astype(np.int32))
    condition = near_in_rank(4)
    rows, keys = sorted_(Q), sorted_(K)
    bounds = planned(program(condition, RANK, rows=rows, keys=keys), CallShape(60, 60), order)
    assert (bounds.period, bounds.shift, visited(bounds)) == (1, 1, 3)
    assert (bounds.runs.kind == FULL).all()
    causal = planned(
        program(constructors.conjunction(condition, CAUSAL), RANK, rows=rows, keys=keys), CallShape(60, 60), order
    )
    assert (visited(causal), (causal.runs.kind == FULL).any()) == (3, False)
    planned(program(condition, RANK, keys=keys), CallShape(60, 60), order)
    planned(program(condition, RANK, rows=rows), CallShape(60, 60), order)
    later = planned(program(condition, RANK, rows=rows, keys=keys), CallShape(60, 20, q_start=(25,)), order)
    assert later.period == 5  # its rows have not all ranks


def test_sorting_is_refused_where_the_ranks_are_unknown() -> None:
    unknown = HostTable(None, shape=(60,))
    with pytest.raises(ValueError, match="the host does not know"):
        schedule(program(near_in_rank(4), RANK, rows=sorted_(Q), keys=sorted_(K)), CallShape(60, 60), (unknown,))


def test_ranks_of_each_head_and_entry_share_their_bounds() -> None:
    held = np.stack([[np.random.default_rng(a + 9 * b).permutation(30) for a in range(3)] for b in range(2)])
    table = Table("rank", "order", (Dimension("head"), Dimension("token")))
    rank = [Entry("0", (HEAD, x), "int") for x in (Q, K)]
    condition = constructors.less_equal(constructors.absolute(constructors.sub(*rank)), Const(3))
    both = program(condition, table, rows=Sorted(rank[0], 4), keys=Sorted(rank[1], 2))
    plan = schedule(both, CallShape(30, 30, 3), (HostTable(held, batched=True),))
    bounds = plan.kernels[0].segments[0].by_query
    assert (bounds.batch_slots, bounds.head_slots, bounds.period) == (1, 1, 1)
    rows = plan.kernels[0].rows
    assert rows is not None
    assert (rows.batch_slots, rows.head_slots, rows.tokens.dtype) == (2, 3, np.int32)
    planned(both, CallShape(30, 30, 3), HostTable(held, batched=True))


def test_a_schedule_depends_on_what_lists_its_tokens() -> None:
    assert schedule_depends(program(CAUSAL, TOKENS, keys=gathered(K))) == {0}
    assert schedule_depends(program(CAUSAL, RANK, rows=sorted_(Q))) == {0}
    assert schedule_depends(program(CAUSAL, RANK)) == frozenset()


def test_bigbird_as_published_looks_at_what_is_drawn_alone(looks: list[int]) -> None:
    """Its parts are `if`s of three kinds of conditions, and each head has draws of its own."""
    n, heads = 16_384, 12
    subject = bind(load_shipped("bigbird"), "bigbird", {})
    assert isinstance(subject, Attention)
    drawn = arrange(subject, Tiles(64, 64))
    held = (numbers(heads, n // 64 - 2, 3, below=n // 64),)
    extent = CallShape(n, n, heads)
    found = totals(drawn, schedule(drawn, extent, held), extent)
    assert found.area < 1100
    assert sum(looks) < 20 * heads * 3 * n // 64


def test_many_heads_are_descended_one_by_one() -> None:
    """Blocks drawn for each head: all heads together have more tiles than are looked at at once."""
    blocks = constructors.hashed(HEAD, constructors.floordiv(Q, 4), constructors.floordiv(K, 4))
    condition = constructors.less(constructors.mod(blocks, 10), Const(2))
    exact = planned(program(condition), CallShape(60, 60, 5))
    assert visited(exact) < 0.3 * 5 * 225
    few = planned(program(condition), CallShape(60, 60, 5), limits=replace(HOWEVER_FEW, boxes=300))
    assert visited(few) == visited(exact)
