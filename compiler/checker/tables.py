"""Checks reads of tables and of lists of constants, by indices that are evaluated already."""

from __future__ import annotations

from ..diagnostics import counted, words
from ..ir import Const, Entry, Expr, Q, Type
from ..syntax import tree as t
from .context import ExprContext
from .operators import is_integer
from .values import ListValue, Scalar, TableSet, TableValue, Value


def item(env: ExprContext, node: t.Indexed, found: ListValue, indices: list[Scalar | None]) -> Value | None:
    """An entry of a list of constants; None after reporting a fault."""
    value: Value = found
    for part, index in zip(node.indices, indices, strict=True):
        if not is_integer(env, part, index, "an int as an index"):
            return None
        assert index is not None
        if not index.constant:
            message = f"a list of constants is indexed by constants, but {words(part.span)} is known only at run time"
            helps = ("pass the list to a parameter that is a table: `int[8]`",)
            env.fault("not-constant", message, part.span, helps=helps)
            return None
        if not isinstance(value, ListValue):
            env.fault("wrong-arguments", f"{words(node.span)} has more indices than the list has dimensions", node.span)
            return None
        entry = _place(env, part, value, index)
        if entry is None:
            return None
        value = entry
    return value


def _place(env: ExprContext, part: t.Expression, found: ListValue, index: Scalar) -> Value | None:
    """One entry of a list; None after reporting an index outside it. While the index is not known, any entry serves."""
    if not isinstance(index.expr, Const):
        entry = found.items[0] if found.items else None
        return env.elaboration.unknown(entry.kind, constant=True) if isinstance(entry, Scalar) else entry
    place = int(index.expr.value)
    if 0 <= place < len(found.items):
        return found.items[place]
    message = f"index {place} is outside of a list of {counted(len(found.items), 'entry', 'entries')}"
    env.fault("index-range", message, part.span, notes=("entries count from 0",))
    return None


def chosen_entry(env: ExprContext, node: t.Indexed, found: TableValue, indices: list[Scalar | None]) -> Value | None:
    """An entry of a run-time table; None after reporting a fault."""
    if len(indices) != len(found.dimensions):
        message = f"`{node.name.name}` has {counted(len(found.dimensions), 'dimension')}, but "
        message += f"{counted(len(indices), 'index', 'indices')} here"
        env.fault("wrong-arguments", message, node.span)
        return None
    exprs: list[Expr] = []
    for part, index, dimension in zip(node.indices, indices, found.dimensions, strict=True):
        if not is_integer(env, part, index, "an int as an index"):
            continue
        assert index is not None
        unsettled = env.elaboration.checking and isinstance(
            index.expr, Entry
        )  # an `index` may still turn out to be `q`
        if dimension.kind == "query" and index.expr != Q and not unsettled:
            message = f"a `query` dimension is indexed by `q` itself, but {words(part.span)} is something else"
            notes = ("the table has a row for each query of the call, wherever the first one stands",)
            env.fault("not-q", message, part.span, notes=notes)
            continue
        exprs.append(index.expr)
    return entry(env, found, tuple(exprs), node) if len(exprs) == len(indices) else None


def entry(env: ExprContext, found: TableValue, indices: tuple[Expr, ...], node: t.Expression) -> Value | None:
    """The entry, or the set, of a table at given indices; None after reporting that it may not be read here."""
    if not may_look(env, node):
        return None
    if found.element == "set":
        return TableSet(found.name, indices)
    kind: Type = "int" if found.element == "order" else found.element
    return Scalar(kind, Entry(found.name, indices, kind, span=node.span))


def number_of(env: ExprContext, found: TableValue, node: t.Expression) -> Scalar | None:
    """A run-time number, which is read by its name, without indices."""
    value = entry(env, found, (), node)
    assert value is None or isinstance(value, Scalar)
    return value


def may_look(env: ExprContext, node: t.Expression) -> bool:
    """Whether run-time data may be read here; if not, reports it."""
    if not env.place.tables:
        message = f"{env.place.phrase} cannot look at {words(node.span)}, which is known only at run time"
        env.fault("not-constant", message, node.span)
    return env.place.tables
