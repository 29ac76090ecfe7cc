"""Assembles kernels from terms whose orders are chosen: terms that share a launch, and guards against double counting.

Terms of one part that are walked in the same orders form one segment, and their union needs no guard. Among segments, a
guard excludes from a later one the pairs of earlier ones. A guard that reads only the row and is common to all segments
of a kernel becomes the kernel's ``owned_rows``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..analysis import Term, guards
from ..ir import FALSE, Expr, Table, constructors, positions
from ..plan import Kernel, Members, Order, Segment, Tiles, natural
from .candidates import OrderPair
from .simplify import simplify_for_orders


@dataclass(frozen=True)
class AssignedTerm:
    """A term, the number of its part, and the orders in which it is walked."""

    part: int
    term: Term
    walk: OrderPair


@dataclass(frozen=True)
class SegmentTerms:
    """The terms of one part that are walked in the same orders: one segment."""

    part: int
    walk: OrderPair
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class GuardedSegment:
    """The terms of a segment with their guards, before these become part of its condition or of ``owned_rows``."""

    terms: tuple[tuple[Term, tuple[Expr, ...]], ...]
    shared: tuple[Expr, ...]  # guards common to all terms


def assemble(
    placed: Sequence[AssignedTerm], parts: Sequence[Expr], tiles: Tiles, tables: tuple[Table, ...]
) -> tuple[Kernel, ...]:
    """The kernels that keep each pair of each part once. The first walks every row, even if it has no segments."""
    launches = _launches(placed, tiles)
    groups = _groups(placed, launches)
    drafts = _guarded(groups)
    whole = {number: _terms(placed, number) for number in range(len(parts))}
    kernels: list[Kernel] = []
    for place, launch in enumerate(launches):
        rows, members = launch
        here = [(group, drafts[group]) for group in groups if _launch(group.walk) == launch and group in drafts]
        where = _where([draft for _, draft in here])
        segments = []
        for group, draft in here:
            complete = len(group.terms) == len(whole[group.part]) and not any(rest for _, rest in draft.terms)
            condition = parts[group.part] if complete else _condition(draft, where)
            condition = simplify_for_orders(condition, rows, group.walk.keys, tables)
            if condition != FALSE:
                segments.append(Segment(group.walk.keys, condition))
        if segments or not place:
            owned = simplify_for_orders(constructors.conjunction(*where), rows, natural(1), tables)
            kernels.append(Kernel(rows, tuple(segments), "merge" if place else "store", owned, members=members))
    return tuple(kernels)


def _terms(placed: Sequence[AssignedTerm], part: int) -> list[Term]:
    return [each.term for each in placed if each.part == part]


_Launch: TypeAlias = tuple[Order, Members | None]
"""What the segments of one kernel share: the order of its rows, and the set off which these read their keys."""


def _launch(walk: OrderPair) -> _Launch:
    return walk.rows, walk.members


def _launches(placed: Sequence[AssignedTerm], tiles: Tiles) -> list[_Launch]:
    """The kernels: first one that covers all rows (natural order if none does), last those of few rows."""
    plain = natural(tiles.query)
    found = list(dict.fromkeys(_launch(each.walk) for each in placed))
    found.sort(key=lambda one: (one[0] != plain, one[1] is not None, not one[0].covers, one[0].sparse))
    return found if found and found[0][0].covers else [(plain, None), *found]


def _groups(placed: Sequence[AssignedTerm], launches: Sequence[_Launch]) -> list[SegmentTerms]:
    """The segments, kernel by kernel; in a kernel, those with larger key tiles first, and so gathered keys last."""
    found: dict[tuple[int, OrderPair], list[Term]] = {}
    for each in placed:
        found.setdefault((each.part, each.walk), []).append(each.term)
    groups = [SegmentTerms(part, walk, tuple(terms)) for (part, walk), terms in found.items()]
    return sorted(groups, key=lambda group: (launches.index(_launch(group.walk)), -group.walk.keys.tile, group.part))


def _guarded(groups: Sequence[SegmentTerms]) -> dict[SegmentTerms, GuardedSegment]:
    """Each segment with guards against earlier ones; segments that the guards leave empty are dropped.

    The order is not always that of launches: segments of gathered rows that keep all that their part keeps in these
    rows come first, so that other kernels leave these rows to them.
    """
    drafts: dict[SegmentTerms, GuardedSegment] = {}
    earlier: dict[int, list[Term]] = {}
    every = {part: [term for group in groups if group.part == part for term in group.terms] for part in _parts(groups)}
    for group in sorted(groups, key=lambda group: not _owns_rows(group, every[group.part])):
        before = earlier.setdefault(group.part, [])
        kept = [(term, rest) for term in group.terms if (rest := guards(term, before)) is not None]
        if kept:
            shared = tuple(guard for guard in kept[0][1] if all(guard in rest for _, rest in kept))
            own = tuple((term, tuple(guard for guard in rest if guard not in shared)) for term, rest in kept)
            drafts[group] = GuardedSegment(own, shared)
        before.extend(group.terms)
    return drafts


def _parts(groups: Sequence[SegmentTerms]) -> dict[int, None]:
    return dict.fromkeys(group.part for group in groups)


def _owns_rows(group: SegmentTerms, terms: Sequence[Term]) -> bool:
    """Whether a segment of gathered rows keeps every pair that its part keeps in these rows.

    It does if the conditions of its terms are on rows alone, or common to all ``terms`` of the part.
    """
    if group.walk.rows.gathered_by is None:
        return False
    shared = [x for x in terms[0].conjuncts if all(x in term.conjuncts for term in terms)]
    return all(x in term.rows or x in shared for term in group.terms for x in term.conjuncts)


def _where(drafts: Sequence[GuardedSegment]) -> tuple[Expr, ...]:
    """The guards on the row alone that all segments of a kernel share: they become its ``owned_rows``."""
    if not drafts:
        return ()
    first, *others = drafts
    return tuple(
        guard
        for guard in first.shared
        if "q" in positions(guard) and "k" not in positions(guard) and all(guard in other.shared for other in others)
    )


def _condition(draft: GuardedSegment, where: Sequence[Expr]) -> Expr:
    """The union of the segment's terms with their guards; conditions that all of them share are written once."""
    terms = draft.terms
    common = [x for x in terms[0][0].conjuncts if all(x in term.conjuncts for term, _ in terms)]
    rests = [constructors.conjunction(*(x for x in term.conjuncts if x not in common), *guard) for term, guard in terms]
    shared = [guard for guard in draft.shared if guard not in where]
    return constructors.conjunction(*common, constructors.disjunction(*rests), *shared)
