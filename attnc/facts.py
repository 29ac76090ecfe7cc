"""Properties of an attention that hold for every n: read off its expressions, or proved when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .compiler.ir import HEAD, HEADS, LOGIT, Attention, Entry, Member, N, Q, walk

if TYPE_CHECKING:
    from .compiler.verify import Verdict
    from .last_reader import LastReader


@dataclass(frozen=True)
class Facts:
    """What an attention's expressions read. ``counts``: the mask is a count, so that a pair may count more than once.

    What the mask reads: ``heads_differ``: the head; ``length_matters``: the number of keys, so that a longer cache may
    change earlier rows; ``rows_differ``: the query's position; ``mask_tables``: run-time tables. ``score_tables``: the
    run-time tables that the score reads. ``sink``: a sink joins the softmax's denominator; ``plain_score``: the score
    is the scaled logit itself.

    The claims of the language about one mask are verdicts of :func:`attnc.prove`, reached at first use: ``causal``,
    ``symmetric``, ``diagonal``, ``rows_nonempty`` and ``columns_nonempty``. ``last_reader`` is a function of the key.
    """

    counts: bool
    heads_differ: bool
    length_matters: bool
    rows_differ: bool
    mask_tables: tuple[str, ...]
    score_tables: tuple[str, ...]
    sink: bool
    plain_score: bool
    _attention: Attention = field(repr=False, compare=False)

    @property
    def causal(self) -> Verdict:
        """Whether no key after the query is kept."""
        from .verdicts import verdict

        return verdict(self._attention, "causal")

    @property
    def symmetric(self) -> Verdict:
        """Whether (q, k) is kept where (k, q) is."""
        from .verdicts import verdict

        return verdict(self._attention, "symmetric")

    @property
    def diagonal(self) -> Verdict:
        """Whether every query sees itself."""
        from .verdicts import verdict

        return verdict(self._attention, "diagonal")

    @property
    def rows_nonempty(self) -> Verdict:
        """Whether every query keeps a key."""
        from .verdicts import verdict

        return verdict(self._attention, "rows nonempty")

    @property
    def columns_nonempty(self) -> Verdict:
        """Whether every key is kept by a query."""
        from .verdicts import verdict

        return verdict(self._attention, "columns nonempty")

    @property
    def last_reader(self) -> LastReader:
        """For each key the last row that may read it, as a function of ``k``, ``n`` and ``head``."""
        from .last_reader import last_reader_of

        return last_reader_of(self._attention)


def facts_of(attention: Attention) -> Facts:
    """Collects which positions and tables the mask, the score and the sink of an attention read."""
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
        _attention=attention,
    )
