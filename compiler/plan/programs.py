"""A Program: the kernels of an attention, for every length. Nouns."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import Literal

from ..ir import TRUE, Expr, Table
from .order_protocol import Order


@dataclass(frozen=True)
class Segment:
    """Keys walked in one order. ``condition`` (bool or count) is evaluated on partial tiles; full tiles need none.

    It holds only of pairs that no earlier segment or kernel of the same part has; where the keys are gathered, what
    gathers them is left out of it.
    """

    keys: Order
    condition: Expr


@dataclass(frozen=True)
class Kernel:
    """One launch: query rows walked in one order, over segments of keys under one online softmax.

    ``owned_rows`` (bool over ``q``, ``n``, heads and tables) selects the rows that this kernel owns; it ignores the
    others. ``output``: the first kernel stores all rows, sink included; the others merge theirs into what is there, by
    log-sum-exp. ``heads``: the query heads it runs for; None for all.
    """

    rows: Order
    segments: tuple[Segment, ...]
    output: Literal["store", "merge"]
    owned_rows: Expr = TRUE
    heads: tuple[int, ...] | None = None

    @property
    def splits(self) -> bool:
        """Whether its keys are cut into parts that run beside one another, and are put together by a launch more.

        That is for rows that are few however many keys there are, so that their tiles alone leave most of a GPU idle.
        The text of the kernels depends on it, so a program says it; into how many parts, each launch.
        """
        return self.rows.sparse


@dataclass(frozen=True)
class Program:
    """Everything that decides the text of the kernels, and nothing else.

    Expressions name tables by their position in ``tables``: the table of ``Entry.table == "3"`` is ``tables[3]``, so
    that no name of the user's reaches a template. For each head, the first of its kernels walks every row and stores.
    """

    kernels: tuple[Kernel, ...]
    mask: Expr
    score: Expr
    sink: Expr | None
    tables: tuple[Table, ...]


def row_alignment(program: Program) -> int:
    """In rows: the first row of a launch must stand at a multiple of it. A program with ``natural_rows`` has 1."""
    orders = [kernel.rows for kernel in program.kernels]
    orders += [segment.keys for kernel in program.kernels for segment in kernel.segments if segment.keys.around_rows]
    return lcm(*(order.alignment for order in orders))
