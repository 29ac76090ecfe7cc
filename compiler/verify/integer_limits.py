"""Refuses calls in which an integer that is evaluated may overflow 63 bits; decided before anything runs.

Bounds are computed in Python's unbounded integers. Most calls pass at once, by bounds over all of their pairs, cached
for sizes rounded up to powers of two. Otherwise the pairs are cut into boxes, until the integer is in bounds or not
evaluated in each of them, or a pair is found for which it overflows.

Contents that only the device knows count as anything below 2**62 in magnitude, or 2**31 if the tensor is not int64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any, NamedTuple

import numpy as np

from ..analysis import BoundTable, Boxes, Classifier, DigitRange, Reached, any_count, implied, parts_reached
from ..diagnostics import FIRST_BEYOND, Label, Span, with_places
from ..ir import (
    HEAD_DIM,
    HEADS,
    TRUE,
    Apply,
    Attention,
    CallShape,
    Const,
    Entry,
    Expr,
    HostTable,
    K,
    Member,
    N,
    Q,
    Table,
    children,
    constructors,
    walk,
)
from ..plan import EMPTY, FULL, natural
from ..schedule import Slots, Space, ViewRanges, slots, split

# Boxes that may be undecided at one time; with more, the call is refused for what an integer might become.
_MOST_PENDING = 2**15
_LONGEST_SHOWN = 72  # characters of an expression
_LARGEST_SHOWN = 2**200

Between = tuple[int, int]  # the least and the greatest value


class IntegerRangeError(ValueError):
    """An integer that is evaluated may overflow 63 bits. ``message`` leaves out the excerpt from the text."""

    def __init__(self, message: str, span: Span | None = None) -> None:
        self.message, self.span = message, span
        super().__init__(with_places(message, *(() if span is None else (Label(span, "computed here"),))))

    def __reduce__(self) -> tuple[type[IntegerRangeError], tuple[Any, ...]]:
        return type(self), (self.message, self.span)


@dataclass(frozen=True)
class _Asked:
    """Expressions over the same pairs, each with the condition under which it is evaluated.

    ``keys`` is n, or 1 for expressions of rows only.
    """

    looked_at: tuple[tuple[Expr, Expr], ...]
    keys: int


class _Sizes(NamedTuple):
    """Sizes of a call. ``rows``: the first and last position of its rows; None if only the device knows ``q_start``."""

    n: int
    heads: int
    rows: Between | None

    @property
    def rounded(self) -> _Sizes:
        """The sizes rounded up to powers of two: bounds for these hold for all smaller calls."""
        return _Sizes(_power(self.n), self.heads, None if self.rows is None else (0, _power(self.rows[1] + 1) - 1))


def _power(size: int) -> int:
    return 1 << (size - 1).bit_length() if size else 0


def check_integers(
    mask: Expr, score: Expr | None, sink: Expr | None, tables: Mapping[str, BoundTable], extent: CallShape
) -> None:
    """Raise IntegerRangeError if an integer of the mask, the score of kept pairs, or the sink may overflow 63 bits."""
    if not extent.m or not extent.heads:
        return
    pairs = ((mask, TRUE),) if score is None else ((mask, TRUE), (score, any_count(mask)))
    for asked in (_Asked(pairs, extent.n), _Asked(() if sink is None else ((sink, TRUE),), 1)):
        if asked.keys and asked.looked_at:
            _check(asked, tables, extent)


def check_attention(attention: Attention, extent: CallShape, contents: Sequence[HostTable]) -> None:
    """As :func:`check_integers`, for mask, score and sink of an attention. ``contents``: all tables, in order."""
    pairs = zip(attention.tables, contents, strict=True)
    tables = {table.name: BoundTable(table, held) for table, held in pairs}
    check_integers(attention.mask, attention.score, attention.sink, tables, extent)


def check_scale(scale: Expr, heads: int, head_dim: int) -> None:
    """As :func:`check_integers`, for the scale, the factor of q·k, of every head."""
    whole = constructors.substitute(scale, {HEAD_DIM: Const(head_dim)})
    if heads:
        _check(_Asked(((whole, TRUE),), 1), {}, CallShape(1, 1, heads))


def _check(asked: _Asked, tables: Mapping[str, BoundTable], extent: CallShape) -> None:
    roots = tuple(root for root, _ in asked.looked_at)
    read = {node.table for root in roots for node in walk(root) if isinstance(node, Entry | Member)}
    entries = tuple((name, _entries(tables[name], extent.n)) for name in sorted(read))
    starts = extent.q_start
    rows = None if starts is None else (min(starts, default=0), max(starts, default=0) + extent.m - 1)
    sizes = _Sizes(extent.n, extent.heads, rows)
    if not _leaving(roots, sizes.rounded, entries):
        return
    leaving = _leaving(roots, sizes, entries)
    if not leaving:
        return
    suspects = [
        part for root, reached in asked.looked_at for part in parts_reached(root, leaving.__contains__, reached)
    ]
    for suspect in suspects:
        narrowed = _implied(suspect.reached, sizes, tables, entries)
        if narrowed is None:
            continue
        between: dict[str | Expr, Between] = {**dict(entries), **narrowed}
        if _leaves(suspect, asked.keys, extent, tables, between):
            raise IntegerRangeError(_told(suspect.node, *leaving[suspect.node]), _place(suspect.node, roots))


def _entries(held: BoundTable, n: int) -> Between:
    """Bounds of a table's integers, 0 included, which a read outside the table gives. ``(0, 0)`` for other elements."""
    values, element = held.contents.values, held.table.element
    if element not in ("int", "order"):
        return 0, 0
    if values is not None:
        return (min(int(values.min()), 0), max(int(values.max()), 0)) if values.size else (0, 0)
    if element == "order":
        return 0, n
    most = 2**62 - 1 if held.contents.wide else 2**31 - 1
    return -most, most


@lru_cache(maxsize=1024)
def _leaving(
    roots: tuple[Expr, ...], sizes: _Sizes, entries: tuple[tuple[str, Between], ...]
) -> Mapping[Expr, Between]:
    """The integers that are not proved to stay below 2**63 in magnitude for all pairs, with their bounds."""
    integers = list(dict.fromkeys(node for root in roots for node in walk(root) if node.type == "int"))
    return {node: bounds for node, bounds in _bounds(integers, sizes, entries).items() if _outside(*bounds)}


def _bounds(integers: Sequence[Expr], sizes: _Sizes, entries: tuple[tuple[str, Between], ...]) -> dict[Expr, Between]:
    """Bounds of integer expressions over all pairs."""
    first, last = (0, 0) if sizes.rows is None else sizes.rows
    start = None if sizes.rows is None else (0,)
    extent = CallShape(sizes.n, last + 1, sizes.heads, start)
    between: dict[str | Expr, Between] = {**dict(entries), N.name: (0, sizes.n)}
    tables = {name: BoundTable(Table(name, "int", ()), HostTable(None)) for name, _ in entries}
    box = Boxes(_side(first, last), _side(0, max(sizes.n - 1, 0)), np.zeros(1, np.int64))
    found = {}
    for node, bounds in zip(
        integers, Classifier(integers, extent, tables, last + 1, between).evaluate_boxes(box), strict=True
    ):
        assert isinstance(bounds, tuple), "every integer of a text has bounds"
        found[node] = int(bounds[0].min()), int(bounds[1].max())
    return found


def _implied(
    reached: Expr, sizes: _Sizes, tables: Mapping[str, BoundTable], entries: tuple[tuple[str, Between], ...]
) -> dict[str | Expr, Between] | None:
    """Bounds, where ``reached`` holds, of the integers that only the device knows, by the inequalities it implies.

    None if these contradict each other: then it holds for no pair.
    """
    unknown = {
        node
        for node in walk(reached)
        if (isinstance(node, Entry) and node.type == "int" and tables[node.table].contents.values is None)
        or (node == Q and sizes.rows is None)
    }
    sums = list(implied(reached, {N: sizes.n, HEADS: sizes.heads})) if unknown else []
    found = _bounds(list(dict.fromkeys(part for each in sums for part in each.factors)), sizes, entries)
    for each in sums:
        for part in unknown.intersection(each.factors):
            factor, (low, high) = each.factors[part], found[part]
            others = (min(own * bound for bound in found[x]) for x, own in each.factors.items() if x != part)
            most = -each.constant - sum(others)  # an upper bound of factor * part
            found[part] = (low, min(high, most // factor)) if factor > 0 else (max(low, -(most // -factor)), high)
    if any(low > high for low, high in found.values()):
        return None
    # Under "q" the classifier takes bounds of the first row's position: at most that of any row, and perhaps less.
    return {"q" if x == Q else x: (0, found[x][1]) if x == Q else found[x] for x in unknown if x in found}


def _outside(low: Any, high: Any) -> Any:
    return (low <= -FIRST_BEYOND) | (high >= FIRST_BEYOND)


def _side(first: int, last: int) -> tuple[DigitRange, ...]:
    low, high = np.full(1, first, np.int64), np.full(1, last, np.int64)
    return (DigitRange(1, low, high),)


def _leaves(
    suspect: Reached[Expr],
    keys: int,
    extent: CallShape,
    tables: Mapping[str, BoundTable],
    between: Mapping[str | Expr, Between],
) -> bool:
    """Whether an integer overflows 63 bits for a pair for which it is evaluated, or is not proved not to."""
    roots = suspect.node, suspect.reached
    nodes = {node for root in roots for node in walk(root)}
    rows, columns = extent.m if Q in nodes else 1, keys if K in nodes else 1
    apart: Slots = reduce(Slots.with_, (slots(root, extent, tables) for root in roots))
    space = Space(ViewRanges.whole(natural(1), rows), ViewRanges.whole(natural(1), columns), apart)
    classifier = Classifier(roots, extent, tables, between=between)
    pending = space.start
    while len(pending):
        bounds, reached = classifier.evaluate_boxes(space.read(pending)[0])
        assert isinstance(bounds, tuple)
        low, high = bounds
        outside = np.asarray((reached != EMPTY) & _outside(low, high), bool)
        everywhere = (reached == FULL) & ((low >= FIRST_BEYOND) | (high <= -FIRST_BEYOND))
        if (outside & (pending.single | np.asarray(everywhere, bool))).any() or outside.sum() > _MOST_PENDING:
            return True
        pending = split(space, pending.take(outside))
    return False


def _told(node: Expr, low: int, high: int) -> str:
    span = node.span if isinstance(node, Apply | Entry) else None
    if span is not None:
        what = f"`{_shown(' '.join(span.source.text[span.start : span.end].split()))}`"
    else:
        what = f"the number {_number(int(node.value))}" if isinstance(node, Const) else "an integer"
    can = f"is {_number(low)}" if low == high else f"can be {_number(low)} to {_number(high)}"
    return f"{what} {can} in this call, expected integers below 2**63 in magnitude"


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


def _number(value: int) -> str:
    if abs(value) < _LARGEST_SHOWN:
        return str(value)
    return f"{'-' if value < 0 else ''}2**{abs(value).bit_length() - 1} and more"


def _place(node: Expr, roots: Sequence[Expr]) -> Span | None:
    """The place in the text of a node, or, if it has none, of the innermost expression around it that has one."""
    around = {node}
    for root in roots:
        for whole in walk(root):
            if whole == node or not around.isdisjoint(children(whole)):
                span = whole.span if isinstance(whole, Apply | Entry | Member) else None
                if span is not None:
                    return span
                around.add(whole)
    return None
