"""Spells single operations in C++, the same for single values and vectors: see ``templates/cpp/vectors.h``.

Positions are fields of the record of the stage at which they are known: ``row.q`` for each query, ``key.k`` for each
key, and ``head.n``, ``head.heads``, ``head.index`` for each head of a batch entry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ...ir import Op, Table, Type

_POSITIONS = {"q": "row.q", "k": "key.k", "n": "head.n", "head": "head.index", "heads": "head.heads"}
_INFIX: Mapping[Op, str] = {"add": "+", "plus": "+", "sub": "-", "mul": "*", "div": "/"}
_COMPARISONS: Mapping[Op, str] = {"lt": "<", "le": "<=", "eq": "==", "ne": "!="}
_FUNCTIONS: Mapping[Op, str] = {
    "abs": "magnitude", "min": "minimum", "max": "maximum", "hash": "hashed", "and": "all", "or": "any",
    "not": "negation", "iff": "same", "float": "real", "exp": "exponential", "log": "logarithm", "tanh": "tangent",
    "sqrt": "square_root", "sigmoid": "sigmoid",
    "fp16": "rounded<Half>", "bf16": "rounded<BrainFloat>", "fp32": "rounded<float>", "fp64": "rounded<double>",
}  # fmt: skip


@dataclass(frozen=True)
class CppDialect:
    """C++'s :class:`compiler.codegen.straight_line.Dialect`, for the tables of one Program."""

    tables: tuple[Table, ...]

    def constant(self, value: bool | int | float) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            return _integer(value)
        if math.isnan(value):
            return "NOT_A_NUMBER"
        if math.isinf(value):
            return "INFINITE" if value > 0 else "(-INFINITE)"
        return f"Real({value!r})"

    def position(self, name: str) -> str:
        return _POSITIONS[name]

    def logit(self) -> str:
        return "s"

    def indices(self, table: int, indices: tuple[str, ...]) -> tuple[str, ...]:
        """The indices of an entry as subscripts; along a query dimension, the position less that of the first query."""
        kinds = [dimension.kind for dimension in self.tables[table].dimensions]
        return tuple(
            f"{index} - head.start" if kind == "query" else index for index, kind in zip(indices, kinds, strict=False)
        )

    def number(self, index: int) -> str:
        return f"head.number{index}"

    def entry(self, table: int, indices: tuple[str, ...], kind: Type) -> str:  # noqa: ARG002 - C++ deduces the type
        return f"entry({', '.join((f'head.table{table}', *self.indices(table, indices)))})"

    def member(self, element: str, table: int, indices: tuple[str, ...]) -> str:
        return f"member({', '.join((f'head.table{table}', element, *self.indices(table, indices)))})"

    def operation(self, op: Op, args: tuple[str, ...], types: tuple[Type, ...], kind: Type) -> str:
        if kind == "count" or op == "plus":
            args = tuple(f"number({x})" if its == "bool" and (op != "filter" or i) and (op != "if" or i) else x
                         for i, (x, its) in enumerate(zip(args, types, strict=True)))  # fmt: skip
        if op in _INFIX:
            return f" {_INFIX[op]} ".join(args)
        if op in _COMPARISONS:
            return f"truth({args[0]} {_COMPARISONS[op]} {args[1]})"
        match op, args:
            case "neg", (x,):
                return f"-{x}"
            case (("floordiv" | "mod"), (x, divisor)):
                name = "floor_divide" if op == "floordiv" else "floor_remainder"
                return f"{name}<{divisor}>({x})" if divisor.isdecimal() else f"{name}({x}, {divisor})"
            case "if", (condition, then, otherwise):
                return f"{'choose_condition' if kind == 'bool' else 'choose'}({condition}, {then}, {otherwise})"
            case "filter", (condition, count):
                return f"choose({condition}, {count}, Int(0))"
        return f"{_FUNCTIONS[op]}({', '.join(args)})"


def _integer(value: int) -> str:
    if abs(value) < 2**31:
        return str(value) if value >= 0 else f"({value})"
    return f"int64_t({value}LL)" if value > -(2**63) else "INT64_MIN"
