"""A Program: the kernels of an attention, for every length."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import Literal

from ..ir import TRUE, Expr, Member, Table
from .order_protocol import Order


@dataclass(frozen=True)
class Segment:
    """Keys walked in one order. ``condition`` (bool or count) is evaluated on partial tiles; full tiles need no test.

    Together with the kernel's ``owned_rows`` it excludes pairs that another segment of the same part keeps. The
    condition that gathers the keys, if any, is left out, because all of the keys meet it.
    """

    keys: Order
    condition: Expr


@dataclass(frozen=True)
class Members:
    """A run-time set that names the keys of each row one by one: of a member e, the key ``sign * (e - rest)``.

    ``member``: the test that just these keys meet, a conjunct of the segment's condition; ``sign``: 1 or -1; ``rest``:
    an integer that does not depend on the key. Of ``q - k in slash[head]`` they are -1 and ``q``.
    """

    member: Member
    sign: int
    rest: Expr


@dataclass(frozen=True)
class Kernel:
    """One launch: query rows walked in one order, over segments of keys under one online softmax.

    ``owned_rows`` (bool over ``q``, ``n``, heads and tables) selects the rows that this kernel owns; it ignores the
    others. ``output``: the first kernel stores all rows, including the sink; later ones merge their results into the
    stored ones by log-sum-exp. ``heads``: the query heads it runs for; None for all.

    ``members``: each row reads its keys off a set, instead of testing all keys of the tiles that it visits. Such a
    kernel has one segment, of keys in natural order.
    """

    rows: Order
    segments: tuple[Segment, ...]
    output: Literal["store", "merge"]
    owned_rows: Expr = TRUE
    heads: tuple[int, ...] | None = None
    members: Members | None = None

    @property
    def splits(self) -> bool:
        """Whether its keys are cut into parts that run in parallel and are merged by one more launch.

        This is for rows that are few however many keys there are: their tiles alone would leave most of a GPU idle. It
        belongs to the program because the text of the kernels depends on it; each launch chooses the number of parts.
        """
        return self.rows.sparse


@dataclass(frozen=True)
class Program:
    """Everything that decides the text of the kernels, and ``mask``, the pairs that they must keep.

    Expressions name a table by its index in ``tables``: ``Entry.table == "3"`` is ``tables[3]``, so that the names that
    users choose do not reach a template. For each head, the first of its kernels walks every row and stores.

    ``is_part``: k and v hold the keys from some position on, and others of the ``n`` positions have none; the last two
    tables bound those that exist (:mod:`compiler.plan.parts`).
    """

    kernels: tuple[Kernel, ...]
    mask: Expr
    score: Expr
    sink: Expr | None
    tables: tuple[Table, ...]
    is_part: bool = False


def row_alignment(program: Program) -> int:
    """The alignment, in tokens, that the first row's position must have; 1 if all rows are in natural order."""
    orders = [kernel.rows for kernel in program.kernels]
    orders += [segment.keys for kernel in program.kernels for segment in kernel.segments if segment.keys.around_rows]
    return lcm(*(order.alignment for order in orders))
