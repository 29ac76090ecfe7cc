"""Faults of a call's tables: what was given, what was expected, and below it the place in the text that asks for it."""

from __future__ import annotations

from ..compiler.diagnostics import Label, nearest, with_places
from ..compiler.ir import Attention, Entry, Member, Table, walk
from ..compiler.outside import read_at
from ..compiler.ranges import OutOfRange


def asked(message: str, table: Table, *others: tuple[Table, str]) -> str:
    """A message about a table, with the line that declares it; ``others``: further tables and what to say of them."""
    places = ((table, "declared here"), *others)
    return with_places(message, *(Label(one.span, text) for one, text in places if one.span is not None))


def missing(attention: Attention, table: Table, expected: str) -> str:
    """A table without a default was not given."""
    message = f"{table.name}: missing; {attention.name} expects {expected}"
    labels = () if table.span is None else (Label(table.span, "declared here"),)
    reads = [node.span for node in _reads(attention, table.name) if node.span is not None]
    near = [span for span in reads if labels and span.source is labels[0].span.source]
    return with_places(message, *labels, *(Label(span, "read here") for span in near[:1]))


def unknown(attention: Attention, name: str) -> str:
    """Something was given under a name that no table has."""
    known = {table.name: table for table in attention.parameters}
    near = nearest(name, known)
    listed = f"one of {', '.join(known)}" if known else "no tables"
    hint = f"expected {listed}" if near is None else f"did you mean {near}?"
    spans = [table.span for table in (known.values() if near is None else (known[near],))]
    labels = (Label(span, "declared here") for span in spans if span is not None)
    return with_places(f"{name}: {attention.name} has no such table; {hint}", *labels)


def other_heads(attention: Attention, heads: int) -> str:
    """A layer of a model was called with another number of heads than the model has."""
    message = f"q: has {heads} heads, expected {attention.heads}, as the model has"
    labels = () if attention.heads_span is None else (Label(attention.heads_span, "declared here"),)
    return with_places(message, *labels)


def outside(attention: Attention, found: OutOfRange) -> str:
    """An index that leaves its table, with the line that reads it."""
    table = next(table for table in attention.tables if table.name == found.table)
    dimension = table.dimensions[found.dimension]
    message = (
        f"{table.name}: the index of dimension {found.dimension} ({dimension.name or dimension.kind}) can be "
        f"{found.low} to {found.high}, expected 0 to {found.size - 1}"
    )
    return with_places(message, *read_at(table, found.span))


def _reads(attention: Attention, table: str) -> list[Entry | Member]:
    """Where a table is read, in the order in which it is reached."""
    roots = (attention.mask, attention.score, attention.sink)
    nodes = (node for root in roots if root is not None for node in walk(root))
    return [node for node in nodes if isinstance(node, Entry | Member) and node.table == table]
