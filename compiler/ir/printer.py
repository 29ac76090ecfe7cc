"""Text for people: expressions and attentions in the language's own notation."""

from __future__ import annotations

from collections.abc import Mapping

from .attentions import Attention, Table
from .expressions import Apply, Const, Entry, Expr, Logit, Member, Number, Position
from .operations import OPERATIONS, ROUNDINGS, Op

_ATOM, _CHOICE, _NOT, _UNARY, _COMPARISON = 11, 1, 4, 9, 5


def expression(expr: Expr, names: Mapping[str, str] | None = None) -> str:
    """An expression in the language's notation. ``names``: the names of a Program's tables, which it numbers."""
    return _written(expr, names or {})[0]


def _written(expr: Expr, names: Mapping[str, str]) -> tuple[str, int]:
    """The text of an expression, and its precedence."""
    match expr:
        case Const(value=value):
            text = str(value).lower() if isinstance(value, bool) else str(value)
            return text, _UNARY if text.startswith("-") else _ATOM
        case Position(name=name):
            return name, _ATOM
        case Logit():
            return "s", _ATOM
        case Number(index=index):
            return f"#{index}", _ATOM
        case Entry(table=table, indices=indices):
            return _indexed(table, indices, names), _ATOM
        case Member(element=element, table=table, indices=indices):
            return f"{_bound(element, 6, names)} in {_indexed(table, indices, names)}", _COMPARISON
        case Apply(op=op, args=args):
            return _operation(op, args, names)


def _operation(op: Op, args: tuple[Expr, ...], names: Mapping[str, str]) -> tuple[str, int]:
    sign, binds = OPERATIONS[op].sign, OPERATIONS[op].binds
    if sign:
        # Operands of a comparison, and those after `-`, `//`, `%` or `/`, need a higher precedence than the sign's.
        first = binds + 1 if binds == _COMPARISON else binds
        rest = binds if op in ("or", "and", "add", "plus", "mul") else binds + 1
        if op == "add" and isinstance(last := args[-1], Const) and last.type == "int" and last.value < 0:
            rest_of_sum = args[0] if len(args) == 2 else Apply("add", args[:-1], "int")
            return _operation("sub", (rest_of_sum, Const(-last.value)), names)
        parts = [_bound(x, rest if i else first, names) for i, x in enumerate(args)]
        return f" {sign} ".join(parts), binds
    match op, args:
        case "not", (x,):
            return f"not {_bound(x, _NOT, names)}", _NOT
        case "neg", (x,):
            return f"-{_bound(x, _UNARY, names)}", _UNARY
        case _, (x,) if op == "float" or op in ROUNDINGS:
            return _written(x, names)
        case "if", (condition, then, otherwise):
            then_text, condition_text = _bound(then, _CHOICE + 1, names), _bound(condition, _CHOICE + 1, names)
            return f"{then_text} if {condition_text} else {_bound(otherwise, _CHOICE, names)}", _CHOICE
        case "filter", (condition, count):
            return f"{_bound(condition, 3, names)} and {_bound(count, 4, names)}", 3
        case _:
            return f"{op}({', '.join(_bound(x, 0, names) for x in args)})", _ATOM


def _bound(expr: Expr, least: int, names: Mapping[str, str]) -> str:
    text, binds = _written(expr, names)
    return text if binds >= least else f"({text})"


def _indexed(table: str, indices: tuple[Expr, ...], names: Mapping[str, str]) -> str:
    name = names.get(table, table)
    return f"{name}[{', '.join(_bound(x, 0, names) for x in indices)}]" if indices else name


def table_type(table: Table) -> str:
    """The type of a table as the language writes it, such as ``int[head, token]`` or ``tokens``."""
    if table.element == "set" and not table.dimensions:
        return "tokens"
    sizes = (str(d.size) if d.kind == "fixed" else (d.name or d.kind) for d in table.dimensions)
    return f"{table.element}[{', '.join(sizes)}]"


def attention(attention: Attention) -> str:
    """What an attention computes: its name and tables, then mask, score, scale and sink, one line each."""
    lines = [f"{attention.name}({', '.join(f'{t.name}: {table_type(t)}' for t in attention.parameters)})"]
    lines.append(f"  mask  = {expression(attention.mask)}")
    lines.append(f"  score = {expression(attention.score)}")
    lines.append(f"  scale = {expression(attention.scale)}")
    if attention.sink is not None:
        lines.append(f"  sink  = {expression(attention.sink)}")
    return "\n".join(lines)
