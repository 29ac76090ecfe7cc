"""Plans that the device makes, as the schedules that the host makes: so that one judge looks at both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attnc.compiler.codegen.lifting import lift_constants
from attnc.compiler.codegen.planner.functions import PlanModule
from attnc.compiler.ir.attentions import Table
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.plan.order_protocol import Listing
from attnc.compiler.plan.programs import Program
from attnc.compiler.plan.schedule import Bounds, Runs, Schedule
from attnc.compiler.schedule.segments import schedule
from attnc.runtime.base.launch import Launch, TableArgument
from attnc.runtime.triton import device_plans
from attnc.runtime.triton.arguments import PlannedListing, PlannedRuns
from tests.support.triton import numpy_language


@dataclass
class Launched:
    """What was launched: functions and their programs, and the tensors that these were given."""

    names: list[tuple[str, int]] = field(default_factory=list)
    tensors: dict[int, Tensor] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(x.numel() * x.element_size() for x in self.tensors.values())

    def note(self, name: str, programs: int, given: Mapping[str, Any]) -> None:
        self.names.append((name, programs))
        self.tensors |= {id(value): value for value in given.values() if isinstance(value, Tensor)}


def hidden(contents: Sequence[HostTable], known: Sequence[int] = ()) -> tuple[HostTable, ...]:
    """The tables as the host sees them where their contents are on a device, but for those numbered ``known``."""
    return tuple(
        held if number in known else HostTable(None, held.batched, np.asarray(held.values).shape)
        for number, held in enumerate(contents)
    )


def device_schedule(
    program: Program,
    extent: CallShape,
    contents: Sequence[HostTable],
    *,
    host: Sequence[HostTable] | None = None,
    seen: CallShape | None = None,
    launched: Launched | None = None,
    wide: bool = False,
) -> Schedule:
    """The schedule of a launch whose tables the host does not know, planned by the kernels' text in numpy.

    ``host`` and ``seen``: what the host knows of contents and positions; no contents, and all positions, unless given.
    """
    seen = seen or extent
    plan = schedule(program, seen, hidden(contents) if host is None else host, on_device=True)
    launch = _launch(program, plan, extent, contents, wide)
    tables = lift_constants(program).program.tables
    noted = launched or Launched()

    def run(module: PlanModule, name: str, programs: int, given: Mapping[str, Any]) -> None:
        values = {parameter.name: given[parameter.name] for parameter in module.parameters[name]}
        noted.note(name, programs, values)
        numpy_language.run(module.text, name, programs, values)

    by_query = device_plans.plan(launch, tables, True, run)
    by_key = device_plans.plan(launch, tables, False, run)
    kernels = []
    for number, held in enumerate(plan.kernels):
        segments = list(held.segments)
        for place, its in enumerate(segments):
            keys = by_query.lists.get((number, place))
            listing = its.keys if keys is None else listed(keys)
            if (number, place) in by_query.runs:
                both = (bounds(found.runs[number, place]) for found in (by_query, by_key))
                segments[place] = replace(its, by_query=next(both), by_key=next(both), keys=listing)
        rows = by_query.lists.get((number, None))
        kernels.append(replace(held, segments=tuple(segments), rows=held.rows if rows is None else listed(rows)))
    return replace(plan, kernels=tuple(kernels))


def _launch(program: Program, plan: Schedule, extent: CallShape, contents: Sequence[HostTable], wide: bool) -> Launch:
    batch = max(1, len(extent.q_start or ()), *(len(x.values) for x in contents if x.batched and x.values is not None))
    q, k = torch.zeros(batch, extent.heads, extent.m, 1), torch.zeros(batch, extent.heads, extent.n, 1)
    tables = tuple(
        TableArgument(_form(table, torch.from_numpy(np.ascontiguousarray(held.values)), wide), held.batched)
        for table, held in zip(program.tables, contents, strict=True)
    )
    starts = torch.tensor(extent.q_start or (0,), dtype=torch.int64)
    return Launch(program, plan, q, k, k, tables, torch.ones(extent.heads), starts, wide, 0.0, 0)


def _form(table: Table, values: Tensor, wide: bool) -> Tensor:
    match table.element:
        case "float":
            return values.float()
        case "bool" | "set" if values.dtype == torch.bool:
            return values.view(torch.uint8)
        case _:
            return values.to(torch.int64 if wide else torch.int32)


def bounds(found: PlannedRuns) -> Bounds:
    """Runs with room between them as the host packs them."""
    rows = found.batch_slots * found.head_slots * max(found.tiles, 1)
    count = (found.end - found.pointer).reshape(-1).numpy()
    count = count if len(count) else np.zeros(rows, np.int64)  # without a tile there is a row all the same
    room = found.start.shape[-1]
    kept = np.concatenate([np.arange(its) + row * room for row, its in enumerate(count)]).astype(np.int64)
    start, length, kind = (x.reshape(-1).numpy()[kept] for x in (found.start, found.length, found.kind))
    pointer = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    return Bounds(
        max(found.tiles, 1), 0, False, found.batch_slots, found.head_slots, Runs(pointer, start, length, kind)
    )


def listed(found: PlannedListing) -> Listing:
    return Listing(found.tokens.numpy(), found.batch_slots, found.head_slots)


@contextmanager
def room_for(runs: int) -> Iterator[None]:
    """Rows of runs have room for no more than so many runs."""
    before = device_plans._LEAST_RUNS, device_plans._MOST_RUNS
    device_plans._LEAST_RUNS, device_plans._MOST_RUNS = runs, 1
    try:
        yield
    finally:
        device_plans._LEAST_RUNS, device_plans._MOST_RUNS = before
