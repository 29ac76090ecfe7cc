"""Computes the dense mask and the plan of a call without making it, for `Attention.mask` and `Attention.plan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .compiler import pipeline
from .compiler.diagnostics import LARGEST_SIZE
from .compiler.ir import Attention, CallShape, HostTable, part_of_keys
from .compiler.plan import Kernel, Program, Schedule, bounds_of_keys, float_named
from .compiler.schedule import Totals, pairs, schedule_depends, totals
from .compiler.verify import validate
from .runtime.backends import backend_of_target
from .runtime.call import (
    TableSizes,
    bind,
    check,
    check_divisors,
    check_key_positions,
    check_positions,
    checked_start,
    collect,
    described,
    integer,
    is_batched,
    located,
    positions,
    settle,
)
from .runtime.planning import plan_of

_CPU = torch.device("cpu")
_MOST_PARTIAL = 2**24  # partial tiles that are evaluated to count pairs, at most
_ORDERS = 4  # orders that a plan's repr names, at most


@dataclass(frozen=True)
class Sizes:
    """The sizes and positions of `.mask` and `.plan`, as the caller gives them."""

    n: object
    m: object = None
    heads: object = None
    q_start: object = 0
    k_start: object = 0
    k_rows: object = None


@dataclass(frozen=True)
class SizedCall:
    """A call that is planned but not run: sizes and table contents. ``batch`` is None where nothing has a batch.

    ``attention`` has its comparisons of floats rewritten by :func:`runtime.call.comparisons.settle`.
    """

    attention: Attention
    extent: CallShape
    contents: tuple[HostTable, ...]
    batch: int | None


@dataclass(frozen=True, eq=False, repr=False)  # compared by identity, because it holds arrays
class CallPlan:
    """The tiles that a call visits, counted over all kernels, and over batch entries and heads whose plans differ.

    ``keys``: the number of key rows; ``extent`` counts all positions.
    """

    program: Program
    schedule: Schedule
    extent: CallShape
    batch: int
    contents: tuple[HostTable, ...]
    keys: int

    def __repr__(self) -> str:
        """The sizes and the visited tiles in three lines, however large the plan is; counts are computed once."""
        orders = self.order
        shown = ", ".join(orders[:_ORDERS]) + (f", … ({len(orders) - _ORDERS} more)" if len(orders) > _ORDERS else "")
        keys = f"{self.keys:,} of {self.extent.n:,} keys" if self.program.is_part else f"{self.keys:,} keys"
        sizes = f"{self.extent.m:,} queries × {keys}, heads {self.extent.heads:,}, batch {self.batch:,}"
        tiles = f"tiles: {self.full:,} full, {self.partial:,} partial; {self.area:,.1f} keys computed for each query"
        return f"<attnc plan of {sizes}\n {tiles}\n kernels: {shown}>"

    @cached_property
    def _totals(self) -> Totals:
        return totals(self.program, self.schedule, self.extent)

    @property
    def full(self) -> int:
        """The number of tiles in which every pair is kept, once: their pairs are not tested."""
        return self._totals.full

    @property
    def partial(self) -> int:
        """The number of tiles in which the condition is tested pair by pair."""
        return self._totals.partial

    @property
    def area(self) -> float:
        """The average number of keys computed for each query."""
        return self._totals.area

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The launches, in order."""
        return self.program.kernels

    @property
    def order(self) -> tuple[str, ...]:
        """The order in which each kernel walks its query rows: ``natural``, ``residue(4)``, ``gathered q in g``."""
        names = {str(number): table.name for number, table in enumerate(self.program.tables)}
        return tuple(kernel.rows.describe(names) for kernel in self.program.kernels)

    @cached_property
    def validation(self) -> tuple[str, ...]:
        """For each segment whether its tiles are right: ``kernel 0, segment 0: proved for every length``.

        Proved or checked when it is first asked for, as `settings.verify` has it done for the plan of each call. A
        tile that is wrong for some length is a fault of attnc, raised as an AssertionError.
        """
        return tuple(map(str, validate(self.program, self.schedule, self.extent, self.contents)))

    @cached_property
    def pairs(self) -> int:
        """The number of kept pairs, each as often as it counts, over the whole batch and all heads.

        Evaluates the partial tiles: slow for a large n where no two of them are alike. ValueError where the mask
        depends on a table whose contents are on a device, and for more than 2**24 partial tiles.
        """
        if self.partial > _MOST_PARTIAL:
            raise ValueError(
                f"n: is {self.extent.n:,}, and {self.partial:,} partial tiles would be looked at, "
                f"expected at most {_MOST_PARTIAL:,}"
            )
        if any(self.contents[number].values is None for number in schedule_depends(self.program)):
            raise ValueError("the pairs cannot be counted: the contents of a table are on a device")
        return pairs(self.program, self.schedule, self.extent, self.contents, self.batch)

    def flops(self, d: int) -> int:
        """Floating-point operations of a forward pass over the kept pairs, for heads of ``d`` features."""
        return 4 * d * self.pairs

    def bytes(self, d: int, dtype: torch.dtype) -> int:
        """Bytes of q, k, v and out, each moved once, with one key head for each query head."""
        rows = self.batch * self.extent.heads * 2 * (self.extent.m + self.keys)
        return rows * d * torch.empty((), dtype=dtype).element_size()


@dataclass(frozen=True)
class PlannedFor:
    """What the kernels of a planned call are for: a target such as ``sm_90``, a head dimension and a dtype."""

    target: str
    head_dim: object
    dtype: str


def planned(attention: Attention, sizes: Sizes, kernels: PlannedFor, tables: Mapping[str, object]) -> CallPlan:
    """The plan of the forward pass of a call of these sizes. TypeError and ValueError for an argument that does not
    fit.
    """
    head_dim = checked_size(attention, "head_dim", kernels.head_dim)
    if not head_dim:
        raise ValueError("head_dim: is 0, expected 1 or more")
    tiles = backend_of_target(kernels.target).tiles(float_named(kernels.dtype), head_dim, kernels.target)
    call = sized_call(attention, sizes, tables)
    plan = plan_of(call.attention, call.extent, call.contents, tiles.forward)
    contents = (*call.contents, *bounds_of_keys(call.extent)) if call.extent.is_part else call.contents
    batch = 1 if call.batch is None else call.batch
    return CallPlan(plan.program, plan.schedule, call.extent.whole, batch, contents, call.extent.keys)


def dense_mask(attention: Attention, sizes: Sizes, tables: Mapping[str, object]) -> Tensor:
    """The mask, bool or int64 ``[heads, m, k_rows]``, after a batch where there is one. Raises the errors of a call."""
    call = sized_call(attention, sizes, tables)
    mask = torch.from_numpy(pipeline.mask(call.attention, call.extent, call.contents))
    return mask[0] if call.batch is None else mask.expand(call.batch, -1, -1, -1)


def sized_call(attention: Attention, sizes: Sizes, tables: Mapping[str, object]) -> SizedCall:
    """The sizes and table contents of a call, checked. TypeError and ValueError for an argument that does not fit."""
    n = checked_size(attention, "n", sizes.n)
    m, heads, k_rows = (
        None if size is None else checked_size(attention, name, size)
        for name, size in (("m", sizes.m), ("heads", sizes.heads), ("k_rows", sizes.k_rows))
    )
    given = {name: value.detach().cpu() if isinstance(value, Tensor) else value for name, value in tables.items()}
    tensors = collect(attention, given, _CPU)
    for table in attention.parameters:
        tensor = tensors.get(table.name)
        if tensor is not None and is_batched(table, tensor) and not tensor.shape[0]:
            message = f"{table.name}: has shape {list(tensor.shape)}, expected a batch of 1 or more; "
            raise ValueError(located(f"{message}it takes {described(table)}", table))
    starts = {name: checked_start(getattr(sizes, name), name) for name in ("q_start", "k_start")}
    batch = _size_of(attention, tensors, None)
    for _, several in starts.values():
        if several is not None and several.ndim:
            batch = len(several) if batch in (None, 1) else batch
    q_start, k_start = (
        _positions(name, one, several, 1 if batch is None else batch) for name, (one, several) in starts.items()
    )
    m = _rest("m", m, n, "q_start", q_start)
    k_rows = _rest("k_rows", k_rows, n, "k_start", k_start)
    if heads is None:
        found = _size_of(attention, tensors, "head")
        heads = 1 if found is None else found
    check_positions(q_start, m)
    check_key_positions(k_start, n)
    check(attention, tensors, TableSizes(1 if batch is None else batch, heads, m, n))
    extent = part_of_keys(CallShape(n=n, m=m, heads=heads, q_start=q_start), k_start, k_rows)
    check_divisors(attention, tensors)
    exact, all_tables = settle(attention, tensors, extent, torch.float64)
    bound = bind(exact, all_tables, extent, _CPU, torch.float64)
    return SizedCall(exact, extent, bound.contents, batch)


def _positions(name: str, one: int, several: Tensor | None, batch: int) -> tuple[int, ...]:
    found = positions(one, None if several is None else several.cpu(), batch, name)
    assert found is not None, "on the host"
    return found


def _rest(name: str, size: int | None, n: int, start: str, starts: tuple[int, ...]) -> int:
    """The number of rows: as given, or all from ``starts`` on. ValueError where it neither is given nor follows."""
    if size is not None:
        return size
    if len(starts) > 1:
        raise ValueError(f"{name}: is not given, and {start} differs from one entry of the batch to another")
    if n < starts[0]:
        raise ValueError(f"{start}: is {starts[0]}, expected at most n = {n}, since {name} is not given")
    return n - starts[0]


def checked_size(attention: Attention, name: str, given: object) -> int:
    """A size as an int. TypeError and ValueError for what is not a size."""
    size = integer(given)
    if size is None:
        tables = ", ".join(f"{table.name}=…" for table in attention.parameters)
        more = f"; tables are given by name: {tables}" if tables and name == "m" else ""
        raise TypeError(f"{name}: is {type(given).__name__}, expected an int{more}")
    if size < 0:
        raise ValueError(f"{name}: is {size}, expected 0 or more")
    if size > LARGEST_SIZE:
        raise ValueError(f"{name}: is {size}, expected at most 2**48")
    return size


def _size_of(attention: Attention, tensors: Mapping[str, Tensor], kind: str | None) -> int | None:
    """The size of one kind of dimension, or of the batch for None, in the given tables; None where none has it."""
    sizes = []
    for table in attention.parameters:
        tensor = tensors.get(table.name)
        if tensor is None:
            continue
        batched = is_batched(table, tensor)
        if kind is None and batched:
            sizes.append(tensor.shape[0])
        for dimension, size in zip(table.dimensions, tensor.shape[batched:], strict=False):
            if dimension.kind == kind:
                sizes.append(size)
    larger = [size for size in sizes if size != 1]
    return larger[0] if larger else sizes[0] if sizes else None
