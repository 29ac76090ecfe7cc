"""Questions whether a claim holds for every length, and their answers. Dataclasses only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..ir import Expr

Kind = Literal[
    "causal", "symmetric", "diagonal", "rows nonempty", "columns nonempty", "within", "contains", "equals", "disjoint"
]

OF_TWO: tuple[Kind, ...] = ("within", "contains", "equals", "disjoint")
"""The claims that compare a mask with another."""


@dataclass(frozen=True)
class Question:
    """Whether a claim holds for every n >= 1 with m = n, every head, and whatever the tables contain.

    ``mask`` and, for the claims that compare, ``other`` are conditions, but for ``equals``, which may ask of counts.
    ``heads`` and ``n`` are the only number of heads and the only length, where one is given. ``orders`` are the tables
    whose entries lie in ``0 .. n - 1``, and ``permutations`` those of them that hold each number once, and are read by
    one position after ``head`` for each of their other dimensions.
    """

    kind: Kind
    mask: Expr
    other: Expr | None = None
    heads: int | None = None
    n: int | None = None
    orders: tuple[str, ...] = ()
    permutations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proved:
    """The claim holds for every length."""


@dataclass(frozen=True)
class Suspect:
    """The claim may fail at ``n``, and at no smaller length.

    ``q`` is None for a column and ``k`` for a row. ``values`` are those of the parts of the masks that are not affine,
    entries of tables among them, at this pair; where there are none, the claim does fail here. Otherwise it does if
    tables have such contents.
    """

    n: int
    q: int | None
    k: int | None
    heads: int
    head: int
    values: Mapping[Expr, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Unknown:
    """No answer, and why. ``final``: the same question gets no other answer later."""

    reason: str
    final: bool = False


Answer = Proved | Suspect | Unknown


@dataclass(frozen=True)
class ReaderQuestion:
    """Which row is the last to read each key, for every n >= 1 with m = n, every head, and whatever the tables contain.

    ``mask`` is a condition. ``heads``, ``n`` and ``orders`` are those of a :class:`Question`.
    """

    mask: Expr
    heads: int | None = None
    n: int | None = None
    orders: tuple[str, ...] = ()


@dataclass(frozen=True)
class LastReader:
    """The last row that may read a key: an integer expression over ``k``, ``n``, ``head`` and ``heads``; -1 where none
    does.

    ``exact``: that row does read it; otherwise whether it does depends on tables or on what else is not affine, but no
    row after it does. ``most``: how many keys up to a row, at most, it or a later row of any head reads, whatever the
    length. ``tail``: every key is read by one of so many rows at the end, whatever the length. Both are None where they
    grow with n, or isl does not tell.
    """

    last: Expr
    exact: bool
    most: int | None
    tail: int | None
