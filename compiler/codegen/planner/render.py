"""Renders the kernels that plan on the device, as Triton source: they find the tiles of a segment, or list tokens.

For a segment three functions run one after the other, each text below ``templates/triton``:

- ``row_ranges`` and ``column_ranges`` (``plan_ranges.py.jinja``): what one side alone decides, evaluated for every
  token and reduced to its range over each granule of tokens;
- ``tile_kinds`` (``plan_kinds.py.jinja``): the condition judged by these ranges for every pair of tiles.

What they find is turned to runs of tiles by the function ``runs`` (``plan_runs.py.jinja``), the same for all programs.
For a list there is one function, ``listing`` (``plan_list.py.jinja``) or ``ranks`` (``plan_ranks.py.jinja``).
"""

from __future__ import annotations

from collections.abc import Iterable

from ...ir import Entry, Expr, Member, Number, walk
from ...plan import FP64, U8, Order
from .. import Code, lower, render
from ..triton import Parameter, TokenLoop, TritonDialect, make_loop, order_parameters, table_parameters, written
from .features import Feature, Features, Side, granule, position_step
from .functions import (
    ListProblem,
    PlanFunction,
    PlanLayout,
    PlanModule,
    PlannerVariant,
    RangeText,
    SegmentProblem,
    SideLayout,
)
from .intervals import judge

KINDS_AT_ONCE = 128  # pairs of tiles that one step of ``tile_kinds`` judges
RUNS_AT_ONCE = 128  # tiles that one step of ``runs`` reads
LISTED_AT_ONCE = 1024  # tokens that one step of ``listing`` reads

_INTEGER = Code("tl.int64")


def render_segment(problem: SegmentProblem, variant: PlannerVariant) -> PlanModule:
    """Return the functions that find the tiles of a segment."""
    dialect = _dialect(variant)
    steps: dict[Side, int] = {"row": position_step(problem.rows), "column": position_step(problem.keys)}
    features = Features(steps)
    judged = judge(problem.condition, features, dialect, variant.wide)
    sizes = {
        "row": granule(problem.rows, (problem.condition,)),
        "column": granule(problem.keys, (problem.condition,)),
    }
    rows, row_planes, row_floats = _ranges("row", features.row)
    columns, column_planes, column_floats = _ranges("column", features.column)
    layout = PlanLayout(
        SideLayout(sizes["row"], problem.rows.tile // sizes["row"], row_planes, row_floats),
        SideLayout(sizes["column"], problem.keys.tile // sizes["column"], column_planes, column_floats),
    )
    of_rows = _of_side("row", problem.rows, features.row, rows, sizes["row"], dialect, variant)
    of_columns = _of_side("column", problem.keys, features.column, columns, sizes["column"], dialect, variant)
    kinds_parameters = _kinds_parameters(variant, problem.condition)
    kinds = _function(
        "tile_kinds", kinds_parameters, (problem.condition,), statements=tuple(judged.lines), ranges=rows,
        columns=columns, may=Code(judged.result.may), must=Code(judged.result.must),
    )  # fmt: skip
    parts = [
        _head(dialect),
        *(
            render("triton/plan_ranges.py.jinja", function=function, side=Code(side), planes=planes, floats=floats,
                   compute=Code(dialect.compute), wide=variant.wide)
            for side, (function, _), planes, floats in (
                ("row", of_rows, row_planes, row_floats), ("column", of_columns, column_planes, column_floats)
            )
        ),
        render("triton/plan_kinds.py.jinja", function=kinds, layout=layout, step=KINDS_AT_ONCE, wide=variant.wide),
    ]  # fmt: skip
    parameters = {"row_ranges": of_rows[1], "column_ranges": of_columns[1], "tile_kinds": kinds_parameters}
    return PlanModule("\n\n".join(parts), parameters, layout)


def render_list(problem: ListProblem, variant: PlannerVariant) -> PlanModule:
    """Return the function that lists the tokens of a gathered order, or ranks those of a sorted one."""
    dialect = _dialect(variant)
    lowered = lower([problem.listed_by], dialect)
    name = "listing" if problem.order.gathered_by is not None else "ranks"
    outputs: tuple[Parameter, ...] = (Parameter("values", "*i64", True),)
    if name == "listing":
        outputs = Parameter("tokens", "*i32", True), Parameter("counts", "*i32", True), Parameter("capacity", "i32")
    given = (*outputs, *_common(variant, (problem.listed_by,)))
    function = _function(
        name, given, (problem.listed_by,), statements=written(lowered.statements), value=Code(lowered.results[0])
    )
    template = "triton/plan_list.py.jinja" if name == "listing" else "triton/plan_ranks.py.jinja"
    text = render(template, function=function, by_query=problem.by_query, step=LISTED_AT_ONCE)
    return PlanModule("\n\n".join([_head(dialect), text]), {name: given})


def render_runs() -> PlanModule:
    """Return the function that turns the kinds of tiles to runs of them."""
    names = (
        Parameter("kinds", "*u8", True), Parameter("run_pointer", "*i64", True), Parameter("run_end", "*i64", True),
        Parameter("run_start", "*i32", True), Parameter("run_length", "*i32", True),
        Parameter("run_kind", "*u8", True), Parameter("first_slot", "i32"), Parameter("first_line", "i32"),
        Parameter("lines", "i32"), Parameter("all_lines", "i32"), Parameter("length", "i32"),
        Parameter("line_step", "i32"), Parameter("step", "i32"), Parameter("capacity", "i32"),
    )  # fmt: skip
    function = _function("runs", names, ())
    text = render("triton/plan_runs.py.jinja", function=function, at_once=RUNS_AT_ONCE)
    return PlanModule("\n\n".join([_head(TritonDialect(())), text]), {"runs": names})


def _head(dialect: TritonDialect) -> str:
    return render(
        "triton/module.py.jinja",
        listed=bool(dialect.listed),
        integer=_INTEGER,
        exact=False,
        narrow=False,
        pair_tables=(),
    )


def _dialect(variant: PlannerVariant) -> TritonDialect:
    """The dialect of planning: integers of 64 bits, as ranges may go beyond what single values need."""
    listed = frozenset(
        number
        for number, (table, kind) in enumerate(zip(variant.tables, variant.dtypes, strict=True))
        if table.element == "set" and kind != U8
    )
    return TritonDialect(variant.tables, True, variant.compute == FP64, listed=listed)


def _ranges(side: Side, features: Iterable[Feature]) -> tuple[tuple[RangeText, ...], int, int]:
    """The planes of each feature's range, and how many there are: of integers, of which the first counts the tokens,
    and of floats.
    """
    found: list[RangeText] = []
    planes, floats = 1, 0
    for number, feature in enumerate(features):
        is_float = feature.expr.type == "float"
        low = floats if is_float else planes
        planes, floats = (planes, floats + 2) if is_float else (planes + 2, floats)
        sign = None
        if feature.signed:
            sign, planes = planes, planes + 1
        name = Code(f"{side}{number}")
        found.append(RangeText(name, Code(""), feature.expr.type == "bool", is_float, low, low + 1, sign))
    return tuple(found), planes, floats


def _of_side(
    side: Side,
    order: Order,
    features: list[Feature],
    ranges: tuple[RangeText, ...],
    lanes: int,
    dialect: TritonDialect,
    variant: PlannerVariant,
) -> tuple[PlanFunction, tuple[Parameter, ...]]:
    exprs = tuple(feature.expr for feature in features)
    lowered = lower(exprs, dialect)
    loop = make_loop(order, side, lanes, True)
    valued = tuple(
        RangeText(its.name, Code(text), its.is_bool, its.is_float, its.low, its.high, its.sign)
        for its, text in zip(ranges, lowered.results, strict=True)
    )
    outputs = (Parameter("ranges", "*i64", True), Parameter("float_ranges", f"*{variant.compute.name}", True))
    given = (*outputs, *_common(variant, exprs), *order_parameters(loop))
    statements = written(lowered.statements)
    return _function(f"{side}_ranges", given, exprs, loop=loop, statements=statements, ranges=valued), given


def _kinds_parameters(variant: PlannerVariant, condition: Expr) -> tuple[Parameter, ...]:
    names: list[Parameter] = []
    for side in ("row", "column"):
        names += [
            Parameter(f"{side}_ranges", "*i64", True),
            Parameter(f"{side}_floats", f"*{variant.compute.name}", True),
            Parameter(f"{side}_granules", "i32"),
            Parameter(f"{side}_first", "i32"),
            Parameter(f"{side}_tiles", "i32"),
        ]
    return (Parameter("kinds", "*u8", True), Parameter("first_slot", "i32"), *names, *_common(variant, (condition,)))


def _common(variant: PlannerVariant, exprs: tuple[Expr, ...]) -> tuple[Parameter, ...]:
    """The parameters by which expressions are read: sizes, positions, slots, tables and numbers."""
    found = [Parameter(name, "i32") for name in ("m", "n", "heads", "head_slots")]
    found += [Parameter("head_list", "*i32", True), Parameter("q_start", "*i64", True)]
    found.append(Parameter("q_start_step", "i32"))
    for number in _tables(exprs):
        found += table_parameters(number, variant.tables[number], variant.dtypes[number])
    return (*found, Parameter("numbers", "*i64", True))


def _tables(exprs: tuple[Expr, ...]) -> tuple[int, ...]:
    nodes = (node for root in exprs for node in walk(root))
    return tuple(sorted({int(node.table) for node in nodes if isinstance(node, (Entry, Member))}))


def _function(
    name: str,
    parameters: tuple[Parameter, ...],
    exprs: tuple[Expr, ...],
    loop: TokenLoop | None = None,
    statements: tuple[Code, ...] = (),
    ranges: tuple[RangeText, ...] = (),
    columns: tuple[RangeText, ...] = (),
    may: Code | None = None,
    must: Code | None = None,
    value: Code | None = None,
) -> PlanFunction:
    numbers = sorted({node.index for root in exprs for node in walk(root) if isinstance(node, Number)})
    return PlanFunction(
        name=Code(name),
        parameters=tuple(Code(p.name) for p in parameters),
        unspecialised=tuple(Code(f'"{p.name}"') for p in parameters if not p.type.startswith("*")),
        numbers=tuple(numbers),
        tables=_tables(exprs),
        loop=loop,
        statements=statements,
        ranges=ranges,
        columns=columns,
        may=may,
        must=must,
        value=value,
    )
