"""An attention with every constant bound, its tables, and a model of one attention for each layer. Nouns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..diagnostics import Span
from .expressions import HEAD_DIM, Apply, Const, Expr


@dataclass(frozen=True)
class Dimension:
    """One dimension of a table. ``size`` belongs to ``fixed``; a ``free`` size is the same wherever ``name`` recurs."""

    kind: Literal["token", "query", "head", "fixed", "free"]
    size: int | None = None
    name: str = ""


Literal_ = bool | int | float | frozenset[int] | tuple["Literal_", ...]  # contents of a table, as the text gives them


@dataclass(frozen=True)
class Table:
    """A run-time parameter: a tensor given at the call under ``name``.

    ``value`` is set when the text itself gives the contents (a list in a test, say): then it is no parameter of the
    call. ``default`` is what a call that does not name the table gets.
    """

    name: str
    element: Literal["int", "float", "bool", "set", "order"]
    dimensions: tuple[Dimension, ...]
    default: Literal_ | None = None
    value: Literal_ | None = None
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Attention:
    """A pattern with its score, every compile-time parameter bound: what the compiler compiles.

    - ``mask``: bool or count, over positions and tables;
    - ``score``: float, over :class:`Logit`, positions and tables;
    - ``scale``: float, over ``head``, ``heads`` and ``head_dim``; by default ``1 / sqrt(head_dim)``;
    - ``sink``: float, over ``q``, ``n``, ``head``, ``heads`` and tables, or None;
    - ``heads``: how many a call must have, where a model's text says so at ``heads_span``; else None.
    """

    name: str
    mask: Expr
    score: Expr
    scale: Expr
    sink: Expr | None
    tables: tuple[Table, ...]
    heads: int | None = None
    heads_span: Span | None = field(default=None, compare=False, repr=False)

    @property
    def parameters(self) -> tuple[Table, ...]:
        """The tables that a call gives by name."""
        return tuple(table for table in self.tables if table.value is None)


@dataclass(frozen=True)
class Model:
    """One attention for each layer; heads that differ are told apart by ``head`` inside its mask, score and sink."""

    name: str
    heads: int
    layers: tuple[Attention, ...]


DEFAULT_SCALE: Expr = Apply(
    "div", (Const(1.0), Apply("sqrt", (Apply("float", (HEAD_DIM,), "float"),), "float")), "float"
)
