"""Plans on the device: lists tokens and finds the tiles of segments by tables whose contents the host does not read.

The host knows sizes only, so everything has a fixed place and room: a list for as many tokens as there may be, a row of
runs for so many runs. Nothing here waits for the device, and all of it can be captured in a CUDA graph: replayed, the
kernels plan anew, by what the same tables hold then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ...compiler.codegen import KernelSource, lift_expressions
from ...compiler.codegen.planner import (
    ListProblem,
    PlanModule,
    PlannerVariant,
    SegmentProblem,
    render_list,
    render_runs,
    render_segment,
)
from ...compiler.codegen.triton import Options
from ...compiler.ir import HEAD, Expr, Q, Table, tables_read, walk
from ...compiler.plan import Kernel, Listing, Order, TileCount, is_natural
from ..base import Launch
from . import modules
from .arguments import (
    AnyListing,
    PlannedListing,
    PlannedRuns,
    call_arguments,
    head_arguments,
    numbers_tensor,
    order_arguments,
    tiles_of,
)
from .modules import load_module

_MOST_RUNS = 2**22  # rows of runs have room for so many together, 36 MB; a row for at least _LEAST_RUNS
_LEAST_RUNS = 16
_MOST_KINDS = 2**26  # pairs of tiles that are judged before their runs are found, a byte for each
_RANKED_AT_ONCE = 1024

PLANNING = Options(num_warps=4, num_stages=1, fuses=False)
"""The compile options of planning kernels."""

Run = Callable[[PlanModule, str, int, Mapping[str, Any]], None]
"""Launches one function of a planning module, in so many programs, with arguments by name."""


@dataclass(frozen=True)
class DevicePlan:
    """What the device planned for one pass: lists and runs, by kernel and segment. ``None`` for a segment: the rows."""

    lists: Mapping[tuple[int, int | None], PlannedListing] = field(default_factory=dict)
    runs: Mapping[tuple[int, int], PlannedRuns] = field(default_factory=dict)


@dataclass(frozen=True)
class _Slots:
    """How many entries of the batch, and heads, have lists or runs of their own; 1 where all share them."""

    batch: int
    heads: int

    @property
    def count(self) -> int:
        return self.batch * self.heads


def plan(launch: Launch, tables: tuple[Table, ...], by_query: bool, run: Run | None = None) -> DevicePlan:
    """Plans what the launch's schedule leaves to the device: runs for tiles of rows if ``by_query``, else of keys.

    ``tables``: without names, as kernels know them. ``run`` launches; Triton does unless given.
    """
    schedule = launch.schedule
    if not schedule.on_device:
        return DevicePlan()
    compute = launch.specialisation.dtype.compute
    variant = PlannerVariant(tables, launch.specialisation.tables, compute, launch.wide)
    planner = _Planner(launch, variant, run or _runner(launch.q.device))
    lists: dict[tuple[int, int | None], PlannedListing] = {}
    runs: dict[tuple[int, int], PlannedRuns] = {}
    for number, (kernel, its) in enumerate(zip(launch.program.kernels, schedule.kernels, strict=True)):
        rows: AnyListing = planner.listed(kernel, kernel.rows, its.rows, its.rows_room, True)
        if isinstance(rows, PlannedListing):
            lists[number, None] = rows
        for place, (segment, held) in enumerate(zip(kernel.segments, its.segments, strict=True)):
            keys = planner.listed(kernel, segment.keys, held.keys, held.keys_room, False)
            if isinstance(keys, PlannedListing):
                lists[number, place] = keys
            if held.on_device:
                runs[number, place] = planner.found(kernel, place, rows, keys, by_query)
    return DevicePlan(lists, runs)


def _runner(device: torch.device) -> Run:
    options = PLANNING.arguments(nvidia=torch.version.hip is None)

    def run(module: PlanModule, name: str, programs: int, given: Mapping[str, Any]) -> None:
        values = [given[parameter.name] for parameter in module.parameters[name]]
        with modules.on_device(device):
            modules.start(getattr(_loaded(module.text), name), programs, values, options)

    return run


@lru_cache(maxsize=256)
def _loaded(text: str) -> ModuleType:
    return load_module(KernelSource("triton", text))


class _Planner:
    """The planning of one launch."""

    def __init__(self, launch: Launch, variant: PlannerVariant, run: Run) -> None:
        self._launch, self._variant, self._run = launch, variant, run
        self._device = launch.q.device
        self._arguments = call_arguments(launch)

    def _new(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self._device)

    def _slots(self, kernel: Kernel, exprs: Iterable[Expr], lists: Iterable[AnyListing] = ()) -> _Slots:
        launch, held = self._launch, [its for its in lists if its is not None]
        reads = [_reads(expr) for expr in exprs]
        tables = [launch.tables[number] for its in reads for number in its.tables]
        batch = any(table.batched and table.tensor.shape[0] > 1 for table in tables)
        batch = batch or (any(its.row for its in reads) and launch.q_start.numel() > 1)
        batch = batch or any(its.batch_slots > 1 for its in held)
        heads = any(its.head for its in reads) or any(its.head_slots > 1 for its in held)
        return _Slots(
            launch.q.shape[0] if batch else 1,
            (launch.q.shape[1] if kernel.heads is None else len(kernel.heads)) if heads else 1,
        )

    def _given(self, kernel: Kernel, slots: _Slots, numbers: tuple[int, ...]) -> dict[str, Any]:
        heads = head_arguments(kernel.heads, self._launch.q)["head_list"]
        return {
            **self._arguments, "head_slots": slots.heads, "head_list": heads,
            "numbers": numbers_tensor(numbers, self._device) if numbers else None,
        }  # fmt: skip

    # Lists.

    def listed(
        self, kernel: Kernel, order: Order, listing: Listing | None, room: int | None, by_query: bool
    ) -> AnyListing:
        """The list of an order: the host's, or one of at most ``room`` tokens that is made now."""
        if room is None:
            return listing
        expr = order.listed_by
        assert expr is not None
        slots = self._slots(kernel, (expr,))
        problem, numbers = list_problem(order, by_query)
        module = list_module(problem, self._variant)
        given = self._given(kernel, slots, numbers)
        total = self._launch.schedule.m if by_query else self._launch.schedule.n
        if order.gathered_by is not None:
            tokens = self._new(slots.count, room, dtype=torch.int32)
            counts = self._new(slots.count, dtype=torch.int32)
            given |= {"tokens": tokens, "counts": counts, "capacity": room}
            self._run(module, "listing", slots.count, given)
            return PlannedListing(tokens, slots.batch, slots.heads, counts)
        values = self._new(slots.count, total, dtype=torch.int64)
        programs = slots.count * -(-total // _RANKED_AT_ONCE)
        self._run(module, "ranks", programs, given | {"values": values})
        tokens = values.sort(stable=True, dim=-1).indices.to(torch.int32)
        return PlannedListing(tokens, slots.batch, slots.heads)

    # Tiles.

    def found(self, kernel: Kernel, place: int, rows: AnyListing, keys: AnyListing, by_query: bool) -> PlannedRuns:
        """The runs of one segment, for every tile of rows, or of keys."""
        launch, segment = self._launch, kernel.segments[place]
        n, m = launch.schedule.n, launch.schedule.m
        slots = self._slots(kernel, (segment.condition,), (rows, keys))
        problem, numbers = segment_problem(kernel.rows, segment.keys, segment.condition)
        module = segment_module(problem, self._variant)
        layout = module.layout
        assert layout is not None
        counts = tiles_of(kernel.rows, m, rows), tiles_of(segment.keys, n, keys)
        given = self._given(kernel, slots, numbers)
        given |= order_arguments("row", kernel.rows, rows, m, self._device)
        given |= order_arguments("column", segment.keys, keys, n, self._device)
        for side, order, count, tokens, its in (
            ("row", kernel.rows, counts[0], m, layout.rows), ("column", segment.keys, counts[1], n, layout.columns)
        ):  # fmt: skip
            granules = _granules(order, count, its.lanes, tokens)
            ranges = self._new(slots.count, its.planes, granules, dtype=torch.int64)
            floats = self._new(slots.count, max(its.floats, 1), granules, dtype=launch.compute_dtype)
            outputs = {"ranges": ranges, "float_ranges": floats}
            self._run(module, f"{side}_ranges", slots.count * granules, given | outputs)
            given |= {f"{side}_ranges": ranges, f"{side}_floats": floats, f"{side}_granules": granules}
        lines, length = (count.total for count in (counts if by_query else counts[::-1]))
        kinds = self._new(min(slots.count * lines * length, max(_MOST_KINDS, length)), dtype=torch.uint8)
        runs = self._room(slots, lines, length)
        for band in bands(slots.count, lines, length):
            of_lines, across = (band.first_line, band.lines), (0, length)
            rows_here, columns_here = (of_lines, across) if by_query else (across, of_lines)
            here = {"first_slot": band.first_slot, "kinds": kinds}
            here |= {"row_first": rows_here[0], "row_tiles": rows_here[1]}
            here |= {"column_first": columns_here[0], "column_tiles": columns_here[1]}
            self._run(module, "tile_kinds", band.slots * rows_here[1], given | here)
            steps = (columns_here[1], 1) if by_query else (1, columns_here[1])
            self._found(runs, kinds, band, (lines, length), steps)
        return runs

    def _room(self, slots: _Slots, lines: int, length: int) -> PlannedRuns:
        """Room for the runs of ``lines`` tiles in each slot, each with ``length`` tiles of the other side."""
        capacity = min(max(length, 1), max(_LEAST_RUNS, _MOST_RUNS // max(slots.count * lines, 1)))
        return PlannedRuns(
            pointer=self._new(slots.count, lines, dtype=torch.int64),
            end=self._new(slots.count, lines, dtype=torch.int64),
            start=self._new(slots.count, lines, capacity, dtype=torch.int32),
            length=self._new(slots.count, lines, capacity, dtype=torch.int32),
            kind=self._new(slots.count, lines, capacity, dtype=torch.uint8),
            batch_slots=slots.batch,
            head_slots=slots.heads,
            tiles=lines,
        )

    def _found(self, runs: PlannedRuns, kinds: Tensor, band: Band, of: tuple[int, int], steps: tuple[int, int]) -> None:
        """Turns the kinds of a band to runs. ``of``: all lines of a slot, and their length; ``steps``: in memory, from
        a line to the next and from a tile to the next.
        """
        given = {
            "kinds": kinds, "run_pointer": runs.pointer, "run_end": runs.end, "run_start": runs.start,
            "run_length": runs.length, "run_kind": runs.kind, "first_slot": band.first_slot,
            "first_line": band.first_line, "lines": band.lines, "all_lines": of[0], "length": of[1],
            "line_step": steps[0], "step": steps[1], "capacity": runs.start.shape[-1],
        }  # fmt: skip
        self._run(runs_module(), "runs", band.slots * band.lines, given)


@dataclass(frozen=True)
class Band:
    """Lines of tiles that are judged together: in each of ``slots`` slots so many ``lines``, from the first ones on."""

    first_slot: int
    slots: int
    first_line: int
    lines: int


def bands(slots: int, lines: int, length: int) -> Iterator[Band]:
    """Yields bands of at most ``_MOST_KINDS`` tiles, or of one line: of whole slots where one has no more."""
    size = max(lines * length, 1)
    if size <= _MOST_KINDS:
        together = _MOST_KINDS // size
        for slot in range(0, slots, together):
            yield Band(slot, min(together, slots - slot), 0, lines)
        return
    together = max(_MOST_KINDS // length, 1)
    for slot in range(slots):
        for line in range(0, lines, together):
            yield Band(slot, 1, line, min(together, lines - line))


def _granules(order: Order, count: TileCount, lanes: int, tokens: int) -> int:
    """How many granules an order has, as :attr:`compiler.codegen.triton.walks.TokenLoop.blocks` counts them."""
    return -(-tokens // lanes) if is_natural(order) else count.total * (order.tile // lanes)


@dataclass(frozen=True)
class _Reads:
    """What an expression reads: the position of the row, the head, and tables by their numbers."""

    row: bool
    head: bool
    tables: tuple[int, ...]


@lru_cache(maxsize=512)
def _reads(expr: Expr) -> _Reads:
    nodes = set(walk(expr))
    return _Reads(Q in nodes, HEAD in nodes, tuple(sorted(map(int, tables_read(expr)))))


@lru_cache(maxsize=512)
def segment_problem(rows: Order, keys: Order, condition: Expr) -> tuple[SegmentProblem, tuple[int, ...]]:
    """The problem of a segment without its constants, and these."""
    (lifted,), numbers = lift_expressions((condition,))
    return SegmentProblem(rows.nameless(), keys.nameless(), lifted), numbers


@lru_cache(maxsize=512)
def list_problem(order: Order, by_query: bool) -> tuple[ListProblem, tuple[int, ...]]:
    """The problem of a list without its constants, and these."""
    assert order.listed_by is not None
    (lifted,), numbers = lift_expressions((order.listed_by,))
    return ListProblem(order.nameless(), lifted, by_query), numbers


segment_module = lru_cache(maxsize=256)(render_segment)
list_module = lru_cache(maxsize=256)(render_list)
runs_module = lru_cache(maxsize=1)(render_runs)
