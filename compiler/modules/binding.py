"""Binds a checked declaration to constants: gives the attention or the model that is compiled."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from operator import index
from typing import cast

from ..checker import (
    MASK,
    AttentionValue,
    ConstantSet,
    Definition,
    Elaboration,
    ExprContext,
    Formal,
    LimitExceeded,
    ListValue,
    Scalar,
    TableValue,
    Value,
    body_value,
    constants_first,
    default_value,
    dimensions_of,
    elaborate,
    members,
    members_of,
    runs_of,
    stand_in,
)
from ..diagnostics import ArgumentError, Diagnostic, ErrorCollector, Label, at, limits, listed, nearest
from ..ir import DEFAULT_SCALE, LOGIT, Attention, Const, Expr, Literal_, Model, Table, divisors, walk
from ..syntax import tree as t
from .attentions import attention_of, layer_positions
from .models import Layers, bind_model


def bind_definition(definition: Definition, constants: Mapping[str, object]) -> Attention | Model:
    """Bind a declaration to constants, Python values by parameter name. Raises the errors of :func:`.loader.bind`."""
    reports = ErrorCollector()
    elaboration = Elaboration(reports, checking=False)
    given = _given(definition, constants)
    values = parameter_values(definition, given, elaboration)
    bound = None if values is None else bind_values(definition, values, elaboration)
    reports.check()
    assert bound is not None, "a fault without a report"
    return bound


def bind_values(
    definition: Definition, values: Mapping[str, Value], elaboration: Elaboration
) -> Attention | Model | None:
    """Bind the parameters of a declaration to values of the language; None after reporting a fault."""
    parameters = parameter_tables(definition, values, elaboration)
    node = definition.node
    if isinstance(node, t.Model):
        layers = bind_model(definition, values, elaboration)
        return None if layers is None else _model(definition.name, layers, parameters, elaboration)
    value = attention_value(definition, values, elaboration)
    return None if value is None else assembled(definition.name, value, parameters, elaboration)


def attention_value(
    definition: Definition, values: Mapping[str, Value], elaboration: Elaboration, layer: int = 0, layers: int = 1
) -> AttentionValue | None:
    """Evaluate a pattern or an attention at one layer, ``values`` for its parameters; None after reporting a fault."""
    positions = layer_positions(elaboration, layer, layers)
    node = definition.node
    if isinstance(node, t.Attention):
        return attention_of(node, definition.scope, elaboration, values, positions)
    mask = body_value(definition, values, elaboration, positions)
    return None if mask is None else AttentionValue(definition.name, mask.expr, LOGIT, DEFAULT_SCALE, None)


def assembled(
    name: str,
    value: AttentionValue,
    parameters: tuple[Table, ...],
    elaboration: Elaboration,
    others: Iterable[Expr] = (),
) -> Attention:
    """Give an attention its tables: ``parameters``, and those of the text's own that it or one of ``others`` reads."""
    exprs = [value.mask, value.score, *([] if value.sink is None else [value.sink]), *others]
    read = {getattr(node, "table", None) for expr in exprs for node in walk(expr)}
    literals = tuple(table for table in elaboration.tables.values() if table.name in read)
    dividing = divisors(*exprs)
    tables = tuple(
        replace(table, divides=True) if table.name in dividing else table for table in (*parameters, *literals)
    )
    return Attention(name, value.mask, value.score, value.scale, value.sink, tables)


def _model(name: str, layers: Layers, parameters: tuple[Table, ...], elaboration: Elaboration) -> Model:
    """A model of these layers; equal layers share one attention."""
    attentions: dict[AttentionValue, Attention] = {}
    for value in layers.values:
        if value not in attentions:
            layer = assembled(value.name, value, parameters, elaboration)
            attentions[value] = replace(layer, heads=layers.heads, heads_span=layers.heads_span)
    return Model(name, layers.heads, tuple(attentions[value] for value in layers.values))


def parameter_tables(
    definition: Definition, values: Mapping[str, Value], elaboration: Elaboration, given: Collection[str] = ()
) -> tuple[Table, ...]:
    """The tables that a call passes by name: the run-time parameters, except those named in ``given``."""
    tables = []
    for formal in definition.formals:
        value = values.get(formal.name)
        if isinstance(value, TableValue) and formal.name not in given and formal.type and formal.type.run_time:
            default = None if formal.default is None else _default(formal, definition, values, elaboration.reports)
            tables.append(Table(value.name, value.element, value.dimensions, default=default, span=formal.span))
    return tuple(tables)


def _default(
    formal: Formal, definition: Definition, values: Mapping[str, Value], reports: ErrorCollector
) -> Literal_ | None:
    """The default contents of a table as a Python value; None where they have a fault, which is not reported here."""
    elaboration = Elaboration(ErrorCollector(reports), checking=False)
    env = ExprContext(definition.scope, elaboration, MASK, {}, {})
    value = default_value(formal, definition, env, cast("dict[str, Value]", values), {}, elaborate)
    if isinstance(value, TableValue):
        return next((table.value for table in elaboration.tables.values() if table.name == value.name), None)
    if isinstance(value, ConstantSet) and formal.default is not None:
        return members_of(value, formal.default, env)
    return None if value is None else literal(value)


def default_literal(definition: Definition, formal: Formal) -> Literal_ | None:
    """The default of a constant ``formal`` as a Python value; None if it has none or it depends on other parameters."""
    if formal.default is None:
        return None
    elaboration = Elaboration(ErrorCollector(), checking=False)
    env = ExprContext(definition.scope, elaboration, MASK, {}, {})
    values: dict[str, Value] = {}
    for earlier in definition.formals[: definition.places[formal.name]]:
        value = stand_in(earlier, values)
        if value is not None:
            values[earlier.name] = value
    try:
        default = default_value(formal, definition, env, values, {}, elaborate)
    except LimitExceeded:
        return None
    if isinstance(default, ConstantSet):
        return None if default.runs is None or default.size > limits.NODES else literal(default)
    return literal(default) if isinstance(default, Scalar) and default.known else None


def literal(value: Value) -> Literal_:
    """A known constant as a Python value: a number, a frozenset or a tuple of such values."""
    match value:
        case Scalar(expr=Const(value=plain)):
            return plain
        case ConstantSet(runs=runs):
            return frozenset(members(runs or ()))
        case ListValue(items=items):
            return tuple(literal(item) for item in items)
    raise AssertionError(value)


# Parameters from Python


def parameter_values(
    definition: Definition, given: Mapping[str, Value], elaboration: Elaboration
) -> dict[str, Value] | None:
    """The value of every parameter by name: a constant that is given or the default, a table for run-time data.

    None after reporting a fault. Raises ArgumentError for a constant without a value, and for an ``index``.
    """
    env = ExprContext(definition.scope, elaboration, MASK, {}, {})
    elaboration.taken.update(formal.name for formal in definition.formals)
    values: dict[str, Value] = {}
    for formal in constants_first(definition.formals):
        if formal.type is None:
            return None
        value: Value | None
        if formal.name in given:
            value = given[formal.name]
        elif formal.type.element == "index":
            raise ArgumentError([_index_parameter(definition, formal)])
        elif formal.type.dimensions is not None:
            kinds = dimensions_of(formal, env, values)
            value = None if kinds is None else TableValue(formal.name, formal.type.element, kinds)
        elif formal.default is not None:
            value = default_value(formal, definition, env, values, {}, elaborate)
        else:
            raise ArgumentError([_missing(definition, formal)])
        if value is None:
            return None
        values[formal.name] = value
    return {formal.name: values[formal.name] for formal in definition.formals}


def bindable(definition: Definition) -> bool:
    """Whether a declaration can be bound without arguments: its constants have defaults, and it has no ``index``."""
    return not definition.faulty and all(
        formal.type is not None
        and formal.type.element != "index"
        and (formal.type.run_time or formal.default is not None)
        for formal in definition.formals
    )


def _given(definition: Definition, constants: Mapping[str, object]) -> dict[str, Value]:
    """Python's constants as values of the language. Raises ArgumentError for an unknown name or an unfit value."""
    formals = {formal.name: formal for formal in definition.formals}
    unknown = next((name for name in constants if name not in formals), None)
    if unknown is not None:
        meant = nearest(str(unknown), formals)
        takes = listed([f"`{name}`" for name in formals], "and") if formals else "no parameters"
        helps = (f"did you mean `{meant}`?",) if meant else ()
        message = f"`{definition.name}` has no parameter `{unknown}`"
        raise ArgumentError([Diagnostic("unknown-parameter", message, notes=(f"it has {takes}",), helps=helps)])
    return {name: _from_python(formals[name], value) for name, value in constants.items()}


def _declared(formal: Formal) -> Label:
    return at(formal.span, "declared here")


def _missing(definition: Definition, formal: Formal) -> Diagnostic:
    message = f"`{definition.name}` needs `{formal.name}`, a constant of type `{formal.type}`"
    return Diagnostic("missing-argument", message, _declared(formal))


def _index_parameter(definition: Definition, formal: Formal) -> Diagnostic:
    message = f"`{definition.name}` cannot be called by itself: `{formal.name}` is an `index`"
    helps = (f"apply it in a pattern: `pattern mine = {definition.name}(q, …)`",)
    return Diagnostic("index-parameter", message, _declared(formal), helps=helps)


def _wrong(formal: Formal, value: object, expected: str) -> ArgumentError:
    """The error for a value of another type than ``expected``; a long value is named by its type."""
    shown = repr(value)
    message = f"`{formal.name}` is {shown if len(shown) <= 60 else type(value).__name__}, expected {expected}"
    return ArgumentError([Diagnostic("wrong-type", message, _declared(formal))])


def _from_python(formal: Formal, value: object) -> Value:
    """Convert a Python value to a value of the language. Raises ArgumentError where it does not fit the parameter."""
    kind = formal.type
    if kind is None or not kind.compile_time:
        role = "run-time data, given at the call" if kind is not None and kind.run_time else "substituted in a pattern"
        raise ArgumentError(
            [Diagnostic("not-constant", f"`{formal.name}` is {role}, and no constant", _declared(formal))]
        )
    boolean = isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")
    match kind.element:
        case "bool":
            if boolean:
                return Scalar("bool", Const(bool(value)), True)
            raise _wrong(formal, value, "true or false")
        case "int":
            number = None if boolean else _integer(value)
            if number is None:
                raise _wrong(formal, value, f"an int of at most {limits.DIGITS} digits")
            return Scalar("int", Const(number), True)
        case "float":
            real = None if boolean else _real(value)
            if real is None:
                raise _wrong(formal, value, "a finite number")
            return Scalar("float", Const(real), True)
        case _:
            return _set(formal, value)


def _integer(value: object) -> int | None:
    """The integer that a value is, as ``operator.index`` finds; None for others and beyond the limit of digits."""
    try:
        number = index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
    return int(number) if abs(number) <= limits.LARGEST else None


def _real(value: object) -> float | None:
    """The finite float that a number is, of Python or of an array library; None for anything else, a string too."""
    if not hasattr(value, "__float__") and not hasattr(value, "__index__"):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _set(formal: Formal, value: object) -> ConstantSet:
    """Convert a Python set, range or iterable of ints to a set of the language. Raises ArgumentError for others."""
    expected = f"a set, a range or an iterable of at most {limits.NODES:,} ints"
    if isinstance(value, range) and abs(value.step) == 1:
        low, high = sorted((value[0], value[-1])) if value else (0, -1)
        if max(abs(low), abs(high)) <= limits.LARGEST:
            return ConstantSet(runs_of([(low, high)]), formal.name)
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise _wrong(formal, value, expected)
    members: list[int] = []
    for member in value:
        number = None if isinstance(member, bool) else _integer(member)
        if number is None or len(members) == limits.NODES:
            raise _wrong(formal, value, expected)
        members.append(number)
    return ConstantSet(runs_of((number, number) for number in members), formal.name)
