"""Whether the bounds of a segment keep their promise for every length at once: the numbers of its tiles, the lengths
and the pairs are unknowns of isl.

Imports islpy: for :mod:`.worker` and tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import chain, product
from math import inf

import islpy as isl

from ..ir import Expr
from ..plan import FULL, PARTIAL, Axis, View
from .affine_sets import Pairs, answered
from .questions import Proved, Unknown
from .tile_questions import Direction, HaloQuestion, Repeating, Run, TileFault, TileQuestion

_MOST_COMPARED = 2**16  # pairs of a row of one direction and one of the other
_PARAMETER, _SET = isl.dim_type.param, isl.dim_type.set


def decide_tiles(question: TileQuestion | HaloQuestion) -> Proved | TileFault | Unknown:
    """The answer to a question, within isl's bound on steps.

    A fault is one: it has a pair, or two tiles. Where parts of the condition are not affine there may be none with
    contents of tables that a call has, and the answer is Unknown.
    """
    return answered(lambda: _halo(question) if isinstance(question, HaloQuestion) else _Tiled(question).answer())


def _answer(pairs: Pairs, fault: TileFault | None) -> Proved | TileFault | Unknown:
    if fault is not None and pairs.free:
        return Unknown("it depends on what is not affine")
    return fault or Proved()


def _kept(pairs: Pairs, condition: Expr) -> tuple[isl.Set, isl.Set]:
    """The pairs that a mask keeps, and those that a full tile of it lacks: it does not count them once."""
    if condition.type == "bool":
        return pairs.where(condition), pairs.fails(condition)
    counts = pairs.counts(condition)
    nothing = pairs.all.subtract(pairs.all)
    kept, uneven = (
        reduce(isl.Set.union, (found for count, found in counts.items() if count != other), nothing) for other in (0, 1)
    )
    return kept, uneven


class _Tiled:
    """Pairs of present tokens with the tiles that they lie in: those that a condition keeps, and the others.

    The unknowns are the positions ``q`` and ``k``, the tiles ``u`` and ``v`` within their classes, the number ``t`` of
    a tile's period, and the coordinates of both tokens.
    """

    def __init__(self, question: TileQuestion) -> None:
        self.question = question
        rows = question.rows
        names, limits = ["q", "k", "u", "v", "t"], ["t >= 0"]
        limits += [] if question.n is None else [f"n = {question.n}"]
        sides = (
            ("q", "u", "c", rows, "m", f"{question.start} + "),
            ("k", "v", "d", question.keys, "n", ""),
        )
        for token, tile, of_class, view, size, start in sides:
            its = _lanes(view, tile, of_class)
            names += its.names
            limits += [*its.limits, f"{token} = {start}{its.token}", f"{its.token} < {size}", f"{tile} = {its.tile}"]
        self._names = ", ".join(names)
        same = ["true", *(f"c{place} = d{place}" for place in range(rows.main))]
        self._same = isl.Set(f"{{ [{self._names}] : {' and '.join(same)} }}")
        lanes = isl.Set(f"[n, m] -> {{ [{self._names}] : {' and '.join(limits)} }}")
        self.pairs = Pairs([question.condition])
        kept, uneven = _kept(self.pairs, question.condition)
        self._holds, self._lacks = (
            lanes.intersect(found.add_dims(_SET, len(names) - 2)) for found in (kept, uneven)
        )  # fmt: skip

    def answer(self) -> Proved | TileFault | Unknown:
        found = _answer(self.pairs, self._fault())
        if not isinstance(found, Proved):
            return found
        if self.question.by_query.period * self.question.by_key.period > _MOST_COMPARED:
            return Proved()  # of each direction; whether both visit the same tiles is a matter of cost
        return disagreement(self.question) or found

    def _fault(self) -> TileFault | None:
        by_query, by_key = self.question.by_query, self.question.by_key
        across = self._holds.subtract(self._same).intersect(self._served(by_query))
        if not across.is_empty():
            return self._at("tokens of two classes meet", "by query", across)
        holds, lacks = self._holds.intersect(self._same), self._lacks.intersect(self._same)
        directions: tuple[tuple[Direction, Repeating], ...] = (("by query", by_query), ("by key", by_key))
        for direction, bounds in directions:
            served = self._served(bounds)
            for what, pairs, full in (("empty holds a pair", holds, False), ("full lacks a pair", lacks, True)):
                its = pairs.intersect(served)
                for row, runs in enumerate(bounds.rows):
                    places = [run[:2] for run in runs if run[2] == FULL] if full else _gaps(runs)
                    for low, high in places:
                        found = its.intersect(self._relative(direction, bounds, row, low, high))
                        if not found.is_empty():
                            return self._at(f"a tile called {what}", direction, found)
        return None

    def _served(self, bounds: Repeating) -> isl.Set:
        """The tiles of the launches that bounds serve."""
        if bounds.reach is None:
            return isl.Set(f"{{ [{self._names}] }}")
        by_query = self.question.by_query
        last = f"{by_query.shift} * floor(u / {by_query.period})"
        return isl.Set(f"{{ [{self._names}] : v < {bounds.reach} and {last} <= {bounds.reach} }}")

    def _relative(
        self, direction: Direction, bounds: Repeating, row: int, low: int | None, high: int | None
    ) -> isl.Set:
        """The tiles that a row stands for, ``t`` periods on, and those from ``low`` to ``high - 1`` relative to it."""
        own, other = ("u", "v") if direction == "by query" else ("v", "u")
        place = f"{other} - {bounds.shift} * t"
        limits = [f"{own} = {bounds.period} * t + {row}"]
        limits += [] if low is None else [f"{low} <= {place}"]
        limits += [] if high is None else [f"{place} < {high}"]
        return isl.Set(f"{{ [{self._names}] : {' and '.join(limits)} }}")

    def _at(self, what: str, direction: Direction, found: isl.Set) -> TileFault:
        """The fault with the smallest sizes, of m = n where there is such a call."""
        square = found.intersect(isl.Set(f"[n, m] -> {{ [{self._names}] : n = m }}"))
        found = found if square.is_empty() else square
        n, m, q, k, u, v = _first(found, ("n", "m"), 4)
        tile, other = (u, v) if direction == "by query" else (v, u)
        return TileFault(what, direction, tile, other, q, k, n, m, self.question.start)


def _first(found: isl.Set, parameters: Sequence[str], count: int) -> list[int]:
    """The smallest point of a set: the values of some parameters, and of its first dimensions."""
    for place, name in enumerate(parameters):
        found = found.move_dims(_SET, place, _PARAMETER, found.find_dim_by_name(_PARAMETER, name), 1)
    count += len(parameters)
    rest = found.project_out(_SET, count, found.dim(_SET) - count)
    point = rest.project_out(_PARAMETER, 0, rest.dim(_PARAMETER)).lexmin().sample_point()
    return [int(point.get_coordinate_val(_SET, place).to_python()) for place in range(count)]


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


def _gaps(runs: Sequence[Run]) -> Iterator[tuple[int | None, int | None]]:
    """The places before, between and behind some runs; None where there is no end."""
    low: int | None = None
    begun = False
    for start, end, _ in runs:
        if start is not None and not (begun and start == low):
            yield low, start
        low, begun = end, True
    if not begun or low is not None:
        yield low, None


# -- both directions -------------------------------------------------------------------------------------------------

Intervals = list[tuple[float, float]]


def disagreement(question: TileQuestion) -> TileFault | None:
    """A pair of tiles that one direction visits and the other does not, or not as full; None where there is none.

    Decided in whole numbers: tile ``period * t + r`` of queries and tile ``shift * (t + y) + c`` of keys depend on y.
    """
    by_query, by_key = question.by_query, question.by_key
    reach = min((bounds.reach for bounds in (by_query, by_key) if bounds.reach is not None), default=None)
    shift, period = by_query.shift, by_query.period
    if not shift:  # one row for all tiles of either side: all or nothing
        alike = [[run for row in bounds.rows for run in row] for bounds in (by_query, by_key)]
        return None if alike[0] == alike[1] else TileFault("only one direction visits a tile")
    for (row, runs), (column, others) in product(enumerate(by_query.rows), enumerate(by_key.rows)):
        served = (-inf, inf) if reach is None else (-(reach // shift), (reach - 1 - column) // shift + 1)
        for least in (PARTIAL, FULL):
            here = [
                (_up(low, -column, shift, -inf), _up(high, -column, shift, inf))
                for low, high, kind in runs if kind >= least
            ]  # fmt: skip
            there = [
                (_down(high, row, period, -inf), _down(low, row, period, inf))
                for low, high, kind in others if kind >= least
            ]  # fmt: skip
            first, second = _clipped(here, served), _clipped(there, served)
            if first != second:
                y = _apart(first, second)
                t = max(-y, 0)
                what = "only one direction visits a tile, or only one as full"
                return TileFault(what, "by query", period * t + row, shift * (t + y) + column)
    return None


def _apart(first: Intervals, second: Intervals) -> int:
    """The number nearest to 0 that one of two unlike unions has and the other has not."""
    ends = {end for end in chain(*first, *second) if abs(end) < inf}
    near = {0, *ends, *(end - 1 for end in ends)}
    return int(min((y for y in near if _within(y, first) != _within(y, second)), key=abs))


def _up(place: int | None, more: int, by: int, endless: float) -> float:
    return endless if place is None else -((place + more) // -by)


def _down(place: int | None, row: int, by: int, endless: float) -> float:
    return endless if place is None else (row - place) // by + 1


def _clipped(found: Intervals, served: tuple[float, float]) -> Intervals:
    """The intervals in order, joined where they touch, and cut to those that are served."""
    cut: Intervals = []
    for low, high in sorted(found):
        low, high = max(low, served[0]), min(high, served[1])
        if low >= high:
            continue
        if cut and cut[-1][1] >= low:
            cut[-1] = cut[-1][0], max(cut[-1][1], high)
        else:
            cut.append((low, high))
    return cut


def _within(y: float, found: Intervals) -> bool:
    return any(low <= y < high for low, high in found)


# -- boxes -----------------------------------------------------------------------------------------------------------


def _halo(question: HaloQuestion) -> Proved | TileFault | Unknown:
    """Whether each kept pair is one of a query and a key in its box, whatever the tiles."""
    box, pairs = question.box, Pairs([question.condition])
    axes = range(len(box.view.axes))
    names = ["q", "k", *(f"{side}{place}" for side in "ab" for place in axes)]
    limits = [] if question.n is None else [f"n = {question.n}"]
    for position, side in (("q", "a"), ("k", "b")):
        named = [(f"{side}{place}", axis) for place, axis in enumerate(box.view.axes)]
        token = " + ".join([str(box.view.offset), *(f"{axis.stride} * {name}" for name, axis in named)])
        limits += [f"{position} = {token}", *(_coordinate(name, axis) for name, axis in named)]
    apart = " or ".join(f"b{i} - a{i} < {-box.before[i]} or b{i} - a{i} > {box.after[i]}" for i in axes)
    outside = isl.Set(f"[n] -> {{ [{', '.join(names)}] : {' and '.join(limits)} and ({apart}) }}")
    found = _kept(pairs, question.condition)[0].add_dims(_SET, len(names) - 2).intersect(outside)
    if found.is_empty():
        return Proved()
    n, q, k = _first(found, ("n",), 2)
    return _answer(pairs, TileFault("a key lies outside the box around its query", q=q, k=k, n=n))


def _coordinate(name: str, axis: Axis) -> str:
    return f"{name} >= 0" if axis.length is None else f"0 <= {name} < {axis.length}"
