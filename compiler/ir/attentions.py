"""An attention with every constant bound, its tables, and a model: one attention for each layer. Dataclasses only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..diagnostics import Span
from .expressions import HEAD_DIM, Apply, Const, Expr


@dataclass(frozen=True)
class Dimension:
    """One dimension of a table.

    ``size`` is set for ``fixed`` only. The size of a ``free`` dimension comes with the call; dimensions that share a
    ``name`` are of one size.
    """

    kind: Literal["token", "query", "head", "fixed", "free"]
    size: int | None = None
    name: str = ""


Literal_ = bool | int | float | frozenset[int] | tuple["Literal_", ...]  # contents of a table, as the text gives them


@dataclass(frozen=True)
class Table:
    """A run-time parameter: a tensor that the call passes as ``name``.

    ``value`` is set where the text itself gives the contents (a list in a test, say); the call then has no such
    parameter. ``default`` holds the contents for calls that do not pass the table. ``divides``: something is divided by
    the table's number, which therefore is at least 1 in every call.

    The element ``double``, of float64 whatever the dtype of the kernels' sums, is no type of the language: such tables
    are added where a mask computes with floats.
    """

    name: str
    element: Literal["int", "float", "double", "bool", "set", "order"]
    dimensions: tuple[Dimension, ...]
    default: Literal_ | None = None
    value: Literal_ | None = None
    divides: bool = False
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Attention:
    """A pattern with its score, scale and sink, every compile-time parameter bound: what the compiler compiles.

    - ``mask``: bool or count, over positions and tables;
    - ``score``: float, over :class:`Logit`, positions and tables;
    - ``scale``: float, over ``head``, ``heads`` and ``head_dim``; by default ``1 / sqrt(head_dim)``;
    - ``sink``: float, over ``q``, ``n``, ``head``, ``heads`` and tables, or None;
    - ``heads``: the number of heads that a call must have, which a model's text gives at ``heads_span``; else None.
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
    """One attention for each layer. Where heads differ, its mask, score, scale and sink choose by ``head``."""

    name: str
    heads: int
    layers: tuple[Attention, ...]


DEFAULT_SCALE: Expr = Apply(
    "div", (Const(1.0), Apply("sqrt", (Apply("float", (HEAD_DIM,), "float"),), "float")), "float"
)
