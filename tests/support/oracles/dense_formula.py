"""Attention by its definition, densely and in float64 with autograd: what the kernels' tests compare with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from attnc.compiler.ir.attentions import Table
from attnc.compiler.ir.constructors import rename_tables
from attnc.compiler.ir.expressions import LOGIT, Expr
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.ir.operations import murmur
from attnc.compiler.plan.orders import FULL, PARTIAL, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from attnc.compiler.plan.schedule import Bounds, KernelSchedule, Runs, Schedule, SegmentSchedule
from attnc.runtime.base.launch import Launch, TableArgument
from tests.support.oracles.brute import brute_schedule


@dataclass(frozen=True)
class Grid:
    """Positions of every pair, each broadcastable to ``[batch, heads, m, n]``."""

    q: Tensor
    k: Tensor
    head: Tensor
    batch: Tensor
    n: int
    heads: int
    start: Tensor


Tables = Mapping[str, Tensor]  # [batch or 1, dimensions…]
Mask = Callable[[Grid, Tables], Tensor]
Score = Callable[[Tensor, Grid, Tables], Tensor]
Sink = Callable[[Grid, Tables], Tensor]


@dataclass(frozen=True)
class Pattern:
    """A pattern twice: as the compiler's expressions, and as functions of the whole grid."""

    mask: Expr
    keeps: Mask
    score: Expr = LOGIT
    scores: Score | None = None
    sink: Expr | None = None
    sinks: Sink | None = None
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Shape:
    """The sizes of one call."""

    m: int
    n: int
    batch: int = 1
    heads: int = 1
    kv_heads: int = 1
    head_dim: int = 8
    value_dim: int = 8
    starts: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Result:
    out: Tensor
    lse: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    tables: dict[str, Tensor] = field(default_factory=dict)


def grid(shape: Shape) -> Grid:
    start = torch.tensor(shape.starts).view(-1, 1, 1, 1)
    return Grid(
        q=torch.arange(shape.m).view(1, 1, -1, 1) + start,
        k=torch.arange(shape.n).view(1, 1, 1, -1),
        head=torch.arange(shape.heads).view(1, -1, 1, 1),
        batch=torch.arange(shape.batch).view(-1, 1, 1, 1),
        n=shape.n,
        heads=shape.heads,
        start=start,
    )


def counts(pattern: Pattern, shape: Shape, tables: Tables) -> Tensor:
    """How often each pair counts, ``[batch, heads, m, n]``."""
    found = pattern.keeps(grid(shape), tables)
    return found.long().expand(shape.batch, shape.heads, shape.m, shape.n)


def dropped(shape: Shape, probability: float, seed: int) -> Tensor:
    """The factor of every probability under dropout."""
    factors = np.zeros((shape.batch, shape.heads, shape.m, shape.n))
    starts = shape.starts * (shape.batch if len(shape.starts) == 1 else 1)
    for batch, head, i, j in np.ndindex(*factors.shape):
        dice = murmur((seed & 0xFFFFFFFF, seed >> 32, batch, head, i + starts[batch], j))
        factors[batch, head, i, j] = 0 if dice < round(probability * 2**31) else 1 / (1 - probability)
    return torch.from_numpy(factors)


def attention(
    pattern: Pattern, shape: Shape, qkv: Sequence[Tensor], tables: Tables, scale: Tensor, grads: Sequence[Tensor],
    dropout: float = 0.0, seed: int = 0,
) -> Result:  # fmt: skip
    """Outputs and all gradients for the gradients of output and log-sum-exp, by the formula, in float64."""
    q, k, v = (x.detach().double().requires_grad_() for x in qkv)
    learned = {
        name: x.detach().double().requires_grad_() if x.dtype.is_floating_point else x for name, x in tables.items()
    }
    group = shape.heads // max(1, shape.kv_heads)
    logits = q @ k.repeat_interleave(group, 1).transpose(-1, -2) * scale.double().view(1, -1, 1, 1)
    positions = grid(shape)
    score = logits if pattern.scores is None else pattern.scores(logits, positions, learned)
    count = counts(pattern, shape, tables)
    weight = torch.where(count > 0, score, -torch.inf)
    sink = torch.full((1, 1, 1, 1), -torch.inf, dtype=torch.float64)
    if pattern.sinks is not None:
        sink = pattern.sinks(positions, learned)
    sink = sink.expand(shape.batch, shape.heads, shape.m, 1)
    everything = torch.cat([weight + count.clamp(min=1).double().log(), sink], -1)
    empty = (everything == -torch.inf).all(-1, keepdim=True)
    lse = torch.where(empty, 0.0, everything).logsumexp(-1, keepdim=True).masked_fill(empty, 0.0)
    probability = torch.where(count > 0, count * (torch.where(count > 0, score, 0.0) - lse).exp(), 0.0)
    if dropout:
        probability = probability * dropped(shape, dropout, seed)
    out = probability @ v.repeat_interleave(group, 1)
    wanted = [q, k, v, *(x for x in learned.values() if x.dtype.is_floating_point)]
    finite_lse = torch.where(empty, 0.0, lse)[..., 0]
    loss = (out * grads[0].double()).sum() + (finite_lse * torch.where(empty[..., 0], 0.0, grads[1].double())).sum()
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    zeroed = [torch.zeros_like(x) if g is None else g for x, g in zip(wanted, found, strict=True)]
    names = [name for name, x in learned.items() if x.dtype.is_floating_point]
    return Result(
        out.detach(), lse.masked_fill(empty, -torch.inf)[..., 0].detach(), *zeroed[:3],
        tables=dict(zip(names, zeroed[3:], strict=True)),
    )  # fmt: skip


def runs(kinds: np.ndarray) -> Runs:
    """Rows of runs of equal kinds, ``kinds`` being ``[rows, tiles]``."""
    pointer, start, length, kind = [0], [], [], []
    for row in kinds:
        t = 0
        while t < len(row):
            end = t + 1
            while end < len(row) and row[end] == row[t]:
                end += 1
            if row[t]:
                start.append(t)
                length.append(end - t)
                kind.append(row[t])
            t = end
        pointer.append(len(start))
    return Runs(
        np.array(pointer, np.int64), np.array(start, np.int32), np.array(length, np.int32), np.array(kind, np.uint8)
    )


def planned(count: Tensor, query_tile: int, key_tile: int, all_partial: bool = False) -> Schedule:
    """A schedule by looking at every pair. With ``all_partial`` full tiles are called partial, which is as right."""
    whole = count.numpy()
    batch, heads, m, n = whole.shape
    query_tiles, key_tiles = -(-m // query_tile), -(-n // key_tile)
    kinds = np.zeros((batch, heads, query_tiles, key_tiles), np.uint8)
    for b, h, i, j in np.ndindex(*kinds.shape):
        tile = whole[b, h, i * query_tile : (i + 1) * query_tile, j * key_tile : (j + 1) * key_tile]
        kinds[b, h, i, j] = 0 if not tile.any() else FULL if (tile == 1).all() and not all_partial else PARTIAL
    batch_slots = 1 if batch and (kinds == kinds[:1]).all() else max(1, batch)
    head_slots = 1 if heads and (kinds == kinds[:, :1]).all() else max(1, heads)
    kinds = kinds[:batch_slots, :head_slots]
    by_query = kinds.reshape(-1, key_tiles) if key_tiles else np.zeros((batch_slots * head_slots * query_tiles, 0))
    by_key = kinds.swapaxes(-1, -2).reshape(-1, query_tiles) if query_tiles else np.zeros((0, 0))
    bounds = (
        Bounds(max(1, tiles), 0, False, batch_slots, head_slots, runs(rows))
        for tiles, rows in ((query_tiles, by_query), (key_tiles, by_key))
    )
    return Schedule(n, m, (KernelSchedule((SegmentSchedule(*bounds),)),))


def natural_program(pattern: Pattern, tiles: tuple[int, int]) -> Program:
    """One kernel in natural order, the whole mask its condition."""
    mask, score, sink = named(pattern)
    segment = Segment(natural(tiles[1]), mask)
    return Program((Kernel(natural(tiles[0]), (segment,), "store"),), mask, score, sink, pattern.tables)


def named(pattern: Pattern) -> tuple[Expr, Expr, Expr | None]:
    """Mask, score and sink with tables named by their places."""
    numbers = {table.name: str(number) for number, table in enumerate(pattern.tables)}
    sink = None if pattern.sink is None else rename_tables(pattern.sink, numbers)
    return rename_tables(pattern.mask, numbers), rename_tables(pattern.score, numbers), sink


def forced(program: Program, pattern: Pattern, shape: Shape, tables: Tables) -> Schedule:
    """The schedule of a program in any orders, by looking at every pair."""
    contents = []
    for table in pattern.tables:
        batched = tables[table.name].shape[0] > 1
        contents.append(HostTable(tables[table.name][slice(None) if batched else 0].numpy(), batched=batched))
    return brute_schedule(program, CallShape(shape.n, shape.m, shape.heads, shape.starts), contents)


def launch(
    pattern: Pattern, shape: Shape, qkv: Sequence[Tensor], tables: Tables, scale: Tensor, *,
    tiles: tuple[int, int] = (16, 16), dropout: float = 0.0, seed: int = 0, wide: bool = False,
    all_partial: bool = False, program: Program | None = None,
) -> Launch:  # fmt: skip
    """The checked call that the kernels take. Tables are given as ``[batch or 1, dimensions…]``; 1 is no batch.

    ``program``: in other orders than the natural one.
    """
    if program is None:
        program = natural_program(pattern, tiles)
        schedule = planned(counts(pattern, shape, tables), *tiles, all_partial=all_partial)
    else:
        schedule = forced(program, pattern, shape, tables)
    compute = torch.float64 if qkv[0].dtype == torch.float64 else torch.float32
    positions = torch.int64 if wide else torch.int32
    arguments = []
    for table in pattern.tables:
        held = tables[table.name]
        dtype = compute if held.dtype.is_floating_point else torch.uint8 if held.dtype == torch.bool else positions
        batched = held.shape[0] > 1
        arguments.append(TableArgument((held if batched else held[0]).to(dtype).contiguous(), batched))
    return Launch(
        program=program, schedule=schedule, q=qkv[0], k=qkv[1], v=qkv[2], tables=tuple(arguments),
        scale=scale.to(compute), q_start=torch.tensor(shape.starts), wide=wide, dropout=dropout, seed=seed,
    )  # fmt: skip
