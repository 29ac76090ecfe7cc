"""Random tiles: random masks in random orders, each tile of their schedules against its pairs, a thousand at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from attnc.compiler.schedule.segments import schedule
from attnc.compiler.schedule.strategies import SearchLimits
from tests.support.generators.random_orders import Ordered, OrderGenerator, describe
from tests.support.oracles import tile_promises as tiles

TILES = 1000
# Masks that one seed may draw: the seeds of a run do not share any.
_APART = 10_000


@dataclass(frozen=True)
class Batch:
    """Masks in orders, of at least so many tiles together, drawn one after another until there are enough."""

    seed: int

    def __iter__(self) -> Iterator[Ordered]:
        for number in range(self.seed * _APART, (self.seed + 1) * _APART):
            yield OrderGenerator(number).ordered()


def fault(batch: Batch) -> str | None:
    """What is wrong with a schedule of the batch, or None; it ends with the schedule that makes up the number."""
    looked_at = 0
    for ordered in batch:
        found, count = judged(ordered)
        if found is not None:
            return f"{found}\nseed of the mask {ordered.seed}\n{describe(ordered)}"
        looked_at += count
        if looked_at >= TILES:
            return None
    return f"only {looked_at} tiles in {_APART} masks"


def judged(ordered: Ordered) -> tuple[str | None, int]:
    """What is wrong with one schedule, and of how many tiles it is. Every other one is found by all strategies."""
    case, program = ordered.case, ordered.program
    limits = SearchLimits() if ordered.seed % 2 == 0 else SearchLimits(few_tiles=0)
    plan = schedule(program, case.extent, case.contents, limits)
    kernel, its = program.kernels[0], plan.kernels[0]
    return tiles.segment_fault(kernel, its, kernel.segments[0], its.segments[0], program, case.extent, case.contents)


def told(batch: Batch) -> str:
    return f"{TILES:,} tiles from seed {batch.seed}"


def kept(batch: Batch) -> bytes:
    return (told(batch) + "\n").encode()
