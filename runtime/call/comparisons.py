"""Makes a mask's comparisons of floats exact, in the table's own dtype, and the same on every executor.

Kernels hold float tables in the compute dtype. Where that represents every entry, entries are compared in it, and a
literal is rounded to the table's dtype first. Elsewhere (a float64 table beside float32 queries, or an integer compared
with an entry) integer tables are derived from the float table at the call, on its device, and those are compared. A
scalar (``float[]``) compared with an entry of a table with dimensions is rounded to that table's dtype, as torch does
with a number. What is computed with floats before it is compared, :mod:`.float_arithmetic` rewrites.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Literal, TypeGuard

import torch
from torch import Tensor

from ...compiler.ir import (
    FALSE,
    Apply,
    Attention,
    CallShape,
    Const,
    Entry,
    Expr,
    Table,
    choose,
    conjunction,
    disjunction,
    equal,
    less,
    less_equal,
    negation,
    transform,
    walk,
)
from ...compiler.oracle import from_literal
from ...compiler.plan import FP64, DType
from ..base import dtype_of, torch_dtype
from .float_arithmetic import Arithmetic, computes

Dtypes = tuple[tuple[str, torch.dtype], ...]  # dtypes by name, of the float tables that a mask compares
Part = Literal["high", "middle", "low", "floor", "ceiling", "floor or most", "ceiling or most", "whole"]

_COMPARISONS = {"lt": less, "le": less_equal, "eq": equal}
_BITS = 21  # of each part of a double's rank in the order of all doubles; the first has one more
_NO_NUMBER = -(2**22)  # the first part of NaN's rank: below that of any number
_MOST = 2**62 - 1  # the largest integer that the contents of a device's table may hold
_NOT_WHOLE = -_MOST
_SMALLEST_NORMAL = 2.0**-126


@dataclass(frozen=True)
class Derived:
    """A table ``name`` that is computed, entry by entry, from the float table ``source``; see :func:`_derive`.

    It holds integers or, where ``kind`` is a dtype, floats rounded to it.
    """

    name: str
    source: str
    kind: Part | DType


@dataclass(frozen=True)
class Settled:
    """An attention whose mask compares floats in the compute dtype alone, and the derived tables that it reads."""

    attention: Attention
    derived: tuple[Derived, ...]


def settle(
    attention: Attention, tensors: Mapping[str, Tensor], extent: CallShape, compute: torch.dtype
) -> tuple[Attention, Mapping[str, Tensor]]:
    """Rewrites the comparisons of floats for kernels that compute in ``compute``, and adds the derived tables.

    ``tensors``: the tables that were given, checked. Derived tables come after the attention's own.
    """
    names = _compared(attention)
    if not names:
        return attention, tensors
    held = {name: tensors[name] if name in tensors else _literal(attention, name, extent) for name in names}
    found = _settled(attention, tuple((name, x.dtype) for name, x in held.items()), compute)
    made = {one.name: _derive(held[one.source].detach(), one.kind) for one in found.derived}
    return found.attention, {**tensors, **made}


def settle_alike(attention: Attention, compute: torch.dtype) -> Attention:
    """Rewrites what the mask computes with floats for kernels that compute in ``compute``, for calls whose float tables
    have that dtype; the attention itself where the mask computes nothing. For kernels that no call asks for.
    """
    comparisons = (node for node in walk(attention.mask) if isinstance(node, Apply) and node.op in _COMPARISONS)
    computed = any(side.type == "float" and computes(side) for node in comparisons for side in node.args)
    if not computed:
        return attention
    return _settled(attention, tuple((name, compute) for name in _compared(attention)), compute).attention


@lru_cache(maxsize=512)
def _compared(attention: Attention) -> tuple[str, ...]:
    """The names of the float tables that the mask reads, each of them in a comparison."""
    nodes = walk(attention.mask)
    return tuple(dict.fromkeys(node.table for node in nodes if isinstance(node, Entry) and node.type == "float"))


def _literal(attention: Attention, name: str, extent: CallShape) -> Tensor:
    """The contents of a table that the text itself gives, by its value or its default."""
    table = next(table for table in attention.tables if table.name == name)
    literal = table.value if table.value is not None else table.default
    assert literal is not None, "checked before"
    held = from_literal(table, literal, extent, {}).values
    assert held is not None, "a literal's contents are known"
    return torch.from_numpy(held)


@lru_cache(maxsize=512)
def _settled(attention: Attention, dtypes: Dtypes, compute: torch.dtype) -> Settled:
    sources = {table.name: table for table in attention.tables}
    scalars = frozenset(name for name, table in sources.items() if not table.dimensions)
    comparison = _Comparison(dict(dtypes), scalars, compute, {}, sources)
    mask = transform(attention.mask, comparison.settled)
    tables = tuple(
        replace(
            sources[one.source],
            name=one.name,
            element=comparison.element(one.kind),
            default=None,
            value=None,
        )
        for one in comparison.derived.values()
    )
    literals = tuple(comparison.arithmetic.literals.values())
    settled = replace(attention, mask=mask, tables=(*attention.tables, *tables, *literals))
    return Settled(settled, tuple(comparison.derived.values()))


def _is_of_floats(node: Expr) -> TypeGuard[Apply]:
    return isinstance(node, Apply) and node.op in (*_COMPARISONS, "ne") and node.args[0].type == "float"


@dataclass(frozen=True)
class _Comparison:
    """Rewrites comparisons for tables of these dtypes; collects in ``derived`` the tables that they need."""

    dtypes: dict[str, torch.dtype]
    scalars: frozenset[str]
    compute: torch.dtype
    derived: dict[tuple[str, Part | DType], Derived]
    tables: dict[str, Table]
    done: set[frozenset[Expr]] = field(default_factory=set)  # the sides of comparisons that are rewritten

    @cached_property
    def arithmetic(self) -> Arithmetic:
        """Rewrites what is computed with floats before it is compared."""
        return Arithmetic(self.dtypes, self.tables, self.compute, self._of_dtype)

    def element(self, kind: Part | DType) -> Literal["int", "float", "double"]:
        """The elements of a derived table."""
        if not isinstance(kind, DType):
            return "int"
        return "double" if kind == FP64 and self.compute != torch.float64 else "float"

    def _of_dtype(self, entry: Entry, kind: DType) -> Entry:
        return self._entry(entry, kind, self.element(kind))

    def settled(self, node: Expr) -> Expr:
        """A comparison of floats rewritten; anything else, and what a rewritten one has become part of, unchanged."""
        if not _is_of_floats(node) or frozenset(node.args) in self.done:
            return node
        found = self._compare(node, *node.args)
        # The negation of a comparison is rebuilt as another comparison of the same two sides.
        self.done.update(frozenset(one.args) for one in walk(found) if _is_of_floats(one))
        return found

    def _compare(self, node: Apply, left: Expr, right: Expr) -> Expr:
        """The rewritten comparison ``node`` of two floats; one of a choice between floats becomes a choice between
        comparisons.
        """
        for place, side in enumerate((left, right)):
            if isinstance(side, Apply) and side.op == "if":
                condition, *branches = side.args
                then, otherwise = (
                    self._compare(node, *((branch, right) if place == 0 else (left, branch))) for branch in branches
                )
                return choose(condition, then, otherwise, span=node.span)
        if node.op == "ne":
            return negation(self._compare(replace(node, op="eq"), left, right), span=node.span)
        if isinstance(left, Const) and isinstance(right, Const):
            return _COMPARISONS[node.op](left, right, span=node.span)
        if computes(left) or computes(right):
            return _COMPARISONS[node.op](*self.arithmetic.operands(left, right), span=node.span)
        if _is_integer(left) and _is_integer(right):
            return _COMPARISONS[node.op](_integer(left), _integer(right), span=node.span)
        if _is_integer(left) or _is_integer(right):
            alone = isinstance(left, Const) or isinstance(right, Const)
            return (_with_constant if alone else self._with_integer)(node, left, right)
        left, right = self._rounded(left, right), self._rounded(right, left)
        if self._fits(left) and self._fits(right):
            return _COMPARISONS[node.op](left, right, span=node.span)
        return self._by_parts(node, left, right)

    def _rounded(self, side: Expr, other: Expr) -> Expr:
        """A literal or a scalar table, rounded to the dtype of the entry that it is compared with; anything else
        unchanged.
        """
        if isinstance(side, Entry) and isinstance(other, Entry):
            dtype = self.dtypes[other.table]
            if side.table not in self.scalars or other.table in self.scalars or dtype == torch.float64:
                return side
            rounded = self._entry(side, dtype_of(dtype), "float")
            self.dtypes[rounded.table] = dtype
            return rounded
        if not isinstance(side, Const):
            return side
        assert isinstance(other, Entry)
        return Const(float(torch.tensor(side.value, dtype=torch.float64).to(self.dtypes[other.table])))

    def _fits(self, side: Expr) -> bool:
        """Whether the compute dtype represents a side exactly on every executor; some flush subnormal numbers to 0."""
        if isinstance(side, Entry):
            return self.compute == torch.float64 or self.dtypes[side.table] != torch.float64
        assert isinstance(side, Const)
        return self.compute == torch.float64 or side.value == 0 or abs(side.value) >= _SMALLEST_NORMAL

    def _with_integer(self, node: Apply, left: Expr, right: Expr) -> Expr:
        """Compares an integer with an entry's floor, ceiling or whole value; every comparison with NaN is false."""
        compare = _COMPARISONS[node.op]
        first = _is_integer(left)
        number, entry = (_integer(left), right) if first else (_integer(right), left)
        assert isinstance(entry, Entry)
        if node.op == "eq":
            whole = self._entry(entry, "whole")
            return conjunction(negation(equal(whole, Const(_NOT_WHOLE))), equal(number, whole), span=node.span)
        if first:
            return compare(number, self._entry(entry, "ceiling" if node.op == "lt" else "floor"), span=node.span)
        kind: Part = "floor or most" if node.op == "lt" else "ceiling or most"
        return compare(self._entry(entry, kind), number, span=node.span)

    def _by_parts(self, node: Apply, left: Expr, right: Expr) -> Expr:
        """Compares two doubles by their ranks in the order of all doubles, in three integer parts, first part first."""
        (a, b, c), (x, y, z) = self._parts(left), self._parts(right)
        number = negation(equal(a, Const(_NO_NUMBER)))
        if node.op == "eq":
            return conjunction(number, equal(a, x), equal(b, y), equal(c, z), span=node.span)
        last = disjunction(less(b, y), conjunction(equal(b, y), _COMPARISONS[node.op](c, z)))
        return conjunction(number, disjunction(less(a, x), conjunction(equal(a, x), last)), span=node.span)

    def _parts(self, side: Expr) -> tuple[Expr, Expr, Expr]:
        if isinstance(side, Entry):
            return self._entry(side, "high"), self._entry(side, "middle"), self._entry(side, "low")
        assert isinstance(side, Const)
        value = torch.tensor([side.value], dtype=torch.float64)
        high, middle, low = (Const(int(_derive(value, kind))) for kind in ("high", "middle", "low"))
        return high, middle, low

    def _entry(self, entry: Entry, kind: Part | DType, of: Literal["int", "float", "double"] = "int") -> Entry:
        """The same entry of a derived table, whose name is not an identifier and so cannot clash with any other."""
        part = kind.torch if isinstance(kind, DType) else kind
        one = Derived(f"{entry.table}'s {part}", entry.table, kind)
        return Entry(self.derived.setdefault((entry.table, kind), one).name, entry.indices, of, entry.span)


def _with_constant(node: Apply, left: Expr, right: Expr) -> Expr:
    """Compares an integer, which a choice had made a float, with a literal: exactly, by the integers next to that."""
    compare, first = _COMPARISONS[node.op], _is_integer(left)
    number, constant = (_integer(left), right) if first else (_integer(right), left)
    assert isinstance(constant, Const)
    bound = float(constant.value)
    if not abs(bound) < _MOST:  # of NaN every comparison is false
        return Const(node.op != "eq" and (bound > 0) == first and bound == bound)
    if node.op == "eq":
        return compare(number, Const(int(bound)), span=node.span) if bound == int(bound) else FALSE
    if first:
        edge = math.ceil(bound) if node.op == "lt" else math.floor(bound)
        return compare(number, Const(edge), span=node.span)
    edge = math.floor(bound) if node.op == "lt" else math.ceil(bound)
    return compare(Const(edge), number, span=node.span)


def _is_integer(side: Expr) -> bool:
    return isinstance(side, Apply) and side.op == "float"


def _integer(side: Expr) -> Expr:
    assert isinstance(side, Apply)
    return side.args[0]


def _derive(x: Tensor, kind: Part | DType) -> Tensor:
    """Computes a derived table's entries from those of ``x``: integers, or the entries rounded to a dtype.

    ``floor`` and ``ceiling``: the integer at or below, at or above the entry; NaN becomes the least integer, or the
    greatest where the name ends in ``or most``. ``whole``: the entry where it is an integer, else a marker. ``high``,
    ``middle``, ``low``: three parts of its rank in the order of all doubles, where 0.0 and -0.0 have rank 0.
    """
    if isinstance(kind, DType):
        return x.to(torch_dtype(kind))
    x = x.to(torch.float64)
    if kind in ("high", "middle", "low"):
        bits = (x + 0.0).view(torch.int64)  # -0.0 + 0.0 is 0.0
        order = torch.where(bits < 0, bits ^ (2**63 - 1), bits)
        order = torch.where(bits < 0, order + 1, order)  # the rank of -x is minus the rank of x
        part: Tensor = order >> {"high": 2 * _BITS, "middle": _BITS, "low": 0}[kind]
        if kind == "high":
            return part.masked_fill(x.isnan(), _NO_NUMBER).to(torch.int32)
        return part.bitwise_and(2**_BITS - 1).to(torch.int32)
    whole = x.floor() if kind.startswith("floor") else x.ceil()
    least, most = whole <= -float(_MOST), whole >= float(_MOST)
    found = torch.where(least | most | x.isnan(), 0.0, whole).to(torch.int64)
    found = torch.where(most, _MOST, torch.where(least, -_MOST, found))
    if kind == "whole":
        return torch.where(x.isfinite() & (whole == x), found, _NOT_WHOLE)
    return torch.where(x.isnan(), _MOST if kind.endswith("most") else -_MOST, found)
