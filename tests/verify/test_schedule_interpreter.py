"""The judge of schedules on programs made by hand: every kind of order, bounds of every kind, faults of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.plan.orders import FULL, PARTIAL, Axis, View, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.compiler.plan.schedule import UNBOUNDED, Bounds, KernelSchedule, Runs, Schedule, SegmentSchedule
from attnc.compiler.verify.schedule_interpreter import Inputs, ScheduleFaultError, execute, mask, tile_tokens, visits
from tests.support import handmade
from tests.support.handmade import Case
from tests.support.oracles.brute import brute_schedule


def test_tokens_of_views() -> None:
    residues = View((Axis(1, 3), Axis(3, None, 4)))
    assert [x.tolist() for x in tile_tokens(residues, None, 14)] == [
        [0, 3, 6, 9], [12], [1, 4, 7, 10], [13], [2, 5, 8, 11], [],
    ]  # fmt: skip
    blocks = View((Axis(2, 2), Axis(4), Axis(1, 2, 2)))
    assert [x.tolist() for x in tile_tokens(blocks, None, 9)] == [[0, 1], [4, 5], [8], [2, 3], [6, 7], []]
    grid = View((Axis(5, None, 2), Axis(1, 5, 2)))
    assert [x.tolist() for x in tile_tokens(grid, None, 12)] == [
        [0, 1, 5, 6], [2, 3, 7, 8], [4, 9], [10, 11], [], [],
    ]  # fmt: skip
    assert [x.tolist() for x in tile_tokens(View((Axis(4, None, 2), Axis(1, 1)), 3), None, 10)] == [[3, 7]]


def inputs(case: Case, batch: int = 1) -> Inputs:
    draw = np.random.default_rng(len(case.name))
    heads, kv_heads = case.extent.heads, 1 if case.extent.heads % 2 else case.extent.heads // 2
    q = draw.normal(size=(batch, heads, case.extent.m, 4))
    k, v = draw.normal(size=(2, batch, kv_heads, case.extent.n, 4))
    return Inputs(q, k, v, np.linspace(0.5, 1, heads))


def dense(case: Case, given: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """Output and log-sum-exp by the definition."""
    counts = mask(case.program, case.extent, case.contents)
    group = case.extent.heads // given.k.shape[1]
    k, v = given.k.repeat(group, 1), given.v.repeat(group, 1)
    start = np.array(case.extent.q_start)[:, None, None, None]
    distance = start + np.arange(case.extent.m)[:, None] - np.arange(case.extent.n)
    of_key = case.contents[-1].values
    assert of_key is not None
    score = given.q @ k.swapaxes(-1, -2) * given.scale[:, None, None] + 0.1 * distance + of_key
    weight = counts * np.exp(score)
    total = weight.sum(-1)
    if case.program.sink is not None:
        total += np.exp(0.25 + of_key[start[..., 0] + np.arange(case.extent.m)])
    with np.errstate(divide="ignore"):
        return weight @ v / np.where(total == 0, 1, total)[..., None], np.log(total)


CASES = pytest.mark.parametrize("case", handmade.cases(), ids=lambda case: case.name)


@CASES
def test_programs_of_every_kind(case: Case) -> None:
    schedule = brute_schedule(case.program, case.extent, case.contents)
    expected = mask(case.program, case.extent, case.contents)
    for by_key in (False, True):
        assert (visits(case.program, schedule, case.extent, case.contents, by_key=by_key) == expected).all()
    given = inputs(case, len(expected))
    result = execute(case.program, schedule, case.extent, case.contents, given)
    out, lse = dense(case, given)
    np.testing.assert_allclose(result.out, out, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.lse, lse, rtol=0, atol=1e-12)
    assert (result.visits == expected).all()


def bounds(*rows: list[tuple[int, int, int]], shift: int = 0, aligned: bool = False) -> Bounds:
    """One period of rows of (start, length, kind)."""
    pointer = np.cumsum([0, *map(len, rows)])
    start, length, kind = np.array([run for row in rows for run in row], np.int64).reshape(-1, 3).T
    runs = Runs(pointer, start.astype(np.int32), length.astype(np.int32), kind.astype(np.uint8))
    return Bounds(len(rows), shift, aligned, 1, 1, runs)


def one_segment(program: Program, extent: CallShape, by_query: Bounds, by_key: Bounds) -> Schedule:
    assert len(program.kernels) == 1
    return Schedule(extent.n, extent.m, (KernelSchedule((SegmentSchedule(by_query, by_key),)),))


def right(program: Program, extent: CallShape, schedule: Schedule) -> bool:
    """Whether both walks visit what the mask keeps."""
    held = (HostTable(np.zeros(extent.n)),)
    expected = mask(program, extent, held)
    return all((visits(program, schedule, extent, held, by_key=way) == expected).all() for way in (False, True))


@pytest.mark.parametrize("n", [1, 4, 31, 64])
def test_a_closed_form_serves_every_length(n: int) -> None:
    program = handmade.everything(handmade.CAUSAL, Kernel(natural(4), (Segment(natural(4), handmade.CAUSAL),), "store"))
    past, future = [(-UNBOUNDED, UNBOUNDED, FULL), (0, 1, PARTIAL)], [(0, 1, PARTIAL), (1, UNBOUNDED, FULL)]
    forms = bounds(past, shift=1), bounds(future, shift=1)
    assert right(program, CallShape(n, n), one_segment(program, CallShape(n, n), *forms))


@pytest.mark.parametrize("n", [3, 24, 37])
def test_a_template_of_different_tiles(n: int) -> None:
    """Tiles of four rows against tiles of eight keys: two rows of runs, one tile further for both."""
    program = handmade.everything(handmade.CAUSAL, Kernel(natural(4), (Segment(natural(8), handmade.CAUSAL),), "store"))
    by_query = bounds(*[[(-UNBOUNDED, UNBOUNDED, FULL), (0, 1, PARTIAL)]] * 2, shift=1)
    by_key = bounds([(0, 2, PARTIAL), (2, UNBOUNDED, FULL)], shift=2)
    assert right(program, CallShape(n, n), one_segment(program, CallShape(n, n), by_query, by_key))


@pytest.mark.parametrize("n", [5, 24, 50])
def test_aligned_classes(n: int) -> None:
    """A dilated window in the order of residues: a window within each class."""
    mask_ = handmade.constructors.conjunction(handmade.within(8), handmade.divisible(handmade.D, 4))
    order = handmade.residues(4, 2)
    program = handmade.everything(mask_, Kernel(order, (Segment(order, mask_),), "store"))
    form = bounds([(-1, 3, PARTIAL)], shift=1, aligned=True)
    assert right(program, CallShape(n, n), one_segment(program, CallShape(n, n), form, form))


CAUSAL = Case(
    "causal",
    handmade.everything(handmade.CAUSAL, Kernel(natural(4), (Segment(natural(4), handmade.CAUSAL),), "store")),
    CallShape(16, 16),
    (HostTable(np.zeros(16)),),
)


@pytest.mark.parametrize(
    ("run", "fault"), [((0, 3, FULL), "called full lacks a pair"), ((0, 3, 0), "a run is of kind 0")]
)
def test_a_false_kind_is_a_fault(run: tuple[int, int, int], fault: str) -> None:
    schedule = one_segment(CAUSAL.program, CAUSAL.extent, bounds([run]), bounds([run]))
    with pytest.raises(ScheduleFaultError, match=fault):
        visits(CAUSAL.program, schedule, CAUSAL.extent, CAUSAL.contents)


def test_a_lost_tile_and_one_visited_twice_are_seen() -> None:
    past, future = [(-UNBOUNDED, UNBOUNDED, FULL), (0, 1, PARTIAL)], [(0, 1, PARTIAL), (1, UNBOUNDED, FULL)]
    forms = bounds(past, shift=1), bounds(future, shift=1)
    assert right(CAUSAL.program, CAUSAL.extent, one_segment(CAUSAL.program, CAUSAL.extent, *forms))
    for run in ([(0, 1, PARTIAL)], [*past, (0, 1, PARTIAL)]):
        wrong = one_segment(CAUSAL.program, CAUSAL.extent, bounds(run, shift=1), forms[1])
        assert not right(CAUSAL.program, CAUSAL.extent, wrong)
    for run in ([(0, 1, PARTIAL)], [*future, (0, 1, PARTIAL)]):
        wrong = one_segment(CAUSAL.program, CAUSAL.extent, forms[0], bounds(run, shift=1))
        assert not right(CAUSAL.program, CAUSAL.extent, wrong)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda kernel: (replace(kernel, rows=View((Axis(2, None, 4),))),), "stored never, or written twice"),
        (lambda kernel: (replace(kernel, rows=View((Axis(1, 2), Axis(1, None, 4)))),), "stored never, or written"),
        (lambda kernel: (replace(kernel, output="merge"),), "do not store first and merge then"),
        (lambda kernel: (kernel, kernel), "do not store first and merge then"),
        (lambda kernel: (replace(kernel, heads=()),), "has no kernel"),
    ],
)
def test_rows_that_are_stored_wrongly(change: Callable[[Kernel], tuple[Kernel, ...]], fault: str) -> None:
    program = replace(CAUSAL.program, kernels=change(CAUSAL.program.kernels[0]))
    schedule = brute_schedule(program, CAUSAL.extent, CAUSAL.contents)
    with pytest.raises(ScheduleFaultError, match=fault):
        visits(program, schedule, CAUSAL.extent, CAUSAL.contents)


def test_a_listed_token_that_does_not_exist() -> None:
    case = handmade.cases()[0]
    schedule = brute_schedule(case.program, case.extent, case.contents)
    kernel = schedule.kernels[1]
    assert kernel.rows is not None
    wrong = replace(kernel, rows=replace(kernel.rows, tokens=kernel.rows.tokens + np.int32(30)))
    with pytest.raises(ScheduleFaultError, match="is listed, and there are 37"):
        visits(case.program, replace(schedule, kernels=(schedule.kernels[0], wrong)), case.extent, case.contents)
