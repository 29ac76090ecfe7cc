"""Times calls in turn, so that whatever else the computer does falls on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

Key = TypeVar("Key", bound=Hashable)
WARM, TRIED = 3, 3  # calls before anything is timed, and calls by which their number in a round is found


@dataclass(frozen=True)
class Contestant:
    """One way to compute something. With ``inputs``, the gradients of these are timed too, as a pass of its own."""

    name: str
    forward: Callable[[], Tensor]
    inputs: Sequence[Tensor] = ()


@dataclass(frozen=True)
class Times:
    """Seconds of every counted round."""

    forward: list[float] = field(default_factory=list)
    backward: list[float] = field(default_factory=list)

    def median(self, direction: str) -> float:
        """Of one pass, ``forward`` or ``backward``."""
        return float(statistics.median(getattr(self, direction)))


class _Passes:
    """A contestant's forward and backward as two calls. The backward takes what the forward before it left; ``often``:
    it may be called again.
    """

    def __init__(self, contestant: Contestant, gradient: Tensor | None, often: bool) -> None:
        self.contestant, self.gradient, self.often = contestant, gradient, often
        self.out: Tensor | None = None

    def forward(self) -> None:
        with torch.set_grad_enabled(bool(self.contestant.inputs)):
            out = self.contestant.forward()
        self.out = out if self.contestant.inputs else None

    def backward(self) -> None:
        out = self.out
        assert out is not None, "the forward comes first"
        if not self.often:
            self.out = None
        torch.autograd.grad(out, self.contestant.inputs, self.gradient, retain_graph=self.often)


def in_turn(
    calls: Mapping[Key, Callable[[], object]],
    rounds: int,
    *,
    least: float = 0.0,
    settle: Callable[[], object] = lambda: None,
    at: Callable[[Key], object] = lambda _: None,
) -> dict[Key, list[float]]:
    """The seconds of one call, for each call and each of ``rounds`` rounds.

    In a round every call is made once, in their order; with ``least``, as often as takes about so many seconds. A round
    that does not count comes first. ``settle`` waits for what a call has begun elsewhere: a device. ``at`` is told
    which call begins.
    """
    counts = {key: 1 if least <= 0 else _repetitions(call, least, settle) for key, call in calls.items()}
    seconds: dict[Key, list[float]] = {key: [] for key in calls}
    for turn in range(rounds + 1):
        for key, call in calls.items():
            at(key)
            taken = mean_seconds(call, counts[key], settle)
            if turn:
                seconds[key].append(taken)
    return seconds


def mean_seconds(call: Callable[[], object], times: int, settle: Callable[[], object] = lambda: None) -> float:
    """The seconds of one of ``times`` calls."""
    began = time.perf_counter()
    for _ in range(times):
        call()
    settle()
    return (time.perf_counter() - began) / times


def _repetitions(call: Callable[[], object], least: float, settle: Callable[[], object]) -> int:
    call()  # may build, or plan
    if mean_seconds(call, 1, settle) >= least:
        return 1
    mean_seconds(call, WARM, settle)
    return max(1, int(least / mean_seconds(call, TRIED, settle)))


def passes_in_turn(
    contestants: Sequence[Contestant],
    gradient: Tensor | None,
    rounds: int,
    *,
    least: float = 0.0,
    settle: Callable[[], object] = lambda: None,
    at: Callable[[str], object] = lambda _: None,
) -> dict[str, Times]:
    """The times of each contestant by its name; of the backward where it has inputs. ``gradient``: the output's.
    ``least`` and the others are those of :func:`in_turn`.
    """
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    for contestant in contestants:
        passes = _Passes(contestant, gradient, least > 0)
        calls[contestant.name, "forward"] = passes.forward
        if contestant.inputs:
            calls[contestant.name, "backward"] = passes.backward
    seconds = in_turn(calls, rounds, least=least, settle=settle, at=lambda key: at(key[0]))
    return {
        each.name: Times(seconds[each.name, "forward"], seconds.get((each.name, "backward"), []))
        for each in contestants
    }


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios within each round."""
    return float(statistics.median(a / b for a, b in zip(above, below, strict=True)))
