"""A ``test`` of the text with everything filled in: what is checked, of which attention, at which sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..diagnostics import Span
from ..ir import Attention, CallShape, Expr


@dataclass(frozen=True)
class Picture:
    """The mask is as drawn: a line for each row, without blanks; ``.`` not kept, ``#`` kept once, a digit its count."""

    lines: tuple[str, ...]
    negated: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Row:
    """The row at position ``i`` keeps exactly the keys ``members``, each at least once."""

    i: int
    members: frozenset[int]
    negated: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Column:
    """The key ``j`` is kept, at least once, by exactly the rows at the positions ``members``."""

    j: int
    members: frozenset[int]
    negated: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Pairs:
    """The mask keeps ``n`` pairs, each counted as often as it is kept."""

    n: int
    negated: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


ClaimKind = Literal[
    "causal", "symmetric", "diagonal", "rows nonempty", "columns nonempty", "within", "contains", "equals", "disjoint"
]


@dataclass(frozen=True)
class Claim:
    """A property of the whole mask. The last four kinds compare it with ``operand``, which is bool or count.

    They ask of each pair whether it is kept at least once; only ``equals`` compares counts.
    """

    kind: ClaimKind
    operand: Expr | None = None
    negated: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


Check = Picture | Row | Column | Pairs | Claim


@dataclass(frozen=True)
class BoundTest:
    """One test, ready to run: ``checks`` of one head of ``subject`` at ``extent``.

    ``extent`` is None for a test of every n (with m = n), every head, and every number of heads unless ``heads`` sets
    it. ``subject.tables`` includes the tables that operands of the checks read; contents that the text gives are in
    :attr:`compiler.ir.attentions.Table.value`.
    """

    __test__ = False  # tells pytest that this class is not a test

    title: str
    span: Span
    subject: Attention
    extent: CallShape | None
    checks: tuple[Check, ...]
    head: int = 0
    heads: int | None = None
