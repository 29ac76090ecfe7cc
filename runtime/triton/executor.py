"""Runs a launch by Triton kernels: CUDA and ROCm tensors on the device, CPU tensors in Triton's interpreter.

Like every executor it has :func:`forward` and :func:`backward`; results are contiguous and, with two exceptions, the
same from run to run: sums run in a fixed order or use exact integer arithmetic. The exceptions are gradients of table
entries that query and key choose together: in fp64, and for tables too large for 96 bytes of integers per entry, they
are floats that are added in any order. Under `torch.use_deterministic_algorithms` the large tables use integers as
well, and fp64 is refused.

Importing this module imports triton: TritonUnavailable, an ImportError, where it cannot be had.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...compiler import pipeline
from ...compiler.codegen import lift_constants
from ...compiler.codegen.triton import (
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
from ...compiler.plan import FP32, Kernel, KernelSchedule, Order, Pass, Program, is_natural, key_major
from ..base import ALL_WANTED, Gradients, Launch, Wanted, count, filled, stride_bits
from . import modules
from .arguments import (
    AnyListing,
    PlannedListing,
    bounds_arguments,
    call_sizes,
    call_tensors,
    head_arguments,
    key_sizes,
    number_arguments,
    order_arguments,
    strides,
    tiles_of,
)
from .backend import INTERPRETER, TRITON
from .descriptors import Described, aligned, describable, described, describing, laid_out
from .device_plans import DevicePlan, plan
from .few_rows import RowGrid, for_length, is_split, live_parts, packs, parts_of, wanted_programs
from .modules import interpreting, load_module, require, require_triton, target_of
from .table_sums import SiteSums, add, from_digits, joined, needed_passes, say_unordered
from .turns import turn_arguments

require_triton()

R = TypeVar("R")

_LARGEST_OFFSET = 2**31
# Tables of at most this many entries always sum their gradient exactly, which takes up to 400 MB.
_EXACT_ENTRIES = 2**22


def variant_of(
    launch: Launch, direction: Pass, split: bool = False, packed: bool = False, descriptors: bool = False
) -> TritonVariant:
    """The variant of the source of one pass for a launch; ``split``, ``packed``: as in the variant; ``descriptors``:
    its tensors begin where descriptors may.

    TypeError for bfloat16 in Triton's interpreter, which computes it wrongly.
    """
    kind = launch.specialisation
    if interpreting() and kind.dtype not in INTERPRETER.dtypes:
        raise TypeError("q: has dtype bfloat16, expected float32 or float16: Triton's interpreter has wrong bfloat16")
    orders = [kernel.rows for kernel in launch.program.kernels]
    orders += [segment.keys for kernel in launch.program.kernels for segment in kernel.segments]
    strides = [abs(stride) for t in (launch.q, launch.k, launch.v) for stride in t.stride()]
    if launch.schedule.anywhere:  # the kernels serve all strides of as many bits
        strides.append(1 << stride_bits(launch.k, launch.v))
    farthest = (1 + max(map(span, orders))) * max(strides)
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
        anywhere=launch.schedule.anywhere,
        split=split,
        packed=packed,
        exact=entries <= _EXACT_ENTRIES or torch.are_deterministic_algorithms_enabled(),
        descriptors=descriptors and describable(launch.q, launch.k, launch.v),
    )


@dataclass(frozen=True)
class _Kernels:
    """The functions of one imported module, and what they take. ``program`` is lifted: its numbers are arguments.

    ``options``: the compile options of each function, as keyword arguments of its launch. ``direct``: whether kernels
    store the output in its final dtype. ``described``: what arguments of each function describe.
    """

    program: Program
    module: ModuleType
    variant: TritonVariant
    parameters: Mapping[str, tuple[str, ...]]
    options: Mapping[str, Mapping[str, Any]]
    sites: tuple[GradientSite, ...]
    direct: bool
    described: Mapping[str, Described]


@lru_cache(maxsize=256)
def _kernels(program: Program, variant: TritonVariant, target: str) -> _Kernels:
    taken_by = parameters(program, variant)
    names = {name: tuple(p.name for p in ps) for name, ps in taken_by.items()}
    described = {name: describing(ps) for name, ps in taken_by.items()}
    nvidia = target.startswith("sm_")
    chosen = {
        name: options(kind_of(name), variant, taken, target).arguments(nvidia)
        for name, taken in steps(program, variant).items()
    }
    module = load_module(pipeline.source(program, TRITON.render, variant))
    return _Kernels(program, module, variant, names, chosen, gradient_sites(program), direct_output(program), described)


_lifted = lru_cache(maxsize=256)(lift_constants)


@dataclass(frozen=True)
class _Function:
    """A function and its arguments, in the order of its parameters; those in ``open`` each launch fills in by name,
    and those in ``described`` by a descriptor of the tensor that has the name.
    """

    kernel: Any
    values: tuple[Any, ...]
    open: tuple[tuple[int, str], ...]
    described: Described
    options: Mapping[str, Any]
    compiled: modules.CompiledKernels | None


@dataclass(frozen=True)
class _Call:
    """A launch, and the functions that run it. ``shared``: arguments that all launches of its form have; ``given``:
    those of this launch alone. ``ready`` keeps what launches of one form share, by :meth:`once`.
    """

    launch: Launch
    kernels: _Kernels
    shared: Mapping[str, Any]
    given: Mapping[str, Any]
    ready: dict[str, Any]
    planned: DevicePlan

    def rows_listing(self, number: int) -> AnyListing:
        """The list of a kernel's rows, from the host or from the device."""
        return self.planned.lists.get((number, None), self.launch.schedule.kernels[number].rows)

    def keys_listing(self, number: int, place: int) -> AnyListing:
        """The list of a segment's keys, from the host or from the device."""
        return self.planned.lists.get((number, place), self.launch.schedule.kernels[number].segments[place].keys)

    def kernel(self, number: int) -> tuple[Kernel, KernelSchedule]:
        return self.launch.program.kernels[number], self.launch.schedule.kernels[number]

    def once(self, name: str, make: Callable[[], R]) -> R:
        """What ``make`` returns, which is the same for all launches of the form; ``name``: of what."""
        found: R | None = self.ready.get(name)
        if found is None:
            found = self.ready[name] = make()
        return found

    def run(self, name: str, programs: int, shared: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        """Launches one function. ``shared`` and ``given``: its own arguments, beside those of the call."""
        if programs:
            given = {**self.given, **given}
            function = self.once(name, lambda: self._function(name, shared, given))
            values = list(function.values)
            for place, parameter in function.open:
                values[place] = given[parameter]
            for place, tensor, block in function.described:
                values[place] = described(given[tensor], block)
            modules.start(function.kernel, programs, values, function.options, function.compiled)

    def _function(self, name: str, shared: Mapping[str, Any], given: Mapping[str, Any]) -> _Function:
        parameters, known = self.kernels.parameters[name], {**self.shared, **shared}
        blocks = self.kernels.described[name]
        known |= {parameters[place]: None for place, *_ in blocks}
        rest = tuple((place, its) for place, its in enumerate(parameters) if its in given or its not in known)
        values = tuple(known.get(its) for its in parameters)
        differing = {place: given[its] for place, its in rest}
        compiled = None if torch.version.hip else modules.compiled_kernels(differing)
        return _Function(getattr(self.kernels.module, name), values, rest, blocks, self.kernels.options[name], compiled)

    def zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.launch.compute_dtype, device=self.launch.q.device)

    def empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.launch.compute_dtype, device=self.launch.q.device)


def _prepared(launch: Launch, direction: Pass, split: bool = False) -> _Call:
    packed = launch.schedule.anywhere and packs(launch)
    ready: dict[Hashable, Any] = {} if launch.ready is None else launch.ready
    begins = aligned(launch.q, launch.k, launch.v)
    key = direction, split, begins, torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()
    found = ready.get(key)
    if found is None:
        require(launch.q.device)
        lifted = _lifted(launch.program)
        variant = variant_of(launch, direction, split, packed, begins)
        kernels = _kernels(lifted.program, variant, target_of(launch.q.device))
        listed = any("numbers" in names for names in kernels.parameters.values())
        numbers = number_arguments(lifted.numbers, listed, launch.q.device)
        found = ready[key] = kernels, call_sizes(launch) | numbers, {}
    kernels, shared, kept = found
    given, planned = call_tensors(launch), _NOT_PLANNED
    if launch.schedule.anywhere:  # for any number of keys; what else is kept depends on that of their tiles alone
        given |= key_sizes(launch)
        kept = for_length(launch, ready, key, dict)
    elif launch.schedule.on_device:  # anew for each launch, and so is what depends on it
        planned, kept = plan(launch, _lifted(launch.program).program.tables, direction != "backward_keys"), {}
    return filled(
        _Call, launch=launch, kernels=kernels, shared=shared, given=given, ready=kept, planned=planned
    )  # fmt: skip


_NOT_PLANNED = DevicePlan()


def _steps(order: Order, listing: AnyListing, tokens: int, step: int) -> int:
    """How many steps walk an order, as :attr:`compiler.codegen.triton.walks.TokenLoop.blocks` counts them."""
    if is_natural(order):
        return -(-tokens // step)
    return tiles_of(order, tokens, listing).total * (order.tile // step)


def _rows(call: _Call, number: int) -> RowGrid:
    kernel, _ = call.kernel(number)
    batch, heads, m, _ = call.launch.q.shape
    heads = heads if kernel.heads is None else len(kernel.heads)
    step = fitted(call.kernels.variant.step.queries, kernel.rows.tile)
    if call.kernels.variant.packed:
        heads, m = call.launch.k.shape[1], heads // call.launch.k.shape[1] * m
    blocks = _steps(kernel.rows, call.rows_listing(number), m, step)
    parts = 1
    if call.kernels.variant.split:
        parts = live_parts(call.launch, number)
    elif kernel.splits and _counts(call, number) is None:
        parts = parts_of(batch * heads * blocks, _most_tiles(call, number))
    return RowGrid(heads, batch * heads, parts, blocks, step)


def _counts(call: _Call, number: int) -> Tensor | None:
    """How many rows of a kernel the device found, of the many for which its list has room."""
    listed = call.rows_listing(number)
    return listed.counts if isinstance(listed, PlannedListing) else None


def _most_tiles(call: _Call, number: int) -> int:
    """How many tiles of keys the longest segment of a kernel has."""
    kernel, n = call.kernel(number)[0], call.launch.schedule.n
    lists = (call.keys_listing(number, place) for place in range(len(kernel.segments)))
    tiles = (tiles_of(part.keys, n, its).total for part, its in zip(kernel.segments, lists, strict=True))
    return max(tiles, default=0)


def _counted_rows(call: _Call, number: int, grid: RowGrid) -> dict[str, Any]:
    """The arguments by which programs whose blocks have no row help those that have: the host knows neither."""
    wanted = parts_of(grid.slots, _most_tiles(call, number))  # of each slot, if it has but one block with rows
    counts = {"row_counts": _counts(call, number)}
    return counts | {"slot_programs": min(grid.blocks, wanted_programs(grid.slots)), "most_parts": wanted}


def _by_query(call: _Call, number: int) -> tuple[RowGrid, dict[str, Any]]:
    """The grid and the arguments of those functions of one kernel whose programs each take query rows."""
    kernel, its = call.kernel(number)
    n, m, device = call.launch.schedule.n, call.launch.schedule.m, call.launch.q.device
    listed = call.rows_listing(number)
    rows = tiles_of(kernel.rows, m, listed)
    grid = _rows(call, number)
    found = order_arguments("row", kernel.rows, listed, m, device) | {"parts": grid.parts}
    if kernel.splits:
        found |= _counted_rows(call, number, grid)
    found |= head_arguments(kernel.heads, call.launch.q)
    walked = []
    for place, (part, segment) in enumerate(zip(kernel.segments, its.segments, strict=True)):
        keys = call.keys_listing(number, place)
        found |= order_arguments(f"column{place}", part.keys, keys, n, device)
        columns = tiles_of(part.keys, n, keys)
        bounds = call.planned.runs.get((number, place), segment.by_query)
        found |= bounds_arguments(str(place), bounds, rows, columns, part.keys, n, device)
        walked.append((bounds, columns))
    return grid, found | turn_arguments(walked, rows, grid.slots, grid.blocks, (call.launch.k, call.launch.v))


def _over_rows(call: _Call, number: int) -> tuple[RowGrid, Mapping[str, Any]]:
    """The grid of those functions, and their arguments, as launches of the form share them."""
    return call.once(f"rows {number}", lambda: _by_query(call, number))


def forward(launch: Launch) -> tuple[Tensor, Tensor]:
    """The output ``[batch, heads, m, value_dim]`` and the log-sum-exp ``[batch, heads, m]``.

    ValueError for CPU tensors outside the interpreter.
    """
    kernels = launch.program.kernels
    split = launch.schedule.anywhere and is_split(launch)
    call = _prepared(launch, "forward", split)
    batch, heads, m, _ = launch.q.shape
    shape = (batch, heads, m, launch.v.shape[-1])
    dtype = launch.q.dtype if call.kernels.direct else launch.compute_dtype
    output = torch.empty(shape, dtype=dtype, device=launch.q.device)
    lse = call.empty(batch, heads, m)
    given: dict[str, Any] = {"output": output, "lse": lse}
    with modules.on_device(launch.q.device):
        for number in range(len(kernels)):
            _run_forward(call, number, given)
    count("triton.forward")
    return output if call.kernels.direct else output.to(launch.q.dtype), lse


def _run_forward(call: _Call, number: int, given: dict[str, Any]) -> None:
    rows, arguments = _over_rows(call, number)
    name = f"forward_{number}"
    if not (call.kernels.variant.split or call.launch.program.kernels[number].splits):
        call.run(name, rows.programs, arguments, given)
        return
    parts = (call.empty(*rows.listed, call.launch.v.shape[-1]), call.empty(*rows.listed))
    given = {**given, "part_output": parts[0], "part_lse": parts[1]}
    call.run(name, rows.programs, arguments, given)
    call.run(f"merge_{number}", rows.slots * rows.blocks, arguments, given)


def backward(
    launch: Launch, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None, wanted: Wanted = ALL_WANTED
) -> Gradients:
    """The gradients of q, k, v and the float tables that are wanted, from what :func:`forward` returned and its
    gradients. Kernels that make none of them do not run.
    """
    by_query, by_key = _prepared(launch, "backward_queries"), _prepared(launch.over_keys, "backward_keys")
    over_queries, over_keys = needed_passes(by_query.kernels.sites, wanted)
    grad_out = grad_out.to(launch.q.dtype)
    if grad_out.stride(-1) != 1 and grad_out.shape[-1] > 1:
        grad_out = grad_out.contiguous()
    if by_query.kernels.variant.described:
        grad_out = laid_out(grad_out)
    grad_lse = None if grad_lse is None else grad_lse.to(launch.compute_dtype).contiguous()
    program = launch.program
    exact = by_query.kernels.variant.exact
    if launch.q.device.type != "cpu" and not exact:
        say_unordered([program.tables[number] for number in pair_tables(by_query.kernels.sites)])
    q = _gradient(by_query, launch.q, direct_queries(program)) if over_queries else None
    direct, k, v = direct_keys(by_key.launch.program), None, None
    if over_keys:
        k, v = (_gradient(by_key, t, direct, unwritten=program.is_part) for t in (launch.k, launch.v))
    tables = tuple(
        by_query.zeros(*argument.tensor.shape) if table.element == "float" else None
        for table, argument in zip(program.tables, launch.tables, strict=True)
    )
    given = {"grad_output": grad_out, **strides("grad_output", grad_out)}
    given |= {"output": out.contiguous(), "lse": lse.contiguous(), "grad_lse": grad_lse}
    given |= {"row_delta": by_query.empty(*launch.q.shape[:3]), "grad_query": q, "grad_key": k, "grad_value": v}
    pairs = _pair_sums(by_query, tables)
    given |= {f"pair_sums{number}": sums for number, sums in pairs.items()}
    by_query, by_key = (replace(call, given={**call.given, **given}) for call in (by_query, by_key))
    with modules.on_device(launch.q.device):
        _run_delta(by_query, tables)
        for number, kernel in enumerate(by_key.launch.program.kernels if over_keys else ()):
            for place in range(len(kernel.segments)):
                _run_keys(by_key, number, place, tables)
        for number, kernel in enumerate(program.kernels if over_queries else ()):
            if kernel.segments:
                _run_queries(by_query, number, tables)
    for number, sums in pairs.items() if exact and over_queries else ():
        table = tables[number]
        assert table is not None
        table += from_digits(sums)
    count("triton.backward")
    gradients = ((q, wanted.q), (k, wanted.k), (v, wanted.v))
    q, k, v = (x.to(launch.q.dtype) if x is not None and its else None for x, its in gradients)
    return Gradients(q, k, v, tuple(x if wanted.table(number) else None for number, x in enumerate(tables)))


def _gradient(call: _Call, like: Tensor, direct: bool, unwritten: bool = False) -> Tensor:
    """Memory for a gradient: uninitialised where a kernel stores it directly, zeros where kernels add to it.

    ``unwritten``: some of its rows may be those of keys that do not exist, which no kernel stores.
    """
    if direct:
        make = torch.zeros if unwritten else torch.empty
        return make(like.shape, dtype=like.dtype, device=like.device)
    return call.zeros(*like.shape)


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


def _run_delta(call: _Call, tables: tuple[Tensor | None, ...]) -> None:
    batch, heads, m, _ = call.launch.q.shape
    step = call.kernels.variant.step.queries
    rows = RowGrid(heads, batch * heads, 1, -(-m // step), step)
    sums = [_sums(call, site, _shape(call, site, rows, False), rows.slots) for site in call.kernels.sites if site.sink]
    call.run("delta", rows.programs, {}, joined(sums))
    add(sums, tables)


def _run_keys(call: _Call, number: int, place: int, tables: tuple[Tensor | None, ...]) -> None:
    """Computes the gradients of keys and values through one segment.

    Where each query head has its own list of keys, the query heads that share a key head run one after the other.
    """
    launch = call.launch
    batch, kv_heads = launch.k.shape[:2]
    group = launch.q.shape[1] // kv_heads if kv_heads else 1
    blocks, arguments = call.once(f"columns {number} {place}", lambda: _by_key(call, number, place))
    sites = [site for site in call.kernels.sites if site.level == "column" and not site.sink]
    shape = (batch, launch.q.shape[1], launch.k.shape[2])
    sums = [_sums(call, site, shape, shape) for site in sites]
    of_keys = call.keys_listing(number, place)
    apart = of_keys is not None and of_keys.head_slots > 1
    count("triton.backward_keys")
    for member in range(group) if apart else range(1):
        chosen = {"first_member": member, "members": 1 if apart else group}
        call.run(f"backward_keys_{number}_{place}", batch * kv_heads * blocks, arguments, joined(sums) | chosen)
    add(sums, tables)


def _by_key(call: _Call, number: int, place: int) -> tuple[int, dict[str, Any]]:
    """How many blocks of keys the functions of one segment have whose programs each take one, and their arguments."""
    kernel, plan = call.kernel(number)
    launch, part, its = call.launch, kernel.segments[place], plan.segments[place]
    n, m, device = launch.schedule.n, launch.schedule.m, launch.q.device
    rows, keys = key_major(kernel.rows, part.keys)
    of_rows, of_keys = call.rows_listing(number), call.keys_listing(number, place)
    tiles = tiles_of(keys, n, of_keys), tiles_of(rows, m, of_rows)
    arguments = order_arguments("row", rows, of_rows, m, device) | order_arguments("column", keys, of_keys, n, device)
    bounds = call.planned.runs.get((number, place), its.by_key)
    arguments |= bounds_arguments("", bounds, *tiles, rows, m, device) | head_arguments(kernel.heads, launch.q)
    blocks = _steps(keys, of_keys, n, fitted(call.kernels.variant.step.keys, keys.tile))
    slots = launch.k.shape[0] * launch.k.shape[1]
    return blocks, arguments | turn_arguments([(bounds, tiles[1])], tiles[0], slots, blocks, (launch.q, launch.q))


def _run_queries(call: _Call, number: int, tables: tuple[Tensor | None, ...]) -> None:
    count("triton.backward_queries")
    rows, arguments = _over_rows(call, number)
    given: dict[str, Any] = {}
    split = call.launch.program.kernels[number].splits
    if split:
        given["part_query"] = call.empty(*rows.listed, call.launch.q.shape[-1])
    sites = [site for site in call.kernels.sites if site.level in ("block", "row") and not site.sink]
    sums = [_sums(call, site, _shape(call, site, rows, split), rows.slots) for site in sites]
    call.run(f"backward_queries_{number}", rows.programs, arguments, given | joined(sums))
    if split:
        call.run(f"collect_{number}", rows.slots * rows.blocks, arguments, given)
    add(sums, tables)


def _shape(call: _Call, site: GradientSite, rows: RowGrid, split: bool) -> tuple[int, ...]:
    """The shape of a site's sums: one per block of rows, or one per row."""
    if site.level == "block":
        return rows.slots, rows.parts * rows.blocks
    return rows.listed if split else tuple(call.launch.q.shape[:3])


def _sums(call: _Call, site: GradientSite, shape: tuple[int, ...], slots: int | tuple[int, ...]) -> SiteSums:
    return SiteSums(site, shape, slots, call.launch.q, call.launch.compute_dtype)
