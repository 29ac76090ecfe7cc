"""Matches the arguments of an application with the parameters of the declaration that it applies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, cast

from ..diagnostics import Diagnostic, Suggestion, at, counted, limits, words
from ..ir import Const, Dimension, Entry
from ..syntax import tree as t
from . import suggestions
from .context import CONSTANT, ExprContext, LimitExceeded, Local, literal_table
from .operators import as_float
from .scope import Definition
from .sets import members
from .types import DimensionType, Formal, ParameterType
from .values import ConstantSet, ListValue, Scalar, TableValue, Value, described

Evaluate = Callable[[t.Expression, ExprContext], Value | None]
_MOST = 12  # parameters that a message names
Given = Sequence[tuple[t.Argument, Value | None]]


def bind_arguments(
    definition: Definition, name: t.Identifier, given: Given, env: ExprContext, evaluate: Evaluate
) -> dict[str, Value] | None:
    """The value of every parameter; None after reporting a fault of the arguments."""
    if env.elaboration.checking and not given and not definition.without_default:
        return {}
    matched = match_arguments(definition, name, given, env)
    if matched is None:
        return None
    values: dict[str, Value] = {}
    sizes: dict[str, Dimension] = {}
    good = True
    if definition.ill_typed:
        return None
    # While a declaration is checked by itself, nobody needs the other parameters: defaults are checked where declared.
    asked = definition.formals
    if env.elaboration.checking:
        asked = tuple(definition.formals[place] for place in sorted(map(definition.places.__getitem__, matched)))
    for formal in constants_first(asked):
        if formal.name in matched:
            argument, value = matched[formal.name]
            taken = taken_as(formal, value, argument.value, env, values, sizes)
        else:
            taken = default_value(formal, definition, env, values, sizes, evaluate)
        if taken is None:
            good = False
        else:
            values[formal.name] = taken
    return values if good else None


def constants_first(formals: Sequence[Formal]) -> list[Formal]:
    """The parameters in the order in which they get values: constants first, as the sizes of tables depend on them."""
    return sorted(formals, key=lambda formal: formal.type is None or formal.type.run_time)


def match_arguments(
    definition: Definition, name: t.Identifier, given: Given, env: ExprContext, run_time_too: bool = True
) -> dict[str, tuple[t.Argument, Value | None]] | None:
    """The argument for each parameter, by name; None after reporting one that is surplus, unknown, repeated or missing.

    Run-time parameters may be missing unless ``run_time_too``.
    """
    formals = definition.places
    matched: dict[str, tuple[t.Argument, Value | None]] = {}
    good, keyword = True, None
    for place, (argument, value) in enumerate(given):
        if argument.keyword is None and keyword is not None:
            env.fault("wrong-arguments", "an argument without a name stands after one with a name", argument.span)
            return None
        keyword = argument.keyword
        if keyword is None and place >= len(definition.formals):
            takes = counted(len(formals), "argument") if formals else "no arguments"
            message = f"`{name.name}` takes {takes}, but has {len(given)} here"
            env.fault(
                "wrong-arguments", message, argument.span, related=(at(definition.node.name.span, "declared here"),)
            )
            return None
        target = keyword.name if keyword is not None else definition.formals[place].name
        if target not in formals:
            assert keyword is not None
            helps, edits = env.elaboration.reports.meant(target, formals, keyword.span)
            message = f"`{name.name}` has no parameter `{target}`"
            notes = () if helps or env.elaboration.reports.full else (_signature(definition, name),)
            env.fault("unknown-parameter", message, argument.span, notes=notes, helps=helps, edits=edits)
            good = False
        elif target in matched:
            related = (at(matched[target][0].span, "first here"),)
            env.fault("wrong-arguments", f"`{target}` is given twice", argument.span, related=related)
            good = False
        else:
            matched[target] = (argument, value)
    needed = (f for f in definition.without_default if run_time_too or f.type is None or not f.type.run_time)
    absent = (f"`{formal.name}`" for formal in needed if formal.name not in matched)
    missing = list(islice(absent, _MOST + 1)) if good else []
    if missing:
        message = f"`{name.name}` needs {', '.join(missing[:_MOST])}{' …' if len(missing) > _MOST else ''}"
        env.fault("missing-argument", message, name.span, notes=(_signature(definition, name),))
        good = False
    return matched if good else None


def _signature(definition: Definition, name: t.Identifier) -> str:
    if not definition.formals:
        return "it has no parameters"
    several = ", ".join(map(_declared, definition.formals[:_MOST])) + (", …" if len(definition.formals) > _MOST else "")
    return f"it is declared as `{name.name}({several})`"


def _declared(formal: Formal) -> str:
    """A parameter as its declaration writes it: name, type and default."""
    default = "" if formal.default is None else f" = {words(formal.default.span)[1:-1]}"
    return f"{formal.name}: {formal.type or '…'}{default}"


def default_value(
    formal: Formal,
    definition: Definition,
    env: ExprContext,
    values: dict[str, Value],
    sizes: dict[str, Dimension],
    evaluate: Evaluate,
) -> Value | None:
    """The default of a parameter that is not given. It may read the parameters before it, which ``values`` holds."""
    assert formal.default is not None
    assert formal.type is not None
    # `values` comes out unchanged: a default has no `where`, and a comprehension removes its variable again.
    inner = ExprContext(
        definition.scope, env.elaboration, CONSTANT, cast("dict[str, Value | Local | None]", values), {}
    )
    value = evaluate(formal.default, inner)
    return taken_as(formal, value, formal.default, inner, values, sizes)


def stand_in(formal: Formal, values: dict[str, Value]) -> Value | None:
    """The value of a parameter of which only the type is known; None if that has a fault."""
    kind = formal.type
    if kind is None:
        return None
    if kind.dimensions is not None:
        assert kind.element != "index"
        return TableValue(formal.name, kind.element, tuple(dimension(d, values) for d in kind.dimensions))
    match kind.element:
        case "set":
            return ConstantSet(None, formal.name)
        case "index":
            return Scalar("int", Entry(formal.name, (), "int"))
        case "int" | "float" | "bool" as element:
            return Scalar(element, Entry(formal.name, (), element), constant=True)
        case _:
            return None


def dimension(kind: DimensionType, values: dict[str, Value]) -> Dimension:
    """A dimension of a table, its size taken from an int parameter where the type says so; None if not known yet."""
    match kind:
        case DimensionType(kind="parameter", name=name):
            value = values.get(name)
            known = isinstance(value, Scalar) and isinstance(value.expr, Const)
            return Dimension("fixed", int(value.expr.value) if known else None)  # type: ignore[union-attr]
        case DimensionType(kind="fixed", size=size):
            return Dimension("fixed", size)
        case DimensionType(kind="free", name=name):
            return Dimension("free", name=name)
        case DimensionType(kind="token" | "query" | "head" as plain):
            return Dimension(plain)
    raise AssertionError(kind)


def dimensions_of(formal: Formal, env: ExprContext, values: dict[str, Value]) -> tuple[Dimension, ...] | None:
    """The dimensions of a run-time parameter; None after reporting one of a size below 1."""
    assert formal.type is not None
    found = []
    for kind in formal.type.dimensions or ():
        found.append(dimension(kind, values))
        size = found[-1].size
        if size is not None and size < 1:
            message = f"a dimension has at least one entry, but `{kind.name}` is {size}"
            env.fault("bad-size", message, formal.span)
            return None
    return tuple(found)


def taken_as(
    formal: Formal,
    value: Value | None,
    node: t.Expression,
    env: ExprContext,
    values: dict[str, Value],
    sizes: dict[str, Dimension],
) -> Value | None:
    """A value converted to the type of a parameter; None after reporting that it does not fit."""
    if value is None or formal.type is None:
        return None
    if formal.type.dimensions is None:
        return _constant(formal, formal.type, value, node, env)
    wanted = dimensions_of(formal, env, values)
    if wanted is None:
        return None
    match value:
        case TableValue():
            return _table(formal, value, wanted, node, env, sizes)
        case ListValue() if wanted:
            return _literal(formal, value, wanted, node, env, sizes)
        case ConstantSet() if formal.type.element == "set" and not wanted:
            return value
        case Scalar(kind="int" | "float", constant=True) if not wanted and formal.type.element == "float":
            return as_float(env, value, node.span)
        case Scalar(kind="int", constant=True) if not wanted and formal.type.element == "int":
            return value
    helps = (f"declare `{formal.name}: index`, which takes any int expression",)
    found = (
        Suggestion(helps) if isinstance(value, Scalar) and not value.constant and value.kind == "int" else Suggestion()
    )
    _mismatch(formal, value, node, env, found)
    return None


def _mismatch(formal: Formal, value: Value, node: t.Expression, env: ExprContext, found: Suggestion) -> None:
    constant = not isinstance(value, Scalar) or value.constant
    what = described(value) if constant else f"{described(value)} known only at run time"
    message = f"`{formal.name}` is {_article(str(formal.type))} `{formal.type}`, but {words(node.span)} is {what}"
    related = (at(formal.span, "declared here"),)
    env.fault("wrong-type", message, node.span, related=related, helps=found.helps, edits=found.edits)


def _article(word: str) -> str:
    return "an" if word[0] in "aeio" else "a"


def _constant(formal: Formal, kind: ParameterType, value: Value, node: t.Expression, env: ExprContext) -> Value | None:
    """A value for a constant parameter or for an ``index``; None after reporting that it does not fit."""
    if kind.element == "index":
        if isinstance(value, TableValue) and value.element == "int" and not value.dimensions:
            return Scalar("int", Entry(value.name, (), "int", span=node.span))
        if isinstance(value, Scalar) and value.kind == "int":
            return value
        _mismatch(formal, value, node, env, Suggestion())
        return None
    if kind.element == "set" and isinstance(value, ConstantSet):
        return value.given_for(formal.name)
    if isinstance(value, Scalar) and value.constant and (value.kind, kind.element) in _FITS:
        return as_float(env, value, node.span) if kind.element == "float" else value
    run_time = isinstance(value, TableValue) or (isinstance(value, Scalar) and not value.constant)
    if not run_time:
        found = Suggestion()
        if isinstance(node, t.Arithmetic) and "/" in node.signs and kind.element == "int":
            place = node.signs.index("/")
            found = suggestions.whole_division(node.operands[place], node.operands[place + 1])
        _mismatch(formal, value, node, env, found)
        return None
    message = f"`{formal.name}` is a constant, but {words(node.span)} is known only at run time"
    helps, edits = Suggestion()
    if formal.span.source is not node.span.source:  # no edit can be made in another file
        pass
    elif kind.element == "set" and isinstance(value, TableValue) and value.element == "set":
        helps, edits = suggestions.declared(formal.name, "tokens", formal.type_span, ", a set given at run time")
    elif kind.element in ("int", "float") and isinstance(value, TableValue):
        helps, edits = suggestions.declared(
            formal.name, f"{kind.element}[]", formal.type_span, ", a number given at run time"
        )
    elif kind.element == "int" and isinstance(value, Scalar) and value.kind == "int":
        helps, edits = suggestions.declared(formal.name, "index", formal.type_span, ", which takes any int expression")
    related = (at(formal.span, "declared here"),)
    env.fault("not-constant", message, node.span, related=related, helps=helps, edits=edits)
    return None


_FITS = {("int", "int"), ("float", "float"), ("int", "float"), ("bool", "bool")}


def _table(
    formal: Formal, value: TableValue, wanted: tuple[Dimension, ...], node: t.Expression, env: ExprContext,
    sizes: dict[str, Dimension],
) -> Value | None:  # fmt: skip
    """A run-time parameter passed on to another one; None after reporting that element or dimensions differ."""
    assert formal.type is not None
    alike = value.element == formal.type.element or (value.element, formal.type.element) == ("order", "int")
    if not alike or len(wanted) != len(value.dimensions):
        _mismatch(formal, value, node, env, Suggestion())
        return None
    for have, want in zip(value.dimensions, wanted, strict=True):
        if want.kind == "free":
            want = sizes.setdefault(want.name, have)
        same = have == want
        if have.kind == want.kind == "fixed":
            same = have.size == want.size or None in (have.size, want.size)
        if not same:
            message = f"`{formal.name}` is {_article(str(formal.type))} `{formal.type}`, but a dimension of "
            message += f"{words(node.span)} is {_dimension(have)} where it takes {_dimension(want)}"
            env.fault("wrong-type", message, node.span, related=(at(formal.span, "declared here"),))
            return None
    return value


def _dimension(dimension: Dimension) -> str:
    if dimension.kind == "fixed":
        return "a constant size" if dimension.size is None else str(dimension.size)
    return f"`{dimension.name or dimension.kind}`"


def _literal(
    formal: Formal, value: ListValue, wanted: tuple[Dimension, ...], node: t.Expression, env: ExprContext,
    sizes: dict[str, Dimension],
) -> Value | None:  # fmt: skip
    """A list as the contents of a table; None after reporting that it does not fit."""
    assert formal.type is not None
    assert formal.type.element != "index"
    if env.elaboration.reports.full:  # no further fault would be shown
        return None
    element, axes = formal.type.element, len(wanted)
    if (element, axes) not in value.contents:
        shape: list[int] = []
        contents = _contents(formal, value, wanted, 0, node, env, shape)
        if contents is None:
            return None
        value.contents[element, axes] = contents, (*shape, *[0] * (axes - len(shape)))
    contents, lengths = value.contents[element, axes]
    final = []
    for dimension, length in zip(wanted, lengths, strict=True):
        named = dimension
        if dimension.kind == "free":
            named = sizes.setdefault(dimension.name, Dimension("fixed", length))
        if named.kind == "fixed" and named.size not in (None, length):
            expected = f"`{dimension.name}`, {named.size} elsewhere" if dimension.kind == "free" else str(named.size)
            env.fault(
                "wrong-table",
                f"{words(node.span)} has {counted(length, 'entry', 'entries')} where `{formal.name}` takes {expected}",
                node.span,
            )
            return None
        sized = dimension.kind in ("free", "fixed")
        final.append(Dimension("fixed", length, dimension.name) if sized else dimension)
    if contents is _UNKNOWN or env.elaboration.checking:
        return TableValue(formal.name, formal.type.element, tuple(final))
    return literal_table(env.elaboration, formal.name, formal.type.element, tuple(final), contents, node.span)


_UNKNOWN: Any = ("not known yet",)


def _contents(
    formal: Formal, value: Value, wanted: tuple[Dimension, ...], axis: int, node: t.Expression, env: ExprContext,
    shape: list[int],
) -> Any:  # fmt: skip
    """The contents of one axis and those inside it; None after a fault, ``_UNKNOWN`` if a part is not known yet."""
    assert formal.type is not None
    if axis == len(wanted):
        return _leaf(formal, value, node, env)
    if not isinstance(value, ListValue):
        message = f"`{formal.name}` has {counted(len(wanted), 'dimension')}, but {words(node.span)} has {axis}"
        env.fault("wrong-table", message, node.span)
        return None
    if len(shape) == axis:
        shape.append(len(value.items))
    if shape[axis] != len(value.items):
        message = (
            f"the rows of a table are of one length, but {words(node.span)} has {shape[axis]} and {len(value.items)}"
        )
        env.fault("wrong-table", message, node.span)
        return None
    parts = []
    for item in value.items:
        part = _contents(formal, item, wanted, axis + 1, node, env, shape)
        if part is None:
            return None
        parts.append(part)
    if any(part is _UNKNOWN for part in parts):
        return _UNKNOWN
    if formal.type.element == "order" and axis == len(wanted) - 1 and sorted(parts) != list(range(len(parts))):
        message = f"an `order` holds each of 0..{len(parts) - 1} once"
        env.fault("wrong-table", message, node.span)
        return None
    return tuple(parts)


def _leaf(formal: Formal, value: Value, node: t.Expression, env: ExprContext) -> Any:
    assert formal.type is not None
    element = formal.type.element
    if element == "set" and isinstance(value, ConstantSet):
        return _UNKNOWN if value.runs is None else members_of(value, node, env)
    kinds = {"float": ("int", "float"), "bool": ("bool",)}.get(element, ("int",))
    if isinstance(value, Scalar) and value.kind in kinds:
        if not isinstance(value.expr, Const):
            return _UNKNOWN
        return float(value.expr.value) if element == "float" else value.expr.value
    if isinstance(value, ListValue):
        message = f"{words(node.span)} has more dimensions than `{formal.name}`, which is `{formal.type}`"
    else:
        message = f"`{formal.name}` is `{formal.type}`, but an entry of {words(node.span)} is {described(value)}"
    env.fault("wrong-table", message, node.span)
    return None


def members_of(value: ConstantSet, node: t.Expression, env: ExprContext) -> frozenset[int]:
    """The members of a set whose runs are known. Raises LimitExceeded where they are too many."""
    if value.size > limits.NODES:
        env.elaboration.overflow(node.span)
    if not env.elaboration.reports.may_keep(value.size):
        message = f"the sets of this text come to more than {limits.MEMBERS:,} members, the most that there may be"
        raise LimitExceeded(Diagnostic("too-large", message, at(node.span), env.elaboration.led_here(node.span)))
    return frozenset(members(value.runs or ()))
