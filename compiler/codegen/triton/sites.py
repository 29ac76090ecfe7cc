"""Finds where gradients of float tables arise in a Program, and which tables its kernels read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ...ir import ZERO, Entry, Expr, Member, depends_on, derivative, reads, walk
from ...plan import U8, Program
from .variant import TritonVariant

Level = Literal["block", "row", "column", "pair"]


@dataclass(frozen=True)
class GradientSite:
    """One entry of a float table that the score or the sink reads; ``slope`` is the derivative of that by the entry.

    ``level`` says what the place of the entry in its table depends on, and so how the gradient is summed: on batch and
    head alone (``block``: one sum for each block of queries), on the query (``row``), on the key (``column``), or on
    query and key (``pair``: by atomic additions).
    """

    number: int
    table: int
    indices: tuple[Expr, ...]
    slope: Expr
    level: Level
    sink: bool


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


def pair_tables(sites: Iterable[GradientSite]) -> tuple[int, ...]:
    """Return the numbers of the tables whose gradients are added atomically."""
    return tuple(sorted({site.table for site in sites if site.level == "pair"}))


def _level(indices: Sequence[Expr]) -> Level:
    by_query = any(depends_on(index, "q") for index in indices)
    by_key = any(depends_on(index, "k") for index in indices)
    if by_query:
        return "pair" if by_key else "row"
    return "column" if by_key else "block"
