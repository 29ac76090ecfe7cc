"""Passes a launch to C++ kernels: the structures of ``templates/cpp/launch.h`` in ctypes, filled from a Launch."""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Mapping, Sequence
from ctypes import c_double, c_int64, c_void_p
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...compiler.plan import Bounds, Kernel, KernelSchedule, Listing
from ..base import Launch, TableArgument, Wanted, count


class _Table(ctypes.Structure):
    """``TableArgument`` of templates/cpp/launch.h."""

    _fields_ = (
        ("data", c_void_p), ("batch_step", c_int64), ("sizes", c_void_p), ("size", c_int64), ("gradient", c_void_p),
    )  # fmt: skip


class _Bounds(ctypes.Structure):
    """``Bounds`` of templates/cpp/launch.h."""

    _fields_ = (
        ("period", c_int64), ("shift", c_int64), ("aligned", c_int64), ("batch_slots", c_int64),
        ("head_slots", c_int64), ("start_step", c_int64), ("start_shift", c_int64), ("pointer", c_void_p),
        ("start", c_void_p), ("length", c_void_p), ("kind", c_void_p),
    )  # fmt: skip


class _Listing(ctypes.Structure):
    """``Listing`` of templates/cpp/launch.h."""

    _fields_ = (("tokens", c_void_p), ("length", c_int64), ("batch_slots", c_int64), ("head_slots", c_int64))


class _Segment(ctypes.Structure):
    """``SegmentArgument`` of templates/cpp/launch.h."""

    _fields_ = (("bounds", _Bounds), ("keys", _Listing))


class _Kernel(ctypes.Structure):
    """``KernelArgument`` of templates/cpp/launch.h."""

    _fields_ = (("segments", c_void_p), ("rows", _Listing), ("heads", c_void_p), ("head_count", c_int64))


_Steps = c_int64 * 3


class _Launch(ctypes.Structure):
    """``Launch`` of templates/cpp/launch.h."""

    _fields_ = (
        ("batch", c_int64), ("heads", c_int64), ("kv_heads", c_int64), ("m", c_int64), ("n", c_int64),
        ("threads", c_int64), ("q", c_void_p), ("k", c_void_p), ("v", c_void_p), ("q_step", _Steps), ("k_step", _Steps),
        ("v_step", _Steps), ("scale", c_void_p), ("q_start", c_void_p), ("q_start_step", c_int64), ("out", c_void_p),
        ("lse", c_void_p), ("kernels", c_void_p), ("numbers", c_void_p), ("tables", c_void_p), ("seed", c_int64),
        ("drop_below", c_int64), ("keep_scale", c_double), ("grad_out", c_void_p), ("grad_out_step", _Steps),
        ("grad_lse", c_void_p), ("grad_q", c_void_p), ("grad_k", c_void_p), ("grad_v", c_void_p), ("room", c_int64),
        ("columns", c_void_p), ("k_start", c_void_p), ("k_start_step", c_int64), ("key_rows", c_int64),
        ("start", c_int64),
    )  # fmt: skip


_START = _Launch.start.offset
_forked = False


def _note_fork() -> None:
    global _forked
    _forked = True


# A forked child does not have its parent's OpenMP threads, and would wait for them for ever.
os.register_at_fork(after_in_child=_note_fork)


def threads() -> int:
    """How many threads a kernel may use: torch's, but one in a forked child."""
    return 1 if _forked else torch.get_num_threads()


@dataclass
class _Kept:
    """Makes what a structure points to, and keeps it alive."""

    objects: list[object] = field(default_factory=list)

    def tensor(self, tensor: Tensor) -> int:
        held = tensor.contiguous()
        self.objects.append(held)
        return held.data_ptr()

    def array(self, values: Any, dtype: type) -> int:
        held: np.ndarray[Any, Any] = np.ascontiguousarray(values, dtype=dtype)
        self.objects.append(held)
        return int(held.ctypes.data)

    def several(self, kind: type[ctypes.Structure], made: Sequence[ctypes.Structure]) -> int:
        held = (kind * max(1, len(made)))(*made)
        self.objects.append(held)
        return ctypes.addressof(held)

    def kernels(self, launch: Launch) -> int:
        pairs = zip(launch.program.kernels, launch.schedule.kernels, strict=True)
        return self.several(_Kernel, [self._kernel(kernel, schedule) for kernel, schedule in pairs])

    def _kernel(self, kernel: Kernel, schedule: KernelSchedule) -> _Kernel:
        segments = [_Segment(self._bounds(each.by_query), self._listing(each.keys)) for each in schedule.segments]
        return _Kernel(
            segments=self.several(_Segment, segments),
            rows=self._listing(schedule.rows),
            heads=None if kernel.heads is None else self.array(kernel.heads, np.int32),
            head_count=0 if kernel.heads is None else len(kernel.heads),
        )

    def _bounds(self, bounds: Bounds) -> _Bounds:
        runs = bounds.runs
        return _Bounds(
            period=bounds.period, shift=bounds.shift, aligned=bounds.aligned, batch_slots=bounds.batch_slots,
            head_slots=bounds.head_slots, start_step=bounds.start_step, start_shift=bounds.start_shift,
            pointer=self.array(runs.pointer, np.int64), start=self.array(runs.start, np.int32),
            length=self.array(runs.length, np.int32), kind=self.array(runs.kind, np.uint8),
        )  # fmt: skip

    def _listing(self, listing: Listing | None) -> _Listing:
        if listing is None:
            return _Listing()
        return _Listing(
            tokens=self.array(listing.tokens, np.int32), length=listing.tokens.shape[1],
            batch_slots=listing.batch_slots, head_slots=listing.head_slots,
        )  # fmt: skip

    def tables(self, tables: Sequence[TableArgument], gradients: Sequence[Tensor | None] = ()) -> int:
        """``gradients``: one per table, or none at all."""
        made = [
            self._table(argument, gradients[number] if gradients else None) for number, argument in enumerate(tables)
        ]
        return self.several(_Table, made)

    def _table(self, argument: TableArgument, gradient: Tensor | None) -> _Table:
        size = math.prod(argument.sizes)
        shared = not argument.batched or argument.tensor.shape[0] == 1
        return _Table(
            data=argument.tensor.data_ptr(),
            batch_step=0 if shared else size,
            sizes=self.array(argument.sizes, np.int64),
            size=size,
            gradient=None if gradient is None else gradient.data_ptr(),
        )


class Arguments:
    """What a kernel is called with: a structure for launches of one form, copied and completed for each of them.

    A form is what :attr:`runtime.base.Launch.ready` is shared by, so that nothing but tensors, and the numbers that are
    set in :meth:`of`, differs from launch to launch.
    """

    def __init__(self, launch: Launch, numbers: Sequence[int], room: int) -> None:
        """``numbers``: those taken out of the program's text; ``room``: bytes that a backward pass may take."""
        q, k, v = launch.q, launch.k, launch.v
        self._scale, self._q_start, self._tables = launch.scale, launch.q_start, launch.tables
        self._kept = _Kept([launch.tables])
        self._call = _Launch(
            batch=q.shape[0], heads=q.shape[1], kv_heads=max(1, k.shape[1]), m=q.shape[2], n=launch.schedule.n,
            q_step=_steps(q), k_step=_steps(k), v_step=_steps(v), scale=self._kept.tensor(launch.scale),
            q_start=self._kept.tensor(launch.q_start), q_start_step=1 if launch.q_start.numel() > 1 else 0,
            kernels=self._kept.kernels(launch), numbers=self._kept.array(numbers, np.int64),
            tables=self._kept.tables(launch.tables), room=room, key_rows=k.shape[2],
        )  # fmt: skip

    def of(self, launch: Launch, tensors: Mapping[str, Tensor | None], gradients: Sequence[Tensor | None]) -> Call:
        """The structure of one launch. ``tensors``: results and gradients by their field names in the structure;
        ``gradients``: one per table, empty in the forward pass.
        """
        call, kept = _Launch.from_buffer_copy(self._call), _Kept([self])
        call.threads = threads()
        call.q, call.k, call.v = launch.q.data_ptr(), launch.k.data_ptr(), launch.v.data_ptr()
        if launch.schedule.anywhere:  # a form of any number of keys
            call.k_step, call.v_step = _steps(launch.k), _steps(launch.v)
            call.n, call.key_rows = launch.schedule.n, launch.k.shape[2]
        if launch.scale is not self._scale:
            call.scale = kept.tensor(launch.scale)
        if launch.q_start is not self._q_start:
            call.q_start = kept.tensor(launch.q_start)
        if gradients or launch.tables is not self._tables:
            call.tables = kept.tables(launch.tables, gradients)
        if launch.k_start is not None:
            call.k_start, call.k_start_step = kept.tensor(launch.k_start), int(launch.k_start.numel() > 1)
        if launch.dropout:
            call.seed, call.drop_below = launch.seed, round(launch.dropout * 2**31)
            call.keep_scale = 1 / (1 - launch.dropout) if launch.dropout < 1 else 0.0
        for name, tensor in tensors.items():
            setattr(call, name, None if tensor is None else tensor.data_ptr())
        grad_out = tensors.get("grad_out")
        if grad_out is not None:
            call.grad_out_step = _steps(grad_out)
        return Call(call, kept)

    def prepared(self, launch: Launch, function: Any, out: Tensor, lse: Tensor) -> PreparedCall:
        """Forward passes of the form of a launch, whose results have the form of ``out`` and ``lse``."""
        call = self.of(launch, {}, ())
        if launch.schedule.anywhere:  # with the stride that more rows than the one of this call have
            call.structure.k_step[2], call.structure.v_step[2] = launch.k.stride(2), launch.v.stride(2)
        return PreparedCall(call, function, out, lse, launch)

    def prepared_backward(self, launch: Launch, function: Any) -> PreparedBackwardCall:
        """Backward passes of the form of a launch with one kernel and no tables."""
        return PreparedBackwardCall(self.of(launch, {}, ()), function, launch)


class Call:
    """A kernel's argument for one launch, by its address; it keeps alive what it points to, but for the tensors of the
    launch.
    """

    def __init__(self, structure: Any, kept: object) -> None:
        self.structure, self._kept = structure, kept
        self.address = ctypes.addressof(structure)


class PreparedCall:
    """A :class:`runtime.base.Prepared`: for each call a copy of one structure, with the call's tensors in it."""

    def __init__(self, call: Call, function: Any, out: Tensor, lse: Tensor, launch: Launch) -> None:
        self._call, self._function = call, function
        self._out, self._lse = (_like(x.shape, x.dtype) for x in (out, lse))
        self._tables = launch.tables  # which the structure points to
        self._lengths, self._m, self.anywhere = launch.lengths, out.shape[2], launch.schedule.anywhere

    def serves(self, n: int, q_start: int) -> bool:
        if self._lengths is None:
            return True
        least, most = self._lengths
        return q_start >= 0 and q_start + self._m <= most and least <= n <= most

    def run(self, q: Tensor, k: Tensor, v: Tensor, q_start: int) -> tuple[Tensor, Tensor]:
        """MemoryError where memory runs out."""
        out, lse = torch.empty_like(self._out), torch.empty_like(self._lse)
        call: Any = _Launch.from_buffer_copy(self._call.structure)
        call.threads = threads()
        call.q, call.k, call.v, call.out, call.lse = (x.data_ptr() for x in (q, k, v, out, lse))
        if self.anywhere:
            call.n = call.key_rows = k.shape[2]
            call.start, call.q_start = q_start, ctypes.addressof(call) + _START
        if self._function(ctypes.addressof(call)):
            raise MemoryError("no memory for the forward pass of attention")
        count("cpp.forward")
        return out, lse


class PreparedBackwardCall:
    """A :class:`runtime.base.PreparedBackward`, made likewise."""

    def __init__(self, call: Call, function: Any, launch: Launch) -> None:
        self._call, self._function, self._dtype = call, function, launch.compute_dtype
        self._q = _like(launch.q.shape, launch.q.dtype)
        self._k, self._v = (_like(x.shape, self._dtype) for x in (launch.k, launch.v))

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None,
        wanted: Wanted,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
        """MemoryError where memory runs out."""
        if grad_out.stride(-1) != 1 and grad_out.shape[-1] > 1:
            grad_out = grad_out.contiguous()
        grad_q = torch.empty_like(self._q) if wanted.q else None
        grad_k = torch.zeros_like(self._k) if wanted.k else None
        grad_v = torch.zeros_like(self._v) if wanted.v else None
        call: Any = _Launch.from_buffer_copy(self._call.structure)
        call.threads = threads()
        call.q, call.k, call.v, call.out, call.lse = (x.data_ptr() for x in (q, k, v, out, lse))
        call.grad_out, call.grad_out_step = grad_out.data_ptr(), _steps(grad_out)
        call.grad_q = None if grad_q is None else grad_q.data_ptr()
        call.grad_k = None if grad_k is None else grad_k.data_ptr()
        call.grad_v = None if grad_v is None else grad_v.data_ptr()
        if grad_lse is not None:
            grad_lse = grad_lse.to(self._dtype).contiguous()
            call.grad_lse = grad_lse.data_ptr()
        if self._function(ctypes.addressof(call)):
            raise MemoryError("no memory for the backward pass of attention")
        count("cpp.backward")
        if self._dtype == q.dtype:
            return grad_q, grad_k, grad_v
        return grad_q, None if grad_k is None else grad_k.to(q.dtype), None if grad_v is None else grad_v.to(q.dtype)


def _like(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """What ``empty_like`` makes contiguous tensors of a shape from, fastest; it takes the memory of one number."""
    return torch.empty(1, dtype=dtype).expand(shape)


def _steps(tensor: Tensor) -> Any:
    """The strides of batch, head and row, in elements; 0 for a dimension of size 1, whose stride torch may set to
    anything.
    """
    sizes, steps = tensor.shape, tensor.stride()
    return _Steps(*[0 if sizes[axis] == 1 else steps[axis] for axis in range(3)])
