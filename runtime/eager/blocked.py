"""Runs a Program and its Schedule tile by tile in plain PyTorch, for CPU tensors without a compiler, or on any device.

Walks the query tiles of every kernel; each run of key tiles is one block of matrix products, gathered where its keys
are not neighbours. Partial runs evaluate the condition, full ones do not. Slower than the kernels, faster than the
dense definition. Where an input holds NaN or infinity, products leave out the pairs that are not kept
(:mod:`runtime.eager.products`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...compiler.ir import LOGIT, Const, Entry, Expr, derivative, reads
from ...compiler.oracle import Environment, interpret
from ...compiler.plan import FULL, Kernel, KernelSchedule
from ...compiler.schedule import Slot, Walked, slot_counts, visits
from ..base import ALL_WANTED, Gradients, Launch, Wanted, count, kept
from .products import plain_sums
from .torch_arrays import TorchArrays, table_values

_KEYS_AT_ONCE = 2048

_Places = slice | Tensor  # positions along one dimension: a slice where they are neighbours


@dataclass(frozen=True)
class _Block:
    """Keys that are computed at once, and the condition that tests their pairs; None where every pair is kept, once.

    ``keys`` are positions, ``rows`` where k and v hold them.
    """

    keys: _Places
    rows: _Places
    condition: Expr | None


class _Group(NamedTuple):
    """Batch entries and heads that share their runs of tiles; ``slot`` is that of the first."""

    slot: Slot
    batch: slice
    heads: slice


@dataclass(frozen=True)
class _Rows:
    """One query tile of a kernel, for some batch entries and heads, and the blocks of keys that it visits."""

    kernel: Kernel
    batch: slice
    heads: slice
    rows: _Places
    blocks: tuple[_Block, ...]

    def of(self, x: Tensor) -> Tensor:
        """The tile's rows of a tensor ``[batch, heads, m, …]``."""
        return x[self.batch, self.heads][:, :, self.rows]

    def put(self, x: Tensor, rows: Tensor) -> None:
        x[self.batch, self.heads][:, :, self.rows] = rows

    def add(self, x: Tensor, rows: Tensor) -> None:
        x[self.batch, self.heads][:, :, self.rows] += rows


def forward(launch: Launch) -> tuple[Tensor, Tensor]:
    """out ``[batch, heads, m, value_dim]`` in the dtype of q, and lse ``[batch, heads, m]`` in the compute dtype."""
    count("blocked.forward")
    dtype = launch.compute_dtype
    out = launch.q.new_zeros(*launch.q.shape[:3], launch.v.shape[3], dtype=dtype)
    lse = launch.q.new_full(launch.q.shape[:3], -torch.inf, dtype=dtype)
    finite = _all_finite(launch.v)
    for place in _places(launch):
        mean, own = _online(launch, place, finite)
        if place.kernel.output == "merge":
            before = place.of(out), place.of(lse)
        elif launch.program.sink is not None:  # the sink is merged like a key whose value is 0
            sink = _value(launch.program.sink, _environment(launch, place, slice(0, 0)), (*own.shape, 1))[..., 0]
            before = torch.zeros_like(mean), sink
        else:
            before = torch.zeros_like(mean), torch.full_like(own, -torch.inf)
        mean, own = _merged(before, (mean, own))
        place.put(out, mean)
        place.put(lse, own)
    return out.to(launch.q.dtype), lse


def _merged(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Combines weighted means and log-sum-exps of two disjoint sets of keys, either of which may be empty."""
    lse = torch.logaddexp(first[1], second[1])
    (mean, own), (other, its) = first, second
    both = _share(own, lse)[..., None] * mean + _share(its, lse)[..., None] * other
    return torch.where((its == -torch.inf)[..., None], mean, both), torch.where(its == -torch.inf, own, lse)


def _share(part: Tensor, lse: Tensor) -> Tensor:
    """``exp(part - lse)``, a part's share in a sum of exponentials: 0 for -inf, 1 where both are inf or both NaN."""
    same = (part == lse) | (part.isnan() & lse.isnan())
    return torch.where(part == -torch.inf, 0.0, torch.where(same, 1.0, (part - lse).exp()))


def _all_finite(*tensors: Tensor) -> bool:
    return all(bool(x.isfinite().all()) for x in tensors)


def _online(launch: Launch, place: _Rows, finite: bool) -> tuple[Tensor, Tensor]:
    """The weighted mean of the values, and the log-sum-exp, of a tile's rows, by the online softmax over its blocks.

    0 and -inf for rows that keep nothing or that the kernel does not own. ``finite``: whether all values are finite.
    """
    q = place.of(launch.q).to(launch.compute_dtype)
    greatest = q.new_full(q.shape[:3], -torch.inf)
    weight = torch.zeros_like(greatest)
    total = q.new_zeros(*q.shape[:3], launch.v.shape[3])
    for block in place.blocks:
        bound = _environment(launch, place, block.keys)
        logit = _logit(launch, place, block.rows, q)
        score, keep = _score(launch, bound, logit, block.condition)
        new = torch.maximum(greatest, score.amax(-1))
        base = torch.where(new == -torch.inf, 0.0, new)
        p = (score - base[..., None]).exp()
        shrink = (greatest - base).exp()
        weight = weight * shrink + p.sum(-1)
        if launch.dropout:
            p = p * _kept(launch, bound)
        values = _heads_of(launch, launch.v, place, block.rows)
        part = p @ values if finite else plain_sums(p, values, keep.expand(p.shape))
        total = total * shrink[..., None] + part
        greatest = new
    alive = (weight != 0) & _owned(launch, place)
    mean = torch.where(alive[..., None], total / torch.where(alive, weight, 1.0)[..., None], 0.0)
    return mean, torch.where(alive, greatest + weight.log(), -torch.inf)


def backward(
    launch: Launch, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None, wanted: Wanted = ALL_WANTED
) -> Gradients:
    """The gradients of q, k, v and the float tables that are wanted, given what :func:`forward` returned."""
    count("blocked.backward")
    dtype = launch.compute_dtype
    inputs = (launch.q, wanted.q), (launch.k, wanted.k), (launch.v, wanted.v)
    dq, dk, dv = (torch.zeros(x.shape, dtype=dtype, device=x.device) if its else None for x, its in inputs)
    pairs = zip(launch.program.tables, launch.tables, strict=True)
    tables = tuple(
        torch.zeros_like(argument.tensor) if table.element == "float" and wanted.table(number) else None
        for number, (table, argument) in enumerate(pairs)
    )
    moves = wanted.q or wanted.k or any(table is not None for table in tables)
    slope = derivative(launch.program.score, LOGIT)
    read = [entry for entry in reads(launch.program.score) if tables[int(entry.table)] is not None]
    entries = tuple((entry, derivative(launch.program.score, entry)) for entry in read)
    # Rows that keep nothing have output 0, and their gradient is ignored, even if it is NaN.
    deltas = torch.where(out == 0, 0.0, grad_out.to(dtype) * out.to(dtype)).sum(-1)
    if grad_lse is not None:
        deltas = deltas - grad_lse
    finite = _all_finite(launch.q, launch.k, launch.v, grad_out)
    scale = torch.where(launch.scale.isfinite(), launch.scale, 1.0)  # with others probabilities are NaN or 0 anyway
    for place in _places(launch):
        q, dO = (place.of(x).to(dtype) for x in (launch.q, grad_out))
        its, delta = place.of(lse), place.of(deltas)
        dead = (its == -torch.inf) | ~_owned(launch, place)
        negative = torch.where(dead, torch.inf, its)
        for block in place.blocks:
            bound = _environment(launch, place, block.keys)
            logit = _logit(launch, place, block.rows, q)
            score, keep = _score(launch, bound, logit, block.condition)
            keep = (keep & ~dead[..., None]).expand(score.shape)
            p = torch.where(keep, (score - negative[..., None]).exp(), 0.0)
            stay = _kept(launch, bound) if launch.dropout else 1.0
            product = _matrix_product if finite else plain_sums
            keep_by_key = keep.transpose(-1, -2)
            if dv is not None:
                _add_heads(launch, dv, place, block.rows, product((p * stay).transpose(-1, -2), dO, keep_by_key))
            if not moves:
                continue
            dP = dO @ _heads_of(launch, launch.v, place, block.rows).transpose(-1, -2) * stay
            dS = torch.where(p == 0, 0.0, p * (dP - delta[..., None]))
            with_logit = _with_logit(bound, logit)
            for entry, change in entries:
                _accumulate(tables, entry, _product(dS, change, with_logit), with_logit)
            dL = _product(dS, slope, with_logit) * scale[place.heads, None, None]
            if dq is not None:
                place.add(dq, product(dL, _heads_of(launch, launch.k, place, block.rows), keep))
            if dk is not None:
                _add_heads(launch, dk, place, block.rows, product(dL.transpose(-1, -2), q, keep_by_key))
        if launch.program.sink is not None and place.kernel.output == "store":
            _sink_gradients(launch, tables, place, its, delta)
    dq, dk, dv = (None if x is None else x.to(launch.q.dtype) for x in (dq, dk, dv))
    return Gradients(dq, dk, dv, tables)


def _matrix_product(weights: Tensor, rows: Tensor, _: Tensor) -> Tensor:
    """:func:`.products.plain_sums` for finite inputs, where pairs that are not kept already have the weight 0."""
    return weights @ rows


def _sink_gradients(
    launch: Launch, tables: tuple[Tensor | None, ...], place: _Rows, lse: Tensor, delta: Tensor
) -> None:
    sink = launch.program.sink
    assert sink is not None
    bound = _environment(launch, place, slice(0, 0))
    value = _value(sink, bound, (*lse.shape, 1))[..., 0]
    slope = -_share(value, lse) * delta
    for entry in reads(sink):
        _accumulate(tables, entry, _product(slope[..., None], derivative(sink, entry), bound), bound)


def _places(launch: Launch) -> Iterator[_Rows]:
    """Yields every query tile that has rows, kernel by kernel, with the blocks of keys that it visits."""
    batch = launch.q.shape[0]
    if not batch or not launch.q.shape[1]:
        return
    for kernel, its in zip(launch.program.kernels, launch.schedule.kernels, strict=True):
        batch_slots, head_slots = slot_counts(its)
        apart = batch_slots > 1 or (launch.k_start is not None and len(launch.k_start) > 1)
        entries = [slice(entry, entry + 1) for entry in range(batch)] if apart else [slice(0, batch)]
        for part in entries:
            for place, heads in _head_groups(launch, kernel, head_slots > 1):
                yield from _tiles(launch, kernel, its, _Group(Slot(part.start, place), part, heads))


def _head_groups(launch: Launch, kernel: Kernel, apart: bool) -> list[tuple[int, slice]]:
    """Groups of neighbouring heads that share their tiles: the index of each group's first head among the kernel's
    heads, and the heads as a slice.
    """
    heads = tuple(range(launch.q.shape[1])) if kernel.heads is None else kernel.heads
    if heads and not apart and heads == tuple(range(heads[0], heads[0] + len(heads))):
        return [(0, slice(heads[0], heads[0] + len(heads)))]
    return [(place, slice(head, head + 1)) for place, head in enumerate(heads)]


def _tiles(launch: Launch, kernel: Kernel, its: KernelSchedule, group: _Group) -> Iterator[_Rows]:
    """Yields the query tiles that have rows, for one group of batch entries and heads."""
    device = launch.q.device
    origin = _first_key(launch, group)
    rows = Walked(kernel.rows, its.rows, launch.schedule.m)
    for tile in range(rows.tiles.total):
        tokens = rows.held(tile, tile + 1, group.slot)
        if not len(tokens):
            continue
        blocks: list[_Block] = []
        for segment, bounds in zip(kernel.segments, its.segments, strict=True):
            keys = Walked(segment.keys, bounds.keys, launch.schedule.n)
            for first, last, kind in visits(bounds.by_query, group.slot, tile, rows.tiles, keys.tiles):
                condition = None if kind == FULL else segment.condition
                step = max(1, _KEYS_AT_ONCE // segment.keys.tile)
                for start in range(first, last, step):
                    held = keys.held(start, min(start + step, last), group.slot)
                    if launch.k_start is not None:
                        held = held[(held >= origin) & (held < origin + launch.k.shape[2])]
                    if len(held):
                        blocks.append(_Block(_positions(held, device), _positions(held - origin, device), condition))
        yield _Rows(kernel, group.batch, group.heads, _positions(tokens, device), tuple(blocks))


def _first_key(launch: Launch, group: _Group) -> int:
    """The position of the first key row, which the entries of a group share."""
    if launch.k_start is None:
        return 0
    return int(launch.k_start[group.slot.batch if len(launch.k_start) > 1 else 0])


def _positions(tokens: NDArray[np.int64], device: torch.device) -> _Places:
    first, last = int(tokens[0]), int(tokens[-1])
    if last - first + 1 == len(tokens) and bool((np.diff(tokens) == 1).all()):
        return slice(first, last + 1)
    return torch.from_numpy(tokens).to(device)


def _numbers(places: _Places, device: torch.device) -> Tensor:
    return torch.arange(places.start, places.stop, device=device) if isinstance(places, slice) else places


def _owned(launch: Launch, place: _Rows) -> Tensor:
    """Which of a tile's rows the kernel owns: bool, broadcasts to ``[batch, heads, rows]``."""
    bound = _environment(launch, place, slice(0, 0))
    owned: Tensor = interpret(place.kernel.owned_rows, bound)[..., 0]
    return owned


def _environment(launch: Launch, place: _Rows, keys: _Places) -> Environment:
    """The positions and tables of one block, as the interpreter of expressions reads them.

    No read is checked (``reached`` is false), so that an index outside its table reads 0 instead of raising.
    """
    device = launch.q.device
    arrays = TorchArrays(launch.compute_dtype, device)
    batch = torch.arange(launch.q.shape[0], device=device)[place.batch].reshape(-1, 1, 1, 1)
    heads = torch.arange(launch.q.shape[1], device=device)[place.heads].reshape(1, -1, 1, 1)
    q_start = launch.q_start if len(launch.q_start) == 1 else launch.q_start[place.batch]
    q_start = q_start.reshape(-1, 1, 1, 1)
    positions = {
        "q": q_start + _numbers(place.rows, device).reshape(1, 1, -1, 1),
        "k": _numbers(keys, device).reshape(1, 1, 1, -1),
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


def _logit(launch: Launch, place: _Rows, keys: _Places, q: Tensor) -> Tensor:
    k = _heads_of(launch, launch.k, place, keys)
    return q @ k.transpose(-1, -2) * launch.scale[place.heads, None, None]


def _score(launch: Launch, bound: Environment, logit: Tensor, condition: Expr | None) -> tuple[Tensor, Tensor]:
    """The score plus the logarithm of the count, -inf for pairs that are not kept; and which pairs are, bool,
    broadcasts.
    """
    score = logit
    if launch.program.score != LOGIT:
        score = _value(launch.program.score, _with_logit(bound, logit), logit.shape)
    if condition is None:
        return score, torch.ones(1, dtype=torch.bool, device=logit.device)
    keep = _value(condition, bound, logit.shape)
    if condition.type == "count":
        score = score + keep.clamp(min=1).to(score.dtype).log()
        keep = keep > 0
    return torch.where(keep, score, -torch.inf), keep


def _kept(launch: Launch, bound: Environment) -> Tensor:
    """The factors of a block's probabilities under dropout: 0, or the inverse of the probability to stay."""
    at: Any = bound.positions
    stay = kept(launch.dropout, launch.seed, bound.batch, at["head"], at["q"], at["k"])
    return stay.to(launch.compute_dtype) / (1 - launch.dropout)


def _key_heads(launch: Launch, place: _Rows) -> Tensor:
    """The key head that each query head of a tile reads."""
    group = launch.q.shape[1] // launch.k.shape[1]
    return torch.arange(launch.q.shape[1], device=launch.q.device)[place.heads] // group


def _heads_of(launch: Launch, x: Tensor, place: _Rows, keys: _Places) -> Tensor:
    """A block's keys or values, once per query head that reads them, in the compute dtype."""
    if launch.q.shape[1] == x.shape[1]:
        return x[place.batch, place.heads][:, :, keys].to(launch.compute_dtype)
    return x[place.batch][:, :, keys].to(launch.compute_dtype)[:, _key_heads(launch, place)]


def _add_heads(launch: Launch, total: Tensor, place: _Rows, keys: _Places, part: Tensor) -> None:
    """Adds each query head's contribution to the gradient of its key head."""
    sums = part.new_zeros(part.shape[0], total.shape[1], *part.shape[2:])
    total[place.batch][:, :, keys] += sums.index_add_(1, _key_heads(launch, place), part)


def _product(gradient: Tensor, slope: Expr, bound: Environment) -> Tensor:
    """The gradient times a derivative; 0 where the gradient is 0, even if the derivative is NaN or infinite there."""
    if slope == Const(1.0):
        return gradient
    return torch.where(gradient == 0, 0.0, gradient * interpret(slope, bound))


def _accumulate(tables: tuple[Tensor | None, ...], entry: Entry, gradient: Tensor, bound: Environment) -> None:
    """Adds each pair's gradient to the table entry that the pair read."""
    total = tables[int(entry.table)]
    if total is None:
        return
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
