"""Runs a launch by Triton kernels: CUDA and ROCm tensors on the device, CPU tensors in Triton's interpreter.

Like every executor it has :func:`forward` and :func:`backward`; results are contiguous and, with two exceptions, the
same from run to run: sums run in a fixed order or use exact integer arithmetic. The exceptions are gradients of table
entries that query and key choose together: in fp64, and for tables too large for 96 bytes of integers per entry, they
are floats that are added in any order. Under `torch.use_deterministic_algorithms` the large tables use integers as
well, and fp64 is refused.

Importing this module imports triton: TritonUnavailable, an ImportError, where it cannot be had.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ...compiler import pipeline
from ...compiler.codegen import lift_constants
from ...compiler.codegen.triton import (
    DIGIT_BITS,
    DIGITS,
    GradientSite,
    TritonVariant,
    direct_keys,
    direct_output,
    direct_queries,
    fitted,
    gradient_sites,
    kind_of,
    make_variant,
    options,
    pair_tables,
    parameters,
    span,
    steps,
)
from ...compiler.ir import Table
from ...compiler.plan import FP32, Kernel, KernelSchedule, Listing, Order, Pass, Program, is_natural, key_major
from ..base import Gradients, Launch, count
from .arguments import bounds_arguments, call_arguments, head_arguments, number_arguments, order_arguments, strided
from .backend import INTERPRETER, TRITON
from .modules import interpreting, load_module, require, require_triton, target_of

require_triton()

_LARGEST_OFFSET = 2**31
# Tables of at most this many entries always sum their gradient exactly, which takes up to 400 MB.
_EXACT_ENTRIES = 2**22
# Where a kernel would have fewer programs than _PROGRAMS, because its rows are few, the keys are cut into at most
# _MOST_PARTS parts of at least _LEAST_TILES tiles. The same on every device, so that results are the same, too.
_PROGRAMS, _LEAST_TILES, _MOST_PARTS = 256, 4, 64


def variant_of(launch: Launch, direction: Pass) -> TritonVariant:
    """The variant of the source of one pass for a launch. TypeError for bfloat16 in Triton's interpreter, which
    computes it wrongly.
    """
    kind = launch.specialisation
    if interpreting() and kind.dtype not in INTERPRETER.dtypes:
        raise TypeError("q: has dtype bfloat16, expected float32 or float16: Triton's interpreter has wrong bfloat16")
    orders = [kernel.rows for kernel in launch.program.kernels]
    orders += [segment.keys for kernel in launch.program.kernels for segment in kernel.segments]
    strides = (abs(stride) for t in (launch.q, launch.k, launch.v) for stride in t.stride())
    farthest = (1 + max(map(span, orders))) * max(strides, default=0)
    entries = max((table.tensor.numel() for table in launch.tables), default=0)
    return make_variant(
        direction,
        kind.dtype,
        kind.head_dim,
        kind.value_dim,
        kind.tables,
        target=target_of(launch.q.device),
        wide=kind.wide or max(farthest, entries) >= _LARGEST_OFFSET,
        dropout=kind.dropout,
        tf32=kind.dtype == FP32
        and launch.q.device.type == "cuda"
        and torch.get_float32_matmul_precision() != "highest",
        exact=entries <= _EXACT_ENTRIES or torch.are_deterministic_algorithms_enabled(),
    )


@dataclass(frozen=True)
class _Kernels:
    """The functions of one imported module, and what they take. ``program`` is lifted: its numbers are arguments.

    ``options``: the compile options of each function, as keyword arguments of its launch.
    """

    program: Program
    module: ModuleType
    variant: TritonVariant
    parameters: Mapping[str, tuple[str, ...]]
    options: Mapping[str, Mapping[str, Any]]
    sites: tuple[GradientSite, ...]


@lru_cache(maxsize=256)
def _kernels(program: Program, variant: TritonVariant, target: str) -> _Kernels:
    names = {name: tuple(p.name for p in ps) for name, ps in parameters(program, variant).items()}
    nvidia = target.startswith("sm_")
    chosen = {
        name: options(kind_of(name), variant, taken, target).arguments(nvidia)
        for name, taken in steps(program, variant).items()
    }
    module = load_module(pipeline.source(program, TRITON.render, variant))
    return _Kernels(program, module, variant, names, chosen, gradient_sites(program))


_lifted = lru_cache(maxsize=256)(lift_constants)


@dataclass(frozen=True)
class _Call:
    """A launch, the functions that run it, and the arguments that all of them share."""

    launch: Launch
    kernels: _Kernels
    arguments: Mapping[str, Any]

    def kernel(self, number: int) -> tuple[Kernel, KernelSchedule]:
        return self.launch.program.kernels[number], self.launch.schedule.kernels[number]

    def run(self, name: str, programs: int, arguments: Mapping[str, Any]) -> None:
        """Launches one function, with a one-dimensional grid: the other axes of a grid hold fewer programs."""
        if programs:
            given = {**self.arguments, **arguments}
            values = {parameter: given[parameter] for parameter in self.kernels.parameters[name]}
            with _device(self.launch.q.device):
                getattr(self.kernels.module, name)[(programs,)](**values, **self.kernels.options[name])

    def zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.launch.compute_dtype, device=self.launch.q.device)

    def empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.launch.compute_dtype, device=self.launch.q.device)


@contextmanager
def _device(device: torch.device) -> Iterator[None]:
    if device.type == "cuda":
        with torch.cuda.device(device):
            yield
    else:
        import numpy as np

        with np.errstate(all="ignore"):  # inf - inf in lanes that are masked out
            yield


def _prepared(launch: Launch, direction: Pass) -> _Call:
    require(launch.q.device)
    lifted = _lifted(launch.program)
    kernels = _kernels(lifted.program, variant_of(launch, direction), target_of(launch.q.device))
    listed = any("numbers" in names for names in kernels.parameters.values())
    return _Call(launch, kernels, call_arguments(launch) | number_arguments(lifted.numbers, listed, launch.q.device))


@dataclass(frozen=True)
class _Rows:
    """The grid of a function whose programs each take ``step`` query rows: ``slots`` pairs of a batch entry and a head,
    ``parts`` of the keys, ``blocks`` of rows.
    """

    heads: int
    slots: int
    parts: int
    blocks: int
    step: int

    @property
    def programs(self) -> int:
        return self.slots * self.parts * self.blocks

    @property
    def listed(self) -> tuple[int, int, int]:
        """The shape of results that each part of the keys stores separately, row by row."""
        return self.slots, self.parts, self.blocks * self.step


def _steps(order: Order, listing: Listing | None, tokens: int, step: int) -> int:
    """How many steps walk an order, as :attr:`compiler.codegen.triton.walks.TokenLoop.blocks` counts them."""
    if is_natural(order):
        return -(-tokens // step)
    return order.tiles(tokens, listing).total * (order.tile // step)


def _rows(call: _Call, number: int) -> _Rows:
    kernel, plan = call.kernel(number)
    batch, heads, m, _ = call.launch.q.shape
    heads = heads if kernel.heads is None else len(kernel.heads)
    step = fitted(call.kernels.variant.step.queries, kernel.rows.tile)
    blocks = _steps(kernel.rows, plan.rows, m, step)
    parts = 1
    if kernel.splits and batch * heads * blocks:
        n = call.launch.schedule.n
        tiles = [part.keys.tiles(n, its.keys).total for part, its in zip(kernel.segments, plan.segments, strict=True)]
        wanted = -(-_PROGRAMS // (batch * heads * blocks))
        parts = max(1, min(wanted, max(tiles, default=0) // _LEAST_TILES, _MOST_PARTS))
    return _Rows(heads, batch * heads, parts, blocks, step)


def _by_query(call: _Call, number: int) -> dict[str, Any]:
    """The arguments of those functions of one kernel whose programs each take query rows."""
    kernel, plan = call.kernel(number)
    n, m = call.launch.schedule.n, call.launch.schedule.m
    rows = kernel.rows.tiles(m, plan.rows)
    found = order_arguments("row", kernel.rows, plan.rows, m, call.launch.q.device)
    found |= head_arguments(kernel.heads, call.launch.q)
    for place, (part, its) in enumerate(zip(kernel.segments, plan.segments, strict=True)):
        found |= order_arguments(f"column{place}", part.keys, its.keys, n, call.launch.q.device)
        columns = part.keys.tiles(n, its.keys)
        found |= bounds_arguments(str(place), its.by_query, rows, columns, part.keys, n, call.launch.q.device)
    return found


def forward(launch: Launch) -> tuple[Tensor, Tensor]:
    """The output ``[batch, heads, m, value_dim]`` and the log-sum-exp ``[batch, heads, m]``.

    ValueError for CPU tensors outside the interpreter.
    """
    call = _prepared(launch, "forward")
    batch, heads, m, _ = launch.q.shape
    value_dim = launch.v.shape[-1]
    direct = direct_output(launch.program)
    shape = (batch, heads, m, value_dim)
    output = launch.q.new_empty(shape) if direct else call.empty(*shape)
    lse = call.empty(batch, heads, m)
    for number, kernel in enumerate(launch.program.kernels):
        rows = _rows(call, number)
        arguments = _by_query(call, number) | {"output": output, "lse": lse, "parts": rows.parts}
        if not kernel.splits:
            call.run(f"forward_{number}", rows.programs, arguments)
            continue
        arguments["part_output"] = call.empty(*rows.listed, value_dim)
        arguments["part_lse"] = call.empty(*rows.listed)
        call.run(f"forward_{number}", rows.programs, arguments)
        call.run(f"merge_{number}", rows.slots * rows.blocks, arguments)
    count("triton.forward")
    return output.to(launch.q.dtype), lse


def backward(launch: Launch, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None) -> Gradients:
    """The gradients of q, k, v and every float table, from what :func:`forward` returned and the gradients of both."""
    by_query, by_key = _prepared(launch, "backward_queries"), _prepared(launch.over_keys, "backward_keys")
    grad_out = grad_out.to(launch.q.dtype)
    if grad_out.stride(-1) != 1 and grad_out.shape[-1] > 1:
        grad_out = grad_out.contiguous()
    grad_lse = None if grad_lse is None else grad_lse.to(launch.compute_dtype).contiguous()
    program = launch.program
    if launch.q.device.type != "cpu" and not by_query.kernels.variant.exact:
        _say_unordered([program.tables[number] for number in pair_tables(by_query.kernels.sites)])
    q = _gradient(by_query, launch.q, direct_queries(program))
    direct = direct_keys(by_key.launch.program)
    k, v = (_gradient(by_key, t, direct, unwritten=program.is_part) for t in (launch.k, launch.v))
    tables = tuple(
        by_query.zeros(*argument.tensor.shape) if table.element == "float" else None
        for table, argument in zip(program.tables, launch.tables, strict=True)
    )
    given = strided("grad_output", grad_out)
    given |= {"output": out.contiguous(), "lse": lse.contiguous(), "grad_lse": grad_lse}
    given |= {"row_delta": by_query.empty(*launch.q.shape[:3]), "grad_query": q, "grad_key": k, "grad_value": v}
    pairs = _pair_sums(by_query, tables)
    given |= {f"pair_sums{number}": sums for number, sums in pairs.items()}
    by_query, by_key = (replace(call, arguments={**call.arguments, **given}) for call in (by_query, by_key))
    _run_delta(by_query, tables)
    for number, kernel in enumerate(by_key.launch.program.kernels):
        for place in range(len(kernel.segments)):
            _run_keys(by_key, number, place, tables)
    for number, kernel in enumerate(program.kernels):
        if kernel.segments:
            _run_queries(by_query, number, tables)
    for number, sums in pairs.items() if by_query.kernels.variant.exact else ():
        table = tables[number]
        assert table is not None
        table += from_digits(sums)
    count("triton.backward")
    q, k, v = (x.to(its.dtype) for x, its in ((q, launch.q), (k, launch.k), (v, launch.v)))
    return Gradients(q, k, v, tables)


def _gradient(call: _Call, like: Tensor, direct: bool, unwritten: bool = False) -> Tensor:
    """Memory for a gradient: uninitialised where a kernel stores it directly, zeros where kernels add to it.

    ``unwritten``: some of its rows may be those of keys that do not exist, which no kernel stores.
    """
    if direct:
        make = torch.zeros if unwritten else torch.empty
        return make(like.shape, dtype=like.dtype, device=like.device)
    return call.zeros(*like.shape)


def _say_unordered(tables: list[Table]) -> None:
    """Raises or warns under torch's deterministic mode, as torch does for operations without a deterministic form."""
    if not tables or not torch.are_deterministic_algorithms_enabled():
        return
    text = (
        f"{tables[0].name}: its gradient in fp64 has no deterministic form on a GPU, as its entries are chosen by "
        "query and key together; cast q, k and v to fp32, or turn off torch.use_deterministic_algorithms"
    )
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(text)
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def _pair_sums(call: _Call, tables: tuple[Tensor | None, ...]) -> dict[int, Tensor]:
    """Accumulators for the gradients of table entries that query and key choose together, by the table's number."""
    found: dict[int, Tensor] = {}
    for number in pair_tables(call.kernels.sites):
        table = tables[number]
        assert table is not None
        shape = (*table.shape, DIGITS)
        exact = call.kernels.variant.exact
        found[number] = torch.zeros(shape, dtype=torch.int64, device=table.device) if exact else table
    return found


def from_digits(sums: Tensor) -> Tensor:
    """Float32 sums ``[...]`` from their integer digits ``[..., DIGITS]``; infinite or NaN where a summand was."""
    weights = 2.0 ** (DIGIT_BITS * torch.arange(DIGITS - 1, dtype=torch.float64, device=sums.device) - 149)
    found = (sums[..., :-1].double() * weights).sum(-1)
    odd = sums[..., -1]
    above, below = (odd & 0xFFFFF) > 0, (odd >> 20 & 0xFFFFF) > 0
    found = torch.where(above, torch.inf, torch.where(below, -torch.inf, found))
    return torch.where((odd >> 40 > 0) | (above & below), torch.nan, found).float()


def _run_delta(call: _Call, tables: tuple[Tensor | None, ...]) -> None:
    batch, heads, m, _ = call.launch.q.shape
    step = call.kernels.variant.step.queries
    rows = _Rows(heads, batch * heads, 1, -(-m // step), step)
    sums = [_Sums(call, site, _shape(call, site, rows, False), rows.slots) for site in call.kernels.sites if site.sink]
    call.run("delta", rows.programs, _joined(sums))
    _add(sums, tables)


def _run_keys(call: _Call, number: int, place: int, tables: tuple[Tensor | None, ...]) -> None:
    """Computes the gradients of keys and values through one segment.

    Where each query head has its own list of keys, the query heads that share a key head run one after the other.
    """
    kernel, plan = call.kernel(number)
    launch, part, its = call.launch, kernel.segments[place], plan.segments[place]
    n, m, device = launch.schedule.n, launch.schedule.m, launch.q.device
    batch, kv_heads = launch.k.shape[:2]
    group = launch.q.shape[1] // kv_heads if kv_heads else 1
    rows, keys = key_major(kernel.rows, part.keys)
    tiles = keys.tiles(n, its.keys), rows.tiles(m, plan.rows)
    arguments = order_arguments("row", rows, plan.rows, m, device)
    arguments |= order_arguments("column", keys, its.keys, n, device)
    arguments |= bounds_arguments("", its.by_key, *tiles, rows, m, device)
    arguments |= head_arguments(kernel.heads, launch.q)
    step = fitted(call.kernels.variant.step.keys, keys.tile)
    sites = [site for site in call.kernels.sites if site.level == "column" and not site.sink]
    shape = (batch, launch.q.shape[1], launch.k.shape[2])
    sums = [_Sums(call, site, shape, shape) for site in sites]
    programs = batch * kv_heads * _steps(keys, its.keys, n, step)
    apart = its.keys is not None and its.keys.head_slots > 1
    for member in range(group) if apart else range(1):
        chosen = {"first_member": member, "members": 1 if apart else group}
        call.run(f"backward_keys_{number}_{place}", programs, arguments | _joined(sums) | chosen)
    _add(sums, tables)


def _run_queries(call: _Call, number: int, tables: tuple[Tensor | None, ...]) -> None:
    kernel = call.launch.program.kernels[number]
    rows = _rows(call, number)
    arguments = _by_query(call, number) | {"parts": rows.parts}
    split = kernel.splits
    if split:
        arguments["part_query"] = call.empty(*rows.listed, call.launch.q.shape[-1])
    sites = [site for site in call.kernels.sites if site.level in ("block", "row") and not site.sink]
    sums = [_Sums(call, site, _shape(call, site, rows, split), rows.slots) for site in sites]
    call.run(f"backward_queries_{number}", rows.programs, arguments | _joined(sums))
    if split:
        call.run(f"collect_{number}", rows.slots * rows.blocks, arguments)
    _add(sums, tables)


def _shape(call: _Call, site: GradientSite, rows: _Rows, split: bool) -> tuple[int, ...]:
    """The shape of a site's sums: one per block of rows, or one per row."""
    if site.level == "block":
        return rows.slots, rows.parts * rows.blocks
    return rows.listed if split else tuple(call.launch.q.shape[:3])


class _Sums:
    """The sums that kernels store for one site (a read of a float table by the score or the sink), and the table entry
    that each belongs to.
    """

    def __init__(self, call: _Call, site: GradientSite, shape: tuple[int, ...], slots: int | tuple[int, ...]) -> None:
        self.site = site
        self.values = call.zeros(*shape)
        places = slots if site.level == "block" else shape
        self.places = torch.zeros(places, dtype=torch.int64, device=self.values.device)

    @property
    def arguments(self) -> dict[str, Tensor]:
        return {f"site{self.site.number}": self.values, f"site{self.site.number}_place": self.places}

    def add_to(self, table: Tensor | None) -> None:
        """Adds the sums to their table entries; several to one entry in a fixed order."""
        assert table is not None
        values = self.values.sum(-1) if self.site.level == "block" else self.values
        if table.numel() and values.numel():
            table.view(-1).index_put_((self.places.view(-1),), values.reshape(-1), accumulate=True)


def _joined(sums: list[_Sums]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in sums:
        found |= part.arguments
    return found


def _add(sums: list[_Sums], tables: tuple[Tensor | None, ...]) -> None:
    for part in sums:
        part.add_to(tables[part.site.table])
