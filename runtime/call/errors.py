"""Messages for errors in a call's tables: what was given, what was expected, and which line of the text asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...compiler.diagnostics import Label, nearest, with_places
from ...compiler.ir import Attention, Entry, Member, Table, walk
from ...compiler.oracle import read_at

if TYPE_CHECKING:
    from ...compiler.verify import OutOfRange


def located(message: str, table: Table, *others: tuple[Table, str]) -> str:
    """A message about a table, with the line that declares it; ``others``: further tables, each with its label."""
    places = ((table, "declared here"), *others)
    return with_places(message, *(Label(one.span, text) for one, text in places if one.span is not None))


def missing(attention: Attention, table: Table, expected: str) -> str:
    """The message for a table without a default that was not given."""
    message = f"{table.name}: missing; {attention.name} expects {expected}"
    labels = () if table.span is None else (Label(table.span, "declared here"),)
    reads = [node.span for node in _reads(attention, table.name) if node.span is not None]
    near = [span for span in reads if labels and span.source is labels[0].span.source]
    return with_places(message, *labels, *(Label(span, "read here") for span in near[:1]))


# Arguments of other libraries' attention functions, and what takes their place here.
ELSEWHERE = {
    "attn_mask": "the text says which pairs are kept, by a table `bool[query, token]` where only the call knows",
    "block_mask": "the text says which pairs are kept",
    "score_mod": "the text says the score, in an `attention`",
    "is_causal": "the text says it: `causal and …`",
    "causal": "the text says it: `causal and …`",
    "dropout_p": "did you mean dropout?",
    "softmax_scale": "did you mean scale?",
    **dict.fromkeys(
        ("cu_seqlens", "cu_seqlens_q", "cu_seqlens_k", "cu_seq_lens_q", "cu_seq_lens_k"),
        "a table of the text keeps packed sequences apart, `doc[q] == doc[k]` with doc=attnc.documents(cu_seqlens)",
    ),
    "enable_gqa": "k and v may have fewer heads than q as it is",
}


def unknown(attention: Attention, name: str) -> str:
    """The message for an argument that is not the name of a table."""
    from ...compiler.checker import CALL  # with the whole language, which no call needs that is right

    own = (name for name in CALL if name not in ("self", "q", "k", "v"))
    known = {table.name: table for table in attention.parameters}
    near = nearest(name, [*known, *own])
    listed = f"one of {', '.join(known)}" if known else "no tables"
    hint = f"expected {listed}" if near is None else f"did you mean {near}?"
    if name in ELSEWHERE and near not in known:
        near, hint = None, ELSEWHERE[name]
    spans = [table.span for table in (known.values() if near is None else [known[near]] if near in known else [])]
    labels = (Label(span, "declared here") for span in spans if span is not None)
    return with_places(f"{name}: {attention.name} has no such table; {hint}", *labels)


def by_position(attention: Attention, number: int, taken: str) -> str:
    """The message for too many positional arguments; ``taken`` lists those that the method takes: ``q, k, v``."""
    tables = [table.name for table in attention.parameters]
    if not tables:
        return f"{attention.name}: got {number} more by position than {taken}, expected nothing more: it has no tables"
    labels = [Label(table.span, "declared here") for table in attention.parameters[:1] if table.span is not None]
    given = ", ".join(f"{name}=…" for name in tables)
    message = f"{tables[0]}: is given by position, expected by name: {attention.name}(…)({taken}, {given})"
    return with_places(message, *labels)


def endless_scale(attention: Attention, head: int, value: float) -> str:
    """The message for a scale in the text that is not finite for a head."""
    message = f"scale: is {value} for head {head}, expected a finite number"
    span = getattr(attention.scale, "span", None)
    return with_places(message, *(() if span is None else (Label(span, "computed here"),)))


def other_heads(attention: Attention, heads: int) -> str:
    """The message for a model's layer that is called with a number of heads that is not the model's."""
    message = f"q: has {heads} heads, expected {attention.heads}, as the model has"
    labels = () if attention.heads_span is None else (Label(attention.heads_span, "declared here"),)
    return with_places(message, *labels)


def outside(attention: Attention, found: OutOfRange) -> str:
    """The message for an index outside its table, with the line that reads it."""
    table = next(table for table in attention.tables if table.name == found.table)
    dimension = table.dimensions[found.dimension]
    message = (
        f"{table.name}: the index of dimension {found.dimension} ({dimension.name or dimension.kind}) can be "
        f"{found.low} to {found.high}, expected 0 to {found.size - 1}"
    )
    return with_places(message, *read_at(table, found.span))


def _reads(attention: Attention, table: str) -> list[Entry | Member]:
    """The reads of a table, in the order of a walk over mask, score and sink."""
    roots = (attention.mask, attention.score, attention.sink)
    nodes = (node for root in roots if root is not None for node in walk(root))
    return [node for node in nodes if isinstance(node, Entry | Member) and node.table == table]
