"""Sample calls to try a claim on: sizes, and made-up contents for the tables that a test leaves open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..ir import CallShape, Dimension, HostTable, Table
from ..oracle import from_literal

Kind: TypeAlias = Literal["low", "high", "rising", "scattered", "any", "nan"]

KINDS: tuple[Kind, ...] = ("low", "high", "rising", "scattered", "any", "nan")


@dataclass(frozen=True)
class Sample:
    """One call: its sizes and what every table holds, by name."""

    extent: CallShape
    contents: Mapping[str, HostTable]


def samples(tables: Sequence[Table], n: int, heads: Sequence[int]) -> Iterator[Sample]:
    """Calls of ``n`` queries and keys: for each number of heads one, or one per kind of contents if a table is open.

    Tables with a value keep it. The same arguments give the same calls. Raises ContentsError where a value does not
    fit n.
    """
    is_open = any(table.value is None for table in tables)
    kinds = KINDS if any(table.element == "float" for table in tables) else KINDS[:-1]
    for head_count in heads:
        extent = CallShape(n, n, head_count)
        for kind in kinds if is_open else KINDS[:1]:
            yield Sample(extent, contents_of(tables, extent, kind))


def contents_of(tables: Sequence[Table], extent: CallShape, kind: Kind) -> dict[str, HostTable]:
    """Contents of every table, by name: its value, or else contents made up as ``kind`` says.

    A dimension whose size the declaration leaves free (``int[blocks]``) gets n entries, so that positions can index it.
    """
    random = np.random.default_rng((extent.n, extent.heads, KINDS.index(kind)))
    free: dict[str, int] = {}
    found = {t.name: from_literal(t, t.value, extent, free) for t in tables if t.value is not None}
    for table in tables:
        if table.value is None:
            shape = tuple(_size(dimension, extent, free) for dimension in table.dimensions)
            filled = _filled(random, table.element, shape, extent.n, kind)
            found[table.name] = HostTable(np.maximum(filled, 1) if table.divides else filled)
    return found


def _size(dimension: Dimension, extent: CallShape, free: dict[str, int]) -> int:
    match dimension.kind:
        case "token":
            return extent.n
        case "query":
            return extent.m
        case "head":
            return extent.heads
        case "fixed":
            assert dimension.size is not None
            return dimension.size
        case "free":
            return free.setdefault(dimension.name, max(extent.n, 1))


def _filled(random: np.random.Generator, element: str, shape: tuple[int, ...], n: int, kind: Kind) -> NDArray[Any]:
    match element, kind:
        case "set", _:
            return _filled(random, "bool", (*shape, max(n, 1)), n, kind)
        case "order", "low":
            return np.broadcast_to(np.arange(shape[-1]), shape).copy()
        case "order", "high":
            return np.broadcast_to(np.arange(shape[-1])[::-1], shape).copy()
        case "order", _:
            return np.argsort(random.random(shape), axis=-1)
        case "float", "nan":
            return np.full(shape, np.nan)
        case _, "low":
            return np.zeros(shape, _DTYPES[element])
        case "int", "high":
            return np.full(shape, n)
        case _, "high":
            return np.ones(shape, _DTYPES[element])
        case "bool", _:
            return np.asarray(random.random(shape) < 0.5)
        case "float", _:
            return np.asarray(np.round(random.normal(size=shape), 2))
        case _, "rising":
            return np.sort(np.asarray(random.integers(0, 3, shape)), axis=-1) if shape else np.array(n // 2)
        case _, "scattered":
            return np.asarray(random.integers(0, max(1, n), shape))
        case _:
            return np.asarray(random.integers(-n - 1, 2 * n + 2, shape))


_DTYPES = {"int": np.int64, "float": np.float64, "bool": np.bool_}
