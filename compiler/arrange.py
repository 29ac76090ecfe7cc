"""Attention to Program: in which order queries and keys are walked, and what each segment must check.

Natural order for every pattern so far: one kernel, and a segment for each part of a count.
"""

from __future__ import annotations

from .fold import rename_tables
from .ir import Attention
from .normalise import parts
from .plan import Kernel, Program, Segment, Tiles, natural


def arrange(
    attention: Attention, tiles: Tiles, heads: int | None = None, known: frozenset[int] | None = None
) -> Program:
    """The Program of an attention, for tiles of so many queries and keys.

    ``heads``: how many query heads there are, where that is known. ``known``: the positions in ``attention.tables`` of
    the tables whose contents the host will know when a schedule is made; None for all. Tables are numbered in the
    attention's order; nothing of the text's names is left.
    """
    del heads, known
    numbers = {table.name: str(number) for number, table in enumerate(attention.tables)}
    mask = rename_tables(attention.mask, numbers)
    segments = tuple(Segment(natural(tiles.key), part) for part in parts(mask))
    return Program(
        kernels=(Kernel(natural(tiles.query), segments, "store"),),
        mask=mask,
        score=rename_tables(attention.score, numbers),
        sink=None if attention.sink is None else rename_tables(attention.sink, numbers),
        tables=attention.tables,
    )
