"""Decides by isl whether a claim holds for every length: the set of what contradicts it is empty, or has a least point.

The set is exact where masks are affine. What is not affine is a parameter, so that the set may hold more than there is:
a claim whose set is empty holds all the same, and no length below the set's least contradicts it.

Rows and columns that are not empty ask for *some* other position, on which a parameter must not depend: there a lower
bound of the mask stands in its place, that which holds whatever the parts say that depend on that position, together
with the mask at single positions (witnesses) that are functions of the row or column.

Imports islpy: for :mod:`.worker` and tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import combinations

import islpy as isl

from ..ir import (
    FALSE,
    HEAD,
    Apply,
    Const,
    Entry,
    Expr,
    K,
    N,
    Position,
    Q,
    children,
    constructors,
    equal,
    positions,
    walk,
)
from .affine_sets import Pairs, answered, free
from .canonical import canonical, mirrored
from .questions import Answer, Proved, Question, Suspect

_MOST_WITNESSES = 8
_MOST_PAIRS = 64  # of parts that are not affine, which must be equal where they are read at the same place
_PARAMETER, _SET = isl.dim_type.param, isl.dim_type.set


def decide(question: Question) -> Answer:
    """The answer to a question of canonical conditions, within isl's bound on steps."""
    return answered(lambda: _decided(question))


def _decided(question: Question) -> Answer:
    match question.kind:
        case "rows nonempty" | "columns nonempty" if _blind(question)[1].is_empty():
            return Proved()
        case "rows nonempty":
            return _Line(question, Q, K).answer()
        case "columns nonempty":
            return _Line(question, K, Q).answer()
        case "diagonal":
            return _answer(question, *_blind(question))
        case "symmetric":
            other = mirrored(question.mask)
            pairs = _square(question, [question.mask, other])
            return _answer(question, pairs, pairs.where(question.mask).subtract(pairs.where(other)))
    return _of_pairs(question)


def _blind(question: Question) -> tuple[Pairs, isl.Set]:
    """All pairs, and of those of a position with itself the ones that are not kept."""
    at_itself = canonical(constructors.substitute(question.mask, {K: Q}))
    pairs = _square(question, [at_itself])
    same = pairs.all.intersect(pairs.where(equal(Q, K)))
    return pairs, same.subtract(pairs.where(at_itself))


def _of_pairs(question: Question) -> Answer:
    """The answer for a claim that each pair keeps or breaks on its own."""
    mask, other = question.mask, question.other
    if question.kind == "causal":
        pairs = _square(question, [mask])
        return _answer(question, pairs, pairs.where(mask).intersect(pairs.where(constructors.less(Q, K))))
    assert other is not None
    pairs = _square(question, [mask, other])
    if question.kind == "equals" and "count" in (mask.type, other.type):
        return _answer(question, pairs, _differing(pairs.counts(mask), pairs.counts(other)))
    if question.kind == "disjoint":
        return _answer(question, pairs, pairs.kept(pairs.where(mask), other))
    here, there = pairs.where(mask), pairs.where(other)
    match question.kind:
        case "within":
            return _answer(question, pairs, here.subtract(there))
        case "contains":
            return _answer(question, pairs, there.subtract(here))
    return _answer(question, pairs, here.subtract(there).union(there.subtract(here)))


def _differing(here: dict[int, isl.Set], there: dict[int, isl.Set]) -> isl.Set:
    """The pairs that two masks count differently, given those that each counts so many times."""
    parts = [own.subtract(there[count]) if count in there else own for count, own in here.items()]
    return reduce(isl.Set.union, parts)


def _square(question: Question, expressions: list[Expr]) -> Pairs:
    """All pairs of a call with m = n."""
    limits = ["q < n"]
    limits += [] if question.heads is None else [f"heads = {question.heads}"]
    limits += [] if question.n is None else [f"n = {question.n}"]
    return Pairs(expressions, limits, question.orders)


# -- rows and columns ----------------------------------------------------------------------------------------------


class _Line:
    """Whether every row keeps a pair, or every column: for each ``fixed`` position some ``other``."""

    def __init__(self, question: Question, fixed: Position, other: Position) -> None:
        self.question, self.fixed, self.other = question, fixed, other
        mask = question.mask
        self.varying = [node for node in free(mask) if other.name in positions(node)]
        places = list(_witnesses(mask, fixed, other)) if self.varying else []
        self.at = [(place, canonical(constructors.substitute(mask, {other: place}))) for place in places]
        self.pairs = _square(question, [mask, *places, *(condition for _, condition in self.at)])

    def answer(self) -> Answer:
        """Witnesses first: they are conditions of one position, and often enough."""
        left = self._line(self.pairs.all)  # positions of which no kept pair is known
        for place, condition in self.at:
            inside = self._inside(place)
            left = left.subtract(self._line(self.pairs.where(condition).intersect(inside))).coalesce()
            if left.is_empty():
                return Proved()
        left = left.subtract(self._line(self._for_certain())).coalesce()
        return _answer(self.question, self.pairs, left, line=self.other)

    def _for_certain(self) -> isl.Set:
        """Pairs that are kept whatever the parts say that depend on the other position."""
        kept = self.pairs.where(self.question.mask)
        if not self.varying:
            return kept
        lost = self.pairs.fails(self.question.mask)
        for name in (self.pairs.free[node] for node in self.varying):
            lost = _unknown(lost, name)
        return kept.subtract(lost)

    def _inside(self, place: Expr) -> isl.Set:
        """Where a witness is a position of the call."""
        low, high = constructors.less_equal(Const(0), place), constructors.less(place, N)
        return self.pairs.where(low).intersect(self.pairs.where(high))

    def _line(self, pairs: isl.Set) -> isl.Set:
        """The fixed positions of some pairs, the other position set to 0."""
        place = 1 if self.other == K else 0
        alone = pairs.project_out(_SET, place, 1).insert_dims(_SET, place, 1).fix_val(_SET, place, isl.Val(0))
        for name in (self.pairs.free[node] for node in self.varying):
            alone = _unknown(alone, name)
        return alone


def _unknown(found: isl.Set, name: str) -> isl.Set:
    """Where a parameter has some value for which a point is in a set; the parameter may then be anything."""
    place = found.find_dim_by_name(_PARAMETER, name)
    return found.project_out(_PARAMETER, place, 1).insert_dims(_PARAMETER, place, 1).set_dim_name(
        _PARAMETER, place, name
    )  # fmt: skip


def _witnesses(mask: Expr, fixed: Position, other: Position) -> Iterator[Expr]:
    """Functions of one position at which to look for a kept pair: itself, both ends, what the mask compares with."""
    found: dict[Expr, None] = dict.fromkeys((fixed, Const(0), constructors.add(N, Const(-1))))
    for node in walk(mask):
        if isinstance(node, Apply) and node.op in ("eq", "lt", "le"):
            for one, two in (node.args, node.args[::-1]):
                found.update(dict.fromkeys(_solved(one, two, other)))
    yield from list(found)[:_MOST_WITNESSES]


def _solved(one: Expr, two: Expr, other: Position) -> Iterator[Expr]:
    """What the other position may be for two sides to be equal: they are it and a function of the fixed one, or are
    read from one table at these.
    """
    if one == other and two.type == "int" and other.name not in positions(two):
        yield two
    elif isinstance(one, Entry) and isinstance(two, Entry) and one.table == two.table:
        for a, b in zip(one.indices, two.indices, strict=True):
            yield from _solved(a, b, other)


# -- points --------------------------------------------------------------------------------------------------------


def _answer(question: Question, pairs: Pairs, against: isl.Set, line: Position | None = None) -> Answer:
    """The answer, from the pairs that contradict the claim; for a line the other position is 0 in all of them.

    Constraints are looked at where the first point breaks them, since most matter for few points; each is added once.
    """
    constraints = list(_constraints(question, pairs, against))
    while not against.is_empty():
        point = _First.of(pairs, against)
        needed: list[isl.Set] = []
        here = point.here
        for constraint in constraints:
            fewer = here.intersect(constraint)
            if fewer.is_equal(here):
                continue
            needed.append(constraint)
            here = fewer
            if here.is_empty():
                break
        else:
            return point.suspect(pairs, here, line)
        for constraint in needed:
            against = against.intersect(constraint).coalesce()
    return Proved()


def _constraints(question: Question, pairs: Pairs, against: isl.Set) -> Iterator[isl.Set]:
    """What is known of pairs of parts that are not affine: equal where read at the same place; of permutations, only
    there.
    """
    read = [node for node, name in pairs.free.items() if _involved(against, name)]
    count = 0
    for a, b in combinations(read, 2):
        condition = _same_place(a, b)
        if condition is None or count >= _MOST_PAIRS or not _asked(pairs, condition):
            continue
        permuted = _permuted(question, a) and _permuted(question, b)
        if condition == FALSE and not permuted:
            continue
        count += 1
        same = pairs.where(condition)
        equal_values = pairs.value(a).eq_set(pairs.value(b)).intersect(pairs.all)
        apart = pairs.all.subtract(same)
        yield (
            apart.subtract(equal_values).union(equal_values.intersect(same)) if permuted else apart.union(equal_values)
        )


def _involved(found: isl.Set, name: str) -> bool:
    place = found.find_dim_by_name(_PARAMETER, name)
    return place >= 0 and bool(found.involves_dims(_PARAMETER, place, 1))


def _asked(pairs: Pairs, condition: Expr) -> bool:
    """Whether a condition is made of parts that the pairs know."""
    return all(node in pairs.free for node in free(condition))


def _permuted(question: Question, node: Expr) -> bool:
    """Whether a part is an entry of a permutation, at a position of the call itself."""
    if not isinstance(node, Entry) or node.table not in question.permutations:
        return False
    *leading, last = node.indices
    return last in (Q, K) and all(index == HEAD for index in leading)


def _same_place(a: Expr, b: Expr) -> Expr | None:
    """When two parts have one value because what they are made of has; None where they are too unlike."""
    if type(a) is not type(b) or a.type != b.type or len(children(a)) != len(children(b)):
        return None
    match a, b:
        case Apply(op=first), Apply(op=second) if first != second:
            return None
        case Entry(table=first_table), Entry(table=second_table) if first_table != second_table:
            return None
        case ((Const() | Position()), _):
            return None
        case _ if getattr(a, "table", None) != getattr(b, "table", None):
            return None
    parts: list[Expr] = []
    for one, two in zip(children(a), children(b), strict=True):
        if one == two:
            continue
        if one.type == two.type and one.type in ("int", "bool"):
            parts.append(canonical(equal(one, two)))
            continue
        inner = _same_place(one, two) if one.type == "float" else None
        if inner is None:
            return None
        parts.append(inner)
    return constructors.conjunction(*parts)


_PLACE = ("n", "q", "k", "head", "heads")  # the order in which a point is the smallest


@dataclass(frozen=True)
class _First:
    """The smallest place of some points, in the order of _PLACE, and those of them that lie ``here``."""

    place: Mapping[str, int]
    here: isl.Set

    @classmethod
    def of(cls, pairs: Pairs, points: isl.Set) -> _First:
        arranged = _in_order(points, [*_PLACE, *pairs.free.values()])
        first = arranged.project_out(_SET, len(_PLACE), len(pairs.free)).lexmin()
        place = dict(zip(_PLACE, _coordinates(first.sample_point(), len(_PLACE)), strict=True))
        here = points
        for name, value in place.items():
            kind = _SET if name in ("q", "k") else _PARAMETER
            at = ("q", "k").index(name) if kind == _SET else points.find_dim_by_name(_PARAMETER, name)
            here = here.fix_val(kind, at, isl.Val(str(value)))
        return cls(place, here)

    def suspect(self, pairs: Pairs, here: isl.Set, line: Position | None) -> Suspect:
        """The place, with values of the parts that are not affine, and that some points there depend on."""
        points = _in_order(here, [*_PLACE, *pairs.free.values()])
        values: dict[Expr, int] = {}
        for dimension, (node, name) in enumerate(pairs.free.items(), len(_PLACE)):
            if _involved(here, name):
                points, values[node] = _chosen(points, dimension, self.place["n"])
        n, q, k, head, heads = (self.place[name] for name in _PLACE)
        return Suspect(n, None if line == Q else q, None if line == K else k, heads, head, values)


def _in_order(found: isl.Set, names: list[str]) -> isl.Set:
    """The same points with all parameters as dimensions, in the order of names."""
    inner = [found.get_dim_name(_PARAMETER, place) for place in range(found.dim(_PARAMETER))]
    arranged = isl.Map(f"[{', '.join(inner)}] -> {{ [q, k] -> [{', '.join(f'{name}_' for name in names)}] : "
                       f"{' and '.join(f'{name}_ = {name}' for name in names)} }}")  # fmt: skip
    return found.apply(arranged).project_out(_PARAMETER, 0, len(inner))


def _coordinates(point: isl.Point, count: int) -> list[int]:
    return [int(point.get_coordinate_val(_SET, place).to_python()) for place in range(count)]


def _chosen(points: isl.Set, place: int, n: int) -> tuple[isl.Set, int]:
    """One value of a dimension, small where it may be, and the points that have it."""
    for most in (1, n, 2 * n + 2, None):
        some = points.lower_bound_val(_SET, place, isl.Val(0))
        some = points if most is None else some.upper_bound_val(_SET, place, isl.Val(str(most)))
        if not some.is_empty():
            break
    value = _coordinates(some.sample_point(), place + 1)[place]
    return points.fix_val(_SET, place, isl.Val(str(value))), value
