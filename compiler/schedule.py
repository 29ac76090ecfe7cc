"""Which key tiles each query tile visits: a Program with lengths and table contents to a Schedule.

Each segment is given bounds in the cheapest form known for its condition. What it visits is worked out by query; the
same tiles by key are those turned round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import template
from .boxes import Slots, Space, slots, tables_read
from .classify import Classifier, TableContents, numbered
from .descend import descend
from .extent import Contents, Extent
from .ir import Expr
from .orders import ViewSide
from .plan import Bounds, Kernel, KernelSchedule, Program, Schedule, Segment, SegmentSchedule, View
from .runs import Rows, Steps, of_boxes, packed, turned

# Where a level of the descent would have more boxes, its boxes are called partial as they stand.
_MOST_BOXES = 2**20


@dataclass(frozen=True)
class Launch:
    """The sizes of a call, and what the tables hold."""

    extent: Extent
    tables: Mapping[str, TableContents]


def schedule(program: Program, extent: Extent, contents: Sequence[Contents]) -> Schedule:
    """Bounds of every segment for one launch. ``contents`` stand in the order of ``program.tables``."""
    launch = Launch(extent, numbered(program, contents))
    return Schedule(extent.n, extent.m, tuple(_kernel_schedule(kernel, launch) for kernel in program.kernels))


def schedule_depends(program: Program) -> frozenset[int]:
    """The positions in ``program.tables`` of the tables whose contents decide a schedule."""
    conditions = [segment.condition for kernel in program.kernels for segment in kernel.segments]
    return frozenset(int(name) for condition in conditions for name in tables_read(condition))


def _kernel_schedule(kernel: Kernel, launch: Launch) -> KernelSchedule:
    return KernelSchedule(tuple(_segment_schedule(kernel, segment, launch) for segment in kernel.segments))


def _segment_schedule(kernel: Kernel, segment: Segment, launch: Launch) -> SegmentSchedule:
    rows, keys, condition = kernel.rows, segment.keys, segment.condition
    assert isinstance(rows, View)
    assert isinstance(keys, View)
    asked = template.question(condition, rows, keys, launch.extent, launch.tables, kernel.heads)
    found = None if asked is None else template.bounds(asked, launch.extent, launch.tables)
    if found is None:
        found = _descended(condition, rows, keys, launch, kernel.heads)
    return SegmentSchedule(*found)


def _descended(
    condition: Expr, rows: View, keys: View, launch: Launch, heads: tuple[int, ...] | None
) -> tuple[Bounds, Bounds]:
    """A row of runs for each tile, by classification."""
    apart = slots(condition, launch.extent, launch.tables, heads)
    space = Space(ViewSide.whole(rows, launch.extent.m), ViewSide.whole(keys, launch.extent.n), apart)
    classifier = Classifier((condition,), launch.extent, launch.tables)
    boxes, _ = descend(classifier, space, space.start, _MOST_BOXES)
    count = max(rows.tiles(launch.extent.m).total, 1)
    return _row_by_row(of_boxes(boxes, count, apart.count), count, keys.tiles(launch.extent.n).total, apart)


def _row_by_row(rows: Rows, count: int, columns: int, apart: Slots) -> tuple[Bounds, Bounds]:
    columns = max(columns, 1)
    by_key = turned(rows, Steps(count, 0), columns)
    assert by_key is not None
    return (
        Bounds(count, 0, False, apart.batch, apart.head_slots, packed(rows)),
        Bounds(columns, 0, False, apart.batch, apart.head_slots, packed(by_key)),
    )
