"""Passes a launch to C++ kernels: the structures of ``templates/cpp/launch.h`` in ctypes, filled from a Launch."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from ctypes import c_double, c_int64, c_void_p
from typing import Any

import numpy as np
from torch import Tensor

from ...compiler.plan import Bounds, Kernel, KernelSchedule, Listing
from ..base import Launch, TableArgument


class _Table(ctypes.Structure):
    """``TableArgument`` of templates/cpp/launch.h."""

    _fields_ = (
        ("data", c_void_p), ("batch_step", c_int64), ("sizes", c_void_p), ("size", c_int64), ("gradient", c_void_p),
    )  # fmt: skip


class _Bounds(ctypes.Structure):
    """``Bounds`` of templates/cpp/launch.h."""

    _fields_ = (
        ("period", c_int64), ("shift", c_int64), ("aligned", c_int64), ("batch_slots", c_int64),
        ("head_slots", c_int64), ("pointer", c_void_p), ("start", c_void_p), ("length", c_void_p), ("kind", c_void_p),
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
    )  # fmt: skip


class Arguments:
    """The structure that a kernel reads; it keeps alive everything that the structure points to."""

    def __init__(
        self,
        launch: Launch,
        numbers: Sequence[int],
        tensors: Mapping[str, Tensor | None],
        gradients: Sequence[Tensor | None],
        threads: int,
        room: int,
    ) -> None:
        """``tensors``: results and gradients by their field names in the structure; ``gradients``: one per table, empty
        in the forward pass; ``numbers``: those taken out of the program's text; ``room``: bytes for private sums in the
        backward pass.
        """
        q, k, v = launch.q, launch.k, launch.v
        scale, q_start = launch.scale.contiguous(), launch.q_start.contiguous()
        self._kept: list[object] = [scale, q_start, tensors, gradients]
        call = _Launch(
            batch=q.shape[0], heads=q.shape[1], kv_heads=max(1, k.shape[1]), m=q.shape[2], n=launch.schedule.n,
            threads=threads, q=q.data_ptr(), k=k.data_ptr(), v=v.data_ptr(),
            q_step=_steps(q), k_step=_steps(k), v_step=_steps(v), scale=scale.data_ptr(),
            q_start=q_start.data_ptr(), q_start_step=1 if q_start.numel() > 1 else 0,
            kernels=self._kernels(launch), numbers=self._array(numbers, np.int64),
            tables=self._tables(launch, gradients), seed=launch.seed, drop_below=round(launch.dropout * 2**31),
            keep_scale=1 / (1 - launch.dropout) if launch.dropout < 1 else 0.0, room=room, key_rows=k.shape[2],
        )  # fmt: skip
        if launch.k_start is not None:
            self._kept.append(launch.k_start)
            call.k_start, call.k_start_step = launch.k_start.data_ptr(), int(launch.k_start.numel() > 1)
        for name, tensor in tensors.items():
            setattr(call, name, None if tensor is None else tensor.data_ptr())
        grad_out = tensors.get("grad_out")
        if grad_out is not None:
            call.grad_out_step = _steps(grad_out)
        self._call = call

    @property
    def address(self) -> int:
        return ctypes.addressof(self._call)

    def _array(self, values: Any, dtype: type) -> int:
        held: np.ndarray[Any, Any] = np.ascontiguousarray(values, dtype=dtype)
        self._kept.append(held)
        return int(held.ctypes.data)

    def _several(self, kind: type[ctypes.Structure], made: Sequence[ctypes.Structure]) -> int:
        held = (kind * max(1, len(made)))(*made)
        self._kept.append(held)
        return ctypes.addressof(held)

    def _kernels(self, launch: Launch) -> int:
        pairs = zip(launch.program.kernels, launch.schedule.kernels, strict=True)
        return self._several(_Kernel, [self._kernel(kernel, schedule) for kernel, schedule in pairs])

    def _kernel(self, kernel: Kernel, schedule: KernelSchedule) -> _Kernel:
        segments = [_Segment(self._bounds(each.by_query), self._listing(each.keys)) for each in schedule.segments]
        return _Kernel(
            segments=self._several(_Segment, segments),
            rows=self._listing(schedule.rows),
            heads=None if kernel.heads is None else self._array(kernel.heads, np.int32),
            head_count=0 if kernel.heads is None else len(kernel.heads),
        )

    def _bounds(self, bounds: Bounds) -> _Bounds:
        runs = bounds.runs
        return _Bounds(
            period=bounds.period, shift=bounds.shift, aligned=bounds.aligned, batch_slots=bounds.batch_slots,
            head_slots=bounds.head_slots, pointer=self._array(runs.pointer, np.int64),
            start=self._array(runs.start, np.int32), length=self._array(runs.length, np.int32),
            kind=self._array(runs.kind, np.uint8),
        )  # fmt: skip

    def _listing(self, listing: Listing | None) -> _Listing:
        if listing is None:
            return _Listing()
        return _Listing(
            tokens=self._array(listing.tokens, np.int32), length=listing.tokens.shape[1],
            batch_slots=listing.batch_slots, head_slots=listing.head_slots,
        )  # fmt: skip

    def _tables(self, launch: Launch, gradients: Sequence[Tensor | None]) -> int:
        made = [
            self._table(argument, gradients[number] if gradients else None)
            for number, argument in enumerate(launch.tables)
        ]
        return self._several(_Table, made)

    def _table(self, argument: TableArgument, gradient: Tensor | None) -> _Table:
        size = math.prod(argument.sizes)
        shared = not argument.batched or argument.tensor.shape[0] == 1
        return _Table(
            data=argument.tensor.data_ptr(),
            batch_step=0 if shared else size,
            sizes=self._array(argument.sizes, np.int64),
            size=size,
            gradient=None if gradient is None else gradient.data_ptr(),
        )


def _steps(tensor: Tensor) -> Any:
    """The strides of batch, head and row, in elements; 0 for a dimension of size 1, whose stride torch may set to
    anything.
    """
    return _Steps(*(0 if size == 1 else step for size, step in zip(tensor.shape[:3], tensor.stride()[:3], strict=True)))
