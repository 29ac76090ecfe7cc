"""Runs one attention on random input, checks it against the dense definition and times it, for `attnc run`."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..compiler.plan import BF16, FP16, FP32, FP64
from .requests import Request, attend, first_call, random_inputs, settle, square_product, tables_of_rows
from .turns import in_turn

ROUNDS = 5
PRODUCTS = {"forward": 2, "backward": 5}  # matrix products over the kept pairs, in each pass
CHECKED_PAIRS = 2**22
# By how much forward and backward may differ from the reference in float64, relative to the largest value.
TOLERANCE = {FP32: 1e-5, FP64: 1e-10, BF16: 3e-2, FP16: 4e-3}


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


def report(title: str, request: Request, measured: Measured) -> str:
    """The measurement as lines of text."""
    lines = [
        f"{title}: {request.words}",
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


def measure(request: Request, progress: Callable[[str], object]) -> Measured:
    """Builds the kernels of a call, compares its results with the dense definition, and times it.

    InputError where the input, the settings or the machine does not allow the call; any other error of the call is
    raised unchanged.
    """
    q, k, v, dout = random_inputs(request)
    progress("first call")
    first, kernels = first_call(request, q, k, v)
    progress("checking against the reference")
    errors, rows = _check(request, q, k, v, dout)
    progress("timing, beside a matrix product")
    pairs = request.attention.plan(request.n, heads=request.heads, **request.tables).pairs
    calls = {"forward": lambda: attend(request, q, k, v)}
    if request.backward:
        calls["backward"] = _backward(request, q, k, v, dout)
    product, operations = square_product(request)
    found = in_turn({**calls, "product": product}, ROUNDS, settle=partial(settle, request.device))
    seconds = {name: statistics.median(taken) for name, taken in found.items()}
    products = 2.0 * pairs * request.head_dim  # operations of one product over the kept pairs
    passes = tuple(
        Pass(name, seconds[name], PRODUCTS[name] * products, error) for name, error in zip(calls, errors, strict=True)
    )
    return Measured(first, kernels, passes, operations / seconds["product"], rows, TOLERANCE[request.dtype])


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
    out = attend(request, q, k, v)
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
    own = tables_of_rows(request, start, stop)
    tables = {name: x.double() if x.is_floating_point() else x for name, x in own.items()}
    expected: Tensor = request.attention.reference(q[:, :, start:stop], k, v, q_start=start, **tables)
    return expected


def _relative(found: Tensor | None, expected: Tensor | None) -> float:
    if found is None or expected is None:
        raise RuntimeError("a gradient is missing")
    return float((found.double() - expected).abs().max()) / max(float(expected.abs().max()), 1e-30)


def _backward(request: Request, q: Tensor, k: Tensor, v: Tensor, dout: Tensor) -> Callable[[], Tensor]:
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    out = attend(request, *leaves)
    return lambda: torch.autograd.grad(out, leaves, dout, retain_graph=True)[0]
