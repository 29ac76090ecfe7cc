"""Random claims for every n: what is proved, refuted or left undecided, against masks at every n up to 64.

A program is a random mask with three random claims; one program in four reads tables. Nothing that is proved may be
contradicted by the oracle's mask at any of these lengths; a counterexample must be one, and where no table is read none
may be found at a smaller length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import Dimension, Table
from attnc.compiler.ir.constructors import (
    add,
    conjunction,
    disjunction,
    equal,
    less,
    less_equal,
    mod,
    mul,
    negation,
    plus,
    sub,
)
from attnc.compiler.ir.expressions import HEAD, HEADS, TRUE, Const, Entry, Expr, K, Member, N, Position, Q, walk
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.ir.printer import expression
from attnc.compiler.ir.queries import tables_read
from attnc.compiler.modules.test_cases import Claim
from attnc.compiler.oracle.interpreter import evaluate
from attnc.compiler.oracle.out_of_table import OutOfTableError
from attnc.compiler.verify.for_all import Verdict, decide

LONGEST, LONGEST_READ = 64, 9
TOKEN = Dimension("token")
TABLES = (
    Table("doc", "int", (TOKEN,)),
    Table("rank", "order", (TOKEN,)),
    Table("chosen", "set", ()),
    Table("real", "bool", (TOKEN,)),
    Table("length", "int", ()),
    Table("level", "float", (TOKEN,)),
)
ALONE = ("causal", "symmetric", "diagonal", "rows nonempty", "columns nonempty")
Masks: TypeAlias = Callable[[Expr | None], NDArray[np.int64] | None]
OF_TWO = ("within", "contains", "equals", "disjoint")


@dataclass(frozen=True)
class Case:
    """A mask, and claims about it."""

    seed: int
    mask: Expr
    claims: tuple[Claim, ...]

    @property
    def reads(self) -> bool:
        return any(tables_read(expr) for expr in self.masks)

    @property
    def masks(self) -> list[Expr]:
        return [self.mask, *(claim.operand for claim in self.claims if claim.operand is not None)]


def told(case: Case) -> str:
    """The mask and the claims."""
    shown = (f"{claim.kind} {'' if claim.operand is None else expression(claim.operand)}" for claim in case.claims)
    return "\n".join([expression(case.mask), *shown])


def kept(case: Case) -> bytes:
    """The same, for a file."""
    return told(case).encode()


# -- what is drawn -------------------------------------------------------------------------------------------------


def generate(seed: int) -> Case:
    """The case of a seed."""
    draw = Random(seed)
    reads = draw.random() < 0.25
    mask = _mask(draw, reads)
    return Case(seed, mask, tuple(_claim(draw, mask, reads) for _ in range(3)))


def _claim(draw: Random, mask: Expr, reads: bool) -> Claim:
    """One claim; those of two masks are often about one that has much in common with the first."""
    if draw.random() < 0.5:
        return Claim(draw.choice(ALONE))  # type: ignore[arg-type]
    kind = draw.choice(OF_TWO)
    other = _mask(draw, reads)
    if draw.random() < 0.6 and mask.type == "bool" and other.type == "bool":
        join = {"within": disjunction, "contains": conjunction, "equals": conjunction, "disjoint": conjunction}[kind]
        own = negation(mask) if kind == "disjoint" else mask
        other = join(_varied(draw, own), other) if draw.random() < 0.7 else _varied(draw, own)
    return Claim(kind, other)  # type: ignore[arg-type]


def _varied(draw: Random, mask: Expr) -> Expr:
    """Nearly the same mask: another way to write it, or one that differs in few pairs."""
    match draw.randrange(4):
        case 0:
            return negation(disjunction(negation(mask), less(N, Const(0))))
        case 1:
            return disjunction(mask, conjunction(equal(Q, Const(draw.randint(0, 40))), equal(K, Const(3))))
        case 2:
            return conjunction(mask, less_equal(mul(Q, Const(2)), add(mul(K, Const(2)), mul(N, Const(2)))))
        case _:
            return constructors.choose(less(Q, K), mask, conjunction(mask, TRUE))


def _mask(draw: Random, reads: bool) -> Expr:
    if draw.random() < 0.1:
        return plus(*(_condition(draw, draw.randint(0, 2), reads) for _ in range(2)))
    return _condition(draw, draw.randint(1, 3), reads)


def _condition(draw: Random, depth: int, reads: bool) -> Expr:
    if not depth or draw.random() < 0.15:
        return _read(draw) if reads and draw.random() < 0.4 else _test(draw)
    parts = [_condition(draw, depth - 1, reads) for _ in range(draw.randint(2, 3))]
    choice = draw.random()
    if choice < 0.42:
        return disjunction(*parts)
    if choice < 0.84:
        return conjunction(*parts)
    if choice < 0.9:
        return negation(parts[0])
    if choice < 0.95:
        return constructors.iff(parts[0], parts[1])
    return constructors.choose(parts[0], parts[1], parts[-1])


def _test(draw: Random) -> Expr:
    size = draw.choice((1, 2, 3, 4, 5, 7, 8, 12, 20))
    distance, side = sub(Q, K), draw.choice((Q, K))
    match draw.randrange(16):
        case 0 | 1:
            return less_equal(K, Q)
        case 2 | 3:
            return less_equal(constructors.absolute(distance), Const(size))
        case 4:
            return conjunction(less_equal(Const(0), distance), less(distance, Const(size)))
        case 5 | 6:
            return equal(constructors.floordiv(Q, size), constructors.floordiv(K, size))
        case 7:
            return equal(mod(distance, size), Const(0))
        case 8:
            return less(mod(side, size), Const(draw.randint(0, size)))
        case 9:
            return less(side, Const(draw.choice((1, 4, 30, 100))))
        case 10:
            start = constructors.maximum(Const(0), constructors.minimum(sub(Q, Const(size // 2)), sub(N, Const(size))))
            return conjunction(less_equal(start, K), less(K, add(start, Const(size))))
        case 11:
            return equal(mod(side, size), mod(HEAD, size))
        case 12:
            return less_equal(HEADS, Const(size)) if draw.random() < 0.3 else equal(HEAD, Const(draw.randint(0, 2)))
        case 13:
            return less(side, constructors.floordiv(N, draw.choice((2, 3))))
        case 14:
            return equal(Q, K)
        case _:
            return less_equal(_sum(draw), Const(draw.randint(-4, 30)))


def _sum(draw: Random) -> Expr:
    return add(*(mul(x, Const(draw.randint(-2, 2))) for x in (Q, K, N)))


def _read(draw: Random) -> Expr:
    def entry(table: str, index: Expr | None, kind: Any = "int") -> Entry:
        return Entry(table, () if index is None else (index,), kind)

    side = draw.choice((Q, K))
    near = draw.choice((Q, K, sub(Q, Const(1)), constructors.absolute(sub(Q, K)), constructors.minimum(Q, K)))
    match draw.randrange(11):
        case 0 | 1:
            return equal(entry("doc", Q), entry("doc", K))
        case 2:
            return less_equal(entry("doc", K), entry("doc", Q))
        case 3:
            return equal(entry("rank", Q), entry("rank", K))
        case 4:
            return less_equal(entry("rank", side), draw.choice((Q, K, Const(3), sub(N, Const(1)))))
        case 5 | 6:
            return Member(near, "chosen", ())
        case 7:
            return entry("real", near, "bool")
        case 8:
            return less(side, entry("length", None))
        case 9:
            return equal(entry("level", Q, "float"), entry("level", K, "float"))
        case _:
            return less(mod(constructors.hashed(HEAD, constructors.floordiv(Q, 4), K), 100), Const(30))


# -- what is wrong -------------------------------------------------------------------------------------------------


class Tally:
    """How many claims of affine masks, and of the others, were proved, refuted and undecided."""

    def __init__(self) -> None:
        self.affine: Counter[str] = Counter()
        self.others: Counter[str] = Counter()

    def summary(self) -> str:
        return "; ".join(
            f"{name}: " + ", ".join(f"{found[state]:,} {state}" for state in ("proved", "refuted", "undecided"))
            for name, found in (("affine", self.affine), ("with tables or hashes", self.others))
        )


TALLY = Tally()


def fault(case: Case) -> str | None:
    """What is wrong with a verdict; None where nothing is."""
    names = {name for expr in case.masks for name in tables_read(expr)}
    tables = [table for table in TABLES if table.name in names]
    verdicts = [decide(case.mask, tables, claim, None) for claim in case.claims]
    plain = not names and not any(getattr(node, "op", "") == "hash" for expr in case.masks for node in walk(expr))
    for verdict in verdicts:
        (TALLY.affine if plain else TALLY.others)[verdict.state] += 1
    for claim, verdict in zip(case.claims, verdicts, strict=True):
        found = verdict.counterexample
        if found is not None and found.n <= 1024:
            call = CallShape(found.n, found.n, found.heads)
            read = [table for table in tables if table.name in found.contents]
            masks = _masks(case, read, call, found.contents)
            if not contradicted(claim, masks, found.head, (found.q, found.k)):
                return f"no counterexample: {claim.kind}, {verdict.message}"
    for call, contents in _calls(case, tables):
        masks = _masks(case, tables, call, contents)
        for claim, verdict in zip(case.claims, verdicts, strict=True):
            if wrong := _wrong(claim, verdict, call, masks, bool(tables)):
                return wrong
    return None


def _wrong(claim: Claim, verdict: Verdict, call: CallShape, masks: Masks, reads: bool) -> str | None:
    found = verdict.counterexample
    if verdict.undecided or (found is not None and (reads or found.n <= call.n)):
        return None
    if any(contradicted(claim, masks, head, None) for head in range(call.heads)):
        return f"contradicted at n = {call.n}, {call.heads} heads: {claim.kind}, {verdict.state} {verdict.message}"
    return None


def _calls(case: Case, tables: list[Table]) -> Iterator[tuple[CallShape, Mapping[str, HostTable]]]:
    read = {node.name for expr in case.masks for node in walk(expr) if isinstance(node, Position)}
    for heads in (1, 2, 3) if read & {"head", "heads"} else (1,):
        for n in range(1, LONGEST_READ + 1 if tables else LONGEST + 1):
            for number in range(6 if tables else 1):
                random = np.random.default_rng((case.seed, n, number))
                yield CallShape(n, n, heads), {table.name: contents(table, n, random, number) for table in tables}


def contents(table: Table, n: int, random: np.random.Generator, number: int) -> HostTable:
    shape = tuple(n for _ in table.dimensions)
    made = {
        "int": lambda: np.asarray(random.integers(-1 if number % 2 else 0, (2, n + 2)[number > 2], shape)),
        "order": lambda: random.permutation(n),
        "set": lambda: np.asarray(random.random(n) < number / 5),
        "bool": lambda: np.asarray(random.random(shape) < number / 5),
        "float": lambda: np.where(random.random(shape) < 0.2, np.nan, random.integers(0, 3, shape)),
    }
    return HostTable(np.asarray(made[table.element]()))


def _masks(case: Case, tables: list[Table], call: CallShape, contents: Mapping[str, HostTable]) -> Masks:
    """The masks of one call, each made once, int64 [heads, n, n], for None that of the case; None where a read that is
    reached leaves its table: there is no such call.
    """
    made: dict[Expr, NDArray[np.int64] | None] = {}

    def mask(expr: Expr | None) -> NDArray[np.int64] | None:
        expr = case.mask if expr is None else expr
        if expr not in made:
            try:
                made[expr] = np.asarray(evaluate(expr, tables, call, contents)[0], np.int64)
            except OutOfTableError:
                made[expr] = None
        return made[expr]

    return mask


def contradicted(claim: Claim, masks: Masks, head: int, place: tuple[int | None, int | None] | None) -> bool:
    """Whether a mask contradicts a claim: anywhere, or at the pair, row or column given."""
    mask, other = masks(None), masks(claim.operand)
    if mask is None or other is None:
        return False
    a, b = mask[head], other[head]
    q, k = np.ogrid[: len(a), : len(a)]
    wrong = {
        "causal": lambda: (a > 0) & (k > q), "symmetric": lambda: (a > 0) & (a.T == 0),
        "diagonal": lambda: (a == 0) & (q == k), "rows nonempty": lambda: np.broadcast_to(~a.any(1)[:, None], a.shape),
        "columns nonempty": lambda: np.broadcast_to(~a.any(0)[None], a.shape), "within": lambda: (a > 0) & (b == 0),
        "contains": lambda: (a == 0) & (b > 0), "equals": lambda: a != b, "disjoint": lambda: (a > 0) & (b > 0),
    }[claim.kind]()  # fmt: skip
    return bool(wrong.any() if place is None else wrong[place[0] or 0, place[1] or 0])
