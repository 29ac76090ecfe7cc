"""The normal form of a mask: terms that mean what it means, and guards that keep them apart."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest

from attnc.compiler.analysis.normal_form import (
    MOST_TERMS,
    Term,
    apart,
    guarded,
    guards,
    negation_normal,
    normalise,
    parts,
    terms,
)
from attnc.compiler.ir import constructors
from attnc.compiler.ir.expressions import FALSE, HEAD, TRUE, Apply, Const, Entry, Expr, K, Member, Q
from attnc.compiler.ir.printer import expression
from tests.support.generators.random_expressions import Case, Generator, dense
from tests.support.generators.walked_masks import drawn_case

D = constructors.sub(Q, K)
CAUSAL = constructors.less_equal(K, Q)
SEEDS = range(150)


def near(reach: int) -> Expr:
    return constructors.less_equal(constructors.absolute(D), Const(reach))


def cases() -> list[Case]:
    return [Generator(seed).case() for seed in SEEDS] + [drawn_case(seed) for seed in SEEDS]


def held(expr: Expr, case: Case) -> np.ndarray:
    return dense(expr, case.tables, case.contents, case.extent)


def test_the_parts_add_up_to_the_mask() -> None:
    for case in cases():
        together = sum(held(part, case).astype(np.int64) for part in parts(case.mask))
        assert (together == case.dense()).all(), expression(case.mask)


def test_a_part_is_the_union_of_its_terms() -> None:
    for case in cases():
        for part, its in zip(parts(case.mask), normalise(case.mask), strict=True):
            assert len(its) <= MOST_TERMS
            union = reduce(np.logical_or, (held(term.condition, case) for term in its), held(FALSE, case))
            assert (union == held(part, case)).all(), expression(part)


def test_guarded_terms_share_no_pair_and_lose_none() -> None:
    overlapping = 0
    for case in cases():
        for part, its in zip(parts(case.mask), normalise(case.mask), strict=True):
            each = [held(guarded(term, its[:place]), case).astype(np.int64) for place, term in enumerate(its)]
            assert (sum(each, held(FALSE, case).astype(np.int64)) == held(part, case)).all(), expression(part)
            overlapping += any((held(term.condition, case) != own).any() for term, own in zip(its, each, strict=True))
    assert overlapping > 20


def test_negation_stands_before_single_tests_only() -> None:
    for case in cases():
        for part in parts(case.mask):
            normal = negation_normal(part)
            assert (held(normal, case) == held(part, case)).all(), expression(part)
            _no_negated_junction(normal)


def _no_negated_junction(expr: Expr) -> None:
    if isinstance(expr, Apply):
        assert not (expr.op == "if" and expr.type == "bool")
        if expr.op == "not":
            (inner,) = expr.args
            assert not (isinstance(inner, Apply) and inner.op in ("and", "or", "not"))
        if expr.op in ("and", "or"):
            for part in expr.args:
                _no_negated_junction(part)


def test_a_term_is_split_by_what_its_conditions_read() -> None:
    rows, columns = Member(Q, "0", ()), constructors.less(K, Const(4))
    (term,) = terms(constructors.conjunction(CAUSAL, rows, columns, Entry("1", (HEAD,), "bool")))
    assert term == Term((rows,), (columns,), (CAUSAL, Entry("1", (HEAD,), "bool")))


def test_a_causal_union_is_distributed() -> None:
    columns = constructors.equal(constructors.mod(D, 4), Const(0))
    found = terms(constructors.conjunction(CAUSAL, constructors.disjunction(near(3), columns)))
    assert [term.condition for term in found] == [
        constructors.conjunction(CAUSAL, near(3)),
        constructors.conjunction(CAUSAL, columns),
    ]


def test_what_contains_a_term_absorbs_it() -> None:
    assert [
        term.condition for term in terms(constructors.disjunction(constructors.conjunction(CAUSAL, near(3)), near(3)))
    ] == [near(3)]
    assert terms(constructors.conjunction(CAUSAL, constructors.less(Q, K))) == ()
    assert [term.condition for term in terms(TRUE)] == [TRUE]


def test_too_many_conjunctions_stay_one_opaque_term() -> None:
    product = constructors.conjunction(
        *(
            constructors.disjunction(near(2 * place), constructors.equal(constructors.mod(D, 2 * place + 3), Const(0)))
            for place in range(1, 9)
        )
    )
    found = terms(product)
    assert 1 < len(found) <= MOST_TERMS
    union = [constructors.equal(K, Const(place)) for place in range(40)]
    found = terms(constructors.disjunction(*union))
    assert len(found) == MOST_TERMS
    assert found[-1].condition == constructors.disjunction(*union[MOST_TERMS - 1 :])


def test_what_two_terms_share_is_no_guard() -> None:
    window, columns = (
        terms(constructors.conjunction(CAUSAL, x))[0] for x in (near(8), constructors.equal(K, Const(3)))
    )
    assert guards(columns, [window]) == (constructors.less(Const(8), constructors.absolute(D)),)
    assert guards(window, [terms(CAUSAL)[0]]) is None
    assert guards(window, [columns, window]) is None


@pytest.mark.parametrize(
    ("first", "second", "proved"),
    [
        (near(8), constructors.less(Const(8), constructors.absolute(D)), True),
        (near(8), constructors.less(Const(8), D), True),
        (near(8), constructors.less_equal(Const(8), D), False),
        (constructors.less(K, Const(4)), constructors.less_equal(Const(4), K), True),
        (CAUSAL, constructors.less(Q, K), True),
        (constructors.equal(K, Const(3)), constructors.equal(K, Const(5)), True),
        (Member(Q, "0", ()), constructors.negation(Member(Q, "0", ())), True),
        (Member(Q, "0", ()), constructors.negation(Member(K, "0", ())), False),
    ],
)
def test_terms_that_cannot_meet_need_no_guard(first: Expr, second: Expr, proved: bool) -> None:
    assert apart((first,), (second,)) == proved
    assert apart((second,), (first,)) == proved


def test_a_count_has_a_part_for_each_sum_and_shares_them_between_branches() -> None:
    a, b, c = near(1), CAUSAL, constructors.less(K, Const(2))
    assert parts(constructors.plus(a, b)) == (a, b)
    assert parts(constructors.filtered(c, constructors.plus(a, b))) == (
        constructors.conjunction(c, a),
        constructors.conjunction(c, b),
    )
    chosen = constructors.choose(c, a, constructors.plus(a, b))
    assert parts(chosen) == (a, constructors.choose(c, FALSE, b))
