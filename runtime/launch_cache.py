"""Keeps what calls of one form share, so that a call like an earlier one is neither checked nor planned again.

The form of a call is all that its tensors show without their contents: shapes, strides, dtypes, devices, and the plain
numbers beside them. Contents that the host knows are compared with a copy of those that the kept launch was planned
for. A table that lives where the kernels run, in the form in which they read it, is passed on anew; where a call
converts such a table on its device, and where the keys are a part of the whole, nothing is kept.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..compiler.ir import Attention
from ..compiler.plan import Program, Schedule
from .base import Backend, Launch, TableArgument, filled, settings, stride_bits
from .call import Call, check_divisors, positions_of, scale_of
from .planning import Kept, last_contiguous, launch_anywhere, launch_of, tiles_of

_MOST_BYTES = 2**20  # of host tables whose contents are copied and compared, in one call
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class _Passed:
    """A table argument that is a table of the call itself, read as ``dtype`` and ``shape``."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    batched: bool

    def of(self, call: Call) -> TableArgument:
        return TableArgument(call.tables[self.name].detach().view(self.dtype).view(self.shape), self.batched)


@dataclass(frozen=True)
class _Entry:
    """What calls of one form share.

    ``scale`` and ``q_start`` are None where each call has its own on the device. ``contents``: copies of the tensors
    that the host knows, each with its place in :func:`_tensors`. ``passed``: whether any of ``tables`` is. ``lengths``:
    the least number of keys and the greatest position that the schedule serves, where it serves several. ``divides``:
    whether a call divides by a number that only the device knows, and so is to be checked there.
    """

    program: Program
    schedule: Schedule
    tables: tuple[TableArgument | _Passed, ...]
    scale: Tensor | None
    q_start: Tensor | None
    wide: bool
    by_key: tuple[Program, Schedule] | None
    contents: tuple[tuple[int, Tensor], ...]
    passed: bool
    lengths: tuple[int, int] | None = None
    divides: bool = False
    ready: dict[Hashable, Any] = field(default_factory=dict)

    def fits(self, call: Call) -> bool:
        """Whether the lengths suit, and all contents that the host knows are what they were, to the bit."""
        if self.lengths is not None:
            least, most = self.lengths
            first, last = call.q_start, call.q_start
            if call.q_starts is not None and call.q_starts.is_cpu:
                first, last = map(int, call.q_starts.aminmax())
            if first < 0 or last + call.q.shape[2] > most or not least <= call.k.shape[2] <= most:
                return False
        if not self.contents:
            return True
        tensors = _tensors(call)
        return all(torch.equal(_bits(tensors[place]), kept) for place, kept in self.contents)

    def launch(self, attention: Attention, call: Call) -> Launch:
        tables: Any = self.tables
        if self.passed:
            tables = tuple([one.of(call) if isinstance(one, _Passed) else one for one in tables])
        scale = scale_of(attention, call) if self.scale is None else self.scale
        q_start = positions_of(call) if self.q_start is None else self.q_start
        schedule = self.schedule
        if self.lengths is not None:
            schedule = filled(Schedule, **{**vars(schedule), "n": call.k.shape[2]})
        return filled(
            Launch, program=self.program, schedule=schedule, q=_values(call.q), k=_values(call.k), v=_values(call.v),
            tables=tables, scale=scale, q_start=q_start, wide=self.wide, dropout=call.dropout, seed=call.seed,
            k_start=None, by_key=self.by_key, ready=self.ready, lengths=self.lengths,
        )  # fmt: skip


_entries: Kept[Hashable, _Entry] = Kept(256)
_fixed: Kept[Hashable, bool] = Kept(256)  # forms of calls whose plan serves but one position and length
_pinned: list[object] = []  # what captured graphs read by its address


def launch_for(attention: Attention, name: str, call: Call, backend: Backend, backward: bool) -> Launch:
    """The launch of a call on a backend, as :func:`runtime.planning.launch_of` makes it, with the same errors.

    ``name``: that of the attention, by :func:`runtime.base.register`. ``backward``: the launch is for gradients.
    """
    capturing = call.q.is_cuda and torch.cuda.is_current_stream_capturing()
    unread = backend.plans_on_device and settings.plan_on_device
    anywhere = not (backward or unread or settings.verify) and 0 < call.q.shape[2] <= backend.most_rows_anywhere
    form = None if unread else _form(name, call, backend, backward, anywhere)
    entry = None if form is None else _entries.find(form)
    if form is not None and anywhere and (entry is None or not entry.fits(call)) and _fixed.find(form):
        anywhere, form = False, _form(name, call, backend, backward, False)
        entry = None if form is None else _entries.find(form)
    if entry is not None and entry.fits(call):
        if capturing:
            _pinned.append(entry)
        if entry.divides:
            check_divisors(attention, call.tables)
        return entry.launch(attention, call)
    lengths = None
    tiles = tiles_of(backend, call.q, call.v)
    if anywhere and form is not None:
        found = launch_anywhere(attention, call, tiles.forward)
        if found is None:
            _fixed.put(form, True)
            return launch_for(attention, name, call, backend, backward)
        launch, lengths = found.launch, (found.least, found.most)
        if call.k.shape[2] < found.least:
            return launch_of(attention, call, tiles.forward, None, backend.plans_on_device)
    else:
        own, by_key = (tiles.backward_queries, tiles.backward_keys) if backward else (tiles.forward, None)
        launch = launch_of(attention, call, own, by_key, backend.plans_on_device)
    if capturing:  # memory that is allocated now belongs to the graph
        _pinned.append((launch.schedule, launch.by_key))
        return launch
    entry = None if form is None else _entry(attention, call, launch, lengths)
    if form is None or entry is None:
        return launch
    _entries.put(form, entry)
    return entry.launch(attention, call)


def _form(name: str, call: Call, backend: Backend, backward: bool, anywhere: bool) -> Hashable | None:
    """What an entry is kept by; None where none is kept. ``anywhere``: it is for all positions and numbers of keys."""
    if not call.of_all_keys:
        return None
    q, k, v, scale, starts = call.q, call.k, call.v, call.scale, call.q_starts
    device = q.device
    factor: Hashable = None
    if scale is not None:
        factor = float(scale).hex() if _is_number(scale) else _shown(scale)  # which tells zeros by their signs
    try:
        sizes: Hashable = (k.shape, k.stride(), v.shape, v.stride(), call.q_start)
        if anywhere:
            farthest = stride_bits(k, v)
            sizes = k.shape[:2], k.shape[3], v.shape[:2], v.shape[3], k.shape[2] == v.shape[2], farthest
        return (
            name, backend.name, backward, anywhere, q.shape, q.stride(), sizes, q.dtype, k.dtype, v.dtype, device,
            k.device, v.device, _stream(device), factor, None if starts is None else _shown(starts), call.dropout > 0,
            tuple([(its, *_shown(table)) for its, table in call.tables.items()]),
        )  # fmt: skip
    except (RuntimeError, TypeError):  # of tensors without strides, which the checks refuse
        return None


def _values(x: Tensor) -> Tensor:
    """The tensor as kernels read it: no part of a graph of derivatives, and its last dimension contiguous."""
    return last_contiguous(x.detach() if x.requires_grad else x)


def _stream(device: torch.device) -> int:
    """The stream on which kernels read what is allocated now: other streams do not wait for it."""
    return torch._C._cuda_getCurrentRawStream(device.index) if device.type == "cuda" else 0


def _is_number(scale: Tensor) -> bool:
    return scale.is_cpu and not scale.ndim


def _shown(x: Tensor) -> tuple[Hashable, ...]:
    return x.shape, x.stride(), x.dtype, x.device


def _tensors(call: Call) -> list[Any]:
    """The tensors whose contents a launch depends on; None for one that the call lacks."""
    return [*call.tables.values(), call.scale, call.q_starts]


def _bits(x: Tensor) -> Tensor:
    """The tensor as integers, so that NaN equals itself and zeros differ by their signs."""
    return x.view(_BITS[x.element_size()]) if x.is_floating_point() else x


def _entry(attention: Attention, call: Call, launch: Launch, lengths: tuple[int, int] | None) -> _Entry | None:
    """The entry of a launch; None where each call of its form has to be converted anew."""
    tensors = _tensors(call)
    if lengths is not None:  # positions are not what its plan depends on
        tensors.pop()
    told = call.scale if call.scale is not None and _is_number(call.scale) else None  # the form says all of it
    known = [(place, x.detach()) for place, x in enumerate(tensors) if x is not None and x is not told and x.is_cpu]
    if sum(x.nbytes for _, x in known) > _MOST_BYTES:
        return None
    own = attention.tables
    names = [table.name for table in own]
    names += [""] * (len(launch.tables) - len(names))
    found = [_argument(its, argument, call) for its, argument in zip(names, launch.tables, strict=True)]
    arguments = tuple(one for one in found if one is not None)
    if len(arguments) < len(found):
        return None
    return _Entry(
        launch.program,
        launch.schedule,
        arguments,
        None if call.scale is not None and not call.scale.is_cpu else launch.scale.clone(),
        launch.q_start.clone() if lengths is None and (call.q_starts is None or call.q_starts.is_cpu) else None,
        launch.wide,
        launch.by_key,
        tuple((place, _bits(x).clone()) for place, x in known),
        any(isinstance(one, _Passed) for one in arguments),
        lengths,
        any(table.divides and table.name in call.tables and not call.tables[table.name].is_cpu for table in own),
    )


def _argument(name: str, argument: TableArgument, call: Call) -> TableArgument | _Passed | None:
    """The argument itself, if it is a copy of what the host knows; which table of the call it is; None for neither.

    ``name``: that of its table, "" where it was derived from others.
    """
    tensor, given = argument.tensor, call.tables
    storage = tensor.untyped_storage().data_ptr()
    if not any(x.untyped_storage().data_ptr() == storage and x.numel() for x in given.values()):
        sources = given.values() if not name else [given[name]] if name in given else []
        return argument if all(x.is_cpu for x in sources) else None
    table = given.get(name)
    if table is None or not table.is_contiguous() or table.data_ptr() != tensor.data_ptr():
        return None
    if table.nbytes != tensor.nbytes or table.element_size() != tensor.element_size():
        return None
    return _Passed(name, tensor.dtype, tuple(tensor.shape), argument.batched)
