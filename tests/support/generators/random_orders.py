"""Random masks in random orders, straight over the intermediate representation: programs of one kernel and one segment.

Half of the masks suit the orders (residues, blocks, grids, ranks: what the orders are for), half are any.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from attnc.compiler.ir import constructors
from attnc.compiler.ir.expressions import HEAD, LOGIT, Const, Entry, Expr, K, Member, Position, Q
from attnc.compiler.ir.extent import HostTable
from attnc.compiler.plan.orders import Axis, Gathered, Order, Sorted, View, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment
from tests.support.generators.random_expressions import SIZES, Case, Generator

D = constructors.sub(Q, K)


@dataclass(frozen=True)
class Ordered:
    """A mask, its tables and launch, and the program that walks it in some orders."""

    seed: int
    case: Case
    program: Program


class OrderGenerator(Generator):
    """Draws a mask over longer launches, and orders for its rows and keys."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.seed = seed
        n = self.random.randint(1, 90)
        m = n if self.random.random() < 0.6 else self.random.randint(1, 90)
        start = tuple(self.random.choice((0, 0, 12, 24, 7)) for _ in self.extent.q_start or (0,))
        self.extent = replace(self.extent, n=n, m=m, q_start=start)
        self.modulus, self.block = self.random.randint(2, 6), self.random.choice((2, 3, 4, 8))

    def ordered(self) -> Ordered:
        rows, keys = self.orders()
        mask = self.suited(rows, keys) if self.random.random() < 0.6 else self.condition(self.random.randint(1, 3))
        if self.random.random() < 0.1:
            mask = self.count(2)
        tables, contents = tuple(self.tables), tuple(self.contents)
        heads = None
        if self.extent.heads > 1 and self.random.random() < 0.2:
            heads = tuple(self.random.sample(range(self.extent.heads), self.extent.heads - 1))
        kernel = Kernel(rows, (Segment(keys, mask),), "store", heads=heads)
        program = Program((kernel,), mask, LOGIT, None, tables)
        return Ordered(self.seed, Case(mask, tables, contents, self.extent), program)

    def orders(self) -> tuple[Order, Order]:
        if self.random.random() < 0.12:
            table = self.table("int", self.random.choice((("token",), ("head", "token"))))
            return self.sorted(table, Q), self.sorted(table, K)
        rows = self.view()
        if self.random.random() < 0.6 and not any(axis.tile > 1 for axis in rows.axes[: rows.main]):
            main = rows.axes[rows.main]
            axes = (*rows.axes[: rows.main], replace(main, tile=self.tile()), *rows.axes[rows.main + 1 :])
            keys: Order = View(axes, rows.offset)
        else:
            keys = self.view()
        if self.random.random() < 0.15:
            keys = Gathered(self.gathering(K), self.tile())
        return (Gathered(self.gathering(Q), self.tile()) if self.random.random() < 0.15 else rows), keys

    def tile(self) -> int:
        return self.random.choice((1, 2, 3, 4, 5, 8, 16))

    def view(self) -> View:
        modulus, block, tile = self.modulus, self.block, self.tile()
        match self.random.randrange(9):
            case 0:
                return View((Axis(1, modulus), Axis(modulus, None, tile)))
            case 1:
                return View((Axis(modulus, None, tile),), self.random.randrange(modulus))
            case 2:
                return View((Axis(block, modulus), Axis(block * modulus), Axis(1, block, block)))
            case 3:
                wide = self.random.choice((1, 2, 4, 5))
                return View((Axis(block, modulus), Axis(block * modulus, None, tile), Axis(1, block, wide)))
            case 4:
                width = modulus * block + self.random.choice((0, 0, 1))
                return View((Axis(width, None, self.random.randint(1, 4)), Axis(1, width, self.tile())))
            case 5:
                last = self.random.randint(1, block)
                return View((Axis(block, None, tile), Axis(1, last, self.random.randint(1, last))), block - last)
            case 6:
                return View((Axis(1, 2), Axis(2, modulus), Axis(2 * modulus, None, tile)))
            case _:
                return natural(tile)

    def sorted(self, table: str, position: Position) -> Sorted:
        """By a table of numbers, most often a permutation."""
        number = int(table)
        held = self.contents[number]
        assert held.values is not None
        if position == Q and self.random.random() < 0.8:
            shuffled = np.argsort(self.numpy.random(held.values.shape), axis=-1)
            self.contents[number] = HostTable(shuffled.astype(np.int32), held.batched)
        self.tables[number] = replace(self.tables[number], element="order")
        indices = (position,) if len(self.tables[number].dimensions) == 1 else (HEAD, position)
        return Sorted(Entry(table, indices, "int"), self.tile())

    def gathering(self, position: Position) -> Expr:
        match self.random.randrange(5):
            case 0:
                return Member(position, self.table("set", ()), ())
            case 1:
                return Member(position, self.table("set", ("head",)), (HEAD,))
            case 2:
                return Entry(self.table("bool", ("token",)), (position,), "bool")
            case 3:
                size = self.random.choice(SIZES)
                return constructors.equal(constructors.mod(position, size), Const(self.random.randrange(size)))
            case _:
                return constructors.less(position, Const(self.random.choice(SIZES)))

    def suited(self, rows: Order, keys: Order) -> Expr:
        """Conditions for which such orders are chosen, and something besides."""
        if isinstance(rows, Sorted) and isinstance(keys, Sorted):
            apart = constructors.sub(
                constructors.floordiv(rows.rank, self.block), constructors.floordiv(keys.rank, self.block)
            )
            near = constructors.less_equal(constructors.absolute(apart), Const(self.random.randrange(3)))
            return constructors.conjunction(near, self.condition(1)) if self.random.random() < 0.5 else near
        modulus, block = self.modulus, self.block
        residue = constructors.equal(constructors.mod(D, modulus), Const(0))
        blocks = constructors.sub(constructors.floordiv(Q, block), constructors.floordiv(K, block))
        within = constructors.less_equal(constructors.absolute(D), Const(self.random.choice(SIZES) * modulus))
        size = block * self.random.choice((2, 4))
        choices = [
            constructors.conjunction(within, residue),
            constructors.conjunction(constructors.less_equal(K, Q), residue),
            constructors.conjunction(
                constructors.equal(constructors.mod(blocks, modulus), Const(0)), constructors.less_equal(K, Q)
            ),
            constructors.conjunction(
                constructors.equal(constructors.mod(Q, modulus), Const(0)),
                constructors.equal(constructors.mod(K, modulus), Const(0)),
            ),
            self.near_in_grid(modulus * block),
            constructors.conjunction(
                constructors.less_equal(K, Q), constructors.less_equal(Const(size - 2), constructors.mod(K, size))
            ),
            self.drawn_blocks(block),
            constructors.disjunction(within, self.pattern()),
            constructors.conjunction(constructors.negation(within), self.pattern()),
        ]
        return self.random.choice(choices)

    def near_in_grid(self, width: int) -> Expr:
        def near(a: Expr, b: Expr) -> Expr:
            return constructors.less_equal(
                constructors.absolute(constructors.sub(a, b)), Const(self.random.randrange(3))
            )

        rows = near(constructors.floordiv(Q, width), constructors.floordiv(K, width))
        return constructors.conjunction(rows, near(constructors.mod(Q, width), constructors.mod(K, width)))

    def drawn_blocks(self, block: int) -> Expr:
        """Blocks of keys that a table lists for each block of rows."""
        row, column = constructors.floordiv(Q, block), constructors.floordiv(K, block)
        if self.random.random() < 0.3:
            return Member(column, self.table("set", ("free",)), (row,))
        table = self.table("int", ("free", "free"))
        drawn = (constructors.equal(column, Entry(table, (row, Const(place)), "int")) for place in range(3))
        return constructors.conjunction(constructors.disjunction(*drawn), self.pattern())


def describe(ordered: Ordered) -> str:
    kernel = ordered.program.kernels[0]
    dimensions = [tuple(dimension.kind for dimension in table.dimensions) for table in ordered.program.tables]
    return "\n".join(
        (
            f"mask {ordered.case.mask}",
            f"rows {kernel.rows}",
            f"keys {kernel.segments[0].keys}",
            f"heads {kernel.heads}, {ordered.case.extent}, tables {dimensions}",
        )
    )
