"""Makes schedules that serve every length and every first row, whatever tables hold, for code that cannot plan anew.

A call's own schedule knows its sizes and the tables that the host holds. Here neither is known: what a condition asks
of them counts as undecided, so a tile that might keep a pair is visited, and no tile is full but where it is for sure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from math import lcm

import numpy as np

from ..compiler import pipeline
from ..compiler.analysis import any_count, overapproximate, shift_divisor, underapproximate
from ..compiler.ir import (
    FALSE,
    HEAD,
    HEADS,
    TRUE,
    Apply,
    CallShape,
    Entry,
    Expr,
    HostTable,
    K,
    N,
    Q,
    children,
    conjunction,
    constructors,
    negation,
    rebuild,
    tables_read,
    walk,
)
from ..compiler.oracle import NumpyArrays, environment, interpret
from ..compiler.plan import (
    FULL,
    PARTIAL,
    UNBOUNDED,
    Bounds,
    Gathered,
    Kernel,
    KernelSchedule,
    Program,
    Runs,
    Schedule,
    Segment,
    SegmentSchedule,
    is_natural,
)

_SIZE = 1024  # of the call whose closed forms are taken; they do not depend on it
_FEW, _LOOKED = 128, 2**16  # keys that are few, where they are the first; keys that are looked at
_Run = tuple[int, int, int]
_UNKNOWN = Entry("undecided", (), "bool")
_JOINS = ("and", "or", "not", "iff", "if", "plus", "filter")


@dataclass(frozen=True)
class EveryLength:
    """``schedule``: bounds without end, for calls whose first row is at position 0. ``undecided``: the conditions that
    were not decided; ``whole``: segments in natural order of which all tiles are visited for want of a closed form.
    """

    schedule: Schedule
    undecided: tuple[Expr, ...]
    whole: int


def every_length(program: Program, heads: int, contents: tuple[HostTable, ...]) -> EveryLength:
    """The schedule of a program whose listed tokens are not known either: each of their tiles is visited.

    ``contents``: of the tables that are the same in every call, others without values; ``heads``: the number of query
    heads, which matters where heads differ.
    """
    undecided: dict[Expr, None] = {}
    whole = 0
    kernels = []
    for kernel in program.kernels:
        found = []
        for segment in kernel.segments:
            bounds = _bounds(program, kernel, segment, heads, contents, undecided)
            listed = kernel.rows.listed_by is not None or segment.keys.listed_by is not None
            whole += bounds is None and not listed
            found.append(SegmentSchedule(*bounds) if bounds else SegmentSchedule(_EVERYWHERE, _EVERYWHERE))
        kernels.append(KernelSchedule(tuple(found)))
    return EveryLength(Schedule(_SIZE, _SIZE, tuple(kernels)), tuple(undecided), whole)


def with_few_keys_gathered(program: Program, gathered: int) -> Program:
    """The program with the few keys that meet a condition on the key alone, such as ``k < 4``, in segments of their
    own, in tiles of ``gathered`` keys: what is left often has a closed form, which such a condition has not.

    It cuts segments in natural order; a call may do without, since it lists the runs of its own length.
    """
    kernels = []
    for kernel in program.kernels:
        natural = is_natural(kernel.rows)
        segments = [
            _parted(each, gathered) if natural and is_natural(each.keys) else (each,) for each in kernel.segments
        ]
        kernels.append(replace(kernel, segments=tuple(sorted(chain(*segments), key=lambda each: -each.keys.tile))))
    return replace(program, kernels=tuple(kernels))


def _parted(segment: Segment, gathered: int) -> tuple[Segment, ...]:
    """A segment, cut in two for each condition that few keys meet: a pair of theirs that the rest does not keep is in
    the second.
    """
    parts = set(_joined_by_and_or(segment.condition))
    few = next(filter(_is_of_few, _joined_by_and_or(segment.condition)), None)
    if few is None or any(few in walk(part) for part in parts - {few}):
        return (segment,)
    rest, whole = (constructors.substitute(segment.condition, {few: truth}) for truth in (FALSE, TRUE))
    only = Segment(Gathered(few, gathered), conjunction(whole, negation(rest)))
    return (only,) if rest == FALSE else (*_parted(Segment(segment.keys, rest), gathered), only)


def _joined_by_and_or(condition: Expr) -> Iterator[Expr]:
    """Yields the parts of a condition by ``and`` and ``or``: if one more of them holds, the condition still does."""
    if isinstance(condition, Apply) and condition.op in ("and", "or"):
        for part in condition.args:
            yield from _joined_by_and_or(part)
    else:
        yield condition


def _is_of_few(condition: Expr) -> bool:
    """Whether a condition reads the key's position and constants alone, and only keys near the first meet it."""
    nodes = set(walk(condition))
    if K not in nodes or not nodes.isdisjoint((Q, N, HEAD, HEADS)) or tables_read(condition):
        return False
    met = interpret(condition, environment(NumpyArrays(), _LOOKED, 1, 1, np.zeros(1, np.int64), {}))
    return not np.broadcast_to(met, (1, 1, 1, _LOOKED))[..., _FEW:].any()


def _bounds(
    program: Program,
    kernel: Kernel,
    segment: Segment,
    heads: int,
    contents: tuple[HostTable, ...],
    undecided: dict[Expr, None],
) -> tuple[Bounds, Bounds] | None:
    """The bounds of one segment by query and by key; None where they have no closed form."""
    if kernel.rows.listed_by is not None or segment.keys.listed_by is not None:
        return None
    known = frozenset(str(number) for number, held in enumerate(contents) if held.values is not None)
    asked: dict[Expr, None] = {}
    condition = _decided(segment.condition, known, asked)
    undecided |= asked if condition is not None else {segment.condition: None}
    if condition is None:
        return None

    def closed(condition: Expr) -> tuple[Bounds, Bounds] | None:
        alone = replace(program, kernels=(replace(kernel, segments=(Segment(segment.keys, condition),)),))
        found = pipeline.schedule(alone, CallShape(_SIZE, _SIZE, heads), contents).kernels[0].segments[0]
        endless = min(found.by_query.reach, found.by_key.reach) == UNBOUNDED
        return (found.by_query, found.by_key) if endless else None

    if not asked or segment.keys.around_rows:
        return closed(condition)
    visited = closed(overapproximate(any_count(condition), _is_unknown))
    full = closed(underapproximate(condition, _is_unknown)) if condition.type == "bool" else None
    if visited is None:
        return None
    by_query, by_key = (_joined(some, None if full is None else full[side]) for side, some in enumerate(visited))
    return by_query, by_key


def _is_unknown(node: Expr) -> bool:
    return node == _UNKNOWN


def _joined(visited: Bounds, full: Bounds | None) -> Bounds:
    """The bounds of tiles that ``visited`` has, full where ``full`` has them full."""
    if full is None or full.aligned != visited.aligned:
        full = _NOWHERE
    period = lcm(visited.period, full.period)
    slots = max(visited.head_slots, full.head_slots)
    rows = [
        _overlaid(_row(visited, slot, row), _row(full, slot, row)) for slot in range(slots) for row in range(period)
    ]
    pointer = np.cumsum([0, *map(len, rows)])
    start, end, kind = np.array([run for row in rows for run in row], np.int64).reshape(-1, 3).T
    length = np.minimum(end, UNBOUNDED - 1) - start
    # runs that are all endless have no shift of their own
    shift = visited.shift * (period // visited.period) or full.shift * (period // full.period)
    runs = Runs(pointer, start.astype(np.int32), length.astype(np.int32), kind.astype(np.uint8))
    return replace(visited, period=period, shift=shift, head_slots=slots, runs=runs)


def _row(bounds: Bounds, slot: int, row: int) -> list[_Run]:
    """The runs of one row tile: first tile, end and kind; endless ones end at UNBOUNDED."""
    cycle, place = divmod(row, bounds.period)
    place += slot * bounds.period if bounds.head_slots > 1 else 0
    runs, found = bounds.runs, []
    for run in range(int(runs.pointer[place]), int(runs.pointer[place + 1])):
        begin, end = int(runs.start[run]), int(runs.start[run]) + int(runs.length[run])
        begin = begin if begin <= -UNBOUNDED else begin + cycle * bounds.shift
        end = UNBOUNDED if end >= UNBOUNDED - 1 else end + cycle * bounds.shift
        found.append((begin, end, int(runs.kind[run])))
    return found


def _overlaid(visited: list[_Run], full: list[_Run]) -> list[_Run]:
    """The visited tiles, each full where it is in a full run."""
    edges = sorted({edge for begin, end, _ in (*visited, *full) for edge in (begin, end)})
    found: list[_Run] = []
    for begin, end in pairwise(edges):
        if any(low <= begin and end <= high for low, high, _ in visited):
            kind = FULL if any(low <= begin and end <= high and its == FULL for low, high, its in full) else PARTIAL
            if found and found[-1][1:] == (begin, kind):
                begin = found.pop()[0]
            found.append((begin, end, kind))
    return found


def _decided(node: Expr, known: frozenset[str], undecided: dict[Expr, None]) -> Expr | None:
    """The condition, or count, with an unknown for each part that no shift of query and key together preserves, or that
    reads the number of keys or a table that is not ``known``; None for a count that cannot be taken apart.
    """
    if N not in walk(node) and tables_read(node) <= known and shift_divisor(node) is not None:
        return node
    if isinstance(node, Apply) and node.op in _JOINS and all(part.type in ("bool", "count") for part in node.args):
        parts = [_decided(part, known, undecided) for part in children(node)]
        taken = [part for part in parts if part is not None]
        return rebuild(node, tuple(taken)) if len(taken) == len(parts) else None
    if node.type != "bool":
        return None
    undecided[node] = None
    return _UNKNOWN


def _everywhere() -> Bounds:
    """Every tile visits all tiles, and tests each pair."""
    ends = np.array([-UNBOUNDED], np.int32), np.array([2 * UNBOUNDED - 1], np.int32)
    runs = Runs(np.array([0, 1], np.int64), *ends, np.full(1, PARTIAL, np.uint8))
    return Bounds(1, 0, False, 1, 1, runs, UNBOUNDED)


_EVERYWHERE = _everywhere()
_NOWHERE = Bounds(1, 0, False, 1, 1, Runs(np.zeros(2, np.int64), *np.zeros((3, 0), np.int32)), UNBOUNDED)
