"""What the kernels are to reach, and what they may not fall behind: limits, and the checks that use them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from .figures import Figures, Kernel, by_key
from .machine_code.hardware import MULTIPROCESSORS
from .patterns import PASSES

COUNTED = ("causal", "window1024", "window512", "documents")
"""The patterns whose instructions are held to a target."""
FULL: Mapping[int, int] = {64: 500, 128: 600}
"""Instructions of a warp for 64 rows by 128 keys of a full tile, forward, by head dimension."""
SINGLE = 20
"""As many more where one loop serves full and partial tiles."""
MASK = 170
"""Instructions of a partial tile beyond those of a full one."""
UNSPILLED = (64, 80, 96, 128, 192)
"""Head dimensions at which nothing is spilled."""
WASTE = 1.1
"""Tensor clocks spent over needed, backward at D 128."""
PREDICTED: Mapping[str, float] = {
    "causal": 0.95, "window1024": 0.85, "window512": 0.85, "documents": 0.95, "sinks": 0.9, "longformer": 0.75,
    "bigbird": 0.45, "dilated4": 0.25, "strided": 0.08,
}  # fmt: skip
"""Predicted time of the forward pass over FlexAttention's, at D 64 and D 128."""
PREDICTED_BACKWARD = 1.0
"""The same of the backward pass on full tiles."""


@dataclass(frozen=True)
class Held:
    """What a pass must not fall behind: bytes spilled, instructions on full and partial tiles, and tensor clocks spent
    over needed.
    """

    spilled: int
    full: int
    partial: int
    waste: float


HELD: Mapping[tuple[str, str], Held] = {
    ("causal", "forward"): Held(0, 520, 665, 1.0),
    ("causal", "backward_keys"): Held(32, 1135, 1400, 1.0),
    ("causal", "backward_queries"): Held(0, 620, 820, 1.0),
    ("window1024", "forward"): Held(0, 520, 675, 1.0),
    ("window1024", "backward_keys"): Held(32, 1135, 1420, 1.0),
    ("window1024", "backward_queries"): Held(0, 620, 830, 1.0),
    ("causal", "decoding"): Held(0, 2230, 2750, 1.65),
    ("window1024", "decoding"): Held(0, 2230, 2840, 1.65),
}
"""By pattern and pass, at D 128 for sm_90: a little above what the kernels need today. To be lowered with them."""
PROLOGUES: Mapping[tuple[str, str], int] = {
    ("causal", "forward"): 370, ("causal", "backward_keys"): 610, ("causal", "backward_queries"): 480,
    ("window1024", "forward"): 440, ("window1024", "backward_keys"): 660, ("window1024", "backward_queries"): 545,
}  # fmt: skip
"""The same of the instructions before the first loop."""


@dataclass(frozen=True)
class Result:
    """One check: what was found, and the most that it may be. ``value`` is None where it could not be found."""

    check: str
    value: float | None
    limit: float

    @property
    def met(self) -> bool:
        return self.value is not None and self.value <= self.limit


def results(found: Iterable[Figures]) -> list[Result]:
    """Every check whose figures are there."""
    figures = by_key(found)
    checks: tuple[Callable[[Figures], Iterator[Result]], ...] = (
        _told,
        _counts,
        _spills,
        _waste,
        _blocks,
        _tensor,
        _fits,
    )
    made = [result for each in figures.values() for check in checks for result in check(each)]
    made += [result for each in figures.values() for result in _predicted(each)]
    return made + list(_backward(figures))


def _label(its: Figures) -> str:
    return f"{its.pattern} D {its.dim} {its.target} {its.kind}"


def _told(its: Figures) -> Iterator[Result]:
    """Loops that could not be told apart, or not predicted, are a miss: nothing is passed over."""
    if its.fault:
        yield Result(f"{_label(its)}: {its.fault}", None, 0)


def _counts(its: Figures) -> Iterator[Result]:
    if its.kind != "forward" or its.target != "sm_90" or its.pattern not in COUNTED or its.dim not in FULL:
        return
    for kernel in its.kernels[:1]:
        loops = kernel.loops[0]
        limit = FULL[its.dim] + (SINGLE if loops.single else 0)
        yield Result(f"{_label(its)}: instructions on full tiles", loops.full, limit)
        apart = None if loops.full is None or loops.partial is None else loops.partial - loops.full
        yield Result(f"{_label(its)}: instructions of the mask", apart, MASK)


def _spills(its: Figures) -> Iterator[Result]:
    if its.target == "sm_90" and its.dim in UNSPILLED and its.kernels:
        spilled = [kernel.spilled for kernel in its.kernels]
        yield Result(f"{_label(its)}: bytes spilled", None if min(spilled) < 0 else max(spilled), 0)


def waste(kernel: Kernel) -> float | None:
    """Tensor clocks spent over needed."""
    return None if kernel.spent is None else kernel.spent / kernel.needed


def _waste(its: Figures) -> Iterator[Result]:
    if its.target == "sm_90" and its.dim == 128 and its.kind in PASSES[1:] and its.pattern in COUNTED:
        for kernel in its.kernels:
            yield Result(f"{_label(its)}: tensor clocks spent over needed", waste(kernel), WASTE)


def _blocks(its: Figures) -> Iterator[Result]:
    """No kernel gives up more than half of the blocks that it would have with the registers that ptxas would choose."""
    for kernel in its.kernels:
        if kernel.free_blocks is not None:
            lost = 1 - kernel.blocks / max(kernel.free_blocks, 1)
            yield Result(f"{_label(its)} {kernel.name}: share of resident blocks given up", lost, 0.5)


def _tensor(its: Figures) -> Iterator[Result]:
    """Blocks of 64 rows and more multiply in warp groups."""
    for kernel in its.kernels:
        wanted = {"sm_80": "mma", "sm_90": "wgmma", "sm_100": "tcgen05", "gfx942": "mfma"}[its.target]
        stays = kernel.loops[0].keys if its.kind == "backward_keys" else kernel.loops[0].rows
        if stays >= 64:
            lacks = float(wanted not in kernel.tensor.split("+"))
            yield Result(f"{_label(its)} {kernel.name}: lacks {wanted}", lacks, 0)


def _fits(its: Figures) -> Iterator[Result]:
    for kernel in its.kernels:
        most = MULTIPROCESSORS[its.target].most_shared
        yield Result(f"{_label(its)} {kernel.name}: bytes of shared memory", kernel.shared, most)


def _predicted(its: Figures) -> Iterator[Result]:
    if its.kind == "forward" and its.target == "sm_90" and its.pattern in PREDICTED and its.peers:
        ratio = None if its.clocks is None or its.peer_clocks is None else its.clocks / its.peer_clocks
        yield Result(f"{_label(its)}: predicted time over FlexAttention's", ratio, PREDICTED[its.pattern])


def _backward(figures: Mapping[tuple[str, int, str, str], Figures]) -> Iterator[Result]:
    for dim in (64, 128):
        halves = [figures.get(("causal", dim, "sm_90", kind)) for kind in PASSES[1:]]
        held = [each for each in halves if each is not None and each.peers]
        if len(held) < 2:
            continue
        own, peer = [each.clocks for each in held], [each.peer_clocks for each in held]
        known = [value for value in (*own, *peer) if value is not None]
        ratio = None if len(known) < 4 else sum(known[:2]) / sum(known[2:])
        yield Result(
            f"causal D {dim} sm_90 backward, full tiles: predicted time over FlexAttention's", ratio, PREDICTED_BACKWARD
        )


def held_results(its: Figures) -> Iterator[Result]:
    """The checks of one pass against :data:`HELD`."""
    limits, label = HELD[its.pattern, its.kind], _label(its)
    for kernel in its.kernels:
        yield Result(f"{label}: bytes spilled", kernel.spilled, limits.spilled)
        yield Result(f"{label}: tensor clocks spent over needed", waste(kernel), limits.waste)
        for loops in kernel.loops:
            yield Result(f"{label}: instructions on full tiles", loops.full, limits.full)
            yield Result(f"{label}: instructions on partial tiles", loops.partial, limits.partial)
    yield from (*_told(its), *_blocks(its), *_tensor(its), *_fits(its))
