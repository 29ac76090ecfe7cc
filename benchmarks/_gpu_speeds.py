"""How fast the kernels of a GPU are, beside FlexAttention: device, planning and host times, each measured apart."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from _gpu_checks import kernels_must_run
from _rows import Found
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import attnc
from attnc.runtime import planning
from attnc.runtime.base import dtype_of
from attnc.runtime.op import call_of
from attnc.runtime.triton import TRITON

ATTNC, FLEX = "attnc", "FlexAttention"
FLOPS = {"forward": 4, "backward": 10}  # for each pair and channel: two products forward, five backward
WINDOW, GLOBALS = 512, 3
SAME = {torch.float32: 1e-5, torch.bfloat16: 3e-2}  # between two ways, of the largest value or 1


@dataclass(frozen=True)
class Speed:
    """One pattern at one size; ``rounds`` of both ways in turn are counted."""

    pattern: str  # causal | window | longformer
    n: int
    head_dim: int
    heads: int
    dtype: torch.dtype
    rounds: int

    @property
    def globals(self) -> list[int]:
        """Longformer's global positions."""
        return [0, self.n // 3, 2 * self.n // 3][:GLOBALS]

    @property
    def pairs(self) -> int:
        """Kept pairs of one head."""
        if self.pattern == "causal":
            return self.n * (self.n + 1) // 2
        place, side = np.arange(self.n), WINDOW // 2
        low, high = np.maximum(place - side, 0), np.minimum(place + side, self.n - 1)
        kept = high - low + 1
        if self.pattern == "longformer":
            outside = sum(((g < low) | (g > high)).astype(np.int64) for g in self.globals)
            kept = np.where(np.isin(place, self.globals), self.n, kept + outside)
        return int(kept.sum())

    def attention(self) -> tuple[attnc.Attention, dict[str, object]]:
        """attnc's own, and its tables."""
        constants = {} if self.pattern == "causal" else {"size": WINDOW}
        found = attnc.load(self.pattern)[self.pattern](**constants)
        assert isinstance(found, attnc.Attention)
        return found, {"g": self.globals} if self.pattern == "longformer" else {}

    def rule(self, device: torch.device) -> Callable[..., Tensor]:
        """The same for FlexAttention."""
        if self.pattern == "causal":
            return lambda _b, _h, q, k: k <= q
        if self.pattern == "window":
            return lambda _b, _h, q, k: (q - k).abs() <= WINDOW // 2
        flags = torch.zeros(self.n, dtype=torch.bool, device=device)
        flags[self.globals] = True
        return lambda _b, _h, q, k: ((q - k).abs() <= WINDOW // 2) | flags[q] | flags[k]


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
    """One row. What FlexAttention raises is a fault of the row, and leaves attnc's own figures in it."""
    generator = torch.Generator().manual_seed(speed.n)
    shape = (1, speed.heads, speed.n, speed.head_dim)
    q, k, v, gradient = (torch.randn(shape, generator=generator).to(device, speed.dtype) for _ in range(4))
    leaves = [x.requires_grad_() for x in (q, k, v)]
    attention, tables = speed.attention()
    ways = [Way(ATTNC, lambda: attention(*leaves, **tables), leaves)]
    figures: dict[str, Any] = {"pairs of a head": speed.pairs, "planning s": _planning(attention, leaves, tables)}
    faults: list[str] = []
    try:
        flex, took = _flex(speed, device, leaves)
    except Exception as error:  # noqa: BLE001 - the rival's own
        faults.append(f"{FLEX}: {type(error).__name__}: {error}")
    else:
        ways.append(flex)
        figures[f"block mask of {FLEX} s"] = took
        if not flex.leaves:
            figures["left out"] = f"the backward of {FLEX}, which it has on devices alone"
    clock = Clock(device)
    with kernels_must_run():
        faults += _differences(ways, gradient, SAME[speed.dtype])
        host = {way.name: _host(way, gradient, clock, speed.rounds) for way in ways}
        times = _interleaved(ways, gradient, clock, host, speed.rounds)
    for way in ways:
        figures[way.name] = {
            direction: _figures(speed, direction, seconds, host[way.name][direction])
            for direction, seconds in times[way.name].items()
        }
    return Found(figures, tuple(faults))


def _flex(speed: Speed, device: torch.device, leaves: Sequence[Tensor]) -> tuple[Way, float]:
    """FlexAttention with its block mask, and the seconds that a second such mask takes. Compiled on a device alone."""
    compiled = device.type == "cuda"
    rule, took = speed.rule(device), 0.0
    for _ in range(2):
        start = time.perf_counter()
        mask = create_block_mask(rule, None, None, speed.n, speed.n, device=str(device), _compile=compiled)
        if compiled:
            torch.cuda.synchronize()
        took = time.perf_counter() - start
    if not compiled:
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        q, k, v = (x.detach() for x in leaves)
        return Way(FLEX, lambda: flex_attention(q, k, v, block_mask=mask), ()), took  # type: ignore[return-value]
    torch._dynamo.reset()  # kernels of other sizes count towards a limit, past which nothing is compiled any more
    attend = torch.compile(flex_attention, dynamic=False, fullgraph=True)
    return Way(FLEX, lambda: attend(*leaves, block_mask=mask), leaves), took


@contextmanager
def _nothing_planned() -> Iterator[None]:
    with patch.multiple(planning, _programs=planning.Kept(8), _plans=planning.Kept(8)):
        yield


def _planning(attention: attnc.Attention, leaves: Sequence[Tensor], tables: Mapping[str, object]) -> float:
    """Seconds from a call to its program and schedule, where none is kept from before: the median of three."""
    call = call_of(attention._bound, *leaves, scale=None, q_start=0, dropout=0.0, seed=None, tables=tables)
    q = leaves[0]
    tiles = TRITON.tiles(dtype_of(q.dtype), q.shape[-1], TRITON.target(q.device))
    found = []
    for _ in range(3):
        with _nothing_planned():
            start = time.perf_counter()
            planning.launch_of(attention._bound, call, tiles.forward)
            found.append(time.perf_counter() - start)
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
