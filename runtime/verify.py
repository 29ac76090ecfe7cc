"""A schedule against the dense mask: what ``ATTNC_VERIFY=1`` checks of each plan that is small enough."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..compiler.execute import ScheduleFaultError, mask, visits
from ..compiler.extent import Contents, Extent
from ..compiler.plan import Program, Schedule
from ..compiler.schedule import schedule_depends

LARGEST_AREA = 2**24  # pairs of all batch entries and heads


def verify_schedule(program: Program, schedule: Schedule, extent: Extent, contents: Sequence[Contents]) -> None:
    """ScheduleFaultError where forward or backward does not count each pair as often as the mask says.

    Looks at plans of at most so many pairs whose contents the host knows; others pass.
    """
    decisive = [contents[number] for number in schedule_depends(program)]
    if extent.q_start is None or any(held.values is None for held in decisive):
        return
    batches = [
        len(extent.q_start),
        *(len(held.values) for held in contents if held.batched and held.values is not None),
    ]
    if extent.m * extent.n * extent.heads * max(batches) > LARGEST_AREA:
        return
    expected = mask(program, extent, contents)
    for by_key, way in ((False, "forward"), (True, "backward")):
        found = visits(program, schedule, extent, contents, by_key=by_key)
        wrong = np.argwhere(found != expected)
        if len(wrong):
            batch, head, row, key = wrong[0].tolist()
            times = f"{found[batch, head, row, key]} times, not {expected[batch, head, row, key]}"
            raise ScheduleFaultError(
                f"{way} counts {len(wrong)} pairs wrongly; the first, row {row} and key {key} "
                f"of batch entry {batch} and head {head}, {times}"
            )
