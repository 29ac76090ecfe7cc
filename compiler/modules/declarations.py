"""Checks each declaration by itself, knowing only the types of its parameters, and defines it for others to apply."""

from __future__ import annotations

from typing import cast

from ..checker import (
    CONSTANT,
    MASK,
    Definition,
    Elaboration,
    ExprContext,
    Formal,
    LimitExceeded,
    Local,
    Scalar,
    Scope,
    Value,
    check_names,
    constant_value,
    elaborate,
    parameter_type,
    pattern,
    read_locals,
    stand_in,
    suggestions,
    taken_as,
)
from ..diagnostics import ErrorCollector
from ..ir import Const, Type
from ..syntax import tree as t
from .attentions import attention_of, check_locals, layer_positions, unknowns
from .models import check_model


def define(node: t.Named, scope: Scope, reports: ErrorCollector) -> Definition:
    """Check one declaration, after all that it uses, and report its faults. The Definition has them marked as well."""
    own = ErrorCollector(reports)
    elaboration = Elaboration(own, checking=True)
    formals: tuple[Formal, ...] = ()
    kind: Type | None = None
    value: Value | None = None
    try:
        if isinstance(node, t.Constant):
            value = _constant(node, scope, own, reports)
        else:
            formals = _formals(node, scope, own)
            kind = _body(node, formals, scope, elaboration)
    except LimitExceeded as stopped:
        own.add(stopped.diagnostic)
    reports.absorb(own)
    reports.steps += elaboration.steps
    faulty = bool(own.found) or any(formal.type is None for formal in formals)
    if (isinstance(node, t.Constant) and value is None) or (isinstance(node, t.Pattern) and kind is None):
        faulty = True  # because of a declaration that it uses, where the fault is reported
    return Definition(node, scope, formals, kind, value, _positions_read(node, scope), faulty)


def _constant(node: t.Constant, scope: Scope, reports: ErrorCollector, file: ErrorCollector) -> Value | None:
    """Check a constant, every branch of it, and then compute its value; None after reporting a fault.

    ``reports`` takes the faults of this constant, ``file`` counts the steps of the whole text.
    """
    value: Value | None = None
    for checking in (True, False):
        elaboration = Elaboration(reports, checking)
        try:
            value = constant_value(node.value, ExprContext(scope, elaboration, CONSTANT, {}, {}))
        finally:
            if checking:
                file.steps += elaboration.steps
            else:
                file.add_binding_steps(elaboration.steps, node.span)
        if value is None or not file.may_bind:
            return None
    return value


def _formals(node: t.Pattern | t.Attention | t.Model, scope: Scope, reports: ErrorCollector) -> tuple[Formal, ...]:
    """Check the names, types and defaults of a declaration's parameters; gives the parameters, each name once."""
    check_names(node.parameters, reports)
    integers = {p.name.name for p in node.parameters if p.type.dimensions is None and p.type.element.name == "int"}
    others = {p.name.name: p for p in node.parameters}

    def size(dimension: t.Dimension) -> int | str | None:
        return _size(dimension, others, scope, reports)

    formals: list[Formal] = []
    seen: set[str] = set()
    for parameter in node.parameters:
        kind = parameter_type(parameter.type, integers, size, reports)
        if parameter.name.name not in seen:
            formals.append(
                Formal(parameter.name.name, kind, parameter.default, parameter.name.span, parameter.type.span)
            )
        seen.add(parameter.name.name)
    elaboration = Elaboration(reports, checking=True)
    values: dict[str, Value] = {}
    # The same dictionary, so that each default sees the parameters before it.
    env = ExprContext(scope, elaboration, CONSTANT, cast("dict[str, Value | Local | None]", values), {})
    elaboration.later = {formal.name: formal.span for formal in formals}
    for formal in formals:
        if formal.default is not None:
            value = elaborate(formal.default, env)
            taken_as(formal, value, formal.default, env, values, {})
        known = stand_in(formal, values)
        if known is not None:
            values[formal.name] = known
        elaboration.later.pop(formal.name, None)
    return tuple(formals)


def _size(
    dimension: t.Dimension, parameters: dict[str, t.Parameter], scope: Scope, reports: ErrorCollector
) -> int | str | None:
    """The size of a dimension that is written as a name: the value of that constant, or the name itself of a free size.

    None after reporting a fault.
    """
    name = str(dimension.value)
    env = ExprContext(scope, Elaboration(reports, checking=True), CONSTANT, {}, {})
    if name in parameters:
        kind = parameters[name].type
        written = kind.span.source.text[kind.span.start : kind.span.end]
        message = f"a dimension is an int, but `{name}` is `{written}`"
        helps, edits = suggestions.declared(name, "int", kind.span)
        env.fault("malformed-type", message, dimension.span, helps=helps, edits=edits)
        return None
    definition = scope.find(name)
    node = scope.nodes.get(name) if definition is None else definition.node
    if node is None and scope.excused(name):
        return None
    if not isinstance(node, t.Constant):
        return name
    if definition is None:
        return None
    if definition.value is None:
        return None
    if (
        isinstance(definition.value, Scalar)
        and definition.value.kind == "int"
        and isinstance(definition.value.expr, Const)
    ):
        return int(definition.value.expr.value)
    env.fault("malformed-type", f"a dimension is an int, but the constant `{name}` is none", dimension.span)
    return None


def _body(
    node: t.Pattern | t.Attention | t.Model, formals: tuple[Formal, ...], scope: Scope, elaboration: Elaboration
) -> Type | None:
    """Check the body of a declaration. Returns the type of a pattern, bool or count; None for others or a fault."""
    values = unknowns(formals)
    positions = layer_positions(elaboration, None, None)
    match node:
        case t.Pattern():
            env = ExprContext(scope, elaboration, MASK, dict(values), positions)
            read_locals(node.locals, env)
            result = pattern(node.body, env, "a pattern is a condition")
            check_locals(node.locals, env)
            return None if result is None else result.kind
        case t.Attention():
            attention_of(node, scope, elaboration, values, positions)
        case t.Model():
            check_model(node, ExprContext(scope, elaboration, CONSTANT, dict(values), {}))
    return None


def _positions_read(node: t.Named, scope: Scope) -> frozenset[str]:
    """The names of the positions that a declaration reads, itself or through the declarations that it uses."""
    found: set[str] = set()
    stack = list(t.roots(node))
    while stack:
        part = stack.pop()
        match part:
            case t.Builtin(name=name):
                found.add(name)
            case t.Name(name=name) | t.Application(name=t.Identifier(name=name)):
                definition = scope.find(name)
                if definition is not None:
                    found |= definition.positions_read
        stack.extend(t.parts(part))
    return frozenset(found)
