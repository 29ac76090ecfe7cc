"""What is known of an attention for every n, without a proof: what its expressions read."""

from __future__ import annotations

from dataclasses import dataclass

from .compiler.ir import HEAD, HEADS, LOGIT, Attention, Entry, Member, N, Q, walk


@dataclass(frozen=True)
class Facts:
    """``counts``: a pair may count more than once. The rest: what decides whether a pair is kept.

    ``heads_differ``: the head; ``length_matters``: the number of keys, so that a longer cache changes earlier rows;
    ``rows_differ``: the query's position; ``mask_tables`` and ``score_tables``: run-time tables. ``sink``: a sink joins
    the denominator; ``plain_score``: the score is the scaled logit itself.
    """

    counts: bool
    heads_differ: bool
    length_matters: bool
    rows_differ: bool
    mask_tables: tuple[str, ...]
    score_tables: tuple[str, ...]
    sink: bool
    plain_score: bool


def facts_of(attention: Attention) -> Facts:
    """Reads them off the expressions."""
    mask = set(walk(attention.mask))
    score = set(walk(attention.score))

    def tables(nodes: set[object]) -> tuple[str, ...]:
        read = {node.table for node in nodes if isinstance(node, (Entry, Member))}
        return tuple(table.name for table in attention.tables if table.name in read)

    return Facts(
        counts=attention.mask.type == "count",
        heads_differ=HEAD in mask or HEADS in mask,
        length_matters=N in mask,
        rows_differ=Q in mask,
        mask_tables=tables({*mask}),
        score_tables=tables({*score}),
        sink=attention.sink is not None,
        plain_score=attention.score == LOGIT,
    )
