"""Translation validation: proves for every length that they serve what the closed forms of a schedule say of tiles.

What is not proved is carried out on a call of some size, with the same bounds. A list of runs serves one call only, and
is compared with the mask there (:func:`.schedule_interpreter.verify_schedule`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from ..ir import HEAD, HEADS, CallShape, Const, Entry, Expr, HostTable, N, expression, transform, walk
from ..plan import (
    UNBOUNDED,
    Box,
    Kernel,
    ListedOrder,
    Order,
    OrderTable,
    Program,
    Schedule,
    Segment,
    SegmentSchedule,
    View,
    natural,
)
from ..proofs import HaloQuestion, Proved, TileFault, TileQuestion, Unknown, prove_tiles, tile_question
from ..schedule import in_ranks
from .schedule_interpreter import ScheduleFaultError, verify_schedule, verify_segment

Question = TileQuestion | HaloQuestion
_CHECKED_TO = 512  # queries and keys of the call on which bounds are carried out that are not proved


@dataclass(frozen=True)
class Validation:
    """What is known of the tiles of one segment of a schedule: ``verdict`` for ``scope``, and why it is not more.

    ``scope``: ``every length``, ``lengths up to 512`` or ``this call``.
    """

    kernel: int
    segment: int
    verdict: Literal["proved", "checked", "unchecked"]
    scope: str
    reason: str = ""

    def __str__(self) -> str:
        """``kernel 0, segment 1: proved for every length``."""
        said = f"kernel {self.kernel}, segment {self.segment}: {self.verdict} for {self.scope}"
        return f"{said} ({self.reason})" if self.reason else said


def validate(
    program: Program, schedule: Schedule, extent: CallShape, contents: Sequence[HostTable]
) -> tuple[Validation, ...]:
    """What is known of each segment of a schedule. Raises ScheduleFaultError where one is wrong for some length."""
    omitted = verify_schedule(program, schedule, extent, contents)
    found = []
    for place, (kernel, its) in enumerate(zip(program.kernels, schedule.kernels, strict=True)):
        for number, (segment, held) in enumerate(zip(kernel.segments, its.segments, strict=True)):
            launch = _Launch(program, kernel, segment, held, extent, tuple(contents))
            found.append(_validation(launch, omitted, place, number))
    return tuple(found)


@dataclass(frozen=True)
class _Launch:
    """One segment at one launch."""

    program: Program
    kernel: Kernel
    segment: Segment
    held: SegmentSchedule
    extent: CallShape
    contents: tuple[HostTable, ...]

    @property
    def computed(self) -> bool:
        """Whether tokens of both orders follow from the tile's number alone."""
        return self.kernel.rows.listed_by is None and self.segment.keys.listed_by is None

    @property
    def reach(self) -> int:
        return min(self.held.by_query.reach, self.held.by_key.reach)


def _validation(launch: _Launch, omitted: str, kernel: int, segment: int) -> Validation:
    """``omitted``: why the whole schedule was not compared with the mask at this launch; empty where it was."""
    if not launch.reach:
        why = omitted or "its runs are listed anew for each"
        return Validation(kernel, segment, "unchecked" if omitted else "checked", "this call", why)
    reason = _unproved(launch, f"kernel {kernel}, segment {segment}")
    if not reason:
        return Validation(kernel, segment, "proved", _lengths(launch))
    extent = launch.extent
    smaller = 0 if omitted else min(extent.n, extent.m)
    if not launch.computed:  # another call lists other tokens
        return Validation(kernel, segment, "checked" if smaller else "unchecked", "this call", reason)
    if smaller < _CHECKED_TO and extent.q_start is not None and max(extent.q_start) < _CHECKED_TO:
        smaller = _CHECKED_TO
        tried = replace(extent, n=smaller, m=smaller)
        verify_segment(launch.program, launch.kernel, launch.segment, launch.held, tried, launch.contents)
    # The runs are cut to the tiles that there are, so that those of a call are right for all smaller ones.
    verdict: Literal["checked", "unchecked"] = "checked" if smaller else "unchecked"
    return Validation(kernel, segment, verdict, f"lengths up to {smaller:,}" if smaller else "this call", reason)


def _lengths(launch: _Launch) -> str:
    """The lengths that the bounds of a segment serve, where it is proved for them."""
    if N in walk(launch.segment.condition):
        return f"n = {launch.extent.n:,}"
    return _lengths_within(launch.segment.keys, launch.reach)


@OrderTable
def _lengths_within(keys: Order, reach: int, /) -> str:
    """The lengths at which no tile of an order lies beyond ``reach``."""
    raise NotImplementedError


@_lengths_within.register(View)
def _lengths_of_view(keys: View, reach: int, /) -> str:
    if reach >= UNBOUNDED:
        return "every length"
    main = keys.axes[keys.main]
    return f"lengths up to {reach // keys.minor_tiles * main.stride * main.tile:,}"


@_lengths_within.register(Box, ListedOrder)
def _every_length(_keys: Order, _reach: int, /) -> str:
    return "every length"


def _unproved(launch: _Launch, name: str) -> str:
    """Why a segment is not proved, or nothing. Raises ScheduleFaultError where it is refuted."""
    for question in _questions(launch):
        answer = question if isinstance(question, TileFault) else _answer(question)
        if isinstance(answer, TileFault):
            condition = expression(launch.segment.condition, _names(launch.program))
            raise ScheduleFaultError(f"{name}, of the pairs {condition}: {answer}")
        if isinstance(answer, Unknown):
            return answer.reason
    return ""


def _names(program: Program) -> dict[str, str]:
    return {str(number): table.name for number, table in enumerate(program.tables)}


@lru_cache(maxsize=4096)
def _answer(question: Question) -> Proved | TileFault | Unknown:
    return prove_tiles(question)


def _questions(launch: _Launch) -> Iterator[Question | TileFault | Unknown]:
    """What is to be proved of a segment."""
    n = launch.extent.n if N in walk(launch.segment.condition) else None
    return _questions_about(launch.segment.keys, launch, n)


@OrderTable
def _questions_about(keys: Order, launch: _Launch, n: int | None, /) -> Iterator[Question | TileFault | Unknown]:
    """What is to be proved of a segment with keys in an order; ``n``: the only length, if its condition reads n."""
    raise NotImplementedError


@_questions_about.register(Box)
def _about_boxes(keys: Box, launch: _Launch, n: int | None, /) -> Iterator[Question | TileFault | Unknown]:
    yield HaloQuestion(_of_slot(launch, 0, None), keys, n)


@_questions_about.register(View, ListedOrder)
def _about_tiles(order: Order, launch: _Launch, n: int | None, /) -> Iterator[Question | TileFault | Unknown]:
    """One question for each slot of the bounds, those that are alike once."""
    extent, bounds = launch.extent, (launch.held.by_query, launch.held.by_key)
    # Sorted tokens are in natural order by their ranks. Of other lists all tiles are alike, since no bounds move.
    condition, extent = in_ranks(launch.segment.condition, launch.kernel.rows, order, extent)
    launch = replace(launch, segment=replace(launch.segment, condition=condition))
    rows, keys = _in_turn(launch.kernel.rows), _in_turn(order)
    heads = range(extent.heads) if launch.kernel.heads is None else launch.kernel.heads
    starts = extent.q_start or (0,)
    for batch in range(bounds[0].batch_slots):
        start = starts[batch if len(starts) > 1 else 0]
        for place in range(bounds[0].head_slots):
            alone = bounds[0].head_slots > 1 or len(heads) == 1
            condition = _of_slot(launch, batch, heads[place] if alone else None)
            yield tile_question(condition, rows, keys, start, bounds, batch * bounds[0].head_slots + place, n)


@OrderTable
def _in_turn(order: Order, /) -> View:
    """The order itself if its tokens follow from their numbers; else natural order, of the places in its list."""
    raise NotImplementedError


@_in_turn.register(View)
def _of_view(order: View, /) -> View:
    return order


@_in_turn.register(Box)
def _of_box(order: Box, /) -> View:
    return order.view


@_in_turn.register(ListedOrder)
def _of_list(order: ListedOrder, /) -> View:
    return natural(order.tile)


def _of_slot(launch: _Launch, batch: int, head: int | None) -> Expr:
    """The condition of a segment for one entry of the batch and one head, or any head for None.

    Sizes that it reads, and entries of tables at known places, are replaced by their values.
    """
    known: dict[Expr, Expr] = {N: Const(launch.extent.n), HEADS: Const(launch.extent.heads)}
    known |= {} if head is None else {HEAD: Const(head)}

    def value(node: Expr) -> Expr:
        if not isinstance(node, Entry) or node.type in ("float", "double") or not node.table.isdigit():
            return known.get(node, node)
        held, at = launch.contents[int(node.table)], [x.value for x in node.indices if isinstance(x, Const)]
        if held.values is None or len(at) < len(node.indices):
            return node
        values = held.values[batch if len(held.values) > 1 else 0] if held.batched else held.values
        within = all(0 <= place < size for place, size in zip(at, values.shape, strict=True))
        found = values[tuple(int(place) for place in at)].item() if within else 0
        return Const(bool(found) if node.type == "bool" else int(found))

    return transform(launch.segment.condition, value)
