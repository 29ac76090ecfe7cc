"""Asks attnc for the kernels of an attention, compiled. Nothing else of the gate knows how attnc plans and renders."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from unittest.mock import patch

import numpy as np
import triton

from attnc.compiler import pipeline
from attnc.compiler.codegen import lift_constants
from attnc.compiler.codegen.triton import Steps, TritonVariant, kind_of, options, parameters, steps, tuning
from attnc.compiler.codegen.triton.signature import column_loops, loops_by_key
from attnc.compiler.ir import Attention, CallShape, HostTable
from attnc.compiler.plan import BF16, FULL, PARTIAL, Bounds, Program, TileCount, key_major, usual
from attnc.runtime.triton import TRITON, ahead_of_time

from .patterns import DECODING
from .store import digest, kept


@dataclass(frozen=True)
class Choice:
    """Other tiles, warps and stages for one pass than attnc would take: a question, not what is shipped."""

    rows: int
    keys: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Walk:
    """What one turn of a segment's loops takes, and whether the kernel has a loop for full tiles of it."""

    rows: int
    keys: int
    has_full: bool


@dataclass(frozen=True)
class Visits:
    """What the programs of one head visit of a segment, in one call.

    ``stays``: tiles of the side with which a program stays, each of ``tile`` tokens; ``full`` and ``partial``: pairs of
    tiles of ``area`` pairs of tokens; ``entered``: runs of them, each of which enters a loop; ``parts``: programs that
    share a tile and its keys.
    """

    stays: int
    tile: int
    area: int
    full: float
    partial: float
    entered: float
    parts: int


@dataclass(frozen=True)
class Compiled:
    """A compiled function with its options, and what the compiler says that it needs.

    ``registers`` and ``spilled`` (bytes) are for each thread, -1 where the tool that tells them does not run;
    ``shared``: bytes for each block. ``code``: a cubin, or AMD's code object.
    """

    name: str
    kind: str
    target: str
    dim: int
    warps: int
    stages: int
    walks: tuple[Walk, ...]
    registers: int
    spilled: int
    shared: int
    code: bytes
    assembly: str


def compiled(attention: Attention, dim: int, target: str, kind: str, choice: Choice | None = None) -> list[Compiled]:
    """The functions of one pass (``forward``, ``backward_keys`` or ``backward_queries``), in bf16.

    ``choice``: tiles, warps and stages to take in place of attnc's own. Errors are those of attnc's compile_for.
    """
    with _chosen(choice):
        program, variant = _pass(attention, dim, target, kind)
        text = pipeline.source(program, TRITON.render, variant).text
        lifted = lift_constants(program).program
        signatures, taken = parameters(lifted, variant), steps(lifted, variant)
        names = [name for name in signatures if kind_of(name) == variant.direction]
        chosen = {name: options(kind_of(name), variant, taken[name], target) for name in names}
        arguments = {name: chosen[name].arguments(nvidia=target.startswith("sm_")) for name in names}
        described = [[name, arguments[name], *(asdict(each) for each in signatures[name])] for name in names]
        key = digest(text, described, target, triton.__version__)
        held = kept("kernels", key, lambda: _compile(program, variant, target))
    return [
        Compiled(
            kind=variant.direction,
            target=target,
            dim=dim,
            warps=chosen[each["name"]].num_warps,
            stages=chosen[each["name"]].num_stages,
            walks=_walks(program, variant, taken[each["name"]]),
            code=base64.b64decode(each.pop("code")),
            **each,
        )
        for each in held
    ]


@contextmanager
def _chosen(choice: Choice | None) -> Iterator[None]:
    """While it holds, attnc's table of choices has this one alone."""
    if choice is None:
        yield
        return
    row = tuning.TileConfig(choice.rows, choice.keys, choice.warps, choice.stages)
    with (
        patch.object(tuning, "configs", lambda *_: (row,)),
        patch.object(tuning, "config_anywhere", lambda *_: row),
    ):
        yield


def _pass(attention: Attention, dim: int, target: str, kind: str) -> tuple[Program, TritonVariant]:
    """The program and the variant of one pass, for any number of heads."""
    known = usual(attention.tables, BF16, dim)
    if kind == DECODING:
        return ahead_of_time.of_decoding(attention, known, target)[-1]
    made = ahead_of_time.of_passes(attention, known, target)
    return next((program, variant) for program, variant in made if variant.direction == kind)


def _compile(program: Program, variant: TritonVariant, target: str) -> list[dict[str, object]]:
    return [
        {
            "name": kernel.name,
            "registers": -1 if kernel.resources is None else kernel.resources.registers,
            "spilled": -1 if kernel.resources is None else kernel.resources.spilled,
            "shared": -1 if kernel.resources is None else kernel.resources.shared,
            "code": base64.b64encode(kernel.binary).decode(),
            "assembly": kernel.assembly,
        }
        for kernel in ahead_of_time.compile_for(program, variant, target, (variant.direction,))
    ]


def _walks(program: Program, variant: TritonVariant, taken: Steps) -> tuple[Walk, ...]:
    assert taken.kernel is not None
    kernel = program.kernels[taken.kernel]
    if variant.direction == "backward_keys":
        segments = [kernel.segments[number] for number in taken.segments]
        loops = [loops_by_key(kernel, segment, variant.step)[0] for segment in segments]
    else:
        loops = list(column_loops(program, kernel, variant))
    return tuple(Walk(taken.rows, keys, not loop.never_full) for keys, loop in zip(taken.keys, loops, strict=True))


_MOST_PARTS = 64
"""Of the keys of a few rows, which as many programs share where a call is long."""


def visits(
    attention: Attention, dim: int, target: str, kind: str, extent: CallShape, contents: tuple[HostTable, ...]
) -> dict[str, tuple[Visits, ...]]:
    """What each function of a pass visits in a call whose ``contents`` the host knows, for each of its segments;
    averages over heads.
    """
    n = extent.n
    program, _ = _pass(attention, dim, target, kind)
    planned = pipeline.schedule(program, extent, contents)
    found: dict[str, tuple[Visits, ...]] = {}
    for number, (kernel, its) in enumerate(zip(program.kernels, planned.kernels, strict=True)):
        rows = kernel.rows.tiles(n, its.rows)
        made = []
        for place, (segment, held) in enumerate(zip(kernel.segments, its.segments, strict=True)):
            columns = segment.keys.tiles(n, held.keys)
            if kind == "backward_keys":
                by_row, by_key = key_major(kernel.rows, segment.keys)
                of_rows, of_keys = by_row.tiles(n, its.rows), by_key.tiles(n, held.keys)
                found[f"{kind}_{number}_{place}"] = (
                    _visits(held.by_key, of_keys, of_rows, by_key.tile, by_row.tile, 1),
                )
            else:
                parts = _MOST_PARTS if kernel.splits else 1
                made.append(_visits(held.by_query, rows, columns, kernel.rows.tile, segment.keys.tile, parts))
        if made:
            found[f"{kind}_{number}"] = tuple(made)
    return found


def _visits(bounds: Bounds, own: TileCount, other: TileCount, tile: int, other_tile: int, parts: int) -> Visits:
    along, limit, times = own.total, other.total, 1
    if bounds.aligned:
        along, limit, times = own.per_class, other.per_class, own.classes
    slots = bounds.batch_slots * bounds.head_slots
    sums = {FULL: 0, PARTIAL: 0}
    entered = 0
    for slot, tile_number in np.ndindex(slots, along):
        move, row = divmod(tile_number, bounds.period)
        at = slot * bounds.period + row
        chosen = slice(int(bounds.runs.pointer[at]), int(bounds.runs.pointer[at + 1]))
        start = bounds.runs.start[chosen].astype(np.int64) + move * bounds.shift
        ends = np.clip(np.stack((start, start + bounds.runs.length[chosen])), 0, limit)
        length = ends[1] - ends[0]
        entered += int((length > 0).sum())
        for kind in sums:
            sums[kind] += int(length[bounds.runs.kind[chosen] == kind].sum())
    full, partial, loops = (times * value / slots for value in (sums[FULL], sums[PARTIAL], entered))
    return Visits(own.total, tile, tile * other_tile, full, partial, loops, parts)
