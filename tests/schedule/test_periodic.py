"""Templates: conditions that move on, their bounds for every length, and what is remembered of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import attnc
from attnc.compiler.analysis.classify import Classifier
from attnc.compiler.analysis.shift import shift_divisor
from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import Dimension, Table
from attnc.compiler.ir.expressions import HEAD, LOGIT, Const, Entry, Expr, K, Member, N, Q
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.plan.orders import Axis, View, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.compiler.plan.schedule import UNBOUNDED, Bounds
from attnc.compiler.schedule.periodic import forget
from attnc.compiler.schedule.segments import schedule
from tests.support.generators.random_expressions import Generator, dense
from tests.support.oracles import tile_promises as tiles

D = constructors.sub(Q, K)
CAUSAL = constructors.less_equal(K, Q)


def divides(x: Expr, by: int, remainder: int = 0) -> Expr:
    return constructors.equal(constructors.mod(x, by), Const(remainder))


def within(reach: int) -> Expr:
    return constructors.less_equal(constructors.absolute(D), Const(reach))


def block(x: Expr, size: int) -> Expr:
    return constructors.floordiv(x, size)


def residues(modulus: int, tile: int) -> View:
    return View((Axis(1, modulus), Axis(modulus, None, tile)))


def every(modulus: int, tile: int, offset: int = 0) -> View:
    return View((Axis(modulus, None, tile),), offset)


def grid(width: int, rows: int, columns: int) -> View:
    return View((Axis(width, None, rows), Axis(1, width, columns)))


def program(condition: Expr, rows: View, keys: View, *tables: Table) -> Program:
    return Program((Kernel(rows, (Segment(keys, condition),), "store"),), condition, LOGIT, None, tables)


NEIGHBOURS = constructors.conjunction(
    constructors.less_equal(constructors.absolute(constructors.sub(block(Q, 6), block(K, 6))), Const(1)),
    constructors.less_equal(
        constructors.absolute(constructors.sub(constructors.mod(Q, 6), constructors.mod(K, 6))), Const(2)
    ),
)
BLOCKS = View((Axis(4, 3), Axis(12), Axis(1, 4, 4)))
LENGTH = Table("length", "int", ())

CASES: dict[str, tuple[Expr, View, View]] = {
    "causal": (CAUSAL, natural(4), natural(8)),
    "window": (within(9), natural(3), natural(5)),
    "behind": (constructors.less(Const(7), D), natural(8), natural(4)),
    "dilated": (constructors.conjunction(within(12), divides(D, 3)), residues(3, 2), residues(3, 4)),
    "strided": (constructors.conjunction(CAUSAL, divides(D, 5)), residues(5, 4), residues(5, 2)),
    "every third block": (
        constructors.conjunction(CAUSAL, divides(constructors.sub(block(Q, 4), block(K, 4)), 3)),
        BLOCKS,
        BLOCKS,
    ),
    "chunks": (
        constructors.conjunction(CAUSAL, constructors.equal(block(Q, 10), block(K, 10))),
        natural(4),
        natural(4),
    ),
    "two residues": (
        constructors.conjunction(divides(D, 6), within(40)),
        View((Axis(1, 2), Axis(2, 3), Axis(6, None, 2))),
        View((Axis(1, 2), Axis(2, 3), Axis(6, None, 3))),
    ),
    "summaries": (
        constructors.conjunction(
            constructors.less(block(K, 8), block(Q, 8)), constructors.less_equal(Const(6), constructors.mod(K, 8))
        ),
        natural(4),
        View((Axis(8, None, 3), Axis(1, 2, 2)), 6),
    ),
    "sublattice": (
        constructors.conjunction(divides(Q, 4, 1), divides(K, 4, 1), constructors.equal(block(Q, 32), block(K, 32))),
        every(4, 2, 1),
        every(4, 4, 1),
    ),
    "neighbours": (NEIGHBOURS, grid(6, 2, 4), grid(6, 2, 2)),
    "in the order of others": (within(7), residues(3, 2), natural(4)),
    "unlike tiles of residues": (divides(D, 4, 2), residues(4, 2), residues(4, 4)),
    "far and sparse": (constructors.conjunction(CAUSAL, divides(D, 12)), natural(4), natural(4)),
    "rows in turn": (
        constructors.conjunction(constructors.less(constructors.mod(Q, 8), Const(4)), CAUSAL),
        natural(4),
        natural(4),
    ),
}


# A shift by one class is no shift that changes nothing: these have no template.
UNLIKE: dict[str, tuple[Expr, View, View]] = {
    "classes unlike": (
        constructors.conjunction(divides(D, 4), divides(Q, 4, 2), within(30)),
        residues(4, 2),
        residues(4, 4),
    ),
    "two of four classes": (
        constructors.conjunction(divides(D, 4), constructors.less(constructors.mod(K, 4), Const(2))),
        residues(4, 2),
        residues(4, 2),
    ),
}


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.mark.parametrize("name", [*CASES, *UNLIKE])
def test_one_template_serves_every_length_and_start(name: str) -> None:
    """Each length and start in turn, short and long ones mixed, with all that has been remembered so far."""
    condition, rows, keys = {**CASES, **UNLIKE}[name]
    planned = program(condition, rows, keys)
    draw = np.random.default_rng(1)
    for n in (50, 1, 97, 64, 3, 130):
        for m, start in ((n, 0), (max(n // 2, 1), n - max(n // 2, 1)), (5, int(draw.integers(0, 100)))):
            extent = CallShape(n, m, q_start=(start,))
            fault = tiles.fault(planned, schedule(planned, extent, ()), extent, ())
            assert fault is None, f"n = {n}, m = {m}, q_start = {start}: {fault}"


@pytest.mark.parametrize("name", CASES)
def test_entries_of_the_batch_start_where_they_like(name: str) -> None:
    condition, rows, keys = CASES[name]
    planned = program(condition, rows, keys)
    for starts in ((0, 24, 48), (5, 5, 5), (7, 0, 31)):
        extent = CallShape(70, 20, q_start=starts)
        assert tiles.fault(planned, schedule(planned, extent, ()), extent, ()) is None


def first_bounds(planned: Program, extent: CallShape, contents: tuple[HostTable, ...] = ()) -> Bounds:
    return schedule(planned, extent, contents).kernels[0].segments[0].by_query


@pytest.mark.parametrize(
    "name", ["dilated", "strided", "every third block", "two residues", "unlike tiles of residues"]
)
def test_classes_that_never_meet_are_aligned(name: str) -> None:
    condition, rows, keys = CASES[name]
    meets = name == "unlike tiles of residues"
    assert first_bounds(program(condition, rows, keys), CallShape(99, 99)).aligned != meets


def test_classes_are_aligned_where_the_rows_begin_with_the_first() -> None:
    planned = program(*CASES["dilated"])
    assert first_bounds(planned, CallShape(60, 30, q_start=(30,))).aligned
    assert not first_bounds(planned, CallShape(60, 30, q_start=(31,))).aligned


def test_closed_forms_have_one_row() -> None:
    bounds = first_bounds(program(CAUSAL, natural(64), natural(64)), CallShape(1000, 1000))
    runs = bounds.runs
    assert (bounds.period, bounds.shift, runs.start.tolist()) == (1, 1, [-UNBOUNDED, 0])
    assert (runs.length.tolist(), runs.kind.tolist()) == ([UNBOUNDED, 1], [2, 1])


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


AFFINE = [name for name in CASES if name not in ("in the order of others", "unlike tiles of residues")]


@pytest.mark.parametrize("name", AFFINE)
def test_another_length_is_not_looked_at(name: str, looks: list[int]) -> None:
    planned = program(*CASES[name])
    schedule(planned, CallShape(8192, 8192), ())
    assert looks
    looks.clear()
    for extent in (CallShape(8190, 8190), CallShape(5000, 5000), CallShape(6000, 100, q_start=(5760,))):
        first = schedule(planned, extent, ())
        assert schedule(planned, extent, ()).kernels[0].segments[0].by_query is first.kernels[0].segments[0].by_query
    assert not looks


@pytest.mark.parametrize("name", [name for name in AFFINE if name not in ("far and sparse", "rows in turn")])
def test_a_greater_length_is_not_looked_at(name: str, looks: list[int]) -> None:
    planned = program(*CASES[name])
    schedule(planned, CallShape(64, 64), ())
    looks.clear()
    schedule(planned, CallShape(2**20, 2**20), ())
    assert not looks


def test_small_tables_are_remembered_by_what_they_hold(looks: list[int]) -> None:
    planned = program(
        constructors.less_equal(constructors.absolute(D), Entry("0", (), "int")), natural(4), natural(4), LENGTH
    )
    extent = CallShape(40, 40)
    for size, new in ((5, True), (9, True), (5, False)):
        looks.clear()
        held = (HostTable(np.array(size)),)
        assert tiles.fault(planned, schedule(planned, extent, held), extent, held) is None
        assert bool(looks) == new


def test_templates_of_each_head_and_each_entry() -> None:
    condition = constructors.less_equal(
        constructors.absolute(D), constructors.add(Entry("0", (), "int"), constructors.mul(HEAD, Const(3)))
    )
    planned = program(condition, natural(4), natural(2), LENGTH)
    held = (HostTable(np.array([1, 6]), batched=True),)
    for extent in (CallShape(30, 30, 3), CallShape(30, 11, 3, (19, 2))):
        bounds = first_bounds(planned, extent, held)
        assert (bounds.batch_slots, bounds.head_slots) == (2, 3)
        assert tiles.fault(planned, schedule(planned, extent, held), extent, held) is None


def test_by_key_where_rows_come_and_go_for_ever() -> None:
    """Every other row tile sees all before it: no finite row of runs says so of a key tile, for all lengths."""
    planned = program(*CASES["rows in turn"])
    segment = schedule(planned, CallShape(100, 100), ()).kernels[0].segments[0]
    assert segment.by_query.runs.start.tolist() == [-UNBOUNDED, 0]
    assert len(segment.by_key.runs.start) > 50


@pytest.mark.parametrize(
    ("condition", "divisor"),
    [
        (CAUSAL, 1),
        (divides(D, 7), 1),
        (divides(Q, 6), 6),
        (constructors.equal(block(Q, 4), block(K, 4)), 4),
        (constructors.equal(constructors.mod(block(Q, 4), 3), constructors.mod(block(K, 4), 3)), 12),
        (constructors.equal(block(constructors.mul(Q, Const(2)), 6), block(constructors.mul(K, Const(2)), 6)), 3),
        (constructors.conjunction(divides(Q, 4), divides(K, 6)), 12),
        (constructors.less(constructors.minimum(Q, K), constructors.maximum(Q, K)), 1),
        (constructors.less(constructors.hashed(D, HEAD), Const(9)), 1),
        (constructors.less(K, constructors.choose(divides(D, 2), Q, constructors.add(Q, Const(3)))), 1),
        (constructors.less(constructors.hashed(Q), Const(9)), None),
        (constructors.less(K, Const(9)), None),
        (constructors.less(K, constructors.sub(N, Const(1))), None),
        (constructors.less(constructors.mul(Q, K), Const(9)), None),
        (constructors.less(constructors.absolute(Q), K), None),
        (constructors.equal(block(Q, 4), K), None),
        (Member(K, "0", ()), None),
        (constructors.conjunction(CAUSAL, Member(D, "0", ())), 1),
        (constructors.equal(Entry("0", (Q,), "int"), Entry("0", (K,), "int")), None),
    ],
)
def test_what_divides_a_move_that_changes_nothing(condition: Expr, divisor: int | None) -> None:
    assert shift_divisor(condition) == divisor


def test_random_conditions_do_not_change_when_they_are_moved() -> None:
    moved = 0
    for seed in range(3000):
        case = Generator(seed).case()
        divisor = shift_divisor(case.mask)
        if divisor is None or divisor > 500 or len(case.dense()) > 1:
            continue
        by = {Q: constructors.add(Q, Const(divisor)), K: constructors.add(K, Const(divisor))}
        there = dense(constructors.substitute(case.mask, by), case.tables, case.contents, case.extent)
        np.testing.assert_array_equal(there, case.dense(), err_msg=f"seed {seed}: {case.mask}")
        moved += 1
    assert moved > 300


def test_a_table_read_at_the_query_does_not_move() -> None:
    table = Table("w", "int", (Dimension("query"),))
    assert shift_divisor(constructors.less(constructors.sub(Q, Entry("0", (Q,), "int")), K)) is None
    planned = program(constructors.less(constructors.sub(Q, Entry("0", (Q,), "int")), K), natural(4), natural(4), table)
    held = (HostTable(np.arange(20) % 7),)
    extent = CallShape(20, 20)
    assert tiles.fault(planned, schedule(planned, extent, held), extent, held) is None


@pytest.mark.parametrize(
    "text",
    [
        "(q - k) % 2147483647 == 0",
        "(q - k) % 2147483647 >= 2147483640",
        "(q - k) % 1099511627776 == 3",
        "k - q < 1099511627776",
        "abs(q - k) <= 2147483647",
    ],
)
def test_what_changes_farther_away_than_tensors_reach_is_not_taken_for_endless(text: str) -> None:
    attend = attnc.loads(f"pattern p = {text}").p()
    q, k = torch.randn(1, 1, 7, 8), torch.randn(1, 1, 300, 8)
    with attnc.settings.override(verify=True, backend="blocked"):
        torch.testing.assert_close(attend(q, k, k, q_start=290), attend.reference(q, k, k, q_start=290))
