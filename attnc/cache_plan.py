"""Plans what a decoding cache keeps, for `Attention.cache`: from the last row that reads each key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .call_plan import SizedCall, Sizes, checked_size, sized_call
from .compiler.analysis import any_count, overapproximate
from .compiler.ir import DEFAULT_SCALE, LOGIT, Attention, Entry, Expr, Member, negation, tables_read
from .compiler.modules import Claim
from .compiler.oracle import RowReads, TooManyPairsError
from .compiler.verify import check_attention
from .last_reader import LastReader, last_reader_of
from .runtime.call import errors, integer
from .verdicts import decided, verdict


@dataclass(frozen=True, eq=False, repr=False)  # compared by identity, because it holds arrays
class CachePlan:
    """Which keys must be kept while the rows of ``n`` tokens are computed one after the other, of a causal attention.

    ``last_reader``: for each key the last row that reads it, int64 ``[heads, n]``, or ``[batch, heads, n]`` where a
    table has a batch; -1 where no row does. ``text``: the same as a function of ``k``, ``n`` and ``head``; empty where
    it was found row by row. ``exact``: those rows do read these keys; otherwise this depends on what ``depends_on``
    names, and no later row reads them. ``bound``: positions held at most, whatever the length; None where that grows
    with n, or is not known. ``shrinks``: whether keys are dropped before the last rows; where none are, ``reason`` says
    why.
    """

    n: int
    last_reader: NDArray[np.int64] = field(repr=False)
    text: str
    exact: bool
    depends_on: tuple[str, ...]
    bound: int | None
    reason: str
    _attention: Attention
    _call: SizedCall

    @property
    def shrinks(self) -> bool:
        return not self.reason

    @cached_property
    def largest(self) -> int:
        """The greatest number of positions held at a time, by all heads of one entry of the batch together."""
        return max((int(_held(last).max(initial=0)) for last in self._every.max(1, initial=-1)), default=0)

    def positions(
        self, p: int, *, head: int | Iterable[int] | None = None, entry: int | None = None
    ) -> NDArray[np.int64]:
        """The positions, rising, that must be in the cache while row ``p`` is computed: keys up to ``p`` that it or a
        later row reads.

        A text that is resumed at row ``p`` needs these of the positions before it, and no other. ``head``: for one head
        or several, such as the query heads of one key head; ``entry``: for one entry of the batch; else for any of
        them.
        """
        p = self._row(p)
        return np.flatnonzero(self._chosen(self._every[..., : p + 1], head, entry).max((0, 1), initial=-1) >= p)

    def reads(self, p: int, *, head: int | Iterable[int] | None = None, entry: int | None = None) -> NDArray[np.int64]:
        """The positions, rising, that row ``p`` itself reads, ``p`` among them where it reads itself; where the plan is
        not exact, those that it may read. Some of :meth:`positions`.
        """
        p = self._row(p)
        kept = self._rows.kept(p, p + 1, np.arange(p + 1))[:, :, 0]
        kept = kept & (self._every[..., : p + 1] >= p)
        return np.flatnonzero(self._chosen(kept, head, entry).any((0, 1)))

    @property
    def _every(self) -> NDArray[np.int64]:
        """The last readers with a batch, ``[batch or 1, heads, n]``."""
        return self.last_reader if self.last_reader.ndim == 3 else self.last_reader[None]

    @cached_property
    def _rows(self) -> RowReads:
        call = self._call
        held = {table.name: its for table, its in zip(call.attention.tables, call.contents, strict=True)}
        return RowReads.of(any_count(call.attention.mask), call.attention.tables, call.extent, held)

    def _row(self, p: object) -> int:
        row = integer(p)
        if row is None:
            raise TypeError(f"p: is {type(p).__name__}, expected an int")
        if not 0 <= row < self.n:
            raise ValueError(f"p: is {row}, expected a row of the plan, 0 <= p < {self.n}")
        return row

    def _chosen(
        self, found: NDArray[np.generic], head: int | Iterable[int] | None, entry: int | None
    ) -> NDArray[np.generic]:
        """The part ``[entries, heads, …]`` of an array with one item for each head, of an entry of a batch or not."""
        found = np.broadcast_to(found, (*self._every.shape[:2], found.shape[-1]))
        entries = range(len(found)) if entry is None else [_index("entry", entry, len(found))]
        every = range(found.shape[1]) if head is None else [head] if isinstance(head, int) else list(head)
        return found[np.ix_(entries, [_index("head", each, found.shape[1]) for each in every])]

    def __repr__(self) -> str:
        """What is read last and how much is held, in at most four lines; counts are computed once."""
        batch, heads = self.last_reader.shape[:-1] if self.last_reader.ndim == 3 else (1, *self.last_reader.shape[:-1])
        lines = [f"<attnc cache of {self._attention.name}: {self.n:,} positions, heads {heads:,}, batch {batch:,}"]
        if self.text:
            lines.append(f"key k is last read by row {self.text}{'' if self.exact else ', or before'}")
        if not self.exact:
            why = f"for any contents of {', '.join(self.depends_on)}" if self.depends_on else "rows were not looked at"
            lines.append(f"an upper bound: {why}")
        ever = f", and at most {self.bound:,} of any number" if self.bound is not None and self.bound < self.n else ""
        lines.append(f"positions held: at most {self.largest:,}{ever}")
        if self.reason:
            lines.append(f"it does not shrink: {self.reason}")
        return "\n ".join(lines) + ">"


def _held(last: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many positions are held while each row is computed, given the last reader of each key: int64 ``[n]``."""
    keys = np.flatnonzero(last >= np.arange(len(last)))
    begun = np.bincount(keys, minlength=len(last) + 1)
    ended = np.bincount(last[keys] + 1, minlength=len(last) + 1)
    return np.cumsum(begun - ended)[:-1]


def _index(name: str, given: object, size: int) -> int:
    index = integer(given)
    if index is None:
        raise TypeError(f"{name}: is {type(given).__name__}, expected an int")
    if not 0 <= index < size:
        raise ValueError(f"{name}: is {index}, expected 0 <= {name} < {size}")
    return index


def cache_plan(attention: Attention, n: int, heads: int | None, tables: Mapping[str, object]) -> CachePlan:
    """The plan of a cache for ``n`` tokens. TypeError and ValueError for an argument that does not fit, and ValueError
    for an attention that is not causal.
    """
    n = checked_size(attention, "n", n)
    heads = attention.heads if heads is None else heads
    unknown, call = _planned(attention, n, heads, tables)
    causal = _require_causal(attention, unknown)
    closed = last_reader_of(attention)
    opened = [table.name for table in attention.tables if table.name in unknown]
    made = CachePlan(n, np.zeros((1, 0), np.int64), "", True, tuple(opened), closed.bound, "", attention, call)
    form = closed.at(n, call.extent.heads) if closed.text else None
    if form is not None and causal and (closed.exact or unknown):
        last, text, exact = form[None], closed.text, closed.exact
    else:
        last, text, exact = _row_by_row(made, form, closed, causal)
    shape = (call.extent.heads, n) if call.batch is None else (call.batch, call.extent.heads, n)
    last = np.broadcast_to(last if call.batch is not None else last[0], shape)
    found = replace(made, last_reader=last, text=text, exact=exact and not unknown)
    return replace(found, reason=_reason(found, closed))


def _planned(
    attention: Attention, n: int, heads: int | None, tables: Mapping[str, object]
) -> tuple[frozenset[str], SizedCall]:
    """The tables whose contents are not known, and a call: of the mask, or where contents are not known, of a mask
    that keeps all that it may keep.

    All tables that the mask reads are known, or none: what a read depends on may be in another table.
    """
    names = {table.name for table in attention.parameters}
    for name in tables:
        if name not in names:
            raise TypeError(errors.unknown(attention, name))
    read = tables_read(attention.mask)
    called = [table for table in attention.parameters if table.name in read]
    given = {table.name: tables[table.name] for table in called if tables.get(table.name) is not None}
    unknown: frozenset[str] = frozenset()
    mask: Expr = attention.mask
    if not given and any(table.default is None for table in called):
        unknown = frozenset(table.name for table in called)
        mask = overapproximate(any_count(mask), lambda node: isinstance(node, Entry | Member) and node.table in unknown)
    held = tuple(table for table in attention.tables if table.name in tables_read(mask))
    alone = replace(attention, mask=mask, score=LOGIT, scale=DEFAULT_SCALE, sink=None, tables=held)
    call = sized_call(alone, Sizes(n, n, heads), given)
    check_attention(call.attention, call.extent, call.contents)
    return unknown, call


def _require_causal(attention: Attention, unknown: frozenset[str]) -> bool:
    """Whether the mask is causal at every length; if not, the rows have to be looked at. ValueError where tables are
    not known and it is not known to be causal; it names them where it may be with other contents.
    """
    found = verdict(attention, "causal")
    if found.proved or not unknown:
        return found.proved
    at = found.counterexample
    why = found.message if at is None else f"at n = {at.n:,} row {at.q:,} reads key {at.k:,}"
    given = f" ({at.given})" if at is not None and at.given else ""
    kept = any_count(attention.mask)
    lost = overapproximate(negation(kept), lambda node: isinstance(node, Entry | Member) and node.table in unknown)
    hopeless = decided(negation(lost), attention.tables, Claim("causal"), attention.heads).refuted
    names = ", ".join(f"{table.name}=…" for table in attention.parameters)
    hint = (
        "a causal mask: whatever its tables hold, this is none"
        if hopeless
        else (f"a causal mask, or tables with which it is one: {names}")
    )
    raise ValueError(
        f"{attention.name}: is {'not' if at is not None else 'not known to be'} causal, and a cache holds no keys that "
        f"are still to come: {why}{given}; expected {hint}"
    )


def _row_by_row(
    made: CachePlan, form: NDArray[np.int64] | None, closed: LastReader, causal: bool
) -> tuple[NDArray[np.int64], str, bool]:
    """The last readers found by looking at the rows; where these are too many, those of the closed form, and its text;
    and whether they are exact. ValueError for a row that reads a later key.
    """
    try:
        if not causal and (later := made._rows.first_later_key()) is not None:
            raise ValueError(
                f"{made._attention.name}: is not causal, and a cache holds no keys that are still to come: at "
                f"n = {made.n:,} row {later[0]:,} reads key {later[1]:,}"
            )
        return made._rows.last_readers(form), "", True
    except TooManyPairsError as error:
        if form is not None and causal:
            return form[None], closed.text, False
        why = "it is not known to be causal" if form is not None else f"there is no closed form: {closed.reason}"
        raise ValueError(f"{error}; {why}") from None


def _reason(plan: CachePlan, closed: LastReader) -> str:
    """Why no key is dropped before the last rows; empty where one is."""
    may = "reads" if plan.exact else "may read"
    if plan.text and closed._tail is not None and closed._tail > 1:
        by = "is read" if plan.exact else "may be read"
        return f"every key {by} by one of the last {closed._tail:,} rows, however many there are"
    if plan.text and closed._tail == 1:
        return f"the last row {may} every key"
    if plan.n and plan.largest == plan.n:
        return f"at this length the last row {may} every key"
    return ""
