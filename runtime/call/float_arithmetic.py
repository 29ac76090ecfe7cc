"""Rewrites what a mask computes with floats, for kernels: each operation in one dtype, rounded by one of its own.

All tables with dimensions in one comparison have one dtype. Literals and scalars are rounded to it first, and so is
each sum, difference and product. Kernels compute in their own dtype where it holds that one, and round; a comparison in
float64 beside narrower kernels reads tables of the element ``double``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import Literal, cast

import torch

from ...compiler.ir import (
    Apply,
    Const,
    Entry,
    Expr,
    Op,
    Table,
    choose,
    constructors,
    disjunction,
    less,
)
from ...compiler.plan import DType
from ..base import dtype_name, dtype_of
from .errors import located

_SMALLEST_NORMAL = 2.0**-126


def computes(side: Expr) -> bool:
    """Whether a side of a comparison is computed from floats, and not an entry, a literal or a choice between these."""
    return isinstance(side, Apply) and side.op not in ("float", "if")


def entries(side: Expr) -> Iterator[Entry]:
    """The entries of float tables that a float is computed from."""
    match side:
        case Entry():
            yield side
        case Apply(op="if", args=(_, *branches)):
            for branch in branches:
                yield from entries(branch)
        case Apply(op=op, args=args) if op != "float":
            for part in args:
                yield from entries(part)


@dataclass
class Arithmetic:
    """Rewrites the operands of comparisons. ``tables``: those of the attention, by name.

    ``compute``: the kernels' dtype. ``derived`` gives the entry of a table that is rounded to a dtype. ``literals``
    collects tables of single numbers.
    """

    dtypes: dict[str, torch.dtype]
    tables: dict[str, Table]
    compute: torch.dtype
    derived: Callable[[Entry, DType], Entry]
    literals: dict[str, Table] = field(default_factory=dict)

    def operands(self, left: Expr, right: Expr) -> tuple[Expr, Expr]:
        """Both sides of a comparison. TypeError where their tables have different dtypes."""
        read = [*entries(left), *entries(right)]
        strong = [one.table for one in read if self.tables[one.table].dimensions] or [one.table for one in read]
        dtypes = {self.dtypes[name]: name for name in reversed(strong)}
        if len(dtypes) > 1:
            first, other = strong[0], next(name for name in strong if self.dtypes[name] != self.dtypes[strong[0]])
            message = (
                f"{other}: has dtype {dtype_name(self.dtypes[other])}, expected {dtype_name(self.dtypes[first])}, as "
            )
            message += f"{first} has: the mask computes with both"
            raise TypeError(located(message, self.tables[other], (self.tables[first], f"{first} is declared here")))
        return self._side(left, next(iter(dtypes))), self._side(right, next(iter(dtypes)))

    def _side(self, side: Expr, dtype: torch.dtype) -> Expr:
        match side:
            case Const(value=value):
                return self._number(float(value), dtype)
            case Entry():
                return self._entry(side, dtype)
            case Apply(op="if", args=(condition, then, otherwise), span=span):
                return choose(condition, self._side(then, dtype), self._side(otherwise, dtype), span=span)
            case Apply(op="min" | "max", args=args):
                parts = [self._side(part, dtype) for part in args]
                return reduce(_least if side.op == "min" else _greatest, parts)
            case Apply(op="neg" | "abs" as op, args=(x,), span=span):
                return constructors.function(op, self._side(x, dtype), span=span)
            case Apply(op="add" | "sub" | "mul" as op, args=args, span=span):
                make = constructors.constructor_of(op)
                parts = [self._side(part, dtype) for part in args]
                return reduce(lambda a, b: _rounded(make(a, b, span=span), dtype), parts)
        raise AssertionError(f"{side} is computed in no mask")

    def _entry(self, entry: Entry, dtype: torch.dtype) -> Entry:
        double = self._is_double(dtype)
        if self.dtypes[entry.table] == dtype and not double:
            return entry
        if dtype == torch.float64 and not double:  # the kernels hold it exactly
            return entry
        return self.derived(entry, dtype_of(dtype))

    def _number(self, value: float, dtype: torch.dtype) -> Expr:
        """A literal rounded to a dtype: a table of its own where kernels could not spell it."""
        rounded = float(torch.tensor(value, dtype=torch.float64).to(dtype))
        double = self._is_double(dtype)
        small = self.compute != torch.float64 and 0 < abs(rounded) < _SMALLEST_NORMAL
        if not double and not small:
            return Const(rounded)
        name = f"{rounded!r} in {dtype_name(dtype)}"
        held: Literal["float", "double"] = "double" if double else "float"
        self.literals.setdefault(name, Table(name, held, (), value=rounded))
        return Entry(name, (), held)

    def _is_double(self, dtype: torch.dtype) -> bool:
        return dtype == torch.float64 != self.compute


def _rounded(x: Expr, dtype: torch.dtype) -> Expr:
    return x if isinstance(x, Const | Entry) else Apply(cast(Op, dtype_of(dtype).name), (x,), x.type)


def _least(a: Expr, b: Expr) -> Expr:
    """The lesser of two floats; NaN where either is, on every executor."""
    return choose(disjunction(less(a, b), _is_nan(a)), a, b)


def _greatest(a: Expr, b: Expr) -> Expr:
    return choose(disjunction(less(b, a), _is_nan(a)), a, b)


def _is_nan(x: Expr) -> Expr:
    return constructors.not_equal(x, x)
