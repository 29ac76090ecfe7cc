"""Turns an attention into a Program: searches for the orders of rows and keys with the cheapest kernels.

The search is made once, at a representative length, and its result serves every length. It starts from natural order
throughout or from each term's own cheapest orders, whichever costs less, and then makes the move that saves most, until
none does. Natural order wins ties.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from ..analysis import normalise, parts
from ..ir import Attention, CallShape, Expr, rename_tables
from ..plan import Kernel, Order, Program, Segment, Tiles, is_natural, natural, row_alignment
from .assemble import AssignedTerm, assemble
from .candidates import OrderPair, SearchContext, walks
from .cost import cost, stand_in_length
from .head_groups import groups

# Other orders are chosen only if they cost less than this fraction of natural order.
_WORTHWHILE = 0.98
# The search goes on while a move brings the cost below this fraction.
_STEP = 0.995
_MOST_PARTS = 16
# Limits of one search: orders that are tried for single terms, and programs that are tried (for more terms, fewer for
# each); orders of one term that are tried in programs, the cheapest for the term alone.
_ALONE, _TOGETHER, _MOST_OPTIONS = 64, 128, 4


def arrange(
    attention: Attention,
    tiles: Tiles,
    heads: int | None = None,
    known: frozenset[int] | None = None,
    natural_rows: bool = False,
) -> Program:
    """The Program of an attention, for tiles of the given sizes.

    ``heads``: the number of query heads, if it is known. ``known``: the indices in ``attention.tables`` of the tables
    whose contents the host will know when a schedule is made; None for all. ``natural_rows``: rows are walked in
    natural order, so that the first row may be at any position, known to the host or not; otherwise it must be at a
    multiple of :func:`compiler.plan.row_alignment`. Expressions of the Program name tables by these indices.
    """
    numbers = {table.name: str(number) for number, table in enumerate(attention.tables)}
    mask = rename_tables(attention.mask, numbers)
    readable = frozenset(numbers.values()) if known is None else frozenset(map(str, known))
    return Program(
        kernels=_arranged(mask, heads, SearchContext(tiles, attention.tables, readable), natural_rows),
        mask=mask,
        score=rename_tables(attention.score, numbers),
        sink=None if attention.sink is None else rename_tables(attention.sink, numbers),
        tables=attention.tables,
    )


def applies_to(program: Program, extent: CallShape, on_device: bool = False) -> bool:
    """Whether the program is right for the first rows of a launch; if not, one with ``natural_rows`` is.

    ``on_device``: where only the device knows the position of the first row, it can still list rows by a condition.
    """
    if extent.q_start is None:
        return all(is_natural(kernel.rows) or (on_device and kernel.rows.sparse) for kernel in program.kernels)
    return not any(start % row_alignment(program) for start in extent.q_start)


def _arranged(mask: Expr, heads: int | None, known: SearchContext, natural_rows: bool) -> tuple[Kernel, ...]:
    """The kernels of each group of heads. Groups in natural order share kernels, whose mask branches on the head."""
    apart = groups(mask, heads) if heads is not None else ()
    if len(apart) < 2:
        return _kernels(apart[0].mask if apart else mask, known, natural_rows)
    plain: list[int] = []
    kernels: list[Kernel] = []
    for group in apart:
        own = _kernels(group.mask, known, natural_rows)
        if own == _natural(_conditions(group.mask), known.tiles):
            plain.extend(group.heads)
        else:
            kernels += [replace(kernel, heads=group.heads) for kernel in own]
    if not plain:
        return tuple(kernels)
    if not kernels:
        return _natural(_conditions(mask), known.tiles)
    shared = [group for group in apart if set(group.heads) <= set(plain)]
    together = shared[0].mask if len(shared) == 1 else mask
    natural_ones = _natural(_conditions(together), known.tiles)
    return (*(replace(kernel, heads=tuple(sorted(plain))) for kernel in natural_ones), *kernels)


def _kernels(mask: Expr, known: SearchContext, natural_rows: bool) -> tuple[Kernel, ...]:
    pieces = _conditions(mask)
    if pieces != parts(mask):
        return _natural(pieces, known.tiles)
    subjects = [(number, term) for number, part in enumerate(normalise(mask)) for term in part]
    options = [walks(term, known, natural_rows) for _, term in subjects]
    if all(len(each) == 1 for each in options):
        return _natural(pieces, known.tiles)
    placed = tuple(AssignedTerm(number, term, each[0]) for (number, term), each in zip(subjects, options, strict=True))
    return _Search(pieces, known, options, stand_in_length(mask, known.tiles)).best(placed)


def _conditions(mask: Expr) -> tuple[Expr, ...]:
    """The conditions of the segments in natural order: the parts of a mask or, if they are many, the whole count."""
    pieces = parts(mask)
    return pieces if len(pieces) <= _MOST_PARTS else (mask,)


def _natural(conditions: Sequence[Expr], tiles: Tiles) -> tuple[Kernel, ...]:
    segments = tuple(Segment(natural(tiles.key), condition) for condition in conditions)
    return (Kernel(natural(tiles.query), segments, "store"),)


@dataclass(frozen=True)
class _Tried:
    placed: tuple[AssignedTerm, ...]
    kernels: tuple[Kernel, ...]
    cost: float


class _Search:
    """A local search over the orders of all terms at once; ``options``: those of each term, natural order first."""

    def __init__(
        self, conditions: tuple[Expr, ...], known: SearchContext, options: Sequence[tuple[OrderPair, ...]], n: int
    ) -> None:
        self._conditions, self._known, self._options, self._n = conditions, known, options, n
        self._tried: dict[tuple[AssignedTerm, ...], _Tried] = {}

    def best(self, start: tuple[AssignedTerm, ...]) -> tuple[Kernel, ...]:
        plain = self._try(start)
        ranked = [self._ranked(*each) for each in zip(start, self._options, strict=True)]
        own = self._try(tuple(replace(each, walk=its[0]) for each, its in zip(start, ranked, strict=True)))
        self._options = [(each.walk, *its[:_MOST_OPTIONS]) for each, its in zip(start, ranked, strict=True)]
        found = self._descend(min((plain, own), key=lambda tried: tried.cost))
        return found.kernels if found.cost < _WORTHWHILE * plain.cost else _natural(self._conditions, self._known.tiles)

    def _try(self, placed: tuple[AssignedTerm, ...]) -> _Tried:
        if placed not in self._tried:
            kernels = assemble(placed, self._conditions, self._known.tiles, self._known.tables)
            self._tried[placed] = _Tried(placed, kernels, self._cost(kernels))
        return self._tried[placed]

    def _cost(self, kernels: tuple[Kernel, ...]) -> float:
        return cost(kernels, self._n, self._known.tiles, self._known.tables)

    def _ranked(self, placed: AssignedTerm, options: tuple[OrderPair, ...]) -> list[OrderPair]:
        """The orders of a term, the cheapest for the term alone first; natural order wins ties."""

        def alone(walk: OrderPair) -> float:
            only = (AssignedTerm(0, placed.term, walk),)
            return self._cost(assemble(only, (placed.term.condition,), self._known.tiles, self._known.tables))

        share = max(_ALONE // len(self._options), 2)
        return list(options) if len(options) == 1 else sorted(options[:share], key=alone)

    def _descend(self, tried: _Tried) -> _Tried:
        most = _TOGETHER // len(self._options) + 2
        while True:
            left = most - len(self._tried)
            others = map(self._try, islice(self._moves(tried.placed), max(left, 0)))
            better = min(others, key=lambda other: other.cost, default=tried)
            if better.cost >= _STEP * tried.cost:
                return tried
            tried = better

    def _moves(self, placed: tuple[AssignedTerm, ...]) -> Iterator[tuple[AssignedTerm, ...]]:
        """Yields the assignments one move away.

        A move gives another row order to all terms that share one, or the same orders to all terms with equal options.
        """
        every = {walk.rows: None for options in self._options for walk in options if walk.rows.covers}
        for old in dict.fromkeys(each.walk.rows for each in placed):
            for new in every:
                if new != old:
                    yield tuple(
                        replace(each, walk=_onto(each.walk, own, new)) if each.walk.rows == old else each
                        for each, own in zip(placed, self._options, strict=True)
                    )
        for options in dict.fromkeys(map(frozenset, self._options)):
            for walk in sorted(options, key=repr) if len(options) > 1 else ():
                yield tuple(
                    replace(each, walk=walk) if frozenset(own) == options else each
                    for each, own in zip(placed, self._options, strict=True)
                )


def _onto(walk: OrderPair, options: Sequence[OrderPair], rows: Order) -> OrderPair:
    """The orders of a term on other rows: one of its options, the same keys if possible, or else just the same keys."""
    own = sorted((option for option in options if option.rows == rows), key=lambda option: option.keys != walk.keys)
    if own:
        return own[0]
    keys = natural(walk.keys.tile) if walk.keys.around_rows else walk.keys  # boxes would be around other rows
    return OrderPair(rows, keys)
