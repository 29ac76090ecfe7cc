"""Tests of a text, ready to run: the checks, the attention that they are about, and the sizes. Dataclasses only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..diagnostics import Span
from ..ir import Attention, CallShape, Expr


@dataclass(frozen=True)
class Picture:
    """Check that the mask is as drawn: a line for each row, one character for each key, without blanks.

    ``.`` is a pair that is not kept, ``#`` one that is kept once, a digit one that is kept so many times.
    """

    lines: tuple[str, ...]
    negated: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Row:
    """Check that the query at position ``i`` keeps exactly the keys ``members``, each at least once."""

    i: int
    members: frozenset[int]
    negated: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Column:
    """Check that the key ``j`` is kept, at least once, by exactly the queries at the positions ``members``."""

    j: int
    members: frozenset[int]
    negated: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Pairs:
    """Check that the mask keeps ``n`` pairs, each counted as often as it is kept."""

    n: int
    negated: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


ClaimKind = Literal[
    "causal", "symmetric", "diagonal", "rows nonempty", "columns nonempty", "within", "contains", "equals", "disjoint"
]


@dataclass(frozen=True)
class Claim:
    """Check a property of the whole mask; with ``negated``, check that it does not have the property.

    The last four kinds compare the mask with ``operand``, another mask, bool or count. They look whether each pair is
    kept at least once; only ``equals`` compares how often.
    """

    kind: ClaimKind
    operand: Expr | None = None
    negated: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


Check = Picture | Row | Column | Pairs | Claim


@dataclass(frozen=True)
class BoundTest:
    """One test, ready to run: ``checks`` of ``head``, one head of the attention ``subject``, in a call of ``extent``.

    ``extent`` is None for a test of every n (with m = n) and every head; then ``heads`` is the number of heads, None
    for every number. ``subject.tables`` includes the tables that operands of the checks read; contents that the text
    gives are in :attr:`compiler.ir.attentions.Table.value`. ``title`` names the test in reports.
    """

    __test__ = False  # tells pytest that this class is not a test

    title: str
    span: Span
    subject: Attention
    extent: CallShape | None
    checks: tuple[Check, ...]
    head: int = 0
    heads: int | None = None
