"""The syntax tree of a text: one class for each kind of expression and declaration. Dataclasses only.

Nodes are frozen; each has a ``span``, its place in the text, which takes no part in equality.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal

from ..diagnostics import Source, Span


@dataclass(frozen=True, slots=True)
class Identifier:
    """A name that a declaration gives to something, or by which an application, import or test refers to it."""

    name: str
    span: Span = field(compare=False)


# Expressions


@dataclass(frozen=True, slots=True)
class Number:
    """An integer or a float, written in digits: ``16``, ``0.5``."""

    value: int | float
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Truth:
    """``true`` or ``false``."""

    value: bool
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Builtin:
    """A name that the language defines: ``q``, ``k``, ``n``, ``s``, ``head``, ``heads``, ``layer`` or ``layers``."""

    name: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Name:
    """A name in an expression: of a pattern without arguments, a constant, a parameter or a local name."""

    name: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of an application; ``keyword`` is the parameter, None for an argument by position."""

    keyword: Identifier | None
    value: Expression
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Application:
    """``window(512)``. After ``test`` also a bare ``causal``, which elsewhere is a :class:`Name`."""

    name: Identifier
    arguments: tuple[Argument, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Indexed:
    """``doc[q]``: an entry of a table or of a list, by one index for each dimension."""

    name: Identifier
    indices: tuple[Expression, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class SetLiteral:
    """``{0, 4..7}``: a set; its members are numbers or ranges."""

    members: tuple[Expression, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class ListLiteral:
    """``[1, 2, 4]``: a list, or a table whose contents the text gives."""

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
    """``a and b and c``: a whole chain of one word, ``and`` or ``or``."""

    word: Literal["and", "or"]
    parts: tuple[Expression, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    """``not operand``."""

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
    """``-operand``."""

    operand: Expression
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Power:
    """``base ** exponent``."""

    base: Expression
    exponent: Expression
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Conditional:
    """``then if condition else otherwise``."""

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
    """One dimension in the type of a table: ``value`` is its name, such as ``token``, or its size."""

    value: str | int
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class TypeName:
    """The type of a parameter: ``int[head, token]``; ``dimensions`` is None without brackets, empty for ``int[]``."""

    element: Identifier
    dimensions: tuple[Dimension, ...] | None
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Parameter:
    """``name: type``, or ``name: type = default``."""

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
    """``const name = value``. ``documentation`` holds the comment lines directly above a declaration."""

    name: Identifier
    value: Expression
    documentation: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Pattern:
    """``pattern name(parameters) = body where locals``."""

    name: Identifier
    parameters: tuple[Parameter, ...]
    body: Expression
    locals: tuple[Binding, ...]
    documentation: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Attention:
    """``attention name(parameters) { fields where locals }``; the fields are mask, score, scale and sink."""

    name: Identifier
    parameters: tuple[Parameter, ...]
    fields: tuple[Binding, ...]
    locals: tuple[Binding, ...]
    documentation: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class SelectorItem:
    """A number of a layer or head, or a range of them; ``high`` is None for a single one."""

    low: Expression
    high: Expression | None
    closed: bool
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Selector:
    """``0, 4..7``: the layers or heads that a rule is for; ``items`` is None for ``*``, all others."""

    items: tuple[SelectorItem, ...] | None
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class HeadRule:
    """``head selector = value`` inside a rule for layers."""

    selector: Selector
    value: Expression
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class LayerRule:
    """``layer selector = value``, or ``layer selector { rules for heads }``."""

    selector: Selector
    value: Expression | tuple[HeadRule, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Model:
    """``model name(parameters) { fields rules }``; the fields are the numbers of layers and heads."""

    name: Identifier
    parameters: tuple[Parameter, ...]
    fields: tuple[Binding, ...]
    rules: tuple[LayerRule, ...]
    documentation: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Claim:
    """A property that a test claims: ``kind`` is ``causal``, ``rows nonempty``, ``within`` and so on.

    ``operand`` is the pattern after ``within``, ``contains``, ``equals`` or ``disjoint``, None for other kinds.
    """

    kind: str
    operand: Expression | None
    negated: bool
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Picture:
    """``picture`` and a drawing of the mask; ``text`` is what is between the quotes, ``inside`` its place."""

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
    """``pairs == count``."""

    count: Expression
    span: Span = field(compare=False)


Check = Claim | Picture | Line | Pairs


@dataclass(frozen=True, slots=True)
class Test:
    """``test application at settings { checks }``; ``settings`` is None for a test ``for all n``."""

    application: Application
    settings: tuple[Binding, ...] | None
    checks: tuple[Check, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class ImportedName:
    """``name as alias``; ``alias`` is the name itself where the text gives no other."""

    name: Identifier
    alias: Identifier


@dataclass(frozen=True, slots=True)
class Import:
    """``from module import names``; ``module`` has one part for each folder and the file."""

    module: tuple[Identifier, ...]
    names: tuple[ImportedName, ...]
    span: Span = field(compare=False)


Named = Constant | Pattern | Attention | Model
Declaration = Constant | Pattern | Attention | Model | Test | Import


@dataclass(frozen=True, slots=True)
class Tree:
    """The declarations of one text. ``broken``: names whose declarations have a fault, so that uses report no other."""

    source: Source
    declarations: tuple[Declaration, ...]
    broken: frozenset[str] = frozenset()


def parts(node: Expression) -> tuple[Expression, ...]:
    """The direct operands of an expression, in the order of the text."""
    parts_of_kind = _PARTS.get(type(node))
    return () if parts_of_kind is None else parts_of_kind(node)


# A lookup by type, because every walk over a tree calls this for every node.
_PARTS: dict[type, Callable[[Any], tuple[Expression, ...]]] = {
    Application: lambda node: tuple([argument.value for argument in node.arguments]),
    Indexed: attrgetter("indices"), SetLiteral: attrgetter("members"), ListLiteral: attrgetter("items"),
    Junction: attrgetter("parts"), Comparison: attrgetter("operands"), Arithmetic: attrgetter("operands"),
    FunctionCall: attrgetter("arguments"), Range: attrgetter("low", "high"), Power: attrgetter("base", "exponent"),
    Comprehension: attrgetter("body", "domain"), Not: lambda node: (node.operand,),
    Negative: lambda node: (node.operand,), Conditional: attrgetter("then", "condition", "otherwise"),
}  # fmt: skip


def roots(declaration: Declaration) -> tuple[Expression, ...]:
    """The outermost expressions of a declaration, with those of its parameters, rules and checks."""
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
