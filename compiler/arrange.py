"""Attention to Program: in which order queries and keys are walked, and what each segment must check.

Natural order for every pattern so far: one kernel, one segment, the whole mask as the condition of partial tiles.
"""

from __future__ import annotations

from .fold import rename_tables
from .ir import Attention
from .plan import Kernel, Program, Segment, natural


def arrange(attention: Attention, query_tile: int, key_tile: int) -> Program:
    """The Program of an attention, for tiles of so many queries and keys.

    Tables are numbered in the attention's order; nothing of the text's names is left.
    """
    numbers = {table.name: str(number) for number, table in enumerate(attention.tables)}
    mask = rename_tables(attention.mask, numbers)
    return Program(
        kernels=(Kernel(natural(query_tile), (Segment(natural(key_tile), mask),), "store"),),
        mask=mask,
        score=rename_tables(attention.score, numbers),
        sink=None if attention.sink is None else rename_tables(attention.sink, numbers),
        tables=attention.tables,
    )
