"""The one timing of commands and benchmarks: who runs when and how often, what counts, and what a ratio is of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from attnc.measuring import turns
from attnc.measuring.turns import Contestant, in_turn, passes_in_turn, ratio


class Clock:
    """A clock that moves by what calls take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.calls: list[str] = []
        monkeypatch.setattr(turns.time, "perf_counter", lambda: self.now)

    def call(self, name: str, seconds: Iterator[float] | float) -> Callable[[], None]:
        def run() -> None:
            self.calls.append(name)
            self.now += seconds if isinstance(seconds, float) else next(seconds)

        return run


def test_each_round_runs_all_and_the_first_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    told: list[str] = []
    calls = {"a": clock.call("a", iter([9.0, 1.0, 2.0])), "b": clock.call("b", iter([8.0, 3.0, 5.0]))}
    assert in_turn(calls, 2, at=told.append) == {"a": [1.0, 2.0], "b": [3.0, 5.0]}
    assert clock.calls == told == ["a", "b"] * 3


def test_short_calls_are_repeated_until_they_take_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    found = in_turn({"short": clock.call("short", 0.25), "long": clock.call("long", 2.0)}, 2, least=1.0)
    assert found == {"short": [0.25, 0.25], "long": [2.0, 2.0]}
    warm = 2 + turns.WARM + turns.TRIED
    assert clock.calls.count("short") == warm + 3 * 4, "four in each of three rounds"
    assert clock.calls.count("long") == 2 + 3
    assert clock.calls[-10:] == [*["short"] * 4, "long"] * 2


def test_what_a_call_began_elsewhere_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def settle() -> None:
        clock.now += 10.0

    assert in_turn({"a": clock.call("a", 1.0)}, 1, settle=settle) == {"a": [11.0]}


@pytest.mark.parametrize("least", [0.0, 1e-9])
def test_a_backward_is_of_its_own_forward(least: float) -> None:
    x, y = torch.ones(3, requires_grad=True), torch.ones(3)
    seen: list[tuple[bool, bool]] = []

    def forward() -> torch.Tensor:
        seen.append((torch.is_grad_enabled(), True))
        return x * 2

    def plain() -> torch.Tensor:
        seen.append((torch.is_grad_enabled(), False))
        return y * 2

    entered = [Contestant("both", forward, (x,)), Contestant("forward alone", plain)]
    found = passes_in_turn(entered, torch.ones(3), 2, least=least)
    assert [len(each) for one in found.values() for each in (one.forward, one.backward)] == [2, 2, 2, 0]
    assert set(seen) == {(True, True), (False, False)}
    assert found["both"].median("forward") > 0


def test_a_ratio_is_the_median_of_rounds_and_not_of_medians() -> None:
    assert ratio([1.0, 20.0, 300.0], [1.0, 10.0, 1000.0]) == 1.0
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0], [1.0, 2.0])
