"""Turns a checked call into a Launch: chooses its Program and its Schedule, and caches both."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..compiler import pipeline
from ..compiler.arrange import applies_to
from ..compiler.ir import HEAD, HEADS, Attention, CallShape, HostTable, walk
from ..compiler.oracle import TooLargeError
from ..compiler.plan import Choices, PassTiles, Program, Schedule, bounds_of_keys, part_of
from ..compiler.schedule import schedule_anywhere, schedule_depends, serves_anywhere
from ..compiler.verify import check_attention, check_indices, index_width, indices_are_proved
from .base import Backend, Launch, TableArgument, dtype_of, identity, settings
from .call import (
    Call,
    bind,
    check_call,
    check_divisors,
    errors,
    extent_of,
    key_positions_of,
    positions_of,
    scale_of,
    settle,
    widened,
)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_MOST_IN_32_BITS = 2**31 - 1


class Kept(Generic[K, V]):
    """A cache of the most recently used results of an expensive function. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The result kept by ``key``; made, and kept, where there is none."""
        value = self.find(key)
        if value is None:
            value = make()
            self.put(key, value)
        return value

    def find(self, key: K) -> V | None:
        """The result kept by ``key``, None where there is none."""
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> None:
        """Keeps a result, which is not None, in the place of the one used longest ago where there are too many."""
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)


@dataclass(frozen=True)
class _Arranged:
    """A Program, and for each of its tables whether the plan may depend on the table's contents."""

    program: Program
    matters: tuple[bool, ...]


@dataclass(frozen=True)
class Plan:
    """What calls of equal sizes and equal table contents share. ``wide``: some index needs 64 bits."""

    program: Program
    schedule: Schedule
    wide: bool


_programs: Kept[Hashable, _Arranged] = Kept(512)
_plans: Kept[Hashable, Plan] = Kept(128)


def launch_of(
    attention: Attention, call: Call, choices: Choices, by_key: Choices | None = None, on_device: bool = False
) -> Launch:
    """Checks and plans one call, for kernels with the cheapest of some tile shapes.

    ``by_key``: the shapes of the kernels that make the gradients of keys and values, where they have others.
    ``on_device``: the executor finds the tiles that depend on what the host does not know.

    Raises the errors of :func:`runtime.call.check_call`, and ValueError for an index that sizes, constants and table
    contents on the host put outside its table, and for an integer that may leave 63 bits.
    """
    check_call(attention, call)
    check_divisors(attention, call.tables)
    unread = on_device and settings.plan_on_device
    extent = extent_of(call, unread)
    attention, tables = settle(attention, call.tables, extent, call.compute_dtype)
    bound = bind(attention, tables, extent, call.q.device, call.compute_dtype, unread, sources=call.tables)
    plan = plan_of(attention, extent, bound.contents, choices, on_device)
    over_keys = plan if by_key is None else plan_of(attention, extent, bound.contents, by_key, on_device)
    wide = bound.wide or plan.wide or over_keys.wide
    arguments = bound.arguments
    k_start = None
    if extent.is_part:
        k_start = key_positions_of(call)
        arguments = (*arguments, *_bounds_of_keys(call, k_start))
    return Launch(
        program=plan.program,
        schedule=plan.schedule,
        q=last_contiguous(call.q.detach()),
        k=last_contiguous(call.k.detach()),
        v=last_contiguous(call.v.detach()),
        tables=widened(arguments) if wide else arguments,
        scale=scale_of(attention, call),
        q_start=positions_of(call),
        wide=wide,
        dropout=call.dropout,
        seed=call.seed,
        k_start=k_start,
        by_key=None if over_keys is plan else (over_keys.program, over_keys.schedule),
    )


@dataclass(frozen=True)
class Anywhere:
    """A launch whose plan also serves rows at other positions, up to ``most``, and other numbers of keys, from
    ``least`` to ``most``. Its schedule, its scale and its tables are right for all of them.
    """

    launch: Launch
    least: int
    most: int


_LEAST_REACH = 2**17  # up to here, plans for any position are made but once
_FARTHEST = 2**33  # up to here, no plan for any position moves its tiles past those that its runs can hold


def launch_anywhere(attention: Attention, call: Call, choices: Choices) -> Anywhere | None:
    """Checks one call of few rows, and plans it for other positions and lengths as well; None where only the plan of
    :func:`launch_of` is right, or is to be verified.

    Raises the errors of :func:`runtime.call.check_call`.
    """
    check_call(attention, call)
    check_divisors(attention, call.tables)
    extent_of(call)  # refuses positions that are out of range
    if settings.verify or not serves_anywhere(attention.tables):
        return None
    m, n = call.q.shape[2], call.k.shape[2]
    last = call.q_start
    if call.q_starts is not None:
        last = int(call.q_starts.max()) if call.q_starts.is_cpu else 0
    most = max(_LEAST_REACH, 1 << (max(n, last + m) - 1).bit_length())
    if most > _FARTHEST:
        return None
    known = call.q_starts is None or call.q_starts.is_cpu
    extent = CallShape(most, most, call.q.shape[1], (0,) if known else None)
    own, dtype = attention, call.compute_dtype
    try:
        attention, tables = settle(own, call.tables, extent, dtype)
        bound = bind(attention, tables, extent, call.q.device, dtype, sources=call.tables)
        found = _plan_anywhere(attention, extent, m, bound.contents, choices)
    except (ValueError, TooLargeError):  # it does not fit the longest, but may fit this one
        return None
    if found is None:
        return None
    wide = bound.wide or found.wide
    launch = Launch(
        program=found.program,
        schedule=found.schedule,
        q=last_contiguous(call.q.detach()),
        k=last_contiguous(call.k.detach()),
        v=last_contiguous(call.v.detach()),
        tables=widened(bound.arguments) if wide else bound.arguments,
        scale=scale_of(attention, call),
        q_start=positions_of(call),
        wide=wide,
        dropout=call.dropout,
        seed=call.seed,
    )
    listed = [part.keys for kernel in found.schedule.kernels for part in kernel.segments if part.keys is not None]
    return Anywhere(launch, 1 + max((int(one.tokens.max(initial=-1)) for one in listed), default=0), most)


def _plan_anywhere(
    attention: Attention, extent: CallShape, m: int, contents: tuple[HostTable, ...], choices: Choices
) -> Plan | None:
    """The plan of ``m`` rows at any position, None without a closed form. ``extent``: that of all positions at once."""
    known = frozenset(number for number, held in enumerate(contents) if held.values is not None)
    program = _arranged(attention, choices, extent.heads if _heads_differ(attention) else None, known, True).program
    wide = index_width(program, extent, contents) == 64
    if wide:
        check_attention(attention, extent, contents)
    if not indices_are_proved(program, extent, contents):
        return None
    schedule = schedule_anywhere(program, replace(extent, m=m), contents)
    return None if schedule is None else Plan(program, schedule, wide)


def _bounds_of_keys(call: Call, k_start: Tensor) -> tuple[TableArgument, TableArgument]:
    """The tables :data:`compiler.plan.parts.BOUNDS` of a call, from the first key row's position on the device."""

    def table(positions: Tensor) -> TableArgument:
        kept = positions.clamp(0, call.n).to(torch.int32 if call.n <= _MOST_IN_32_BITS else torch.int64)
        return TableArgument(kept if len(kept) > 1 else kept.reshape(()), len(kept) > 1)

    return table(k_start), table(k_start + call.k.shape[2])


def tiles_of(backend: Backend, q: Tensor, v: Tensor) -> PassTiles:
    """The tile shapes of a backend's kernels for a call."""
    return backend.tiles(dtype_of(q.dtype), max(q.shape[-1], v.shape[-1]), backend.target(q.device))


def last_contiguous(x: Tensor) -> Tensor:
    """The tensor itself if neighbours along its last dimension are neighbours in memory, else a copy."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def plan_of(
    attention: Attention,
    extent: CallShape,
    contents: tuple[HostTable, ...],
    choices: Choices,
    on_device: bool = False,
) -> Plan:
    """The plan of one pass for these sizes and contents, from a cache of recent plans. ``choices``: its tile shapes.

    ``on_device``: the executor lists tokens and finds tiles by tables that the host does not know, so the program has
    the orders that it has for tables that are known.

    The program is the same for every length: a call of another length makes only a new schedule. Where the keys are a
    part of the whole it has two tables more, :data:`compiler.plan.parts.BOUNDS`. ValueError for an index outside its
    table, and for an integer beyond 63 bits.
    """
    known = frozenset(number for number, held in enumerate(contents) if on_device or held.values is not None)
    heads = extent.heads if _heads_differ(attention) else None
    name = identity(attention)

    arranged = _arranged(attention, choices, heads, known, natural_rows=False)
    natural_rows = not applies_to(arranged.program, extent, on_device)
    if natural_rows:
        arranged = _arranged(attention, choices, heads, known, natural_rows=True)
    held = tuple(own if read else _sizes_only(own) for own, read in zip(contents, arranged.matters, strict=True))
    # by the program, not by the shapes that it was chosen from: passes that choose the same one share its schedule
    key = (name, arranged.program, on_device, extent, tuple(map(_contents_key, held)))
    return _plans.get(key, lambda: _plan(attention, arranged.program, extent, held, on_device))


@lru_cache(maxsize=512)
def _heads_differ(attention: Attention) -> bool:
    """Whether the mask reads the head, so that heads may be walked in different orders and their number decides the
    program.
    """
    return not {HEAD, HEADS}.isdisjoint(walk(attention.mask))


def _arranged(
    attention: Attention, choices: Choices, heads: int | None, known: frozenset[int], natural_rows: bool
) -> _Arranged:
    key = identity(attention), choices, heads, known, natural_rows
    return _programs.get(key, lambda: _arrange(attention, choices, heads, known, natural_rows))


def _arrange(
    attention: Attention, choices: Choices, heads: int | None, known: frozenset[int], natural_rows: bool
) -> _Arranged:
    program = pipeline.program(attention, choices, heads, known, natural_rows)
    decisive = schedule_depends(program)
    matters = (number in decisive or table.element != "float" for number, table in enumerate(program.tables))
    return _Arranged(program, tuple(matters))


def _plan(
    attention: Attention, program: Program, extent: CallShape, contents: tuple[HostTable, ...], on_device: bool
) -> Plan:
    own = contents
    if extent.is_part:
        program, contents, extent = part_of(program), (*contents, *bounds_of_keys(extent)), extent.whole
    wide = index_width(program, extent, contents) == 64
    if wide:  # what fits 32 bits fits 63
        check_attention(attention, extent, own)
    outside = check_indices(program, extent, contents)
    if outside is not None:
        raise ValueError(errors.outside(attention, outside))
    schedule = pipeline.schedule(program, extent, contents, on_device)
    if settings.verify and not schedule.lists_on_device:  # without a list there are no tokens to compare
        from ..compiler.verify import validate  # with the prover, which few calls need

        validate(program, schedule, extent, contents)
    return Plan(program, schedule, wide)


def _sizes_only(held: HostTable) -> HostTable:
    """The table without its contents, for one that does not decide the plan: learned floats change at every step."""
    return replace(held, values=None)


def _contents_key(held: HostTable) -> Hashable:
    entries = None if held.values is None else hashlib.sha256(np.ascontiguousarray(held.values).data).digest()
    return held.batched, held.shape, held.wide, held.most, entries
