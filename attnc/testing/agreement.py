"""Compares kernels with the dense definition: on random input, and pair by pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..attention import Attention
from ..compiler.ir import LOGIT, CallShape, Entry, Member, walk
from ..compiler.plan import FLOATS, FP32, DType
from ..compiler.verify import uses
from ..inspection import inputs
from ..measuring import TOLERANCE, tensors
from ..runtime.base import torch_dtype
from .call_shapes import Shape

WHOLE = 0.05  # the error allowed in a whole-number sum; one wrong pair changes most such sums by 0.5 or more


@dataclass(frozen=True)
class _Input:
    q: Tensor
    k: Tensor
    v: Tensor
    grad_out: Tensor

    @property
    def leaves(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.q, self.k, self.v


def check_reference(
    attention: Attention,
    shape: Shape,
    dtype: str | torch.dtype,
    backward: bool,
    device: str | torch.device,
    seed: int,
    given: Mapping[str, Any],
) -> None:
    """AssertionError where out, lse or a gradient differs from the reference in float64 by more than the dtype
    explains.
    """
    kind = _float(dtype)
    place = torch.device(device)
    drawn = _random(shape, kind, place, seed)
    tables = _tables(attention, shape, kind, place, given)
    found = _results(attention, drawn.leaves, drawn.grad_out, tables, shape.q_start, backward, exact=False)
    exact = tuple(x.double() for x in drawn.leaves)
    wide = {name: x.double() if _is_float(x) else x for name, x in tables.items()}
    expected = _results(attention, exact, drawn.grad_out.double(), wide, shape.q_start, backward, exact=True)
    for name, wanted in expected.items():
        _compare(f"{attention.name}: {name} for {shape} in {kind.torch}", found[name], wanted, TOLERANCE[kind])


def _float(dtype: str | torch.dtype) -> DType:
    """The dtype of queries that torch calls so. ValueError for another dtype."""
    wanted = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    for kind in FLOATS:
        if torch_dtype(kind) == wanted:
            return kind
    raise ValueError(f"dtypes: holds {dtype}, expected float32, float64, bfloat16 or float16")


def _random(shape: Shape, dtype: DType, device: torch.device, seed: int) -> _Input:
    random = torch.Generator().manual_seed(seed)
    kv_heads = shape.heads if shape.kv_heads is None else shape.kv_heads
    value_dim = shape.head_dim if shape.value_dim is None else shape.value_dim

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=random).to(device, torch_dtype(dtype))

    return _Input(
        q=draw(shape.batch, shape.heads, shape.rows, shape.head_dim),
        k=draw(shape.batch, kv_heads, shape.n, shape.head_dim),
        v=draw(shape.batch, kv_heads, shape.n, value_dim),
        grad_out=draw(shape.batch, shape.heads, shape.rows, value_dim),
    )


def _tables(
    attention: Attention, shape: Shape, dtype: DType, device: torch.device, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The given tables, called with ``shape`` where they are functions, and plausible contents for the rest."""
    made = {name: value(shape) if callable(value) else value for name, value in given.items()}
    missing = [table for table in attention._bound.parameters if table.name not in made and table.default is None]
    extent = CallShape(shape.n, shape.rows, shape.heads, (shape.q_start,))
    positions = max(shape.n, shape.q_start + shape.rows, 1)
    free = {d.name: positions for table in missing for d in table.dimensions if d.kind == "free"}
    use = uses(attention._bound, extent) if min(shape.n, shape.rows, shape.heads) > 0 else {}
    rest = tensors(inputs(missing, {}, extent, free, use).contents, device, dtype)
    return {name: x.to(device) if isinstance(x, Tensor) else x for name, x in {**made, **rest}.items()}


def _is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _results(
    attention: Attention,
    inputs: tuple[Tensor, ...],
    grad_out: Tensor,
    tables: Mapping[str, Any],
    q_start: int,
    backward: bool,
    exact: bool,
) -> dict[str, Tensor]:
    """out, lse and, with ``backward``, the gradients, by name; from the reference where ``exact``."""
    q, k, v = (x.detach().clone().requires_grad_(backward) for x in inputs)
    held = {n: x.detach().clone().requires_grad_(backward) if _is_float(x) else x for n, x in tables.items()}
    call = attention.reference if exact else attention
    out, lse = call(q, k, v, q_start=q_start, return_lse=True, **held)
    results = {"out": out.detach(), "lse": lse.detach()}
    leaves = {"q": q, "k": k, "v": v, **{name: x for name, x in held.items() if _is_float(x)}}
    if backward:
        gradients = torch.autograd.grad(out, list(leaves.values()), grad_out, materialize_grads=True)
        results |= {f"the gradient of {name}": x for name, x in zip(leaves, gradients, strict=True)}
    return results


def _compare(what: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
    """AssertionError where two tensors differ by more than ``tolerance``, relative to the largest finite value, at
    least 1.

    Infinities (in rows that keep nothing) must be the same.
    """
    got, wanted = found.double().cpu(), expected.double().cpu()
    if got.shape != wanted.shape:
        raise AssertionError(f"{what} has shape {list(got.shape)}, the reference {list(wanted.shape)}")
    if not got.numel():
        return
    finite = wanted.isfinite()
    size = max(float(wanted[finite].abs().max()) if finite.any() else 0.0, 1.0)
    error = torch.where(wanted == got, 0.0, (got - wanted).abs()).nan_to_num(nan=torch.inf)
    worst = float(error.max()) / size
    if worst <= tolerance:
        return
    place = [int(x) for x in torch.unravel_index(error.argmax(), error.shape)]
    at = tuple(place)
    wrong = int((error > tolerance * size).sum())
    raise AssertionError(
        f"{what} differs from the reference in {wrong} of {error.numel()} numbers, by up to {worst:.1e} of the largest "
        f"({tolerance:.0e} is allowed); worst at {place}: {float(got[at]):.6g}, expected {float(wanted[at]):.6g}"
    )


# -- the support test ----------------------------------------------------------------------------------------------


def check_support(
    attention: Attention, shape: Shape, device: str | torch.device, seed: int, given: Mapping[str, Any]
) -> None:
    """AssertionError where the kernels lose a pair, or keep one too many, forward or backward."""
    place = torch.device(device)
    plain = _without_score(attention)
    read = {table.name for table in plain._bound.tables}
    tables = _tables(plain, shape, FP32, place, {name: x for name, x in given.items() if name in read})
    drawn = _random(replace(shape, value_dim=32), FP32, place, seed)
    mask = plain.mask(shape.n, shape.rows, heads=shape.heads, q_start=shape.q_start, **tables).double()
    counts = mask.expand(shape.batch, shape.heads, shape.rows, shape.n)
    total = counts.sum(-1)
    v = (drawn.v > 0).float().requires_grad_()
    out, lse = plain(torch.zeros_like(drawn.q), drawn.k, v, q_start=shape.q_start, return_lse=True, **tables)
    grad_out = (drawn.grad_out > 0).float()
    (grad_v,) = torch.autograd.grad(out, v, grad_out)
    what = f"{attention.name} for {shape}"
    _whole(f"{what}: the number of kept pairs", lse.detach().double().exp().cpu(), total, "query")
    groups = shape.heads // v.shape[1]
    values = v.detach().double().cpu().repeat_interleave(groups, dim=1)
    _whole(f"{what}: the sum of kept values", out.detach().double().cpu() * total[..., None], counts @ values, "query")
    weights = counts / total.clamp(min=1)[..., None]
    each = weights.transpose(-1, -2) @ grad_out.double().cpu()  # for every query head
    exact = each.reshape(shape.batch, -1, groups, *each.shape[2:]).sum(2)
    most = max(float(total.max()) if total.numel() else 0.0, 1.0)
    _whole(f"{what}: the gradient of the values, times {most:.0f},", grad_v.double().cpu() * most, exact * most, "key")


def _without_score(attention: Attention) -> Attention:
    """The same mask without score and sink, with the tables that the mask reads."""
    bound = attention._bound
    read = {node.table for node in walk(bound.mask) if isinstance(node, (Entry, Member))}
    tables = tuple(table for table in bound.tables if table.name in read)
    return Attention(replace(bound, score=LOGIT, sink=None, tables=tables))


def _whole(what: str, found: Tensor, expected: Tensor, axis: str) -> None:
    wrong = ~((found - expected).abs() <= WHOLE)
    if not bool(wrong.any()):
        return
    batch, head, row = (int(x) for x in wrong.nonzero()[0][:3])
    at = tuple(int(x) for x in wrong.nonzero()[0])
    rows = wrong.flatten(3).any(-1).sum() if wrong.ndim > 3 else wrong.sum()
    raise AssertionError(
        f"{what} is {float(found[at]):.6g}, expected {float(expected[at]):.6g}, "
        f"at batch entry {batch}, head {head}, {axis} row {row}; {int(rows)} rows are wrong"
    )
