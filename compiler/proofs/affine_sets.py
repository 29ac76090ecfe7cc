"""Conditions of the intermediate representation as sets of integers that isl can reason about, for all n at once.

What is affine but for floors, remainders and cases is said exactly. All else, such as a table's entry, a hash or a
product of positions, is a free parameter, the same one wherever the same expression stands: what is proved of sets
with such parameters holds whatever the tables contain, but not all that holds can be proved.

Imports islpy: in a process of its own (:mod:`.worker`) or a test, never where users' tensors are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from itertools import product
from typing import TypeVar

import islpy as isl

from ..ir import OPERATIONS, Apply, Const, Entry, Expr, K, Member, Position, Q, constructors, divisors, is_opaque, walk
from .questions import Unknown

A = TypeVar("A")
_Quotient = tuple[Apply, Expr, Expr]  # ``x // w`` or ``x % w``, ``x`` and ``w``
_COMPARISONS = {
    "lt": isl.PwAff.lt_set,
    "le": isl.PwAff.le_set,
    "eq": isl.PwAff.eq_set,
    "ne": isl.PwAff.ne_set,
}


_MOST_QUOTIENTS = 8  # by numbers that a call gives, which are compared with each other
_FEW = 2  # basic sets of which a condition is looked at part by part

# isl's own, for one question: a few seconds. What needs more fails instead of running for hours.
_MOST_STEPS = 4_000_000


@contextmanager
def bounded_steps(most: int | None = None) -> Iterator[None]:
    """For one question to isl, ``most`` steps or the usual number. Raises islpy's Error (of texts it calls it a syntax
    error) where it takes too long.
    """
    context = isl.DEFAULT_CONTEXT
    context.reset_operations()
    context.set_max_operations(_MOST_STEPS if most is None else most)
    try:
        yield
    finally:
        context.set_max_operations(0)


def answered(decided: Callable[[], A]) -> A | Unknown:
    """What a function finds within isl's bound on steps, or Unknown."""
    try:
        with bounded_steps():
            return decided()
    except isl.Error as error:
        return Unknown(f"it takes isl too many steps ({str(error)[:80]})")


class Pairs:
    """All pairs of positions ``q >= 0`` and ``0 <= k < n``, of any n, and what some expressions are there.

    Sets and functions are over ``[q, k]``; the parameters are ``n``, ``head`` and ``heads``, and one for each distinct
    part of ``expressions`` that is not affine; of quotients and remainders by a positive number it is known which is
    the greater where that follows. Expressions asked about are made of the parts of those. ``limits`` are further
    conditions on positions and parameters, in isl's notation; ``orders`` names tables whose entries lie in
    ``0 .. n - 1``.
    """

    def __init__(self, expressions: Iterable[Expr], limits: Iterable[str] = (), orders: Iterable[str] = ()) -> None:
        expressions = tuple(expressions)
        unknown = dict.fromkeys(node for expression in expressions for node in free(expression))
        dividing = frozenset(divisors(*expressions))
        self.free: dict[Expr, str] = {node: f"free{place}" for place, node in enumerate(unknown)}
        names = ", ".join(["n", "head", "heads", *self.free.values()])
        bounds = [_bounds(node, name, frozenset(orders), dividing) for node, name in self.free.items()]
        stated = " and ".join(["q >= 0", "0 <= k < n", "0 <= head < heads", *limits, *filter(None, bounds)])
        self.all = isl.Set(f"[{names}] -> {{ [q, k] : {stated} }}")
        self._local = isl.LocalSpace.from_space(self.all.get_space())
        self._sets: dict[Expr, isl.Set] = {}
        self._values: dict[Expr, isl.PwAff] = {}
        for fact in self._of_quotients():
            self.all = self.all.intersect(fact)

    def _of_quotients(self) -> Iterator[isl.Set]:
        """What is known of quotients and remainders by a number that a call gives, apart from their signs.

        ``x % w <= w - 1``; what is not negative stays so when it is divided, and grows by neither operation; and where
        ``x + c * w <= y`` for all pairs, ``x // w + c <= y // w``.
        """
        found = [
            (node, x, divisor)
            for node in self.free
            if isinstance(node, Apply) and node.op in ("floordiv", "mod")
            for x, divisor in [node.args]
        ]
        unit, nought = self._constant(1), self._constant(0)
        for node, x, divisor in found:
            value = self.value(node)
            if node.op == "mod":
                yield value.le_set(self.value(divisor).sub(unit))
            if self._always(nought, self.value(x)):
                yield value.ge_set(nought).intersect(value.le_set(self.value(x)))
        quotients = [parts for parts in found if parts[0].op == "floordiv"][:_MOST_QUOTIENTS]
        for place, later in enumerate(quotients):  # what a quotient divides stands before it
            for one, other in [*product(quotients[:place], [later]), *product([later], quotients[:place])]:
                yield from self._ordered(one, other)
        yield from self._by_line_and_column(found)

    def _by_line_and_column(self, found: list[_Quotient]) -> Iterator[isl.Set]:
        """That ``x(q) < x(k)`` where it is so for the lines ``x // w``, and in one line for the columns ``x % w``."""
        of = {(node.op, x, divisor): self.value(node) for node, x, divisor in found}
        for op, x, divisor in of:
            y = constructors.substitute(x, {Q: K})
            if op == "mod" or x == y or (op, y, divisor) not in of:
                continue
            low, high, line, other = self.value(x), self.value(y), of[op, x, divisor], of[op, y, divisor]
            before = itself = after = line.eq_set(other)
            column, far = of.get(("mod", x, divisor)), of.get(("mod", y, divisor))
            if column is not None and far is not None:
                before, after = before.intersect(column.lt_set(far)), after.intersect(column.gt_set(far))
                itself = itself.intersect(column.eq_set(far))
            less, more = line.lt_set(other).union(before), line.gt_set(other).union(after)
            yield reduce(
                isl.Set.union,
                [
                    low.lt_set(high).intersect(less),
                    low.gt_set(high).intersect(more),
                    low.eq_set(high).intersect(itself),
                ],
            )

    def _ordered(self, low: _Quotient, high: _Quotient) -> Iterator[isl.Set]:
        """How much greater one quotient is than another at least, if that is known: 1 or nothing."""
        (node, x, divisor), (greater, y, same) = low, high
        for times in (1, 0) if divisor == same else ():
            more = self._constant(times)
            if self._always(self.value(x).add(self.value(divisor).mul(more)), self.value(y)):
                yield self.value(node).add(more).le_set(self.value(greater))
                return

    def _always(self, low: isl.PwAff, high: isl.PwAff) -> bool:
        """Whether one number is at most another for all pairs."""
        return bool(low.gt_set(high).intersect(self.all).is_empty())

    def where(self, condition: Expr) -> isl.Set:
        """The pairs of which a condition holds."""
        if condition not in self._sets:
            self._sets[condition] = self._where(condition)
        return self._sets[condition]

    def fails(self, condition: Expr) -> isl.Set:
        """The pairs of which it does not."""
        match condition:
            case Apply(op="not", args=(x,)):
                return self.where(x)
            case Apply(op="or", args=args) if any(isinstance(x, Apply) and x.op == "not" for x in args):
                return reduce(isl.Set.intersect, map(self.fails, args))  # what is left out twice is not worked out
        return self.all.subtract(self.where(condition))

    def kept(self, some: isl.Set, condition: Expr) -> isl.Set:
        """Those of some pairs of which a condition holds; of few pieces its parts one by one, while any are left."""
        if isinstance(condition, Apply) and condition.op == "and" and some.n_basic_set() <= _FEW:
            for part in condition.args:
                some = some if some.is_empty() else some.intersect(self.where(part)).coalesce()
            return some
        return some.intersect(self.where(condition))

    def _where(self, node: Expr) -> isl.Set:
        if node in self.free:
            held = self._parameter(self.free[node]).eq_set(self._constant(1)).intersect(self.all)
            if isinstance(node, Member):  # whatever the contents, a negative number is in no set
                held = held.intersect(self.value(node.element).ge_set(self._constant(0)))
            return held
        match node:
            case Const(value=value):
                return self.all if value else self.all.subtract(self.all)
            case Apply(op="and", args=args):
                return reduce(isl.Set.intersect, map(self.where, args)).coalesce()
            case Apply(op="or", args=args):
                return reduce(isl.Set.union, map(self.where, args)).coalesce()
            case Apply(op="not", args=(x,)):
                return self.fails(x).coalesce()
            case Apply(op="iff", args=(a, b)):
                return self._either(a, self.where(b), self.fails(b))
            case Apply(op="if", args=(test, then, otherwise)):
                return self._either(test, self.where(then), self.where(otherwise))
            case Apply(op=op, args=(a, b)):
                return _COMPARISONS[op](self.value(a), self.value(b)).intersect(self.all).coalesce()
        raise AssertionError(f"{node} is no condition")

    def _either(self, test: Expr, then: isl.Set, otherwise: isl.Set) -> isl.Set:
        return self.where(test).intersect(then).union(self.fails(test).intersect(otherwise)).coalesce()

    def value(self, number: Expr) -> isl.PwAff:
        """An integer, or a count; a condition counts 0 or 1."""
        if number not in self._values:
            self._values[number] = self._value(number)
        return self._values[number]

    def _value(self, node: Expr) -> isl.PwAff:
        if node.type == "bool":
            return self._chosen(node, self._constant(1), self._constant(0))
        if node in self.free:
            return self._parameter(self.free[node])
        match node:
            case Const(value=value):
                return self._constant(int(value))
            case Position(name="q" | "k" as name):
                return isl.PwAff.var_on_domain(self._local, isl.dim_type.set, "qk".index(name))
            case Position(name=name):
                return self._parameter(name)
            case Apply(op="add" | "plus", args=args):
                return reduce(isl.PwAff.add, map(self.value, args))
            case Apply(op="sub", args=(a, b)):
                return self.value(a).sub(self.value(b))
            case Apply(op="mul", args=args):
                return reduce(isl.PwAff.mul, map(self.value, args))
            case Apply(op="neg", args=(x,)):
                return self.value(x).neg()
            case Apply(op="abs", args=(x,)):
                return self.value(x).max(self.value(x).neg()).coalesce()
            case Apply(op="min", args=args):
                return reduce(isl.PwAff.min, map(self.value, args)).coalesce()
            case Apply(op="max", args=args):
                return reduce(isl.PwAff.max, map(self.value, args)).coalesce()
            # isl rounds down, and its remainders are not negative: as in the language.
            case Apply(op="floordiv", args=(x, Const(value=divisor))):
                return self.value(x).scale_down_val(isl.Val(str(int(divisor)))).floor()
            case Apply(op="mod", args=(x, Const(value=divisor))):
                return self.value(x).mod_val(isl.Val(str(int(divisor))))
            case Apply(op="filter", args=(test, count)):
                return self._chosen(test, self.value(count), self._constant(0))
            case Apply(op="if", args=(test, then, otherwise)):
                return self._chosen(test, self.value(then), self.value(otherwise))
        raise AssertionError(f"{node} is no integer")

    def _chosen(self, test: Expr, then: isl.PwAff, otherwise: isl.PwAff) -> isl.PwAff:
        return then.intersect_domain(self.where(test)).union_add(otherwise.intersect_domain(self.fails(test)))

    def counts(self, mask: Expr) -> dict[int, isl.Set]:
        """For each number of times that a mask counts some pair, the pairs that it counts so often."""
        match mask:
            case Apply(op="plus", args=args):
                found = self.counts(args[0])
                for part in args[1:]:
                    sums = [(a + b, x.intersect(y)) for a, x in found.items() for b, y in self.counts(part).items()]
                    found = _joined(sums)
                return found
            case Apply(op="filter", args=(test, count)):
                return self._counts_of(test, self.counts(count), {0: self.all})
            case Apply(op="if", args=(test, then, otherwise), type="count"):
                return self._counts_of(test, self.counts(then), self.counts(otherwise))
        return _joined([(1, self.where(mask)), (0, self.fails(mask).coalesce())])

    def _counts_of(self, test: Expr, then: dict[int, isl.Set], otherwise: dict[int, isl.Set]) -> dict[int, isl.Set]:
        holds, fails = self.where(test), self.fails(test)
        return _joined([
            *((count, pairs.intersect(holds)) for count, pairs in then.items()),
            *((count, pairs.intersect(fails)) for count, pairs in otherwise.items()),
        ])  # fmt: skip

    def _constant(self, value: int) -> isl.PwAff:
        return isl.PwAff.from_aff(isl.Aff.val_on_domain(self._local, isl.Val(str(value))))

    def _parameter(self, name: str) -> isl.PwAff:
        place = self.all.find_dim_by_name(isl.dim_type.param, name)
        return isl.PwAff.var_on_domain(self._local, isl.dim_type.param, place)


def _joined(parts: Iterable[tuple[int, isl.Set]]) -> dict[int, isl.Set]:
    """The union of the sets of each number; empty ones are left out."""
    found: dict[int, isl.Set] = {}
    for count, pairs in parts:
        if not pairs.is_empty():
            found[count] = found[count].union(pairs).coalesce() if count in found else pairs
    return found


def free(expression: Expr) -> list[Expr]:
    """The parts of an expression of which isl is told nothing but that they have a value."""
    return [node for node in walk(expression) if _is_free(node)]


def _is_free(node: Expr) -> bool:
    if isinstance(node, Const | Position) or node.type in ("float", "double"):
        return False
    if not isinstance(node, Apply):
        return True
    match node.op:
        case "mul":
            return sum(not isinstance(arg, Const) for arg in node.args) > 1
        case "floordiv" | "mod":
            return not isinstance(node.args[1], Const)
    return is_opaque(node) or (node.op in _COMPARISONS and node.args[0].type in ("float", "double"))


def _bounds(node: Expr, name: str, orders: frozenset[str], dividing: frozenset[str]) -> str:
    """What is known of the value of a free part, in isl's notation; empty where nothing is."""
    if node.type == "bool":
        return f"0 <= {name} <= 1"
    if isinstance(node, Entry) and node.table in orders:
        return f"0 <= {name} < n"
    if isinstance(node, Entry) and node.table in dividing:
        return f"1 <= {name}"
    if isinstance(node, Apply) and node.op == "mod":
        return f"0 <= {name}"
    if isinstance(node, Apply) and (opaque := OPERATIONS[node.op].opaque) is not None:
        return f"{opaque[0]} <= {name} <= {opaque[1]}"
    return ""
