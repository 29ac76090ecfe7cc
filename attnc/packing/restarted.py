"""An attention within each of many packed sequences, as one attention over all of their tokens.

What it says of ``q``, ``k`` and ``n`` it says of a sequence: positions begin with 0 in each. Where only ``q - k``
matters, positions among all tokens do as well; elsewhere tables say where in its sequence each token is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from ..compiler.analysis import shift_divisor
from ..compiler.ir import (
    Attention,
    Dimension,
    Entry,
    Expr,
    K,
    Member,
    N,
    Q,
    Table,
    constructors,
    equal,
    positions,
    substitute,
    walk,
)
from ..runtime.base import register
from .offsets import documents


@dataclass(frozen=True)
class Restarted:
    """``attention`` has the tables of the original, and those that say where each token is.

    ``natural``: whether it reads no positions but those among all tokens, whose tiles are found as without packing.
    ``document``, ``place`` and ``length``: the names of its tables.
    """

    attention: Attention
    name: str
    natural: bool
    document: str
    place: str
    length: str

    def tables(self, offsets: Tensor, n: int) -> dict[str, Tensor]:
        """What its tables hold for sequences with these offsets, of ``n`` tokens in all."""
        own = documents(offsets, n)
        found = {self.document: own}
        if not self.natural:
            at = own.long()
            found[self.place] = (torch.arange(n, device=own.device) - offsets[:-1][at]).int()
            found[self.length] = offsets.diff()[at].int()
        return found


@lru_cache(maxsize=512)
def restarted(attention: Attention) -> Restarted:
    """The attention of packed sequences that attend each within itself by the given one."""
    taken = {table.name for table in attention.tables}
    document, place, length = (_free(name, taken) for name in ("sequence", "place", "length"))
    parts = [part for part in (attention.mask, attention.score, attention.sink) if part is not None]
    natural = all(map(_of_differences, parts))
    own: Mapping[Expr, Expr] = {}
    if not natural:
        own = {Q: _entry(place, Q), K: _entry(place, K), N: _entry(length, Q)}
    mask, score = substitute(attention.mask, own), substitute(attention.score, own)
    sink = None if attention.sink is None else substitute(attention.sink, own)
    same = equal(_entry(document, Q), _entry(document, K))
    mask = constructors.filtered(same, mask) if mask.type == "count" else constructors.conjunction(same, mask)
    added = (document,) if natural else (document, place, length)
    tables = tuple(Table(name, "int", (Dimension("token"),)) for name in added)
    found = replace(attention, mask=mask, score=score, sink=sink, tables=attention.tables + tables)
    return Restarted(found, register(found), natural, document, place, length)


def reads_by_position(attention: Attention) -> bool:
    """Whether a position chooses the entry of a table, so that how long the table must be depends on how many there
    are.
    """
    parts = [part for part in (attention.mask, attention.score, attention.sink) if part is not None]
    reads = (node for part in parts for node in walk(part) if isinstance(node, Entry | Member))
    return any(positions(index) - {"head", "heads"} for read in reads for index in read.indices)


def _of_differences(expr: Expr) -> bool:
    """Whether an expression is the same for all pairs of one ``q - k``, whatever the number of tokens."""
    return "n" not in positions(expr) and shift_divisor(expr) == 1


def _entry(table: str, position: Expr) -> Entry:
    return Entry(table, (position,), "int")


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
