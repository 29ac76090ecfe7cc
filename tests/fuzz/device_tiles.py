"""Random masks in random orders, planned by the text of the kernels that plan on a device, tile by tile."""

from __future__ import annotations

from tests.support.device_plans import device_schedule
from tests.support.generators.random_orders import Ordered, OrderGenerator, describe
from tests.support.oracles import tile_promises


def generate(seed: int) -> Ordered:
    return OrderGenerator(seed).ordered()


def fault(ordered: Ordered) -> str | None:
    """What is wrong with the plan of a mask whose tables only the device knows, or None."""
    case, program = ordered.case, ordered.program
    plan = device_schedule(program, case.extent, case.contents)
    return tile_promises.fault(program, plan, case.extent, case.contents)


def told(ordered: Ordered) -> str:
    return f"seed of the mask {ordered.seed}\n{describe(ordered)}"


def kept(ordered: Ordered) -> bytes:
    return (told(ordered) + "\n").encode()
