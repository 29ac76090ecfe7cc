"""Program to Triton source: one Python module with functions for each kernel, forward and backward.

The module is plain Triton: it imports nothing but triton and triton.language. Whatever differs between two structures
is written out in it, so its kernels have no compile-time parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ...ir import LOGIT, Expr
from ...plan import Kernel, Program, key_major, natural
from .. import Code, KernelSource, lower, render
from .body import Body, SiteLines, make_body, make_condition, stored_site, written
from .dialect import TritonDialect
from .functions import direct_keys, direct_output, direct_queries, is_split
from .signature import (
    MOST_NUMBERS,
    Parameters,
    column_walks,
    expressions,
    listed_numbers,
    parameters,
    row_walk,
    walks_by_key,
    with_sink,
)
from .sites import Site, gradient_sites, listed_sets, pair_tables, used_tables
from .variant import DIGIT_BITS, DIGITS, Variant, lanes
from .walks import Walk, make_walk, second_walk

# What a product must be told: TF32 is not fp32, and older Tritons refuse a sum in fp64 that is not named.
_PRODUCTS = {"fp32": ', input_precision="ieee"', "fp64": ", out_dtype=tl.float64"}
CAREFUL_STEP = 16  # lanes at a time where a sum is made again with care: the least that a product takes
_ELEMENTS = {"fp16": "tl.float16", "bf16": "tl.bfloat16", "fp32": "tl.float32", "fp64": "tl.float64"}


@dataclass(frozen=True)
class SegmentText:
    """A segment as the templates take it: its number, how its keys are walked, first and again with care, and what
    happens to each pair."""

    suffix: Code
    columns: Walk
    again: Walk
    body: Body


@dataclass(frozen=True)
class Function:
    """What the templates of all functions need. ``where`` None: the kernel speaks for each row that it walks."""

    name: Code
    parameters: tuple[Code, ...]
    plain: tuple[Code, ...]  # the integers that must not be specialised, quoted
    numbers: tuple[int, ...]
    numbers_listed: bool
    rows: Walk | None = None
    rows_again: Walk | None = None
    columns: Walk | None = None
    segments: tuple[SegmentText, ...] = ()
    body: Body | None = None
    store: bool = True
    split: bool = False
    all_heads: bool = False
    where_statements: tuple[Code, ...] = ()
    where: Code | None = None

    @property
    def spoilable(self) -> bool:
        """Whether a tile may hold pairs of tokens that are not kept: a weight of 0 makes NaN of NaN and of infinity."""
        bodies = [segment.body for segment in self.segments] if self.body is None else [self.body]
        return self.where is not None or any(body.keep is not None for body in bodies)


def render_triton(program: Program, variant: Variant) -> KernelSource:
    """The module of a lifted Program (:func:`compiler.codegen.lifting`).

    ValueError where gathered rows, which are not all rows, are to be stored.
    """
    if any(is_split(kernel) and kernel.output == "store" for kernel in program.kernels):
        raise ValueError("output: is 'store' where rows are gathered, expected 'merge': only all rows can be stored")
    made = _Renderer(program, variant)
    holes = made.holes()
    parts = [render("triton/module.py.jinja", **holes)]
    for template, function in made.functions():
        parts.append(render(f"triton/{template}.py.jinja", **holes, function=function))
    return KernelSource("triton", "\n\n".join(parts))


class _Renderer:
    """One module in the making."""

    def __init__(self, program: Program, variant: Variant) -> None:
        double = variant.dtype == "fp64"
        self.program, self.variant = program, variant
        self.sites = gradient_sites(program)
        self.parameters = parameters(program, variant)
        self.listed = listed_sets(program, variant)
        self.dialect = TritonDialect(program.tables, variant.wide, double, listed=self.listed)
        self.by_row = replace(self.dialect, names={"q": "q_rows"})
        self.by_column = replace(self.dialect, names={"k": "k_rows"})

    def holes(self) -> dict[str, Any]:
        """What is the same in all functions."""
        program, variant, head, value = self.program, self.variant, self.variant.head_dim, self.variant.value_dim
        return {
            "no_suffix": Code(""),
            "head_dim": head,
            "value_dim": value,
            "head_lanes": lanes(head),
            "value_lanes": lanes(value),
            "pad_head": lanes(head) != head,
            "pad_value": lanes(value) != value,
            "element": Code(_ELEMENTS[variant.dtype]),
            "compute": Code(self.dialect.compute),
            "integer": Code(self.dialect.integer),
            "precision": Code(_PRODUCTS.get(variant.dtype, "")),
            "wide": variant.wide,
            "dropout": variant.dropout,
            "plain": program.score == LOGIT,
            "listed": bool(self.listed),
            "tables": used_tables(program),
            "pair_tables": pair_tables(self.sites),
            "exact": variant.exact,
            "digits": DIGITS,
            "digit_bits": DIGIT_BITS,
            "direct_output": direct_output(program),
            "direct_queries": direct_queries(program),
            "direct_keys": direct_keys(program),
            **self._stored_sites(),
        }

    def functions(self) -> list[tuple[str, Function]]:
        """Each function with its template, in the order in which they stand in the module."""
        kernels = list(enumerate(self.program.kernels))
        found = [("forward", self._by_rows("forward", number, kernel)) for number, kernel in kernels]
        found += [("merge", self._parts("merge", number, kernel)) for number, kernel in kernels if is_split(kernel)]
        found.append(("delta", self._delta()))
        for number, kernel in kernels:
            found += [
                ("backward_keys", self._by_columns(number, kernel, segment)) for segment in range(len(kernel.segments))
            ]
        found += [("backward_queries", self._by_rows("backward_queries", number, kernel)) for number, kernel in kernels]
        found += [("collect", self._parts("collect", number, kernel)) for number, kernel in kernels if is_split(kernel)]
        return found

    def _function(self, name: str, exprs: tuple[Expr, ...], **rest: Any) -> Function:
        names: Parameters = self.parameters[name]
        numbers = listed_numbers(exprs)
        return Function(
            Code(name),
            tuple(Code(p.name) for p in names),
            tuple(Code(f'"{p.name}"') for p in names if not p.type.startswith("*") and not p.aligned),
            numbers,
            len(numbers) > MOST_NUMBERS,
            **rest,
        )

    def _by_rows(self, kind: str, number: int, kernel: Kernel) -> Function:
        """A function whose programs stay with their rows."""
        backward = kind == "backward_queries"
        step = self.variant.backward_queries if backward else self.variant.forward
        sites = [site for site in self.sites if site.level != "column"] if backward else list(self.sites)
        exprs = expressions(self.program, kernel)
        if not backward and kernel.output == "store":
            exprs = with_sink(self.program, exprs)
        segments = tuple(
            SegmentText(
                Code(str(place)),
                columns,
                second_walk(columns, segment.keys, "column", CAREFUL_STEP),
                make_body(
                    self.program.score, segment.condition, self.dialect, "q", sites, slopes=backward,
                    prefix=f"t{place}_" if place else "t",
                ),
            )
            for place, (segment, columns) in enumerate(
                zip(kernel.segments, column_walks(kernel, step.keys), strict=True)
            )
        )  # fmt: skip
        return self._function(
            f"{kind}_{number}", exprs, rows=row_walk(kernel, step.queries), segments=segments,
            store=kernel.output == "store", split=is_split(kernel), **self._where(kernel),
        )  # fmt: skip

    def _by_columns(self, number: int, kernel: Kernel, place: int) -> Function:
        """A function whose programs stay with their keys."""
        step, segment = self.variant.backward_keys, kernel.segments[place]
        exprs = (segment.condition, kernel.where, self.program.score)
        sites = [site for site in self.sites if site.level == "column"]
        rows, columns = walks_by_key(kernel, segment, step)
        return self._function(
            f"backward_keys_{number}_{place}", exprs, rows=rows, columns=columns,
            rows_again=second_walk(rows, key_major(kernel.rows, segment.keys)[0], "row", CAREFUL_STEP),
            body=make_body(self.program.score, segment.condition, self.dialect, "k", sites, slopes=True),
            **self._where(kernel),
        )  # fmt: skip

    def _parts(self, kind: str, number: int, kernel: Kernel) -> Function:
        """A function that puts the parts of a split kernel together."""
        step = self.variant.forward if kind == "merge" else self.variant.backward_queries
        return self._function(f"{kind}_{number}", (), rows=row_walk(kernel, step.queries))

    def _delta(self) -> Function:
        of_sink = any(site.sink for site in self.sites)
        step = self.variant.backward_queries.queries
        exprs = with_sink(self.program, ()) if of_sink else ()
        return self._function("delta", exprs, rows=make_walk(natural(step), "row", step, True), all_heads=True)

    def _where(self, kernel: Kernel) -> dict[str, Any]:
        statements, where = make_condition(kernel.where, self.by_row)
        return {"where_statements": statements, "where": where}

    def _stored_sites(self) -> dict[str, Any]:
        """The holes of the sites whose sums are stored, and of the sink."""
        of_score = [site for site in self.sites if not site.sink]
        found: dict[str, Any] = {
            "row_sites": self._stored([site for site in of_score if site.level in ("block", "row")], self.by_row),
            "column_sites": self._stored([site for site in of_score if site.level == "column"], self.by_column),
            "sink": None,
            "sink_statements": (),
            "sink_slope_statements": (),
            "sink_sites": (),
        }
        sink = self.program.sink
        if sink is None:
            return found
        of_sink = [site for site in self.sites if site.sink]
        alone = lower([sink], self.by_row, prefix="z")
        lowered = lower([sink, *(site.slope for site in of_sink)], self.by_row, prefix="z")
        sites = zip(of_sink, lowered.results[1:], strict=True)
        return found | {
            "sink": Code(alone.results[0]),
            "sink_statements": written(alone.statements),
            "sink_slope_statements": written(lowered.statements[len(alone.statements) :]),
            "sink_sites": tuple(stored_site(site, text, self.by_row) for site, text in sites),
        }

    def _stored(self, sites: list[Site], dialect: TritonDialect) -> tuple[SiteLines, ...]:
        return tuple(stored_site(site, "", dialect) for site in sites)
