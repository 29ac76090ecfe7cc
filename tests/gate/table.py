"""Figures as lines of a table, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import torch
import triton

from .figures import Figures, Kernel, Loops, N
from .targets import Result

LEGEND = (
    "tile, w, s: queries by keys of one turn of a loop, warps, stages; blocks: resident (/ if registers had no limit);",
    "flight: groups of loads under way while a loop waits; full, partial: instructions of a warp for 64 rows by 128",
    "keys (* one loop for both); needed, spent: tensor clocks of a turn; work, time: instructions in loops, predicted",
    f"time, over FlexAttention's, forward at {N:,} tokens (backward: on full tiles)",
)
HEADING = (
    f"{'pattern':10} {'D':>3} {'target':6} {'kernel':20} {'tile':>7} {'w':>2} {'s':>2} {'regs':>4} {'spill':>5} "
    f"{'shared':>7} {'blocks':>6} {'tensor':7} {'flight':>6} {'full':>5} {'partial':>7} {'needed':>6} {'spent':>5} "
    f"{'work':>5} {'time':>5}"
)


def lines(its: Figures) -> list[str]:
    """A line for each segment of each kernel, attnc's and then FlexAttention's; what all share stands in the first."""
    ratios = f"{_ratio(its.work, its.peer_work)} {_ratio(its.clocks, its.peer_clocks)}"
    found = []
    for number, kernel in enumerate((*its.kernels, *its.peers)):
        found += _of_kernel(its, kernel, ratios if number == 0 else "")
    if its.fault:
        found.append(f"{its.pattern:10} {its.dim:3} {its.target:6} {its.kind:20} failed: {its.fault}")
    return found


def _of_kernel(its: Figures, kernel: Kernel, ratios: str) -> list[str]:
    blocks = str(kernel.blocks)
    if kernel.free_blocks not in (None, kernel.blocks):
        blocks += f"/{kernel.free_blocks}"
    whole = f"{kernel.registers:4} {kernel.spilled:5} {kernel.shared:7} {blocks:>6} {kernel.tensor:7}"
    clocks = f"{kernel.needed:6.0f} {_figure(kernel.spent, 5)}"
    found = []
    for number, loops in enumerate(kernel.loops):
        name, needs, end = (kernel.name, whole, f"{clocks} {ratios}") if number == 0 else ("", "", "")
        tile = f"{loops.rows}x{loops.keys}"
        found.append(
            f"{its.pattern:10} {its.dim:3} {its.target:6} {name:20} {tile:>7} {kernel.warps:2} {kernel.stages:2} "
            f"{needs:33} {_figure(loops.in_flight, 6)} {_figure(loops.full, 5)} {_partial(loops)} {end}".rstrip()
        )
    return found


def _partial(loops: Loops) -> str:
    return f"{_figure(loops.partial, 0).strip() + ('*' if loops.single else ''):>7}"


def _figure(value: float | None, width: int) -> str:
    return f"{'-' if value is None else f'{value:.0f}':>{width}}"


def _ratio(own: float | None, peer: float | None) -> str:
    return f"{'-' if own is None or peer is None else f'{own / peer:.2f}':>5}"


def verdict(found: Sequence[Result]) -> list[str]:
    """Each check as met or missed, those that are missed last, and how many of each there are."""
    ordered = sorted(found, key=lambda result: not result.met)
    said = [
        f"{'met   ' if result.met else 'MISSED'} {result.check}: {_exact(result.value)}, at most {_exact(result.limit)}"
        for result in ordered
        if not (result.met and result.limit > 2**14)  # that shared memory suffices is told only where it does not
    ]
    met = sum(result.met for result in found)
    return [*said, f"{met} checks are met, {len(found) - met} are missed"]


def _exact(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g}" if value == int(value) else f"{value:.2f}"


def record(figures: Iterable[Figures], found: Sequence[Result]) -> str:
    """All of it as JSON, a line for each pass and for each check that is missed."""
    settings = {"torch": torch.__version__.split("+")[0], "triton": triton.__version__, "dtype": "bf16", "n": N}
    missed = [json.dumps(asdict(result)) for result in found if not result.met]
    passes = [json.dumps(asdict(each, dict_factory=_rounded)) for each in figures]
    return (
        f'{{\n"settings": {json.dumps(settings)},\n"met": {len(found) - len(missed)},\n'
        f'"missed": [\n{_joined(missed)}],\n"passes": [\n{_joined(passes)}]\n}}\n'
    )


def _joined(rows: Sequence[str]) -> str:
    return ",\n".join(rows) + "\n" if rows else ""


def _rounded(items: list[tuple[str, object]]) -> dict[str, object]:
    """The fields of a dataclass with enough digits of its floats."""
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in items}
