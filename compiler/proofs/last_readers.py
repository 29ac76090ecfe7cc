"""Works out for each key the last row that may read it, for every length, and what follows for a cache of keys.

What is not affine may have any value at each pair: the rows that read a key are then among those found here.

Imports islpy: for :mod:`.worker` and tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import combinations

import islpy as isl

from ..ir import FALSE, Const, Expr, K, N, Q, choose, conjunction, constructors, disjunction, walk
from ..ir import expression as written
from .affine_sets import Pairs, bounded_steps
from .questions import LastReader, ReaderQuestion, Unknown
from .read_back import TooLargeError, conjuncts, number

_MOST_PIECES = 24  # functions, and conditions of one of them: beyond that nobody reads it
_FEWER_STEPS = 2_000_000  # of isl, for each thing said of a last reader
_MOST_ADDED = 8  # ranges of keys, since sums of functions have a piece for each choice of theirs
_MOST_TRIED = 6  # expressions, of which the shortest is taken
_PARAMETER, _SET, _IN, _OUT = isl.dim_type.param, isl.dim_type.set, isl.dim_type.in_, isl.dim_type.out
_NONE = Const(-1)


def last_reader(question: ReaderQuestion) -> LastReader | Unknown:
    """The answer to a question of a canonical condition, within isl's bound on steps."""
    try:
        with bounded_steps():
            readers, exact = _readers(question)
        last = _written(readers)
    except isl.Error:
        return Unknown("it takes isl too many steps", final=True)
    except (_TooManyError, TooLargeError) as error:
        return Unknown(str(error), final=True)
    return LastReader(last, exact, _most(readers), _tail(readers))


class _TooManyError(Exception):
    """A function has too many pieces to be written."""


@dataclass(frozen=True)
class _Readers:
    """The rows that may read each key, ``[k] -> [q]``, of all keys; and their last as a function of the key."""

    rows: isl.Map
    keys: isl.Set
    last: isl.PwAff


def _readers(question: ReaderQuestion) -> tuple[_Readers, bool]:
    """The readers, and whether they are exact: nothing that is not affine has a part in them."""
    sizes = (("heads", question.heads), ("n", question.n))
    limits = ["q < n", *(f"{name} = {size}" for name, size in sizes if size is not None)]
    pairs = Pairs([question.mask], limits, question.orders)
    kept, everything = pairs.where(question.mask), pairs.all
    lost = everything.subtract(kept)
    for name in pairs.free.values():  # each pair has a value of its own
        place = everything.find_dim_by_name(_PARAMETER, name)
        kept, lost, everything = (found.project_out(_PARAMETER, place, 1) for found in (kept, lost, everything))
    exact = not pairs.free or kept.is_disjoint(lost)
    rows = isl.Map.from_domain(kept.coalesce()).move_dims(_OUT, 0, _IN, 0, 1)
    keys = everything.project_out(_SET, 0, 1)
    return _Readers(rows, keys, rows.lexmax_pw_multi_aff().get_pw_aff(0).coalesce()), exact


def _written(readers: _Readers) -> Expr:
    """The last reader as an expression: a short one, or where that takes too many steps one piece after the other."""
    try:
        with bounded_steps(_FEWER_STEPS):
            return _checked(readers, _Chain.of(readers, several=True).expression())
    except isl.Error:
        with bounded_steps(_FEWER_STEPS):
            return _checked(readers, _Chain.of(readers, several=False).expression())


# -- as an expression ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Candidate:
    """An expression, and the keys of whose last reader it is the number."""

    value: Expr
    right: isl.Set


@dataclass(frozen=True)
class _Chain:
    """Expressions chosen one after the other until they are right of every key, the first for the most of them."""

    keys: isl.Set
    chosen: tuple[tuple[_Candidate, isl.Set], ...]  # with the keys that those before it leave

    @classmethod
    def of(cls, readers: _Readers, several: bool) -> _Chain:
        """The shortest of the chains that begin with one of the most useful candidates."""
        candidates = _candidates(readers, several)
        found = [cls._begun(candidates, readers.keys, first) for first in _useful(candidates, readers.keys)]
        return min(found, key=lambda chain: len(written(chain.expression())), default=cls(readers.keys, ()))

    @classmethod
    def _begun(cls, candidates: list[_Candidate], keys: isl.Set, first: _Candidate) -> _Chain:
        chosen, left = [first], keys.subtract(first.right).coalesce()
        while not left.is_empty():
            chosen.append(_useful(candidates, left)[0])
            left = left.subtract(chosen[-1].right).coalesce()
        for candidate in chosen[:-1]:  # those chosen later may be right of all that an earlier one was chosen for
            others = [other for other in chosen if other is not candidate]
            if keys.is_subset(reduce(isl.Set.union, (other.right for other in others))):
                chosen = others
        found, left = [], keys
        for candidate in chosen:
            found.append((candidate, left))
            left = left.subtract(candidate.right).coalesce()
        return cls(keys, tuple(found))

    def expression(self) -> Expr:
        """The one chosen first stands last; before it stand the others, each under its condition."""
        if not self.chosen:
            return _NONE  # no key at all
        (first, _), *others = self.chosen
        found = first.value
        for candidate, left in others:
            found = choose(self._condition(left, candidate), candidate.value, found)
        return found

    def _condition(self, left: isl.Set, candidate: _Candidate) -> Expr:
        """A condition that holds for what the candidate is to be taken for, and for no key that it is wrong of."""
        wanted = left.intersect(candidate.right).coalesce().compute_divs()
        parts = [self._loosened(list(conjuncts(basic)), candidate.right) for basic in wanted.get_basic_sets()]
        if len(parts) > _MOST_PIECES:
            raise _TooManyError("the last reader is a function of too many pieces")
        return disjunction(*parts) if parts else FALSE

    def _loosened(self, conditions: list[tuple[isl.Set, Expr]], right: isl.Set) -> Expr:
        """The conjunction of as few of the conditions as keep to the keys that an expression is right of."""
        kept = list(range(len(conditions)))
        for place in sorted(
            kept, key=lambda place: N not in walk(conditions[place][1])
        ):  # those on n are dropped first
            fewer = [other for other in kept if other != place]
            looser = reduce(isl.Set.intersect, (conditions[other][0] for other in fewer), self.keys)
            if looser.is_subset(right):
                kept = fewer
        return conjunction(*(conditions[place][1] for place in kept))


def _useful(candidates: list[_Candidate], left: isl.Set) -> list[_Candidate]:
    """The candidates that leave the simplest sets of keys, at most _MOST_TRIED; only the first that leaves none."""
    found: list[tuple[int, int, _Candidate]] = []
    for place, candidate in enumerate(candidates):
        rest = left.subtract(candidate.right).coalesce()
        if rest.is_empty():
            return [candidate]
        if not left.is_subset(rest):
            found.append((rest.n_basic_set(), place, candidate))
    return [candidate for *_, candidate in sorted(found, key=lambda one: one[:2])][:_MOST_TRIED]


def _candidates(readers: _Readers, several: bool) -> list[_Candidate]:
    """The functions of the pieces, for ``several`` the least and the greatest of all and of each two, and -1 where no
    row reads.
    """
    last = readers.last
    pieces = last.get_pieces()
    if len(pieces) > _MOST_PIECES:
        raise _TooManyError("the last reader is a function of too many pieces")
    read = ((number(aff), isl.PwAff.from_aff(aff)) for _, aff in pieces)
    functions = dict(sorted(read, key=lambda one: K not in walk(one[0])))  # min(k + 3, n - 1), as one writes it
    values = dict(functions)
    every = [tuple(functions)] if len(functions) > 2 else []
    groups = [*every, *combinations(functions, 2)] if several else []
    for group in groups[:_MOST_PIECES]:
        held = [functions[value] for value in group]
        values.setdefault(constructors.minimum(*group), reduce(isl.PwAff.min, held))
        values.setdefault(constructors.maximum(*group), reduce(isl.PwAff.max, held))
    unread = readers.keys.subtract(last.domain())
    found = [] if unread.is_empty() else [_Candidate(_NONE, unread)]
    right = ((value, last.eq_set(function).intersect(readers.keys)) for value, function in values.items())
    return [*found, *(_Candidate(value, keys) for value, keys in right)]


def _checked(readers: _Readers, last: Expr) -> Expr:
    """The expression. AssertionError unless it is, put into isl's terms again, the last reader of every key."""
    pairs = Pairs([last])
    value = pairs.value(last)
    graph = isl.Map.from_domain(pairs.value(Q).eq_set(value).intersect(pairs.all)).move_dims(_OUT, 0, _IN, 0, 1)
    found = readers.rows.lexmax()
    assert graph.intersect_domain(readers.keys).is_equal(found), "another last reader is read back"
    unread = pairs.value(_NONE).eq_set(value).project_out(_SET, 0, 1).intersect(readers.keys)
    assert unread.is_equal(readers.keys.subtract(found.domain())), "other keys without a reader are read back"
    return last


# -- for a cache ---------------------------------------------------------------------------------------------------


def _most(readers: _Readers) -> int | None:
    """How many keys up to a row, at most, it or a later row of any head reads, at any length; None where that grows
    with n.
    """
    bounds: list[int | None] = []
    for bound in (_span, _widths):
        try:
            with bounded_steps(_FEWER_STEPS):
                bounds.append(bound(_of_any_head(readers)))
        except isl.Error:
            continue
    return min((bound for bound in bounds if bound is not None), default=None)


def _of_any_head(readers: _Readers) -> isl.PwAff:
    """The last row of any head that reads a key."""
    head = readers.rows.find_dim_by_name(_PARAMETER, "head")
    return readers.rows.project_out(_PARAMETER, head, 1).lexmax_pw_multi_aff().get_pw_aff(0).coalesce()


def _span(last: isl.PwAff) -> int | None:
    """The greatest distance between a key and its last reader, both counted: the keys of one row lie within it."""
    space = isl.LocalSpace.from_space(last.domain().get_space())
    return _finite(last.sub(isl.PwAff.var_on_domain(space, _SET, 0)).max_val(), 1)


def _widths(last: isl.PwAff) -> int | None:
    """The greatest sum, over the pieces of the last reader, of the range of keys of one row."""
    later, order = isl.Map("{ [q] -> [p] : 0 <= p <= q }"), isl.Map("{ [k] -> [p] : k <= p }")
    parts = isl.Map.from_pw_aff(last).apply_range(later).intersect(order).reverse().coalesce().get_basic_maps()
    if not parts:
        return 0
    if len(parts) > _MOST_ADDED:
        return None
    widths = []
    for part in map(isl.Map.from_basic_map, parts):
        low, high = part.lexmin_pw_multi_aff().get_pw_aff(0), part.lexmax_pw_multi_aff().get_pw_aff(0)
        widths.append(high.sub(low))
    return _finite(reduce(isl.PwAff.union_add, (width.add_constant_val(isl.Val(1)) for width in widths)).max_val())


def _tail(readers: _Readers) -> int | None:
    """The least number of rows at the end that between them read every key, at any length; None where it grows."""
    if not readers.last.domain().is_equal(readers.keys):
        return None
    try:
        with bounded_steps(_FEWER_STEPS):
            space = isl.LocalSpace.from_space(readers.keys.get_space())
            n = isl.PwAff.var_on_domain(space, _PARAMETER, readers.keys.find_dim_by_name(_PARAMETER, "n"))
            return _finite(n.sub(readers.last).max_val())
    except isl.Error:
        return None


def _finite(value: isl.Val, more: int = 0) -> int | None:
    """A number and so many more; None for none, and for infinity."""
    return int(value.to_python()) + more if value.is_int() else None
