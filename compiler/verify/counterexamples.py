"""What contradicts a claim in one call: the first pair, row or column, and the masks to draw it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..analysis import BoundTable
from ..ir import Expr, HostTable, Table
from ..modules import Claim
from ..oracle import evaluate
from .integer_limits import check_integers
from .pictures import LARGEST, Counts, Panel, contrast, picture, side_by_side
from .samples import Sample

_LONGEST_SHOWN = 12  # entries of a table


@dataclass(frozen=True)
class Counterexample:
    """A pair, row (``k`` None) or column (``q`` None) that contradicts a claim of a ``kind`` at one length.

    ``contents``: what each table holds, by name, and ``given`` those of them that a call gives, in words.

    To draw it: ``counts`` is the mask, ``other`` the mask of the claim's operand, and ``wrong`` marks every pair that
    contradicts the claim, all ``[m, n]``; or, where ``in_part``, the part of a large mask around the place, which alone
    is marked. ``corner`` is the position of the first row and of the first key.
    """

    kind: str
    n: int
    q: int | None
    k: int | None
    heads: int = 1
    head: int = 0
    corner: tuple[int, int] = field(default=(0, 0), compare=False, repr=False)
    in_part: bool = field(default=False, compare=False, repr=False)
    contents: Mapping[str, HostTable] = field(default_factory=dict, compare=False, repr=False)
    given: str = field(default="", compare=False, repr=False)
    counts: Counts | None = field(default=None, compare=False, repr=False)
    other: Counts | None = field(default=None, compare=False, repr=False)
    wrong: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        """What is wrong where, and the pictures."""
        return "\n".join([told(self), "", *drawn(self)])


@dataclass(frozen=True)
class Call:
    """A call of which masks are made, each once, for all of its heads."""

    tables: Sequence[Table]
    sample: Sample
    _made: dict[Expr, NDArray[Any]] = field(default_factory=dict, compare=False, repr=False)

    def masks(self, expr: Expr, head: int) -> Masks:
        """The mask of one head. Raises OutOfTableError, IntegerRangeError and TooLargeError."""
        return Masks(self, head, self.counts(expr, head))

    def counts(self, expr: Expr, head: int) -> Counts:
        if expr not in self._made:
            bound = {table.name: BoundTable(table, self.sample.contents[table.name]) for table in self.tables}
            check_integers(expr, None, None, bound, self.sample.extent)
            self._made[expr] = evaluate(expr, self.tables, self.sample.extent, self.sample.contents)[0]
        return np.asarray(self._made[expr][head], dtype=np.int64)


@dataclass(frozen=True)
class Masks:
    """The mask of one head that checks look at, and its call; :meth:`operand` makes others for the same call."""

    call: Call
    head: int
    counts: Counts

    @property
    def q_start(self) -> int:
        start = self.call.sample.extent.q_start
        assert start is not None
        return start[0]

    def operand(self, expr: Expr) -> Counts:
        return self.call.counts(expr, self.head)


def counterexample(masks: Masks, claim: Claim) -> Counterexample | None:
    """The first pair, row or column, in reading order, that contradicts a claim; None if it holds."""
    counts, first = masks.counts, masks.q_start
    kept = counts > 0
    q, k = np.arange(first, first + counts.shape[0])[:, None], np.arange(counts.shape[1])[None, :]
    match claim.kind:
        case "causal":
            return _pair(masks, claim, kept & (k > q))
        case "symmetric":
            return _pair(masks, claim, kept & ~_mirrored(kept, first))
        case "diagonal":
            row = _first(~(kept & (k == q)).any(axis=1))
            return None if row is None else _place(masks, claim, first + row, first + row, (k == q) & ~kept)
        case "rows nonempty":
            empty = np.asarray(~kept.any(axis=1))
            row = _first(empty)
            return None if row is None else _place(masks, claim, first + row, None, empty[:, None])
        case "columns nonempty":
            empty = np.asarray(~kept.any(axis=0))
            column = _first(empty)
            return None if column is None else _place(masks, claim, None, column, empty[None, :])
    assert claim.operand is not None
    other = masks.operand(claim.operand)
    match claim.kind:
        case "within":
            return _pair(masks, claim, kept & (other == 0), other)
        case "contains":
            return _pair(masks, claim, ~kept & (other > 0), other)
        case "equals":
            return _pair(masks, claim, counts != other, other)
        case "disjoint":
            return _pair(masks, claim, kept & (other > 0), other)


def _mirrored(kept: NDArray[np.bool_], first: int) -> NDArray[np.bool_]:
    """Whether the mirror image ``(k, q)`` of each pair is kept; true where that is not a pair of the call."""
    rows, columns = kept.shape
    mirrored = np.ones_like(kept)
    last = min(first + rows, columns)
    if first < last:  # positions that are both rows and keys
        square = kept[: last - first, first:last]
        mirrored[: last - first, first:last] = square.T
    return mirrored


def _first(wrong: Any) -> int | None:
    """The index of the first true entry of a one-dimensional array; None if there is none."""
    return int(np.argmax(wrong)) if wrong.any() else None


def _pair(masks: Masks, claim: Claim, wrong: NDArray[np.bool_], other: Counts | None = None) -> Counterexample | None:
    place = _first(wrong.ravel())
    if place is None:
        return None
    row, column = divmod(place, wrong.shape[1])
    return _place(masks, claim, masks.q_start + row, column, wrong, other)


def _place(
    masks: Masks, claim: Claim, q: int | None, k: int | None, wrong: NDArray[np.bool_], other: Counts | None = None
) -> Counterexample:
    sample, counts = masks.call.sample, masks.counts
    return Counterexample(
        claim.kind,
        sample.extent.n,
        q,
        k,
        sample.extent.heads,
        masks.head,
        corner=(masks.q_start, 0),
        contents=sample.contents,
        given=contents_told(masks.call.tables, sample.contents),
        counts=counts,
        other=other,
        wrong=np.broadcast_to(wrong, counts.shape),
    )


def corner_around(n: int, q: int | None, k: int | None) -> tuple[int, int]:
    """The first row and key of the part of a mask that is drawn for a place; a row or column at the diagonal."""
    row, key = (k if q is None else q) or 0, (q if k is None else k) or 0
    first, second = (max(0, min(place - LARGEST // 2, n - LARGEST)) for place in (row, key))
    return first, second


def cut(found: Counterexample) -> Counterexample:
    """The same counterexample, of a large mask with the part around its place only."""
    if found.counts is None or found.wrong is None or found.n <= LARGEST:
        return found
    row, key = corner_around(found.n, found.q, found.k)
    part = slice(row, row + LARGEST), slice(key, key + LARGEST)
    other = None if found.other is None else found.other[part].copy()
    counts, wrong = found.counts[part].copy(), found.wrong[part].copy()
    return replace(found, corner=(row, key), in_part=True, counts=counts, other=other, wrong=wrong)


def told(found: Counterexample) -> str:
    """In words, what is wrong, at what length and where, and what the tables hold that the call gives."""
    return _where(found) + (f" ({found.given})" if found.given else "")


def _where(found: Counterexample) -> str:
    where = f"at n = {found.n}" + (f", head {found.head} of {found.heads}" if found.heads > 1 else "")
    pair = f"(q = {found.q}, k = {found.k})"
    match found.kind:
        case "causal":
            return f"the pair {pair} is kept {where}, and k > q"
        case "symmetric":
            return f"the pair {pair} is kept {where}, and its mirror image is not"
        case "diagonal":
            return f"query {found.q} does not see itself {where}"
        case "rows nonempty":
            return f"row {found.q} keeps nothing {where}"
        case "columns nonempty":
            return f"column {found.k} is kept by no row {where}"
        case "contains":
            return f"the pair {pair} is not kept {where}"
        case "equals":
            return f"the two differ at {pair} {where}"
        case "within":
            return f"the pair {pair} is kept {where}, and not by the other"
        case "disjoint":
            return f"the pair {pair} is kept by both {where}"
    raise AssertionError(f"there is no claim {found.kind}")


def contents_told(tables: Sequence[Table], contents: Mapping[str, HostTable]) -> str:
    """What tables hold that the text gives no value: ``length = 2, doc = [0, 1]``; empty where there are none."""
    return ", ".join(
        f"{table.name} = {_shown(contents[table.name].values, table.element == 'set')}"
        for table in tables
        if table.value is None and table.name in contents
    )


def _shown(values: NDArray[Any] | None, is_set: bool) -> str:
    if values is None:
        return "…"
    if values.ndim == 0:
        return str(values.item()).lower() if values.dtype == bool else str(values.item())
    if is_set and values.ndim == 1:
        members = np.flatnonzero(values) if values.dtype == bool else values[values >= 0]
        return f"{{{_some([str(member) for member in members.tolist()])}}}"
    return f"[{_some([_shown(part, is_set) for part in values[: _LONGEST_SHOWN + 1]])}]"


def _some(parts: Sequence[str]) -> str:
    return ", ".join([*parts[:_LONGEST_SHOWN], *(["…"] if len(parts) > _LONGEST_SHOWN else [])])


def drawn(found: Counterexample) -> list[str]:
    """The mask, the claim's other operand where it has one, and the pairs that contradict the claim, as lines."""
    if found.counts is None or found.wrong is None:
        return []
    whole = (found.n, found.n) if found.in_part else None
    if found.kind == "equals" and found.other is not None:
        return contrast(picture(found.other), picture(found.counts), found.corner, whole)
    panels = [Panel("got", picture(found.counts))]
    if found.other is not None:
        panels.append(Panel("the other", picture(found.other)))
    marks = tuple("".join("!" if wrong else "." for wrong in row) for row in found.wrong)
    return side_by_side([*panels, Panel("against it", marks)], found.corner, whole)
