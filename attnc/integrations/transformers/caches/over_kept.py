"""Attention over the keys that a cache has kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from math import lcm
from typing import Any

import torch
from torch import Tensor

from .... import merge
from ....attention import Attention
from ....compiler import ir
from ....compiler.analysis import Reach, restricted, shift_divisor
from .layer import HeldKeys, held_keys, plain_keys
from .slots import Run


def attend(
    attention: Attention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tables: Mapping[str, Any],
    *,
    q_start: int | Tensor,
    **given: Any,
) -> Tensor:
    """The attention's call ``[batch, heads, m, value_dim]``, where ``k`` and ``v`` may be what a cache has kept.

    ``tables`` with a dimension of tokens have all positions, and ``q_start`` counts them. The layer of the cache is
    told what ran.
    """
    held = held_keys(k)
    if held is None:
        out = attention(q, k, v, q_start=q_start, **given, **tables)
    else:
        out = _over_kept(attention, q, k, v, held, tables, q_start, given)
    assert isinstance(out, Tensor)
    return out


@torch.compiler.disable  # type: ignore[untyped-decorator] # which positions are kept is known when it runs
def _over_kept(
    attention: Attention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    held: HeldKeys,
    tables: Mapping[str, Any],
    q_start: int | Tensor,
    given: Mapping[str, Any],
) -> Any:
    """The call over what is kept, of which the cache's layer is told."""
    out = _over_runs(attention, q, plain_keys(k), v, held, tables, q_start, given)
    held.layer.tell(attention, q.shape[1], q.shape[2])
    return out


def _over_runs(
    attention: Attention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    held: HeldKeys,
    tables: Mapping[str, Any],
    q_start: int | Tensor,
    given: Mapping[str, Any],
) -> Any:
    """The call run by run of positions, and what comes out of them merged."""

    def rows(run: Run) -> tuple[Tensor, Tensor]:
        ends = slice(run.row, run.row + run.length)
        return k[:, :, ends], v[:, :, ends]

    if len(held.runs) == 1 and held.runs[0].length == held.total:
        keys, values = rows(held.runs[0])
        return attention(q, keys, values, q_start=q_start, **given, **tables)
    drops = bool(given.get("dropout"))
    if drops and given.get("seed") is None and len(held.runs) > 1:  # one for all parts
        given = {**given, "seed": int(torch.randint(2**31, ()))}
    first = held.total - q.shape[2]
    counted = isinstance(q_start, int) and not drops  # dropout counts positions
    parts = []
    for run in held.runs:
        part = _in_part(attention, _floor(first), *_ends(run, first)) if counted else attention
        places: Mapping[str, Any] = {"q_start": q_start, "k_start": run.start, "n": held.total}
        if isinstance(q_start, int) and not drops:
            places = _shifted(part, run, q_start, q.shape[2]) or places
        own = {name: table for name, table in tables.items() if name in part.tables}
        parts.append((part, rows(run), {**given, **own, **places}))
    parts = [each for each in parts if each[0]._bound.mask != ir.FALSE] or parts[-1:]  # no row reads the others
    last = len(parts) - 1
    if not last:
        part, kept, arguments = parts[0]
        return part(q, *kept, **arguments)
    return merge(
        part(q, *kept, **arguments, return_lse=True, with_sink=number == last)
        for number, (part, kept, arguments) in enumerate(parts)
    )[0]


def _floor(position: int) -> int:
    """The greatest power of two that is no greater, or 0: so that few different parts are asked for."""
    return 1 << (position.bit_length() - 1) if position else 0


def _ends(run: Run, first_row: int) -> tuple[int, int | None]:
    """The least and the greatest position of a run, rounded where it moves on with the rows; None for no end."""
    if run.stop > first_row // 2 or run.start > 64:
        return _floor(run.start), None
    return run.start, run.stop - 1


@lru_cache(maxsize=512)
def _in_part(attention: Attention, first_row: int, first_key: int, last_key: int | None) -> Attention:
    """The attention as it is for queries from ``first_row`` on and keys of these positions: a simpler condition."""
    bound = attention._bound
    mask = restricted(bound.mask, Reach(first_row), Reach(first_key, last_key))
    if mask == bound.mask:
        return attention
    read = ir.tables_read(mask) | ir.tables_read(bound.score) | ir.tables_read(bound.scale)
    read |= set() if bound.sink is None else ir.tables_read(bound.sink)
    return Attention(replace(bound, mask=mask, tables=tuple(table for table in bound.tables if table.name in read)))


def _shifted(attention: Attention, run: Run, q_start: int, rows: int) -> dict[str, int] | None:
    """The positions of a call that counts from the run's first key, where that changes nothing: then a window that
    moves on has the same plan at every step. None where it would change something.
    """
    step, reads_row = _step(attention)
    if step is None:
        return None
    if not reads_row:  # every row is like any other
        return {"q_start": max(0, run.length - rows)}
    return {"q_start": q_start - run.start} if run.start % step == 0 and q_start >= run.start else None


@lru_cache(maxsize=512)
def _step(attention: Attention) -> tuple[int | None, bool]:
    """By multiples of which number queries and keys may be shifted together, None for none; and whether a position is
    read at all.
    """
    bound = attention._bound
    step = 1
    read: set[str] = set()
    for expr in (bound.mask, bound.score, bound.scale, *(() if bound.sink is None else (bound.sink,))):
        divisor = shift_divisor(expr)
        read |= ir.positions(expr)
        if divisor is None or "n" in ir.positions(expr):
            return None, True
        step = lcm(step, divisor)
    return step, bool(read & {"q", "k"})
