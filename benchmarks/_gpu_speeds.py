"""How fast the kernels of a GPU are, beside FlexAttention and PyTorch's own: device, planning and host times, apart."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from _gpu_checks import forward_must_run, kernels_must_run, programs_run
from _gpu_patterns import Pattern
from _rows import Found
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from attnc.compiler.codegen.triton import tuning
from attnc.compiler.codegen.triton.tuning import TileConfig
from attnc.compiler.plan import Pass, Program
from attnc.runtime import launch_cache, planning
from attnc.runtime.base import dtype_of
from attnc.runtime.op import call_of
from attnc.runtime.triton import TRITON, executor

ATTNC, FLEX, TUNED = "attnc", "FlexAttention", "FlexAttention, max-autotune"
# PyTorch's own, for masks that it has kernels for: the yardstick of what a device reaches.
PLAIN = {"flash": SDPBackend.FLASH_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION}
FLOPS = {"forward": 4, "backward": 10}  # for each pair and channel: two products forward, five backward
SAME = {torch.float32: 1e-5, torch.bfloat16: 3e-2}  # between two ways, of the largest value or 1


@dataclass(frozen=True)
class Speed:
    """One pattern at one size; ``rounds`` of all ways in turn are counted.

    ``tuned``: FlexAttention also with max-autotune; ``decode``: one row, the last, against n keys, instead of all rows.
    """

    pattern: Pattern
    n: int
    head_dim: int
    heads: int
    kv_heads: int
    dtype: torch.dtype
    rounds: int
    tuned: bool = False
    decode: bool = False

    @property
    def rows(self) -> int:
        return 1 if self.decode else self.n

    @property
    def pairs(self) -> float:
        """Kept pairs of one head."""
        if not self.decode:
            return self.pattern.pairs(self.n, self.heads)
        held = self.pattern.tables(self.n, self.heads)
        plan = self.pattern.attention().plan(self.n, 1, heads=self.heads, q_start=self.n - 1, **held)
        return plan.pairs / self.heads


class Clock:
    """Seconds that work takes: on a device by its own events, else by the wall."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        # Written before each measured pass, so that none finds its inputs in the device's cache.
        self.cache = torch.empty(2**28 if self.cuda else 1, dtype=torch.uint8, device=device)

    def seconds(self, work: Callable[[], Any], host: float) -> tuple[float, Any]:
        """``host``: about the seconds that the host needs to launch it; the device waits as long, and is never idle."""
        self.cache.zero_()
        if not self.cuda:
            start = time.perf_counter()
            result = work()
            return time.perf_counter() - start, result
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(int(min(3e9 * host, 3e8)))  # cycles, of which there are below 2e9 in a second
        first.record()
        result = work()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / 1e3, result

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


@dataclass(frozen=True)
class Way:
    """One way to compute it; without ``leaves`` it has no backward here."""

    name: str
    attend: Callable[[], Tensor]
    leaves: Sequence[Tensor]

    def backward(self, out: Tensor, gradient: Tensor) -> Callable[[], Any]:
        """Runs once: compiled ways reuse what they saved."""
        return lambda: torch.autograd.grad(out, self.leaves, gradient)


def measure(speed: Speed, device: torch.device) -> Found:
    """One row. What a rival raises is a fault of the row, and leaves attnc's own figures in it."""
    leaves, gradient = inputs(speed, device)
    own = _own(speed, leaves)
    figures: dict[str, Any] = {"pairs of a head": speed.pairs, "planning s": _planning(speed, leaves)}
    ways, faults, left_out = [own], list[str](), list[str]()
    for name, make in _rivals(speed, device, leaves):
        try:
            way, told = make()
        except Exception as error:  # noqa: BLE001 - the rival's own
            faults.append(f"{name}: {type(error).__name__}: {error}")
            continue
        figures |= told
        if way is None:
            left_out.append(f"{name}, which this device does not have")
        else:
            ways.append(way)
            if not way.leaves and not speed.decode:
                left_out.append(f"the backward of {name}, which it has on devices alone")
    if left_out:
        figures["left out"] = "; ".join(left_out)
    clock = Clock(device)
    with kernels_must_run() if not speed.decode else forward_must_run():
        faults += _differences(ways, gradient, SAME[speed.dtype])
        host = {way.name: _host(way, gradient, clock, speed.rounds) for way in ways}
        times = _interleaved(ways, gradient, clock, host, speed.rounds)
    for way in ways:
        figures[way.name] = {
            direction: _figures(speed, direction, seconds, host[way.name][direction])
            for direction, seconds in times[way.name].items()
        }
    return Found(figures, tuple(faults))


def inputs(speed: Speed, device: torch.device) -> tuple[list[Tensor], Tensor]:
    """q, k, v and the output's gradient; for decoding, of one row and without gradients."""
    generator = torch.Generator().manual_seed(speed.n)
    shapes = [(1, heads, rows, speed.head_dim) for heads, rows in (
        (speed.heads, speed.rows), (speed.kv_heads, speed.n), (speed.kv_heads, speed.n), (speed.heads, speed.rows)
    )]  # fmt: skip
    q, k, v, gradient = (torch.randn(shape, generator=generator).to(device, speed.dtype) for shape in shapes)
    return [x.requires_grad_(not speed.decode) for x in (q, k, v)], gradient


def _own(speed: Speed, leaves: Sequence[Tensor]) -> Way:
    attention, tables = speed.pattern.attention(), speed.pattern.tables(speed.n, speed.heads)
    start = speed.n - speed.rows
    return Way(ATTNC, lambda: attention(*leaves, q_start=start, **tables), () if speed.decode else leaves)


Made = tuple["Way | None", Mapping[str, Any]]


def _rivals(speed: Speed, device: torch.device, leaves: Sequence[Tensor]) -> Iterator[tuple[str, Callable[[], Made]]]:
    """What is measured beside attnc, by name; None where this device does not have it."""
    yield FLEX, partial(_flex, speed, device, leaves)
    if speed.tuned:
        yield TUNED, partial(_tuned, speed, device, leaves)
    if speed.pattern.name in ("causal", "full"):
        for name, backend in PLAIN.items():
            yield name, partial(_plain, speed, device, leaves, name, backend)


def _plain(speed: Speed, device: torch.device, leaves: Sequence[Tensor], name: str, backend: SDPBackend) -> Made:
    if device.type != "cuda" and backend != SDPBackend.FLASH_ATTENTION:
        return None, {}
    causal = speed.pattern.name == "causal" and not speed.decode  # one row, the last, sees all

    def attend() -> Tensor:
        with sdpa_kernel([backend]):
            return scaled_dot_product_attention(*leaves, is_causal=causal, enable_gqa=speed.heads != speed.kv_heads)

    return Way(name, attend, () if speed.decode else leaves), {}


def _flex(speed: Speed, device: torch.device, leaves: Sequence[Tensor]) -> Made:
    """FlexAttention with its block mask, made once and kept; the seconds that a second such mask takes."""
    compiled = device.type == "cuda"
    mask, took = _block_mask(speed, device, compiled)
    told = {f"block mask of {FLEX} s": took}
    shared = {"block_mask": mask, "enable_gqa": speed.heads != speed.kv_heads}
    if not compiled:
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        q, k, v = (x.detach() for x in leaves)
        return Way(FLEX, lambda: flex_attention(q, k, v, **shared), ()), told  # type: ignore[return-value]
    torch._dynamo.reset()  # kernels of other sizes count towards a limit, past which nothing is compiled any more
    attend = torch.compile(flex_attention, dynamic=False, fullgraph=True)
    return Way(FLEX, lambda: attend(*leaves, **shared), () if speed.decode else leaves), told


def _tuned(speed: Speed, device: torch.device, leaves: Sequence[Tensor]) -> Made:
    if device.type != "cuda":
        return None, {}
    mask, _ = _block_mask(speed, device, True)
    attend = torch.compile(flex_attention, dynamic=False, fullgraph=True, mode="max-autotune-no-cudagraphs")
    gqa = speed.heads != speed.kv_heads
    return Way(TUNED, lambda: attend(*leaves, block_mask=mask, enable_gqa=gqa), () if speed.decode else leaves), {}


def _block_mask(speed: Speed, device: torch.device, compiled: bool) -> tuple[BlockMask, float]:
    kept, first, took = speed.pattern.flex(speed.n, speed.heads, device), speed.n - speed.rows, 0.0

    def rule(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return kept(b, h, q + first, k)

    by_head = speed.heads if "chosen" in speed.pattern.tables(speed.n, speed.heads) else None
    for _ in range(2):
        start = time.perf_counter()
        mask = create_block_mask(rule, None, by_head, speed.rows, speed.n, device=str(device), _compile=compiled)
        if compiled:
            torch.cuda.synchronize()
        took = time.perf_counter() - start
    return mask, took


@dataclass(frozen=True)
class Doubt:
    """Tile shapes of one pass of a pattern between which the table of choices could not decide without a device."""

    speed: Speed
    direction: Pass
    rows: tuple[TileConfig, ...]


def decide(doubt: Doubt, device: torch.device) -> Found:
    """Each shape in turn, and the winner by the median of its pass; one that does not compile or run is a fault."""
    leaves, gradient = inputs(doubt.speed, device)
    clock, figures, faults = Clock(device), dict[str, Any](), list[str]()
    timed = "forward" if doubt.direction == "forward" else "backward"
    for row in doubt.rows:
        name = f"{row.queries}x{row.keys} w{row.num_warps} s{row.num_stages}{' by descriptors' * bool(row.pointers)}"
        with _with_choice(doubt.direction, row), programs_run() as programs:
            own = replace(_own(doubt.speed, leaves), name=name)
            try:
                host = _host(own, gradient, clock, doubt.speed.rounds)
                times = _interleaved([own], gradient, clock, {name: host}, doubt.speed.rounds)
            except Exception as error:  # noqa: BLE001 - whatever the compiler or the device says to this shape
                faults.append(f"{name}: {type(error).__name__}: {error}")
                continue
        ran = shape_of(programs[doubt.direction])
        if ran != (row.queries, row.keys):
            faults.append(f"{name}: a shape of {ran[0]}x{ran[1]} ran in its place")
        else:
            figures[name] = {timed: _figures(doubt.speed, timed, times[name][timed], host[timed])}
    if figures:
        figures["winner"] = min(figures, key=lambda name: figures[name][timed]["median s"])
    return Found(figures, tuple(faults))


def shape_of(program: Program) -> tuple[int, int]:
    """The tile of a program's first kernel: queries and keys."""
    kernel = program.kernels[0]
    return kernel.rows.tile, kernel.segments[0].keys.tile


@contextmanager
def _with_choice(direction: Pass, row: TileConfig) -> Iterator[None]:
    """The table of choices has one shape for a pass; nothing made with others is reused, within or later."""
    configs = tuning.configs

    def chosen(target: str, dtype: Any, dim: int, asked: Pass) -> tuple[TileConfig, ...]:
        return (row,) if asked == direction else configs(target, dtype, dim, asked)

    with patch.object(tuning, "configs", chosen), _nothing_planned():
        executor._kernels.cache_clear()
        yield
    executor._kernels.cache_clear()


@contextmanager
def _nothing_planned() -> Iterator[None]:
    """No program, plan or launch is kept from before, and none made within is kept after."""
    kept = planning.Kept
    with (
        patch.multiple(planning, _programs=kept(8), _plans=kept(8)),
        patch.multiple(launch_cache, _entries=kept(8), _fixed=kept(8)),
    ):
        yield


def _planning(speed: Speed, leaves: Sequence[Tensor]) -> float:
    """Seconds from a call to its program and schedule, where none is kept from before: the median of three."""
    attention, tables = speed.pattern.attention(), speed.pattern.tables(speed.n, speed.heads)
    start = speed.n - speed.rows
    call = call_of(attention._bound, *leaves, scale=None, q_start=start, dropout=0.0, seed=None, tables=tables)
    q = leaves[0]
    tiles = TRITON.tiles(dtype_of(q.dtype), q.shape[-1], TRITON.target(q.device))
    found = []
    for _ in range(3):
        with _nothing_planned():
            begun = time.perf_counter()
            planning.launch_of(attention._bound, call, tiles.forward)
            found.append(time.perf_counter() - begun)
    return statistics.median(found)


def _differences(ways: Sequence[Way], gradient: Tensor, bound: float) -> list[str]:
    """What is wrong with the others' results, held against the first's. Builds all kernels on the way."""
    names = ("out", "gradient of q", "gradient of k", "gradient of v")
    results: list[dict[str, Tensor]] = []
    for way in ways:
        out = way.attend()
        gradients = way.backward(out, gradient)() if way.leaves else ()
        results.append(dict(zip(names, (out.detach(), *gradients), strict=False)))
    found = []
    for way, others in zip(ways[1:], results[1:], strict=True):
        for name, other in others.items():
            own = results[0][name]
            largest = max(1.0, float(own.abs().max()))
            difference = float((own.float() - other.float()).abs().max()) / largest
            if not difference <= bound:
                found.append(f"{name}: {ways[0].name} and {way.name} differ by {difference:.3g}, at most {bound:.3g}")
    return found


def _host(way: Way, gradient: Tensor, clock: Clock, calls: int) -> dict[str, float]:
    """Seconds until a call returns, whose work the device may still have before it: medians."""
    forward, backward = [], []
    for _ in range(calls):
        clock.wait()
        start = time.perf_counter()
        out = way.attend()
        forward.append(time.perf_counter() - start)
        if way.leaves:
            clock.wait()
            start = time.perf_counter()
            way.backward(out, gradient)()
            backward.append(time.perf_counter() - start)
    found = {"forward": statistics.median(forward)}
    return found | ({"backward": statistics.median(backward)} if backward else {})


def _interleaved(
    ways: Sequence[Way], gradient: Tensor, clock: Clock, host: Mapping[str, Mapping[str, float]], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Seconds on the device of every counted round, all ways in turn; the first round does not count."""
    times: dict[str, dict[str, list[float]]] = {way.name: {} for way in ways}
    for turn in range(rounds + 1):
        for way in ways:
            taken, out = clock.seconds(way.attend, host[way.name]["forward"])
            passes = {"forward": taken}
            if way.leaves:
                passes["backward"], _ = clock.seconds(way.backward(out, gradient), host[way.name]["backward"])
            for direction, seconds in passes.items() if turn else ():
                times[way.name].setdefault(direction, []).append(seconds)
    return times


def _figures(speed: Speed, direction: str, seconds: list[float], host: float) -> dict[str, Any]:
    median = statistics.median(seconds)
    useful = FLOPS[direction] * speed.pairs * speed.head_dim * speed.heads
    return {"median s": median, "TFLOP/s": useful / median / 1e12, "host s": host, "seconds": seconds}
