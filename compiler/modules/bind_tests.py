"""Binds a ``test`` of the text: computes its settings and arguments, and gives the checks that are to be run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..checker import (
    CONSTANT,
    MASK,
    SETTING,
    TEST,
    AttentionValue,
    ConstantSet,
    Definition,
    Elaboration,
    ExprContext,
    LimitExceeded,
    Scalar,
    Scope,
    TableValue,
    Value,
    constant_integer,
    constants_first,
    default_value,
    definition_of,
    described,
    dimensions_of,
    elaborate,
    match_arguments,
    members_of,
    pattern,
    taken_as,
)
from ..diagnostics import Edit, ErrorCollector, Span, at, counted, limits, listed, shortened, words
from ..ir import CallShape, Const, Dimension, Expr
from ..syntax import tree as t
from .attentions import layer_positions
from .binding import assembled, attention_value, parameter_tables
from .models import bind_model, model_sizes
from .test_cases import BoundTest, Check, Claim, Column, Pairs, Picture, Row

_SETTINGS = ("n", "m", "q_start", "heads", "head", "layer", "layers")
_TITLE = 100  # characters of the title of a test


def bind_test(node: t.Test, scope: Scope, reports: ErrorCollector) -> tuple[BoundTest, ...]:
    """Bind a ``test`` of the text: one test, or if it is of a model for all n, one for each distinct layer.

    Faults are added to ``reports``; if there are any, the result is empty.
    """
    own = ErrorCollector(reports)
    elaboration = Elaboration(own, checking=False)
    try:
        tests = tuple(_bind(node, scope, elaboration))
    except LimitExceeded as stopped:
        own.add(stopped.diagnostic)
        tests = ()
    reports.absorb(own)
    reports.add_binding_steps(elaboration.steps, node.span)
    return () if own.found else tests


def _bind(node: t.Test, scope: Scope, elaboration: Elaboration) -> Iterator[BoundTest]:
    """Yield the tests of :func:`bind_test`; stop after reporting a fault. Raises LimitExceeded."""
    env = ExprContext(scope, elaboration, TEST, {}, {})
    settings = _settings(node, env)
    name = node.application.name
    definition = definition_of(name, env, "a pattern, an attention or a model")
    if definition is not None and isinstance(definition.node, t.Constant):
        env.fault("not-a-pattern", f"`{name.name}` is a constant; a test applies a pattern", name.span)
        return
    if definition is None or settings is None:
        return
    values = _values(node, definition, settings, env)
    if values is None or definition.faulty:
        return
    for setting, value in _subjects(node, definition, values, settings, env):
        checks = list(_checks(node, setting, values, env))
        if elaboration.reports.found or value is None:
            return
        if setting.extent is not None and not _given_tables_fit(setting.extent, elaboration, env):
            return
        operands = [c.operand for c in checks if isinstance(c, Claim) and c.operand is not None]
        tables = () if setting.extent else parameter_tables(definition, values, elaboration, _given(node, definition))
        subject = assembled(definition.name, value, tables, elaboration, operands)
        yield BoundTest(
            _title(node, setting), node.span, subject, setting.extent, tuple(checks), setting.head, setting.heads
        )


def _given_tables_fit(extent: CallShape, elaboration: Elaboration, env: ExprContext) -> bool:
    """Whether the tables that a test gives have the sizes of its call; if not, reports it."""
    known = {"token": (extent.n, "key"), "query": (extent.m, "query row"), "head": (extent.heads, "head")}
    good = True
    for table in elaboration.tables.values():
        level = table.value
        for dimension in table.dimensions:
            if not isinstance(level, tuple):
                break
            size, what = known.get(dimension.kind, (len(level), ""))
            if len(level) != size and table.span is not None:
                entries = counted(len(level), "entry", "entries")
                message = f"{words(table.span)} has {entries} where the test has {counted(size, what)}"
                env.fault("wrong-table", message, table.span)
                good = False
                break
            level = level[0] if level else None
    return good


@dataclass(frozen=True)
class _Setting:
    """The sizes, head and layer of one test. ``extent`` is None for all n; ``suffix`` then ends the title."""

    extent: CallShape | None
    head: int
    heads: int | None
    layer: int
    layers: int
    suffix: str = ""


def _title(node: t.Test, setting: _Setting) -> str:
    """The name of a test in reports: ``window(4) at n = 8``, as the text writes it, cut where it is long."""
    text = node.span.source.text
    application = text[node.application.span.start : node.application.span.end]
    if node.settings is None:
        return shortened(f"{application} for all n{setting.suffix}", _TITLE)
    return shortened(f"{application} at {text[node.settings[0].span.start : node.settings[-1].span.end]}", _TITLE)


def _settings(node: t.Test, env: ExprContext) -> dict[str, int] | None:
    """The numbers after ``at``, by name: ``n = 8, head = 1``; empty for all n. None after reporting a fault."""
    settings: dict[str, int] = {}
    first: dict[str, t.Binding] = {}
    good = True
    for setting in node.settings or ():
        name = setting.name.name
        value = constant_integer(setting.value, env.at(CONSTANT), f"a constant int as `{name}`")
        if name not in _SETTINGS:
            helps, edits = env.elaboration.reports.meant(name, _SETTINGS, setting.name.span)
            notes = (f"there are {listed([f'`{word}`' for word in _SETTINGS], 'and')}",)
            message = f"`{name}` is no setting of a test"
            env.fault("unknown-setting", message, setting.name.span, notes=notes, helps=helps, edits=edits)
            good = False
        elif name in first:
            related = (at(first[name].span, "first here"),)
            env.fault("duplicate-name", f"`{name}` is given twice", setting.span, related=related)
            good = False
        elif value is None or not isinstance(value.expr, Const):
            good = False
        else:
            settings[name] = int(value.expr.value)
            least = 0 if name in ("q_start", "head", "layer") else 1
            if settings[name] < least:
                message = f"`{name}` is at least {least}, but {settings[name]} here"
                env.fault("bad-setting", message, setting.value.span)
                good = False
        first.setdefault(name, setting)
    if node.settings is not None and "n" not in first:
        first_span = node.settings[0].span
        edits = (Edit(Span(first_span.source, first_span.start, first_span.start), "n = 8, "),)
        message = "the test does not say how many keys there are"
        env.fault("missing-setting", message, first_span, helps=("write `at n = 8`",), edits=edits)
        good = False
    return settings if good else None


def _extent(node: t.Test, settings: Mapping[str, int], heads: int, env: ExprContext) -> CallShape | None:
    """The sizes of a test's call; None after reporting settings that contradict each other, or too many pairs."""
    assert node.settings is not None
    n, q_start = settings["n"], settings.get("q_start", 0)
    m = settings.get("m", n - q_start)
    places = {setting.name.name: setting.value.span for setting in node.settings}
    if m < 1:
        message = f"`q_start` is {q_start}, but the last of {n} positions is {n - 1}"
        env.fault("bad-setting", message, places["q_start"], helps=("say how many rows there are: `m = 1`",))
        return None
    if m * n > limits.PAIRS:
        message = f"a test looks at no more than {limits.PAIRS:,} pairs, but there are {m * n:,}"
        env.fault("too-large", message, places["n"])
        return None
    return CallShape(n, m, heads, (q_start,))


def _checked_place(node: t.Test, settings: Mapping[str, int], name: str, count: int, env: ExprContext) -> int | None:
    """The ``head`` or ``layer`` of a test, by default 0; None after reporting that it is not below ``count``."""
    value = settings.get(name, 0)
    if value < count:
        return value
    span = next(setting.value.span for setting in node.settings or () if setting.name.name == name)
    numbered = f"they are numbered 0..{count - 1}" if count > 1 else f"the only one is {name} 0"
    env.fault("bad-setting", f"there is no {name} {value}", span, notes=(numbered,))
    return None


def _subjects(
    node: t.Test, definition: Definition, values: dict[str, Value], settings: Mapping[str, int], env: ExprContext
) -> Iterator[tuple[_Setting, AttentionValue | None]]:
    """Yield the attentions that a test is about, each with its setting; None, or nothing, after reporting a fault."""
    if isinstance(definition.node, t.Model):
        yield from _layers(node, definition, values, settings, env)
        return
    heads, layers = settings.get("heads", 1), settings.get("layers", 1)
    layer, head = (
        _checked_place(node, settings, name, count, env) for name, count in (("layer", layers), ("head", heads))
    )
    extent = _extent(node, settings, heads, env) if node.settings is not None else None
    if layer is None or head is None or (node.settings is not None and extent is None):
        return
    setting = _Setting(extent, head, heads if extent else None, layer, layers)
    yield setting, attention_value(definition, values, env.elaboration, layer, layers)


def _layers(
    node: t.Test, definition: Definition, values: dict[str, Value], settings: Mapping[str, int], env: ExprContext
) -> Iterator[tuple[_Setting, AttentionValue | None]]:
    """Yield the layer of a model that a test sets, or for all n each distinct layer; nothing after a fault."""
    assert isinstance(definition.node, t.Model)
    inner = ExprContext(definition.scope, env.elaboration, CONSTANT, dict(values), {})
    sizes = model_sizes(definition.node, inner)
    if sizes is None or sizes.layers is None or sizes.heads is None:
        return
    for setting in node.settings or ():
        name = setting.name.name
        own = {"layers": sizes.layers, "heads": sizes.heads}.get(name)
        if own is not None and settings[name] != own:
            env.fault("bad-setting", f"`{definition.name}` has {own} {name}, not {settings[name]}", setting.value.span)
            return
    layer = _checked_place(node, settings, "layer", sizes.layers, env)
    head = _checked_place(node, settings, "head", sizes.heads, env)
    extent = _extent(node, settings, sizes.heads, env) if node.settings is not None else None
    if layer is None or head is None or (node.settings is not None and extent is None):
        return
    model = bind_model(definition, values, env.elaboration, None if extent is None else layer)
    if model is None:
        return
    seen: set[AttentionValue] = set()
    for number, value in enumerate(model.values):
        if value not in seen:
            place = number if extent is None else layer
            yield _Setting(extent, head, sizes.heads, place, sizes.layers, f", layer {place}"), value
        seen.add(value)


def _values(
    node: t.Test, definition: Definition, settings: Mapping[str, int], env: ExprContext
) -> dict[str, Value] | None:
    """The values, given or by default, of the parameters of the declaration that is tested; None after a fault.

    In a test for all n, a run-time parameter that is not given remains a table of unknown contents.
    """
    positions = layer_positions(env.elaboration, settings.get("layer", 0), settings.get("layers", 1))
    here = ExprContext(env.scope, env.elaboration, TEST, {}, positions)
    given = [(argument, elaborate(argument.value, here)) for argument in node.application.arguments]
    bounded = node.settings is not None  # at a given n, every table is given
    matched = match_arguments(definition, node.application.name, given, here, run_time_too=bounded)
    if matched is None or definition.ill_typed:
        return None
    env.elaboration.taken.update(f.name for f in definition.formals if f.name not in matched and not bounded)
    values: dict[str, Value] = {}
    sizes: dict[str, Dimension] = {}
    for formal in constants_first(definition.formals):
        assert formal.type is not None
        value: Value | None
        if formal.name in matched:
            argument, uncast = matched[formal.name]
            value = taken_as(formal, uncast, argument.value, here, values, sizes)
        elif formal.type.dimensions is not None and not bounded:
            assert formal.type.element != "index"
            kinds = dimensions_of(formal, here, values)
            value = None if kinds is None else TableValue(formal.name, formal.type.element, kinds)
        else:
            value = default_value(formal, definition, here, values, {}, elaborate)
        if value is not None:
            values[formal.name] = value
    return values if len(values) == len(definition.formals) else None


def _given(node: t.Test, definition: Definition) -> set[str]:
    """The names of the parameters for which the tested application has arguments."""
    arguments = enumerate(node.application.arguments)
    return {a.keyword.name if a.keyword else definition.formals[place].name for place, a in arguments}


# Checks


def _checks(node: t.Test, setting: _Setting, values: Mapping[str, Value], env: ExprContext) -> Iterator[Check]:
    """Yield the checks of a test, their operands evaluated; a check with a fault is reported and left out.

    The operand of a claim is a mask, which sees the test's arguments (``values``); the numbers of other checks see the
    sizes of the call instead.
    """
    positions = layer_positions(env.elaboration, setting.layer, setting.layers)
    claims = ExprContext(env.scope, env.elaboration, MASK, dict(values), positions)
    sizes = dict(positions)
    if setting.extent is not None:
        known = {"n": setting.extent.n, "heads": setting.extent.heads, "head": setting.head}
        sizes |= {name: Scalar("int", Const(value), True) for name, value in known.items()}
    numbers = ExprContext(env.scope, env.elaboration, SETTING, {}, sizes)
    for check in node.checks:
        if not isinstance(check, t.Claim) and setting.extent is None:
            helps = ("write `at n = 8` to look at one length",)
            env.fault("not-a-claim", "only claims can be stated for all n", check.span, helps=helps)
            continue
        found = _check(check, claims, numbers)
        if found is not None:
            yield found


def _check(check: t.Check, claims: ExprContext, numbers: ExprContext) -> Check | None:
    """One check, evaluated in the context for claims or in that for numbers; None after reporting a fault."""
    match check:
        case t.Claim(kind=kind, operand=node, negated=negated, span=span):
            operand: Expr | None = None
            if node is not None:
                checking = ExprContext(
                    claims.scope,
                    Elaboration(claims.elaboration.reports, checking=True),
                    MASK,
                    dict(claims.local),
                    claims.positions,
                )
                wanted = f"after `{kind}` stands a pattern"
                if pattern(node, checking, wanted) is None:  # every branch, before those that the values choose
                    return None
                value = pattern(node, claims, wanted)
                if value is None:
                    return None
                operand = value.expr
            return Claim(kind, operand, negated, span)  # type: ignore[arg-type]
        case t.Picture():
            return _picture(check, numbers)
        case t.Pairs(count=count, span=span):
            number = constant_integer(count, numbers, "a constant int as the number of pairs")
            return Pairs(_known(number), span=span) if number is not None else None
        case t.Line(axis=axis, index=node, members=members, span=span):
            number = constant_integer(node, numbers, f"a constant int as the number of the {axis}")
            kept = _members(members, numbers)
            if number is None or kept is None:
                return None
            return (Row if axis == "row" else Column)(_known(number), kept, span=span)


def _known(value: Scalar) -> int:
    """The int of a constant that depends on no parameter."""
    assert isinstance(value.expr, Const)
    return int(value.expr.value)


def _members(node: t.Expression, env: ExprContext) -> frozenset[int] | None:
    """The members of a constant set; None after reporting anything else."""
    value = elaborate(node, env)
    if value is None or isinstance(value, ConstantSet):
        return None if value is None else members_of(value, node, env)
    env.fault("not-a-set", f"expected a constant set, but {words(node.span)} is {described(value)}", node.span)
    return None


def _picture(check: t.Picture, env: ExprContext) -> Picture | None:
    """The check of a picture, its lines without blanks; None after reporting a character that no picture has."""
    for place, character in enumerate(check.text):
        if character not in "#.0123456789" and not character.isspace():
            span = type(check.span)(check.span.source, check.inside.start + place, check.inside.start + place + 1)
            notes = ("`#` is a pair that is kept once, `.` one that is not, a digit one that is kept so many times",)
            shown = f"`{character}`" if character.isprintable() else f"U+{ord(character):04X}"
            env.fault("bad-picture", f"{shown} means nothing in a picture", span, notes=notes)
            return None
    lines = ("".join(line.split()) for line in check.text.splitlines())
    return Picture(tuple(line for line in lines if line), span=check.span)
