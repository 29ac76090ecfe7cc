"""C++ kernels on CPU tensors: a checked launch to results, through a library built at first use."""

from __future__ import annotations

import ctypes
import math
import os
from ctypes import c_double, c_int, c_int64, c_void_p
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..compiler.plan import Program
from ..compiler.render_cpp import CppVariant, Element, Pass, Storage, render_cpp
from .build import build, cache_key, compiler, load
from .cache import get
from .launch import Gradients, Launch, TableArgument
from .launches import count

QUERY_TILE, KEY_TILE = 64, 64

# Bytes that the backward's private sums may take at once; what does not fit is done in turns.
ROOM = 64 * 2**20

_forked = False


def _note_fork() -> None:
    global _forked
    _forked = True


# OpenMP's threads do not live on in a child, where waiting for them would hang.
os.register_at_fork(after_in_child=_note_fork)


class _Table(ctypes.Structure):
    """``TableArgument`` of templates/cpp/launch.h."""

    _fields_ = (
        ("data", c_void_p), ("batch_step", c_int64), ("sizes", c_void_p), ("size", c_int64), ("gradient", c_void_p),
    )  # fmt: skip


_Steps = c_int64 * 3


class _Launch(ctypes.Structure):
    """``Launch`` of templates/cpp/launch.h."""

    _fields_ = (
        ("batch", c_int64), ("heads", c_int64), ("kv_heads", c_int64), ("m", c_int64), ("n", c_int64),
        ("threads", c_int64), ("q", c_void_p), ("k", c_void_p), ("v", c_void_p), ("q_step", _Steps), ("k_step", _Steps),
        ("v_step", _Steps), ("scale", c_void_p), ("q_start", c_void_p), ("q_start_step", c_int64), ("out", c_void_p),
        ("lse", c_void_p), ("run_pointer", c_void_p), ("run_start", c_void_p), ("run_length", c_void_p),
        ("run_kind", c_void_p), ("batch_slots", c_int64), ("head_slots", c_int64), ("tables", c_void_p),
        ("seed", c_int64), ("drop_below", c_int64), ("keep_scale", c_double), ("grad_out", c_void_p),
        ("grad_out_step", _Steps), ("grad_lse", c_void_p), ("grad_q", c_void_p), ("grad_k", c_void_p),
        ("grad_v", c_void_p), ("room", c_int64),
    )  # fmt: skip


def forward(launch: Launch) -> tuple[Tensor, Tensor]:
    """Output ``[batch, heads, m, value_dim]`` in q's dtype and natural log-sum-exp ``[batch, heads, m]``, contiguous.

    Raises what :func:`runtime.build.build` raises at the first use of a structure, MemoryError without memory.
    """
    batch, heads, m, _ = launch.q.shape
    out = launch.q.new_empty(batch, heads, m, launch.v.shape[-1])
    lse = launch.q.new_empty(batch, heads, m, dtype=launch.compute_dtype)
    _call("forward", launch, {"out": out, "lse": lse})
    return out, lse


def backward(launch: Launch, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None) -> Gradients:
    """The gradients of everything, from the forward's results and their gradients; contiguous, of the inputs' dtypes.

    ``grad_out`` may have any strides. Bit for bit the same however many threads there are.
    """
    q, k, v = launch.q, launch.k, launch.v
    compute = launch.compute_dtype
    if grad_out.stride(-1) != 1 and grad_out.shape[-1] > 1:
        grad_out = grad_out.contiguous()
    grad_q = q.new_empty(q.shape)
    grad_k, grad_v = k.new_zeros(k.shape, dtype=compute), v.new_zeros(v.shape, dtype=compute)
    tables = tuple(
        torch.zeros_like(argument.tensor) if table.element == "float" else None
        for argument, table in zip(launch.tables, launch.program.tables, strict=True)
    )
    given = {
        "out": out.contiguous(), "lse": lse.contiguous(), "grad_out": grad_out,
        "grad_lse": None if grad_lse is None else grad_lse.to(compute).contiguous(),
        "grad_q": grad_q, "grad_k": grad_k, "grad_v": grad_v,
    }  # fmt: skip
    _call("backward", launch, given, tables)
    return Gradients(grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), tables)


def source_variant(direction: Pass, launch: Launch) -> CppVariant:
    """What the kernel of a launch is compiled for."""
    return CppVariant(
        direction=direction,
        head_dim=launch.q.shape[-1],
        value_dim=launch.v.shape[-1],
        storage=cast(Storage, _name(launch.q.dtype)),
        compute="float64" if launch.compute_dtype == torch.float64 else "float32",
        wide=launch.wide,
        dropout=launch.dropout > 0,
        elements=tuple(cast(Element, _name(argument.tensor.dtype)) for argument in launch.tables),
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@lru_cache(maxsize=4096)
def _source(program: Program, variant: CppVariant) -> Any:
    return render_cpp(program, variant)


@lru_cache(maxsize=4096)
def _entry(source: Any, using: Any) -> Any:
    """The library's one function, built or taken from the cache."""
    library = load(get(cache_key(source, using), lambda: build(source, using)))
    for name in ("forward", "backward"):
        if hasattr(library, name):
            function = getattr(library, name)
            function.argtypes, function.restype = (c_void_p,), c_int
            return function
    raise OSError("the library holds no kernel")


def _call(
    direction: Pass, launch: Launch, tensors: dict[str, Tensor | None], gradients: tuple[Tensor | None, ...] = ()
) -> None:
    function = _entry(_source(launch.program, source_variant(direction, launch)), compiler())
    call, keep = _arguments(launch, tensors, gradients)
    failed = function(ctypes.addressof(call))
    del keep
    if failed:
        raise MemoryError(f"no memory for the {direction} pass of attention")
    count(f"cpp.{direction}")


def _arguments(
    launch: Launch, tensors: dict[str, Tensor | None], gradients: tuple[Tensor | None, ...]
) -> tuple[_Launch, list[object]]:
    """The structure that a kernel reads, and what must live as long as it does."""
    q, k, v = launch.q, launch.k, launch.v
    plan, runs = launch.schedule, launch.schedule.by_query
    scale, q_start = launch.scale.contiguous(), launch.q_start.contiguous()
    keep: list[object] = [scale, q_start]

    def array(values: Any, dtype: type) -> int:
        held: np.ndarray[Any, Any] = np.ascontiguousarray(values, dtype=dtype)
        keep.append(held)
        return int(held.ctypes.data)

    call = _Launch(
        batch=q.shape[0], heads=q.shape[1], kv_heads=max(1, k.shape[1]), m=q.shape[2], n=k.shape[2],
        threads=1 if _forked else torch.get_num_threads(), q=q.data_ptr(), k=k.data_ptr(), v=v.data_ptr(),
        q_step=_steps(q), k_step=_steps(k), v_step=_steps(v), scale=scale.data_ptr(),
        q_start=q_start.data_ptr(), q_start_step=1 if q_start.numel() > 1 else 0,
        run_pointer=array(runs.pointer, np.int64), run_start=array(runs.start, np.int32),
        run_length=array(runs.length, np.int32), run_kind=array(runs.kind, np.uint8), batch_slots=plan.batch_slots,
        head_slots=plan.head_slots, seed=launch.seed, drop_below=round(launch.dropout * 2**31),
        keep_scale=1 / (1 - launch.dropout) if launch.dropout < 1 else 0.0, room=ROOM,
    )  # fmt: skip
    for name, tensor in tensors.items():
        setattr(call, name, None if tensor is None else tensor.data_ptr())
    grad_out = tensors.get("grad_out")
    if grad_out is not None:
        call.grad_out_step = _steps(grad_out)
    tables = (_Table * max(1, len(launch.tables)))()
    for number, argument in enumerate(launch.tables):
        gradient = gradients[number] if gradients else None
        tables[number] = _table(argument, array(argument.sizes, np.int64), gradient)
    call.tables = ctypes.addressof(tables)
    keep += [tables, tensors, gradients]
    return call, keep


def _table(argument: TableArgument, sizes: int, gradient: Tensor | None) -> _Table:
    size = math.prod(argument.sizes)
    shared = not argument.batched or argument.tensor.shape[0] == 1
    return _Table(
        data=argument.tensor.data_ptr(),
        batch_step=0 if shared else size,
        sizes=sizes,
        size=size,
        gradient=None if gradient is None else gradient.data_ptr(),
    )


def _steps(tensor: Tensor) -> Any:
    """Strides of batch, head and row; 0 where a dimension has one place, whatever its stride claims."""
    return _Steps(*(0 if size == 1 else step for size, step in zip(tensor.shape[:3], tensor.stride()[:3], strict=True)))
