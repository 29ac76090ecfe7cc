"""Finds where gradients of float tables arise in a Program, and which tables its kernels read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Literal

from ...ir import (
    ZERO,
    Apply,
    Const,
    Entry,
    Expr,
    K,
    Member,
    Position,
    Q,
    Table,
    children,
    depends_on,
    derivative,
    reads,
    substitute,
    walk,
)
from ...plan import U8, Program
from .variant import TritonVariant

MOST_ENTRIES = 128
"""The most entries of a table, chosen by query and key together, for each of which a program has a sum of its own."""

Level = Literal["block", "row", "column", "pair"]


@dataclass(frozen=True)
class GradientSite:
    """One entry of a float table that the score or the sink reads; ``slope`` is the derivative of that by the entry.

    ``level`` says what the place of the entry in its table depends on, and so how the gradient is summed: on batch and
    head alone (``block``: one sum for each block of queries), on the query (``row``), on the key (``column``), or on
    query and key (``pair``: by atomic additions, of sums as far as pairs of one tile share entries).
    """

    number: int
    table: int
    indices: tuple[Expr, ...]
    slope: Expr
    level: Level
    sink: bool

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of the table on which query or key choose."""
        pairs = enumerate(self.indices)
        return tuple(axis for axis, index in pairs if depends_on(index, "q") or depends_on(index, "k"))

    @property
    def of_difference(self) -> bool:
        """Whether all pairs of a diagonal, of one ``q - k``, read the same entry."""
        return all(map(of_difference, self.indices))

    @property
    def at_difference(self) -> tuple[Expr, ...]:
        """The indices with the key at 0, so that the position of the query is the difference."""
        return tuple(substitute(index, {K: Const(0)}) for index in self.indices)


def used_tables(program: Program) -> tuple[int, ...]:
    """Return the numbers of the tables that kernels read: for conditions, score and sink."""
    roots = [program.score] + ([program.sink] if program.sink is not None else [])
    for kernel in program.kernels:
        roots += [kernel.owned_rows, *(segment.condition for segment in kernel.segments)]
    found = {int(node.table) for root in roots for node in walk(root) if isinstance(node, (Entry, Member))}
    return tuple(sorted(found))


def listed_sets(program: Program, variant: TritonVariant) -> frozenset[int]:
    """Return the numbers of the sets that are given as their members in rising order, not as bitmaps."""
    pairs = enumerate(zip(program.tables, variant.tables, strict=True))
    return frozenset(number for number, (table, kind) in pairs if table.element == "set" and kind != U8)


def gradient_sites(program: Program) -> tuple[GradientSite, ...]:
    """Return every place where a gradient of a float table arises, in a fixed order, those of the score first."""
    found: list[GradientSite] = []
    for sink, expr in ((False, program.score), (True, program.sink)):
        for entry in () if expr is None else reads(expr):
            assert expr is not None
            slope = derivative(expr, entry)
            if slope != ZERO:
                level = _level(entry.indices)
                found.append(GradientSite(len(found), int(entry.table), entry.indices, slope, level, sink))
    return tuple(found)


def few_entries(site: GradientSite, tables: tuple[Table, ...]) -> int:
    """Return the lanes, a power of two, for the entries among which query and key choose; 0 if these are many, or if
    the text does not say how many.
    """
    sizes = [tables[site.table].dimensions[axis].size for axis in site.axes]
    count = prod(size or MOST_ENTRIES + 1 for size in sizes)
    return 0 if site.level != "pair" or count > MOST_ENTRIES else max(16, 1 << (count - 1).bit_length())


def pair_tables(sites: Iterable[GradientSite]) -> tuple[int, ...]:
    """Return the numbers of the tables whose gradients are added atomically."""
    return tuple(sorted({site.table for site in sites if site.level == "pair"}))


@lru_cache(maxsize=4096)
def of_difference(expr: Expr) -> bool:
    """Whether an expression reads the positions of query and key by their difference alone, as its form shows."""
    terms = _terms(expr)
    if len(terms) == 1:
        return not (isinstance(expr, Position) and expr in (Q, K)) and all(map(of_difference, children(expr)))
    factors = [sum(sign for sign, term in terms if term == position) for position in (Q, K)]
    return sum(factors) == 0 and all(of_difference(term) for _, term in terms if term not in (Q, K))


def _terms(expr: Expr) -> tuple[tuple[int, Expr], ...]:
    """The terms of a sum of integers with their signs; those of the difference of what a condition compares."""
    match expr:
        case Apply(op="add", args=args, type="int"):
            return tuple(term for part in args for term in _terms(part))
        case Apply(op="sub" | "lt" | "le" | "eq" | "ne", args=(left, right)) if left.type == "int":
            return (*_terms(left), *((-sign, term) for sign, term in _terms(right)))
        case Apply(op="neg", args=(inner,), type="int"):
            return tuple((-sign, term) for sign, term in _terms(inner))
    return ((1, expr),)


def _level(indices: Sequence[Expr]) -> Level:
    by_query = any(depends_on(index, "q") for index in indices)
    by_key = any(depends_on(index, "k") for index in indices)
    if by_query:
        return "pair" if by_key else "row"
    return "column" if by_key else "block"
