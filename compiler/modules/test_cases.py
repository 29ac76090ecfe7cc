"""A `test` of the text with everything filled in: what is checked, on what, at which sizes. Nouns only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..diagnostics import Span
from ..ir import Attention, CallShape, Expr


@dataclass(frozen=True)
class Picture:
    """One line for each row, without blanks: ``#`` kept once, ``.`` not, a digit so many times."""

    lines: tuple[str, ...]
    negated: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Row:
    """Row ``i``, counted as ``q`` is, keeps exactly ``members`` at least once."""

    i: int
    members: frozenset[int]
    negated: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Column:
    """Column ``j`` is kept exactly by the rows ``members``, counted as ``q`` is, at least once."""

    j: int
    members: frozenset[int]
    negated: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Pairs:
    """So many pairs are kept, with their counts."""

    n: int
    negated: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Claim:
    """Those in the second line have an operand, bool or count; they read a count as kept at least once, but ``equals``
    compares counts.
    """

    kind: Literal[
        "causal", "symmetric", "diagonal", "rows nonempty", "columns nonempty",
        "within", "contains", "equals", "disjoint",
    ]  # fmt: skip
    operand: Expr | None = None
    negated: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


Check = Picture | Row | Column | Pairs | Claim


@dataclass(frozen=True)
class BoundTest:
    """``extent`` is None for every n (with m = n), every number of heads (unless ``heads`` says it) and every head.

    ``subject.tables`` holds whatever the checks' operands read, too; contents that the text gives are in
    :attr:`compiler.ir.attentions.Table.value`.
    """

    __test__ = False  # for pytest: no test of ours

    title: str
    span: Span
    subject: Attention
    extent: CallShape | None
    checks: tuple[Check, ...]
    head: int = 0
    heads: int | None = None
