"""Attention to Program: the orders in which rows and keys are walked, chosen by what the kernels would cost.

The choice is made once, at a stand-in length, and serves every length. It starts from natural order throughout, and
from each term's own cheapest walk; then moves what pays, one move at a time. Natural order wins ties.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .assemble import Placed, assemble
from .candidates import Known, Walk, walks
from .cost import cost, stand_in_length
from .extent import Extent
from .fold import rename_tables
from .groups import groups
from .ir import Attention, Expr
from .normalise import normalise, parts
from .plan import Kernel, Order, Program, Segment, Tiles, covers, natural, row_cycle

# Natural order is left for what costs at most this share of it.
_WORTHWHILE = 0.98
# A step that saves less is none.
_STEP = 0.995
_MOST_PARTS = 16
_MOST_TRIED = 96


def arrange(
    attention: Attention,
    tiles: Tiles,
    heads: int | None = None,
    known: frozenset[int] | None = None,
    shifted: bool = False,
) -> Program:
    """The Program of an attention, for tiles of so many queries and keys.

    ``heads``: how many query heads there are, where that is known. ``known``: the positions in ``attention.tables`` of
    the tables whose contents the host will know when a schedule is made; None for all. ``shifted``: the first row may
    stand at any position; else only at multiples of :func:`compiler.plan.row_cycle`. Tables are numbered in the
    attention's order; nothing of the text's names is left.
    """
    numbers = {table.name: str(number) for number, table in enumerate(attention.tables)}
    mask = rename_tables(attention.mask, numbers)
    readable = frozenset(numbers.values()) if known is None else frozenset(map(str, known))
    return Program(
        kernels=_arranged(mask, heads, Known(tiles, attention.tables, readable), shifted),
        mask=mask,
        score=rename_tables(attention.score, numbers),
        sink=None if attention.sink is None else rename_tables(attention.sink, numbers),
        tables=attention.tables,
    )


def serves(program: Program, extent: Extent) -> bool:
    """Whether the rows of a launch begin where the program may be used; elsewhere one is arranged as ``shifted``."""
    period = row_cycle(program)
    return period == 1 or (extent.q_start is not None and not any(start % period for start in extent.q_start))


def _arranged(mask: Expr, heads: int | None, known: Known, shifted: bool) -> tuple[Kernel, ...]:
    """The kernels of each group of heads. Groups in natural order share theirs, which branch on the head."""
    apart = groups(mask, heads) if heads is not None else ()
    if len(apart) < 2:
        return _kernels(apart[0].mask if apart else mask, known, shifted)
    plain: list[int] = []
    kernels: list[Kernel] = []
    for group in apart:
        own = _kernels(group.mask, known, shifted)
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


def _kernels(mask: Expr, known: Known, shifted: bool) -> tuple[Kernel, ...]:
    pieces = _conditions(mask)
    if pieces != parts(mask):
        return _natural(pieces, known.tiles)
    subjects = [(number, term) for number, part in enumerate(normalise(mask)) for term in part]
    options = [walks(term, known, shifted) for _, term in subjects]
    if all(len(each) == 1 for each in options):
        return _natural(pieces, known.tiles)
    placed = tuple(Placed(number, term, each[0]) for (number, term), each in zip(subjects, options, strict=True))
    return _Search(pieces, known, tuple(options), stand_in_length(mask, known.tiles)).best(placed)


def _conditions(mask: Expr) -> tuple[Expr, ...]:
    """The conditions of the segments in natural order: the parts of a mask, or the whole count where they are many."""
    pieces = parts(mask)
    return pieces if len(pieces) <= _MOST_PARTS else (mask,)


def _natural(conditions: Sequence[Expr], tiles: Tiles) -> tuple[Kernel, ...]:
    segments = tuple(Segment(natural(tiles.key), condition) for condition in conditions)
    return (Kernel(natural(tiles.query), segments, "store"),)


@dataclass(frozen=True)
class _Tried:
    placed: tuple[Placed, ...]
    kernels: tuple[Kernel, ...]
    cost: float


@dataclass
class _Search:
    """Over the walks of all terms at once; ``options`` are those of each term, natural order first."""

    parts: tuple[Expr, ...]
    known: Known
    options: tuple[tuple[Walk, ...], ...]
    n: int

    def __post_init__(self) -> None:
        self._tried: dict[tuple[Placed, ...], _Tried] = {}

    def best(self, start: tuple[Placed, ...]) -> tuple[Kernel, ...]:
        plain = self._try(start)
        own = self._try(tuple(map(self._cheapest_alone, start, self.options)))
        found = self._descend(min((plain, own), key=lambda tried: tried.cost))
        return found.kernels if found.cost < _WORTHWHILE * plain.cost else _natural(self.parts, self.known.tiles)

    def _try(self, placed: tuple[Placed, ...]) -> _Tried:
        if placed not in self._tried:
            kernels = assemble(placed, self.parts, self.known.tiles, self.known.tables)
            price = cost(kernels, self.n, self.known.tiles, tuple(self.known.tables))
            self._tried[placed] = _Tried(placed, kernels, price)
        return self._tried[placed]

    def _cheapest_alone(self, placed: Placed, options: Sequence[Walk]) -> Placed:
        def alone(walk: Walk) -> float:
            kernels = assemble(
                (Placed(0, placed.term, walk),), (placed.term.condition,), self.known.tiles, self.known.tables
            )
            return cost(kernels, self.n, self.known.tiles, tuple(self.known.tables))

        return placed if len(options) == 1 else replace(placed, walk=min(options, key=alone))

    def _descend(self, tried: _Tried) -> _Tried:
        while len(self._tried) < _MOST_TRIED:
            better = min(map(self._try, self._moves(tried.placed)), key=lambda other: other.cost, default=tried)
            if better.cost > _STEP * tried.cost:
                break
            tried = better
        return tried

    def _moves(self, placed: tuple[Placed, ...]) -> Iterator[tuple[Placed, ...]]:
        """The terms that have the same choice move together; so do those that share a row order, to another one."""
        for options in dict.fromkeys(self.options):
            for walk in options if len(options) > 1 else ():
                yield tuple(
                    replace(each, walk=walk) if own == options else each
                    for each, own in zip(placed, self.options, strict=True)
                )
        rows = dict.fromkeys(each.walk.rows for each in placed)
        every = dict.fromkeys(walk.rows for options in self.options for walk in options if covers(walk.rows))
        for old in rows:
            for new in every:
                if new != old:
                    yield tuple(
                        replace(each, walk=self._onto(each, own, new)) if each.walk.rows == old else each
                        for each, own in zip(placed, self.options, strict=True)
                    )

    def _onto(self, placed: Placed, options: Sequence[Walk], rows: Order) -> Walk:
        """The walk of a term on other rows: its own there, or else the same keys."""
        own = [walk for walk in options if walk.rows == rows]
        same = [walk for walk in own if walk.keys == placed.walk.keys]
        if same or own:
            return (same or own)[0]
        return replace(placed.walk, rows=rows)
