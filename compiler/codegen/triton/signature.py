"""The parameters of the functions in a Triton module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

from ...ir import Expr
from ...plan import Kernel, Program, Segment, key_major
from .. import numbers_of
from .functions import direct_keys, direct_output, direct_queries, is_split
from .sites import Site, gradient_sites, pair_tables, used_tables
from .variant import Step, Variant
from .walks import Walk, make_walk

MOST_NUMBERS = 256  # of one function's arguments: where there are more, they are read from memory


@dataclass(frozen=True)
class Parameter:
    """``type`` as Triton writes it: ``*bf16``, ``i32``. ``aligned`` ones are worth a kernel of their own when they are
    multiples of 16 (pointers and strides); other numbers never are."""

    name: str
    type: str
    aligned: bool = False


Parameters = tuple[Parameter, ...]


def parameters(program: Program, variant: Variant) -> Mapping[str, Parameters]:
    """The parameters of each function of a lifted Program's module, in order."""
    found: dict[str, Parameters] = {}
    numbers = range(len(program.kernels))
    for number in numbers:
        found[f"forward_{number}"] = _forward(program, variant, number)
        if is_split(program.kernels[number]):
            found[f"merge_{number}"] = _merge(program, variant, number)
    found["delta"] = _delta(program, variant)
    for number in numbers:
        for segment in range(len(program.kernels[number].segments)):
            found[f"backward_keys_{number}_{segment}"] = _backward_keys(program, variant, number, segment)
    for number in numbers:
        found[f"backward_queries_{number}"] = _backward_queries(program, variant, number)
        if is_split(program.kernels[number]):
            found[f"collect_{number}"] = _collect(program, variant, number)
    return found


def row_walk(kernel: Kernel, most: int) -> Walk:
    return make_walk(kernel.rows, "row", most, True)


def column_walks(kernel: Kernel, most: int) -> tuple[Walk, ...]:
    """Of each segment's keys, for a program that stays with its rows."""
    return tuple(make_walk(part.keys, "column", most, False, str(j)) for j, part in enumerate(kernel.segments))


def walks_by_key(kernel: Kernel, segment: Segment, step: Step) -> tuple[Walk, Walk]:
    """Of rows and keys, for a program that stays with its keys."""
    rows, keys = key_major(kernel.rows, segment.keys)
    return make_walk(rows, "row", step.queries, False), make_walk(keys, "column", step.keys, True)


def expressions(program: Program, kernel: Kernel, conditions: bool = True) -> tuple[Expr, ...]:
    """What a kernel's text is made of, but for the sink."""
    found = [part.condition for part in kernel.segments] if conditions else []
    return (*found, kernel.where, program.score)


def listed_numbers(exprs: Iterable[Expr]) -> tuple[int, ...]:
    """The numbers that expressions read, in rising order."""
    return tuple(sorted(set(chain.from_iterable(map(numbers_of, exprs)))))


def with_sink(program: Program, exprs: tuple[Expr, ...]) -> tuple[Expr, ...]:
    return exprs if program.sink is None else (*exprs, program.sink)


def _forward(program: Program, variant: Variant, number: int) -> Parameters:
    kernel = program.kernels[number]
    exprs = expressions(program, kernel)
    if kernel.output == "store":
        exprs = with_sink(program, exprs)
    results = _parts(variant) if is_split(kernel) else _results(program, variant)
    rows = row_walk(kernel, variant.forward.queries)
    return (*_inputs(variant), *results, *_walk(program, variant, exprs, kernel, rows, variant.forward.keys))


def _results(program: Program, variant: Variant) -> Parameters:
    stored = variant.dtype if direct_output(program) else variant.compute
    return (_pointer("output", stored), _pointer("lse", variant.compute))


def _parts(variant: Variant) -> Parameters:
    return (_pointer("part_output", variant.compute), _pointer("part_lse", variant.compute), _PARTS)


def _merge(program: Program, variant: Variant, number: int) -> Parameters:
    rows = row_walk(program.kernels[number], variant.forward.queries)
    return (*_parts(variant), *_results(program, variant), *_SIZES, *_HEADS, *_order(rows))


def _collect(program: Program, variant: Variant, number: int) -> Parameters:
    rows = row_walk(program.kernels[number], variant.backward_queries.queries)
    gradient = _pointer("grad_query", variant.compute)
    return (_pointer("part_query", variant.compute), _PARTS, gradient, *_SIZES, *_HEADS, *_order(rows))


def _delta(program: Program, variant: Variant) -> Parameters:
    of_sink = [site for site in gradient_sites(program) if site.sink]
    exprs = with_sink(program, ()) if of_sink else ()
    given = (_pointer("output", variant.dtype), *_tensor("grad_output", variant.dtype))
    rest = tuple(_pointer(name, variant.compute) for name in ("lse", "row_delta", "grad_lse"))
    return (*given, *rest, *_common(program, variant, exprs), *_sums(of_sink, variant))


def _given(variant: Variant) -> Parameters:
    """What each function of the backward reads."""
    rest = (_pointer("lse", variant.compute), _pointer("row_delta", variant.compute))
    return (*_inputs(variant), *_tensor("grad_output", variant.dtype), *rest)


def _backward_keys(program: Program, variant: Variant, number: int, segment: int) -> Parameters:
    kernel = program.kernels[number]
    part = kernel.segments[segment]
    exprs = (part.condition, kernel.where, program.score)
    stored = variant.dtype if direct_keys(program) else variant.compute
    rows, columns = walks_by_key(kernel, part, variant.backward_keys)
    return (
        *_given(variant), _pointer("grad_key", stored), _pointer("grad_value", stored),
        *_common(program, variant, exprs), Parameter("head_places", "*i32", True), Parameter("first_member", "i32"),
        Parameter("members", "i32"), *_order(rows), *_order(columns), *_bounds(""), *_dropout(variant),
        *_sums([site for site in gradient_sites(program) if site.level == "column"], variant),
    )  # fmt: skip


def _backward_queries(program: Program, variant: Variant, number: int) -> Parameters:
    kernel, sites = program.kernels[number], gradient_sites(program)
    stored = variant.dtype if direct_queries(program) else variant.compute
    whole, parts = (_pointer("grad_query", stored),), (_pointer("part_query", variant.compute), _PARTS)
    rows = row_walk(kernel, variant.backward_queries.queries)
    walk = _walk(program, variant, expressions(program, kernel), kernel, rows, variant.backward_queries.keys)
    sums = _sums([site for site in sites if not site.sink and site.level in ("block", "row")], variant)
    summed = "i64" if variant.exact else variant.compute
    pairs = tuple(_pointer(f"pair_sums{table}", summed) for table in pair_tables(sites))
    return (*_given(variant), *(parts if is_split(kernel) else whole), *walk, *sums, *pairs)


def _walk(
    program: Program, variant: Variant, exprs: tuple[Expr, ...], kernel: Kernel, rows: Walk, keys: int
) -> Parameters:
    """What a program needs that stays with its rows and walks the keys of each segment."""
    columns = column_walks(kernel, keys)
    of_segments = chain.from_iterable((*_order(walk), *_bounds(str(j))) for j, walk in enumerate(columns))
    return (*_common(program, variant, exprs), *_HEADS, *_order(rows), *of_segments, *_dropout(variant))


_PARTS = Parameter("parts", "i32")
_SIZES = (Parameter("m", "i32"), Parameter("heads", "i32"))
_HEADS = (Parameter("kernel_heads", "i32"), Parameter("head_list", "*i32", True))


def _order(walk: Walk) -> Parameters:
    names = ["tiles"] if walk.counted else []
    names += ["main_tiles"] if walk.main_tiles else []
    found = [Parameter(f"{walk.name}_{name}", "i32") for name in names]
    if walk.listed:
        found.append(Parameter(f"{walk.name}_list", "*i32", True))
        found += [Parameter(f"{walk.name}_list_{name}", "i32") for name in ("length", "batch", "head")]
    return tuple(found)


def _bounds(suffix: str) -> Parameters:
    pointers = (("run_pointer", "*i64"), ("run_start", "*i32"), ("run_length", "*i32"), ("run_kind", "*u8"))
    numbers = ("schedule_batch", "schedule_head", "period", "shift", "class_tiles", "limit", "whole")
    return (
        *(Parameter(f"{name}{suffix}", kind, True) for name, kind in pointers),
        *(Parameter(f"{name}{suffix}", "i32") for name in numbers),
    )


def _dropout(variant: Variant) -> Parameters:
    whole = tuple(Parameter(name, "i32") for name in ("seed_low", "seed_high", "drop_last"))
    return (*whole, Parameter("drop_scale", "fp32")) if variant.dropout else ()


def _common(program: Program, variant: Variant, exprs: tuple[Expr, ...]) -> Parameters:
    found = [Parameter(name, "i32") for name in ("m", "n", "heads", "group")]
    found += [Parameter("q_start", "*i64", True), Parameter("q_start_step", "i32")]
    found.append(_pointer("scale", variant.compute))
    for number in used_tables(program):
        table = program.tables[number]
        found += [_pointer(f"table{number}", variant.tables[number]), Parameter(f"table{number}_batch", "i64")]
        axes = len(table.dimensions) + (table.element == "set")
        found += [Parameter(f"table{number}_size{axis}", "i32") for axis in range(axes)]
    numbers = listed_numbers(exprs)
    if len(numbers) > MOST_NUMBERS:
        return (*found, Parameter("numbers", "*i64", True))
    return (*found, *(Parameter(f"number{index}", "i64" if variant.wide else "i32") for index in numbers))


def _inputs(variant: Variant) -> Parameters:
    return (*_tensor("query", variant.dtype), *_tensor("key", variant.dtype), *_tensor("value", variant.dtype))


def _tensor(name: str, element: str) -> Parameters:
    strides = (Parameter(f"{name}_{axis}", "i32", True) for axis in ("batch", "head", "row"))
    return (_pointer(name, element), *strides)


def _pointer(name: str, element: str) -> Parameter:
    return Parameter(name, f"*{element}", True)


def _sums(sites: list[Site], variant: Variant) -> Parameters:
    pairs = ((_pointer(f"site{s.number}", variant.compute), _pointer(f"site{s.number}_place", "i64")) for s in sites)
    return tuple(chain.from_iterable(pairs))
