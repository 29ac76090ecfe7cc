"""Computes the dense mask and the plan of a call without making it, for `Attention.mask` and `Attention.plan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .compiler import pipeline
from .compiler.diagnostics import LARGEST_SIZE
from .compiler.ir import Attention, CallShape, HostTable
from .compiler.plan import Kernel, Program, Schedule
from .compiler.schedule import Totals, pairs, schedule_depends, totals
from .compiler.verify import validate
from .runtime.backends import backend
from .runtime.call import (
    TableSizes,
    bind,
    check,
    check_positions,
    checked_start,
    collect,
    integer,
    is_batched,
    positions,
    settle,
)
from .runtime.planning import plan_of

_CPU = torch.device("cpu")
_MOST_PARTIAL = 2**24  # partial tiles that are evaluated to count pairs, at most
_ORDERS = 4  # orders that a plan's repr names, at most


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
    """The tiles that a call visits, counted over all kernels, and over batch entries and heads whose plans differ."""

    program: Program
    schedule: Schedule
    extent: CallShape
    batch: int
    contents: tuple[HostTable, ...]

    def __repr__(self) -> str:
        """The sizes and the visited tiles in three lines, however large the plan is; counts are computed once."""
        orders = self.order
        shown = ", ".join(orders[:_ORDERS]) + (f", … ({len(orders) - _ORDERS} more)" if len(orders) > _ORDERS else "")
        sizes = f"{self.extent.m:,} queries × {self.extent.n:,} keys, heads {self.extent.heads:,}, batch {self.batch:,}"
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
        rows = self.batch * self.extent.heads * 2 * (self.extent.m + self.extent.n)
        return rows * d * torch.empty((), dtype=dtype).element_size()


def planned(
    attention: Attention,
    n: int,
    m: int | None,
    heads: int | None,
    q_start: object,
    tables: Mapping[str, object],
) -> CallPlan:
    """The plan of a call of these sizes. TypeError and ValueError for an argument that does not fit."""
    call = sized_call(attention, n, m, heads, q_start, tables)
    plan = plan_of(call.attention, call.extent, call.contents, backend("cpp").tiles)
    return CallPlan(
        plan.program,
        plan.schedule,
        call.extent,
        1 if call.batch is None else call.batch,
        call.contents,
    )


def dense_mask(
    attention: Attention,
    n: int,
    m: int | None,
    heads: int | None,
    q_start: object,
    tables: Mapping[str, object],
) -> Tensor:
    """The mask, bool or int64 ``[heads, m, n]``, after a batch where there is one. Raises the errors of a call."""
    call = sized_call(attention, n, m, heads, q_start, tables)
    mask = torch.from_numpy(pipeline.mask(call.attention, call.extent, call.contents))
    return mask[0] if call.batch is None else mask.expand(call.batch, -1, -1, -1)


def sized_call(
    attention: Attention,
    n: int,
    m: int | None,
    heads: int | None,
    q_start: object,
    tables: Mapping[str, object],
) -> SizedCall:
    """The sizes and table contents of a call, checked. TypeError and ValueError for an argument that does not fit."""
    n = checked_size(attention, "n", n)
    m, heads = (
        None if size is None else checked_size(attention, name, size) for name, size in (("m", m), ("heads", heads))
    )
    given = {name: value.detach().cpu() if isinstance(value, Tensor) else value for name, value in tables.items()}
    tensors = collect(attention, given, _CPU)
    start, starts = checked_start(q_start)
    batch = _size_of(attention, tensors, None)
    if starts is not None and starts.ndim:
        batch = len(starts) if batch in (None, 1) else batch
    at = positions(start, starts, 1 if batch is None else batch)
    assert at is not None, "on the host"
    if m is None:
        if len(at) > 1:
            raise ValueError("m: is not given, and q_start differs from one entry of the batch to another")
        m = n - at[0]
        if m < 0:
            raise ValueError(f"q_start: is {at[0]}, expected at most n = {n}, since m is not given")
    if heads is None:
        found = _size_of(attention, tensors, "head")
        heads = 1 if found is None else found
    check_positions(at, m)
    check(attention, tensors, TableSizes(1 if batch is None else batch, heads, m, n))
    extent = CallShape(n=n, m=m, heads=heads, q_start=at)
    exact, all_tables = settle(attention, tensors, extent, torch.float64)
    bound = bind(exact, all_tables, extent, _CPU, torch.float64)
    return SizedCall(exact, extent, bound.contents, batch)


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
