"""Calls whose tables hold what the prover names: values of single entries at one pair, the rest made up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ir import OPERATIONS, Apply, CallShape, Const, Entry, Expr, HostTable, Member, Position, Table
from ..proofs import Suspect
from .samples import KINDS, Sample, contents_of

_MOST_ENTRIES = 2**24  # of all tables that the call gives


def witnesses(suspect: Suspect, tables: Sequence[Table]) -> Iterator[Sample]:
    """Calls in which the parts of the masks have the values named, as far as they are entries of tables that a call
    gives.

    One for each kind of contents for the rest. None where entries contradict each other or lie outside their tables.
    """
    extent = CallShape(suspect.n, suspect.n, suspect.heads)
    opened = {table.name: table for table in tables if table.value is None}
    named = [
        (node, value)
        for node, value in suspect.values.items()
        if isinstance(node, Entry | Member) and node.table in opened
    ]
    if not named or _entries(opened.values(), extent) > _MOST_ENTRIES:
        return
    at = _Place(suspect)
    for kind in KINDS:
        contents = contents_of(tables, extent, kind)
        arrays = {name: np.array(contents[name].values) for name in opened}
        if all(_placed(arrays, opened[node.table], node, value, at) for node, value in named) and all(
            _holds(arrays[node.table], node, value, at) for node, value in named
        ):
            yield Sample(extent, {**contents, **{name: HostTable(values) for name, values in arrays.items()}})


def _entries(tables: Any, extent: CallShape) -> int:
    sizes = {"token": extent.n, "query": extent.m, "head": extent.heads, "free": extent.n}
    return sum(
        prod(sizes.get(dimension.kind, dimension.size or 1) for dimension in table.dimensions)
        * (extent.n if table.element == "set" else 1)
        for table in tables
    )


@dataclass(frozen=True)
class _Place:
    """The pair of a suspect; :meth:`value` computes what an integer or a condition is there."""

    suspect: Suspect

    def value(self, expr: Expr) -> int | None:
        """None where it depends on a part whose value is not named, or on floats."""
        named: Mapping[Expr, int] = self.suspect.values
        if expr in named:
            return named[expr]
        match expr:
            case Const(value=bool() | int() as value):
                return int(value)
            case Position(name="q" | "k" | "n" | "head" | "heads" as name):
                return self._position(name)
            case Apply(op=op, args=args):
                values: list[bool | int] = []
                for part in args:
                    found = None if part.type == "float" else self.value(part)
                    if found is None:
                        return None
                    values.append(bool(found) if part.type == "bool" else found)
                python, joins = OPERATIONS[op].python, OPERATIONS[op].joins
                return int(reduce(python, values) if joins else python(*values))
        return None

    def _position(self, name: str) -> int | None:
        place = self.suspect
        return {"q": place.q, "k": place.k, "n": place.n, "head": place.head, "heads": place.heads}[name]

    def index(self, node: Entry | Member) -> tuple[int, ...] | None:
        """Where a part is read; for a set the last number is the member."""
        parts = (*node.indices, node.element) if isinstance(node, Member) else node.indices
        found = [self.value(part) for part in parts]
        return None if None in found else tuple(number for number in found if number is not None)


def _placed(arrays: dict[str, NDArray[Any]], table: Table, node: Entry | Member, value: int, at: _Place) -> bool:
    """Write one value into a table. False where it has no place there."""
    index = at.index(node)
    if index is None or (table.divides and value < 1):
        return False
    values = arrays[table.name]
    if isinstance(node, Member):
        if index[-1] < 0:
            return not value  # a negative number is in no set
        if index[-1] >= values.shape[-1]:
            if index[-1] > _MOST_ENTRIES:
                return not value
            wider = [(0, 0)] * (values.ndim - 1) + [(0, index[-1] + 1 - values.shape[-1])]
            values = arrays[table.name] = np.pad(values, wider)
    if any(not 0 <= place < size for place, size in zip(index, values.shape, strict=True)):
        return False
    if table.element == "order":
        row = values[index[:-1]]
        (other,) = np.flatnonzero(row == value)
        row[other], row[index[-1]] = row[index[-1]], value
    else:
        values[index] = value
    return True


def _holds(values: NDArray[Any], node: Entry | Member, value: int, at: _Place) -> bool:
    """Whether a table holds a value after all others were written, too."""
    index = at.index(node)
    assert index is not None
    if isinstance(node, Member) and not 0 <= index[-1] < values.shape[-1]:
        return not value
    return int(values[index]) == value
