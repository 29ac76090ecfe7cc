"""For all n at once, by isl: the normal form of a mask and the program of a pattern keep each pair as the mask does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import zip_longest
from random import Random

import islpy as isl
import numpy as np
import pytest

from attnc.compiler.analysis.normal_form import Term, apart, guarded, normalise, parts
from attnc.compiler.arrange.search import arrange
from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import Attention
from attnc.compiler.ir.expressions import FALSE, Apply, Const, Entry, Expr, K, Member, Position, Q
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.ir.printer import expression
from attnc.compiler.modules.loader import bind, bound_tests, load_shipped
from attnc.compiler.plan.orders import Axis, Box, Gathered, Order, Tiles, View
from attnc.compiler.plan.programs import Program, Segment
from attnc.compiler.proofs.affine_sets import Pairs, bounded_steps, free
from tests.support.generators.random_expressions import Generator, dense
from tests.support.generators.walked_masks import drawn_case, forced
from tests.support.shipped_files import EVERY_KIND

PRELUDE: dict[str, dict[str, int]] = {
    "full": {}, "causal": {}, "window": {"size": 512}, "causal_window": {"size": 4096, "dilation": 2},
    "band": {"left": 1000, "right": 200}, "sees_all": {}, "seen_by_all": {}, "global_tokens": {}, "first": {"count": 4},
    "prefix": {}, "blocks": {"size": 500}, "block_band": {"size": 128, "left": 3, "right": 0},
    "chunked": {"size": 8192}, "strided": {"stride": 128}, "fixed": {"stride": 128, "summary": 8}, "documents": {},
    "padded": {}, "grid_window": {"width": 64, "rows": 3, "cols": 3}, "random_blocks": {"size": 64, "percent": 2},
}  # fmt: skip
NAMES = sorted(EVERY_KIND | {"std"})
# Drawn masks of a block of tests that may stay undecided: unions of up to 16 conjunctions of grids, blocks and
# remainders that share no period, with the complement of which isl has not done after its steps.
MOST_UNDECIDED = 3


@lru_cache(maxsize=1)
def shipped() -> dict[str, Attention]:
    """The prelude, and what the tests of each shipped pattern speak of with its constants; each mask once."""
    found: dict[str, Attention] = {}
    for name, constants in PRELUDE.items():
        subject = bind(load_shipped("std"), name, constants)
        assert isinstance(subject, Attention)
        found[name] = subject
    found |= {test.title: test.subject for name in NAMES for test in bound_tests(load_shipped(name))}
    once = {attention.mask: name for name, attention in reversed(found.items())}
    return {name: attention for name, attention in found.items() if once[attention.mask] == name}


def miscounted(pairs: Pairs, mask: Expr, split: Callable[[Expr], tuple[Expr, ...]] = parts) -> bool:
    """Whether the parts of a mask do not add up to it: by what a sum, a filter and a choice of counts are."""
    pieces = [pairs.where(part) for part in split(mask)]
    branches: tuple[tuple[isl.Set, Expr], ...]
    match mask:
        case Apply(op="plus", args=args):
            return any(miscounted(pairs, x) for x in args) or split(mask) != tuple(p for x in args for p in parts(x))
        case Apply(op="filter", args=(test, count)):
            branches = ((pairs.where(test), count), (pairs.fails(test), FALSE))
        case Apply(op="if", args=(test, then, otherwise), type="count"):
            branches = ((pairs.where(test), then), (pairs.fails(test), otherwise))
        case _:
            return split(mask) != (mask,)
    for there, branch in branches:
        its = zip_longest(pieces, map(pairs.where, parts(branch)), fillvalue=pairs.where(FALSE))
        if miscounted(pairs, branch) or any(not a.intersect(there).is_equal(b.intersect(there)) for a, b in its):
            return True
    return False


@bounded_steps()
def normal_form_fault(mask: Expr, form: tuple[tuple[Term, ...], ...]) -> str | None:
    """What is wrong with terms as the normal form of a mask, for some n, head, pair, or contents of tables."""
    pairs = Pairs([mask])
    if miscounted(pairs, mask):
        return "the parts do not add up"
    for piece, its in zip(parts(mask), form, strict=True):
        found = pairs.where(FALSE)
        for place, term in enumerate(its):
            own = pairs.where(guarded(term, its[:place]))
            if not own.is_disjoint(found):
                return "guarded terms meet"
            found = found.union(own)
        if not found.is_subset(pairs.where(piece)):
            return "the terms have a pair too many"
        if not pairs.all.subtract(found).is_disjoint(pairs.where(piece)):
            return "the terms lose a pair"
        for place, term in enumerate(its):
            for other in its[:place]:
                met = pairs.where(term.condition).intersect(pairs.where(other.condition))
                if apart(other.conjuncts, term.conjuncts) and not met.is_empty():
                    return "terms that are called apart meet"
    return None


def test_isl_and_the_dense_mask_have_the_same_pairs() -> None:
    """What the proofs rest on: conditions and counts as isl has them, at a length at which all can be looked at."""
    start = 3
    extent = CallShape(7, 6, heads=2, q_start=(start,))
    compared = 0
    for seed in range(400):
        mask = Generator(seed).case().mask
        if free(mask):
            continue
        pairs = Pairs([mask])
        counts = dense(mask, (), (), extent)[0].astype(np.int64)
        found = counted(pairs, mask, counts.shape, start)
        np.testing.assert_array_equal(found, counts, err_msg=f"seed {seed}: {expression(mask)}")
        compared += 1
    assert compared > 100


def counted(pairs: Pairs, mask: Expr, shape: tuple[int, int, int], start: int) -> np.ndarray:
    """How often isl counts each pair, [heads, m, n]."""
    found = np.zeros(shape, np.int64)
    value, (heads, m, n) = pairs.value(mask), shape
    here = isl.Set(f"[n, head, heads] -> {{ [q, k] : n = {n} and heads = {heads} and {start} <= q < {start + m} }}")
    for count in range(1, 10):
        points: list[isl.Point] = []
        level = value.eq_set(pairs.value(Const(count))).intersect(pairs.all).intersect(here)
        level.move_dims(isl.dim_type.set, 0, isl.dim_type.param, 1, 1).foreach_point(points.append)
        for point in points:
            head, q, k = (point.get_coordinate_val(isl.dim_type.set, place).to_python() for place in range(3))
            found[head, q - start, k] = count
    return found


def test_what_is_not_affine_may_have_any_value() -> None:
    label, other = Entry("0", (Q,), "int"), Entry("0", (K,), "int")
    same, chosen = constructors.equal(label, other), Member(K, "1", ())
    pairs = Pairs([constructors.conjunction(same, chosen), constructors.mul(Q, K)])
    both = pairs.where(constructors.conjunction(same, chosen))
    assert both.is_strict_subset(pairs.where(same))
    assert both.is_strict_subset(pairs.where(chosen))
    assert pairs.where(constructors.conjunction(constructors.less(label, other), same)).is_empty()
    assert pairs.where(constructors.less(label, constructors.add(label, Const(1)))).is_equal(pairs.all)


@pytest.mark.parametrize("name", shipped())
def test_the_terms_of_a_shipped_pattern_are_it(name: str) -> None:
    mask = shipped()[name].mask
    assert normal_form_fault(mask, normalise(mask)) is None


@pytest.mark.parametrize("block", range(5))
def test_the_terms_of_a_generated_mask_are_it(block: int) -> None:
    undecided = 0
    for seed in range(block * 10, block * 10 + 5):
        for mask in (Generator(seed).case().mask, drawn_case(seed).mask):
            try:
                assert normal_form_fault(mask, normalise(mask)) is None, f"seed {seed}: {expression(mask)}"
            except isl.Error:
                undecided += 1
    assert undecided <= MOST_UNDECIDED


def test_wrong_terms_are_found() -> None:
    near, far = (
        constructors.less_equal(constructors.absolute(constructors.sub(Q, K)), Const(9)),
        constructors.equal(constructors.mod(Q, 5), Const(4)),
    )
    mask = constructors.disjunction(near, far)
    form = normalise(mask)
    window = form[0][0]
    assert normal_form_fault(mask, form) is None
    assert normal_form_fault(mask, ((window,),)) == "the terms lose a pair"
    assert normal_form_fault(near, form) == "the terms have a pair too many"
    late = constructors.substitute(
        mask, {Const(9): constructors.choose(constructors.less(Const(10**6), K), Const(8), Const(9))}
    )
    assert normal_form_fault(late, form) == "the terms have a pair too many"  # for some n, far from all samples
    assert normal_form_fault(constructors.plus(near, far), normalise(constructors.plus(near, near))) is not None


def test_a_miscount_is_found() -> None:
    near, far = (
        constructors.less_equal(constructors.absolute(constructors.sub(Q, K)), Const(9)),
        constructors.equal(constructors.mod(Q, 5), Const(4)),
    )
    mask = constructors.choose(constructors.less(Q, K), constructors.plus(near, far), far)
    assert not miscounted(Pairs([mask]), mask)
    assert miscounted(Pairs([mask]), mask, lambda x: parts(x)[::-1])
    assert miscounted(Pairs([mask]), mask, lambda x: parts(x)[:1])
    total = constructors.plus(near, far)
    assert miscounted(Pairs([total]), total, lambda x: parts(x)[:1])


def walked(order: Order, side: Position, pairs: Pairs) -> isl.Set:
    """The pairs whose token of one side an order has; for boxes, those whose key is in the box of their query."""
    match order:
        case Gathered(condition=condition):
            return pairs.where(condition)
        case View(axes=axes, offset=offset):
            along = [f"x{place}" for place in range(len(axes))]
            limits = [f"0 <= {x} < {axis.length}" for x, axis in zip(along, axes, strict=True) if axis.length]
            limits += [f"0 <= {x}" for x, axis in zip(along, axes, strict=True) if not axis.length]
            limits.append(f"{side.name} = {_sum(axes, along)} + {offset}")
            found = isl.Set(f"{{ [q, k] : exists {', '.join(along)} : {' and '.join(limits)} }}")
            return found.intersect(pairs.all)
        case Box():
            return _boxed(order).intersect(pairs.all)
    return pairs.all


def _sum(axes: tuple[Axis, ...], along: list[str]) -> str:
    return " + ".join(f"{axis.stride} * {x}" for axis, x in zip(axes, along, strict=True))


def _boxed(box: Box) -> isl.Set:
    axes = box.view.axes
    names = {letter: [f"{letter}{place}" for place in range(len(axes))] for letter in "xyz"}
    limits = [f"{side} = {_sum(axes, names[x])} + {box.view.offset}" for side, x in (("q", "x"), ("k", "y"))]
    for axis, before, after, x, y, z in zip(axes, box.before, box.after, *names.values(), strict=True):
        limits += [f"{axis.tile} * {z} <= {x} < {axis.tile} * {z} + {axis.tile} and {x} >= 0 and {y} >= 0"]
        limits += [f"{axis.tile} * {z} - {before} <= {y} < {axis.tile} * {z} + {axis.tile} + {after}"]
        limits += [f"{x} < {axis.length} and {y} < {axis.length}"] if axis.length else []
    inner = ", ".join(name for each in names.values() for name in each)
    return isl.Set(f"{{ [q, k] : exists {inner} : {' and '.join(limits)} }}")


@bounded_steps()
def program_fault(program: Program) -> str | None:
    """What is wrong with the kernels of a mask without counts, for some n, pair, or contents of tables."""
    segments = [(kernel, segment) for kernel in program.kernels for segment in kernel.segments]
    orders = [order for kernel, segment in segments for order in (kernel.rows, segment.keys)]
    listed = [order.condition for order in orders if isinstance(order, Gathered)]
    pairs = Pairs([program.mask, *listed])
    found = pairs.where(FALSE)
    for kernel, segment in segments:
        sides = walked(kernel.rows, Q, pairs).intersect(walked(segment.keys, K, pairs))
        own = sides.intersect(pairs.where(constructors.conjunction(kernel.owned_rows, segment.condition)))
        if not own.is_disjoint(found):
            return "a pair is counted twice"
        found = found.union(own).coalesce()
    if not found.is_subset(pairs.where(program.mask)):
        return "a pair too many"
    return None if pairs.where(program.mask).is_subset(found) else "a pair is lost"


# What a segment holds of a count is told by its part, which its kernel does not name: tests of pairs count these.
OF_CONDITIONS = [name for name, attention in shipped().items() if attention.mask.type == "bool"]


@pytest.mark.parametrize("name", OF_CONDITIONS)
def test_the_program_of_a_shipped_pattern_keeps_each_pair_once(name: str) -> None:
    assert program_fault(arrange(shipped()[name], Tiles(64, 64))) is None


@pytest.mark.parametrize("block", range(2))
def test_the_program_of_a_generated_mask_keeps_each_pair_once(block: int) -> None:
    undecided = 0
    for seed in range(block * 25, block * 25 + 25):
        case = drawn_case(seed)
        if case.mask.type == "count":
            continue
        program = forced(case.mask, case.tables, Random(seed), Tiles(8, 4, 2))
        try:
            assert program_fault(program) is None, f"seed {seed}: {expression(case.mask)}"
        except isl.Error:
            undecided += 1
    assert undecided <= MOST_UNDECIDED


def test_wrong_programs_are_found() -> None:
    program = arrange(shipped()["fixed"], Tiles(64, 64))
    (kernel,) = program.kernels
    natural_keys, summaries = kernel.segments
    assert isinstance(summaries.keys, View)

    def of(*segments: Segment) -> str | None:
        return program_fault(replace(program, kernels=(replace(kernel, segments=segments),)))

    assert of(natural_keys, summaries) is None
    assert of(natural_keys) == "a pair is lost"
    assert of(natural_keys, summaries, summaries) == "a pair is counted twice"
    shifted = replace(summaries.keys, offset=119)
    assert of(natural_keys, replace(summaries, keys=shifted)) == "a pair too many"
    assert of(natural_keys, replace(summaries, condition=constructors.less(K, Q))) == "a pair is counted twice"
    neighbours = arrange(shipped()["grid_window"], Tiles(64, 64))
    (kernel,) = neighbours.kernels
    (boxes,) = kernel.segments
    assert isinstance(boxes.keys, Box)
    narrow = replace(boxes, keys=replace(boxes.keys, before=(2, 3)))
    assert program_fault(replace(neighbours, kernels=(replace(kernel, segments=(narrow,)),))) == "a pair is lost"
