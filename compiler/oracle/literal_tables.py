"""Contents of tables that a text itself gives: a literal value or default, checked and made into an array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..diagnostics import Label, with_places
from ..ir import CallShape, Dimension, HostTable, Literal_, Table
from .membership import fits_bitmaps

_INT32 = np.iinfo(np.int32)


class ContentsError(ValueError):
    """The contents of a table do not fit its type. ``message`` leaves out the excerpt from the text."""

    def __init__(self, table: Table, message: str) -> None:
        self.message = f"table `{table.name}`: {message}"
        label = "declared here" if table.value is None else "given here"
        super().__init__(with_places(self.message, *(() if table.span is None else (Label(table.span, label),))))
        self.table = table


def literal_contents(tables: Sequence[Table], extent: CallShape) -> dict[str, HostTable]:
    """The contents of each table that has a value, or else a default, in the text, by name; others are left out.

    Sizes are checked: ``token`` against n, ``query`` against m, ``head`` against heads, and a free size against itself
    wherever it recurs. Raises :class:`ContentsError`.
    """
    free: dict[str, int] = {}
    found: dict[str, HostTable] = {}
    for table in tables:
        literal = table.value if table.value is not None else table.default
        if literal is not None:
            found[table.name] = from_literal(table, literal, extent, free)
    return found


def from_literal(table: Table, literal: Literal_, extent: CallShape, free: dict[str, int]) -> HostTable:
    """The contents of a table from a literal. ``free`` holds the free sizes known so far; new ones are added to it."""
    sizes = _sizes(table, literal, extent, free)
    leaves = list(_leaves(table, literal, sizes))
    if table.element == "set":
        return HostTable(_sets(table, leaves, sizes, extent.n))
    values = [_number(table, leaf) for leaf in leaves]
    if table.element == "order":
        _require_permutations(table, values, sizes)
    if table.divides and values and min(values) < 1:
        raise ContentsError(
            table, f"something is divided by it, so it is expected to be 1 or more, but is {min(values)}"
        )
    return HostTable(np.array(values, dtype=_dtype(table, values)).reshape(sizes))


def _sizes(table: Table, literal: Literal_, extent: CallShape, free: dict[str, int]) -> tuple[int, ...]:
    """The size of each dimension, taken from the first list at each depth, and checked against the known sizes."""
    sizes: list[int] = []
    for axis, dimension in enumerate(table.dimensions):
        if not isinstance(literal, tuple):
            raise ContentsError(table, f"expected {_lists(table)}, but dimension {axis} is no list")
        size = len(literal)
        expected = _expected(dimension, extent, free)
        if expected is not None and size != expected:
            name = dimension.name or dimension.kind
            raise ContentsError(
                table, f"dimension {axis} (`{name}`) has {size} entr{'y' if size == 1 else 'ies'}, expected {expected}"
            )
        if dimension.kind == "free":
            free[dimension.name] = size
        sizes.append(size)
        if not size:  # nothing inside says how long the remaining dimensions are
            sizes.extend(_expected(rest, extent, free) or 0 for rest in table.dimensions[axis + 1 :])
            break
        literal = literal[0]
    return tuple(sizes)


def _expected(dimension: Dimension, extent: CallShape, free: Mapping[str, int]) -> int | None:
    match dimension.kind:
        case "token":
            return extent.n
        case "query":
            return extent.m
        case "head":
            return extent.heads
        case "fixed":
            return dimension.size
        case "free":
            return free.get(dimension.name)


def _leaves(table: Table, literal: Literal_, sizes: tuple[int, ...], axis: int = 0) -> Iterator[Any]:
    if axis == len(sizes):
        if isinstance(literal, tuple):
            raise ContentsError(table, f"expected {_lists(table)}, but the lists are nested deeper")
        yield literal
        return
    if not isinstance(literal, tuple):
        raise ContentsError(table, f"expected {_lists(table)}, but dimension {axis} is no list")
    if len(literal) != sizes[axis]:
        raise ContentsError(table, f"the lists of dimension {axis} differ in length: {sizes[axis]} and {len(literal)}")
    for part in literal:
        yield from _leaves(table, part, sizes, axis + 1)


def _lists(table: Table) -> str:
    what, depth = "set" if table.element == "set" else "value", len(table.dimensions)
    return {0: f"one {what}", 1: f"a list of {what}s"}.get(depth, f"{what}s in lists nested {depth} deep")


def _number(table: Table, leaf: object) -> bool | int | float:
    kinds: tuple[type, ...] = {"bool": (bool,), "float": (int, float), "double": (int, float)}.get(
        table.element, (int,)
    )
    if not isinstance(leaf, kinds) or (isinstance(leaf, bool) and table.element != "bool"):
        raise ContentsError(table, f"expected {table.element} entries, but one is {_shown(leaf)}")
    assert isinstance(leaf, (bool, int, float))
    if table.element not in ("float", "double") and not -(2**63) <= leaf < 2**63:
        raise ContentsError(table, f"{leaf} does not fit 64 bits")
    return leaf


def _shown(leaf: object) -> str:
    if isinstance(leaf, frozenset):
        return f"a set of {len(leaf)}"
    return str(leaf).lower() if isinstance(leaf, bool) else repr(leaf)


def _dtype(table: Table, values: Sequence[bool | int | float]) -> type[np.generic]:
    if table.element in ("bool", "float", "double"):
        return np.bool_ if table.element == "bool" else np.float64
    narrow = all(_INT32.min < value <= _INT32.max for value in values)
    return np.int32 if narrow else np.int64


def _sets(table: Table, leaves: Sequence[object], sizes: tuple[int, ...], n: int) -> NDArray[Any]:
    """Sets as bitmaps ``[…, universe]``, or where these would be large as rising members ``[…, slots]``.

    Negative members are dropped.
    """
    for leaf in leaves:
        if not isinstance(leaf, frozenset):
            example = f"{{{leaf}}}" if isinstance(leaf, int) and not isinstance(leaf, bool) else "{0}"
            where, what = (" in each place", "one is") if sizes else ("", "there is")
            raise ContentsError(table, f"expected a set{where}, as `{example}`, but {what} {_shown(leaf)}")
    sets = [sorted(x for x in leaf if x >= 0) for leaf in leaves if isinstance(leaf, frozenset)]
    universe = max((members[-1] for members in sets if members), default=0) + 1
    if universe > 2**63:
        raise ContentsError(table, f"{universe - 1} does not fit 64 bits")
    if fits_bitmaps(universe, len(sets), sum(map(len, sets)), n):
        bitmaps = np.zeros((len(sets), universe), dtype=bool)
        for row, members in enumerate(sets):
            bitmaps[row, members] = True
        return bitmaps.reshape(*sizes, universe)
    slots = max(map(len, sets))
    listed = np.full((len(sets), slots), -1, dtype=np.int32 if universe <= _INT32.max else np.int64)
    for row, members in enumerate(sets):
        if members:
            listed[row, slots - len(members) :] = members
    return listed.reshape(*sizes, slots)


def _require_permutations(table: Table, values: Sequence[bool | int | float], sizes: tuple[int, ...]) -> None:
    length = sizes[-1]
    for start in range(0, len(values), max(1, length)):
        if sorted(values[start : start + length]) != list(range(length)):
            raise ContentsError(table, f"each last axis must hold every number of 0..<{length} once")
