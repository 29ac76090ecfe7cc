"""What is measured at the command line: an attention with its tables, and the inputs of its calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..attention import Module
from ..compiler.ir import HostTable
from ..compiler.plan import DType, float_named
from ..inspection import InputError, LaunchView
from ..runtime.backends import backend_for, devices
from ..runtime.base import Unavailable, built, listen_to_triton, torch_dtype
from ..runtime.cpp import BuildError

LIMIT_SIZE = {"cpu": 1536, "cuda": 8192}


@dataclass(frozen=True)
class Request:
    """What to run: ``attention`` is an :class:`attnc.Attention`; ``tables`` holds its run-time tables by name."""

    attention: Any
    tables: Mapping[str, Tensor]
    query_axes: Mapping[str, int]  # by table: the index of its dimension of query rows
    n: int
    heads: int
    head_dim: int
    device: torch.device
    dtype: DType
    backward: bool

    @property
    def words(self) -> str:
        """The sizes of its calls, and where they run."""
        where = f"{self.device}, {torch.get_num_threads()} threads" if self.device.type == "cpu" else self.device
        return f"{self.n:,} tokens, {self.heads} heads of {self.head_dim}, {self.dtype.torch}, {where}"


def request(view: LaunchView, device: str, dtype: str, head_dim: int, backward: bool) -> Request:
    """The measurement of what :func:`prepare` made. Raises InputError for a device that is not available."""
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:  # torch's own words for a device it does not have
        raise InputError(f"--device {device}: {str(error).splitlines()[0]}") from None
    if place.type not in devices():
        raise InputError(f"--device {device}: expected one of {', '.join(devices())}")
    kind, attention = float_named(dtype), view.pipeline.attention
    found = Module(view.subject.module)[view.subject.name](**view.constants)
    parameters = {table.name: table for table in attention.parameters}
    given = {name: held for name, held in view.contents.items() if name in parameters}
    axes = {
        name: axis
        for name, table in parameters.items()
        for axis, dimension in enumerate(table.dimensions)
        if dimension.kind == "query"
    }
    return Request(
        attention=found if view.layer is None else found.layers[view.layer],
        tables=tensors(given, place, kind),
        query_axes=axes,
        n=view.extent.n,
        heads=view.extent.heads,
        head_dim=head_dim,
        device=place,
        dtype=kind,
        backward=backward,
    )


def tensors(contents: Mapping[str, HostTable], device: torch.device, dtype: DType) -> dict[str, Tensor]:
    """Table contents as a call takes them: sets as bool tensors over their universe, floats in the compute dtype."""
    compute = torch_dtype(dtype.compute)
    made = {}
    for name, held in contents.items():
        tensor = torch.as_tensor(held.values)
        made[name] = (tensor.to(compute) if tensor.is_floating_point() else tensor).to(device)
    return made


def first_call(request: Request, q: Tensor, k: Tensor, v: Tensor) -> tuple[float, int]:
    """The seconds of the first call, and how many kernels it built.

    InputError where the input, the settings or the machine does not allow the call; any other error of the call is
    raised unchanged.
    """
    before, began = built(), time.perf_counter()
    try:
        backend_for(request.device, request.n)  # imports Triton where it is to be heard
        listen_to_triton()
        attend(request, q, k, v)
    except BuildError as error:
        raise InputError(str(error)) from None
    except Exception:
        _refuse(request)
        raise  # the call is valid, so the error is a bug of ours
    settle(request.device)
    return time.perf_counter() - began, built() - before


def _refuse(request: Request) -> None:
    """Raises InputError where no executor runs the call under the present settings, or where its tables do not fit."""
    try:
        backend_for(request.device, request.n)
        request.attention.plan(request.n, heads=request.heads, **request.tables)
    except (Unavailable, ValueError) as error:
        raise InputError(str(error).rstrip(": ")) from None


def random_inputs(request: Request) -> list[Tensor]:
    """Random q, k, v and gradient of the output. InputError where there is not enough memory for them."""
    random = torch.Generator(device="cpu").manual_seed(0)
    shape = (1, request.heads, request.n, request.head_dim)
    try:
        return [torch.randn(shape, generator=random).to(request.device, torch_dtype(request.dtype)) for _ in range(4)]
    except RuntimeError as error:  # torch has no class of its own for it on a CPU
        words = " x ".join(f"{size:,}" for size in shape)
        raise InputError(f"there is no memory for tensors of {words}: {str(error).splitlines()[0]}") from None


def attend(request: Request, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    out: Tensor = request.attention(q, k, v, **request.tables)
    return out


def tables_of_rows(request: Request, start: int, stop: int) -> dict[str, Tensor]:
    """The tables of a call that has these query rows alone."""
    tables = dict(request.tables)
    for name, axis in request.query_axes.items():
        tables[name] = tables[name].narrow(axis, start, stop - start)
    return tables


def settle(device: torch.device) -> None:
    """Waits for what calls have begun on a device."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def square_product(request: Request) -> tuple[Callable[[], Tensor], float]:
    """A square matrix product, in float32 (float64 for float64 input) on a CPU and in the input's dtype on a GPU, and
    its number of operations.
    """
    device = request.device
    size = LIMIT_SIZE.get(device.type, 1024)
    dtype = torch_dtype(request.dtype.compute if device.type == "cpu" else request.dtype)
    a, b = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    return lambda: a @ b, 2.0 * size**3
