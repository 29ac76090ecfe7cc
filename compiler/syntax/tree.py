"""What a text says, as it says it: the syntax tree. Frozen nodes with spans; spans take no part in equality."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal

from ..diagnostics import Source, Span


@dataclass(frozen=True, slots=True)
class Identifier:
    """A name where it is declared or meant."""

    name: str
    span: Span = field(compare=False)


# Expressions


@dataclass(frozen=True, slots=True)
class Number:
    value: int | float
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Truth:
    value: bool
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Builtin:
    """One of ``q k n s head heads layer layers``."""

    name: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Name:
    name: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Argument:
    keyword: Identifier | None
    value: Expression
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Application:
    """``window(512)``, or with no arguments in a place where only an application may stand, ``causal``."""

    name: Identifier
    arguments: tuple[Argument, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Indexed:
    """``doc[q]``."""

    name: Identifier
    indices: tuple[Expression, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class SetLiteral:
    """Members are numbers or ranges."""

    members: tuple[Expression, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class ListLiteral:
    items: tuple[Expression, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Range:
    """``low..high``, both included, or ``low..<high``."""

    low: Expression
    high: Expression
    closed: bool
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Junction:
    """A whole chain of one of the two words."""

    word: Literal["and", "or"]
    parts: tuple[Expression, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    operand: Expression
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """``operands[i] signs[i] operands[i + 1]``, as written; ``in`` and ``not in`` are signs too."""

    operands: tuple[Expression, ...]
    signs: tuple[str, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """A whole chain of ``+ -`` or of ``* // % /``, from left to right."""

    operands: tuple[Expression, ...]
    signs: tuple[str, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Negative:
    operand: Expression
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Power:
    base: Expression
    exponent: Expression
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Conditional:
    condition: Expression
    then: Expression
    otherwise: Expression
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Comprehension:
    """``sum(body for name in domain)``; likewise ``any`` and ``all``."""

    function: Literal["sum", "any", "all"]
    body: Expression
    name: Identifier
    domain: Expression
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A function of the language, such as ``abs`` or ``hash``, of its arguments."""

    function: Identifier
    arguments: tuple[Expression, ...]
    span: Span = field(compare=False)


Expression = (
    Number | Truth | Builtin | Name | Application | Indexed | SetLiteral | ListLiteral | Range | Junction | Not
    | Comparison | Arithmetic | Negative | Power | Conditional | Comprehension | FunctionCall
)  # fmt: skip


# Declarations


@dataclass(frozen=True, slots=True)
class Dimension:
    value: str | int
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class TypeName:
    """``dimensions`` is None where there are no brackets."""

    element: Identifier
    dimensions: tuple[Dimension, ...] | None
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Parameter:
    name: Identifier
    type: TypeName
    default: Expression | None
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Binding:
    """``name = value``: a local name of a ``where``, a setting of a test, a field of an attention or a model."""

    name: Identifier
    value: Expression
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Constant:
    name: Identifier
    value: Expression
    documentation: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Pattern:
    name: Identifier
    parameters: tuple[Parameter, ...]
    body: Expression
    locals: tuple[Binding, ...]
    documentation: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Attention:
    name: Identifier
    parameters: tuple[Parameter, ...]
    fields: tuple[Binding, ...]
    locals: tuple[Binding, ...]
    documentation: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class SelectorItem:
    """One number (``high`` is None) or a range of them."""

    low: Expression
    high: Expression | None
    closed: bool
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Selector:
    """``items`` is None for ``*``."""

    items: tuple[SelectorItem, ...] | None
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class HeadRule:
    selector: Selector
    value: Expression
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class LayerRule:
    """One value for all heads, or rules for heads."""

    selector: Selector
    value: Expression | tuple[HeadRule, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Model:
    name: Identifier
    parameters: tuple[Parameter, ...]
    fields: tuple[Binding, ...]
    rules: tuple[LayerRule, ...]
    documentation: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """``kind`` is ``causal``, ``rows nonempty``, ``within``, …; ``operand`` belongs to the last four."""

    kind: str
    operand: Expression | None
    negated: bool
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Picture:
    """``text`` as written between the quotes, which stands at ``inside``."""

    text: str
    inside: Span = field(compare=False)
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Line:
    """``row index == members`` or ``column index == members``."""

    axis: Literal["row", "column"]
    index: Expression
    members: Expression
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Pairs:
    count: Expression
    span: Span = field(compare=False)


Check = Claim | Picture | Line | Pairs


@dataclass(frozen=True, slots=True)
class Test:
    """``settings`` is None for ``for all n``."""

    application: Application
    settings: tuple[Binding, ...] | None
    checks: tuple[Check, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class ImportedName:
    name: Identifier
    alias: Identifier


@dataclass(frozen=True, slots=True)
class Import:
    module: tuple[Identifier, ...]
    names: tuple[ImportedName, ...]
    span: Span = field(compare=False)


Named = Constant | Pattern | Attention | Model
Declaration = Constant | Pattern | Attention | Model | Test | Import


@dataclass(frozen=True, slots=True)
class Tree:
    """One file. ``broken``: names whose declarations could not be read, so that nobody calls them unknown."""

    source: Source
    declarations: tuple[Declaration, ...]
    broken: frozenset[str] = frozenset()


def parts(node: Expression) -> tuple[Expression, ...]:
    """The direct parts of an expression, as they stand from left to right."""
    found = _PARTS.get(type(node))
    return () if found is None else found(node)


# By the kind of a node, for every walk over a tree asks this of every node.
_PARTS: dict[type, Callable[[Any], tuple[Expression, ...]]] = {
    Application: lambda node: tuple([argument.value for argument in node.arguments]),
    Indexed: attrgetter("indices"), SetLiteral: attrgetter("members"), ListLiteral: attrgetter("items"),
    Junction: attrgetter("parts"), Comparison: attrgetter("operands"), Arithmetic: attrgetter("operands"),
    FunctionCall: attrgetter("arguments"), Range: attrgetter("low", "high"), Power: attrgetter("base", "exponent"),
    Comprehension: attrgetter("body", "domain"), Not: lambda node: (node.operand,),
    Negative: lambda node: (node.operand,), Conditional: attrgetter("then", "condition", "otherwise"),
}  # fmt: skip


def roots(declaration: Declaration) -> tuple[Expression, ...]:
    """The outermost expressions of a declaration, as they stand."""
    match declaration:
        case Constant(value=value):
            return (value,)
        case Pattern(parameters=parameters, body=body, locals=bindings):
            return (*_defaults(parameters), body, *(b.value for b in bindings))
        case Attention(parameters=parameters, fields=fields, locals=bindings):
            return (*_defaults(parameters), *(b.value for b in (*fields, *bindings)))
        case Model(parameters=parameters, fields=fields, rules=rules):
            values = [value for rule in rules for value in _rule_roots(rule)]
            return (*_defaults(parameters), *(b.value for b in fields), *values)
        case Test(application=application, settings=settings, checks=checks):
            values = [value for check in checks for value in _check_roots(check)]
            return (application, *(b.value for b in settings or ()), *values)
        case _:
            return ()


def _defaults(parameters: tuple[Parameter, ...]) -> tuple[Expression, ...]:
    return tuple(parameter.default for parameter in parameters if parameter.default is not None)


def _rule_roots(rule: LayerRule) -> tuple[Expression, ...]:
    if not isinstance(rule.value, tuple):
        return (*_selector_roots(rule.selector), rule.value)
    inner = [value for head in rule.value for value in (*_selector_roots(head.selector), head.value)]
    return (*_selector_roots(rule.selector), *inner)


def _selector_roots(selector: Selector) -> tuple[Expression, ...]:
    return tuple(bound for item in selector.items or () for bound in (item.low, item.high) if bound is not None)


def _check_roots(check: Check) -> tuple[Expression, ...]:
    match check:
        case Claim(operand=operand):
            return () if operand is None else (operand,)
        case Line(index=index, members=members):
            return index, members
        case Pairs(count=count):
            return (count,)
        case _:
            return ()
