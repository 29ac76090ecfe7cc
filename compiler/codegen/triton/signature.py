"""The parameters of the functions in a Triton module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from ...ir import ROUNDINGS, Apply, Expr, Table, tables_read, walk
from ...plan import I64, DType, Kernel, Program, Segment, integers, is_natural, key_major
from .. import numbers_of
from .functions import FunctionId, direct_keys, direct_output, direct_queries, functions
from .sites import GradientSite, gradient_sites, pair_tables, used_tables
from .variant import TileStep, TritonVariant, lanes
from .walks import TokenLoop, make_loop

_KEYS_SUMMED = 32  # the most keys in a step whose pairs are summed for tables, which takes registers

MOST_NUMBERS = 256  # the most constants that are parameters of a function; if it reads more, it reads them from memory


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function. ``type`` is in Triton's notation, such as ``*bf16`` or ``i32``.

    ``aligned``: Triton compiles a separate kernel for arguments that are multiples of 16, which pays for pointers and
    strides; for other integers, kernels do not depend on the value. ``block``: what a descriptor loads at once.
    """

    name: str
    type: str
    aligned: bool = False
    block: tuple[int, ...] = ()

    @property
    def specialised(self) -> bool:
        """Whether Triton may compile separate kernels for some of its values."""
        return self.aligned or self.type.startswith("*") or bool(self.block)


Parameters = tuple[Parameter, ...]


def parameters(program: Program, variant: TritonVariant) -> Mapping[str, Parameters]:
    """Return the parameters of each function of a lifted Program's module, by name."""
    return {
        function.name: _of(function, program, variant)
        for function in functions(program, variant.direction, variant.split)
    }


def _of(function: FunctionId, program: Program, variant: TritonVariant) -> Parameters:
    if function.kernel is None:
        return _delta(program, variant)
    kernel = program.kernels[function.kernel]
    match function.kind:
        case "forward":
            return _forward(program, variant, kernel)
        case "merge":
            return _merge(program, variant, kernel)
        case "backward_keys":
            assert function.segment is not None
            return _backward_keys(program, variant, kernel, kernel.segments[function.segment])
        case "backward_queries":
            return _backward_queries(program, variant, kernel)
        case _:
            return _collect(variant, kernel)


@dataclass(frozen=True)
class Steps:
    """What one step of a function takes: ``rows`` of queries and, for each of its ``segments``, so many ``keys``.

    ``kernel`` and ``segments`` are numbers in the Program; a function that walks no keys has no segments. ``summed``:
    its pairs are summed for tables from which query and key choose together; ``described``: descriptors load all its
    keys; ``reading``: a condition reads tables. ``fuses``: whether products may be fused with sums, which a mask that
    multiplies floats forbids.
    """

    kernel: int | None
    segments: tuple[int, ...]
    rows: int
    keys: tuple[int, ...]
    summed: bool = False
    described: bool = False
    reading: bool = False
    fuses: bool = True


def steps(program: Program, variant: TritonVariant) -> Mapping[str, Steps]:
    """Return the steps of each function of a Program's module, by name."""
    fuses = not any(map(_rounds_a_product, _conditions(program)))
    return {
        function.name: replace(_steps(function, program, variant), fuses=fuses)
        for function in functions(program, variant.direction, variant.split)
    }


def _conditions(program: Program) -> Iterator[Expr]:
    for kernel in program.kernels:
        yield kernel.owned_rows
        yield from (segment.condition for segment in kernel.segments)


def _rounds_a_product(condition: Expr) -> bool:
    return any(
        isinstance(node, Apply)
        and node.op in ROUNDINGS
        and isinstance(made := node.args[0], Apply)
        and made.op == "mul"
        for node in walk(condition)
    )


def _steps(function: FunctionId, program: Program, variant: TritonVariant) -> Steps:
    if function.kernel is None:
        return Steps(None, (), variant.step.queries, ())
    kernel = program.kernels[function.kernel]
    rows = row_loop(kernel, variant).step
    if function.kind in ("merge", "collect"):
        return Steps(function.kernel, (), rows, ())
    if function.segment is not None:
        by_row, by_key = loops_by_key(kernel, kernel.segments[function.segment], variant.step)
        return Steps(function.kernel, (function.segment,), by_row.step, (by_key.step,))
    keys = tuple(loop.step for loop in column_loops(program, kernel, variant))
    return Steps(
        function.kernel,
        tuple(range(len(keys))),
        rows,
        keys,
        _summed(program, variant),
        _all_described(kernel, variant),
        any(tables_read(part.condition) for part in kernel.segments),
    )


def _summed(program: Program, variant: TritonVariant) -> bool:
    return variant.direction == "backward_queries" and bool(pair_tables(gradient_sites(program)))


def _all_described(kernel: Kernel, variant: TritonVariant) -> bool:
    return variant.described is not None and all(is_natural(part.keys) for part in kernel.segments)


def row_loop(kernel: Kernel, variant: TritonVariant) -> TokenLoop:
    """Return the loop over rows, of one step, for a program that works on one block of rows."""
    return _described(make_loop(kernel.rows, "row", variant.step.queries, True), variant)


def column_loops(program: Program, kernel: Kernel, variant: TritonVariant) -> tuple[TokenLoop, ...]:
    """Return the loop over each segment's keys, for a program that works on one block of rows."""
    most = variant.step.keys
    if variant.described is not None and _all_described(kernel, variant):
        most = variant.described.keys
    if _summed(program, variant):
        most = min(most, _KEYS_SUMMED)
    return tuple(
        _described(make_loop(part.keys, "column", most, False, str(j)), variant)
        for j, part in enumerate(kernel.segments)
    )


def _described(loop: TokenLoop, variant: TritonVariant) -> TokenLoop:
    return replace(loop, described=loop.natural and variant.described is not None)


def loops_by_key(kernel: Kernel, segment: Segment, step: TileStep) -> tuple[TokenLoop, TokenLoop]:
    """Return the loops over rows and over keys for a program that works on one block of keys (``backward_keys``)."""
    rows, keys = key_major(kernel.rows, segment.keys)
    return make_loop(rows, "row", step.queries, False), make_loop(keys, "column", step.keys, True)


def expressions(program: Program, kernel: Kernel, conditions: bool = True) -> tuple[Expr, ...]:
    """Return the expressions that a kernel evaluates, except for the sink."""
    found = [part.condition for part in kernel.segments] if conditions else []
    return (*found, kernel.owned_rows, program.score)


def listed_numbers(exprs: Iterable[Expr]) -> tuple[int, ...]:
    """Return the indices of the constants that expressions read, in rising order."""
    return tuple(sorted(set(chain.from_iterable(map(numbers_of, exprs)))))


def with_sink(program: Program, exprs: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Return the expressions and, if the program has one, the sink."""
    return exprs if program.sink is None else (*exprs, program.sink)


def _forward(program: Program, variant: TritonVariant, kernel: Kernel) -> Parameters:
    exprs = expressions(program, kernel)
    if kernel.output == "store":
        exprs = with_sink(program, exprs)
    results = _parts(variant) if variant.split or kernel.splits else _results(program, variant)
    return (*_inputs(program, variant), *results, *_loops(program, variant, exprs, kernel))


def _results(program: Program, variant: TritonVariant) -> Parameters:
    stored = variant.dtype if direct_output(program) else variant.compute
    return (_pointer("output", stored), _pointer("lse", variant.compute))


def _parts(variant: TritonVariant) -> Parameters:
    return (_pointer("part_output", variant.compute), _pointer("part_lse", variant.compute), _PARTS)


def _merge(program: Program, variant: TritonVariant, kernel: Kernel) -> Parameters:
    rows = row_loop(kernel, variant)
    group = (Parameter("group", "i32"),) if variant.packed else ()
    order = (*_order(rows), *_counted_rows(kernel, rows))
    return (*_parts(variant), *_results(program, variant), *_SIZES, *group, *_HEADS, *order)


def _collect(variant: TritonVariant, kernel: Kernel) -> Parameters:
    rows = row_loop(kernel, variant)
    gradient = _pointer("grad_query", variant.compute)
    order = (*_order(rows), *_counted_rows(kernel, rows))
    return (_pointer("part_query", variant.compute), _PARTS, gradient, *_SIZES, *_HEADS, *order)


def _delta(program: Program, variant: TritonVariant) -> Parameters:
    of_sink = [site for site in gradient_sites(program) if site.sink]
    exprs = with_sink(program, ()) if of_sink else ()
    given = (_pointer("output", variant.dtype), *_tensor("grad_output", variant.dtype))
    rest = tuple(_pointer(name, variant.compute) for name in ("lse", "row_delta", "grad_lse"))
    return (*given, *rest, *_common(program, variant, exprs), *_sums(of_sink, variant))


def _given(program: Program, variant: TritonVariant) -> Parameters:
    """The parameters that functions of the backward pass read."""
    rest = (_pointer("lse", variant.compute), _pointer("row_delta", variant.compute))
    return (*_inputs(program, variant), *_tensor("grad_output", variant.dtype), *rest)


def _backward_keys(program: Program, variant: TritonVariant, kernel: Kernel, segment: Segment) -> Parameters:
    exprs = (segment.condition, kernel.owned_rows, program.score)
    stored = variant.dtype if direct_keys(program) else variant.compute
    rows, columns = loops_by_key(kernel, segment, variant.step)
    turns = () if program.is_part else _turns("kv_heads")
    return (
        *_given(program, variant), _pointer("grad_key", stored), _pointer("grad_value", stored),
        *_common(program, variant, exprs), Parameter("head_places", "*i32", True), Parameter("first_member", "i32"),
        Parameter("members", "i32"), Parameter("kv_heads", "i32"), *turns, *_order(rows), *_order(columns),
        *_bounds("", variant), *_dropout(variant),
        *_sums([site for site in gradient_sites(program) if site.level == "column"], variant),
    )  # fmt: skip


def _backward_queries(program: Program, variant: TritonVariant, kernel: Kernel) -> Parameters:
    sites = gradient_sites(program)
    stored = variant.dtype if direct_queries(program) else variant.compute
    whole, parts = (_pointer("grad_query", stored),), (_pointer("part_query", variant.compute), _PARTS)
    loops = _loops(program, variant, expressions(program, kernel), kernel)
    sums = _sums([site for site in sites if not site.sink and site.level in ("block", "row")], variant)
    summed = I64 if variant.exact else variant.compute
    pairs = tuple(_pointer(f"pair_sums{table}", summed) for table in pair_tables(sites))
    return (*_given(program, variant), *(parts if kernel.splits else whole), *loops, *sums, *pairs)


def _loops(program: Program, variant: TritonVariant, exprs: tuple[Expr, ...], kernel: Kernel) -> Parameters:
    """The parameters of a program that keeps its rows and walks the keys of each segment."""
    rows, columns = row_loop(kernel, variant), column_loops(program, kernel, variant)
    of_segments = chain.from_iterable((*_order(loop), *_bounds(str(j), variant)) for j, loop in enumerate(columns))
    turns = _turns("kernel_heads", "group") if is_ordered(program, kernel, variant) else ()
    order = (*_order(rows), *_counted_rows(kernel, rows))
    found = (*_common(program, variant, exprs), *_HEADS, *turns, *order, *of_segments, *_dropout(variant))
    given = ("query", "grad_output") if variant.direction == "backward_queries" else ("query",)
    loaded = [(name, "", rows) for name in given]
    loaded += [(name, str(j), loop) for j, loop in enumerate(columns) for name in ("key", "value")]
    return (*found, *(_descriptor(name, j, loop.step, variant) for name, j, loop in loaded if loop.described))


def _descriptor(tensor: str, suffix: str, tokens: int, variant: TritonVariant) -> Parameter:
    """The descriptor of a tensor ``[batch, heads, tokens, features]``: some tokens of one head, with all features."""
    block = (1, 1, tokens, lanes(variant.head_dim if tensor in ("query", "key") else variant.value_dim))
    kind = f"tensordesc<{variant.dtype.name}[{', '.join(map(str, block))}]>"
    return Parameter(f"{tensor}_descriptor{suffix}", kind, block=block)


def is_ordered(program: Program, kernel: Kernel, variant: TritonVariant) -> bool:
    """Whether arguments tell in which order programs take their blocks of rows: not where there are few, nor where
    their registers would not suffice (docs/decisions/0056).
    """
    return not (variant.anywhere or kernel.splits or program.is_part)


def _turns(*heads: str) -> Parameters:
    """The order of programs, and what divides by numbers of ``heads`` (docs/decisions/0056)."""
    sizes = ("section_programs", "together", "first_block", "block_step")
    inverses = ("section_programs", "together", *heads)
    return (
        *(Parameter(name, "i32") for name in sizes),
        *(Parameter(f"{name}_inverse", "i64") for name in inverses),
    )


_PARTS = Parameter("parts", "i32")
_KEYS = (Parameter("k_start", "*i64", True), Parameter("k_start_step", "i32"), Parameter("key_rows", "i32"))
_SIZES = (Parameter("m", "i32"), Parameter("heads", "i32"))
_HEADS = (Parameter("kernel_heads", "i32"), Parameter("head_list", "*i32", True))


def _counted_rows(kernel: Kernel, rows: TokenLoop) -> Parameters:
    """What tells how many of the rows for which a list has room there are, where their keys are split."""
    counts = (Parameter("row_counts", "*i32", True), Parameter("slot_programs", "i32"), Parameter("most_parts", "i32"))
    return counts if is_counted(kernel, rows) else ()


def is_counted(kernel: Kernel, rows: TokenLoop) -> bool:
    """Whether rows are listed, maybe on a device that alone knows how many there are, and their keys are split."""
    return kernel.splits and rows.listed


def _order(loop: TokenLoop) -> Parameters:
    names = ["tiles"] if loop.counted else []
    names += ["main_tiles"] if loop.main_tiles else []
    found = [Parameter(f"{loop.name}_{name}", "i32") for name in names]
    if loop.listed:
        found.append(Parameter(f"{loop.name}_list", "*i32", True))
        found += [Parameter(f"{loop.name}_list_{name}", "i32") for name in ("length", "batch", "head")]
    return tuple(found)


def _bounds(suffix: str, variant: TritonVariant) -> Parameters:
    pointers = (
        ("run_pointer", "*i64"),
        ("run_end", "*i64"),
        ("run_start", "*i32"),
        ("run_length", "*i32"),
        ("run_kind", "*u8"),
    )
    numbers: tuple[str, ...] = ("schedule_batch", "schedule_head", "period", "shift", "class_tiles", "limit", "whole")
    numbers += ("start_step", "start_shift") if variant.anywhere else ()
    inverses = () if variant.anywhere else ("period_inverse", "class_inverse")
    return (
        *(Parameter(f"{name}{suffix}", kind, True) for name, kind in pointers),
        *(Parameter(f"{name}{suffix}", "i32") for name in numbers),
        *(Parameter(f"{name}{suffix}", "i64") for name in inverses),
    )


def _dropout(variant: TritonVariant) -> Parameters:
    whole = tuple(Parameter(name, "i32") for name in ("seed_low", "seed_high", "drop_last"))
    return (*whole, Parameter("drop_scale", "fp32")) if variant.dropout else ()


def _common(program: Program, variant: TritonVariant, exprs: tuple[Expr, ...]) -> Parameters:
    found = [Parameter(name, "i32") for name in ("m", "n", "heads", "group")]
    found += [Parameter("q_start", "*i64", True), Parameter("q_start_step", "i32")]
    found.append(_pointer("scale", variant.compute))
    for number in used_tables(program):
        found += table_parameters(number, program.tables[number], variant.tables[number])
    numbers = listed_numbers(exprs)
    if len(numbers) > MOST_NUMBERS:
        return (*found, Parameter("numbers", "*i64", True))
    return (*found, *(Parameter(f"number{index}", integers(variant.wide).name) for index in numbers))


def table_parameters(number: int, table: Table, kind: DType) -> Parameters:
    """Return the parameters by which functions read a table: where it lies, and the sizes of its axes."""
    axes = len(table.dimensions) + (table.element == "set")
    sizes = (Parameter(f"table{number}_size{axis}", "i32") for axis in range(axes))
    return (_pointer(f"table{number}", kind), Parameter(f"table{number}_batch", "i64"), *sizes)


def _inputs(program: Program, variant: TritonVariant) -> Parameters:
    tensors = (*_tensor("query", variant.dtype), *_tensor("key", variant.dtype), *_tensor("value", variant.dtype))
    return (*tensors, *_KEYS) if program.is_part else tensors


def _tensor(name: str, element: DType) -> Parameters:
    strides = (Parameter(f"{name}_{axis}", "i32", True) for axis in ("batch", "head", "row"))
    return (_pointer(name, element), *strides)


def _pointer(name: str, element: DType) -> Parameter:
    return Parameter(name, f"*{element.name}", True)


def _sums(sites: list[GradientSite], variant: TritonVariant) -> Parameters:
    pairs = ((_pointer(f"site{s.number}", variant.compute), _pointer(f"site{s.number}_place", I64)) for s in sites)
    return tuple(chain.from_iterable(pairs))


def order_parameters(loop: TokenLoop) -> Parameters:
    """Return the parameters from which a loop computes the tokens of its order."""
    return _order(loop)
