"""The same Program and Schedule, tile by tile in plain PyTorch: what CPU tensors run without a compiler.

Walks the schedule's rows of query tiles; each run of key tiles is one block of matrix products. Partial runs evaluate
the condition, full ones do not. Slower than the kernels, faster than the dense definition, and right on any device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..compiler.derive import derivative, reads
from ..compiler.evaluate import Environment, interpret
from ..compiler.ir import LOGIT, Const, Entry, Expr
from ..compiler.plan import FULL
from .arrays import TorchArrays, table_values
from .dropout import kept
from .launch import Gradients, Launch
from .launches import count

QUERY_TILE, KEY_TILE = 64, 64
_KEYS_AT_ONCE = 2048


@dataclass(frozen=True)
class _Rows:
    """One query tile of some batch entries and heads, and the blocks of keys that it visits."""

    batch: slice
    heads: slice
    rows: slice
    blocks: tuple[tuple[slice, bool], ...]  # keys, and whether every pair is kept once


def forward(launch: Launch) -> tuple[Tensor, Tensor]:
    """out ``[batch, heads, m, value_dim]`` in the dtype of q, and lse ``[batch, heads, m]`` in the compute dtype."""
    count("blocked.forward")
    dtype = launch.compute_dtype
    out = launch.q.new_zeros(*launch.q.shape[:3], launch.v.shape[3])
    lse = launch.q.new_full(launch.q.shape[:3], -torch.inf, dtype=dtype)
    for place in _places(launch):
        where = place.batch, place.heads, place.rows
        total, running = _online(launch, place)
        alive = (running > -torch.inf) | running.isnan()
        whole = running
        if launch.program.sink is not None:
            bound = _environment(launch, place, slice(0, 0))
            sink = _value(launch.program.sink, bound, (*running.shape, 1))[..., 0]
            whole = torch.where(alive, torch.logaddexp(running, sink), sink)
        out[where] = torch.where(alive[..., None], total * (running - whole).exp()[..., None], 0.0).to(out.dtype)
        lse[where] = whole
    return out, lse


def _online(launch: Launch, place: _Rows) -> tuple[Tensor, Tensor]:
    """The weighted mean of the values and the log-sum-exp of a tile's rows, without the sink."""
    q = launch.q[place.batch, place.heads, place.rows].to(launch.compute_dtype)
    greatest = q.new_full(q.shape[:3], -torch.inf)
    weight = torch.zeros_like(greatest)
    total = q.new_zeros(*q.shape[:3], launch.v.shape[3])
    for keys, full in place.blocks:
        bound = _environment(launch, place, keys)
        logit = _logit(launch, place, keys, q)
        score = _score(launch, bound, logit, full)
        new = torch.maximum(greatest, score.amax(-1))
        base = torch.where(new == -torch.inf, 0.0, new)
        p = (score - base[..., None]).exp()
        shrink = (greatest - base).exp()
        weight = weight * shrink + p.sum(-1)
        if launch.dropout:
            p = p * _kept(launch, bound)
        total = total * shrink[..., None] + p @ _heads_of(launch, launch.v, place, keys)
        greatest = new
    alive = weight != 0
    mean = torch.where(alive[..., None], total / torch.where(alive, weight, 1.0)[..., None], 0.0)
    return mean, torch.where(alive, greatest + weight.log(), -torch.inf)


def backward(launch: Launch, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None) -> Gradients:
    """The gradients of q, k, v and the float tables, given what :func:`forward` returned."""
    count("blocked.backward")
    dtype = launch.compute_dtype
    dq, dk, dv = (torch.zeros(x.shape, dtype=dtype, device=x.device) for x in (launch.q, launch.k, launch.v))
    tables = tuple(
        torch.zeros_like(argument.tensor) if table.element == "float" else None
        for table, argument in zip(launch.program.tables, launch.tables, strict=True)
    )
    slope = derivative(launch.program.score, LOGIT)
    entries = tuple((entry, derivative(launch.program.score, entry)) for entry in reads(launch.program.score))
    for place in _places(launch):
        where = place.batch, place.heads, place.rows
        q, dO = (x[where].to(dtype) for x in (launch.q, grad_out))
        delta = (dO * out[where].to(dtype)).sum(-1)
        if grad_lse is not None:
            delta = delta - grad_lse[where]
        negative = torch.where(lse[where] == -torch.inf, torch.inf, lse[where])
        for keys, full in place.blocks:
            bound = _environment(launch, place, keys)
            logit = _logit(launch, place, keys, q)
            p = (_score(launch, bound, logit, full) - negative[..., None]).exp()
            stay = _kept(launch, bound) if launch.dropout else 1.0
            dP = dO @ _heads_of(launch, launch.v, place, keys).transpose(-1, -2) * stay
            dS = torch.where(p == 0, 0.0, p * (dP - delta[..., None]))
            with_logit = _with_logit(bound, logit)
            for entry, its in entries:
                _accumulate(tables, entry, _product(dS, its, with_logit), with_logit)
            dL = _product(dS, slope, with_logit) * launch.scale[place.heads, None, None]
            dq[where] += dL @ _heads_of(launch, launch.k, place, keys)
            _add_heads(launch, dk, place, keys, dL.transpose(-1, -2) @ q)
            _add_heads(launch, dv, place, keys, (p * stay).transpose(-1, -2) @ dO)
        if launch.program.sink is not None:
            _sink_gradients(launch, tables, place, lse[where], delta)
    dtypes = (launch.q.dtype, launch.k.dtype, launch.v.dtype)
    dq, dk, dv = (x.to(kind) for x, kind in zip((dq, dk, dv), dtypes, strict=True))
    return Gradients(dq, dk, dv, tables)


def _sink_gradients(
    launch: Launch, tables: tuple[Tensor | None, ...], place: _Rows, lse: Tensor, delta: Tensor
) -> None:
    sink = launch.program.sink
    assert sink is not None
    bound = _environment(launch, place, slice(0, 0))
    value = _value(sink, bound, (*lse.shape, 1))[..., 0]
    slope = -torch.where(value == -torch.inf, 0.0, (value - lse).exp()) * delta
    for entry in reads(sink):
        _accumulate(tables, entry, _product(slope[..., None], derivative(sink, entry), bound), bound)


def _places(launch: Launch) -> Iterator[_Rows]:
    """Every query tile that has rows, with its runs as slices of at most so many keys."""
    plan = launch.schedule
    batch, heads = launch.q.shape[:2]
    if not batch or not heads:
        return
    runs = plan.by_query
    row = 0
    for batch_slot in range(plan.batch_slots):
        entries = slice(batch_slot, batch_slot + 1) if plan.batch_slots > 1 else slice(0, batch)
        for head_slot in range(plan.head_slots):
            group = slice(head_slot, head_slot + 1) if plan.head_slots > 1 else slice(0, heads)
            for tile in range(plan.query_tiles):
                rows = slice(tile * plan.query_tile, min(plan.m, (tile + 1) * plan.query_tile))
                blocks = tuple(
                    block
                    for run in range(runs.pointer[row], runs.pointer[row + 1])
                    for block in _blocks(launch, int(runs.start[run]), int(runs.length[run]), int(runs.kind[run]))
                )
                yield _Rows(entries, group, rows, blocks)
                row += 1


def _blocks(launch: Launch, start: int, length: int, kind: int) -> Iterator[tuple[slice, bool]]:
    tile = launch.schedule.key_tile
    end = min(launch.schedule.n, (start + length) * tile)
    for first in range(start * tile, end, _KEYS_AT_ONCE):
        yield slice(first, min(end, first + _KEYS_AT_ONCE)), kind == FULL


def _environment(launch: Launch, place: _Rows, keys: slice) -> Environment:
    """Positions and tables of one block. Nothing counts as reached, so a read outside its table is 0, not an error."""
    device = launch.q.device
    arrays = TorchArrays(launch.compute_dtype, device)
    batch = torch.arange(launch.q.shape[0], device=device)[place.batch].reshape(-1, 1, 1, 1)
    heads = torch.arange(launch.q.shape[1], device=device)[place.heads].reshape(1, -1, 1, 1)
    rows = torch.arange(place.rows.start, place.rows.stop, device=device).reshape(1, 1, -1, 1)
    q_start = launch.q_start if len(launch.q_start) == 1 else launch.q_start[place.batch]
    q_start = q_start.reshape(-1, 1, 1, 1)
    positions = {
        "q": q_start + rows,
        "k": torch.arange(keys.start, keys.stop, device=device).reshape(1, 1, 1, -1),
        "head": heads,
        "n": arrays.constant(launch.schedule.n),
        "heads": arrays.constant(launch.q.shape[1]),
        "head_dim": arrays.constant(launch.q.shape[3]),
    }
    tables = {
        str(number): table_values(table, argument)
        for number, (table, argument) in enumerate(zip(launch.program.tables, launch.tables, strict=True))
    }
    return Environment(arrays, positions, q_start, batch, tables, reached=arrays.constant(False))


def _with_logit(bound: Environment, logit: Tensor) -> Environment:
    return Environment(**{**vars(bound), "logit": logit})


def _value(expr: Expr, bound: Environment, shape: tuple[int, ...]) -> Tensor:
    value: Tensor = interpret(expr, bound)
    return value.expand(shape)


def _logit(launch: Launch, place: _Rows, keys: slice, q: Tensor) -> Tensor:
    k = _heads_of(launch, launch.k, place, keys)
    return q @ k.transpose(-1, -2) * launch.scale[place.heads, None, None]


def _score(launch: Launch, bound: Environment, logit: Tensor, full: bool) -> Tensor:
    """The score and the logarithm of the count; -inf for pairs that are not kept."""
    score = logit
    if launch.program.score != LOGIT:
        score = _value(launch.program.score, _with_logit(bound, logit), logit.shape)
    if full:
        return score
    condition = launch.program.kernels[0].segments[0].condition
    keep = _value(condition, bound, logit.shape)
    if launch.program.counted:
        score = score + keep.clamp(min=1).to(score.dtype).log()
        keep = keep > 0
    return torch.where(keep, score, -torch.inf)


def _kept(launch: Launch, bound: Environment) -> Tensor:
    """What the probabilities of a block are multiplied by: 0, or the inverse of the chance to stay."""
    at: Any = bound.positions
    stay = kept(launch.dropout, launch.seed, bound.batch, at["head"], at["q"], at["k"])
    return stay.to(launch.compute_dtype) / (1 - launch.dropout)


def _key_heads(launch: Launch, place: _Rows) -> Tensor:
    """The key head of each query head of a tile."""
    group = launch.q.shape[1] // launch.k.shape[1]
    return torch.arange(launch.q.shape[1], device=launch.q.device)[place.heads] // group


def _heads_of(launch: Launch, x: Tensor, place: _Rows, keys: slice) -> Tensor:
    """Keys or values of a block as each query head reads them, in the compute dtype."""
    part = x[place.batch, :, keys].to(launch.compute_dtype)
    plain = place.heads.stop - place.heads.start == x.shape[1]  # every head, each with keys of its own
    return part if plain else part[:, _key_heads(launch, place)]


def _add_heads(launch: Launch, total: Tensor, place: _Rows, keys: slice, part: Tensor) -> None:
    """Adds what each query head contributes to its key head."""
    total[place.batch, :, keys].index_add_(1, _key_heads(launch, place), part)


def _product(gradient: Tensor, slope: Expr, bound: Environment) -> Tensor:
    """The gradient times a derivative; 0 where the gradient is, whatever the derivative is there."""
    if slope == Const(1.0):
        return gradient
    return torch.where(gradient == 0, 0.0, gradient * interpret(slope, bound))


def _accumulate(tables: tuple[Tensor | None, ...], entry: Entry, gradient: Tensor, bound: Environment) -> None:
    """Adds the gradient of each pair to the entry of the table that it read."""
    total = tables[int(entry.table)]
    assert total is not None
    held = bound.tables[entry.table]
    places = [interpret(index, bound) for index in entry.indices]
    for axis, index in enumerate(places):
        if held.table.dimensions[axis].kind == "query":
            places[axis] = index - bound.q_start
    if held.batched:
        places.insert(0, bound.batch)
    if not places:
        total += gradient.sum()
        return
    shape = torch.Size(max(sizes) for sizes in zip(*(place.shape for place in places), strict=True))
    gradient = gradient.sum_to_size(shape)
    inside = torch.ones(shape, dtype=torch.bool, device=total.device)
    for place, size in zip(places, total.shape, strict=True):
        inside = inside & (place >= 0) & (place < size)
    chosen = inside.expand(shape).nonzero(as_tuple=True)
    flat = tuple(place.expand(shape)[chosen] for place in places)
    total.index_put_(flat, gradient[chosen], accumulate=True)
