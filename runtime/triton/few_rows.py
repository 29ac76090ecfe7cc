"""How launches of few rows fill a GPU: the rows that share keys in one block, the tiles of keys in parts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, MutableMapping
from dataclasses import dataclass
from math import gcd
from typing import Any, TypeVar

from ...compiler.codegen.triton import MOST_ROWS_ANYWHERE
from ...compiler.plan import is_natural
from ..base import Launch

R = TypeVar("R")

# Where a kernel would have fewer programs than PROGRAMS, because its rows are few, the keys are cut into at most
# MOST_PARTS parts of at least LEAST_TILES tiles. The same on every device, so that results are the same, too.
PROGRAMS, LEAST_TILES, MOST_PARTS = 256, 4, 64


@dataclass(frozen=True)
class RowGrid:
    """The grid of a function whose programs each take ``step`` query rows: ``slots`` pairs of a batch entry and a head,
    ``parts`` of the keys, ``blocks`` of rows.
    """

    heads: int
    slots: int
    parts: int
    blocks: int
    step: int

    @property
    def programs(self) -> int:
        return self.slots * self.parts * self.blocks

    @property
    def listed(self) -> tuple[int, int, int]:
        """The shape of results that each part of the keys stores separately, row by row."""
        return self.slots, self.parts, self.blocks * self.step


def parts_of(programs: int, tiles: int) -> int:
    """Into how many parts the keys of a kernel are cut that would have so many programs, with so many tiles in each."""
    wanted = wanted_programs(programs)
    return max(1, min(wanted, tiles // LEAST_TILES, MOST_PARTS))


def wanted_programs(programs: int) -> int:
    """How many programs should do the work of each of so many, to fill a GPU."""
    return -(-PROGRAMS // programs) if programs else 1


def packs(launch: Launch) -> bool:
    """Whether rows of all query heads that share a key head are one block: they visit the same tiles of keys."""
    if launch.q.shape[1] == launch.k.shape[1]:
        return False
    kernels = zip(launch.program.kernels, launch.schedule.kernels, strict=True)
    return all(
        kernel.heads is None
        and all(
            its.by_query.head_slots == 1 and (its.keys is None or its.keys.head_slots == 1) for its in plan.segments
        )
        for kernel, plan in kernels
    )


def live_parts(launch: Launch, number: int) -> int:
    """Into how many parts the tiles of keys that rows at any position visit are cut."""
    kernel, plan = launch.program.kernels[number], launch.schedule.kernels[number]
    batch, heads, m, _ = launch.q.shape
    if packs(launch):
        kv_heads = launch.k.shape[1]
        programs = batch * kv_heads * -(-heads // kv_heads * m // MOST_ROWS_ANYWHERE)
    else:
        programs = batch * (heads if kernel.heads is None else len(kernel.heads))
    live = 0
    for part, its in zip(kernel.segments, plan.segments, strict=True):
        total = part.keys.tiles(launch.schedule.n, its.keys).total
        most = its.by_query.most_runs
        live = max(live, min(total, sum(min(length, total) for length in most)))
    return parts_of(programs, live)


def is_split(launch: Launch) -> bool:
    """Whether the keys of any kernel are cut into parts."""
    numbers = range(len(launch.program.kernels))
    ready = {} if launch.ready is None else launch.ready
    return for_length(launch, ready, "split", lambda: any(live_parts(launch, number) > 1 for number in numbers))


def for_length(launch: Launch, ready: MutableMapping[Any, Any], name: Hashable, make: Callable[[], R]) -> R:
    """What ``make`` returns, which depends on the form of the launch and on the number of (whole) tiles of its keys.

    The last result is kept in ``ready`` by ``name``: most steps of decoding begin no new tile.
    """
    unit = ready.get("unit")
    if unit is None:
        unit = ready["unit"] = _unit(launch)
    number = launch.schedule.n // unit, launch.schedule.n % unit > 0
    kept = ready.get(("length", name))
    if kept is None or kept[0] != number:
        kept = ready["length", name] = number, make()
    found: R = kept[1]
    return found


def _unit(launch: Launch) -> int:
    """A number of keys that divides every tile, where the number of tiles follows from that of the keys alone."""
    kernels = zip(launch.program.kernels, launch.schedule.kernels, strict=True)
    segments = [pair for kernel, plan in kernels for pair in zip(kernel.segments, plan.segments, strict=True)]
    orders = [part.keys for part, its in segments if its.keys is None]
    return gcd(*(order.tile for order in orders)) if orders and all(map(is_natural, orders)) else 1
