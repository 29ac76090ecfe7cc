"""Text for people, as ``attnc show`` prints it: the terms of a mask, and the tiles that each kernel visits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .analysis import Term
from .ir import TRUE, CallShape, Expr, expression
from .plan import (
    FULL,
    UNBOUNDED,
    Bounds,
    Kernel,
    KernelSchedule,
    Program,
    Schedule,
    Segment,
    SegmentSchedule,
)
from .schedule import totals, visited

# Rows of a template that are written out in full.
_MOST_ROWS = 4
# Runs of one row that are written out.
_MOST_RUNS = 6


def terms(made: tuple[tuple[Term, ...], ...]) -> str:
    """The terms of each part of a mask: their conditions on the row, on the key, and on both together."""
    lines = []
    for number, part in enumerate(made):
        if len(made) > 1:
            lines.append(f"part {number}, counted by itself")
        lines += [_term(place, term) for place, term in enumerate(part)] or ["  no term: no pair is kept"]
    return "\n".join(lines)


def _term(place: int, term: Term) -> str:
    sides = (("rows", term.rows), ("keys", term.columns), ("both", term.relation))
    asked = [f"{side} {' and '.join(_joined(x) for x in conjuncts)}" for side, conjuncts in sides if conjuncts]
    return f"  term {place}   {'   '.join(asked) or 'every pair'}"


def _joined(conjunct: Expr) -> str:
    text = expression(conjunct)
    return f"({text})" if getattr(conjunct, "op", "") == "or" else text


def schedule(program: Program, schedule: Schedule, extent: CallShape) -> str:
    """The kernels of a program and, for each segment, which key tiles each row tile ``t`` visits."""
    names = {str(number): table.name for number, table in enumerate(program.tables)}
    lines = []
    for place, (kernel, its) in enumerate(zip(program.kernels, schedule.kernels, strict=True)):
        lines.append(_kernel(place, kernel, its, schedule, names))
        if not kernel.segments:
            lines.append("  no segment: every row is stored empty")
        for segment, held in zip(kernel.segments, its.segments, strict=True):
            lines += _segment(segment, held, kernel, its, schedule, names)
    found = totals(program, schedule, extent)
    lines.append(f"{found.full:,} full tiles, {found.partial:,} partial; {found.area:,.1f} keys for each query")
    return "\n".join(lines)


def _kernel(place: int, kernel: Kernel, its: KernelSchedule, schedule: Schedule, names: Mapping[str, str]) -> str:
    rows = kernel.rows.tiles(schedule.m, its.rows)
    parts = [f"kernel {place}", f"rows {kernel.rows.describe(names)}", _tiles(rows.total, kernel.rows.tile)]
    if kernel.owned_rows != TRUE:
        parts.append(f"where {expression(kernel.owned_rows, names)}")
    if kernel.heads is not None:
        parts.append(f"heads {', '.join(map(str, kernel.heads))}")
    if kernel.members is not None:
        parts.append(f"by row, off {expression(kernel.members.member, names)}: {its.walked or 0:,.1f} keys each")
    return "   ".join([*parts, kernel.output])


def _tiles(count: int, lanes: int) -> str:
    return f"{count:,} {'tile' if count == 1 else 'tiles'} of {lanes}"


def _segment(
    segment: Segment,
    held: SegmentSchedule,
    kernel: Kernel,
    its: KernelSchedule,
    schedule: Schedule,
    names: Mapping[str, str],
) -> Iterator[str]:
    rows = kernel.rows.tiles(schedule.m, its.rows)
    keys = segment.keys.tiles(schedule.n, held.keys)
    yield f"  segment   keys {segment.keys.describe(names)}   {_tiles(keys.total, segment.keys.tile)}"
    slots = held.by_query.batch_slots * held.by_query.head_slots
    alone = rows.per_class if held.by_query.aligned else rows.total
    if held.by_query.period >= max(alone, 2) and not held.by_query.shift:
        yield f"    visits    as listed: {len(held.by_query.runs.start):,} runs"
    else:
        yield from _closed(held.by_query)
    found = visited(held.by_query, rows, keys)
    each = "" if slots == 1 else f" in {slots} plans"
    yield f"    tiles     {int(found.full.sum()):,} full, {int(found.partial.sum()):,} partial{each}"
    if found.partial.sum():
        yield f"    partial   {expression(segment.condition, names)}"


def _closed(bounds: Bounds) -> Iterator[str]:
    """Lines that say which key tiles row tile ``t`` visits, one for each row of a period; ``i`` counts the periods."""
    within = ", both counted within their class" if bounds.aligned else ""
    runs, period = bounds.runs, bounds.period
    for row in range(min(period, _MOST_ROWS)):
        which = range(int(runs.pointer[row]), int(runs.pointer[row + 1]))
        spans = [(int(runs.start[i]), int(runs.start[i] + runs.length[i]) - 1, int(runs.kind[i])) for i in which]
        tile = "t" if period == 1 else f"t = {period}i + {row}" if row else f"t = {period}i"
        symbol, text = ("t" if period == 1 else "i"), []
        for low, high, kind in spans[:_MOST_RUNS]:
            first, last = (_end(offset, bounds.shift, symbol) for offset in (low, high))
            ends = first if low == high else f"[{first}, {last}]"
            text.append(f"{ends} {'full' if kind == FULL else 'partial'}")
        text += [f"{len(spans) - _MOST_RUNS:,} more"] if len(spans) > _MOST_RUNS else []
        yield f"    visits    tile {tile}: {', '.join(text) or 'nothing'}{within}"
    if period > _MOST_ROWS:
        yield f"              and so on: {period} rows of runs, {len(runs.start):,} runs in all"


def _end(offset: int, shift: int, symbol: str) -> str:
    """One end of a run as a sum; ``0`` or ``last`` where the run is unbounded on that side."""
    if offset <= -UNBOUNDED // 2:
        return "0"
    if offset >= UNBOUNDED // 2:
        return "last"
    moving = "" if not shift else symbol if shift == 1 else f"{shift}{symbol}"
    if not moving or not offset:
        return moving or str(offset)
    return f"{moving} {'-' if offset < 0 else '+'} {abs(offset)}"
