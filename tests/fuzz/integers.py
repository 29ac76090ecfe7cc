"""Integer expressions at extreme values: what every executor makes of them against Python's own integers.

A program is drawn as a small tree, which is written as a text and, pair by pair, evaluated here with Python's integers,
by short circuit as the language reaches its parts. It is judged by :func:`fault`:

- where the call refuses, ``.mask``, ``.plan`` and ``.reference`` say the same, and some part that is reached has more
  than 63 bits; where none has, the refusal is false, which is counted and not to happen often;
- where it does not, all of them keep exactly the pairs that Python's integers keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

import attnc
from attnc.compiler.ir.operations import FUNCTIONS
from attnc.compiler.verify.schedule_interpreter import visits
from attnc.runtime.base.configuration import settings
from tests.support.operation_cases import OPAQUE, an_opaque, called, taken

BEYOND = 2**63
MOST_FALSE_REFUSALS = 0.02
PLANNED = 8
NUMBERS = (
    0, 1, 2, 3, 7, 64, 1000, 46_341, 10**9, 2**31 - 1, 2**31, 2**32 + 1, 3_037_000_499, 3_037_000_500, 10**12,
    2**53 + 1, 10**17, 461_168_601_842_738_790, 922_337_203_685_477_580, 10**18 - 1,
)  # fmt: skip
DIVISORS = (1, 2, 3, 5, 64, 1000, 2**31 - 1, 2**31, 2**40, 10**15 + 3, 10**18 - 1)
ENTRIES = (0, 1, -1, 5, -7, 2**31 - 1, -(2**31), 2**61, 2**62, -(2**62), 2**62 + 1, 2**63 - 1, -(2**63) + 1, -(2**63))
STARTS = (0, 0, 0, 0, 3, 2**20, 2**31 - 3, 2**48, 2**61, 2**62 - 40)

Tree: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """One attention and the call that it is tried in."""

    seed: int
    kind: str  # what the drawn condition decides: the mask, the score of the pairs that a window keeps, the sink
    condition: Tree
    n: int
    m: int
    heads: int
    q_start: int
    tables: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The attention as a file has it."""
        types = {"t": "int[token]", "r": "int[query]", "w": "int[head]", "u": "int[]"}
        parameters = ", ".join(f"{name}: {types[name]}" for name in self.tables)
        drawn = written(self.condition)
        mask = drawn if self.kind == "mask" else "k <= q % 64 + 2 and (q + k) % 3 != 1"
        rest = {"mask": "", "score": f"score = s + 1 if {drawn} else s", "sink": f"sink = 1.0 if {drawn} else 0.0"}
        return f"attention drawn({parameters}) {{ mask = {mask} {rest[self.kind]} }}"


def told(case: Case) -> str:
    """The program and its call."""
    held = {name: table.tolist() for name, table in case.tables.items()}
    return f"{case.text}\nn={case.n} m={case.m} heads={case.heads} q_start={case.q_start} {held}"


def kept(case: Case) -> bytes:
    """The same, for a file."""
    return told(case).encode()


def generate(seed: int) -> Case:
    """The case of a seed."""
    draw = Random(seed)
    n, m, heads = draw.randint(1, 10), draw.randint(1, 7), draw.randint(1, 2)
    kind = draw.choice(("mask", "mask", "mask", "score", "sink"))
    sizes = {"t": n, "r": m, "w": heads, "u": None}
    chosen = [name for name in sizes if draw.random() < 0.35 and not (kind == "sink" and name == "t")]
    tables = {name: _table(draw, sizes[name]) for name in chosen}
    return Case(seed, kind, _condition(draw, chosen, kind, 3), n, m, heads, draw.choice(STARTS), tables)


def _table(draw: Random, size: int | None) -> Tensor:
    entries = ENTRIES[: draw.choice((4, 7, 9, len(ENTRIES)))]
    values = [draw.choice(entries) for _ in range(size or 1)]
    dtype = torch.int64 if draw.random() < 0.7 or max(map(abs, values)) >= 2**31 else torch.int32
    held = torch.tensor(values, dtype=dtype)
    return held if size is not None else held[0]


def _condition(draw: Random, tables: list[str], kind: str, depth: int) -> Tree:
    choice = draw.random()
    if depth and choice < 0.35:
        guard = _guard(draw, tables, kind)
        return ("and", guard, _condition(draw, tables, kind, depth - 1))
    if depth and choice < 0.45:
        parts = [_condition(draw, tables, kind, depth - 1) for _ in range(2)]
        return (draw.choice(("and", "or")), *parts)
    if depth and choice < 0.5:
        return ("not", _condition(draw, tables, kind, depth - 1))
    if depth and choice < 0.6:
        branches = [_condition(draw, tables, kind, depth - 1) for _ in range(2)]
        return ("if", _guard(draw, tables, kind), *branches)
    sides = [_integer(draw, tables, kind, draw.randint(1, 4)), _integer(draw, tables, kind, draw.randint(0, 2))]
    if draw.random() < 0.5:
        sides[1] = ("number", draw.choice(NUMBERS[:8]))
    draw.shuffle(sides)
    return (draw.choice(("<", "<=", "==", "!=", ">", ">=")), *sides)


def _guard(draw: Random, tables: list[str], kind: str) -> Tree:
    """A condition that holds for small values only."""
    leaf = _leaf(draw, tables, kind)
    if leaf[0] == "number":
        leaf = ("q",)
    bound = draw.choice((1, 2, 4, 9, 1000, 3_037_000_499, 2**32, 10**17))
    return ("<", leaf, ("number", bound))


def _leaf(draw: Random, tables: list[str], kind: str) -> Tree:
    if tables and draw.random() < 0.4:
        name = draw.choice(tables)
        return ("entry", name)
    if draw.random() < 0.3:
        return ("number", draw.choice(NUMBERS))
    return (draw.choice(("q", "q", "n", "head", "heads") if kind == "sink" else ("q", "k", "q", "k", "n", "head")),)


def _integer(draw: Random, tables: list[str], kind: str, depth: int) -> Tree:
    if not depth or draw.random() < 0.1:
        return _leaf(draw, tables, kind)

    def part() -> Tree:
        return _integer(draw, tables, kind, depth - 1)

    match draw.randrange(13):
        case 0 | 1 | 2:
            return ("*", part(), part())
        case 3 | 4:
            return ("*", part(), ("number", draw.choice(NUMBERS)))
        case 5 | 6:
            return (draw.choice(("+", "-")), part(), part())
        case 7:
            return ("//", part(), ("number", draw.choice(DIVISORS)))
        case 8:
            return ("%", part(), ("number", draw.choice(DIVISORS)))
        case 9:
            return (draw.choice(("min", "max")), part(), part())
        case 10:
            return (draw.choice(("abs", "neg")), part())
        case 11:
            function = an_opaque(draw)
            return (function.op, *taken(function, (part(), part())))
        case _:
            return ("if", _guard(draw, tables, kind), part(), part())


_INDICES = {"t": "[k]", "r": "[q]", "w": "[head]", "u": ""}


def written(tree: Tree) -> str:
    """The text of a tree; chains of ``+ -`` and of ``* // %`` stand as people write them."""
    match tree:
        case ("number", value):
            return str(value)
        case ("entry", name):
            return f"{name}{_INDICES[name]}"
        case (name,):
            return str(name)
        case (op, *parts) if op in FUNCTIONS:
            return called(op, *map(written, parts))
        case ("neg", part):
            return f"(-{_within(part)})"
        case ("not", part):
            return f"(not {_within(part)})"
        case ("if", condition, then, otherwise):
            return f"({written(then)} if {written(condition)} else {written(otherwise)})"
        case (op, left, right):
            chains = next((chain for chain in (("+", "-"), ("*", "//", "%")) if op in chain), ())
            first = written(left) if left[0] in chains else _within(left)
            return f"{first} {op} {_within(right)}"
    raise ValueError(tree)


def _within(tree: Tree) -> str:
    text = written(tree)
    return f"({text})" if len(tree) > 2 and tree[0] not in ("number", "entry", "if", *FUNCTIONS) else text


@dataclass
class Exact:
    """Python's integers at one pair; ``beyond``: whether a part that was reached has 64 bits or more."""

    names: Mapping[str, int]
    beyond: bool = False

    def value(self, tree: Tree) -> int:
        """Of a tree, conditions 0 or 1."""
        found = self._value(tree)
        self.beyond |= abs(found) >= BEYOND
        return found

    def _value(self, tree: Tree) -> int:
        match tree:
            case ("number", value):
                return int(value)
            case ("entry", name):
                return self.names[name]
            case (name,):
                return self.names[name]
            case ("and", first, second):
                return self.value(first) and self.value(second)
            case ("or", first, second):
                return self.value(first) | self.value(second)
            case ("if", condition, then, otherwise):
                return self.value(then if self.value(condition) else otherwise)
            case (op, *parts):
                return _OPERATIONS[op](*map(self.value, parts))
        raise ValueError(tree)


_OPERATIONS: dict[str, Any] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "//": lambda a, b: a // b,
    "%": lambda a, b: a % b, "neg": lambda a: -a, "abs": abs, "min": min, "max": max,
    **{function.op: function.python for function in OPAQUE}, "not": lambda a: 1 - a, "<": lambda a, b: int(a < b),
    "<=": lambda a, b: int(a <= b), "==": lambda a, b: int(a == b), "!=": lambda a, b: int(a != b),
    ">": lambda a, b: int(a > b),
    ">=": lambda a, b: int(a >= b),
}  # fmt: skip


def exact(case: Case) -> tuple[np.ndarray, np.ndarray, bool]:
    """The mask and the drawn condition, bool ``[heads, m, n]``, and whether a part that is reached leaves 63 bits.

    The condition of a sink is the same along a row; that of a score is false where nothing is kept.
    """
    shape = (case.heads, case.m, case.n)
    mask, drawn, beyond = np.zeros(shape, bool), np.zeros(shape, bool), False
    for head, row, k in np.ndindex(shape):
        q = case.q_start + row
        places = {"t": k, "r": row, "w": head, "u": ()}
        held = {name: int(table[places[name]]) for name, table in case.tables.items()}
        at = Exact({"q": q, "k": k, "n": case.n, "head": head, "heads": case.heads, **held})
        window = k <= q % 64 + 2 and (q + k) % 3 != 1
        if case.kind != "score" or window:
            drawn[head, row, k] = at.value(case.condition)
        mask[head, row, k] = drawn[head, row, k] if case.kind == "mask" else window
        beyond |= at.beyond
    return mask, drawn, beyond


@dataclass
class Tally:
    """What became of the cases of this process."""

    refused: int = 0
    falsely: int = 0
    answered: int = 0
    no_text: int = 0

    def summary(self) -> str:
        """In one line. ``falsely``: refused though every part that is reached fits."""
        total = self.refused + self.answered
        share = self.falsely / max(1, total)
        refused = f"{self.refused:,} refused, {self.falsely} of them falsely ({share:.2%})"
        return f"{total:,} judged: {self.answered:,} exact, {refused}"


TALLY = Tally()


def fault(case: Case) -> str | None:
    """What is wrong with one case, or None: by ``.mask`` and ``.reference``, every eighth also planned and called.

    A program's order is searched for longer than all else takes. Counts in TALLY.
    """
    return fault_on(case, "blocked" if case.seed % PLANNED == 0 else None)


def planned_fault(case: Case) -> str | None:
    """The same of every case planned, and called on the blocked executor."""
    return fault_on(case, "blocked")


def compiled_fault(case: Case) -> str | None:
    """The same with the C++ kernels."""
    return fault_on(case, "cpp")


def interpreted_fault(case: Case) -> str | None:
    """The same with the Triton kernels in the interpreter."""
    return fault_on(case, "triton")


def fault_on(case: Case, backend: str | None) -> str | None:
    """What is wrong with one case when the call runs on a backend; None for no call and no plan."""
    try:
        attention = attnc.loads(case.text).drawn()
    except attnc.AttnError as error:
        if {fault.slug for fault in error.diagnostics} != {"number-too-large"}:
            raise
        TALLY.no_text += 1  # its constants alone come to more than 18 digits
        return None
    mask, drawn, beyond = exact(case)
    ways = {
        "reference": lambda: _weights(case, attention.reference, "blocked"),
        "mask": lambda: attention.mask(
            case.n, case.m, heads=case.heads, q_start=case.q_start, **case.tables
        ).numpy(),
    }  # fmt: skip
    if backend is not None:
        ways |= {"call": lambda: _weights(case, attention, backend), "plan": lambda: _visited(case, attention)}
    found: dict[str, Any] = {}
    for name, way in ways.items():
        try:
            found[name] = way()
        except ValueError as error:
            if "2**63 in magnitude" not in str(error):
                raise
            found[name] = str(error)
    refusals = {name: told for name, told in found.items() if isinstance(told, str)}
    if refusals:
        if len(set(refusals.values())) > 1 or len(refusals) < len(ways):
            return f"not refused alike: {refusals}"
        TALLY.refused += 1
        TALLY.falsely += not beyond
        if TALLY.falsely > max(5, 2 * MOST_FALSE_REFUSALS * (TALLY.refused + TALLY.answered)):
            return f"refused falsely, too often: {TALLY.summary()}"
        return None
    TALLY.answered += 1
    weights = _expected(case, mask, drawn)
    for name, own in found.items():
        right = weights if name in ("call", "reference") else mask
        if not np.allclose(own, right, rtol=0, atol=1e-5 if right is weights else 0):
            place = tuple(np.argwhere(~np.isclose(own, right, rtol=0, atol=1e-5))[0].tolist())
            return f"{name} has {own[place]} at {place}, expected {right[place]}"
    return None


def _weights(case: Case, attention: Any, backend: str) -> np.ndarray:
    """What each key weighs in each row: with queries of 0 the counts, scores and sinks alone decide."""
    q = torch.zeros(1, case.heads, case.m, 8)
    k = torch.zeros(1, case.heads, case.n, 8)
    v = torch.eye(case.n).expand(1, case.heads, case.n, case.n).contiguous()
    tables = {name: table[None] if name == "u" else table for name, table in case.tables.items()}
    with settings.override(backend=backend, optimisation=0):
        return np.asarray(attention(q, k, v, q_start=case.q_start, **tables)[0])


def _expected(case: Case, mask: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    weights = mask * (np.exp(drawn.astype(float)) if case.kind == "score" else 1.0)
    total = weights.sum(-1, keepdims=True)
    if case.kind == "sink":
        total = total + np.exp(drawn[..., :1].astype(float))
    return weights / np.where(total > 0, total, 1)


def _visited(case: Case, attention: Any) -> np.ndarray:
    plan = attention.plan(case.n, case.m, heads=case.heads, q_start=case.q_start, **case.tables)
    return visits(plan.program, plan.schedule, plan.extent, plan.contents)[0]
