"""Whether the bounds of a segment keep their promise for every length at once, by isl: the tiles of
:mod:`tests.support.oracles.tile_promises`, with their numbers, the lengths and the pairs within them as unknowns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

import islpy as isl

from attnc.compiler.ir.expressions import Expr
from attnc.compiler.plan.orders import FULL, PARTIAL, View
from attnc.compiler.plan.schedule import UNBOUNDED, Bounds
from attnc.compiler.proofs.affine_sets import Pairs, bounded_steps

Run = tuple[int, int, int]  # first tile, end, kind


@dataclass(frozen=True)
class Walks:
    """Rows and keys in the orders of a segment, of all lengths up to ``longest`` tokens each.

    Runs that go on for ever are written as very long ones: the default is as long as their ends allow. ``start`` is the
    position of the first query.
    """

    rows: View
    keys: View
    start: int = 0
    longest: int = UNBOUNDED // 2


@bounded_steps()
def fault(condition: Expr, walks: Walks, by_query: Bounds, by_key: Bounds) -> str | None:
    """What is wrong with the bounds of a segment for some of the lengths; None where they are right for all of them."""
    for bounds in (by_query, by_key):
        assert bounds.batch_slots == bounds.head_slots == 1
        assert bounds.aligned == (walks.rows.classes > 1), "tiles are counted through all classes"
    tiled = _Tiled(condition, walks)
    if not tiled.holds_across.is_empty():
        return f"tokens of two classes meet: {tiled.holds_across.sample_point()}"
    for own, bounds in (("u", by_query), ("v", by_key)):
        for row in range(bounds.period):
            runs = list(_runs(bounds, row))
            for name, pairs, places in (
                ("empty holds a pair", tiled.holds, _gaps(runs)),
                ("full lacks a pair", tiled.lacks, [(low, high) for low, high, kind in runs if kind == FULL]),
            ):
                for low, high in places:
                    found = pairs.intersect(tiled.relative(own, bounds, row, low, high))
                    if not found.is_empty():
                        where = f"{own} = {row} modulo {bounds.period}, {low} to {high}"
                        return f"a tile called {name}, {where}: {found.sample_point()}"
    return None


def disagreement(walks: Walks, by_query: Bounds, by_key: Bounds) -> str | None:
    """A pair of tiles that one direction visits and the other does not, or not as full; None where there is none."""
    rows, keys = walks.rows.tiles(walks.longest).per_class, walks.keys.tiles(walks.longest).per_class
    for row, column in product(range(by_query.period), range(by_key.period)):
        u, v = f"{by_query.period} * t + {row}", f"{by_key.period} * s + {column}"
        every = f"s >= 0 and t >= 0 and {u} < {rows} and {v} < {keys}"
        for least in (PARTIAL, FULL):
            with bounded_steps():
                first = _union(f"{v} - {by_query.shift} * t", _runs(by_query, row), least, every)
                second = _union(f"{u} - {by_key.shift} * s", _runs(by_key, column), least, every)
                if not first.is_equal(second):
                    only = first.subtract(second).union(second.subtract(first))
                    return f"only one direction visits, as kind {least} or more, u = {u} and v = {v} of {only}"
    return None


def _union(place: str, runs: Iterable[Run], least: int, every: str) -> isl.Set:
    """The tiles whose place is in a run of the least kind or a greater one."""
    held = [f"{every} and {low} <= {place} < {high}" for low, high, kind in runs if kind >= least]
    return isl.Set(f"{{ [s, t] : {' or '.join(held) or 'false'} }}")


class _Tiled:
    """Pairs of present tokens with the tiles that they lie in: those of which a condition holds, and the others."""

    def __init__(self, condition: Expr, walks: Walks) -> None:
        sides = (("q", "u", "c", walks.rows, "m", walks.start), ("k", "v", "d", walks.keys, "n", 0))
        names, limits = ["q", "k", "u", "v", "t"], [f"n <= {walks.longest} and m <= {walks.longest} and t >= 0"]
        for token, tile, of_class, view, size, start in sides:
            its = _lanes(view, tile, of_class)
            names += its.names
            limits += [*its.limits, f"{token} = {start} + {its.token}", f"{its.token} < {size}", f"{tile} = {its.tile}"]
        self._names = ", ".join(names)
        classes = range(walks.rows.main)
        same = isl.Set(f"{{ [{self._names}] : {' and '.join(['true', *(f'c{i} = d{i}' for i in classes)])} }}")
        lanes = isl.Set(f"[n, m] -> {{ [{self._names}] : {' and '.join(limits)} }}")
        pairs, more = Pairs([condition]), len(names) - 2
        holds = lanes.intersect(pairs.where(condition).add_dims(isl.dim_type.set, more))
        self.holds = holds.intersect(same)
        self.lacks = lanes.intersect(same).intersect(pairs.fails(condition).add_dims(isl.dim_type.set, more))
        self.holds_across = holds.subtract(same)

    def relative(self, own: str, bounds: Bounds, row: int, low: int | None, high: int | None) -> isl.Set:
        """The tiles that a row stands for, ``t`` periods on, and those from ``low`` to ``high - 1`` relative to it."""
        place = f"{'v' if own == 'u' else 'u'} - {bounds.shift} * t"
        limits = [f"{own} = {bounds.period} * t + {row}"]
        limits += [] if low is None else [f"{low} <= {place}"]
        limits += [] if high is None else [f"{place} < {high}"]
        return isl.Set(f"{{ [{self._names}] : {' and '.join(limits)} }}")


@dataclass(frozen=True)
class _Lanes:
    """A token and the number of its tile within its class, as isl writes them, over some more unknowns."""

    names: list[str]
    limits: list[str]
    token: str
    tile: str


def _lanes(view: View, prefix: str, of_class: str) -> _Lanes:
    names: list[str] = []
    limits: list[str] = []
    token, tile = [str(view.offset)], "0"
    for place, axis in enumerate(view.axes):
        if place < view.main:
            assert axis.tile == 1
            names.append(f"{of_class}{place}")
            limits.append(f"0 <= {of_class}{place} < {axis.length}")
            token.append(f"{axis.stride} * {of_class}{place}")
            continue
        along, lane = f"{prefix}{place}", f"{prefix}{place}lane"
        names += [along, lane]
        limits += [f"0 <= {along}", f"0 <= {lane} < {axis.tile}"]
        if axis.length is not None:
            limits.append(f"{axis.tile} * {along} + {lane} < {axis.length}")
        token.append(f"{axis.stride * axis.tile} * {along} + {axis.stride} * {lane}")
        tile = along if axis.length is None else f"{axis.tiles} * ({tile}) + {along}"
    return _Lanes(names, limits, " + ".join(token), tile)


def _runs(bounds: Bounds, row: int) -> Iterator[Run]:
    runs = bounds.runs
    for run in range(int(runs.pointer[row]), int(runs.pointer[row + 1])):
        start = int(runs.start[run])
        yield start, start + int(runs.length[run]), int(runs.kind[run])


def _gaps(runs: list[Run]) -> Iterator[tuple[int | None, int | None]]:
    """The places before, between and behind some runs; None where there is no end."""
    low: int | None = None
    for start, end, _ in runs:
        if start != low:
            yield low, start
        low = end
    yield low, None
