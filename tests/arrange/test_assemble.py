"""Kernels in any orders keep each pair its count: by brute force over masks for which orders are found."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from attnc.compiler.analysis.normal_form import terms
from attnc.compiler.arrange.assemble import AssignedTerm, assemble
from attnc.compiler.arrange.candidates import OrderPair, SearchContext, walks
from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import Table
from attnc.compiler.ir.expressions import FALSE, TRUE, Const, Expr, K, Member, Q
from attnc.compiler.plan.orders import Axis, Gathered, Sorted, Tiles, View, natural
from attnc.compiler.plan.printer import program as described
from attnc.compiler.plan.programs import Kernel, Segment
from tests.support.generators.walked_masks import TABLES, TILES, all_tokens, counted, drawn_case, forced

D = constructors.sub(Q, K)
CAUSAL = constructors.less_equal(K, Q)


def near(reach: int) -> Expr:
    return constructors.less_equal(constructors.absolute(D), Const(reach))


@pytest.mark.parametrize("seed", range(300))
def test_every_pair_is_kept_as_often_as_the_mask_says(seed: int) -> None:
    case = drawn_case(seed)
    for attempt in range(3):
        program = forced(case.mask, case.tables, Random(f"{seed} {attempt}"))
        found = counted(program.kernels, case)
        assert (found == case.dense()).all(), described(program)
        _well_formed(program.kernels)


def _well_formed(kernels: tuple[Kernel, ...]) -> None:
    assert kernels[0].rows.covers
    assert [kernel.output for kernel in kernels] == ["store"] + ["merge"] * (len(kernels) - 1)
    for kernel in kernels[1:]:
        assert kernel.segments
    assert all(segment.condition != FALSE for kernel in kernels for segment in kernel.segments)


def test_orders_of_every_kind_are_drawn() -> None:
    kinds: set[object] = set()
    for seed in range(300):
        case = drawn_case(seed)
        for kernel in forced(case.mask, case.tables, Random(seed)).kernels:
            for side, order in (("rows", kernel.rows), *(("keys", segment.keys) for segment in kernel.segments)):
                shape = tuple(axis.length is None for axis in order.axes) if isinstance(order, View) else type(order)
                kinds.add((side, shape, order.covers))
            kinds.add(("owned", kernel.owned_rows == TRUE))
    assert {
        ("rows", Gathered, False),
        ("keys", Gathered, False),
        ("rows", Sorted, True),
        ("keys", Sorted, True),
    } < kinds
    residues, lattice, blocks, window = (False, True), (True,), (False, True, False), (True, False)
    for side in ("rows", "keys"):
        assert {(side, residues, True), (side, lattice, False), (side, blocks, True), (side, window, False)} < kinds
        assert (side, window, True) in kinds  # a grid
    assert ("owned", False) in kinds


@pytest.mark.parametrize("count", [1, 7, 24, 61, 64, 200])
def test_each_order_has_a_token_once(count: int) -> None:
    known = SearchContext(TILES, TABLES, frozenset("012"))
    orders = {
        order
        for seed in range(200)
        for term in terms(constructors.disjunction(*map(_bool, [drawn_case(seed).mask])))
        for walk in walks(term, known, natural_rows=False)
        for order in (walk.rows, walk.keys)
    }
    views = [order for order in orders if isinstance(order, View)]
    assert len(views) > 20
    for view in views:
        tokens = all_tokens(view, count)
        assert len(np.unique(tokens)) == len(tokens)
        if view.covers:
            assert len(tokens) == count


def _bool(mask: Expr) -> Expr:
    return constructors.less(Const(0), Const(1)) if mask.type == "count" else mask


GLOBALS = (Table("g", "set", ()),)
OF_QUERY, OF_KEY = Member(Q, "0", ()), Member(K, "0", ())


def placed(condition: Expr, walk: OrderPair) -> AssignedTerm:
    (term,) = terms(condition)
    return AssignedTerm(0, term, walk)


def test_longformer_has_a_band_and_columns_for_the_rows_that_no_other_kernel_gathers() -> None:
    mask = constructors.disjunction(near(256), OF_QUERY, OF_KEY)
    rows, keys = natural(128), natural(64)
    found = assemble(
        [
            placed(near(256), OrderPair(rows, keys)),
            placed(OF_QUERY, OrderPair(Gathered(OF_QUERY, 16), keys)),
            placed(OF_KEY, OrderPair(rows, Gathered(OF_KEY, 16))),
        ],
        (mask,),
        Tiles(128, 64),
        GLOBALS,
    )
    beyond = constructors.less(Const(256), constructors.absolute(D))
    assert found == (
        Kernel(
            rows,
            (Segment(keys, near(256)), Segment(Gathered(OF_KEY, 16), beyond)),
            "store",
            constructors.negation(OF_QUERY),
        ),
        Kernel(Gathered(OF_QUERY, 16), (Segment(keys, TRUE),), "merge"),
    )


def test_what_is_walked_alike_is_one_segment_with_the_whole_mask() -> None:
    mask = constructors.conjunction(CAUSAL, constructors.disjunction(near(4), OF_KEY))
    walk = OrderPair(natural(8), natural(4))
    together = [AssignedTerm(0, term, walk) for term in terms(mask)]
    (kernel,) = assemble(together, (mask,), TILES, GLOBALS)
    assert kernel == Kernel(natural(8), (Segment(natural(4), mask),), "store")


def test_without_an_order_of_all_rows_the_first_kernel_stores_nothing_kept() -> None:
    lattice = View((Axis(4, None, 8),), 1)
    mask = constructors.conjunction(CAUSAL, constructors.equal(constructors.mod(Q, 4), Const(1)))
    first, second = assemble([placed(mask, OrderPair(lattice, natural(4)))], (mask,), TILES, ())
    assert first == Kernel(natural(8), (), "store")
    assert second == Kernel(lattice, (Segment(natural(4), CAUSAL),), "merge")


def test_nothing_kept_is_one_kernel_without_segments() -> None:
    assert assemble([], (FALSE,), TILES, ()) == (Kernel(natural(8), (), "store"),)
