"""Verdicts on claims about the masks of attentions, remembered while the process lives."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from .compiler.ir import Attention, Expr, Table, rename_tables, table_type
from .compiler.modules import Claim, ClaimKind
from .compiler.verify import Verdict, decide


def verdict(attention: Attention, kind: ClaimKind, other: Attention | None = None) -> Verdict:
    """The verdict on a claim. What is decided is remembered. ValueError where two tables of one name differ."""
    operand, tables, heads = None, attention.tables, attention.heads
    if other is not None:
        names, tables = together(attention, other, "other")
        operand = rename_tables(other.mask, names)
        if heads is not None and other.heads not in (None, heads):
            raise ValueError(f"other: has {other.heads} heads, expected {heads}, as {attention.name} has")
        heads = other.heads if heads is None else heads
    return decided(attention.mask, tables, Claim(kind, operand), heads)


def decided(mask: Expr, tables: tuple[Table, ...], claim: Claim, heads: int | None) -> Verdict:
    """The verdict on a claim about a mask; ``tables`` are those of both masks. What is decided is remembered."""
    try:
        return _decided(mask, tables, claim, heads)
    except _UndecidedError as undecided:
        return undecided.verdict


class _UndecidedError(Exception):
    """Carries a verdict that is not to be remembered: another day the prover may do better."""

    def __init__(self, found: Verdict) -> None:
        super().__init__()
        self.verdict = found


@lru_cache(maxsize=256)
def _decided(mask: Expr, tables: tuple[Table, ...], claim: Claim, heads: int | None) -> Verdict:
    found = decide(mask, tables, claim, heads)
    if found.undecided:
        raise _UndecidedError(found)
    return found


def together(attention: Attention, other: Attention, parameter: str) -> tuple[dict[str, str], tuple[Table, ...]]:
    """New names for some tables of the other attention, and the tables of both.

    Tables of one name are one table, but those of the other whose contents its text gives keep apart, under a name of
    their own. ValueError, which names the ``parameter`` that the other attention was, where two tables of one name
    differ in type.
    """
    own = {table.name: table for table in attention.tables}
    names: dict[str, str] = {}
    more: list[Table] = []
    for table in other.tables:
        held = own.get(table.name)
        if held is None:
            more.append(table)
        elif table.value is not None or held.value is not None:
            if table != held:
                names[table.name] = f"{table.name} of {other.name}"
                more.append(replace(table, name=names[table.name]))
        elif (held.element, held.dimensions) != (table.element, table.dimensions):
            raise ValueError(
                f"{parameter}: its table {table.name} is {table_type(table)}, expected {table_type(held)}, as "
                f"{attention.name} has it"
            )
    return names, (*attention.tables, *more)
