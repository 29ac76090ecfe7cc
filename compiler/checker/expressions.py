"""Evaluates an expression of the text: looks names up, applies patterns, expands comprehensions.

The same code checks a declaration by itself, knowing only the types of its parameters, and binds it once they have
values. Checking visits every branch and expands nothing. Binding visits only what is evaluated: the branch chosen by a
constant condition, and an ``and`` or ``or`` up to the part that decides it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..diagnostics import ErrorCollector, Suggestion, limits, words
from ..ir import FALSE, LOGIT, TRUE, Const, constructors
from ..syntax import tree as t
from . import suggestions
from .arguments import bind_arguments
from .context import CONSTANT, MASK, Elaboration, ExprContext, Local, definition_of, position
from .operators import (
    PATTERNS,
    chain_fault,
    check_and_or,
    check_call,
    check_choice,
    check_comparison,
    check_product,
    check_sum,
    is_condition,
    is_integer,
    is_number,
    negated,
    power,
)
from .scope import Definition
from .sets import domain, gathered, interval, members, membership
from .tables import chosen_entry, item, number_of
from .values import ConstantSet, ListValue, Scalar, TableValue, Value, described


def elaborate(node: t.Expression, env: ExprContext) -> Value | None:
    """The value of an expression; None after reporting what is wrong with it. Raises LimitExceeded past a limit."""
    work = env.elaboration
    work.visits += 1
    if work.visits > limits.NODES or work.depth > limits.EXPANDED_NESTING:
        work.stop(node.span)
    work.depth += 1
    value = _HANDLERS[type(node)](node, env)
    work.depth -= 1
    return value


def scalar(node: t.Expression, env: ExprContext) -> Scalar | None:
    """The value of an expression that has to be a number, a condition or a count; None after reporting a fault."""
    value = elaborate(node, env)
    if value is None or isinstance(value, Scalar):
        return value
    if isinstance(value, TableValue) and not value.dimensions and value.element in ("int", "float"):
        return number_of(env, value, node)
    helps: tuple[str, ...] = ()
    if isinstance(value, TableValue) and value.dimensions:
        helps = (f"choose an entry: `{value.name}[{', '.join('…' for _ in value.dimensions)}]`",)
    elif not isinstance(value, ListValue):
        helps = ("ask whether something is in it: `k in …`",)
    message = f"expected a number or a condition, but {words(node.span)} is {described(value)}"
    env.fault("not-a-value", message, node.span, helps=helps)
    return None


def pattern(node: t.Expression, env: ExprContext, wanted: str) -> Scalar | None:
    """The value of an expression that has to be a condition or a count. ``wanted`` begins the message if it is not."""
    value = scalar(node, env)
    if value is None or value.kind in PATTERNS:
        return value
    helps, edits = Suggestion()
    if value.kind == "int" and isinstance(node, t.Arithmetic):
        helps, edits = suggestions.bounded(node)
    elif value.kind == "int":
        helps, edits = suggestions.unchosen(node) or Suggestion()
    message = f"{wanted}, but {words(node.span)} is a number"
    env.fault("not-a-condition", message, node.span, f"this is {described(value)}", helps=helps, edits=edits)
    return None


def number(node: t.Expression, env: ExprContext, wanted: str) -> Scalar | None:
    """The value of an expression that has to be a number; None after reporting a fault."""
    value = scalar(node, env)
    return value if is_number(env, node, value, wanted) else None


def constant_integer(node: t.Expression, env: ExprContext, wanted: str) -> Scalar | None:
    """The value of an expression that has to be a constant int, though it may not be known yet; None after a fault."""
    value = scalar(node, env)
    if not is_integer(env, node, value, wanted):
        return None
    assert value is not None
    if not value.constant:
        env.fault("not-constant", f"expected {wanted}, but {words(node.span)} is known only at run time", node.span)
        return None
    return value


def read_locals(bindings: tuple[t.Binding, ...], env: ExprContext) -> None:
    """Enter the names of a ``where``, in order. The faults of each are reported only where the name is used."""
    outside = env.elaboration.reports
    env.elaboration.later = {binding.name.name: binding.name.span for binding in bindings}
    for binding in bindings:
        name = binding.name
        if name.name in env.local:
            _report_hidden(name, env)
            continue
        env.elaboration.reports = ErrorCollector(outside)
        value = elaborate(binding.value, env)
        env.local[name.name] = Local(value, tuple(env.elaboration.reports.found))
        env.elaboration.reports = outside
        env.elaboration.later.pop(name.name, None)
    env.elaboration.later = {}


def _report_hidden(name: t.Identifier, env: ExprContext) -> None:
    notes = ("a local name may hide a declaration, never another one",)
    env.fault("hidden-name", f"`{name.name}` is a name here already", name.span, notes=notes)


# Leaves and names


def _number(node: t.Number, _: ExprContext) -> Value:
    return Scalar("float" if isinstance(node.value, float) else "int", Const(node.value), True)


def _truth(node: t.Truth, _: ExprContext) -> Value:
    return Scalar("bool", Const(node.value), True)


def _builtin(node: t.Builtin, env: ExprContext) -> Value | None:
    name = node.name
    if name not in env.place.positions:
        meaning = "`s` is the logit" if name == "s" else f"`{name}` is not known"
        message = f"{meaning}, and stands in a score only" if name == "s" else f"{meaning} in {env.place.phrase}"
        env.fault("misplaced-position", message, node.span)
        return None
    if name in env.positions:
        return env.positions[name]
    return _POSITIONS[name]


_POSITIONS = {name: Scalar("int", position(name)) for name in ("q", "k", "n", "head", "heads")}
_POSITIONS["s"] = Scalar("float", LOGIT)


def _name(node: t.Name, env: ExprContext) -> Value | None:
    found = _local(node.name, env)
    if found is not _MISSING:
        return found
    definition = env.scope.find(node.name)
    if definition is not None and definition.value is not None:
        return definition.value
    return apply(t.Identifier(node.name, node.span), (), node, env)


_MISSING: Any = object()


def _local(name: str, env: ExprContext) -> Value | None:
    """The value of a local name; ``_MISSING`` if there is none of that name."""
    if name not in env.local:
        missing: Value | None = _MISSING
        return missing
    value = env.local[name]
    if isinstance(value, Local):
        env.elaboration.used.add(name)
        env.elaboration.reports.extend(value.faults)
        return value.value
    return value


# Operators


def _several(nodes: tuple[t.Expression, ...], env: ExprContext) -> list[Scalar | None]:
    return [scalar(node, env) for node in nodes]


def _arithmetic(node: t.Arithmetic, env: ExprContext) -> Value | None:
    values = _several(node.operands, env)
    return (check_sum if node.signs[0] in "+-" else check_product)(env, node, values)


def _negative(node: t.Negative, env: ExprContext) -> Value | None:
    return negated(env, node, scalar(node.operand, env))


def _power(node: t.Power, env: ExprContext) -> Value | None:
    return power(env, node, scalar(node.base, env), scalar(node.exponent, env))


def _comparison(node: t.Comparison, env: ExprContext) -> Value | None:
    if chain_fault(env, node):
        return None
    if node.signs[0] in ("in", "not in"):
        return membership(env, node, scalar(node.operands[0], env), elaborate(node.operands[1], env))
    return check_comparison(env, node, _several(node.operands, env))


def _junction(node: t.Junction, env: ExprContext) -> Value | None:
    if env.elaboration.checking:
        return check_and_or(env, node, _several(node.parts, env))
    settled = FALSE if node.word == "and" else TRUE
    values: list[Scalar | None] = []
    for part in node.parts:
        values.append(scalar(part, env))
        value = values[-1]
        if value is not None and value.kind == "bool" and value.expr == settled:
            if all(value is not None and value.kind in PATTERNS for value in values):
                return value
            break  # the parts to its right are not evaluated
    if len(values) < len(node.parts):
        node = t.Junction(node.word, node.parts[: len(values)], node.span)
    return check_and_or(env, node, values)


def _not(node: t.Not, env: ExprContext) -> Value | None:
    value = scalar(node.operand, env)
    if not is_condition(env, node.operand, value, "`not` takes a condition"):
        return None
    assert value is not None
    return Scalar("bool", env.elaboration.build(constructors.negation, (value.expr,), node.span), value.constant)


def _conditional(node: t.Conditional, env: ExprContext) -> Value | None:
    condition = scalar(node.condition, env)
    good = is_condition(env, node.condition, condition, "after `if` stands a condition")
    if not env.elaboration.checking and condition is not None and good and isinstance(condition.expr, Const):
        return elaborate(node.then if condition.expr.value else node.otherwise, env)
    then, otherwise = elaborate(node.then, env), elaborate(node.otherwise, env)
    if condition is None or not good or then is None or otherwise is None:
        return None
    if condition.constant and isinstance(then, ConstantSet) and isinstance(otherwise, ConstantSet):
        return ConstantSet(None)
    if condition.constant and isinstance(then, TableValue | ListValue) and type(then) is type(otherwise):
        return then
    first, second = _as_scalar(then, node.then, env), _as_scalar(otherwise, node.otherwise, env)
    return None if first is None or second is None else check_choice(env, node, condition, first, second)


def _as_scalar(value: Value, node: t.Expression, env: ExprContext) -> Scalar | None:
    if isinstance(value, Scalar):
        return value
    if isinstance(value, TableValue) and not value.dimensions and value.element in ("int", "float"):
        return number_of(env, value, node)
    message = f"a choice is between two numbers or two patterns, but {words(node.span)} is {described(value)}"
    env.fault("mixed-choice", message, node.span)
    return None


def _function_call(node: t.FunctionCall, env: ExprContext) -> Value | None:
    return check_call(env, node, _several(node.arguments, env))


# Sets and lists


def _range(node: t.Range, env: ExprContext) -> Value | None:
    return gathered([interval(env, node, scalar(node.low, env), scalar(node.high, env))])


def _set_literal(node: t.SetLiteral, env: ExprContext) -> Value | None:
    ranges = []
    for member in node.members:
        if isinstance(member, t.Range):
            ranges.append(interval(env, member, scalar(member.low, env), scalar(member.high, env)))
            continue
        value = scalar(member, env)
        good = is_integer(env, member, value, "an int or a range of ints in a set")
        ranges.append((value, value) if good and value is not None else None)
    return gathered(ranges)


def _list_literal(node: t.ListLiteral, env: ExprContext) -> Value | None:
    items: list[Value] = []
    good = True
    for part in node.items:
        value = elaborate(part, env)
        if value is not None and not _constant(value):
            message = f"a list is of constants, but {words(part.span)} is known only at run time"
            env.fault("not-constant", message, part.span)
            value = None
        if value is None:
            good = False
        else:
            items.append(value)
    if not good:
        return None
    shapes = {_shape(item) for item in items}
    if len(shapes) > 1:
        env.fault(
            "mixed-list", "the entries of a list are all numbers, all conditions, all sets or all lists", node.span
        )
        return None
    if {item.kind for item in items if isinstance(item, Scalar)} == {"int", "float"}:
        items = [_floated(item) for item in items]
    return ListValue(tuple(items))


def _constant(value: Value) -> bool:
    return value.constant if isinstance(value, Scalar) else isinstance(value, ConstantSet | ListValue)


def _shape(value: Value) -> str:
    if isinstance(value, Scalar):
        return "condition" if value.kind == "bool" else "number"
    return "set" if isinstance(value, ConstantSet) else "list"


def _floated(value: Value) -> Value:
    assert isinstance(value, Scalar)
    return Scalar("float", constructors.to_float(value.expr), True)


def _comprehension(node: t.Comprehension, env: ExprContext) -> Value | None:
    over = domain(env, node, elaborate(node.domain, env))
    if node.name.name in env.local:
        _report_hidden(node.name, env)
        return None
    if env.elaboration.checking or over is None or over.runs is None:
        return _summary(node, env, [_body(node, env, env.elaboration.unknown("int", constant=True))], checking=True)
    if over.size > limits.NODES:
        helps = (f"`{over.parameter}` has {over.size:,} members",) if over.parameter else ()
        env.elaboration.overflow(node.domain.span, helps)
    each = (Scalar("int", Const(member), True) for member in members(over.runs))
    return _summary(node, env, [_body(node, env, value) for value in each], checking=False)


def _body(node: t.Comprehension, env: ExprContext, variable: Scalar) -> Scalar | None:
    env.local[node.name.name] = variable
    value = scalar(node.body, env)
    del env.local[node.name.name]
    return value


def _summary(node: t.Comprehension, env: ExprContext, values: list[Scalar | None], checking: bool) -> Value | None:
    """The value of ``any``, ``all`` or ``sum`` over its parts; None after reporting a fault."""
    if node.function != "sum":
        parts = [v for v in values if is_condition(env, node.body, v, f"`{node.function}` takes conditions")]
        if len(parts) < len(values):
            return None
        combine = constructors.disjunction if node.function == "any" else constructors.conjunction
        known = [value for value in parts if value is not None]
        expr = env.elaboration.build(combine, tuple(value.expr for value in known), node.span)
        return Scalar("bool", expr, all(value.constant for value in known))
    if any(value is None for value in values):
        return None
    if not values:
        return _nothing(node, env)
    first = values[0]
    assert first is not None
    if checking and first.kind in PATTERNS:
        return env.elaboration.unknown("count")
    if checking:
        return env.elaboration.unknown(first.kind, first.constant)
    if first.kind in PATTERNS:
        expr = env.elaboration.build(
            constructors.plus, tuple(value.expr for value in values if value is not None), node.span
        )
        return Scalar("count", expr)
    signs = ("+",) * (len(values) - 1)
    return check_sum(env, t.Arithmetic((node.body,) * len(values), signs, node.span), values)


def _nothing(node: t.Comprehension, env: ExprContext) -> Value | None:
    """The sum over an empty set: 0 if its terms are numbers, and a count that keeps nothing if they are patterns."""
    quiet = ExprContext(env.scope, Elaboration(ErrorCollector(), checking=True), env.place, env.local, env.positions)
    kind = _body(node, quiet, quiet.elaboration.unknown("int", constant=True))
    if kind is None or kind.kind in PATTERNS:
        return Scalar("count", FALSE)
    return Scalar(kind.kind, Const(0.0 if kind.kind == "float" else 0), True)


# Tables


def _indexed(node: t.Indexed, env: ExprContext) -> Value | None:
    name = node.name.name
    found = _local(name, env)
    if found is _MISSING:
        definition = definition_of(node.name, env, "a table, a parameter or a list")
        found = None if definition is None else definition.value
        if definition is not None and not definition.faulty and found is None:
            env.fault("not-a-table", f"`{name}` is a pattern, and has no entries to choose from", node.name.span)
    indices = _several(node.indices, env)
    if found is None:
        return None
    if isinstance(found, ListValue):
        return item(env, node, found, indices)
    if not isinstance(found, TableValue) or (not found.dimensions):
        message = f"`{name}` is {described(found)}, and has no entries to choose from"
        env.fault("not-a-table", message, node.name.span)
        return None
    return chosen_entry(env, node, found, indices)


# Applications


def _application(node: t.Application, env: ExprContext) -> Value | None:
    name = node.name.name
    if name in env.local:
        for argument in node.arguments:
            elaborate(argument.value, env)
        table = isinstance(env.local[name], TableValue)
        helps = (f"an entry is chosen in brackets: `{name}[…]`",) if table else ()
        env.fault("not-a-pattern", f"`{name}` is not a pattern, and cannot be applied", node.name.span, helps=helps)
        return None
    return apply(node.name, node.arguments, node, env)


def apply(name: t.Identifier, arguments: tuple[t.Argument, ...], node: t.Expression, env: ExprContext) -> Scalar | None:
    """The value of a pattern applied to arguments; None after reporting a fault."""
    definition = definition_of(name, env, "a pattern, a parameter or a position")
    if definition is None or (definition.faulty and not isinstance(definition.node, t.Pattern)):
        for argument in arguments:
            elaborate(argument.value, env)
        return None
    if isinstance(definition.node, t.Constant):
        env.fault("not-a-pattern", f"`{name.name}` is a constant, and cannot be applied", name.span)
        return None
    if not isinstance(definition.node, t.Pattern):
        kind = "an attention" if isinstance(definition.node, t.Attention) else "a model"
        helps = (f"a model's rule, or a test, applies {kind}",) if kind == "an attention" else ()
        env.fault("not-a-pattern", f"`{name.name}` is {kind}; expected a pattern", name.span, helps=helps)
        return None
    unseen = definition.positions_read - env.place.positions
    if unseen:
        looks = ", ".join(f"`{word}`" for word in sorted(unseen))
        message = f"{env.place.phrase} has no {looks}, which `{name.name}` looks at"
        env.fault("misplaced-position", message, node.span)
        return None
    values = argument_values(definition, name, arguments, env)
    if values is None or definition.faulty:
        return None
    return expand(definition, values, node, env)


def argument_values(
    definition: Definition, name: t.Identifier, arguments: tuple[t.Argument, ...], env: ExprContext
) -> dict[str, Value] | None:
    """The value of every parameter of a declaration; None after reporting a fault of the arguments."""
    given = [(argument, elaborate(argument.value, env)) for argument in arguments]
    return bind_arguments(definition, name, given, env, elaborate)


def expand(definition: Definition, values: dict[str, Value], node: t.Expression, env: ExprContext) -> Scalar | None:
    """The body of a pattern with ``values`` for its parameters; when checking, an unknown value of its type."""
    assert isinstance(definition.node, t.Pattern)
    elaboration = env.elaboration
    if elaboration.checking:
        return elaboration.unknown(definition.kind or "bool")
    key = (id(definition), tuple(values.items()), env.layer_for(definition))
    if key in elaboration.memory:
        found: Scalar | None = elaboration.memory[key]
        return found
    elaboration.trail.append(node.span)
    elaboration.depth += 1
    result = body_value(definition, values, elaboration, body_positions(env))
    elaboration.depth -= 1
    elaboration.trail.pop()
    if result is not None:  # faults are not kept: each application reports them, and a caller may drop them
        elaboration.memory[key] = result
    return result


def body_value(
    definition: Definition, values: Mapping[str, Value], elaboration: Elaboration, positions: Mapping[str, Scalar]
) -> Scalar | None:
    """The condition or count of a pattern with ``values`` for its parameters; None after reporting a fault."""
    assert isinstance(definition.node, t.Pattern)
    env = ExprContext(definition.scope, elaboration, MASK, dict(values), positions)
    read_locals(definition.node.locals, env)
    return pattern(definition.node.body, env, "a pattern is a condition")


def body_positions(env: ExprContext) -> dict[str, Scalar]:
    """The positions that are constants inside an applied declaration: ``layer`` and ``layers``, but never ``head``."""
    return {name: value for name, value in env.positions.items() if name in ("layer", "layers")}


def constant_value(node: t.Expression, env: ExprContext) -> Value | None:
    """The value of a ``const``; None after reporting that it is not constant."""
    value = elaborate(node, env.at(CONSTANT))
    if value is None or _constant(value):
        return value
    env.fault("not-constant", f"expected a constant, but {words(node.span)} is known only at run time", node.span)
    return None


_HANDLERS: dict[type, Callable[[Any, ExprContext], Value | None]] = {
    t.Number: _number, t.Truth: _truth, t.Builtin: _builtin, t.Name: _name, t.Application: _application,
    t.Indexed: _indexed, t.SetLiteral: _set_literal, t.ListLiteral: _list_literal, t.Range: _range,
    t.Junction: _junction, t.Not: _not, t.Comparison: _comparison, t.Arithmetic: _arithmetic, t.Negative: _negative,
    t.Power: _power, t.Conditional: _conditional, t.Comprehension: _comprehension, t.FunctionCall: _function_call,
}  # fmt: skip
