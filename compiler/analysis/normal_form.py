"""Brings a mask into normal form: a sum of parts, each of them a union of terms, which are conjunctions.

A part is a condition that counts a pair once; a mask that is not a count has one part. The terms of a part may overlap:
:func:`guards` gives the conditions that exclude the pairs of earlier terms from a later one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import zip_longest

from ..ir import FALSE, TRUE, Apply, Expr, constructors, positions, walk
from .linear_sums import Linear, implied

MOST_TERMS = 16
"""The most terms of one part. Unions that would make more of them are left whole, as conditions within a term."""


@dataclass(frozen=True)
class Term:
    """A conjunction of conditions; an empty one holds for every pair.

    ``rows``: the conditions on ``q`` alone; ``columns``: those on ``k`` alone; ``relation``: all others.
    """

    rows: tuple[Expr, ...]
    columns: tuple[Expr, ...]
    relation: tuple[Expr, ...]

    @property
    def conjuncts(self) -> tuple[Expr, ...]:
        return (*self.rows, *self.columns, *self.relation)

    @cached_property
    def condition(self) -> Expr:
        return constructors.conjunction(*self.conjuncts)


def normalise(mask: Expr) -> tuple[tuple[Term, ...], ...]:
    """The terms of each part of a mask. A part is the union of its terms; the mask is the sum of its parts."""
    return tuple(terms(part) for part in parts(mask))


def parts(mask: Expr) -> tuple[Expr, ...]:
    """Conditions that each count a pair once: the mask is their sum. A bool mask is its own only part."""
    match mask:
        case Apply(op="plus", args=args):
            return tuple(part for arg in args for part in parts(arg))
        case Apply(op="filter", args=(condition, count)):
            return tuple(constructors.conjunction(condition, part) for part in parts(count))
        case Apply(op="if", args=(condition, then, otherwise), type="count"):
            # A pair takes only one of the branches, so a part of each can be put together into one part.
            pairs = zip_longest(parts(then), parts(otherwise), fillvalue=FALSE)
            return tuple(constructors.choose(condition, a, b) for a, b in pairs)
        case _:
            return (mask,)


def terms(part: Expr) -> tuple[Term, ...]:
    """A condition as a union of at most :data:`MOST_TERMS` terms; empty if it is seen to hold nowhere."""
    form = _disjunctive(negation_normal(part))
    return tuple(_term(conjuncts) for conjuncts in _absorbed(form))


def negation_normal(condition: Expr) -> Expr:
    """An equivalent condition with ``not`` before single tests only, and without ``if`` between conditions."""
    holds: dict[Expr, Expr] = {}
    fails: dict[Expr, Expr] = {}
    for node in walk(condition):
        if node.type == "bool":
            holds[node], fails[node] = _both(node, holds, fails)
    return holds[condition]


def _both(node: Expr, holds: dict[Expr, Expr], fails: dict[Expr, Expr]) -> tuple[Expr, Expr]:
    match node:
        case Apply(op="and", args=args):
            return constructors.conjunction(*(holds[x] for x in args)), constructors.disjunction(
                *(fails[x] for x in args)
            )
        case Apply(op="or", args=args):
            return constructors.disjunction(*(holds[x] for x in args)), constructors.conjunction(
                *(fails[x] for x in args)
            )
        case Apply(op="not", args=(x,)):
            return fails[x], holds[x]
        case Apply(op="if", args=(test, then, otherwise)):
            return _either(test, holds, fails, holds[then], holds[otherwise]), _either(
                test, holds, fails, fails[then], fails[otherwise]
            )
        case Apply(op="lt" | "le" | "eq" | "ne" as op, args=(a, b)) if a.type == "int":
            return node, _OPPOSITES[op](a, b)
        case _:
            return node, constructors.negation(node)


def _either(test: Expr, holds: dict[Expr, Expr], fails: dict[Expr, Expr], then: Expr, otherwise: Expr) -> Expr:
    """``then`` where the test holds, else ``otherwise``."""
    if then == TRUE or otherwise == TRUE:
        return constructors.disjunction(*((holds[test], otherwise) if then == TRUE else (fails[test], then)))
    return constructors.disjunction(
        constructors.conjunction(holds[test], then), constructors.conjunction(fails[test], otherwise)
    )


# For integers only: with a NaN, neither a comparison nor its opposite holds.
_OPPOSITES: Mapping[str, Callable[[Expr, Expr], Expr]] = {
    "lt": lambda a, b: constructors.less_equal(b, a),
    "le": lambda a, b: constructors.less(b, a),
    "eq": constructors.not_equal,
    "ne": constructors.equal,
}


@lru_cache(maxsize=1024)
def opposite(condition: Expr) -> Expr:
    """The negation of a condition, in negation normal form."""
    return negation_normal(constructors.negation(condition))


def _disjunctive(condition: Expr) -> list[tuple[Expr, ...]]:
    """Conjunctions whose union is the condition. A union that would make too many of them is left as one conjunct."""
    forms: dict[Expr, list[tuple[Expr, ...]]] = {}
    for node in walk(condition):
        match node:
            case Apply(op="or", args=args):
                form = [conjuncts for x in args for conjuncts in forms[x]]
                forms[node] = form if len(form) <= MOST_TERMS else _cut(form)
            case Apply(op="and", args=args):
                forms[node] = _distributed(args, forms)
            case _ if node.type == "bool":
                forms[node] = [(node,)]
    return forms[condition]


def _cut(form: list[tuple[Expr, ...]]) -> list[tuple[Expr, ...]]:
    kept, rest = form[: MOST_TERMS - 1], form[MOST_TERMS - 1 :]
    return [*kept, (constructors.disjunction(*(constructors.conjunction(*conjuncts) for conjuncts in rest)),)]


def _distributed(args: Sequence[Expr], forms: dict[Expr, list[tuple[Expr, ...]]]) -> list[tuple[Expr, ...]]:
    product: list[tuple[Expr, ...]] = [()]
    for x in args:
        form = forms[x] if len(product) * len(forms[x]) <= MOST_TERMS else [(x,)]
        product = [(*left, *right) for left in product for right in form]
    return product


def _absorbed(form: list[tuple[Expr, ...]]) -> list[tuple[Expr, ...]]:
    """The conjunctions without those that hold nowhere and those whose pairs another one has."""
    possible = [tuple(dict.fromkeys(x for x in conjuncts if x != TRUE)) for conjuncts in form]
    possible = [x for x in possible if FALSE not in x and not any(opposite(part) in x for part in x)]
    sets = [frozenset(conjuncts) for conjuncts in possible]
    return [
        conjuncts
        for place, conjuncts in enumerate(possible)
        if not any(
            other < sets[place] or (other == sets[place] and before < place) for before, other in enumerate(sets)
        )
    ]


def _term(conjuncts: tuple[Expr, ...]) -> Term:
    split: dict[str, list[Expr]] = {"rows": [], "columns": [], "relation": []}
    for conjunct in conjuncts:
        sides = positions(conjunct) & {"q", "k"}
        split["rows" if sides == {"q"} else "columns" if sides == {"k"} else "relation"].append(conjunct)
    return Term(*(tuple(split[place]) for place in ("rows", "columns", "relation")))


def guards(term: Term, earlier: Iterable[Term]) -> tuple[Expr, ...] | None:
    """Conditions that exclude the pairs of earlier terms from a term; None if they leave it no pair.

    Conditions that the term has itself are dropped from a guard, and a guard that is proved redundant is dropped whole.
    """
    found = dict.fromkeys(_guard(term, other) for other in earlier)
    return None if FALSE in found else tuple(guard for guard in found if guard != TRUE)


@lru_cache(maxsize=4096)
def _guard(term: Term, other: Term) -> Expr:
    asked = term.conjuncts
    rest = tuple(x for x in other.conjuncts if x not in asked and not apart(asked, (opposite(x),)))
    return TRUE if rest and apart(asked, rest) else opposite(constructors.conjunction(*rest))


def guarded(term: Term, earlier: Iterable[Term]) -> Expr:
    """The condition for the pairs that a term has and earlier terms do not."""
    others = guards(term, earlier)
    return FALSE if others is None else constructors.conjunction(term.condition, *others)


def apart(first: Sequence[Expr], second: Sequence[Expr]) -> bool:
    """Whether two conjunctions provably exclude each other, by opposite conditions or by two inequalities."""
    if any(opposite(x) in second for x in first):
        return True
    below = [form for x in second for form in _sums(x)]
    return any(_contradict(a, b) for x in first for a in _sums(x) for b in below)


@lru_cache(maxsize=1024)
def _sums(condition: Expr) -> tuple[Linear, ...]:
    """Linear sums that are at most 0 wherever the condition holds, for all lengths."""
    return tuple(implied(condition, {}))


def _contradict(a: Linear, b: Linear) -> bool:
    """Whether two sums cannot both be at most 0."""
    opposed = len(a.factors) == len(b.factors) and all(a.factors.get(x) == -factor for x, factor in b.factors.items())
    return opposed and a.constant + b.constant > 0
