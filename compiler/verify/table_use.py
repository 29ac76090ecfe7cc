"""The sizes and value ranges that an attention needs of its tables, in a call of given sizes.

Used to make up example contents: a table of block numbers, say, should hold numbers of blocks that exist.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..analysis import any_count, reads
from ..ir import Apply, Attention, CallShape, Entry, Expr, Logit, Member, walk
from .index_ranges import index_range, position_bounds

LARGEST = 2**16  # the largest size of one dimension that is asked for


@dataclass(frozen=True)
class Use:
    """What an attention needs of one table.

    ``sizes``: by dimension, the least size for which no index that is a function of positions leaves the table.
    ``values``: bounds of the numbers that its integer entries are compared with; None if they are compared with none.
    """

    sizes: Mapping[int, int]
    values: tuple[int, int] | None


def uses(attention: Attention, extent: CallShape) -> Mapping[str, Use]:
    """The use of each table that is read, by name. The call has a known ``q_start``, and some row, key and head."""
    found = [*_reads(attention)]
    names = {node.table for node, _ in found}
    return {name: Use(_sizes(name, found, extent), _values(name, attention, extent)) for name in names}


def _reads(attention: Attention) -> Iterator[tuple[Entry | Member, Expr]]:
    """Every read of a table, with the condition under which it is evaluated."""
    yield from ((read.node, read.reached) for read in reads(attention.mask, lambda _: True))
    yield from ((read.node, read.reached) for read in reads(attention.score, lambda _: True, any_count(attention.mask)))
    if attention.sink is not None:
        yield from ((read.node, read.reached) for read in reads(attention.sink, lambda _: True))


def _sizes(name: str, found: list[tuple[Entry | Member, Expr]], extent: CallShape) -> dict[int, int]:
    sizes: dict[int, int] = {}
    for node, reached in found:
        for place, index in enumerate(node.indices if node.table == name else ()):
            if _of_positions(index):
                _, high = index_range(index, reached, extent)
                sizes[place] = min(max(sizes.get(place, 1), high + 1), LARGEST)
    return sizes


def _values(name: str, attention: Attention, extent: CallShape) -> tuple[int, int] | None:
    """Bounds of what the table is compared with: those that all comparisons share, or else all that any has."""
    ranges = [position_bounds(other, extent) for other in _compared(name, attention) if _of_positions(other)]
    if not ranges:
        return None
    low, high = max(low for low, _ in ranges), min(high for _, high in ranges)
    return (low, high) if low <= high else (min(low for low, _ in ranges), max(high for _, high in ranges))


def _compared(name: str, attention: Attention) -> Iterator[Expr]:
    """The integer expressions that entries of a table are compared with."""
    roots = (attention.mask, attention.score, *(() if attention.sink is None else (attention.sink,)))
    for node in (node for root in roots for node in walk(root)):
        if isinstance(node, Apply) and node.op in ("eq", "ne", "lt", "le"):
            first, second = node.args
            for entry, other in ((first, second), (second, first)):
                if isinstance(entry, Entry) and entry.table == name and other.type == "int":
                    yield other


def _of_positions(expr: Expr) -> bool:
    return not any(isinstance(node, Entry | Member | Logit) for node in walk(expr))
