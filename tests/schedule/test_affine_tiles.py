"""Schedules by closed form and by template, proved by isl for every length: what is visited, in both directions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from attnc.compiler.arrange.search import arrange
from attnc.compiler.ir import constructors
from attnc.compiler.ir.expressions import FALSE, HEAD, HEADS, Const, Expr, K, N, Q, walk
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.ir.printer import expression
from attnc.compiler.plan.orders import FULL, PARTIAL, Tiles, View, natural
from attnc.compiler.plan.programs import Program
from attnc.compiler.plan.schedule import UNBOUNDED, Bounds
from attnc.compiler.proofs.affine_sets import free
from attnc.compiler.proofs.questions import Proved, Unknown
from attnc.compiler.proofs.tile_questions import TileFault, tile_question
from attnc.compiler.proofs.tiles import decide_tiles, disagreement
from attnc.compiler.schedule.periodic import periodic_query
from attnc.compiler.schedule.segments import schedule
from tests.analysis.test_affine import shipped
from tests.schedule.test_periodic import CASES, CAUSAL, program, within
from tests.support.generators.random_expressions import dense
from tests.support.generators.walked_masks import drawn_case, forced

# A length of which schedules are made: what they say of it is then asked of every other one.
LENGTH = 300
LONG = 2**14


@dataclass(frozen=True)
class Walks:
    """Rows and keys in the orders of a segment; ``start`` is the position of the first query."""

    rows: View
    keys: View
    start: int = 0


Segments = list[tuple[Expr, View, View]]


def moving(programs: Iterator[Program]) -> Segments:
    """The segments whose bounds repeat; each pair of orders under each condition once.

    The others are not for every length: those that read tables, n, the head or one position alone are planned at each
    launch anew, and so are those of orders listed at a launch. The tests of schedules look at these pair by pair.
    """
    every = [(kernel, segment) for made in programs for kernel in made.kernels for segment in kernel.segments]
    views = {
        (segment.condition, kernel.rows, segment.keys): None
        for kernel, segment in every
        if isinstance(kernel.rows, View) and isinstance(segment.keys, View) and segment.condition.type == "bool"
    }
    return [
        found
        for found in views
        if {Q, K} <= (nodes := set(walk(found[0])))
        and not nodes & {N, HEAD, HEADS}
        and not free(found[0])
        and periodic_query(*found, CallShape(LENGTH, LENGTH), {}, None) is not None
    ]


def bounds(condition: Expr, walks: Walks, length: int) -> tuple[Bounds, Bounds]:
    extent = CallShape(length, length, q_start=(walks.start,))
    segment = schedule(program(condition, walks.rows, walks.keys), extent, ()).kernels[0].segments[0]
    return segment.by_query, segment.by_key


def fault(condition: Expr, walks: Walks, by_query: Bounds, by_key: Bounds) -> TileFault | Unknown | None:
    """What is wrong with bounds for some of the launches that they serve, or why that is not known; None if nothing."""
    question = tile_question(condition, walks.rows, walks.keys, walks.start, (by_query, by_key))
    found = question if isinstance(question, TileFault) else decide_tiles(question)
    return None if isinstance(found, Proved) else found


def proved(condition: Expr, walks: Walks) -> None:
    wrong = fault(condition, walks, *bounds(condition, walks, LENGTH))
    assert wrong is None, f"{expression(condition)} in {walks}: {wrong}"


def equal(first: Bounds, second: Bounds) -> bool:
    same = (first.period, first.shift, first.aligned) == (second.period, second.shift, second.aligned)
    both = first.runs, second.runs
    pointers, starts, lengths, kinds = zip(*((x.pointer, x.start, x.length, x.kind) for x in both), strict=True)
    return same and all(np.array_equal(a, b) for a, b in (pointers, starts, lengths, kinds))


# Their rows need longer and longer runs, so that they are planned for lengths up to a power of two at a time.
UP_TO_A_LENGTH = {"far and sparse", "rows in turn"}
# Rows and keys of unlike classes, which have no template: planned at each launch anew.
AT_EACH_LAUNCH = {"in the order of others", "unlike tiles of residues"}
ALWAYS = [name for name in CASES if name not in UP_TO_A_LENGTH | AT_EACH_LAUNCH]


@pytest.mark.parametrize("name", ALWAYS)
def test_one_template_is_right_for_every_length(name: str) -> None:
    condition, rows, keys = CASES[name]
    aligned = rows.classes > 1
    for start in (0, 240, 10**6 * 240) if aligned else (0, 5, 10**6 + 7):
        proved(condition, Walks(rows, keys, start))


@pytest.mark.parametrize("name", sorted(UP_TO_A_LENGTH))
def test_some_templates_are_right_up_to_a_length(name: str) -> None:
    condition, rows, keys = CASES[name]
    walks = Walks(rows, keys)
    proved(condition, walks)
    planned = bounds(condition, walks, LENGTH)
    assert LENGTH <= 4 * min(its.reach for its in planned) < UNBOUNDED
    endless = fault(condition, walks, *(replace(its, reach=UNBOUNDED) for its in planned))
    assert isinstance(endless, TileFault)
    assert endless.n is not None
    assert endless.n > LENGTH


@cache
def shipped_segments(name: str) -> Segments:
    return moving(arrange(shipped()[name], Tiles(*lanes)) for lanes in ((64, 64), (16, 32)))


@pytest.mark.parametrize("name", shipped())
def test_segments_of_shipped_patterns_are_right_for_every_length(name: str) -> None:
    for condition, rows, keys in shipped_segments(name):
        proved(condition, Walks(rows, keys))


def test_shipped_patterns_have_segments_in_every_kind_of_order() -> None:
    found = [segment for name in shipped() for segment in shipped_segments(name)]
    orders = {rows for _, rows, _ in found} | {keys for _, _, keys in found}
    assert len(found) >= 45
    assert {view.classes for view in orders} >= {1, 2, 3, 128}
    assert any(len(view.axes) > view.main + 1 for view in orders)


@pytest.mark.parametrize("block", range(6))
def test_segments_of_generated_masks_are_right_for_every_length(block: int) -> None:
    """Of those whose bounds are the same for a short and for a long launch."""
    seeds = range(block * 40, block * 40 + 40)
    cases = ((seed, drawn_case(seed)) for seed in seeds)
    lanes = (Tiles(8, 4, 2), Tiles(4, 8, 2), Tiles(16, 16, 2))
    found = moving(forced(case.mask, case.tables, Random(seed), lanes[seed % 3]) for seed, case in cases)
    always = 0
    for condition, rows, keys in found:
        walks = Walks(rows, keys)
        if all(map(equal, bounds(condition, walks, LENGTH), bounds(condition, walks, LONG))):
            proved(condition, walks)
            always += 1
    assert always >= 6


def mutants(bounds: Bounds) -> Iterator[tuple[str, Bounds]]:
    """Bounds of which each is wrong in one place: a run is a tile shorter, or called full, or all move too far."""
    runs = bounds.runs
    for run, (start, length, kind) in enumerate(zip(runs.start, runs.length, runs.kind, strict=True)):
        here = np.arange(len(runs.start)) == run
        if start > -UNBOUNDED:
            yield "begins late", of_runs(bounds, start=runs.start + here, length=runs.length - here)
        if start + length < UNBOUNDED - 1:
            yield "ends early", of_runs(bounds, length=runs.length - here)
        if kind == PARTIAL:
            yield "called full", of_runs(bounds, kind=np.where(here, np.uint8(FULL), runs.kind))
    yield "moves too far", replace(bounds, shift=bounds.shift + 1)
    yield "moves too little", replace(bounds, shift=bounds.shift - 1)


def of_runs(bounds: Bounds, **columns: NDArray[Any]) -> Bounds:
    return replace(bounds, runs=replace(bounds.runs, **columns))


# Of these every tile that is visited has a pair, and none that is called partial is full.
EXACT = ("causal", "window", "dilated", "strided", "chunks", "two residues")


@pytest.mark.parametrize("name", EXACT)
def test_wrong_bounds_are_found(name: str) -> None:
    condition, rows, keys = CASES[name]
    walks = Walks(rows, keys)
    by_query, by_key = bounds(condition, walks, LENGTH)
    assert fault(condition, walks, by_query, by_key) is None
    for what, wrong in mutants(by_query):
        found = fault(condition, walks, wrong, by_key)
        assert isinstance(found, TileFault), f"by query, {what}"
        assert disagrees(walks, wrong, by_key), f"by query, {what}"
        assert_true(condition, walks, found)
    for what, wrong in mutants(by_key):
        found = fault(condition, walks, by_query, wrong)
        assert isinstance(found, TileFault), f"by key, {what}"
        assert disagrees(walks, by_query, wrong), f"by key, {what}"
        assert_true(condition, walks, found)


def disagrees(walks: Walks, by_query: Bounds, by_key: Bounds) -> bool:
    question = tile_question(FALSE, walks.rows, walks.keys, walks.start, (by_query, by_key))
    return isinstance(question, TileFault) or disagreement(question) is not None


def assert_true(condition: Expr, walks: Walks, found: TileFault) -> None:
    """Whether the pair of a fault lies in its tiles, and the mask is there what it says."""
    if found.direction is None:
        return
    numbers = found.n, found.m, found.start, found.q, found.k, found.tile, found.other
    n, m, start, q, k, tile, other = (number for number in numbers if number is not None)
    tiles = (tile, other) if found.direction == "by query" else (other, tile)
    orders = (walks.rows, m, q - start), (walks.keys, n, k)
    for (order, total, token), tile in zip(orders, tiles, strict=True):
        count = order.tiles(total)
        assert any(token in order.tokens(c * count.per_class + tile, total) for c in range(count.classes))
    kept = bool(dense(condition, (), (), CallShape(n, m, q_start=(start,)))[..., q - start, k].all())
    assert kept == ("empty" in found.what)


def test_classes_that_meet_are_found() -> None:
    condition, rows, keys = CASES["dilated"]
    walks = Walks(rows, keys)
    planned = bounds(condition, walks, LENGTH)
    found = fault(within(12), walks, *planned)
    assert isinstance(found, TileFault)
    assert "two classes meet" in found.what


def test_a_fault_far_beyond_all_samples_is_found() -> None:
    """The bounds of a causal mask, for one that leaves out one pair of a great many: no sampled length shows it."""
    walks = Walks(natural(16), natural(16))
    planned = bounds(CAUSAL, walks, LENGTH)
    far = constructors.conjunction(CAUSAL, constructors.not_equal(constructors.sub(Q, K), Const(2**26)))
    found = fault(far, walks, *planned)
    assert isinstance(found, TileFault)
    assert "full lacks a pair" in found.what
    assert (found.n, found.m) == (2**26 + 1, 2**26 + 1)
    assert fault(far, walks, *(replace(its, reach=2**20) for its in planned)) is None
