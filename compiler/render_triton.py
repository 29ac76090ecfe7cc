"""Program to Triton source: one Python module with the forward kernel and the three of the backward.

The module is plain Triton: it imports nothing but triton and triton.language. Whatever differs between two structures
is written out in it, so its kernels have no compile-time parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .emit import lower
from .emit_triton import TritonDialect
from .plan import Program
from .render import Code, render
from .source import KernelSource
from .triton_body import make_body, stored_site, written
from .triton_sites import Site, gradient_sites, used_tables

DType = Literal["fp16", "bf16", "fp32", "fp64"]
# What a product must be told: TF32 is not fp32, and older Tritons refuse a sum in fp64 that is not named.
_PRODUCTS = {"fp32": ', input_precision="ieee"', "fp64": ", out_dtype=tl.float64"}
_ELEMENTS = {"fp16": "tl.float16", "bf16": "tl.bfloat16", "fp32": "tl.float32", "fp64": "tl.float64"}
KERNELS = ("forward", "delta", "backward_keys", "backward_queries")
LEAST_LANES = 16  # what a matrix product takes at least


@dataclass(frozen=True)
class Step:
    """How many queries and keys a kernel takes at a time: powers of two."""

    queries: int
    keys: int


@dataclass(frozen=True)
class Variant:
    """What decides the text beside the Program.

    - ``query_tile`` and ``key_tile`` are the schedule's; ``forward``, ``backward_keys`` and ``backward_queries`` say
      how much of them one step of that kernel takes;
    - ``wide``: positions, integer tables and offsets need 64 bits;
    - ``tables``: the element type of each table as it lies in memory: ``i32 i64 fp32 fp64 u8``.
    """

    head_dim: int
    value_dim: int
    dtype: DType
    wide: bool
    dropout: bool
    query_tile: int
    key_tile: int
    forward: Step
    backward_keys: Step
    backward_queries: Step
    tables: tuple[str, ...]

    def __post_init__(self) -> None:
        for step in (self.forward, self.backward_keys, self.backward_queries):
            for tile, size in ((self.query_tile, step.queries), (self.key_tile, step.keys)):
                if size < 1 or size & (size - 1) or tile % size:
                    raise ValueError(f"step is {size}, expected a power of two that divides the tile, {tile}")

    @property
    def compute(self) -> Literal["fp32", "fp64"]:
        return "fp64" if self.dtype == "fp64" else "fp32"


@dataclass(frozen=True)
class Parameter:
    """``type`` as Triton writes it: ``*bf16``, ``i32``. ``aligned`` ones are worth a kernel of their own when they are
    multiples of 16 (pointers and strides); other numbers never are."""

    name: str
    type: str
    aligned: bool = False


def lanes(dim: int) -> int:
    """The power of two that holds a head dimension inside a kernel."""
    return max(LEAST_LANES, 1 << (dim - 1).bit_length())


def render_triton(program: Program, variant: Variant) -> KernelSource:
    """The module of a Program with one kernel of one segment in natural order."""
    sites = gradient_sites(program)
    dialect = TritonDialect(program.tables, variant.wide, variant.dtype == "fp64")
    by_name = parameters(program, variant)
    text = render(
        "triton/module.py.jinja",
        variant=variant,
        head_lanes=lanes(variant.head_dim),
        value_lanes=lanes(variant.value_dim),
        pad_head=lanes(variant.head_dim) != variant.head_dim,
        pad_value=lanes(variant.value_dim) != variant.value_dim,
        element=Code(_ELEMENTS[variant.dtype]),
        compute=Code(dialect.compute),
        integer=Code(dialect.integer),
        precision=Code(_PRODUCTS.get(variant.dtype, "")),
        wide=variant.wide,
        dropout=variant.dropout,
        tables=used_tables(program),
        pair_tables=_pair_tables(sites),
        parameters={name: tuple(Code(p.name) for p in ps) for name, ps in by_name.items()},
        plain_numbers={name: _plain_numbers(ps) for name, ps in by_name.items()},
        forward_body=make_body(program, dialect, "q", sites, slopes=False),
        rows_body=make_body(program, dialect, "q", [s for s in sites if s.level != "column"], slopes=True),
        columns_body=make_body(program, dialect, "k", [s for s in sites if s.level == "column"], slopes=True),
        **_stored_sites(program, variant, sites),
    )
    return KernelSource("triton", text)


def _stored_sites(program: Program, variant: Variant, sites: tuple[Site, ...]) -> dict[str, Any]:
    """The holes of the sites whose sums are stored, and of the sink."""
    double = variant.dtype == "fp64"
    by_row = TritonDialect(program.tables, variant.wide, double, {"q": "q_rows"})
    by_column = TritonDialect(program.tables, variant.wide, double, {"k": "k_rows"})
    holes: dict[str, Any] = {
        "row_sites": tuple(stored_site(s, "", by_row) for s in sites if not s.sink and s.level in ("block", "row")),
        "column_sites": tuple(stored_site(s, "", by_column) for s in sites if not s.sink and s.level == "column"),
        "sink": None,
        "sink_statements": (),
        "sink_slope_statements": (),
        "sink_sites": (),
    }
    if program.sink is not None:
        of_sink = [site for site in sites if site.sink]
        alone = lower([program.sink], by_row, prefix="z")
        lowered = lower([program.sink, *(site.slope for site in of_sink)], by_row, prefix="z")
        holes["sink"] = Code(alone.results[0])
        holes["sink_statements"] = written(alone.statements)
        holes["sink_slope_statements"] = written(lowered.statements[len(alone.statements) :])
        holes["sink_sites"] = tuple(
            stored_site(site, text, by_row) for site, text in zip(of_sink, lowered.results[1:], strict=True)
        )
    return holes


def _pair_tables(sites: tuple[Site, ...]) -> tuple[int, ...]:
    return tuple(sorted({site.table for site in sites if site.level == "pair"}))


def _plain_numbers(parameters: tuple[Parameter, ...]) -> tuple[Code, ...]:
    return tuple(Code(f'"{p.name}"') for p in parameters if not p.type.startswith("*") and not p.aligned)


def parameters(program: Program, variant: Variant) -> Mapping[str, tuple[Parameter, ...]]:
    """The parameters of each kernel, in order."""
    element, compute = f"*{variant.dtype}", f"*{variant.compute}"
    sites = gradient_sites(program)
    common, schedule, dropout = _common(program, variant), _SCHEDULE, _DROPOUT if variant.dropout else ()
    q, k, v = (_tensor(name, element) for name in ("query", "key", "value"))
    given = _tensor("grad_output", element)
    lse, row_delta = (Parameter(name, compute, True) for name in ("lse", "row_delta"))
    output, grad_query, grad_key, grad_value = (
        Parameter(name, element, True) for name in ("output", "grad_query", "grad_key", "grad_value")
    )
    walk = (*common, *schedule, *dropout)
    backward = (*q, *k, *v, *given, lse, row_delta)
    columns = _sums([site for site in sites if site.level == "column"], compute)
    rows = _sums([site for site in sites if not site.sink and site.level in ("block", "row")], compute)
    of_sink = _sums([site for site in sites if site.sink], compute)
    pairs = (Parameter(f"grad_table{table}", compute, True) for table in _pair_tables(sites))
    grad_lse = Parameter("grad_lse", compute, True)
    return {
        "forward": (*q, *k, *v, output, lse, *walk),
        "delta": (output, *given, lse, row_delta, grad_lse, *common, *of_sink),
        "backward_keys": (*backward, grad_key, grad_value, *walk, *columns),
        "backward_queries": (*backward, grad_query, *walk, *rows, *pairs),
    }


_SCHEDULE = (
    Parameter("run_pointer", "*i64", True),
    Parameter("run_start", "*i32", True),
    Parameter("run_length", "*i32", True),
    Parameter("run_kind", "*u8", True),
    Parameter("schedule_batch", "i32"),
    Parameter("schedule_head", "i32"),
)
_DROPOUT = (
    Parameter("seed_low", "i32"),
    Parameter("seed_high", "i32"),
    Parameter("drop_last", "i32"),
    Parameter("drop_scale", "fp32"),
)


def _common(program: Program, variant: Variant) -> tuple[Parameter, ...]:
    found = [Parameter(name, "i32") for name in ("m", "n", "heads", "group")]
    found += [Parameter("q_start", "*i64", True), Parameter("q_start_step", "i32")]
    found += [Parameter("scale", f"*{variant.compute}", True)]
    for number in used_tables(program):
        table = program.tables[number]
        found += [
            Parameter(f"table{number}", f"*{variant.tables[number]}", True),
            Parameter(f"table{number}_batch", "i64"),
        ]
        axes = len(table.dimensions) + (table.element == "set")
        found += [Parameter(f"table{number}_size{axis}", "i32") for axis in range(axes)]
    return tuple(found)


def _tensor(name: str, element: str) -> tuple[Parameter, ...]:
    strides = (Parameter(f"{name}_{axis}", "i32", True) for axis in ("batch", "head", "row"))
    return (Parameter(name, element, True), *strides)


def _sums(sites: list[Site], compute: str) -> tuple[Parameter, ...]:
    return tuple(
        parameter
        for site in sites
        for parameter in (
            Parameter(f"site{site.number}", compute, True),
            Parameter(f"site{site.number}_place", "*i64", True),
        )
    )
