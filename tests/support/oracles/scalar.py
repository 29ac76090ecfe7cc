"""One pair at a time, in plain Python: a second reading of the language, against which the oracle is judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from attnc.compiler.ir.attentions import Table
from attnc.compiler.ir.expressions import Apply, Const, Entry, Expr, Logit, Member, Position
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.ir.operations import OPERATIONS, Op


class OutsideError(Exception):
    """A read that is reached lies outside its table."""


@dataclass(frozen=True)
class Pair:
    """Where an expression is looked at: every number that its leaves can have."""

    extent: CallShape
    batch: int
    head: int
    q: int
    k: int
    tables: Mapping[str, Table]
    contents: Mapping[str, HostTable]
    logit: float = 0.0

    @property
    def q_start(self) -> int:
        assert self.extent.q_start is not None
        return self.extent.q_start[self.batch if len(self.extent.q_start) > 1 else 0]


def value(expr: Expr, pair: Pair) -> Any:
    """The value of an expression at one pair; only what is reached is looked at."""
    match expr:
        case Const(value=constant):
            return constant
        case Position(name=name):
            extent = pair.extent
            return {"q": pair.q, "k": pair.k, "head": pair.head, "n": extent.n, "heads": extent.heads}[name]
        case Logit():
            return pair.logit
        case Entry(table=table, indices=indices):
            return _row(table, indices, pair).item()
        case Member(element=element, table=table, indices=indices):
            bitmap = _row(table, indices, pair)
            x = value(element, pair)
            return 0 <= x < len(bitmap) and bool(bitmap[x])
        case Apply(op="and", args=args):
            return all(value(x, pair) for x in args)
        case Apply(op="filter", args=(condition, count)):
            return int(value(count, pair)) if value(condition, pair) else 0
        case Apply(op="if", args=(condition, then, otherwise)):
            return value(then if value(condition, pair) else otherwise, pair)
        case Apply(op=op, args=args):
            return _operation(op, [value(x, pair) for x in args])


def _row(name: str, indices: tuple[Expr, ...], pair: Pair) -> Any:
    held = pair.contents[name]
    values: Any = held.values
    if held.batched:
        values = values[pair.batch if len(values) > 1 else 0]
    for dimension, index in zip(pair.tables[name].dimensions, indices, strict=True):
        place = value(index, pair) - (pair.q_start if dimension.kind == "query" else 0)
        if not 0 <= place < len(values):
            raise OutsideError
        values = values[place]
    return values


def _fmix32(h: int) -> int:
    h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
    h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
    return h ^ h >> 16


def _hash(xs: list[Any]) -> int:
    h = 0x9E3779B9
    for x in xs:
        h = _fmix32(h ^ x % 2**32)
    return h >> 1


def _operation(op: Op, xs: list[Any]) -> Any:
    plain: dict[str, Callable[[list[Any]], Any]] = {
        "or": any, "plus": lambda xs: sum(map(int, xs)), "add": sum, "min": min, "max": max, "hash": _hash,
        "sub": lambda xs: xs[0] - xs[1], "mul": lambda xs: xs[0] * xs[1], "neg": lambda xs: -xs[0],
        "abs": lambda xs: abs(xs[0]), "floordiv": lambda xs: xs[0] // xs[1], "mod": lambda xs: xs[0] % xs[1],
        "lt": lambda xs: xs[0] < xs[1], "le": lambda xs: xs[0] <= xs[1], "eq": lambda xs: xs[0] == xs[1],
        "ne": lambda xs: xs[0] != xs[1], "not": lambda xs: not xs[0], "iff": lambda xs: xs[0] == xs[1],
        "float": lambda xs: float(xs[0]), "div": lambda xs: xs[0] / xs[1], "exp": lambda xs: math.exp(xs[0]),
        "log": lambda xs: math.log(xs[0]), "tanh": lambda xs: math.tanh(xs[0]), "sqrt": lambda xs: math.sqrt(xs[0]),
        "sigmoid": lambda xs: 1 / (1 + math.exp(-xs[0])),
    }  # fmt: skip
    if op in plain:
        return plain[op](xs)
    return OPERATIONS[op].python(*xs)  # a function that has no second reading here yet
