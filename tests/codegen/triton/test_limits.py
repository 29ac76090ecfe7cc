"""Limits of a walked position: the same pairs as the condition they stand for, at every place that 32 bits can hold."""

from __future__ import annotations

import re
from dataclasses import replace
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from attnc.compiler.codegen.lifting import lift_constants
from attnc.compiler.codegen.triton.limits import Limits, Sum, Walked, find_limits
from attnc.compiler.codegen.triton.render import render_triton
from attnc.compiler.codegen.triton.tuning import make_variant
from attnc.compiler.codegen.triton.variant import TileStep
from attnc.compiler.ir import constructors
from attnc.compiler.ir.expressions import LOGIT, TRUE, Const, Entry, Expr, K, N, Q
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.plan.dtypes import FP16
from attnc.compiler.plan.orders import Axis, View, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from tests.support.generators.random_expressions import Generator, dense

EXTENT = CallShape(13, 11, 2, (2,))
SIDES: tuple[tuple[Walked, Expr], ...] = (("q", Q), ("k", K))


def values(expr: Expr, case: Any = None) -> NDArray[Any]:
    tables, contents, extent = ((), (), EXTENT) if case is None else (case.tables, case.contents, case.extent)
    return dense(expr, tables, contents, extent)


def kept(limits: Limits, walked: Expr, case: Any = None) -> NDArray[Any]:
    """What limits keep, pair by pair."""

    def added(form: Sum) -> NDArray[Any]:
        found = np.asarray(form.constant)
        for sign, term in form.terms:
            found = found + sign * values(term, case).astype(np.int64)
        return found

    place = values(walked, case).astype(np.int64)
    found = values(constructors.conjunction(limits.fixed, limits.walked), case).astype(bool)
    if limits.rest.type == "bool":
        found = found & values(limits.rest, case).astype(bool)
    for form in limits.lower:
        found = found & (place >= added(form))
    for form in limits.upper:
        found = found & (place <= added(form))
    return found


def drawn_sum(draw: Random, depth: int = 2) -> Expr:
    if not depth or draw.random() < 0.3:
        return draw.choice([Q, K, N, Const(draw.randint(-9, 9)), constructors.mul(Const(2), draw.choice([Q, K]))])
    one, other = drawn_sum(draw, depth - 1), drawn_sum(draw, depth - 1)
    match draw.randrange(6):
        case 0:
            return constructors.add(one, other)
        case 1 | 2:
            return constructors.sub(one, other)
        case 3:
            return constructors.neg(one)
        case 4:
            return constructors.absolute(constructors.sub(one, other))
        case _:
            return draw.choice([constructors.maximum, constructors.minimum])(one, other)


def drawn_condition(draw: Random) -> Expr:
    made = []
    for _ in range(draw.randint(1, 4)):
        compare = draw.choice([constructors.less, constructors.less_equal, constructors.equal])
        part = compare(drawn_sum(draw), drawn_sum(draw))
        part = constructors.negation(part) if draw.random() < 0.2 else part
        made.append(part if draw.random() < 0.9 else constructors.disjunction(part, constructors.less(Q, Const(5))))
    return constructors.conjunction(*made)


def test_limits_keep_what_the_condition_keeps() -> None:
    draw, limited = Random(5), 0
    for _ in range(250):
        condition = drawn_condition(draw)
        for name, position in SIDES:
            limits = find_limits(condition, name)
            found, expected = np.broadcast_arrays(kept(limits, position), values(condition).astype(bool))
            assert (found == expected).all(), condition
            limited += limits.any
    assert limited > 120


def test_limits_keep_what_any_condition_keeps() -> None:
    """Masks with tables, counts and everything else that the types allow."""
    for seed in range(150):
        case = Generator(seed).case()
        for name, position in SIDES:
            limits = find_limits(case.mask, name)
            if case.mask.type == "count":
                assert limits.rest == case.mask
                continue
            found, expected = np.broadcast_arrays(kept(limits, position, case), values(case.mask, case).astype(bool))
            assert (found == expected).all(), case.mask


def test_what_limits_are_found() -> None:
    band = constructors.conjunction(
        constructors.less_equal(Const(0), constructors.sub(Q, K)), constructors.less(constructors.sub(Q, K), Const(8))
    )
    assert find_limits(band, "k") == Limits((Sum(((1, Q),), -7),), (Sum(((1, Q),), 0),), TRUE, TRUE, TRUE)
    assert find_limits(band, "q") == Limits((Sum(((1, K),), 0),), (Sum(((1, K),), 7),), TRUE, TRUE, TRUE)
    until = constructors.less(K, Entry("0", (Q,), "int"))
    assert find_limits(until, "k").upper == (Sum(((1, Entry("0", (Q,), "int")),), -1),)
    assert find_limits(until, "q").rest == until
    of_key, of_query = (constructors.equal(constructors.mod(x, 3), Const(1)) for x in (K, Q))
    both = find_limits(constructors.conjunction(of_key, of_query, constructors.less_equal(K, Q)), "k")
    assert (both.walked, both.fixed, both.rest) == (of_key, of_query, TRUE)


def test_many_limits_of_one_comparison_stay_a_condition() -> None:
    many = [constructors.add(Q, Const(i)) for i in range(5)]
    condition = constructors.less(constructors.maximum(K, *many), constructors.minimum(N, *many[1:]))
    assert find_limits(condition, "k").rest == condition


class _Block(np.ndarray[Any, Any]):
    """A block of integers with the methods of Triton's that limits use."""

    def to(self, dtype: Any) -> _Block:
        return self.astype(dtype).view(_Block)


def _block(x: Any, dtype: Any = np.int32) -> _Block:
    return np.asarray(x, dtype).view(_Block)


TL = SimpleNamespace(
    int32=np.int32,
    int64=np.int64,
    uint32=np.uint32,
    uint64=np.uint64,
    full=lambda _shape, value, dtype: _block(value, dtype),
    minimum=lambda a, b: np.minimum(a, b).view(_Block),
    maximum=lambda a, b: np.maximum(a, b).view(_Block),
    where=lambda condition, a, b: np.where(condition, a, b).view(_Block),
    umulhi=lambda a, b: (a.astype(np.uint64) * np.uint64(b) >> np.uint64(32)).astype(np.uint32).view(_Block),
)


def lines(text: str) -> str:
    """The helpers and the lines that compute limits, up to the first that tells what is kept."""
    helpers = re.findall(r"^def _(?:digits|lanes|bits)_\w+\(.*\n(?: .*\n)+", text, re.MULTILINE)
    found = re.findall(r"^ +((?:least0|most0|pair|bit|word|zero|places|keep) = .*)$", text, re.MULTILINE)
    return "\n".join([*helpers, *found[: 1 + next(i for i, line in enumerate(found) if line.startswith("keep"))]])


@pytest.mark.parametrize(("stride", "size"), [(1, 32), (5, 32), (1, 128), (8, 128), (1, 256)])
def test_limits_are_right_where_32_bits_end(stride: int, size: int) -> None:
    """The rendered lines, run in numpy with integers that wrap, against integers of Python's."""
    low, high = Const(3), Const(9)
    distance = constructors.sub(Q, K)
    band = constructors.conjunction(constructors.less_equal(low, distance), constructors.less(distance, high))
    order = natural(size) if stride == 1 else View((Axis(1, stride), Axis(stride, None, size)))
    kernel = Kernel(natural(32), (Segment(order, band),), "store")
    lifted = lift_constants(Program((kernel,), band, LOGIT, None, ())).program
    variant = replace(make_variant("forward", FP16, 16, 16, ()), step=TileStep(32, size))
    text = render_triton(lifted, variant, only="forward_0").text
    code = compile(lines(text), "limits", "exec")
    largest = 2**31 - 2
    assert ("word" in code.co_names) == (size <= 128), "a word has 32 bits"
    lanes, places = np.arange(32), np.arange(size)
    extremes = (-(2**31), -(2**31) + 1, -40, -1, 0, 1, 33, largest - 40, largest, 2**31 - 1)
    for first in (0, 17, 4096, largest - 31):
        for aligned in (0, size, 4096, (largest - size * stride) // size * size):
            start = aligned if stride == 1 else aligned + 3  # an order in steps of several tokens begins anywhere
            for w in extremes:
                for v in extremes:
                    names: dict[str, Any] = {
                        "tl": TL, "q": _block(first + lanes[:, None]), "n_tokens": np.int32(largest - 3),
                        "number0": np.int32(w), "number1": np.int32(v), "start": np.int32(start),
                        "column0_lanes": _block(places * stride), "column0_digit1": _block(places),
                        "column0_shift": np.int32(start),
                    }  # fmt: skip
                    exec(code, names)  # noqa: S102 - lines that the renderer made
                    q = first + lanes.astype(object)[:, None]
                    k = start + places.astype(object)[None, :] * stride
                    expected = (w <= q - k) & (q - k < v) & (k < largest - 3)
                    assert (names["keep"] == expected).all(), (first, start, w, v)
