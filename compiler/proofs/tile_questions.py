"""Questions whether closed forms of a schedule are right for every length that they serve: dataclasses, no arrays."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from ..ir import Expr
from ..plan import UNBOUNDED, Bounds, Box, View

Run = tuple[int | None, int | None, int]  # first tile, end, kind; None where the run is endless
Direction = Literal["by query", "by key"]


@dataclass(frozen=True)
class Repeating:
    """The bounds of one slot, for queries that begin within the first period: row ``r`` visits the runs ``rows[r]``.

    ``reach``: that of the bounds, None for every length.
    """

    shift: int
    rows: tuple[tuple[Run, ...], ...]
    reach: int | None = None

    @property
    def period(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class TileQuestion:
    """Whether bounds keep their promise: no tile called empty holds a pair, and none called full lacks one.

    Asked of every n and m that the bounds serve, of calls whose first query is at ``start``, within the first period. A
    call that begins whole periods later has the tiles of some of the later rows of these. A tile is full where a mask
    that counts counts each of its pairs once. ``n``: the only length, where one is given.
    """

    condition: Expr
    rows: View
    keys: View
    start: int
    by_query: Repeating
    by_key: Repeating
    n: int | None = None


@dataclass(frozen=True)
class HaloQuestion:
    """Whether the key of each pair lies in the box around its query: of the same class, and within the halo."""

    condition: Expr
    box: Box
    n: int | None = None


@dataclass(frozen=True)
class TileFault:
    """A promise that is broken: ``what`` says which, and the rest where; what is not known is None.

    ``tile`` is one of queries in the direction by query, and else one of keys; ``other`` is one of the other side.
    Both are numbered within their classes. ``n`` and ``m`` are the smallest sizes of a call that has such a pair, m = n
    where that may be, and ``start`` is its first query.
    """

    what: str
    direction: Direction | None = None
    tile: int | None = None
    other: int | None = None
    q: int | None = None
    k: int | None = None
    n: int | None = None
    m: int | None = None
    start: int | None = None

    def __str__(self) -> str:
        """One line: ``a tile called full lacks a pair: by query, tile 3 and tile 0 of keys, q = 7, k = 1, n = 8``."""
        where: list[str] = [] if self.direction is None else [self.direction]
        if self.tile is not None:
            own, other = ("queries", "keys") if self.direction == "by query" else ("keys", "queries")
            where.append(f"tile {self.tile:,} of {own} and tile {self.other:,} of {other}")
        rows = None if self.m == self.n else self.m
        named = {"q": self.q, "k": self.k, "n": self.n, "m": rows, "q_start": self.start or None}
        where += [f"{name} = {value:,}" for name, value in named.items() if value is not None]
        return f"{self.what}: {', '.join(where)}" if where else self.what


def tile_question(
    condition: Expr,
    rows: View,
    keys: View,
    start: int,
    bounds: tuple[Bounds, Bounds],
    slot: int = 0,
    n: int | None = None,
) -> TileQuestion | TileFault:
    """The question of one slot of the bounds by query and by key, made for a first query at ``start``.

    ``condition`` is that of the slot. A TileFault where the bounds contradict themselves.
    """
    by_query, by_key = bounds
    aligned = rows.classes > 1
    if (by_query.aligned, by_key.aligned) != (aligned, aligned):
        return TileFault("tiles are counted through all classes")
    if (by_query.period, by_query.shift) != (by_key.shift, by_key.period) and (by_query.shift or by_key.shift):
        return TileFault("both directions repeat, but not alike")
    main = rows.axes[rows.main]
    step = by_query.period // rows.minor_tiles * main.stride * main.tile if by_query.shift else 0
    moves, first = divmod(start, step) if step else (0, 0)
    return TileQuestion(
        condition, rows, keys, first,
        _repeating(by_query, slot, moves * by_query.shift), _repeating(by_key, slot, -moves * by_key.shift), n,
    )  # fmt: skip


def _repeating(bounds: Bounds, slot: int, moved: int) -> Repeating:
    """The rows of a slot, with the runs moved back by so many tiles."""
    runs = bounds.runs
    pointer = runs.pointer[slot * bounds.period : (slot + 1) * bounds.period + 1].tolist()
    rows = []
    for first, end in pairwise(pointer):
        columns = (runs.start[first:end], runs.length[first:end], runs.kind[first:end])
        each = zip(*(column.tolist() for column in columns), strict=True)
        rows.append(tuple(_run(start, start + length, kind, moved) for start, length, kind in each))
    return Repeating(bounds.shift, tuple(rows), bounds.reach if bounds.reach < UNBOUNDED else None)


def _run(start: int, end: int, kind: int, moved: int) -> Run:
    # An endless end is cut to what its numbers hold.
    return (None if start <= -UNBOUNDED else start - moved, None if end >= UNBOUNDED - 1 else end - moved, kind)
