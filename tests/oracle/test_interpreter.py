"""The oracle, on expressions made by hand and against a reading one pair at a time."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from attnc.compiler.ir import constructors as f
from attnc.compiler.ir.attentions import Dimension, Table
from attnc.compiler.ir.expressions import (
    HEAD,
    HEADS,
    LOGIT,
    TRUE,
    Apply,
    Const,
    Entry,
    Expr,
    K,
    Member,
    N,
    Position,
    Q,
    children,
    walk,
)
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.ir.operations import murmur
from attnc.compiler.oracle.interpreter import NumpyArrays, TableValues, environment, evaluate, interpret
from attnc.compiler.oracle.out_of_table import OutOfTableError
from tests.fuzz.masks import bound
from tests.support.generators.programs import generate
from tests.support.generators.random_expressions import Generator
from tests.support.operation_cases import an_opaque, taken
from tests.support.oracles import scalar

QUERY, PER_HEAD, BLOCK = Dimension("query"), Dimension("head"), Dimension("free", name="block")


def c(value: bool | int | float) -> Const:
    return Const(value)


def dense(expr: Expr, n: int = 8, m: int | None = None, **more: object) -> np.ndarray:
    return evaluate(expr, (), CallShape(n, n if m is None else m, **more), {})  # type: ignore[arg-type]


def test_window_equals_its_formula() -> None:
    i, j = np.indices((9, 9))
    mask = dense(f.less_equal(f.absolute(f.sub(Q, K)), c(2)), 9)
    assert mask.dtype == bool
    assert mask.shape == (1, 1, 9, 9)
    assert (mask[0, 0] == (abs(i - j) <= 2)).all()


def test_rows_start_where_the_call_says() -> None:
    mask = dense(f.less_equal(K, Q), 6, 2, heads=3, q_start=(1, 4))
    assert mask.shape == (2, 3, 2, 6)
    assert mask[0, 2].sum(1).tolist() == [2, 3]
    assert mask[1, 0].sum(1).tolist() == [5, 6]


def test_division_and_remainder_floor() -> None:
    difference = f.sub(K, Q)
    i, j = np.indices((8, 8))
    assert (dense(f.equal(f.floordiv(difference, 3), c(-1)))[0, 0] == ((j - i) // 3 == -1)).all()
    assert (dense(f.equal(f.mod(difference, 3), c(2)))[0, 0] == ((j - i) % 3 == 2)).all()


def test_integers_do_not_wrap_at_32_bits() -> None:
    large = f.mul(f.add(f.mul(Q, c(100_003)), K), c(1_000_000))
    i, j = np.indices((50, 50))
    assert (dense(f.less(f.mod(large, 7), c(3)), 50)[0, 0] == ((i * 100_003 + j) * 1_000_000 % 7 < 3)).all()


def test_hash_is_the_language_s() -> None:
    # MurmurHash3's own: fmix32(0) is 0 and fmix32(1) is 0x514E28B7.
    assert murmur((0x9E3779B9,)) == 0
    assert murmur((0x9E3779B8,)) == 0x514E28B7 >> 1
    arguments = (f.sub(K, Q), HEAD, c(-1))
    values = interpret(Apply("hash", arguments, "int"), environment(NumpyArrays(), 4, 4, 2, np.array([0]), {}))
    for h, q, k in np.ndindex(2, 4, 4):
        assert values[0, h, q, k] == scalar._hash([k - q, h, -1]) == murmur((k - q, h, -1))
    assert values.min() >= 0
    assert values.max() < 2**31


def test_head_and_heads_and_n() -> None:
    mask = dense(f.conjunction(f.equal(HEAD, f.sub(HEADS, c(1))), f.equal(K, f.sub(N, c(1)))), 4, heads=3)
    assert mask.sum() == 4
    assert mask[0, 2, :, 3].all()


def test_counts_add_filter_and_choose() -> None:
    diagonal, first = f.equal(Q, K), f.less(K, c(1))
    both = f.plus(diagonal, first, diagonal)
    mask = dense(f.filtered(f.less(Q, c(3)), both), 4)
    assert mask.dtype == np.int64
    assert mask[0, 0].tolist() == [[3, 0, 0, 0], [1, 2, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    chosen = dense(f.choose(f.equal(Q, c(0)), TRUE, both), 4)
    assert chosen[0, 0].tolist() == [[1, 1, 1, 1], [1, 2, 0, 0], [1, 0, 2, 0], [1, 0, 0, 2]]


def test_conditions_compare() -> None:
    mask = dense(f.iff(f.less(Q, c(4)), f.less(K, c(4))))
    assert mask[0, 0, :4, :4].all()
    assert mask[0, 0, 4:, 4:].all()
    assert mask.sum() == 32


def test_sets_ignore_what_lies_beyond_the_universe() -> None:
    table = Table("g", "set", ())
    member = Member(f.sub(K, c(2)), "g", ())
    mask = evaluate(member, (table,), CallShape(9, 1), {"g": HostTable(np.array([True, False, True]))})
    assert np.flatnonzero(mask).tolist() == [2, 4]


def test_sets_of_heads_and_batches() -> None:
    table = Table("g", "set", (PER_HEAD,))
    values = np.zeros((2, 2, 3), dtype=bool)
    values[0, 1, 2] = values[1, 0, 0] = True
    mask = evaluate(Member(K, "g", (HEAD,)), (table,), CallShape(3, 1, 2), {"g": HostTable(values, batched=True)})
    assert mask.shape == (2, 2, 1, 3)
    assert np.argwhere(mask).tolist() == [[0, 1, 0, 2], [1, 0, 0, 0]]


def test_a_query_table_has_the_rows_of_the_call() -> None:
    table = Table("limit", "int", (QUERY,))
    mask = evaluate(
        f.less(K, Entry("limit", (Q,), "int")),
        (table,),
        CallShape(5, 2, 1, (3,)),
        {"limit": HostTable(np.array([1, 4]))},
    )
    assert mask[0, 0].sum(1).tolist() == [1, 4]


def test_a_node_rebuilt_from_its_parts_is_the_same() -> None:
    for seed in range(200):
        for node in walk(Generator(seed).case().mask):
            assert f.rebuild(node, children(node)) == node
    member = Member(f.sub(K, c(2)), "g", (HEAD, f.floordiv(Q, 4)))
    assert f.substitute(member, {HEAD: c(3), K: Q}) == Member(f.sub(Q, c(2)), "g", (c(3), f.floordiv(Q, 4)))
    assert f.rename_tables(member, {"g": "h"}) == Member(member.element, "h", member.indices)


def test_constants_of_a_sum_are_gathered_within_63_bits() -> None:
    """Beyond them they stay apart, as a sum on the way may fit where theirs does not."""
    largest = 2**63 - 1
    assert f.add(c(2**62), Q, c(2**62 - 1)) == Apply("add", (Q, c(largest)), "int")
    for x, y in ((2**62, 2**62), (largest, 1), (-largest, -1), (largest, largest)):
        assert f.add(c(x), Q, c(y)) == Apply("add", (Q, c(x), c(y)), "int")
    assert f.add(c(1), c(largest)) == c(2**63), "what holds nothing else is refused by its size, where it is looked at"


W = Entry("w", (K,), "float")
ZERO = Const(0.0)
FLOATS: dict[str, tuple[Expr, Callable[[np.ndarray], np.ndarray]]] = {
    "w <= w": (f.less_equal(W, W), lambda w: w <= w),
    "w < w": (f.less(W, W), lambda w: w < w),
    "w == w": (f.equal(W, W), lambda w: w == w),
    "w != w": (f.not_equal(W, W), lambda w: w != w),
    "not (w < 0)": (f.negation(f.less(W, ZERO)), lambda w: ~(w < 0)),
    "not (w <= 0)": (f.negation(f.less_equal(W, ZERO)), lambda w: ~(w <= 0)),
    "w - w == 0": (f.equal(f.sub(W, W), ZERO), lambda w: w - w == 0),
    "w * 0 == 0": (f.equal(f.mul(W, ZERO), ZERO), lambda w: w * 0.0 == 0),
    "0 * w == 0": (f.equal(f.mul(ZERO, W), ZERO), lambda w: 0.0 * w == 0),
    "w / w == 1": (f.equal(f.div(W, W), Const(1.0)), lambda w: w / w == 1),
    "1 / (w + 0) < 0": (f.less(f.div(Const(1.0), f.add(W, ZERO)), ZERO), lambda w: 1 / (w + 0.0) < 0),
    "1 / (w - 0) < 0": (f.less(f.div(Const(1.0), f.sub(W, ZERO)), ZERO), lambda w: 1 / (w - 0.0) < 0),
    "1 / -w < 0": (f.less(f.div(Const(1.0), f.neg(W)), ZERO), lambda w: 1 / -w < 0),
    "1 / (0 - w) < 0": (f.less(f.div(Const(1.0), f.sub(ZERO, W)), ZERO), lambda w: 1 / (0.0 - w) < 0),
    "(w + 1e300) - 1e300 == w": (
        f.equal(f.sub(f.add(W, Const(1e300)), Const(1e300)), W), lambda w: (w + 1e300) - 1e300 == w
    ),
    "min(w, w) >= 1": (f.less_equal(Const(1.0), f.minimum(W, W)), lambda w: w >= 1),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOATS)
def test_nothing_is_folded_that_floats_do_not_keep(name: str) -> None:
    """Against numpy: kernels and oracle read what is folded, and so cannot tell."""
    expr, holds = FLOATS[name]
    w = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.5, np.nan])
    with np.errstate(all="ignore"):
        found = evaluate(expr, (Table("w", "float", (Dimension("token"),)),), CallShape(8, 8), {"w": HostTable(w)})
        assert (found[0, 0] == holds(w)).all()


def test_floats_are_compared_in_their_own_precision() -> None:
    table = Table("level", "float", (PER_HEAD,))
    reads = f.equal(Entry("level", (HEAD,), "float"), c(0.1))
    for dtype in (np.float32, np.float64):
        values = {"level": HostTable(np.array([0.1], dtype=dtype))}
        assert evaluate(reads, (table,), CallShape(1, 1), values).all()


BLOCKS = Table("label", "int", (BLOCK,))
LABEL = Entry("label", (f.floordiv(K, 2),), "int")
SHORT = {"label": HostTable(np.array([0, 1]))}


def test_an_index_that_is_reached_outside_its_table_is_refused() -> None:
    message = r"index 2 is outside dimension `block` \(number 0\) of table `label`"
    with pytest.raises(OutOfTableError, match=message) as caught:
        evaluate(f.equal(LABEL, c(0)), (BLOCKS,), CallShape(6, 6), SHORT)
    assert (caught.value.axis, caught.value.value, caught.value.size, caught.value.pair) == (0, 2, 2, (0, 0, 0, 4))


@pytest.mark.parametrize(
    "guarded",
    [
        f.conjunction(f.less(K, c(4)), f.equal(LABEL, c(0))),
        f.choose(f.less(K, c(4)), f.equal(LABEL, c(0)), f.equal(Q, K)),
        f.choose(f.less(c(3), K), f.equal(Q, K), f.equal(LABEL, c(0))),
        f.filtered(f.less(K, c(4)), f.plus(f.equal(LABEL, c(0)), f.equal(Q, K))),
        f.conjunction(f.less(K, c(4)), f.disjunction(f.equal(Q, K), f.equal(LABEL, c(0)))),
    ],
)
def test_an_index_that_is_not_reached_reads_nothing(guarded: Expr) -> None:
    mask = evaluate(guarded, (BLOCKS,), CallShape(6, 6), SHORT)
    assert (mask[0, 0, :, :2] > 0).all()


@pytest.mark.parametrize(
    "unguarded",
    [
        f.conjunction(f.equal(LABEL, c(0)), f.less(K, c(4))),
        f.disjunction(f.less(K, c(4)), f.equal(LABEL, c(0))),
        f.choose(f.equal(LABEL, c(0)), f.less(K, c(4)), TRUE),
        f.disjunction(f.conjunction(f.less(K, c(4)), f.equal(LABEL, c(0))), f.equal(LABEL, c(1))),
    ],
)
def test_a_guard_counts_only_from_the_left_and_for_its_own_part(unguarded: Expr) -> None:
    with pytest.raises(OutOfTableError):
        evaluate(unguarded, (BLOCKS,), CallShape(6, 6), SHORT)


def test_negative_indices_do_not_wrap() -> None:
    entry = Entry("label", (f.sub(K, c(1)),), "int")
    with pytest.raises(OutOfTableError, match="index -1 "):
        evaluate(f.equal(entry, c(1)), (BLOCKS,), CallShape(2, 1), SHORT)
    mask = evaluate(f.conjunction(f.less(c(0), K), f.equal(entry, c(1))), (BLOCKS,), CallShape(3, 1), SHORT)
    assert mask[0, 0, 0].tolist() == [False, False, True]


def test_empty_tables_and_empty_calls() -> None:
    none = {"label": HostTable(np.zeros(0, dtype=np.int32))}
    with pytest.raises(OutOfTableError):
        evaluate(f.equal(LABEL, c(0)), (BLOCKS,), CallShape(2, 2), none)
    assert evaluate(f.equal(LABEL, c(0)), (BLOCKS,), CallShape(0, 2), none).shape == (1, 1, 2, 0)
    assert evaluate(f.equal(LABEL, c(0)), (BLOCKS,), CallShape(4, 0), SHORT).shape == (1, 1, 0, 4)


def test_a_score_is_judged_where_it_is_reached_only() -> None:
    score = f.add(LOGIT, f.mul(Entry("bias", (f.sub(Q, K),), "float"), c(2.0)))
    bias = TableValues(Table("bias", "float", (BLOCK,)), np.array([1.0, 2.0, 3.0]))
    logit = np.ones((1, 1, 3, 3))
    kept = np.tril(np.ones((3, 3), dtype=bool))[None, None]
    values = interpret(
        score, environment(NumpyArrays(), 3, 3, 1, np.array([0]), {"bias": bias}, logit=logit, reached=kept)
    )
    assert values[0, 0].tolist() == [[3, 1, 1], [5, 3, 1], [7, 5, 3]]
    with pytest.raises(OutOfTableError):
        interpret(score, environment(NumpyArrays(), 3, 3, 1, np.array([0]), {"bias": bias}, logit=logit))


def test_what_a_mask_cannot_be() -> None:
    with pytest.raises(ValueError, match="this expression is int"):
        evaluate(f.add(Q, K), (), CallShape(2, 2), {})
    with pytest.raises(ValueError, match="q_start"):
        evaluate(TRUE, (), CallShape(2, 2, 1, None), {})
    with pytest.raises(ValueError, match="table `label`"):
        evaluate(TRUE, (BLOCKS,), CallShape(2, 2), {"label": HostTable(None)})
    with pytest.raises(ValueError, match="batch sizes disagree: q_start has 2, label has 3"):
        evaluate(TRUE, (BLOCKS,), CallShape(2, 2, 1, (0, 1)), {"label": HostTable(np.zeros((3, 2), int), batched=True)})


def test_a_shared_expression_costs_its_distinct_parts() -> None:
    number: Expr = Position("q")
    for _ in range(200):  # a tree of 2 ** 200 leaves
        number = f.mod(Apply("add", (number, number), "int"), 1009)
    expected = [q * pow(2, 200, 1009) % 1009 for q in range(5)]
    assert dense(f.equal(number, f.mul(K, c(1))), 5).shape == (1, 1, 5, 5)
    values = interpret(number, environment(NumpyArrays(), 5, 5, 1, np.array([0]), {}))
    assert values[0, 0, :, 0].tolist() == expected


def _random_number(draw: random.Random, depth: int) -> Expr:
    if depth == 0 or draw.random() < 0.2:
        return draw.choice((Q, K, HEAD, N, c(draw.randint(-3, 9)), Entry("label", (draw.choice((Q, K)),), "int")))
    a, b = (_random_number(draw, depth - 1) for _ in range(2))
    scattered = an_opaque(draw)
    return draw.choice(
        (
            lambda: f.add(a, b),
            lambda: f.sub(a, b),
            lambda: f.minimum(a, b),
            lambda: f.maximum(a, b),
            lambda: f.floordiv(a, draw.randint(1, 5)),
            lambda: f.mod(a, draw.randint(1, 5)),
            lambda: f.absolute(a),
            lambda: f.neg(a),
            lambda: f.mul(a, c(draw.randint(-2, 3))),
            lambda: f.mod(f.function(scattered.op, *taken(scattered, (a, b))), 7),
            lambda: f.choose(_random_condition(draw, depth - 1), a, b),
            lambda: Entry("label", (a,), "int"),
        )
    )()


def _random_condition(draw: random.Random, depth: int) -> Expr:
    if depth <= 1 or draw.random() < 0.2:
        a, b = _random_number(draw, depth), _random_number(draw, depth)
        compare = draw.choice((f.less, f.less_equal, f.equal, f.not_equal))
        return draw.choice((compare(a, b), compare(a, b), Member(a, "chosen", (b,))))
    a, b, c3 = (_random_condition(draw, depth - 1) for _ in range(3))
    return draw.choice(
        (
            lambda: f.conjunction(a, b, c3),
            lambda: f.disjunction(a, b, c3),
            lambda: f.negation(a),
            lambda: f.iff(a, b),
            lambda: f.choose(a, b, c3),
        )
    )()


def test_random_expressions_agree_with_one_pair_at_a_time() -> None:
    tables = (Table("label", "int", (BLOCK,)), Table("chosen", "set", (Dimension("fixed", 5),)))
    extent = CallShape(5, 4, 2, (0, 1))
    refused = agreed = 0
    for seed in range(400):
        draw, random_state = random.Random(seed), np.random.default_rng(seed)
        expr = _random_condition(draw, 4)
        if draw.random() < 0.3:
            expr = f.filtered(expr, f.plus(expr, _random_condition(draw, 2), _random_condition(draw, 3)))
        contents = {
            "label": HostTable(random_state.integers(-1, 6, (2, 14)), batched=True),
            "chosen": HostTable(random_state.random((5, 4)) < 0.5),
        }
        try:
            mask = evaluate(expr, tables, extent, contents)
        except OutOfTableError as error:
            with pytest.raises(scalar.OutsideError):
                scalar.value(expr, _pair(extent, tables, contents, *error.pair))
            refused += 1
            continue
        for place in np.ndindex(2, 2, 4, 5):
            assert scalar.value(expr, _pair(extent, tables, contents, *place)) == mask[place], (seed, place)
        agreed += 1
    assert (agreed > 100, refused > 50) == (True, True), (agreed, refused)


def test_random_programs_agree_with_one_pair_at_a_time() -> None:
    looked_at = 0
    for seed in range(100):
        subject = bound(generate(seed, largest=9))
        mask, extent = subject.dense(), subject.program.sizes.extent
        places = list(np.ndindex(mask.shape))
        for place in random.Random(seed).sample(places, min(100, len(places))):
            pair = _pair(extent, subject.attention.tables, dict(subject.contents), *place)
            assert scalar.value(subject.attention.mask, pair) == mask[place], (seed, place)
            looked_at += 1
    assert looked_at > 5000


def _pair(
    extent: CallShape, tables: tuple[Table, ...], contents: dict[str, HostTable], b: int, h: int, row: int, k: int
) -> scalar.Pair:
    assert extent.q_start is not None
    start = extent.q_start[b if len(extent.q_start) > 1 else 0]
    return scalar.Pair(extent, b, h, start + row, k, {t.name: t for t in tables}, contents)
