"""The judge of schedules: a Program carried out as its Schedule says, tile by tile, in numpy. Simple, slow, obvious.

It does what every executor does and nothing else, and counts the pairs that it visits: :func:`visits` must equal the
mask, by queries (forward) and by keys (backward), and :func:`execute` must give what the dense mask gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ir import CallShape, Expr, HostTable
from ..oracle import Environment, NumpyArrays, environment, interpret, numbered_values
from ..plan import (
    FULL,
    PARTIAL,
    Bounds,
    Kernel,
    KernelSchedule,
    Listing,
    Order,
    Program,
    Schedule,
    Segment,
    SegmentSchedule,
    TileCount,
    key_major,
)
from ..schedule import schedule_depends

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class ScheduleFaultError(AssertionError):
    """A bug in the compiler: a schedule is wrong about a tile, a row or a listed token."""

    def __init__(self, what: str) -> None:
        super().__init__(f"bug in attnc, stage schedule, please report it: {what}")


@dataclass(frozen=True)
class Inputs:
    """Arrays of a call: q ``[batch, heads, m, head_dim]``, k and v ``[batch, kv_heads, n, …]``, scale ``[heads]``."""

    q: Floats
    k: Floats
    v: Floats
    scale: Floats


@dataclass(frozen=True)
class Result:
    """What an attention returns: out ``[batch, heads, m, value_dim]`` and the log-sum-exp lse ``[batch, heads, m]``.

    ``visits`` is how often each pair was counted, ``[batch, heads, m, n]``.
    """

    out: Floats
    lse: Floats
    visits: Counts


def mask(program: Program, extent: CallShape, contents: Sequence[HostTable]) -> Counts:
    """How often the mask keeps each pair, ``[batch or 1, heads, m, n]``. Reads outside tables give 0, as in kernels."""
    return _Dense(program, extent, contents).values(program.mask).astype(np.int64)


def visits(
    program: Program, schedule: Schedule, extent: CallShape, contents: Sequence[HostTable], *, by_key: bool = False
) -> Counts:
    """How often the schedule counts each pair, ``[batch or 1, heads, m, n]``, over all kernels and segments.

    ``by_key`` follows the key-major bounds of the backward pass. Raises ScheduleFaultError if a tile called full is
    not, a row is stored never or written twice, or a listed token does not exist.
    """
    dense = _Dense(program, extent, contents)
    parts = (_kernel_counts(dense, *pair, by_key) for pair in zip(program.kernels, schedule.kernels, strict=True))
    found = sum(parts, start=np.zeros(dense.shape, np.int64))
    _check_stores(dense, schedule)
    return found


def execute(
    program: Program, schedule: Schedule, extent: CallShape, contents: Sequence[HostTable], inputs: Inputs
) -> Result:
    """Run every kernel in turn on the inputs. Raises what :func:`visits` raises."""
    group = extent.heads // max(1, inputs.k.shape[1])
    k, v = (np.repeat(x, group, axis=1) for x in (inputs.k, inputs.v))
    logit = inputs.q @ k.swapaxes(-1, -2) * inputs.scale[:, None, None]
    dense, floats = _Dense(program, extent, contents), _Dense(program, extent, contents, logit)
    out, lse = np.zeros((*logit.shape[:3], v.shape[3])), np.full(logit.shape[:3], -np.inf)
    sink = None if program.sink is None else floats.values(program.sink, columns=1)[..., 0]
    score, total = floats.values(program.score), np.zeros(dense.shape, np.int64)
    for kernel, its in zip(program.kernels, schedule.kernels, strict=True):
        counts = _kernel_counts(dense, kernel, its, by_key=False)
        total += counts
        mean, own = _softmax(score, counts, v)
        heads = _heads(kernel, extent)
        if kernel.output == "store":
            first = np.full_like(own, -np.inf) if sink is None else sink
            out[:, heads], lse[:, heads] = np.zeros_like(out[:, heads]), first[:, heads]
        out[:, heads], lse[:, heads] = _merged(out[:, heads], lse[:, heads], mean[:, heads], own[:, heads])
    _check_stores(dense, schedule)
    return Result(out, lse, total)


class _Dense:
    """Evaluates expressions of one launch as dense arrays; ``shape`` is ``[batch or 1, heads, m, n]``.

    Conditions compare floats in the dtype of the tables; scores, which have a ``logit``, are float64.
    """

    def __init__(
        self, program: Program, extent: CallShape, contents: Sequence[HostTable], logit: Floats | None = None
    ) -> None:
        self.program, self.extent = program, extent
        tables, arrays = numbered_values(program.tables, contents)
        arrays = arrays if logit is None else NumpyArrays()
        start = np.asarray(extent.q_start, dtype=np.int64)
        nowhere = arrays.constant(False)
        self._bound: Environment = environment(
            arrays, extent.n, extent.m, extent.heads, start, tables, logit=logit, reached=nowhere
        )
        self.shape = len(self._bound.batch), extent.heads, extent.m, extent.n

    def values(self, expr: Expr, columns: int | None = None) -> NDArray[Any]:
        """The value of an expression, ``[batch, heads, m, n]``; ``columns`` replaces n if it reads rows only."""
        with np.errstate(all="ignore"):
            found = interpret(expr, self._bound)
        return np.broadcast_to(found, (*self.shape[:3], self.shape[3] if columns is None else columns))


def _heads(kernel: Kernel, extent: CallShape) -> list[int]:
    return list(range(extent.heads) if kernel.heads is None else kernel.heads)


def _kernel_counts(dense: _Dense, kernel: Kernel, its: KernelSchedule, by_key: bool) -> Counts:
    """How often a kernel counts each pair ``[batch, heads, m, n]``, in the rows that it owns."""
    counts = np.zeros(dense.shape, np.int64)
    owned = dense.values(kernel.owned_rows, columns=1)
    for segment, bounds in zip(kernel.segments, its.segments, strict=True):
        kept = dense.values(segment.condition).astype(np.int64)
        for batch in range(dense.shape[0]):
            for place, head in enumerate(_heads(kernel, dense.extent)):
                walk = _Walk(kernel.rows, its.rows, segment, bounds, batch, place, dense.extent)
                for rows, keys, kind in walk.by_key() if by_key else walk.by_query():
                    pairs = np.ix_(rows, keys)
                    tile = kept[batch, head][pairs] * owned[batch, head][rows]
                    if kind == FULL and (tile != owned[batch, head][rows]).any():
                        raise ScheduleFaultError("a tile called full lacks a pair or counts one twice")
                    np.add.at(counts[batch, head], pairs, tile)
    return counts


def _check_stores(dense: _Dense, schedule: Schedule) -> None:
    """Check that the first kernel of each head stores every row once, and that others merge each row at most once."""
    batches, heads, m, _ = dense.shape
    started: set[int] = set()
    for kernel, its in zip(dense.program.kernels, schedule.kernels, strict=True):
        for place, head in enumerate(_heads(kernel, dense.extent)):
            first = head not in started
            started.add(head)
            if first != (kernel.output == "store"):
                raise ScheduleFaultError(f"the kernels of head {head} do not store first and merge then")
            for batch in range(batches):
                tiles = tile_tokens(kernel.rows, its.rows, m, batch, place)
                times = np.bincount(np.concatenate([*tiles, np.zeros(0, np.int64)]), minlength=m)
                if times.max(initial=0) > 1 or (first and times.min(initial=1) < 1):
                    raise ScheduleFaultError(f"a row of head {head} is stored never, or written twice")
    if len(started) < heads:
        raise ScheduleFaultError("a head has no kernel")


@dataclass(frozen=True)
class _Walk:
    """A walk over one segment, for one entry of the batch and for the head at ``place`` among the kernel's heads."""

    rows: Order
    row_listing: Listing | None
    segment: Segment
    bounds: SegmentSchedule
    batch: int
    place: int
    extent: CallShape

    def by_query(self) -> Iterator[tuple[Counts, Counts, int]]:
        """The rows, the keys and the kind of each pair of tiles that is visited, query tile by query tile."""
        rows, keys = self._tokens()
        for tile, its in enumerate(rows):
            for other, kind in _visited(self.bounds.by_query, self._slot(self.bounds.by_query), tile, *self._counts()):
                yield its, keys[other], kind

    def by_key(self) -> Iterator[tuple[Counts, Counts, int]]:
        """As :meth:`by_query`, but key tile by key tile, as the backward pass walks."""
        walked, of_keys = key_major(self.rows, self.segment.keys)
        turned = replace(self, rows=walked, segment=replace(self.segment, keys=of_keys))
        rows, keys = turned._tokens()
        counts = turned._counts()[::-1]
        for tile, its in enumerate(keys):
            for other, kind in _visited(self.bounds.by_key, self._slot(self.bounds.by_key), tile, *counts):
                yield rows[other], its, kind

    def _slot(self, bounds: Bounds) -> int:
        return _slot(bounds, self.batch, self.place)

    def _tokens(self) -> tuple[list[Counts], list[Counts]]:
        where = self.batch, self.place
        return (
            tile_tokens(self.rows, self.row_listing, self.extent.m, *where),
            tile_tokens(self.segment.keys, self.bounds.keys, self.extent.n, *where),
        )

    def _counts(self) -> tuple[TileCount, TileCount]:
        return (
            self.rows.tiles(self.extent.m, self.row_listing),
            self.segment.keys.tiles(self.extent.n, self.bounds.keys),
        )


def _slot(numbered: Bounds | Listing, batch: int, place: int) -> int:
    batch = batch if numbered.batch_slots > 1 else 0
    return batch * numbered.head_slots + (place if numbered.head_slots > 1 else 0)


def _visited(bounds: Bounds, slot: int, tile: int, own: TileCount, other: TileCount) -> Iterator[tuple[int, int]]:
    """The tiles of the other side that one tile visits, with their kinds, PARTIAL or FULL."""
    base, limit, along = 0, other.total, tile
    if bounds.aligned:
        if own.classes != other.classes:
            raise ScheduleFaultError(f"{own.classes} classes of tiles are aligned with {other.classes}")
        of_class, along = divmod(tile, own.per_class)
        base, limit = of_class * other.per_class, other.per_class
    row = slot * bounds.period + along % bounds.period
    move = along // bounds.period * bounds.shift
    runs = bounds.runs
    for run in range(int(runs.pointer[row]), int(runs.pointer[row + 1])):
        start, kind = int(runs.start[run]) + move, int(runs.kind[run])
        if kind not in (PARTIAL, FULL):
            raise ScheduleFaultError(f"a run is of kind {kind}")
        for found in range(max(start, 0), min(start + int(runs.length[run]), limit)):
            yield base + found, kind


def tile_tokens(order: Order, listing: Listing | None, tokens: int, batch: int = 0, place: int = 0) -> list[Counts]:
    """The tokens of every tile, lane by lane; lanes without a token are left out.

    For one entry of the batch, and for the head at ``place`` among the kernel's heads.
    """
    if listing is None:
        return list(_tiles(order, tokens))
    listed = listing.tokens[_slot(listing, batch, place)].tolist()
    if max(listed, default=0) >= max(tokens, 1):
        raise ScheduleFaultError(f"the token {max(listed)} is listed, and there are {tokens}")
    return [_present(order.tokens(tile, tokens, listed)) for tile in range(order.tiles(tokens, listing).total)]


@lru_cache(maxsize=64)
def _tiles(order: Order, tokens: int) -> tuple[Counts, ...]:
    """The tokens of every tile of an order that is not listed, and so the same for all batch entries and heads."""
    return tuple(_present(order.tokens(tile, tokens)) for tile in range(order.tiles(tokens).total))


def _present(lanes: list[int]) -> Counts:
    return np.array([token for token in lanes if token >= 0], np.int64)


def _softmax(score: Floats, counts: Counts, v: Floats) -> tuple[Floats, Floats]:
    """The weighted mean of the values and the log-sum-exp of each row; 0 and -inf for a row without pairs."""
    with np.errstate(divide="ignore"):
        logits = np.where(counts > 0, np.where(counts > 0, score, 0.0) + np.log(counts), -np.inf)
    greatest = logits.max(-1, initial=-np.inf)
    base = np.where(greatest == -np.inf, 0.0, greatest)
    weight = np.exp(logits - base[..., None])
    total = weight.sum(-1)
    with np.errstate(divide="ignore"):
        return weight @ v / np.where(total == 0, 1.0, total)[..., None], base + np.log(total)


def _merged(out: Floats, lse: Floats, mean: Floats, own: Floats) -> tuple[Floats, Floats]:
    """Combine two partial results over disjoint keys, by their log-sum-exps. Rows may be empty in either."""
    whole = np.logaddexp(lse, own)
    base = np.where(whole == -np.inf, 0.0, whole)
    return out * np.exp(lse - base)[..., None] + mean * np.exp(own - base)[..., None], whole


LARGEST_AREA = 2**24  # pairs, over all batch entries and heads, that verify_schedule looks at


def verify_schedule(program: Program, schedule: Schedule, extent: CallShape, contents: Sequence[HostTable]) -> str:
    """Raise ScheduleFaultError if forward or backward does not count each pair as often as the mask says.

    Launches of more than LARGEST_AREA pairs, and those whose schedule depends on what only the device knows, pass
    unchecked: the result says why, and is empty where they were checked.
    """
    decisive = [contents[number] for number in schedule_depends(program)]
    if extent.q_start is None or any(held.values is None for held in decisive):
        return "it depends on what only the device knows"
    batches = [
        len(extent.q_start),
        *(len(held.values) for held in contents if held.batched and held.values is not None),
    ]
    if extent.m * extent.n * extent.heads * max(batches) > LARGEST_AREA:
        return f"more than {LARGEST_AREA:,} pairs"
    expected = mask(program, extent, contents)
    for by_key, way in ((False, "forward"), (True, "backward")):
        _compare(visits(program, schedule, extent, contents, by_key=by_key), expected, way)
    return ""


def verify_segment(
    program: Program,
    kernel: Kernel,
    segment: Segment,
    held: SegmentSchedule,
    extent: CallShape,
    contents: Sequence[HostTable],
) -> None:
    """Raise ScheduleFaultError if one segment of a kernel does not count each pair as often as its condition says."""
    dense, its = _Dense(program, extent, contents), KernelSchedule((held,))
    alone = replace(kernel, segments=(segment,))
    expected = dense.values(segment.condition).astype(np.int64) * dense.values(kernel.owned_rows, columns=1)
    heads = _heads(kernel, extent)
    for by_key, way in ((False, "forward"), (True, "backward")):
        _compare(_kernel_counts(dense, alone, its, by_key)[:, heads], expected[:, heads], way)


def _compare(found: Counts, expected: Counts, way: str) -> None:
    wrong = np.argwhere(found != expected)
    if len(wrong):
        batch, head, row, key = wrong[0].tolist()
        times = f"{found[batch, head, row, key]} times, not {expected[batch, head, row, key]}"
        raise ScheduleFaultError(
            f"{way} counts {len(wrong)} pairs wrongly; the first, row {row} and key {key} "
            f"of batch entry {batch} and head {head}, {times}"
        )
