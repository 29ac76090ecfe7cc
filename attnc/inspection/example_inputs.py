"""Contents of run-time tables at the command line: given by ``--set``, or made up and then reported as made up."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt, prod
from typing import Any

import numpy as np

from ..compiler.ir import CallShape, HostTable, Literal_, Table, table_type
from ..compiler.oracle import LARGEST, from_literal
from ..compiler.verify import Use

DOCUMENTS = 4
FREE_SIZE = 16
# Memory of Python's objects, of which an array is made.
_BYTES_OF_A_NUMBER, _BYTES_OF_A_SET = 64, 512


@dataclass(frozen=True)
class Inputs:
    """The contents of every table by name; ``made_up``: a message for each table whose contents were not given."""

    contents: Mapping[str, HostTable]
    made_up: tuple[str, ...]


def inputs(
    tables: Sequence[Table],
    given: Mapping[str, Literal_],
    extent: CallShape,
    sizes: Mapping[str, int],
    uses: Mapping[str, Use],
) -> Inputs:
    """Contents for all tables: from ``given``, else the text's own value or default, else plausible made-up ones.

    ``sizes`` gives free dimensions by name, where neither a table nor ``uses`` determines them. ``uses`` says how the
    attention reads each table, so that made-up entries are numbers that it may compare them with. Equal arguments give
    equal contents. Raises ValueError where a literal does not fit its table.
    """
    free: dict[str, int] = {}
    needed = _needed(tables, uses)
    contents: dict[str, HostTable] = {}
    said: list[str] = []
    for table in sorted(tables, key=lambda table: _known(table, given) is None):
        literal = _known(table, given)
        if literal is None:
            literal, words = _made_up(table, extent, {**needed, **sizes, **free}, uses.get(table.name))
            said.append(f"{table.name}: {table_type(table)} was not given: {words}")
        contents[table.name] = from_literal(table, literal, extent, free)
    return Inputs(contents, tuple(said))


def _known(table: Table, given: Mapping[str, Literal_]) -> Literal_ | None:
    if table.value is not None:
        return table.value
    return given.get(table.name, table.default)


def _needed(tables: Sequence[Table], uses: Mapping[str, Use]) -> dict[str, int]:
    """The sizes of free dimensions that the indices into all tables require."""
    needed: dict[str, int] = {}
    for table in tables:
        for place, size in (uses[table.name].sizes if table.name in uses else {}).items():
            dimension = table.dimensions[place]
            if dimension.kind == "free":
                needed[dimension.name] = max(needed.get(dimension.name, 1), size)
    return needed


def _made_up(table: Table, extent: CallShape, sizes: Mapping[str, int], use: Use | None) -> tuple[Literal_, str]:
    """Plausible contents, and a description of them in words. The random generator is seeded by the table's name."""
    shape = tuple(
        {"token": extent.n, "query": extent.m, "head": extent.heads, "fixed": dimension.size}.get(dimension.kind)
        or sizes.get(dimension.name, 0 if dimension.kind in ("token", "query") else FREE_SIZE)
        for dimension in table.dimensions
    )
    size = prod(shape) * (_BYTES_OF_A_SET if table.element == "set" else _BYTES_OF_A_NUMBER)
    if size > LARGEST:
        raise ValueError(
            f"{table.name}: {table_type(table)} was not given, and {prod(shape):,} made-up entries would take about "
            f"{size:,} bytes, expected at most {LARGEST:,}"
        )
    random = np.random.default_rng(zlib.crc32(table.name.encode()))
    kinds = tuple(dimension.kind for dimension in table.dimensions)
    values = None if use is None or table.element != "int" or not table.dimensions else use.values
    # Of one number only, compared with each other, entries would all be equal.
    first = values[0] if values is not None and values[0] == values[1] and kinds[-1] == "token" else None
    if values is not None and first is None:
        numbers = random.integers(values[0], values[1] + 1, size=shape)
        return _nested(numbers), f"random numbers of {values[0]}..{values[1]}, which it is compared with"
    match table.element, kinds:
        case "set", ():
            return frozenset({0}), "{0}"
        case "set", _:
            sets = np.empty(shape, dtype=object)
            for place in np.ndindex(*shape):
                sets[place] = frozenset({0, place[-1]})
            return _nested(sets), "0 and the place itself in each set"
        case "int", (*_, "token"):
            cuts = np.sort(random.integers(0, extent.n + 1, size=DOCUMENTS - 1))
            labels = np.broadcast_to(np.searchsorted(cuts, np.arange(extent.n), side="right"), shape) + (first or 0)
            numbered = f", numbered from {first}" if first else ""
            return _nested(labels), f"{DOCUMENTS} documents of random lengths, one after the other{numbered}"
        case "int", () if table.divides:
            side = max(1, isqrt(extent.n))
            return side, f"{side}, the side of a square of {extent.n} tokens"
        case "int", ():
            return extent.n // 2, f"{extent.n // 2}"
        case "int", _:
            return _nested(random.integers(0, max(extent.n, 1), size=shape)), f"random positions below {extent.n}"
        case "float", ("head",):
            slopes = 2.0 ** (-8.0 * (np.arange(extent.heads) + 1) / extent.heads)
            return _nested(slopes), "2 ** (-8 * (head + 1) / heads), the slopes of ALiBi"
        case "float", ():
            return 0.5, "0.5"
        case "float", _:
            return _nested(random.normal(size=shape) * 0.5), "random, normal, of deviation 0.5"
        case "bool", _:
            return _nested(random.random(size=shape) < 0.75), "random, three of four true"
        case _:
            orders = [random.permutation(extent.n) for _ in range(prod(shape[:-1]))]
            return _nested(np.array(orders, dtype=np.int64).reshape(shape)), "random permutations"


def _nested(values: Any) -> Literal_:
    """An array as nested tuples; an array without dimensions as its value."""
    if values.ndim == 0:
        return values.item()  # type: ignore[no-any-return]
    if values.ndim == 1:
        return tuple(values.tolist())
    return tuple(_nested(part) for part in values)
