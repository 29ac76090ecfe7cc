"""Renders a Program as Triton source: one Python module with the functions of one pass for each kernel.

The text of each kind of function is a template of that name, such as ``templates/triton/forward.py.jinja``, which reads
from top to bottom. Its holes are filled here and in

- :mod:`.functions`: which functions there are, and what a template takes of each (``FunctionText``);
- :mod:`.walks`: the loops over rows and keys (``TokenLoop``);
- :mod:`.body`: score, mask and slopes of a pair (``Body``);
- :mod:`.signature`: the parameters.

The module is plain Triton: it imports nothing but triton and triton.language. Whatever differs between two structures
is written out in it, so its kernels have no compile-time parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...ir import LOGIT, Expr
from ...plan import BF16, FP16, FP32, FP64, Kernel, Program, Segment, key_major, natural
from .. import Code, KernelSource, render
from .body import LimitText, SumsText, make_body, make_condition, make_entries, make_sink, stored_site
from .dialect import TritonDialect
from .functions import (
    FunctionId,
    FunctionText,
    SegmentText,
    direct_keys,
    direct_output,
    direct_queries,
    functions,
)
from .signature import (
    MOST_NUMBERS,
    Parameters,
    column_loops,
    expressions,
    is_counted,
    is_ordered,
    listed_numbers,
    loops_by_key,
    parameters,
    row_loop,
    with_sink,
)
from .sites import GradientSite, few_entries, gradient_sites, listed_sets, pair_tables, used_tables
from .variant import DIGIT_BITS, DIGITS, TritonVariant, lanes
from .walks import careful_loop, make_loop, pace

CAREFUL_STEP = 16  # lanes in a step of the careful second loop: the least that a product takes


@dataclass(frozen=True)
class Features:
    """The features of one token, of q and k (``head``) or of v (``value``): ``size`` of them, padded to ``lanes``."""

    name: Code
    size: int
    lanes: int

    @property
    def padded(self) -> bool:
        return self.lanes != self.size


@dataclass(frozen=True)
class _Module:
    """A lifted Program and its variant, with what all functions of their module need."""

    program: Program
    variant: TritonVariant
    dialect: TritonDialect
    sites: tuple[GradientSite, ...]
    parameters: Mapping[str, Parameters]
    ending: str

    @property
    def score_sites(self) -> tuple[GradientSite, ...]:
        return tuple(site for site in self.sites if not site.sink)

    @property
    def sink_sites(self) -> tuple[GradientSite, ...]:
        return tuple(site for site in self.sites if site.sink)

    @property
    def by_row(self) -> TritonDialect:
        """The dialect of expressions over queries alone, in one dimension."""
        head = {"head": "row_heads"} if self.variant.packed else {}
        return replace(self.dialect, names={"q": "q_rows", **head})

    @property
    def by_column(self) -> TritonDialect:
        """The dialect of expressions over keys alone, in one dimension."""
        return replace(self.dialect, names={"k": "k_rows"})


def render_triton(program: Program, variant: TritonVariant, only: str | None = None, ending: str = "") -> KernelSource:
    """Return the module of a Program without constants (:func:`compiler.codegen.lift_constants`).

    ``only``: the name of the one function that it holds; all of them unless given. ``ending``: of the functions' names
    in the text, where a file holds two Programs. Raises ValueError if gathered rows,
    which are not all rows, are to be stored.
    """
    if any(kernel.rows.sparse and kernel.output == "store" for kernel in program.kernels):
        raise ValueError("output: is 'store' where rows are gathered, expected 'merge': only all rows can be stored")
    dialect = TritonDialect(program.tables, variant.wide, variant.dtype == FP64, listed=listed_sets(program, variant))
    module = _Module(program, variant, dialect, gradient_sites(program), parameters(program, variant), ending)
    holes = _holes(module)
    parts = [render("triton/module.py.jinja", **holes)]
    for function in functions(program, variant.direction, variant.split):
        if only in (None, function.name):
            parts.append(render(f"triton/{function.kind}.py.jinja", **holes, function=_function(module, function)))
    return KernelSource("triton", "\n\n".join(parts))


def _holes(module: _Module) -> dict[str, Any]:
    """The holes that are the same in all templates; ``templates/triton/module.py.jinja`` says what they are."""
    program, variant, dialect = module.program, module.variant, module.dialect
    by_row = [site for site in module.score_sites if site.level in ("block", "row")]
    by_column = [site for site in module.score_sites if site.level == "column"]
    return {
        "head": _features("head", variant.head_dim),
        "value": _features("value", variant.value_dim),
        "element": Code(variant.dtype.triton),
        "integer": Code(dialect.integer),
        "compute": Code(dialect.compute),
        "precision": _precision(variant),
        "narrow": variant.dtype in (FP16, BF16),
        "wide": variant.wide,
        "dropout": variant.dropout,
        "plain": program.score == LOGIT and not variant.packed,  # each row has a scale of its own
        "packed": variant.packed,
        "is_part": program.is_part,
        "anywhere": variant.anywhere,
        "listed": bool(dialect.listed),
        "tables": used_tables(program),
        "pair_tables": pair_tables(module.sites),
        "exact": variant.exact,
        "digits": DIGITS,
        "digit_bits": DIGIT_BITS,
        "direct_output": direct_output(program),
        "direct_queries": direct_queries(program),
        "direct_keys": direct_keys(program),
        "row_sites": tuple(stored_site(site, module.by_row) for site in by_row),
        "column_sites": tuple(stored_site(site, module.by_column) for site in by_column),
        "sink": None if program.sink is None else make_sink(program.sink, module.sink_sites, module.by_row),
    }


def _precision(variant: TritonVariant) -> Code:
    """The options of products: how fp32 is multiplied; fp64 sums by name, which older versions of Triton require."""
    if variant.dtype == FP64:
        return Code(", out_dtype=tl.float64")
    if variant.dtype != FP32:
        return Code("")
    return Code(f', input_precision="{"tf32" if variant.tf32 else "ieee"}"')


def _features(name: str, size: int) -> Features:
    return Features(Code(name), size, lanes(size))


def _function(module: _Module, function: FunctionId) -> FunctionText:
    """The text of a function, as its template takes it."""
    if function.kernel is None:
        return _delta(module, function)
    kernel = module.program.kernels[function.kernel]
    match function.kind:
        case "forward" | "backward_queries":
            return _by_rows(module, function, kernel)
        case "backward_keys":
            assert function.segment is not None
            return _by_columns(module, function, kernel, kernel.segments[function.segment])
        case _:
            return _parts(module, function, kernel)


def _by_rows(module: _Module, function: FunctionId, kernel: Kernel) -> FunctionText:
    """A function in which each program keeps a block of rows and walks keys."""
    backward = function.kind == "backward_queries"
    sites = [site for site in module.score_sites if site.level != "column"] if backward else []
    exprs = expressions(module.program, kernel)
    if not backward and kernel.output == "store":
        exprs = with_sink(module.program, exprs)
    segments = tuple(
        SegmentText(
            suffix=Code(str(place)),
            keys=keys,
            again=careful_loop(keys, segment.keys, "column", CAREFUL_STEP),
            body=replace(
                make_body(
                module.program.score, segment.condition, module.dialect, "q", sites, slopes=backward,
                limits=LimitText(str(place), "n_tokens" if keys.bounded and not module.program.is_part else None),
                prefix=f"t{place}_" if place else "t", summed=_summed(module, kernel, segment),
            ),
                plain=module.program.score == LOGIT and not module.variant.packed,
            ),
        )
        for place, (segment, keys) in enumerate(
            zip(kernel.segments, column_loops(module.program, kernel, module.variant), strict=True)
        )
    )  # fmt: skip
    few = {text.number: text.lanes for segment in segments for text in segment.body.sites if text.lanes}
    rows = row_loop(kernel, module.variant)
    return _reading(
        module, function, exprs, rows=rows, segments=segments, counted=is_counted(kernel, rows),
        store=kernel.output == "store", split=kernel.splits or module.variant.split,
        ordered=is_ordered(module.program, kernel, module.variant), **_owned(module, kernel),
        entries=tuple(make_entries(site, module.dialect, few[site.number]) for site in sites if site.number in few),
    )  # fmt: skip


def _summed(module: _Module, kernel: Kernel, segment: Segment) -> SumsText:
    """How pairs of a segment's tiles are summed for tables from which query and key choose together."""
    apart = pace(kernel.rows)
    few = {site.number: few_entries(site, module.program.tables) for site in module.score_sites}
    return SumsText(apart if apart == pace(segment.keys) else None, few)


def _by_columns(module: _Module, function: FunctionId, kernel: Kernel, segment: Segment) -> FunctionText:
    """A function in which each program keeps a block of keys of one segment and walks rows."""
    exprs = (segment.condition, kernel.owned_rows, module.program.score)
    sites = [site for site in module.score_sites if site.level == "column"]
    rows, columns = loops_by_key(kernel, segment, module.variant.step)
    return _reading(
        module, function, exprs, rows=rows, columns=columns,
        rows_again=careful_loop(rows, key_major(kernel.rows, segment.keys)[0], "row", CAREFUL_STEP),
        body=make_body(
            module.program.score, segment.condition, module.dialect, "k", sites, slopes=True,
            limits=LimitText("", origin="q_first"),
        ),
        ordered=not module.program.is_part, **_owned(module, kernel),
    )  # fmt: skip


def _parts(module: _Module, function: FunctionId, kernel: Kernel) -> FunctionText:
    """The function that merges the parts of a kernel whose keys are split, or adds up their gradients."""
    store = kernel.output == "store"
    rows = row_loop(kernel, module.variant)
    return _reading(module, function, (), rows=rows, store=store, counted=is_counted(kernel, rows))


def _delta(module: _Module, function: FunctionId) -> FunctionText:
    """The function that begins the backward pass: each row's sum of output times gradient, and the sink's gradient."""
    exprs = with_sink(module.program, ()) if module.sink_sites else ()
    step = module.variant.step.queries
    return _reading(module, function, exprs, rows=make_loop(natural(step), "row", step, True), all_heads=True)


def _reading(module: _Module, function: FunctionId, exprs: tuple[Expr, ...], **rest: Any) -> FunctionText:
    """A function with the parameters that it needs to read the constants of ``exprs``."""
    names = module.parameters[function.name]
    numbers = listed_numbers(exprs)
    return FunctionText(
        name=Code(function.name + module.ending),
        parameters=tuple(Code(p.name) for p in names),
        unspecialised=tuple(Code(f'"{p.name}"') for p in names if not p.specialised),
        numbers=numbers,
        numbers_listed=len(numbers) > MOST_NUMBERS,
        **rest,
    )


def _owned(module: _Module, kernel: Kernel) -> dict[str, Any]:
    statements, owned = make_condition(kernel.owned_rows, module.by_row)
    return {"owned_statements": statements, "owned": owned}
