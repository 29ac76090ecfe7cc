"""A Program to C++: one source for the forward pass, one for the backward pass.

Each kernel of the Program becomes a namespace with its own sizes, orders and straight code; one exported function runs
them in turn. The templates hold everything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from ...ir import HEAD, LOGIT, TRUE, Const, Entry, Expr, children, depends_on, derivative, expression, reads, walk
from ...plan import Axis, Box, Gathered, Kernel, Order, Program, Sorted, View
from ...plan import order as described
from .. import Code, KernelSource, lower, numbers_of, render
from .dialect import CppDialect
from .stages import Stage, Stages, Straight

Pass = Literal["forward", "backward"]
Storage = Literal["float32", "float64", "bfloat16", "float16"]
Element = Literal["float32", "float64", "int32", "int64", "uint8"]

_STORAGE: Mapping[Storage, str] = {
    "float32": "float", "float64": "double", "bfloat16": "BrainFloat", "float16": "Half",
}  # fmt: skip
_ELEMENTS: Mapping[Element, str] = {
    "float32": "float", "float64": "double", "int32": "int32_t", "int64": "int64_t", "uint8": "uint8_t",
}  # fmt: skip
# A condition or a score with more distinct parts than this is not written into the header comment.
_READABLE = 40


@dataclass(frozen=True)
class CppVariant:
    """What C++ kernels are compiled for, beside their Program.

    ``compute`` is the type of sums, ``wide`` whether positions need 64 bits, ``elements`` what each table holds.
    ``counting``: the kernels count the pairs that they visit and multiply.
    """

    direction: Pass
    head_dim: int
    value_dim: int
    storage: Storage
    compute: Literal["float32", "float64"]
    wide: bool
    dropout: bool
    elements: tuple[Element, ...]
    counting: bool = False


@dataclass(frozen=True)
class Walked:
    """An order as the templates write it: ``name`` of its axes and their initializers, ``nullptr`` and none where the
    launch lists the tokens; and the initializer of the order itself.
    """

    name: Code
    axes: Code
    count: int
    tile: int
    order: Code


@dataclass(frozen=True)
class WalkedSegment:
    """``plain``: whether its mask is a condition, no count."""

    keys: Walked
    mask: Straight
    plain: bool


@dataclass(frozen=True)
class Scatter:
    """A table's gradient at one place in the text: ``number`` of the table, its indices, and the slope there."""

    number: int
    indices: tuple[Code, ...]
    slope: Code
    single: bool  # the same entry for every pair of a head: summed in registers first


def render_cpp(program: Program, variant: CppVariant) -> KernelSource:
    """The C++ text of one pass over a lifted program. Same program and variant, same text.

    The headers that it includes are in ``templates/cpp``.
    """
    kernels = tuple(_kernel(program, kernel, variant.direction) for kernel in program.kernels)
    holes: dict[str, object] = {
        "note": _note(program, variant),
        "compute": Code("double" if variant.compute == "float64" else "float"),
        "integer": Code("int64_t" if variant.wide else "int32_t"),
        "storage": Code(_STORAGE[variant.storage]),
        "head_dim": variant.head_dim,
        "value_dim": variant.value_dim,
        "several": len(program.kernels) > 1,
        "tables": tuple((number, Code(_ELEMENTS[variant.elements[number]])) for number in _tables_read(program)),
        "scored": program.score != LOGIT,
        "forward": variant.direction == "forward",
        "dropout": variant.dropout,
        "counting": variant.counting,
        "learned": tuple(
            (number, Code("true" if sliced_by_head(program, number) else "false")) for number in learned(program)
        ),
        "kernels": kernels,
    }
    return KernelSource("cpp", render(f"cpp/{variant.direction}.cpp.jinja", **holes))


def _kernel(program: Program, kernel: Kernel, direction: Pass) -> Mapping[str, object]:
    """The holes of one kernel."""
    roots = _roots(program, kernel)
    places: dict[str, Entry] = {}
    if direction == "backward":
        roots["slope"] = derivative(program.score, LOGIT)
        for name, place, slope in _slopes(program, kernel):
            places[name] = place
            roots[name] = slope
            roots |= {f"{name} index {i}": index for i, index in enumerate(place.indices)}
    lowered = lower(tuple(roots.values()), CppDialect(program.tables))
    results = dict(zip(roots, lowered.results, strict=True))
    stages = Stages(lowered, lowered.results)
    named: tuple[Stage, ...] = ("head", "row", "key")
    counted = any(segment.condition.type == "count" for segment in kernel.segments)
    texts = [text for name, text in results.items() if name.startswith(("score", "slope"))]
    return {
        "rows": _walked(kernel.rows, "ROW_AXES"),
        "segments": tuple(
            WalkedSegment(
                _walked(segment.keys, f"KEY_AXES{place}"),
                stages.straight(results[f"mask {place}"]),
                segment.condition.type == "bool",
            )
            for place, segment in enumerate(kernel.segments)
        ),
        "most_axes": max(_walked(order, "").count for order in (kernel.rows, *(x.keys for x in kernel.segments))),
        "key_tile": max((segment.keys.tile for segment in kernel.segments), default=1),
        "stores": kernel.output == "store",
        "counted": counted,
        "fields": {stage: stages.fields(stage) for stage in named},
        "stages": {stage: stages.statements(stage) for stage in named},
        "numbers": tuple(sorted({number for root in roots.values() for number in numbers_of(root)})),
        "score": stages.straight(results["score"]),
        "sink": stages.straight(results["sink"]) if "sink" in results else None,
        "owned": stages.straight(results["owned"]) if "owned" in results else None,
        "pair": stages.pair(*texts),
        "slope": stages.spelled(results.get("slope", "")),
        "sloped": roots.get("slope", Const(1.0)) != Const(1.0),
        "score_scatters": _scatters(program, stages, results, places, "score"),
        "sink_scatters": _scatters(program, stages, results, places, "sink"),
    }


def _roots(program: Program, kernel: Kernel) -> dict[str, Expr]:
    """What a kernel evaluates. The sink joins where rows are stored, once."""
    roots: dict[str, Expr] = {f"mask {place}": segment.condition for place, segment in enumerate(kernel.segments)}
    roots["score"] = program.score
    if program.sink is not None and kernel.output == "store":
        roots["sink"] = program.sink
    if kernel.where != TRUE:
        roots["owned"] = kernel.where
    return roots


def _slopes(program: Program, kernel: Kernel) -> Iterator[tuple[str, Entry, Expr]]:
    """Each place at which score or sink read a float table, and the slope there."""
    sources = {"score": program.score}
    if program.sink is not None and kernel.output == "store":
        sources["sink"] = program.sink
    for source, expr in sources.items():
        for number, place in enumerate(reads(expr)):
            slope = derivative(expr, place)
            if slope != Const(0.0):  # else read by a condition, say
                yield f"{source} {number}", place, slope


def _walked(order: Order, name: str) -> Walked:
    match order:
        case View(axes=axes, offset=offset):
            described, parts, lead = [_axis(axis, 0, axis.tile) for axis in axes], 1, 0
        case Box(view=View(axes=axes, offset=offset), parts=parts, lead=lead):
            described = [*map(_axis, axes, order.before, order.extents)]
        case _:
            name, described, offset, parts, lead = "nullptr", [], 0, 1, 0
    whole = f"{{{name}, {len(described)}, {offset}, {order.tile}, {parts}, {lead}}}"
    return Walked(Code(name), Code(", ".join(described)), len(described), order.tile, Code(whole))


def _axis(axis: Axis, before: int, extent: int) -> str:
    return f"{{{axis.stride}, {axis.length or 0}, {axis.tile}, {before}, {extent}}}"


def _scatters(
    program: Program, stages: Stages, results: Mapping[str, str], places: Mapping[str, Entry], source: str
) -> tuple[Scatter, ...]:
    dialect, found = CppDialect(program.tables), []
    for name, place in places.items():
        if name.startswith(source):
            texts = tuple(results[f"{name} index {i}"] for i in range(len(place.indices)))
            indices = dialect.indices(int(place.table), tuple(stages.spelled(text) for text in texts))
            single = not any(_varies(index) for index in place.indices)
            found.append(
                Scatter(int(place.table), tuple(Code(x) for x in indices), stages.spelled(results[name]), single)
            )
    return tuple(found)


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
    """All that some kernel evaluates."""
    conditions = [segment.condition for kernel in program.kernels for segment in kernel.segments]
    owned = [kernel.where for kernel in program.kernels]
    return (*conditions, *owned, program.score, *(() if program.sink is None else (program.sink,)))


def _tables_read(program: Program) -> tuple[int, ...]:
    """The numbers of the tables that anything reads."""
    exprs = _expressions(program)
    return tuple(sorted({int(node.table) for expr in exprs for node in walk(expr) if hasattr(node, "table")}))


def _note(program: Program, variant: CppVariant) -> tuple[Code, ...]:
    """The header comment. Tables go by their numbers, so that nothing of the text's words is in it."""
    names = {str(number): f"table{number}" for number in range(len(program.tables))}
    lines = [
        f"Attention, {variant.direction}: head dims {variant.head_dim} and {variant.value_dim}, "
        f"{variant.storage} in {variant.compute}{', dropout' if variant.dropout else ''}"
    ]
    for place, kernel in enumerate(program.kernels):
        owned = "" if kernel.where == TRUE else f", where {_readable(kernel.where, names)}"
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
    """What it is and how many tokens a tile has. What lists are made by is no part of the kernels."""
    return f"{'as listed' if isinstance(order, Gathered | Sorted) else described(order)}, {order.tile} a tile"


def _readable(expr: Expr, names: Mapping[str, str]) -> str:
    sizes: dict[Expr, int] = {}
    for node in walk(expr):
        sizes[node] = 1 + sum(sizes[part] for part in children(node))
    return expression(expr, names) if sizes[expr] <= _READABLE else f"{len(sizes)} distinct parts, below"
