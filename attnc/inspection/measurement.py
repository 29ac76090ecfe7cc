"""Runs one attention on random input, checks it against the dense definition and times it, for `attnc run`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..attention import Module
from ..compiler.ir import HostTable
from ..compiler.plan import BF16, FP16, FP32, FP64, DType, float_named
from ..runtime.backends import backend_for, devices
from ..runtime.base import Unavailable, built, listen_to_triton, torch_dtype
from ..runtime.cpp import BuildError
from .errors import InputError
from .launch_view import LaunchView

ROUNDS = 5
PRODUCTS = {"forward": 2, "backward": 5}  # matrix products over the kept pairs, in each pass
LIMIT_SIZE = {"cpu": 1536, "cuda": 8192}
CHECKED_PAIRS = 2**22
# By how much forward and backward may differ from the reference in float64, relative to the largest value.
TOLERANCE = {FP32: 1e-5, FP64: 1e-10, BF16: 3e-2, FP16: 4e-3}


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


@dataclass(frozen=True)
class Pass:
    """A measured forward or backward pass: seconds (the median, after a first call), floating-point operations over the
    kept pairs, and the largest error relative to the largest value.
    """

    name: str
    seconds: float
    operations: float
    error: float


@dataclass(frozen=True)
class Measured:
    first: float  # seconds of the first call
    built: int  # kernels that were built in it
    passes: tuple[Pass, ...]
    limit: float  # operations a second of a matrix product in the same run
    rows: int  # how many query rows were checked
    tolerance: float

    @property
    def right(self) -> bool:
        return all(found.error <= self.tolerance for found in self.passes)


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


def report(title: str, request: Request, measured: Measured) -> str:
    """The measurement as lines of text."""
    where = f"{request.device}, {torch.get_num_threads()} threads" if request.device.type == "cpu" else request.device
    lines = [
        f"{title}: {request.n:,} tokens, {request.heads} heads of {request.head_dim}, {request.dtype.torch}, {where}",
        f"  first call  {measured.first * 1e3:10.1f} ms{', building included' if measured.built else ''}",
    ]
    for found in measured.passes:
        rate = found.operations / found.seconds
        verdict = "right" if found.error <= measured.tolerance else "WRONG"
        lines.append(
            f"  {found.name:<10}  {found.seconds * 1e3:10.1f} ms  {rate / 1e9:9.1f} GFLOP/s  "
            f"{rate / measured.limit:6.1%} of the limit  "
            f"{verdict}: largest error {found.error:.1e} of {measured.tolerance:.0e} allowed"
        )
    lines.append(f"  limit       {'':13}  {measured.limit / 1e9:9.1f} GFLOP/s  a square matrix product in the same run")
    lines.append(
        f"  operations counted over kept pairs; checked on {measured.rows:,} rows against the dense definition"
    )
    return "\n".join(lines)


def tensors(contents: Mapping[str, HostTable], device: torch.device, dtype: DType) -> dict[str, Tensor]:
    """Table contents as a call takes them: sets as bool tensors over their universe, floats in the compute dtype."""
    compute = torch_dtype(dtype.compute)
    made = {}
    for name, held in contents.items():
        tensor = torch.as_tensor(held.values)
        made[name] = (tensor.to(compute) if tensor.is_floating_point() else tensor).to(device)
    return made


def measure(request: Request, progress: Callable[[str], object]) -> Measured:
    """Builds the kernels of a call, compares its results with the dense definition, and times it.

    InputError where the input, the settings or the machine does not allow the call; any other error of the call is
    raised unchanged.
    """
    q, k, v, dout = _random(request)
    progress("first call")
    first, kernels = _first(request, q, k, v)
    progress("checking against the reference")
    errors, rows = _check(request, q, k, v, dout)
    progress("timing, beside a matrix product")
    pairs = request.attention.plan(request.n, heads=request.heads, **request.tables).pairs
    calls = {"forward": lambda: _attend(request, q, k, v)}
    if request.backward:
        calls["backward"] = _backward(request, q, k, v, dout)
    product, operations = _product(request)
    seconds = _medians({**calls, "product": product}, request.device)
    products = 2.0 * pairs * request.head_dim  # operations of one product over the kept pairs
    passes = tuple(
        Pass(name, seconds[name], PRODUCTS[name] * products, error) for name, error in zip(calls, errors, strict=True)
    )
    return Measured(first, kernels, passes, operations / seconds["product"], rows, TOLERANCE[request.dtype])


def _first(request: Request, q: Tensor, k: Tensor, v: Tensor) -> tuple[float, int]:
    """The seconds of the first call, and how many kernels it built. InputError as in :func:`measure`."""
    before, began = built(), time.perf_counter()
    try:
        backend_for(request.device, request.n)  # imports Triton where it is to be heard
        listen_to_triton()
        _attend(request, q, k, v)
    except BuildError as error:
        raise InputError(str(error)) from None
    except Exception:
        _refuse(request)
        raise  # the call is valid, so the error is a bug of ours
    return _since(began, request.device), built() - before


def _refuse(request: Request) -> None:
    """Raises InputError where no executor runs the call under the present settings, or where its tables do not fit."""
    try:
        backend_for(request.device, request.n)
        request.attention.plan(request.n, heads=request.heads, **request.tables)
    except (Unavailable, ValueError) as error:
        raise InputError(str(error).rstrip(": ")) from None


def _random(request: Request) -> list[Tensor]:
    """Random q, k, v and gradient of the output. InputError where there is not enough memory for them."""
    random = torch.Generator(device="cpu").manual_seed(0)
    shape = (1, request.heads, request.n, request.head_dim)
    try:
        return [torch.randn(shape, generator=random).to(request.device, torch_dtype(request.dtype)) for _ in range(4)]
    except RuntimeError as error:  # torch has no class of its own for it on a CPU
        words = " x ".join(f"{size:,}" for size in shape)
        raise InputError(f"there is no memory for tensors of {words}: {str(error).splitlines()[0]}") from None


def _attend(request: Request, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    out: Tensor = request.attention(q, k, v, **request.tables)
    return out


def _check(request: Request, q: Tensor, k: Tensor, v: Tensor, dout: Tensor) -> tuple[list[float], int]:
    """The largest errors of forward and backward, relative to the largest value, and the number of query rows checked.

    Checks rows at the beginning, in the middle and at the end. The output's gradient is zero in all other rows, so that
    the gradients of keys and values come from the checked rows alone.
    """
    q, k, v = (x.clone().requires_grad_(request.backward) for x in (q, k, v))
    count = max(3, CHECKED_PAIRS // (request.n * request.heads))
    starts = _strips(request.n, -(-count // 3))
    weight = torch.zeros_like(dout)
    for start, stop in starts:
        weight[:, :, start:stop] = dout[:, :, start:stop]
    out = _attend(request, q, k, v)
    exact = [x.detach().double().requires_grad_(request.backward) for x in (q, k, v)]
    error = scale = 0.0
    for start, stop in starts:
        expected = _reference(request, exact, start, stop)
        error = max(error, float((out[:, :, start:stop].detach() - expected.detach()).abs().max()))
        scale = max(scale, float(expected.detach().abs().max()))
        if request.backward:
            expected.backward(weight[:, :, start:stop].double())  # type: ignore[no-untyped-call]
    errors = [error / max(scale, 1e-30)]
    if request.backward:
        out.backward(weight)  # type: ignore[no-untyped-call]
        errors.append(max(_relative(x.grad, y.grad) for x, y in zip((q, k, v), exact, strict=True)))
    return errors, sum(stop - start for start, stop in starts)


def _strips(n: int, rows: int) -> list[tuple[int, int]]:
    """Ranges of rows at the beginning, in the middle and at the end, disjoint; one range of all rows where these are
    few.
    """
    if 3 * rows >= n:
        return [(0, n)]
    return [(start, start + rows) for start in (0, (n - rows) // 2, n - rows)]


def _reference(request: Request, exact: list[Tensor], start: int, stop: int) -> Tensor:
    """The output of the dense definition for some query rows, in float64."""
    q, k, v = exact
    tables = {name: x.double() if x.is_floating_point() else x for name, x in request.tables.items()}
    for name, axis in request.query_axes.items():
        tables[name] = tables[name].narrow(axis, start, stop - start)
    expected: Tensor = request.attention.reference(q[:, :, start:stop], k, v, q_start=start, **tables)
    return expected


def _relative(found: Tensor | None, expected: Tensor | None) -> float:
    if found is None or expected is None:
        raise RuntimeError("a gradient is missing")
    return float((found.double() - expected).abs().max()) / max(float(expected.abs().max()), 1e-30)


def _since(began: float, device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - began


def _medians(calls: Mapping[str, Callable[[], object]], device: torch.device) -> dict[str, float]:
    """The median seconds of each call over some rounds; each round makes every call once, so that all meet equal
    conditions.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            seconds[name].append(_since(began, device))
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def _backward(request: Request, q: Tensor, k: Tensor, v: Tensor, dout: Tensor) -> Callable[[], Tensor]:
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    out = _attend(request, *leaves)
    return lambda: torch.autograd.grad(out, leaves, dout, retain_graph=True)[0]


def _product(request: Request) -> tuple[Callable[[], Tensor], float]:
    """A square matrix product, in float32 (float64 for float64 input) on a CPU and in the input's dtype on a GPU, and
    its number of operations.
    """
    device = request.device
    size = LIMIT_SIZE.get(device.type, 1024)
    dtype = torch_dtype(request.dtype.compute if device.type == "cpu" else request.dtype)
    a, b = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    return lambda: a @ b, 2.0 * size**3
