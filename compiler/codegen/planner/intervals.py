"""Generates statements that judge pairs of granules by ranges: interval arithmetic as straight-line Triton.

It is :mod:`compiler.analysis.classify` as text, for what the host does not know. An integer becomes two variables, its
least and its greatest value; a condition becomes ``may`` and ``must``, 0 or 1: whether it may hold for some pair, and
whether it holds for every pair. Where nothing is known of an operation, it may hold and need not: the answer is never
wrong, only wider.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import TypeAlias

from ...ir import (
    OPERATIONS,
    ROUNDINGS,
    Apply,
    Const,
    Entry,
    Expr,
    Member,
    Number,
    Position,
    children,
    is_opaque,
    walk,
)
from .. import Code, dependencies
from ..triton import TritonDialect
from .features import Features, Side, grouped, side_of
from .float_bounds import LARGEST, Floats, bounds_of_floats, extreme

LIMIT = 2**61
"""Where integers may need 64 bits, bounds are held within it, and those that reach it count as unknown."""

_MOST_CORNERS = 8


@dataclass(frozen=True)
class Ints:
    """The least and the greatest value of an integer or a count, as text; all values are equal modulo ``step``.

    With step 0 there is just one value, and both texts are the same.
    """

    low: str
    high: str
    step: int = 1


@dataclass(frozen=True)
class Trit:
    """Whether a condition may hold and must hold, as texts of 0 or 1."""

    may: str
    must: str


ALWAYS, NEVER, UNKNOWN = Trit("one", "one"), Trit("none", "none"), Trit("one", "none")

Value: TypeAlias = Ints | Floats | Trit | None  # None: any number


@dataclass
class Judgement:
    """The statements of a condition and its result; ``features`` are those that the statements read.

    A feature 2 of the rows is in the variables ``row2_low``, ``row2_high`` and, if signed, ``row2_sign``.
    """

    features: Features
    lines: list[Code] = field(default_factory=list)
    result: Trit = UNKNOWN


def judge(condition: Expr, features: Features, dialect: TritonDialect, wide: bool) -> Judgement:
    """Return the statements that judge a condition, or a count, for a pair of granules.

    They compute in 64 bits, as ``dialect`` must. ``wide``: integers of the program may need these themselves.
    """
    found = Judgement(features)
    value = _Judge(condition, features, dialect, wide, found.lines).value(condition)
    if isinstance(value, Ints):
        value = Trit(f"({value.high} > 0).to(tl.int32)", f"(({value.low} == 1) & ({value.high} == 1)).to(tl.int32)")
    assert isinstance(value, Trit)
    found.result = value
    return found


class _Judge:
    def __init__(self, root: Expr, features: Features, dialect: TritonDialect, wide: bool, lines: list[Code]) -> None:
        self._features, self._dialect, self._wide, self._lines = features, dialect, wide, lines
        self._depends = dependencies([root])
        self._values: dict[Expr, Value] = {}
        self._names = itertools.count()

    def value(self, root: Expr) -> Value:
        """The value of an expression; its statements are added after those of its parts."""
        stack = [root]
        while stack:
            node = stack[-1]
            if node in self._values:
                stack.pop()
                continue
            side = side_of(self._depends[node])
            if side is not None:
                self._values[node] = self._alone(node, side)
                continue
            node = self._prepared(node)
            missing = [part for part in children(node) if part not in self._values]
            if missing:
                stack += missing
                continue
            self._values[stack[-1]] = self._related(node, [self._values[part] for part in children(node)])
        return self._values[root]

    def _prepared(self, node: Expr) -> Expr:
        """The node with operands joined that one side decides."""
        if not isinstance(node, Apply):
            return node
        found = grouped(node, self._depends)
        for part in found.args:
            for each in walk(part) if part not in self._depends else ():
                self._depends[each] = self._depends.get(each, frozenset()).union(
                    *(self._depends[x] for x in children(each))
                )
        return found

    def _alone(self, node: Expr, side: Side) -> Value:
        """The value of what one side decides: a leaf that is spelled where it is used, or a feature."""
        match node:
            case Const(value=bool(value)):
                return ALWAYS if value else NEVER
            case Const(value=int(value)):
                return Ints(f"({value})", f"({value})", 0)
            case Const(value=value):
                text = self._dialect.constant(value)
                return Floats(text, text)
            case Number(index=index):
                return Ints(f"number{index}", f"number{index}", 0)
            case Position(name="n" | "head" | "heads" as name):
                return Ints(name, name, 0)
        if node.type == "double":  # the planes of ranges are narrower
            return None
        number = self._features.number(side, node)
        low, high = f"{side}{number}_low", f"{side}{number}_high"
        if node.type == "bool":
            return Trit(f"{high}.to(tl.int32)", f"{low}.to(tl.int32)")
        if node.type == "float":
            return Floats(low, high)
        step = (self._features.row if side == "row" else self._features.column)[number].step
        return Ints(low, high, step)

    # Statements.

    def _name(self, *texts: str) -> tuple[str, ...]:
        """New variables with these values."""
        number = next(self._names)
        names = tuple(f"t{number}_{place}" for place in range(len(texts)))
        self._lines += [Code(f"{name} = {text}") for name, text in zip(names, texts, strict=True)]
        return names

    def _ints(self, low: str, high: str, step: int = 1, of: Sequence[Ints] = ()) -> Ints:
        """An integer with these bounds, which were computed from those ``of`` others.

        Where 64 bits may not hold a bound, of it or of an operand, both become unknown: so they stay in what follows.
        """
        if self._wide:
            raw = self._name(low, high)
            either = " | ".join(_beyond(x) for x in (Ints(raw[0], raw[1]), *of))
            (beyond,) = self._name(f"({either}) != 0")
            names = self._name(f"tl.where({beyond}, -{LIMIT}, {raw[0]})", f"tl.where({beyond}, {LIMIT}, {raw[1]})")
            return Ints(names[0], names[1])
        if low == high or step == 0:
            (name,) = self._name(low)
            return Ints(name, name, step)
        names = self._name(low, high)
        return Ints(names[0], names[1], step)

    def _trit(self, may: str, must: str) -> Trit:
        return Trit(*self._name(may, must))

    def _decided(self, may: str, must: str, *unknown_if: Ints) -> Trit:
        """A comparison, undecided where 64 bits may not hold a bound."""
        if self._wide:
            beyond = " | ".join(map(_beyond, unknown_if))
            may, must = f"({may}) | ({beyond})", f"({must}) & (({beyond}) == 0)"
        return self._trit(f"({may}).to(tl.int32)", f"({must}).to(tl.int32)")

    # Operations.

    def _related(self, node: Expr, parts: list[Value]) -> Value:
        match node:
            case Entry() | Member():
                return self._entry(node, parts)
            case Apply(op="lt" | "le" | "eq" | "ne"):
                return self._compared(node, parts)
            case Apply(type="bool"):
                return self._condition(node, [_trit_of(part) for part in parts])
            case Apply(type="int"):
                return self._integer(node, parts)
            case Apply(type="count"):
                return self._count(node, parts)
            case Apply():
                return self._float(node, parts)
        raise AssertionError(node)  # leaves are decided by one side

    def _compared(self, node: Apply, parts: list[Value]) -> Value:
        left, right = parts
        if isinstance(left, Ints) and isinstance(right, Ints):
            return self._compare_ints(node, left, right)
        if isinstance(left, Floats) and isinstance(right, Floats):
            return self._compare_floats(node.op, left, right)
        return UNKNOWN

    def _compare_ints(self, node: Apply, a: Ints, b: Ints) -> Trit:
        if node.op == "le":
            return self._decided(f"{a.low} <= {b.high}", f"{a.high} <= {b.low}", a, b)
        if node.op == "lt":
            return self._decided(f"{a.low} < {b.high}", f"{a.high} < {b.low}", a, b)
        may = f"({a.low} <= {b.high}) & ({b.low} <= {a.high})"
        step = gcd(a.step, b.step)
        if step > 1:
            may += f" & (({a.low} - {b.low}) % {step} == 0)"
        signs = self._signs(node)
        if signs is not None:
            may += f" & (({signs[0]} & {signs[1]}) != 0)"
        must = f"({a.low} == {a.high}) & ({b.low} == {b.high}) & ({a.low} == {b.low})"
        equal = self._decided(may, must, a, b)
        return equal if node.op == "eq" else self._not(equal)

    def _signs(self, node: Apply) -> tuple[str, str] | None:
        """The signatures of both sides of an equality, where each side of it is one feature."""
        names = []
        for part in node.args:
            side = side_of(self._depends[part])
            if side is None or isinstance(part, (Const, Number)) or part in _PLAIN:
                return None
            names.append(f"{side}{self._features.number(side, part, signed=True)}_sign")
        return names[0], names[1]

    def _compare_floats(self, op: str, a: Floats, b: Floats) -> Trit:
        if op in ("lt", "le"):
            sign, must = "<", f"({a.high} < {b.low})"
            if op == "le":  # what may be NaN has infinite bounds, and NaN is not even equal to infinity
                sign, must = "<=", f"(tl.maximum({a.high}, -{LARGEST}) <= tl.minimum({b.low}, {LARGEST}))"
            may = f"({a.low} {sign} {b.high})"
            return self._trit(f"{may}.to(tl.int32)", f"{must}.to(tl.int32)")
        must = f"({a.low} == {a.high}) & ({b.low} == {b.high}) & ({a.low} == {b.low})"
        equal = self._trit(f"(({a.low} <= {b.high}) & ({b.low} <= {a.high})).to(tl.int32)", f"({must}).to(tl.int32)")
        return equal if op == "eq" else self._not(equal)

    def _not(self, x: Trit) -> Trit:
        return self._trit(f"1 - {x.must}", f"1 - {x.may}")

    def _condition(self, node: Apply, xs: list[Trit]) -> Trit:
        mays, musts = [x.may for x in xs], [x.must for x in xs]
        match node.op:
            case "and":
                return self._trit(" & ".join(mays), " & ".join(musts))
            case "or":
                return self._trit(" | ".join(mays), " | ".join(musts))
            case "not":
                return self._not(xs[0])
            case "iff":
                (a, b) = xs
                both = f"({a.must} & {b.must}) | ((1 - {a.may}) & (1 - {b.may}))"
                differ = f"({a.must} & (1 - {b.may})) | ((1 - {a.may}) & {b.must})"
                return self._trit(f"1 - ({differ})", both)
            case "if":
                c, a, b = xs
                may = f"({c.may} & {a.may}) | ((1 - {c.must}) & {b.may})"
                must = f"((1 - {c.may}) | {a.must}) & ({c.must} | {b.must})"
                return self._trit(may, must)
        return UNKNOWN

    def _integer(self, node: Apply, parts: list[Value]) -> Value:
        if node.op == "if":
            return self._chosen(_trit_of(parts[0]), parts[1], parts[2])
        known = [part for part in parts if isinstance(part, Ints)]
        complete = len(known) == len(parts)
        if is_opaque(node):
            return self._opaque(node, known if complete else [])
        if node.op == "mod":
            return self._mod(known[0] if complete else None, self._divisor(node, parts[1]))
        if not complete:
            return None
        lows, highs = [x.low for x in known], [x.high for x in known]
        match node.op:
            case "add":
                return self._sum(known)
            case "sub":
                a, b = known
                return self._ints(f"{a.low} - {b.high}", f"{a.high} - {b.low}", gcd(a.step, b.step), known)
            case "mul":
                return self._multiplied(node, known)
            case "neg":
                return self._ints(f"-{highs[0]}", f"-{lows[0]}", known[0].step, known)
            case "abs":
                low, high = lows[0], highs[0]
                return self._ints(f"tl.maximum(tl.maximum({low}, -{high}), 0)", f"tl.maximum(-{low}, {high})", of=known)
            case "min" | "max":
                return self._ints(extreme(node.op, lows), extreme(node.op, highs), of=known)
            case "floordiv":
                return self._floordiv(known[0], self._divisor(node, parts[1]))
        return None

    def _sum(self, known: Sequence[Ints]) -> Ints:
        """The sum, of two terms at a time: within LIMIT, two cannot overflow."""
        found = known[0]
        for x in known[1:]:
            found = self._ints(
                f"{found.low} + {x.low}", f"{found.high} + {x.high}", gcd(found.step, x.step), (found, x)
            )
        return found

    def _multiplied(self, node: Apply, known: list[Ints]) -> Ints:
        found = known[0]
        for place, other in enumerate(known[1:], 1):
            corners = [f"{x} * {y}" for x in (found.low, found.high) for y in (other.low, other.high)]
            if self._wide:
                corners = [f"_product({x}, {y})" for x in (found.low, found.high) for y in (other.low, other.high)]
            names = self._name(*corners)
            low, high = extreme("min", names), extreme("max", names)
            if place == 1 and node.args[0] == node.args[1]:  # a square
                low = f"tl.maximum({low}, 0)"
            found = self._ints(low, high, of=(found, other))
        return found

    def _divisor(self, node: Apply, value: Value) -> int | str:
        """What an integer is divided by: a constant, or the name of a run-time number, which is at least 1."""
        if isinstance(node.args[1], Const):
            return int(node.args[1].value)
        assert isinstance(value, Ints)  # a number of the call
        return self._name(f"tl.maximum({value.low}, 1)")[0]

    def _floordiv(self, x: Ints, divisor: int | str) -> Ints:
        low, high = self._quotient(x.low, divisor), self._quotient(x.high, divisor)
        return self._ints(low, high, 0 if x.step == 0 else 1, (x,))

    def _quotient(self, text: str, divisor: int | str) -> str:
        return f"({self._dialect.operation('floordiv', (text, str(divisor)), ('int', 'int'), 'int')})"

    def _remainder(self, text: str, divisor: int | str) -> str:
        return self._dialect.operation("mod", (text, str(divisor)), ("int", "int"), "int")

    def _mod(self, x: Ints | None, divisor: int | str) -> Value:
        """The remainder: of both bounds where the quotient is the same, else any that the step allows."""
        if x is None:
            return Ints("0", f"({divisor} - 1)", 1)
        step = 1
        if isinstance(divisor, int) and not self._wide:
            step = gcd(x.step, divisor)
        if (x.step == 0 and not self._wide) or step == divisor:
            return self._ints(self._remainder(x.low, divisor), "", 0)
        low, high = self._name(self._remainder(x.low, divisor), self._remainder(x.high, divisor))
        same = f"({self._quotient(x.low, divisor)} == {self._quotient(x.high, divisor)})"
        if self._wide:
            same += f" & (({_beyond(x)}) == 0)"
        least, greatest = "0", f"{divisor} - 1"
        if step > 1:
            least, greatest = f"{low} % {step}", f"{divisor} - {step} + {low} % {step}"
        return self._ints(f"tl.where({same}, {low}, {least})", f"tl.where({same}, {high}, {greatest})", step)

    def _opaque(self, node: Apply, known: list[Ints]) -> Ints:
        """Its value where each argument has one value, else its whole range."""
        bounds = OPERATIONS[node.op].opaque
        assert bounds is not None
        if not known:
            return Ints(str(bounds[0]), str(bounds[1]))
        single = " & ".join(f"({x.low} == {x.high})" for x in known)
        if self._wide:
            single += f" & (({' | '.join(map(_beyond, known))}) == 0)"
        text = self._dialect.operation(node.op, tuple(x.low for x in known), tuple("int" for _ in known), "int")
        alone, value = self._name(single, text)
        return self._ints(f"tl.where({alone}, {value}, {bounds[0]})", f"tl.where({alone}, {value}, {bounds[1]})")

    def _chosen(self, c: Trit, a: Value, b: Value) -> Value:
        if not isinstance(a, Ints) or not isinstance(b, Ints):
            return None
        low, high = (
            f"tl.where({c.must} != 0, {x}, tl.where({c.may} == 0, {y}, tl.{pick}imum({x}, {y})))"
            for x, y, pick in ((a.low, b.low, "min"), (a.high, b.high, "max"))
        )
        return self._ints(low, high, of=(a, b))

    def _count(self, node: Apply, parts: list[Value]) -> Ints:
        if node.op == "plus":
            return self._sum([_count_of(part) for part in parts])
        c, then = _trit_of(parts[0]), _count_of(parts[1])
        other = _count_of(parts[2]) if node.op == "if" else Ints("0", "0", 0)
        found = self._chosen(c, then, other)
        assert isinstance(found, Ints)
        return found

    def _float(self, node: Apply, parts: list[Value]) -> Value:
        """A converted integer, a choice, or what a mask computes with floats."""
        match node.op, parts:
            case "float", [Ints() as x] if not self._wide:
                low, high = self._name(
                    *(self._dialect.operation("float", (text,), ("int",), "float") for text in (x.low, x.high))
                )
                return Floats(low, high)
            case "if", [_, Floats() as a, Floats() as b]:
                return Floats(*self._name(f"tl.minimum({a.low}, {b.low})", f"tl.maximum({a.high}, {b.high})"))
        xs = [part for part in parts if isinstance(part, Floats)]
        if len(xs) < len(parts) or node.type == "double":
            return None
        if node.op in ROUNDINGS:
            rounded = (
                self._dialect.operation(node.op, (text,), ("float",), "float") for text in (xs[0].low, xs[0].high)
            )
            return Floats(*self._name(*rounded))
        bounds = bounds_of_floats(node.op, xs)
        if bounds is None:
            return None
        # infinite bounds, which may stand for NaN, and what may make NaN, are unknown
        most = extreme("max", [f"tl.abs({bound})" for x in xs for bound in (x.low, x.high)])
        (unknown,) = self._name(f"{most} > {LARGEST}")
        low, high = (
            f"tl.where({unknown}, float('{end}'), {text})" for end, text in zip(("-inf", "inf"), bounds, strict=True)
        )
        return Floats(*self._name(low, high))

    def _entry(self, node: Entry | Member, parts: list[Value]) -> Value:
        """An entry that both sides choose: of those at the corners, where the indices take at most two values each."""
        unknown = UNKNOWN if node.type == "bool" else None
        indices = [part for part in parts if isinstance(part, Ints)]
        if len(indices) < len(parts) or node.type in ("float", "double"):
            return unknown
        choices = [(x.low,) if x.low == x.high else (x.low, x.high) for x in indices]
        corners = list(itertools.product(*choices))
        if len(corners) > _MOST_CORNERS:
            return unknown
        near = " & ".join(f"({x.high} - {x.low} <= 1)" for x in indices if x.low != x.high) or "True"
        names = [self._name(self._read(node, corner))[0] for corner in corners]
        if node.type == "bool":
            holds = self._name(*(f"tl.where({name}, 1, 0)" for name in names))
            (close,) = self._name(f"tl.where({near}, 1, 0)")
            return self._trit(f"(1 - {close}) | {' | '.join(holds)}", f"{close} & {' & '.join(holds)}")
        if near == "True":
            return self._ints(names[0], names[0], 0)
        least, greatest = (-LIMIT, LIMIT) if self._wide else (-(2**31), 2**31 - 1)
        low, high = extreme("min", names), extreme("max", names)
        return self._ints(f"tl.where({near}, {low}, {least})", f"tl.where({near}, {high}, {greatest})")

    def _read(self, node: Entry | Member, indices: Sequence[str]) -> str:
        if isinstance(node, Member):
            return self._dialect.member(indices[-1], int(node.table), tuple(indices[:-1]))
        return self._dialect.entry(int(node.table), tuple(indices), node.type)


_PLAIN = frozenset({Position("n"), Position("head"), Position("heads")})


def _beyond(x: Ints) -> str:
    """Whether 64 bits may not hold an integer's bounds."""
    return f"({x.low} <= -{LIMIT}) | ({x.high} >= {LIMIT})"


def _trit_of(value: Value) -> Trit:
    assert isinstance(value, Trit)
    return value


def _count_of(value: Value) -> Ints:
    """A condition or a count as the least and the greatest number of times that it counts."""
    if isinstance(value, Ints):
        return value
    assert isinstance(value, Trit)
    return Ints(value.must, value.may)
