"""Seeded random masks straight over the intermediate representation, with tables and an extent to read them in.

Half structured (bands, blocks, residues, table look-ups as patterns have them), half anything the types allow: indices
that leave their tables, products that pass 32 bits, floats that tie.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import Dimension, Table
from attnc.compiler.ir.expressions import HEAD, HEADS, LOGIT, Const, Entry, Expr, K, Member, N, Q
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.oracle import interpreter as oracle
from attnc.compiler.plan.orders import natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from tests.support.operation_cases import an_opaque, taken

SIZES = (1, 2, 3, 4, 5, 7, 8, 12, 16, 24, 32)


@dataclass(frozen=True)
class Case:
    """A mask over tables "0", "1", …, and everything that gives it a value."""

    mask: Expr
    tables: tuple[Table, ...]
    contents: tuple[HostTable, ...]
    extent: CallShape

    def program(self, query_tile: int, key_tile: int) -> Program:
        segment = Segment(natural(key_tile), self.mask)
        return Program((Kernel(natural(query_tile), (segment,), "store"),), self.mask, LOGIT, None, self.tables)

    def dense(self) -> NDArray[Any]:
        """The mask pair by pair, [batch, heads, m, n]; a read outside its table gives nothing, as in the kernels."""
        return dense(self.mask, self.tables, self.contents, self.extent)


def dense(expr: Expr, tables: tuple[Table, ...], contents: tuple[HostTable, ...], extent: CallShape) -> NDArray[Any]:
    """Any expression but a float one, pair by pair, [batch, heads, m, n]."""
    values = {
        str(number): oracle.TableValues(table, held.values, held.batched)
        for number, (table, held) in enumerate(zip(tables, contents, strict=True))
    }
    environment = oracle.environment(
        oracle.NumpyArrays(),
        extent.n,
        extent.m,
        extent.heads,
        np.asarray(extent.q_start, np.int64),
        values,
        reached=np.zeros((1, 1, 1, 1), bool),
    )
    with np.errstate(all="ignore"):  # infinities make NaN
        result = oracle.interpret(expr, environment)
    return np.broadcast_to(result, (len(environment.batch), extent.heads, extent.m, extent.n))


class Generator:
    def __init__(self, seed: int) -> None:
        self.newer = seed % 4 == 3  # whether it draws what came later to the language, beside all else
        self.random = random.Random(seed)
        self.numpy = np.random.default_rng(seed)
        self.tables: list[Table] = []
        self.contents: list[HostTable] = []
        n = self.random.randint(1, 48)
        m = n if self.random.random() < 0.5 else self.random.randint(1, 48)
        self.batch = self.random.choice((1, 1, 1, 2, 3))
        batched_start = self.batch > 1 and self.random.random() < 0.5
        start = tuple(self.random.choice((0, 0, 5, 16, 23)) for _ in range(self.batch if batched_start else 1))
        self.extent = CallShape(n, m, self.random.choice((1, 1, 2, 3)), start)

    def case(self) -> Case:
        depth = self.random.randint(1, 4)
        mask = self.count(depth) if self.random.random() < 0.15 else self.condition(depth)
        return Case(mask, tuple(self.tables), tuple(self.contents), self.extent)

    def condition(self, depth: int) -> Expr:
        choice = self.random.random()
        if depth <= 0 or choice < 0.2:
            return self.pattern()
        if choice < 0.4:
            return constructors.conjunction(*(self.condition(depth - 1) for _ in range(self.random.randint(2, 3))))
        if choice < 0.6:
            return constructors.disjunction(*(self.condition(depth - 1) for _ in range(self.random.randint(2, 3))))
        if choice < 0.67:
            return constructors.negation(self.condition(depth - 1))
        if choice < 0.71:
            return constructors.iff(self.condition(depth - 1), self.condition(depth - 1))
        if choice < 0.75:
            return constructors.choose(*(self.condition(depth - 1) for _ in range(3)))
        compare = self.random.choice(
            (constructors.less, constructors.less_equal, constructors.equal, constructors.not_equal)
        )
        return compare(self.integer(depth - 1), self.integer(depth - 1))

    def pattern(self) -> Expr:
        """A condition such as patterns are made of."""
        if self.newer and self.random.random() < 0.5:
            return self.computed() if self.random.random() < 0.5 else self.divided()
        size = Const(self.random.choice(SIZES))
        distance = constructors.sub(Q, K)
        block = int(size.value)
        blocks = constructors.sub(constructors.floordiv(Q, block), constructors.floordiv(K, block))
        position = self.random.choice((Q, K))
        match self.random.randrange(13):
            case 0:
                return constructors.less_equal(K, Q)
            case 1:
                return constructors.less_equal(constructors.absolute(distance), size)
            case 2:
                return constructors.conjunction(
                    constructors.less_equal(Const(0), distance), constructors.less(distance, size)
                )
            case 3:
                return constructors.equal(constructors.mod(distance, block), Const(self.random.randrange(block)))
            case 4:
                return constructors.less_equal(constructors.absolute(blocks), Const(self.random.randrange(3)))
            case 5:
                return constructors.less_equal(Const(self.random.randrange(block)), constructors.mod(position, block))
            case 6:
                apart = constructors.sub(constructors.mod(Q, block), constructors.mod(K, block))
                return constructors.less_equal(constructors.absolute(apart), Const(self.random.randrange(3)))
            case 7:
                table = self.table("int", ("token",))
                return constructors.equal(Entry(table, (Q,), "int"), Entry(table, (K,), "int"))
            case 8:
                return Member(position, self.table("set", ()), ())
            case 9:
                return Member(K, self.table("set", ("head",)), (HEAD,))
            case 10:
                return self.read("bool", 2)
            case 11:
                bound = Const(self.random.choice((-1.0, 0.0, 0.5, 2.0)))
                compare = self.random.choice(
                    (constructors.less, constructors.less_equal, constructors.equal, constructors.not_equal)
                )
                return compare(self.read("float", 1), bound if self.random.random() < 0.7 else self.read("float", 1))
            case _:
                function = an_opaque(self.random)
                parts = HEAD, constructors.floordiv(Q, block), constructors.floordiv(K, 4)
                drawn = constructors.function(function.op, *taken(function, (Const(self.random.randrange(9)), *parts)))
                return constructors.less(constructors.mod(drawn, 100), Const(self.random.randrange(101)))

    def divided(self) -> Expr:
        """A condition that divides by a number of the call."""
        width = Entry(self.divisor(), (), "int")
        x, y = (self.random.choice((Q, K, constructors.sub(Q, K), self.integer(2))) for _ in range(2))
        operation = self.random.choice((constructors.floordiv, constructors.mod))
        compare = self.random.choice((constructors.less, constructors.less_equal, constructors.equal))
        bound = self.random.choice((Const(self.random.randint(-3, 9)), operation(y, width)))
        return compare(operation(x, width), bound)

    def divisor(self) -> str:
        name = self.table("int", ())
        values = self.contents[-1].values
        assert values is not None
        drawn = self.numpy.choice([1, 2, 3, 5, 8, 13, 40, 2**31 - 1], values.shape)
        self.contents[-1] = HostTable(np.asarray(drawn, values.dtype), self.contents[-1].batched)
        return name

    def computed(self) -> Expr:
        """A comparison of what a mask computes with floats, rounded as a call has it."""
        rounding: Any = self.random.choice(("fp32", "bf16", "fp16", "fp64"))
        compare = self.random.choice((constructors.less, constructors.less_equal, constructors.equal))
        return compare(self.float(2, rounding), self.float(1, rounding))

    def float(self, depth: int, rounding: Any) -> Expr:
        if depth <= 0:
            return self.read("float", 1) if self.random.random() < 0.8 else Const(self.random.choice((0.1, 0.5, -1.25)))
        a, b = self.float(depth - 1, rounding), self.float(depth - 1, rounding)
        match self.random.randrange(6):
            case 0:
                return constructors.absolute(a)
            case 1:
                return constructors.choose(constructors.less(a, b), a, constructors.neg(b))
            case number:
                made = (constructors.sub, constructors.add, constructors.mul, constructors.sub)[number - 2](a, b)
                return made if isinstance(made, Const) else constructors.function(rounding, made)

    def integer(self, depth: int) -> Expr:
        if depth <= 0 or self.random.random() < 0.2:
            leaf = self.random.random()
            if leaf < 0.7:
                return self.random.choice((Q, K, Q, K, Q, K, N, HEAD, HEADS))
            return Const(self.random.choice((*range(-4, 40), 2**31, -(2**40))))
        part = depth - 1
        match self.random.randrange(14):
            case 0 | 1:
                return constructors.add(self.integer(part), self.integer(part))
            case 2 | 3:
                return constructors.sub(self.integer(part), self.integer(part))
            case 4:
                return constructors.mul(self.integer(part), self.small(part))
            case 5:
                return constructors.neg(self.integer(part))
            case 6:
                return constructors.absolute(self.integer(part))
            case 7:
                return constructors.minimum(self.integer(part), self.integer(part))
            case 8:
                return constructors.maximum(self.integer(part), self.integer(part))
            case 9:
                return constructors.floordiv(self.integer(part), self.random.choice(SIZES))
            case 10 | 11:
                return constructors.mod(self.integer(part), self.random.choice(SIZES))
            case 12:
                return constructors.choose(self.condition(part), self.integer(part), self.integer(part))
            case _:
                return self.read("int", self.random.randrange(4))

    def small(self, depth: int) -> Expr:
        """An integer whose product with another stays within 64 bits."""
        return (
            Const(self.random.randint(-9, 9))
            if self.random.random() < 0.6
            else constructors.mod(self.integer(depth), 5)
        )

    def count(self, depth: int) -> Expr:
        choice = self.random.random()
        if depth <= 0 or choice < 0.5:
            return constructors.plus(*(self.condition(depth - 1) for _ in range(self.random.randint(2, 3))))
        if choice < 0.75:
            return constructors.filtered(self.condition(depth - 1), self.count(depth - 1))
        return constructors.choose(self.condition(depth - 1), self.count(depth - 1), self.count(depth - 1))

    def read(self, element: Any, axes: int) -> Expr:
        kinds = [self.random.choice(("free", "free", "head", "token", "query")) for _ in range(axes)]
        name = self.table(element, tuple(kinds))
        indices: list[Expr] = []
        for kind in kinds:
            if kind == "query":
                indices.append(Q)
            elif kind == "head":
                indices.append(HEAD)
            elif kind == "token":
                indices.append(self.random.choice((Q, K)))
            else:
                shift = Const(self.random.randint(-3, 20))
                plain = constructors.floordiv(self.random.choice((Q, K)), self.random.choice((1, 4, 8)))
                indices.append(self.random.choice((plain, constructors.add(constructors.sub(K, Q), shift))))
        return Entry(name, tuple(indices), element)

    def table(self, element: Any, kinds: tuple[Any, ...]) -> str:
        sizes = {"token": self.extent.n, "query": self.extent.m, "head": self.extent.heads}
        shape = tuple(sizes.get(kind, self.random.randint(1, 40)) for kind in kinds)
        batched = self.random.random() < 0.3
        if batched:
            shape = (self.random.choice((1, self.batch)), *shape)
        if element == "set":
            shape = (*shape, self.random.randint(1, 50))
        self.contents.append(HostTable(self.values(element, shape), batched))
        dimensions = tuple(Dimension(kind, name=f"size{place}") for place, kind in enumerate(kinds))
        self.tables.append(Table(f"table{len(self.tables)}", element, dimensions))
        return str(len(self.tables) - 1)

    def values(self, element: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        if element == "int":
            values = self.numpy.integers(0, 6, shape)
            if shape and self.random.random() < 0.5:
                values = np.sort(values, axis=-1)
            return values.astype(self.random.choice((np.int32, np.int64)))
        if element == "float":
            values = self.numpy.choice([-1.0, 0.0, 0.5, 2.0, np.inf, np.nan][: self.random.randint(3, 6)], shape)
            return values.astype(np.float32)
        return self.numpy.random(shape) < self.random.choice((0.0, 0.05, 0.5, 1.0))
