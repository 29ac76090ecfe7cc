"""Evaluates an attention, mask and score and scale and sink, with values or unknowns for its parameters."""

from __future__ import annotations

from collections.abc import Mapping

from ..checker import (
    MASK,
    SCALE,
    SCORE,
    SINK,
    AttentionValue,
    Definition,
    Elaboration,
    ExprContext,
    Formal,
    Local,
    Role,
    Scalar,
    Scope,
    Value,
    as_float,
    body_positions,
    constants_first,
    is_number,
    pattern,
    read_locals,
    scalar,
    stand_in,
    suggestions,
)
from ..diagnostics import Span, at
from ..ir import DEFAULT_SCALE, LOGIT, Const, Expr
from ..syntax import tree as t

_PLACES: dict[str, Role] = {"mask": MASK, "score": SCORE, "scale": SCALE, "sink": SINK}


def check_locals(bindings: tuple[t.Binding, ...], env: ExprContext) -> None:
    """Report the faults of the local names that no expression uses; those of the others are reported at their use."""
    for binding in bindings:
        value = env.local.get(binding.name.name)
        if isinstance(value, Local) and binding.name.name not in env.elaboration.used:
            env.elaboration.reports.extend(value.faults)


def attention_of(
    node: t.Attention,
    scope: Scope,
    elaboration: Elaboration,
    values: Mapping[str, Value | None],
    positions: Mapping[str, Scalar],
) -> AttentionValue | None:
    """Evaluate the fields of an attention; None after reporting a fault.

    ``values``: the values of its parameters, None for one whose fault is reported already; ``positions``: ``layer`` and
    ``layers``, as :func:`layer_positions` gives them.
    """
    fields = _fields(node, elaboration)
    parts: dict[str, Scalar | None] = {}
    for name, place in _PLACES.items():
        if name not in fields:
            continue
        env = ExprContext(scope, elaboration, place, dict(values), positions)
        read_locals(node.locals, env)
        if name == "mask":
            parts[name] = pattern(fields[name].value, env, "a mask is a condition")
        else:
            parts[name] = _float(fields[name].value, env)
    if elaboration.checking:  # in the role of a score, which may read most, local names that no field uses are checked
        used = set(elaboration.used)
        env = ExprContext(scope, elaboration, SCORE, dict(values), positions)
        read_locals(node.locals, env)
        elaboration.used = used
        check_locals(node.locals, env)
    if "mask" not in parts or None in parts.values():
        return None
    exprs: dict[str, Expr] = {name: value.expr for name, value in parts.items() if value is not None}
    return AttentionValue(
        node.name.name, exprs["mask"], exprs.get("score", LOGIT), exprs.get("scale", DEFAULT_SCALE), exprs.get("sink")
    )


def _fields(node: t.Attention, elaboration: Elaboration) -> dict[str, t.Binding]:
    """The fields by name, of two with one name the first; reports the second, and a missing mask."""
    fields: dict[str, t.Binding] = {}
    env = ExprContext(Scope(), elaboration, MASK, {}, {})
    for field in node.fields:
        name = field.name.name
        if name in fields:
            related = (at(fields[name].name.span, "first here"),)
            env.fault("duplicate-name", f"`{name}` is given twice", field.name.span, related=related)
        fields.setdefault(name, field)
    if "mask" not in fields:
        _, edits = suggestions.entered("mask = full", node)
        helps = ("`mask = full` keeps every pair",)
        message = f"the attention `{node.name.name}` has no mask"
        env.fault("missing-mask", message, node.name.span, helps=helps, edits=edits)
    return fields


def _float(node: t.Expression, env: ExprContext) -> Scalar | None:
    """The value of a number, converted to float; None after reporting a fault."""
    value = scalar(node, env)
    if not is_number(env, node, value, f"a number as {env.place.phrase}"):
        return None
    assert value is not None
    return as_float(env, value, node.span)


def applied(
    definition: Definition, values: dict[str, Value], mask: Scalar | None, env: ExprContext, span: Span
) -> AttentionValue | None:
    """The attention that a model's rule applies; None after reporting a fault. Equal applications are evaluated once.

    ``mask``: the mask of an applied pattern, None for an attention. ``span``: where the rule applies it.
    """
    node = definition.node
    if isinstance(node, t.Pattern):
        return None if mask is None else AttentionValue(definition.name, mask.expr, LOGIT, DEFAULT_SCALE, None)
    assert isinstance(node, t.Attention)
    elaboration = env.elaboration
    key = (id(definition), tuple(values.items()), env.layer_for(definition))
    if key not in elaboration.memory:
        elaboration.trail.append(span)
        value = attention_of(node, definition.scope, elaboration, values, body_positions(env))
        elaboration.trail.pop()
        if value is None:
            return None
        elaboration.memory[key] = value
    found: AttentionValue = elaboration.memory[key]
    return found


def unknowns(formals: tuple[Formal, ...]) -> dict[str, Value | None]:
    """An unknown value of the right type for each parameter, by name; None where the type has a fault."""
    values: dict[str, Value] = {}
    for formal in constants_first(formals):
        value = stand_in(formal, values)
        if value is not None:
            values[formal.name] = value
    return {formal.name: values.get(formal.name) for formal in formals}


def layer_positions(elaboration: Elaboration, layer: int | None, layers: int | None) -> dict[str, Scalar]:
    """The values of ``layer`` and ``layers``, by name: constants, or an unknown integer for one given as None."""
    return {
        name: elaboration.unknown("int", constant=True) if value is None else Scalar("int", Const(value), True)
        for name, value in (("layer", layer), ("layers", layers))
    }
