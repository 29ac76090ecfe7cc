"""Where the gradients of float tables arise in a Program, and which tables it reads at all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ...ir import ZERO, Entry, Expr, Member, depends_on, derivative, reads, walk
from ...plan import Program
from .variant import Variant

Level = Literal["block", "row", "column", "pair"]


@dataclass(frozen=True)
class Site:
    """One entry of a float table that a score or a sink reads, and the gradient that reaches it.

    ``level`` says what its place depends on: nothing but batch and head (one sum for each block of queries), the query
    (one for each row), the key (one for each column) or both (each pair, by atomic additions).
    """

    number: int
    table: int
    indices: tuple[Expr, ...]
    slope: Expr
    level: Level
    sink: bool


def used_tables(program: Program) -> tuple[int, ...]:
    """The numbers of the tables that any of the expressions reads that kernels are made of."""
    roots = [program.score] + ([program.sink] if program.sink is not None else [])
    for kernel in program.kernels:
        roots += [kernel.where, *(segment.condition for segment in kernel.segments)]
    found = {int(node.table) for root in roots for node in walk(root) if isinstance(node, (Entry, Member))}
    return tuple(sorted(found))


def listed_sets(program: Program, variant: Variant) -> frozenset[int]:
    """The numbers of the tables of sets that hold rising members, and not bitmaps."""
    pairs = enumerate(zip(program.tables, variant.tables, strict=True))
    return frozenset(number for number, (table, kind) in pairs if table.element == "set" and kind != "u8")


def gradient_sites(program: Program) -> tuple[Site, ...]:
    """Every place where a gradient of a float table arises, in a fixed order."""
    found: list[Site] = []
    for sink, expr in ((False, program.score), (True, program.sink)):
        for entry in () if expr is None else reads(expr):
            assert expr is not None
            slope = derivative(expr, entry)
            if slope != ZERO:
                level = _level(entry.indices)
                found.append(Site(len(found), int(entry.table), entry.indices, slope, level, sink))
    return tuple(found)


def pair_tables(sites: Iterable[Site]) -> tuple[int, ...]:
    """The numbers of the tables whose gradients are added atomically."""
    return tuple(sorted({site.table for site in sites if site.level == "pair"}))


def _level(indices: Sequence[Expr]) -> Level:
    by_query = any(depends_on(index, "q") for index in indices)
    by_key = any(depends_on(index, "k") for index in indices)
    if by_query:
        return "pair" if by_key else "row"
    return "column" if by_key else "block"
