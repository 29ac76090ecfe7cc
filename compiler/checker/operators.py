"""Checks operators and functions on operands that are evaluated already, and builds the resulting expression.

Every function reports a misuse and returns None for it. An operand that is None has a fault that is reported already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeGuard

from ..diagnostics import Span, Suggestion, at, counted, limits, up_to, words
from ..ir import FALSE, FUNCTIONS, TRUE, Const, Entry, Expr, Operation, Type, constructors
from ..syntax import tree as t
from . import suggestions
from .context import ExprContext
from .values import Scalar, described, holds_integer, is_computed, power_of

NUMBERS = ("int", "float")
PATTERNS = ("bool", "count")
_LONG = 16  # terms; a longer sum of integers is built as one flat node, so that its length adds no nesting
_BEYOND = 2**63  # every integer of a table is below it in magnitude
Operands = Sequence[Scalar | None]


def make_scalar(
    env: ExprContext, kind: Type, constructor: Callable[..., Expr], values: Sequence[Scalar], span: Span
) -> Scalar | None:
    """A scalar of type ``kind`` built from others; None after reporting a number that is too large."""
    expr = env.build(constructor, *[value.expr for value in values], span=span)
    return None if expr is None else Scalar(kind, expr, False not in [value.constant for value in values])


def as_float(env: ExprContext, value: Scalar, span: Span) -> Scalar:
    if value.kind == "float":
        return value
    return Scalar("float", env.elaboration.build(constructors.to_float, (value.expr,), span), value.constant)


def whole(values: Operands) -> TypeGuard[Sequence[Scalar]]:
    """Whether every operand has a value, and none has a fault."""
    return None not in values


def one_kind(env: ExprContext, values: Sequence[Scalar], span: Span) -> list[Scalar]:
    """The numbers converted to one type: all to float if any is a float."""
    if "float" in [value.kind for value in values]:
        return [as_float(env, value, span) for value in values]
    return list(values)


def is_number(env: ExprContext, node: t.Expression, value: Scalar | None, wanted: str = "a number") -> bool:
    """Whether a value is a number; if not, reports it, unless its fault is reported already."""
    if value is None:
        return False
    if value.kind not in NUMBERS:
        helps = ("`a if c else b` makes a number of a condition",) if value.kind == "bool" else ()
        env.fault(
            "not-a-number", f"expected {wanted}, but {words(node.span)} is {described(value)}", node.span, helps=helps
        )
        return False
    return True


def is_integer(env: ExprContext, node: t.Expression, value: Scalar | None, wanted: str) -> bool:
    if not is_number(env, node, value, wanted):
        return False
    assert value is not None
    if value.kind == "float":
        env.fault("not-an-int", f"expected {wanted}, but {words(node.span)} is a float", node.span)
        return False
    return True


def is_condition(env: ExprContext, node: t.Expression, value: Scalar | None, wanted: str) -> bool:
    """Whether a value is a condition; if not, reports it. ``wanted`` starts the message: `` `or` joins conditions``."""
    if value is None:
        return False
    if value.kind == "bool":
        return True
    helps, edits = Suggestion()
    if value.kind == "count":
        slug = "count-misused"
        if "`or`" in wanted or "`any`" in wanted:
            helps = ("`+` and `sum` count a pair once for each part that keeps it",)
    else:
        slug = "not-a-condition"
        if value.kind == "int":
            helps, edits = suggestions.unchosen(node) or suggestions.compared(node)
    message = f"{wanted}, but {words(node.span)} is {described(value)}"
    env.fault(slug, message, node.span, helps=helps, edits=edits)
    return False


def floats_allowed(
    env: ExprContext, node: t.Expression, values: Sequence[Scalar], parts: Sequence[t.Expression]
) -> bool:
    """Whether floats may be calculated with here; if not, reports it. In a mask, they are entries and constants."""
    if env.place.floats or all(value.constant for value in values):
        return True
    run_time = [(part, value) for part, value in zip(parts, values, strict=True) if not value.constant]
    whole = next((part for part, value in run_time if holds_integer(value)), None)
    if whole is None and env.place.tables:
        return True
    of_entries = any(value.kind == "float" for _, value in run_time)
    if of_entries and whole is not None:
        culprit = whole
        message = f"{env.place.phrase} computes with floats apart from integers, but {words(culprit.span)} "
        message += (
            "is an int" if "int" in [value.kind for part, value in run_time if part is whole] else "may be an int"
        )
        notes = ("an int may be compared with an entry of a table, and calculated with in a score, a scale or a sink",)
    else:
        culprit = next(part for part, value in zip(parts, values, strict=True) if value.kind == "float")
        message = f"{env.place.phrase} computes with integers, but {words(culprit.span)} is a float"
        notes = ("a mask computes with floats of tables; integers become floats in a score, a scale or a sink",)
    related = (at(culprit.span),) if culprit is not node else ()
    env.fault("float-in-mask", message, node.span, related=related, notes=notes)
    return False


# Sums and products


def check_sum(env: ExprContext, node: t.Arithmetic, values: Operands) -> Scalar | None:
    """``a + b - c``, a number if they are numbers; ``a + b``, a count, if they are patterns."""
    if not whole(values):
        return None
    kinds = [value.kind in PATTERNS for value in values]
    if False in kinds and True in kinds:
        number, pattern = kinds.index(False), kinds.index(True)
        first, second = node.operands[number], node.operands[pattern]
        message = f"`+` adds numbers or patterns, but {words(first.span)} is {described(values[number])} and "
        message += f"{words(second.span)} is {described(values[pattern])}"
        related = (at(first.span), at(second.span))
        helps = ("conditions joined by `+` stand in parentheses: `(q == k) + (k < 4)`",)
        if isinstance(first, t.Number):
            helps = ("`full` counts every pair once: `causal + full`",)
        env.fault("mixed-sum", message, node.span, related=related, helps=helps)
        return None
    if False in kinds:
        return add_numbers(env, node, values)
    if "-" in node.signs:
        taken = node.operands[node.signs.index("-") + 1]
        message = f"`-` takes numbers, but {words(taken.span)} is {described(values[node.signs.index('-') + 1])}"
        env.fault("not-a-number", message, taken.span, helps=("to leave pairs out, write `… and not …`",))
        return None
    return make_scalar(env, "count", constructors.plus, values, node.span)


def add_numbers(env: ExprContext, node: t.Arithmetic, values: Sequence[Scalar]) -> Scalar | None:
    kind: Type = "float" if "float" in [value.kind for value in values] else "int"
    if kind == "float" and not floats_allowed(env, node, values, node.operands):
        return None
    constant = False not in [value.constant for value in values]
    terms = [value.expr for value in one_kind(env, values, node.span)]
    if kind == "float":
        signed = [terms[0]]
        for sign, term in zip(node.signs, terms[1:], strict=True):
            signed.append(env.elaboration.build(constructors.neg, (term,), node.span) if sign == "-" else term)
        total = env.build(constructors.add, *signed, span=node.span)
    elif len(terms) > _LONG:
        # One sum with negated terms: the positive and the negative terms apart might overflow where the text does not.
        signed = [terms[0]]
        for sign, term in zip(node.signs, terms[1:], strict=True):
            signed.append(env.elaboration.build(constructors.neg, (term,), node.span) if sign == "-" else term)
        total = env.build(constructors.add, *signed, span=node.span)
    else:
        total = terms[0]
        for sign, term, operand in zip(node.signs, terms[1:], node.operands[1:], strict=True):
            made_next = env.build(
                constructors.add if sign == "+" else constructors.sub, total, term, span=up_to(node.span, operand.span)
            )
            if made_next is None:
                return None
            total = made_next
    return None if total is None else Scalar(kind, total, constant)


def check_product(env: ExprContext, node: t.Arithmetic, values: Operands) -> Scalar | None:
    """``a * b // c % d / e``, evaluated from left to right; None after reporting a fault."""
    result, left = values[0], node.operands[0]
    if not is_number(env, left, result, f"a number before `{node.signs[0]}`"):
        result = None
    for sign, right, value in zip(node.signs, node.operands[1:], values[1:], strict=True):
        if not is_number(env, right, value, f"a number after `{sign}`") or result is None:
            result = None
            continue
        assert value is not None
        result = _OPERATIONS[sign](env, node, (left, right), (result, value))
        left = node if result is None else left
    return result


Pair = tuple[Scalar, Scalar]
Nodes = tuple[t.Expression, t.Expression]


def _times(env: ExprContext, node: t.Expression, nodes: Nodes, values: Pair) -> Scalar | None:
    if "float" in (values[0].kind, values[1].kind):
        if not floats_allowed(env, node, values, nodes):
            return None
        return make_scalar(env, "float", constructors.mul, one_kind(env, values, node.span), node.span)
    return make_scalar(env, "int", constructors.mul, values, up_to(node.span, nodes[1].span))


def _over(env: ExprContext, node: t.Expression, nodes: Nodes, values: Pair) -> Scalar | None:
    first, second = values
    if not env.place.floats and not (first.constant and second.constant):
        message = f"`/` makes floats, and {env.place.phrase} computes with integers"
        helps, edits = suggestions.whole_division(*nodes)
        env.fault("float-in-mask", message, node.span, helps=helps, edits=edits)
        return None
    if second.known and isinstance(second.expr, Const) and second.expr.value == 0:
        env.fault("bad-divisor", f"{words(nodes[1].span)} is 0, and nothing can be divided by it", nodes[1].span)
        return None
    both = (as_float(env, first, node.span), as_float(env, second, node.span))
    return make_scalar(env, "float", constructors.div, both, node.span)


def _floored(sign: str) -> Callable[[ExprContext, t.Expression, Nodes, Pair], Scalar | None]:
    def divide(env: ExprContext, node: t.Expression, nodes: Nodes, values: Pair) -> Scalar | None:
        first, second = values
        if not is_integer(env, nodes[0], first, f"an int before `{sign}`"):
            return None
        if not is_integer(env, nodes[1], second, f"an int after `{sign}`"):
            return None
        operation = constructors.floordiv if sign == "//" else constructors.mod
        if isinstance(second.expr, Entry) and not second.expr.indices:  # a run-time number, checked at each call
            return make_scalar(env, "int", operation, values, up_to(node.span, nodes[1].span))
        if not second.constant:
            message = f"the divisor of `{sign}` is a constant or a parameter of type `int[]`, but "
            message += f"{words(nodes[1].span)} is computed at run time"
            helps = ("let the call give the divisor itself: `width: int[]`",)
            env.fault("bad-divisor", message, nodes[1].span, helps=helps)
            return None
        if not isinstance(second.expr, Const):  # it depends on a parameter of which only the type is known
            return env.elaboration.unknown("int", first.constant)
        divisor = int(second.expr.value)
        if divisor < 1:
            value = "" if words(nodes[1].span) == f"`{divisor}`" else f", but {words(nodes[1].span)} is {divisor}"
            env.fault("bad-divisor", f"the divisor of `{sign}` is positive{value}", nodes[1].span)
            return None
        expr = env.build(partial(operation, divisor=divisor), first.expr, span=up_to(node.span, nodes[1].span))
        return None if expr is None else Scalar("int", expr, first.constant)

    return divide


_OPERATIONS: dict[str, Callable[[ExprContext, t.Expression, Nodes, Pair], Scalar | None]] = {
    "*": _times, "/": _over, "//": _floored("//"), "%": _floored("%"),
}  # fmt: skip


def negated(env: ExprContext, node: t.Negative, value: Scalar | None) -> Scalar | None:
    if value is not None and value.kind in PATTERNS:
        message = f"`-` takes a number, but {words(node.operand.span)} is {described(value)}"
        env.fault("not-a-number", message, node.operand.span, helps=("the opposite of a condition is `not …`",))
        return None
    if value is None or (value.kind == "float" and not floats_allowed(env, node, (value,), (node.operand,))):
        return None
    return make_scalar(env, value.kind, constructors.neg, (value,), node.span)


def power(env: ExprContext, node: t.Power, base: Scalar | None, exponent: Scalar | None) -> Scalar | None:
    """The power ``a ** b`` of two constants; None after reporting a fault."""
    good = is_number(env, node.base, base, "a number before `**`")
    if not is_number(env, node.exponent, exponent, "a number after `**`") or not good:
        return None
    assert base is not None
    assert exponent is not None
    for value, part in ((base, node.base), (exponent, node.exponent)):
        if not value.constant:
            message = f"both sides of `**` are constants, but {words(part.span)} is known only at run time"
            env.fault("not-constant", message, part.span)
            return None
    kind: Type = "int" if base.kind == exponent.kind == "int" else "float"
    if not isinstance(base.expr, Const) or not isinstance(exponent.expr, Const):
        return env.elaboration.unknown(kind, constant=True)
    left, right = base.expr.value, exponent.expr.value
    if kind == "int" and right < 0 and env.place.floats:
        kind, left = "float", float(left)
    known = power_of(left, right)
    if isinstance(known, str):
        env.fault("bad-power", f"{words(node.span)} {known}", node.span)
        return None
    return Scalar(kind, Const(known), True)


# Comparisons


def check_comparison(env: ExprContext, node: t.Comparison, values: Operands) -> Scalar | None:
    """``a < b <= c``: one comparison, or a chain in one direction. For ``in`` see :mod:`compiler.checker.sets`."""
    if not whole(values):
        return None
    pairs = []
    for i, sign in enumerate(node.signs):
        pair = _pair(env, node, i, sign, (values[i], values[i + 1]))
        if pair is None:
            return None
        pairs.append(pair)
    return pairs[0] if len(pairs) == 1 else make_scalar(env, "bool", constructors.conjunction, pairs, node.span)


def chain_fault(env: ExprContext, node: t.Comparison) -> bool:
    """Whether comparisons are chained that may not be; reports it if so."""
    signs = node.signs
    if len(signs) == 1 or set(signs) <= {"<", "<="} or set(signs) <= {">", ">="}:
        return False
    odd = next((sign for sign in signs if sign not in ("<", "<=", ">", ">=")), None)
    if odd is None:
        message = "comparisons in a chain point in one direction"
    else:
        message = f"a comparison by `{odd}` stands alone"
    helps, edits = suggestions.conjoined(node)
    env.fault("comparison-chain", message, node.span, helps=helps, edits=edits)
    return True


def _pair(env: ExprContext, node: t.Comparison, i: int, sign: str, values: Pair) -> Scalar | None:
    left, right = node.operands[i], node.operands[i + 1]
    first, second = values
    if sign in ("==", "!=") and first.kind == second.kind == "bool":
        return make_scalar(
            env, "bool", constructors.equal if sign == "==" else constructors.not_equal, values, node.span
        )
    if "count" in (first.kind, second.kind):
        part, value = (left, first) if first.kind == "count" else (right, second)
        message = f"`{sign}` compares numbers, but {words(part.span)} is {described(value)}"
        env.fault("count-misused", message, part.span, notes=("what a count counts is how often a pair is kept",))
        return None
    if "bool" in (first.kind, second.kind):
        part = left if first.kind == "bool" else right
        message = f"`{sign}` compares numbers, but {words(part.span)} is a condition"
        if sign in ("==", "!="):
            message = f"`{sign}` compares two numbers or two conditions, but {words(part.span)} is a condition"
            message += f" and {words((right if part is left else left).span)} is a number"
        env.fault("not-a-number", message, part.span)
        return None
    if sign in (">", ">="):
        return _ordered(env, node, "<" if sign == ">" else "<=", (second, first))
    return _ordered(env, node, sign, values)


def _ordered(env: ExprContext, node: t.Comparison, sign: str, values: Pair) -> Scalar | None:
    first, second = values
    if first.kind != second.kind:
        exact = _against_float(env, node, sign, values)
        if exact is not None:
            return exact
    if not env.place.floats and any(map(is_computed, values)) and any(map(holds_integer, values)):
        spans = [part.span for part in node.operands]
        message = f"{env.place.phrase} compares what it computes with floats, but not with an int of each pair"
        notes = ("an int may be compared with an entry of a table",)
        env.fault("float-in-mask", message, node.span, related=tuple(map(at, spans)), notes=notes)
        return None
    constructor = {
        "<": constructors.less,
        "<=": constructors.less_equal,
        "==": constructors.equal,
        "!=": constructors.not_equal,
    }[sign]
    return make_scalar(env, "bool", constructor, one_kind(env, (first, second), node.span), node.span)


def _against_float(env: ExprContext, node: t.Comparison, sign: str, values: Pair) -> Scalar | None:
    """An integer compared with a known float exactly, by integers only: ``k < 2.5`` is ``k < 3``. None for others."""
    first, second = values
    mirrored = isinstance(first.expr, Const) and first.kind == "float"
    number, constant = (second, first) if mirrored else (first, second)
    if number.constant or not isinstance(constant.expr, Const) or constant.kind != "float":
        return None
    bound = float(constant.expr.value)
    if sign in ("==", "!="):
        if bound != math.floor(bound) or abs(bound) >= _BEYOND:
            return Scalar("bool", TRUE if sign == "!=" else FALSE)
        nearest = Scalar("int", Const(int(bound)), True)
        return make_scalar(
            env, "bool", constructors.equal if sign == "==" else constructors.not_equal, (number, nearest), node.span
        )
    if abs(bound) >= _BEYOND:
        return Scalar("bool", TRUE if (bound > 0) != mirrored else FALSE)
    if mirrored:  # bound < number, bound <= number
        edge = math.floor(bound) if sign == "<" else math.ceil(bound)
        return make_scalar(
            env, "bool", constructors.less if sign == "<" else constructors.less_equal, (_int(edge), number), node.span
        )
    edge = math.ceil(bound) if sign == "<" else math.floor(bound)
    return make_scalar(
        env, "bool", constructors.less if sign == "<" else constructors.less_equal, (number, _int(edge)), node.span
    )


def _int(value: int) -> Scalar:
    return Scalar("int", Const(max(-limits.LARGEST, min(value, limits.LARGEST))), True)


# Conditions


def check_and_or(env: ExprContext, node: t.Junction, values: Operands) -> Scalar | None:
    """``and`` and ``or`` of conditions. In an ``and`` one part may be a count, which the other parts filter."""
    counts = [i for i, value in enumerate(values) if value is not None and value.kind == "count"]
    filtering = node.word == "and" and len(counts) == 1
    good = whole(values)
    for i, (part, value) in enumerate(zip(node.parts, values, strict=True)):
        if filtering and i == counts[0]:
            continue
        if node.word == "and" and len(counts) > 1 and i in counts[:2]:
            continue
        good = is_condition(env, part, value, f"`{node.word}` joins conditions") and good
    if node.word == "and" and len(counts) > 1:
        first, second = node.parts[counts[0]], node.parts[counts[1]]
        env.fault(
            "count-misused", "`and` filters one count by conditions, but both of these are counts", second.span,
            related=(at(first.span, "a count"),), helps=("`+` adds them",),
        )  # fmt: skip
        return None
    if not good or not whole(values):
        return None
    if not filtering:
        return make_scalar(
            env, "bool", constructors.conjunction if node.word == "and" else constructors.disjunction, values, node.span
        )
    conditions = [value for i, value in enumerate(values) if i != counts[0]]
    condition = make_scalar(env, "bool", constructors.conjunction, conditions, node.span)
    return condition and make_scalar(env, "count", constructors.filtered, (condition, values[counts[0]]), node.span)


def check_choice(
    env: ExprContext, node: t.Conditional, condition: Scalar, then: Scalar, otherwise: Scalar
) -> Scalar | None:
    """``then if condition else otherwise``; None after reporting branches of types that do not mix."""
    kinds = {then.kind, otherwise.kind}
    if kinds == {"int", "float"}:
        then, otherwise = (as_float(env, value, node.span) for value in (then, otherwise))
        kinds = {"float"}
    if kinds == {"bool", "count"}:
        kinds = {"count"}
    if len(kinds) > 1:
        message = (
            f"a choice is between two numbers or two patterns, but {words(node.then.span)} is {described(then)} and "
        )
        message += f"{words(node.otherwise.span)} is {described(otherwise)}"
        helps, edits = suggestions.unchosen(node) or Suggestion()
        related = (at(node.then.span), at(node.otherwise.span))
        env.fault("mixed-choice", message, node.span, related=related, helps=helps, edits=edits)
        return None
    return make_scalar(env, kinds.pop(), constructors.choose, (condition, then, otherwise), node.span)


# Functions


def check_call(env: ExprContext, node: t.FunctionCall, values: Operands) -> Scalar | None:
    """A call of a function of the language, checked against its record in the table of operations."""
    name, nodes = node.function.name, node.arguments
    function = FUNCTIONS[name]
    least, most = function.arity
    if len(values) < least or (most is not None and len(values) > most):
        wanted = counted(least, "argument") if most else f"at least {counted(least, 'argument')}"
        env.fault("wrong-arguments", f"`{name}` takes {wanted}, but has {len(values)} here", node.span)
        return None
    if not _each(is_number, env, nodes, values, f"numbers in `{name}`") or not whole(values):
        return None
    if "float" not in function.takes and not _each(is_integer, env, nodes, values, f"ints in `{name}`"):
        return None
    return (_of_floats if function.of_floats else _of_numbers)(env, function, node, values)


def _of_numbers(env: ExprContext, function: Operation, node: t.FunctionCall, values: Sequence[Scalar]) -> Scalar | None:
    """A call of ``abs``, ``min``, ``max``, or of a function of integers only."""
    if "float" in [value.kind for value in values] and not floats_allowed(env, node, values, node.arguments):
        return None
    same = one_kind(env, values, node.span)
    return make_scalar(env, function.type_of(same[0].kind), constructors.constructor_of(function.op), same, node.span)


def _of_floats(env: ExprContext, function: Operation, node: t.FunctionCall, values: Sequence[Scalar]) -> Scalar | None:
    if not env.place.floats and not all(value.constant for value in values):
        message = f"`{function.op}` makes floats, and {env.place.phrase} computes with integers"
        env.fault("float-in-mask", message, node.span)
        return None
    floats = [as_float(env, value, node.span) for value in values]
    domain, first = function.domain, floats[0].expr
    if domain is not None and isinstance(first, Const) and not domain.contains(float(first.value)):
        message = f"`{function.op}` of {words(node.arguments[0].span)} is no number"
        env.fault("bad-argument", message, node.arguments[0].span, notes=(domain.note,))
        return None
    return make_scalar(env, "float", constructors.constructor_of(function.op), floats, node.span)


def _each(
    test: Callable[[ExprContext, t.Expression, Scalar | None, str], bool], env: ExprContext,
    nodes: Sequence[t.Expression], values: Operands, wanted: str,
) -> bool:  # fmt: skip
    """Whether all values pass a test, which reports every one that does not."""
    return False not in [test(env, node, value, wanted) for node, value in zip(nodes, values, strict=True)]
