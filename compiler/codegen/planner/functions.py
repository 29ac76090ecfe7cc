"""What kernels plan on the device: segments whose tiles they find, lists whose tokens they gather. Dataclasses only."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir import Expr, Table
from ...plan import DType, Order
from .. import Code
from ..triton import Parameter, TokenLoop


@dataclass(frozen=True)
class SegmentProblem:
    """The tiles of one segment: those pairs of a tile of ``rows`` and one of ``keys`` that may keep a pair of tokens.

    ``condition`` is lifted (:func:`compiler.codegen.lift_expressions`), and names tables by their number.
    """

    rows: Order
    keys: Order
    condition: Expr


@dataclass(frozen=True)
class ListProblem:
    """The tokens of a gathered or a sorted order. ``listed_by`` is lifted; ``by_query``: the order is one of rows."""

    order: Order
    listed_by: Expr
    by_query: bool


@dataclass(frozen=True)
class PlannerVariant:
    """What decides the text beside the problem: the tables, their dtypes in memory, the dtype of sums, and whether
    integers may need 64 bits.
    """

    tables: tuple[Table, ...]
    dtypes: tuple[DType, ...]
    compute: DType
    wide: bool


@dataclass(frozen=True)
class SideLayout:
    """How the ranges of one side lie in memory: ``[slots, planes, granules]`` of integers, and likewise ``floats``.

    A granule has ``lanes`` of a tile, and a tile ``parts`` granules.
    """

    lanes: int
    parts: int
    planes: int
    floats: int


@dataclass(frozen=True)
class PlanLayout:
    """How the ranges of a segment lie in memory."""

    rows: SideLayout
    columns: SideLayout


@dataclass(frozen=True)
class RangeText:
    """A feature as the templates take it: its value for each lane, and the planes of its range.

    ``sign`` is the plane of its signature, None if it has none. ``kind`` is one of three: a condition (``is_bool``), a
    float (``is_float``), or else an integer.
    """

    name: Code
    value: Code
    is_bool: bool
    is_float: bool
    low: int
    high: int
    sign: int | None


@dataclass(frozen=True)
class PlanFunction:
    """One function of a planning module as its template takes it.

    ``loop`` walks the tokens of its side; ``statements`` come before the ``ranges`` of the features, or judge a pair of
    granules. ``value``: the text of what a list is made by.
    """

    name: Code
    parameters: tuple[Code, ...]
    unspecialised: tuple[Code, ...]
    numbers: tuple[int, ...]
    tables: tuple[int, ...]
    loop: TokenLoop | None = None
    statements: tuple[Code, ...] = ()
    ranges: tuple[RangeText, ...] = ()
    columns: tuple[RangeText, ...] = ()
    may: Code | None = None
    must: Code | None = None
    value: Code | None = None


@dataclass(frozen=True)
class PlanModule:
    """The text of planning kernels, the parameters of each by name, and for a segment the layout of its ranges."""

    text: str
    parameters: dict[str, tuple[Parameter, ...]]
    layout: PlanLayout | None = None
