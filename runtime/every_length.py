"""Makes schedules that serve every length and every first row, whatever tables hold, for code that cannot plan anew.

A call's own schedule knows its sizes and the tables that the host holds. Here neither is known: what a condition asks
of them counts as undecided, so a tile that might keep a pair is visited, and no tile is full but where it is for sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..compiler import pipeline
from ..compiler.analysis import shift_divisor
from ..compiler.ir import Apply, CallShape, Entry, Expr, HostTable, N, Table, children, rebuild, walk
from ..compiler.plan import (
    PARTIAL,
    UNBOUNDED,
    Bounds,
    Kernel,
    KernelSchedule,
    Program,
    Runs,
    Schedule,
    Segment,
    SegmentSchedule,
)

_SIZE = 1024  # of the call whose closed forms are taken; they do not depend on it
_JOINS = ("and", "or", "not", "iff", "if", "plus", "filter")


@dataclass(frozen=True)
class EveryLength:
    """``schedule``: bounds without end, for calls whose first row is at position 0. ``undecided``: the conditions that
    were not decided; ``whole``: segments in natural order of which all tiles are visited for want of a closed form.
    """

    schedule: Schedule
    undecided: tuple[Expr, ...]
    whole: int


def every_length(program: Program, heads: int, contents: Sequence[HostTable]) -> EveryLength:
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


def _bounds(
    program: Program,
    kernel: Kernel,
    segment: Segment,
    heads: int,
    contents: Sequence[HostTable],
    undecided: dict[Expr, None],
) -> tuple[Bounds, Bounds] | None:
    """The bounds of one segment by query and by key; None where they have no closed form."""
    if kernel.rows.listed_by is not None or segment.keys.listed_by is not None:
        return None
    asked: dict[Expr, None] = {}
    condition = _decided(segment.condition, Entry(str(len(program.tables)), (), "bool"), asked)
    if condition is None:
        undecided[segment.condition] = None
        return None
    undecided |= asked
    alone = replace(
        program,
        kernels=(replace(kernel, segments=(Segment(segment.keys, condition),)),),
        tables=(*program.tables, Table("undecided", "bool", ())),
    )
    held = (*contents, HostTable(None, shape=()))
    found = pipeline.schedule(alone, CallShape(_SIZE, _SIZE, heads), held).kernels[0].segments[0]
    endless = min(found.by_query.reach, found.by_key.reach) == UNBOUNDED
    return (found.by_query, found.by_key) if endless else None


def _decided(node: Expr, unknown: Expr, undecided: dict[Expr, None]) -> Expr | None:
    """The condition, or count, with ``unknown`` for each part that no shift of query and key together preserves, or that
    reads the number of keys; None for a count that cannot be taken apart.
    """
    if N not in walk(node) and shift_divisor(node) is not None:
        return node
    if isinstance(node, Apply) and node.op in _JOINS and all(part.type in ("bool", "count") for part in node.args):
        parts = [_decided(part, unknown, undecided) for part in children(node)]
        known = [part for part in parts if part is not None]
        return rebuild(node, tuple(known)) if len(known) == len(parts) else None
    if node.type != "bool":
        return None
    undecided[node] = None
    return unknown


def _everywhere() -> Bounds:
    """Every tile visits all tiles, and tests each pair."""
    ends = np.array([-UNBOUNDED], np.int32), np.array([2 * UNBOUNDED - 1], np.int32)
    runs = Runs(np.array([0, 1], np.int64), *ends, np.full(1, PARTIAL, np.uint8))
    return Bounds(1, 0, False, 1, 1, runs, UNBOUNDED)


_EVERYWHERE = _everywhere()
