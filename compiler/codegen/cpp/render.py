"""Renders a Program as C++: one source for the forward pass, one for the backward pass.

Each kernel of the Program becomes a namespace with its own sizes, orders and straight-line code; one exported function
runs them in turn. The templates hold everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ...ir import (
    HEAD,
    LOGIT,
    ONE,
    TRUE,
    ZERO,
    Entry,
    Expr,
    K,
    Q,
    children,
    depends_on,
    derivative,
    expression,
    less_equal,
    reads,
    substitute,
    walk,
)
from ...plan import (
    Axis,
    Box,
    DType,
    Kernel,
    ListedOrder,
    Members,
    Order,
    OrderTable,
    Program,
    Segment,
    Specialisation,
    View,
    integers,
)
from .. import Code, KernelSource, numbers_of, render
from .dialect import CppDialect
from .held import HeldText, gathers, held_text, reads_by_block
from .stages import KEYS, QUERIES, Stage, Stages, Straight, lower_in_stages

Pass = Literal["forward", "backward"]
Slopes = tuple[tuple[Entry, Expr], ...]

# A condition or a score with more distinct parts than this is not written into the header comment.
_READABLE = 40


@dataclass(frozen=True)
class CppVariant:
    """What C++ kernels are compiled for, besides their Program.

    ``storage``: the dtype of q, k and v; ``wide``: whether positions need 64 bits; ``elements``: the dtype of each
    table; ``counting``: whether the kernels count the pairs that they visit and multiply; ``decoding``: whether the
    forward pass is for few rows that begin anywhere, under a schedule for these.
    """

    direction: Pass
    head_dim: int
    value_dim: int
    storage: DType
    wide: bool
    dropout: bool
    elements: tuple[DType, ...]
    counting: bool = False
    decoding: bool = False


def variant_for(direction: Pass, kind: Specialisation, counting: bool = False, decoding: bool = False) -> CppVariant:
    """The variant of one pass for a specialisation."""
    return CppVariant(
        direction, kind.head_dim, kind.value_dim, kind.dtype, kind.wide, kind.dropout, kind.tables, counting, decoding
    )


@dataclass(frozen=True)
class TokenLoop:
    """The texts by which the templates declare an order.

    ``name`` and ``axes``: the name of the array of its axes, and their initializers; ``nullptr`` and empty if the
    launch lists the tokens. ``count``: how many axes; ``tile``: lanes of a tile; ``order``: its own initializer.
    """

    name: Code
    axes: Code
    count: int
    tile: int
    order: Code


@dataclass(frozen=True)
class SegmentText:
    """The order of a segment's keys and the code of its mask. ``plain``: the mask is a condition, not a count;
    ``asked``: it is more than true; ``held``: the mask by what it reads for blocks of keys.
    """

    keys: TokenLoop
    mask: Straight
    plain: bool
    asked: bool
    held: HeldText


@dataclass(frozen=True)
class MembersText:
    """The set off which rows read their keys: the ``number`` of its table, and the code of its indices and of ``rest``.

    ``falling``: a greater member is a smaller key; ``alike``: all rows of a head read the same set.
    """

    table: int
    indices: tuple[Code, ...]
    rest: Code
    falling: bool
    alike: bool


@dataclass(frozen=True)
class Scatter:
    """One term of a table's gradient: the ``number`` of the table, the indices of an entry, the derivative by it."""

    number: int
    indices: tuple[Code, ...]
    slope: Code
    single: bool  # the same entry for every pair of a head: summed in registers first


def render_cpp(program: Program, variant: CppVariant) -> KernelSource:
    """The C++ source of one pass of a lifted program. The same program and variant always give the same text.

    The headers that it includes are in ``templates/cpp``.
    """
    kernels = tuple(_kernel(program, kernel, variant) for kernel in program.kernels)
    holes: dict[str, object] = {
        "note": _note(program, variant),
        "compute": Code(variant.storage.compute.cpp),
        "integer": Code(integers(variant.wide).cpp),
        "storage": Code(variant.storage.cpp),
        "head_dim": variant.head_dim,
        "value_dim": variant.value_dim,
        "is_part": program.is_part,
        "several": len(program.kernels) > 1,
        "tables": tuple((number, Code(variant.elements[number].cpp)) for number in _tables_read(program)),
        "scored": program.score != LOGIT,
        "forward": variant.direction == "forward",
        "dropout": variant.dropout,
        "counting": variant.counting,
        "decoding": variant.decoding,
        "learned": tuple(
            (number, Code("true" if sliced_by_head(program, number) else "false")) for number in learned(program)
        ),
        "kernels": kernels,
    }
    return KernelSource("cpp", render(f"cpp/{variant.direction}.cpp.jinja", **holes))


def _kernel(program: Program, kernel: Kernel, variant: CppVariant) -> Mapping[str, object]:
    """The holes of one kernel."""
    backward = variant.direction == "backward"
    conditions = [_condition(kernel, segment) for segment in kernel.segments]
    members = kernel.members
    named_by = () if members is None else (*members.member.indices, members.rest)
    sink = program.sink if kernel.output == "store" else None  # each row has it once, in the kernel that stores it
    owned = None if kernel.owned_rows == TRUE else kernel.owned_rows
    slope = derivative(program.score, LOGIT) if backward else None
    score_slopes = _slopes(program.score) if backward else ()
    sink_slopes = _slopes(sink) if backward and sink is not None else ()
    of_score, of_sink = _roots(score_slopes), _roots(sink_slopes)
    by_row = members is not None
    lookups = [{} if variant.decoding or by_row else reads_by_block(condition) for condition in conditions]
    looked_up = [part for each in lookups for node, blocks in each.items() for part in (node, *blocks)]
    single = [x for x in (sink, owned, slope) if x is not None]
    roots = [*conditions, program.score, *single, *of_score, *of_sink, *looked_up, *named_by]
    dialect = CppDialect(program.tables)
    stages = lower_in_stages(roots, dialect, KEYS if variant.decoding or by_row else QUERIES)
    loops = [_token_loop(segment.keys, f"KEY_AXES{place}") for place, segment in enumerate(kernel.segments)]
    rows = _token_loop(kernel.rows, "ROW_AXES")
    named: tuple[Stage, ...] = ("head", "row", "key")
    return {
        "rows": rows,
        "segments": tuple(
            SegmentText(loop, stages.straight(mask), mask.type == "bool", mask != TRUE, held_text(mask, its, stages))
            for loop, mask, its in zip(loops, conditions, lookups, strict=True)
        ),
        "held": any(lookups),
        "gathers": any(map(gathers, conditions)) and not variant.decoding and not by_row,
        "most_axes": max(loop.count for loop in (rows, *loops)),
        "key_tile": max((loop.tile for loop in loops), default=1),
        "members": None if members is None else _members(members, dialect, stages),
        "stores": kernel.output == "store",
        "counted": any(condition.type == "count" for condition in conditions),
        "fields": {stage: stages.fields(stage) for stage in named},
        "stages": {stage: stages.statements(stage) for stage in named},
        "numbers": tuple(sorted({number for root in roots for number in numbers_of(root)})),
        "score": stages.straight(program.score),
        "sink": None if sink is None else stages.straight(sink),
        "owned": None if owned is None else stages.straight(owned),
        "pair": stages.pair(program.score, *(() if slope is None else (slope,)), *of_score),
        "slope": None if slope is None else stages.spelled[slope],
        "sloped": slope is not None and slope != ONE,
        "score_scatters": tuple(_scatter(dialect, stages, entry, its) for entry, its in score_slopes),
        "sink_scatters": tuple(_scatter(dialect, stages, entry, its) for entry, its in sink_slopes),
    }


def _condition(kernel: Kernel, segment: Segment) -> Expr:
    """What a kernel tests of a pair: of keys that were read off a set, no longer whether they are in it."""
    members = kernel.members
    if members is None:
        return segment.condition
    known: dict[Expr, Expr] = {members.member: TRUE}
    if members.sign < 0 and members.rest == Q:  # members are never negative
        known[less_equal(K, Q)] = TRUE
    return substitute(segment.condition, known)


def _members(members: Members, dialect: CppDialect, stages: Stages) -> MembersText:
    number, indices = int(members.member.table), members.member.indices
    texts = dialect.indices(number, tuple(stages.spelled[index] for index in indices))
    alike = not any(depends_on(index, "q") for index in indices)
    return MembersText(number, tuple(map(Code, texts)), stages.spelled[members.rest], members.sign < 0, alike)


def _slopes(expr: Expr) -> Slopes:
    """The entries of float tables that an expression (score or sink) reads, each with the derivative by it.

    Entries whose derivative is 0 everywhere are left out, such as those that only a condition reads.
    """
    slopes = ((entry, derivative(expr, entry)) for entry in reads(expr))
    return tuple((entry, slope) for entry, slope in slopes if slope != ZERO)


def _roots(slopes: Slopes) -> list[Expr]:
    """The expressions that the gradients of tables need for a pair: each slope, and the indices of its entry."""
    return [root for entry, slope in slopes for root in (slope, *entry.indices)]


def _token_loop(order: Order, name: str) -> TokenLoop:
    layout = _layout(order)
    if not layout.axes:
        name = "nullptr"
    whole = f"{{{name}, {len(layout.axes)}, {layout.offset}, {order.tile}, {layout.parts}, {layout.lead}}}"
    return TokenLoop(Code(name), Code(", ".join(layout.axes)), len(layout.axes), order.tile, Code(whole))


class _Layout(NamedTuple):
    """The fields of ``Order`` in templates/cpp/orders.h: initializers of each ``Axis``, and the other fields."""

    axes: Sequence[str] = ()
    offset: int = 0
    parts: int = 1
    lead: int = 0


@OrderTable
def _layout(order: Order, /) -> _Layout:
    """The fields by which C++ finds the tokens of an order; without axes if the launch lists them."""
    raise NotImplementedError


@_layout.register(View)
def _view(order: View, /) -> _Layout:
    return _Layout([_axis(axis, 0, axis.tile) for axis in order.axes], order.offset)


@_layout.register(Box)
def _box(order: Box, /) -> _Layout:
    axes = [*map(_axis, order.view.axes, order.before, order.extents)]
    return _Layout(axes, order.view.offset, order.parts, order.lead)


@_layout.register(ListedOrder)
def _listed(_order: ListedOrder, /) -> _Layout:
    return _Layout()


def _axis(axis: Axis, before: int, extent: int) -> str:
    return f"{{{axis.stride}, {axis.length or 0}, {axis.tile}, {before}, {extent}}}"


def _scatter(dialect: CppDialect, stages: Stages, entry: Entry, slope: Expr) -> Scatter:
    number = int(entry.table)
    indices = dialect.indices(number, tuple(stages.spelled[index] for index in entry.indices))
    single = not any(_varies(index) for index in entry.indices)
    return Scatter(number, tuple(map(Code, indices)), stages.spelled[slope], single)


def _varies(expr: Expr) -> bool:
    """Whether an index differs between the pairs of one head."""
    return depends_on(expr, "q") or depends_on(expr, "k")


def learned(program: Program) -> tuple[int, ...]:
    """The numbers of the tables that get gradients: float tables that the score or the sink reads."""
    entries = (*reads(program.score), *(reads(program.sink) if program.sink is not None else ()))
    return tuple(sorted({int(entry.table) for entry in entries}))


def sliced_by_head(program: Program, number: int) -> bool:
    """Whether a head reads only its own slice of a float table whose first dimension is the head."""
    dimensions = program.tables[number].dimensions
    if not dimensions or dimensions[0].kind != "head":
        return False
    exprs = (program.score,) if program.sink is None else (program.score, program.sink)
    return all(entry.indices[0] == HEAD for expr in exprs for entry in reads(expr, str(number)))


def _expressions(program: Program) -> tuple[Expr, ...]:
    """All expressions that the kernels evaluate."""
    conditions = [segment.condition for kernel in program.kernels for segment in kernel.segments]
    owned = [kernel.owned_rows for kernel in program.kernels]
    named_by = [part for kernel in program.kernels if (of := kernel.members) for part in (of.member, of.rest)]
    return (*conditions, *owned, *named_by, program.score, *(() if program.sink is None else (program.sink,)))


def _tables_read(program: Program) -> tuple[int, ...]:
    """The numbers of the tables that the kernels read."""
    exprs = _expressions(program)
    return tuple(sorted({int(node.table) for expr in exprs for node in walk(expr) if hasattr(node, "table")}))


def _note(program: Program, variant: CppVariant) -> tuple[Code, ...]:
    """The lines of the header comment. Tables are named by number, so that a user's words do not get into it."""
    names = {str(number): f"table{number}" for number in range(len(program.tables))}
    lines = [
        f"Attention, {variant.direction}: head dims {variant.head_dim} and {variant.value_dim}, "
        f"{variant.storage.torch} in {variant.storage.compute.torch}{', dropout' if variant.dropout else ''}"
    ]
    for place, kernel in enumerate(program.kernels):
        owned = "" if kernel.owned_rows == TRUE else f", where {_readable(kernel.owned_rows, names)}"
        lines.append(f"  kernel {place}, rows {_order(kernel.rows)}{owned}")
        for segment in kernel.segments:
            lines.append(f"    keys {_order(segment.keys)}: {_readable(segment.condition, names)}")
    lines.append(f"  score: {_readable(program.score, names)}")
    if program.sink is not None:
        lines.append(f"  sink:  {_readable(program.sink, names)}")
    for number in _tables_read(program):
        kinds = [dimension.kind for dimension in program.tables[number].dimensions]
        lines.append(f"  table{number}: {program.tables[number].element}[{', '.join(kinds)}]")
    return tuple(Code(line) for line in lines)


def _order(order: Order) -> str:
    """An order in words, and its tile size. How a list is made is left out, as kernels do not depend on it."""
    return f"{order.describe() if order.listed_by is None else 'as listed'}, {order.tile} a tile"


def _readable(expr: Expr, names: Mapping[str, str]) -> str:
    sizes: dict[Expr, int] = {}
    for node in walk(expr):
        sizes[node] = 1 + sum(sizes[part] for part in children(node))
    return expression(expr, names) if sizes[expr] <= _READABLE else f"{len(sizes)} distinct parts, below"
