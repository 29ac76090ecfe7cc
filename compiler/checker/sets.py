"""Checks ranges, sets and membership on operands that are evaluated already."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import itemgetter

from ..diagnostics import Span, Suggestion, limits, words
from ..ir import Const, Expr, Member, constructors, measure
from ..syntax import tree as t
from . import suggestions
from .context import ExprContext
from .operators import is_integer
from .values import ConstantSet, ListValue, OpenSet, Scalar, TableSet, TableValue, Value, described, runs_of

Bounds = tuple[Scalar, Scalar]
_MOST_CHECKED_RUNS = 8  # a set of more runs is not expanded while a declaration is checked by itself
_NODES_OF_A_RUN = 5  # or, and, two comparisons, two bounds; the element comes on top, twice


def interval(env: ExprContext, node: t.Range, low: Scalar | None, high: Scalar | None) -> Bounds | None:
    """The bounds, both included, of ``a..b`` or ``a..<b``; None after reporting a fault."""
    good = is_integer(env, node.low, low, "an int before `..`")
    if not is_integer(env, node.high, high, "an int after `..`") or not good:
        return None
    assert low is not None
    assert high is not None
    if not node.closed:
        last = env.build(constructors.sub, high.expr, Const(1), span=node.high.span)
        if last is None:
            return None
        high = Scalar("int", last, high.constant)
    return low, high


def gathered(ranges: Sequence[Bounds | None]) -> ConstantSet | OpenSet | None:
    """The union of closed ranges: constant if all bounds are. None if a range has a fault."""
    known: list[Bounds] = []
    for bounds in ranges:
        if bounds is None:
            return None
        known.append(bounds)
    if not all(low.constant and high.constant for low, high in known):
        return OpenSet(tuple((low.expr, high.expr) for low, high in known))
    runs: list[tuple[int, int]] = []
    for low, high in known:
        if not isinstance(low.expr, Const) or not isinstance(high.expr, Const):
            return ConstantSet(None)
        runs.append((int(low.expr.value), int(high.expr.value)))
    return ConstantSet(runs_of(runs))


def membership(env: ExprContext, node: t.Comparison, element: Scalar | None, container: Value | None) -> Scalar | None:
    """The condition ``x in S`` or ``x not in S``; None after reporting a fault."""
    left = node.operands[0]
    good = is_integer(env, left, element, f"an int before `{node.signs[0]}`")
    if container is None or not good:
        return None
    assert element is not None
    found = _contains(env, node, element, container)
    if found is None or node.signs[0] == "in":
        return found
    return Scalar("bool", env.elaboration.build(constructors.negation, (found.expr,), node.span), found.constant)


def _contains(env: ExprContext, node: t.Comparison, element: Scalar, container: Value) -> Scalar | None:
    x, span = element.expr, node.span
    match container:
        case ConstantSet(runs=None):
            return env.elaboration.unknown("bool", element.constant)
        case ConstantSet(runs=runs, parameter=parameter) if runs is not None:
            if isinstance(x, Const):
                place = bisect_right(runs, x.value, key=itemgetter(0))
                return Scalar("bool", Const(place > 0 and x.value <= runs[place - 1][1]), True)
            size = len(runs) * (_NODES_OF_A_RUN + 2 * measure(x)[0])
            if size > limits.NODES:
                helps: tuple[str, ...] = (
                    (f"declare `{parameter}: tokens`, a set given at run time",) if parameter else ()
                )
                env.elaboration.overflow(span, helps)
            if env.elaboration.checking and len(runs) > _MOST_CHECKED_RUNS:
                return env.elaboration.unknown("bool", element.constant)
            ranges = [(Const(low), Const(high)) for low, high in runs]
            return Scalar("bool", _within(env, x, ranges, span), element.constant)
        case OpenSet(ranges=bounds):
            return Scalar("bool", _within(env, x, bounds, span))
        case TableValue(element="set", dimensions=(), name=name):
            return Scalar("bool", Member(x, name, (), span=span))
        case TableSet(table=table, indices=indices):
            return Scalar("bool", Member(x, table, indices, span=span))
    right = node.operands[1].span
    helps, edits = Suggestion()
    if isinstance(node.operands[1], t.ListLiteral):
        helps, edits = suggestions.braced(node.operands[1])
    elif isinstance(container, ListValue):
        helps = ("a set stands in braces where it is declared: `const NAME = {0, 3}`",)
    elif isinstance(container, TableValue) and container.element == "set":
        helps = (f"choose one of its sets: `{container.name}[…]`",)
    elif isinstance(container, Scalar) and container.kind == "int":
        helps = ("a set of one number stands in braces: `k in {4}`", "a range is a set: `k in 0..3`")
    message = f"after `{node.signs[0]}` stands a set, but {words(right)} is {described(container)}"
    env.fault("not-a-set", message, right, helps=helps, edits=edits)
    return None


def _within(env: ExprContext, x: Expr, ranges: Sequence[tuple[Expr, Expr]], span: Span) -> Expr:
    build = env.elaboration.build
    parts = []
    for low, high in ranges:
        if low == high:
            parts.append(build(constructors.equal, (x, low), span))
        else:
            above, below = (
                build(constructors.less_equal, (low, x), span),
                build(constructors.less_equal, (x, high), span),
            )
            parts.append(build(constructors.conjunction, (above, below), span))
    return build(constructors.disjunction, tuple(parts), span)


def domain(env: ExprContext, node: t.Comprehension, container: Value | None) -> ConstantSet | None:
    """The constant set that a comprehension iterates over; None after reporting a domain that is anything else."""
    if container is None or isinstance(container, ConstantSet):
        return container
    run_time = isinstance(container, OpenSet | TableSet | TableValue)
    actual = "known only at run time" if run_time else described(container)
    message = f"`{node.function}` runs over a constant set, but {words(node.domain.span)} is {actual}"
    if not run_time:
        env.fault("not-a-set", message, node.domain.span, helps=("a range is a set: `0..3`",))
        return None
    helps: tuple[str, ...] = ()
    if isinstance(container, TableValue) and container.element == "set" and not container.dimensions:
        helps = (f"declare `{container.name}: set`, a constant",)
    env.fault("not-constant", message, node.domain.span, helps=helps)
    return None


def members(runs: tuple[tuple[int, int], ...]) -> Iterator[int]:
    for low, high in runs:
        yield from range(low, high + 1)
