"""The figures of kernels as lines of a table."""

from __future__ import annotations

from collections.abc import Sequence

from .account import Account, Turn, Work

HEADING = (
    f"{'pattern':11} {'D':>3} {'target':7} {'kernel':20} {'tile':>7} {'w':>2} {'s':>2} {'regs':>4} {'spill':>5} "
    f"{'shared':>7} {'blocks':>6} {'tensor':8} {'flight':>6} {'full':>6} {'partial':>7} {'needed':>6} {'spent':>6}"
)


def lines(pattern: str, its: Account) -> list[str]:
    """A line for each segment of a kernel; what all segments share stands in the first."""
    found = []
    for number, work in enumerate(its.works):
        turn = work.typical
        shared = (
            f"{its.registers:4} {its.spilled:5} {its.shared:7} {_blocks(its):>6} {its.tensor:8}"
            if number == 0
            else f"{'':34}"
        )
        clocks = f"{_figure(its.needed)} {_figure(its.spent)}" if number == 0 else ""
        found.append(
            f"{pattern:11} {its.dim:3} {its.target:7} {its.name if number == 0 else '':20} "
            f"{f'{turn.rows}x{turn.keys}':>7} {its.warps:2} {its.stages:2} {shared} {_figure(turn.in_flight)} "
            f"{_figure(_count(work.full))} {_partial(work)} {clocks}".rstrip()
        )
    return found


def _blocks(its: Account) -> str:
    """Resident blocks and, where they are others, those without a limit on registers."""
    return str(its.blocks) if its.free_blocks in (None, its.blocks) else f"{its.blocks}/{its.free_blocks}"


def _count(turn: Turn | None) -> float | None:
    return None if turn is None else turn.count


def _partial(work: Work) -> str:
    count = _count(work.partial)
    text = "-" if count is None else f"{count:.0f}"
    return f"{text + ('*' if work.single else ''):>7}"


def _figure(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.0f}':>6}"


def legend() -> Sequence[str]:
    """What the columns mean."""
    return (
        "tile, w, s: queries by keys of one turn of a loop, warps, stages; blocks: resident (/ without maxnreg);",
        "flight: groups of loads under way while a loop waits; full, partial: instructions of a warp for 64 rows by",
        "128 keys (* one loop for both); needed, spent: tensor clocks of a turn",
    )
