"""Makes a dense mask block by block, evaluating rows or keys that an expression cannot tell apart only once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ir import HEAD, HEADS, Apply, Const, Entry, Expr, K, N, Position, Q, children, walk
from .out_of_table import OutOfTableError

LARGEST = 2**33  # bytes
# Pairs of a block, few enough that intermediate results stay in a processor's cache; its keys at most; and its rows at
# least, where there are that many, so that work which depends on keys or heads alone is shared by several rows.
_PAIRS = 2**16
_KEYS, _ROWS = 2**13, 8
# If a mask has at least this many pairs for each row (or key), rows (or keys) are first searched for equal ones.
_MANY = 64
_ALL = slice(None)

Block = tuple[slice, slice, slice, slice]
Interpret = Callable[[Expr, Any], Any]
"""A function of an expression and a :class:`compiler.oracle.interpreter.Environment` of numpy arrays."""


class TooLargeError(ValueError):
    """A dense array of pairs would take more than LARGEST bytes. Raised before any of it is allocated."""


def require_room(what: str, shape: tuple[int, ...], itemsize: int) -> None:
    """Raise TooLargeError if an array ``[…, rows, keys]`` takes more than LARGEST bytes; ``what`` names it."""
    size = prod(shape) * itemsize
    if size > LARGEST:
        name, length = ("n", shape[-1]) if shape[-1] >= shape[-2] else ("m", shape[-2])
        axes = " × ".join(f"{each:,}" for each in shape)
        raise TooLargeError(
            f"{name}: is {length:,}, and {what} of {axes} would take {size:,} bytes, expected at most {LARGEST:,}"
        )


def blocks(shape: tuple[int, ...]) -> Iterator[Block]:
    """Slices that together cover ``[batch, heads, rows, keys]``, each of about _PAIRS pairs."""
    batch, heads, rows, keys = shape
    wide = _part(keys, _KEYS)
    room = _PAIRS // wide
    some_heads = _part(heads, room // _part(rows, _ROWS))
    some_batch = _part(batch, room // (_part(rows, _ROWS) * some_heads))
    tall = _part(rows, room // (some_heads * some_batch))
    steps = (some_batch, some_heads, tall, wide)
    for start in itertools.product(*(range(0, size, step) for size, step in zip(shape, steps, strict=True))):
        b, h, r, k = (slice(first, first + step) for first, step in zip(start, steps, strict=True))
        yield b, h, r, k


def _part(size: int, most: int) -> int:
    return max(1, min(size, most))


@dataclass(frozen=True)
class Alike:
    """Positions grouped into kinds that an expression cannot tell apart.

    ``first`` holds the first position of each kind, rising; ``kind`` the kind of each position.
    """

    first: NDArray[np.int64]  # [kinds]
    kind: NDArray[np.int64]  # [positions]

    @classmethod
    def each_apart(cls, length: int) -> Alike:
        every = np.arange(length)
        return cls(every, every)

    @classmethod
    def where_equal(cls, values: list[NDArray[np.int64]]) -> Alike:
        """Group the positions at which all of ``values``, one or more arrays ``[positions]``, agree."""
        _, first, kind = np.unique(np.stack(values), axis=1, return_index=True, return_inverse=True)
        rising = np.argsort(first)
        place = np.empty_like(rising)
        place[rising] = np.arange(len(rising))
        return cls(first[rising], place[kind.reshape(-1)])

    @property
    def is_trivial(self) -> bool:
        return len(self.first) == len(self.kind)


def read_through(expr: Expr, position: Position, inside: Collection[str] = ()) -> list[Expr]:
    """The largest sub-expressions that depend on one position only and that read it: ``q // 64`` and ``q % 2``, say.

    Everything else of ``expr`` reads the position through these. A table in ``inside`` that is indexed by the position
    counts as such a sub-expression: it is not batched, and no position is outside it.
    """
    alone: dict[Expr, bool] = {}
    for node in walk(expr):
        if isinstance(node, Apply):
            alone[node] = all(alone[part] for part in node.args)
        elif isinstance(node, Entry):
            alone[node] = node.table in inside and node.indices == (position,)
        else:
            alone[node] = isinstance(node, Const) or node in (position, N, HEADS)
    found = dict.fromkeys(part for node in alone if not alone[node] for part in children(node) if alone[part])
    outermost = [expr] if alone[expr] else list(found)
    return [part for part in outermost if position in set(walk(part))]


def dense_mask(expr: Expr, bound: Any, dtype: np.dtype[Any], interpret: Interpret, batched: bool) -> NDArray[Any]:
    """The mask ``[batch, heads, m, n]``; equal rows, and equal keys, are evaluated once and then repeated.

    ``bound`` is the Environment. ``batched``: entries of the batch may differ.
    """
    rows, keys = (_alike(expr, position, bound, interpret) for position in (Q, K))
    try:
        mask = _by_blocks(expr, cut(bound, _ALL, _ALL, rows.first, keys.first), dtype, interpret, batched)
    except OutOfTableError as error:
        batch, head, row, key = error.pair
        positions = bound.positions["k"]
        position = positions[batch if len(positions) > 1 else 0, 0, 0, keys.first[key]]
        raise error.at((batch, head, int(rows.first[row]), int(position))) from None
    mask = mask if keys.is_trivial else np.take(mask, keys.kind, axis=3)
    return mask if rows.is_trivial else np.take(mask, rows.kind, axis=2)


def _shape(bound: Any) -> tuple[int, int, int, int]:
    places = bound.positions
    return len(bound.batch), places["head"].shape[1], places["q"].shape[2], places["k"].shape[3]


def _alike(expr: Expr, position: Position, bound: Any, interpret: Interpret) -> Alike:
    """Group rows, or keys, with the same mask: if only ``q // 64`` is read, each 64 rows."""
    shape = _shape(bound)
    length = shape[2 if position == Q else 3]
    parts = read_through(expr, position, _holding(bound, position))
    several = len(bound.q_start) > 1 or len(bound.positions["k"]) > 1
    if not parts or position in parts or several or prod(shape) < _MANY * length:
        return Alike.each_apart(length)
    with np.errstate(all="ignore"):
        values = [np.broadcast_to(interpret(part, bound).reshape(-1), length) for part in parts]
    return Alike.where_equal(values)


def _holding(bound: Any, position: Position) -> frozenset[str]:
    """The one-dimensional tables, neither batched nor of floats, that have an entry at every value of a position."""
    places = bound.positions[position.name]
    last = int(places.max()) if places.size else 0
    return frozenset(
        name
        for name, held in bound.tables.items()
        if held.table.element in ("int", "order", "bool") and not held.batched and held.values.shape[1:] == ()
        and [dimension.kind for dimension in held.table.dimensions] != ["query"] and held.values.shape != ()
        and last < held.values.shape[0]
    )  # fmt: skip


def _by_blocks(expr: Expr, bound: Any, dtype: np.dtype[Any], interpret: Interpret, batched: bool) -> NDArray[Any]:
    """Evaluate every pair, block by block. An axis that the expression does not depend on is evaluated at one index."""
    mask = np.empty(_shape(bound), dtype)
    nodes = set(walk(expr))
    alone = (not batched, HEAD not in nodes, Q not in nodes, K not in nodes)
    shape = tuple(1 if once else size for size, once in zip(mask.shape, alone, strict=True))
    for block in blocks(shape) if mask.size else ():
        try:
            with np.errstate(all="ignore"):
                part = interpret(expr, cut(bound, *block))
        except OutOfTableError as error:
            first = (axis.start for axis in block)
            raise error.at(tuple(a + b for a, b in zip(error.pair, first, strict=True))) from None
        mask[tuple(_ALL if once else axis for axis, once in zip(block, alone, strict=True))] = part
    return mask


def cut(bound: Any, batch: Any, heads: Any, rows: Any, keys: Any) -> Any:
    """An environment restricted to some entries of the batch, heads, rows and keys: slices or arrays of indices."""
    q, k = bound.positions["q"], bound.positions["k"]
    positions = {
        **bound.positions,
        "q": (q[batch] if len(q) > 1 else q)[:, :, rows],
        "k": (k[batch] if len(k) > 1 else k)[:, :, :, keys],
        "head": bound.positions["head"][:, heads],
    }
    start = bound.q_start[batch] if len(bound.q_start) > 1 else bound.q_start
    return replace(bound, positions=positions, q_start=start, batch=bound.batch[batch])
