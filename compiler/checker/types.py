"""The types of parameters, and the checks of a declaration's list of parameters."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from ..diagnostics import Diagnostic, Edit, ErrorCollector, Span, at, listed, words
from ..syntax import tree as t
from .reserved_names import FORBIDDEN, OF_CONSTANTS

Element = Literal["int", "float", "bool", "set", "index", "order"]
_PLAIN: dict[str, Element] = {"int": "int", "float": "float", "bool": "bool", "set": "set", "index": "index"}
_TABLES: dict[str, Literal["int", "float", "bool", "set", "order"]] = {
    "int": "int", "float": "float", "bool": "bool", "set": "set", "order": "order",
}  # fmt: skip
_MEANT = {
    "integer": "int", "int32": "int", "int64": "int", "long": "int", "number": "int", "boolean": "bool",
    "double": "float", "float32": "float", "real": "float", "positions": "tokens",
}  # fmt: skip


@dataclass(frozen=True)
class DimensionType:
    """One dimension in the type of a table.

    ``size`` is set for ``fixed`` only. ``name`` is that of the int parameter which gives the size (``parameter``), or
    that of a ``free`` size.
    """

    kind: Literal["token", "query", "head", "fixed", "parameter", "free"]
    size: int | None = None
    name: str = ""


@dataclass(frozen=True)
class ParameterType:
    """The type of a parameter. ``dimensions`` is None for a compile-time constant and for an ``index``."""

    element: Element
    dimensions: tuple[DimensionType, ...] | None

    @property
    def compile_time(self) -> bool:
        return self.dimensions is None and self.element != "index"

    @property
    def run_time(self) -> bool:
        return self.dimensions is not None

    def __str__(self) -> str:
        if self.dimensions is None:
            return self.element
        if self.element == "set" and not self.dimensions:
            return "tokens"
        sizes = (str(d.size) if d.kind == "fixed" else d.name or d.kind for d in self.dimensions)
        return f"{self.element}[{', '.join(sizes)}]"


@dataclass(frozen=True)
class Formal:
    """One parameter of a checked declaration. ``type`` is None where it has a fault, which is reported already."""

    name: str
    type: ParameterType | None
    default: t.Expression | None
    span: Span = field(compare=False)
    type_span: Span = field(compare=False)


def parameter_type(
    node: t.TypeName,
    integers: Collection[str],
    constant: Callable[[t.Dimension], int | str | None],
    reports: ErrorCollector,
) -> ParameterType | None:
    """The type that the text names; None after reporting a fault.

    ``integers`` are the names of the int parameters. ``constant`` gives the size of a dimension that is written as any
    other name: the value of that constant, the name itself if the size is free, or None after reporting a fault.
    """
    name = node.element.name
    if name not in _PLAIN and name not in ("tokens", "order"):
        message = f"`{name}` is not a type"
        types = [*_PLAIN, "tokens", "order"]
        helps, edits = reports.meant(_MEANT.get(name.lower(), name), types, node.element.span)
        label = at(node.element.span, "expected int, float, bool, set, tokens, index or order")
        reports.add(Diagnostic("unknown-type", message, label, helps=helps, edits=edits))
        return None
    if node.dimensions is None and name != "order":
        return ParameterType("set", ()) if name == "tokens" else ParameterType(_PLAIN[name], None)
    fault = _misshapen(name, node)
    if fault is not None:
        message, helps = fault
        reports.add(Diagnostic("malformed-type", message, at(node.span), helps=helps))
        return None
    dimensions = tuple(_dimension(d, integers, constant, reports, node) for d in node.dimensions or ())
    known = tuple(d for d in dimensions if d is not None)
    return ParameterType(_TABLES[name], known) if len(known) == len(dimensions) else None


def _misshapen(name: str, node: t.TypeName) -> tuple[str, tuple[str, ...]] | None:
    dimensions = node.dimensions
    if name == "order" and (not dimensions or dimensions[-1].value != "token"):
        return "the last dimension of an `order` is `token`", ("write `order[token]`, or `order[head, token]`",)
    if name == "tokens":
        return "`tokens` has no dimensions of its own", ("a table of sets is `set[…]`",)
    if name == "index":
        return "an `index` is substituted where a pattern is applied, and is no table", ("write `index`, or `int[…]`",)
    if name == "bool" and not dimensions:
        return "a single run-time condition is no type", ("take an `int[]`, and compare it",)
    return None


def _dimension(
    node: t.Dimension, integers: Collection[str], constant: Callable[[t.Dimension], int | str | None],
    reports: ErrorCollector, whole: t.TypeName,
) -> DimensionType | None:  # fmt: skip
    value = node.value
    match value:
        case "token" | "query" | "head":
            return DimensionType(value, name="")
        case str() if value in integers:
            return DimensionType("parameter", name=value)
        case str():
            size = constant(node)
            if size == "batch":
                _refuse_batch(node, whole, reports)
                return None
            if size is None or isinstance(size, str):
                return None if size is None else DimensionType("free", name=size)
        case int():
            size = value
    if size < 1:
        message = f"a dimension has at least one entry, but {words(node.span)} is {size}"
        reports.add(Diagnostic("malformed-type", message, at(node.span)))
        return None
    return DimensionType("fixed", size)


def _refuse_batch(node: t.Dimension, whole: t.TypeName, reports: ErrorCollector) -> None:
    """Report a dimension called ``batch``: every table may have one in front, which is not written."""
    rest = ", ".join(str(d.value) for d in whole.dimensions or () if d.value != "batch")
    name = "int" if whole.element.name == "bool" and not rest else whole.element.name
    text = f"{name}[{rest}]"
    notes = ("every table may have a batch in front, which is not written",)
    helps, edits = (f"write `{text}`",), (Edit(whole.span, text),)
    reports.add(Diagnostic("malformed-type", "`batch` is no dimension", at(node.span), (), notes, helps, edits))


def _constant(node: t.TypeName) -> bool:
    """Whether a type is written as that of a constant or of an ``index``, which calls do not pass."""
    return node.dimensions is None and node.element.name not in ("tokens", "order")


def check_names(parameters: tuple[t.Parameter, ...], reports: ErrorCollector) -> None:
    """Report parameters that share a name or have a forbidden one, and those without a default after one with it."""
    first: dict[str, t.Parameter] = {}
    for parameter in parameters:
        name = parameter.name.name
        if name in first:
            related = (at(first[name].name.span, "first here"),)
            reports.add(
                Diagnostic("duplicate-name", f"two parameters are called `{name}`", at(parameter.name.span), related)
            )
        elif name in FORBIDDEN and not (name in OF_CONSTANTS and _constant(parameter.type)):
            message = f"a parameter cannot be called `{name}`: a call has an argument of that name"
            notes = (f"the call keeps {listed([f'`{word}`' for word in FORBIDDEN], 'and')}",)
            reports.add(Diagnostic("forbidden-name", message, at(parameter.name.span), notes=notes))
        first.setdefault(name, parameter)
    defaulted = next((p for p in parameters if p.default is not None), None)
    for parameter in parameters:
        if defaulted is not None and parameter.default is None and parameter.span.start > defaulted.span.start:
            message = f"`{parameter.name.name}` has no default, but stands after `{defaulted.name.name}`, which has one"
            helps = ("parameters with a default stand last",)
            related = (at(defaulted.span),)
            reports.add(Diagnostic("default-order", message, at(parameter.name.span), related, helps=helps))
