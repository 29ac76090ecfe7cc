"""The measurement of shipped systems beside their originals' code: what it counts, keeps and refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.systems import all_systems
from tests.systems.all_systems import SYSTEMS
from tests.systems.freshness import code_digest, settings_of, speed_settings_of, text_digest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import systems

    monkeypatch.setattr(systems._timing, "RESULTS", tmp_path)
    yield systems
    del sys.modules["systems"]


def timed(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, **results: Any) -> list[str]:
    """Makes the first system the only timed one, with two calls that are counted; their order."""
    calls: list[str] = []

    def call(name: str) -> Any:
        calls.append(name)
        return results[name]

    system = replace(SYSTEMS[0], timed=lambda: (lambda: call("ours"), lambda: call("theirs")))
    monkeypatch.setattr(all_systems, "SYSTEMS", (system,))
    monkeypatch.setattr(all_systems, "BY_MODULE", {"long": (system,)})
    monkeypatch.setattr(benchmark, "speed_settings_of", lambda of: {"text": "now"})
    return calls


def test_both_sides_take_turns_and_the_row_is_kept(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = torch.ones(3)
    calls = timed(benchmark, monkeypatch, ours=out, theirs=out)
    assert benchmark.main(["--rounds", "2"]) == 0
    assert calls == ["ours", "theirs"] * 4, "compared, then a round that does not count, then two"
    (row,) = json.loads((tmp_path / "systems_speed.json").read_text())["rows"]
    assert [len(row["figures"]["seconds"][side]) for side in ("attnc", "original")] == [2, 2]
    assert SYSTEMS[0].name in capsys.readouterr().out
    assert benchmark.main(["--rounds", "2"]) == 0
    assert len(calls) == 8, "a row that is there is not made again"
    assert benchmark.main(["--rounds", "2", "--again"]) == 0
    assert len(calls) == 16
    monkeypatch.setattr(benchmark, "speed_settings_of", lambda of: {"text": "changed"})
    assert benchmark.main(["--rounds", "2"]) == 0
    assert len(calls) == 24, "a system that has changed is timed again"


def test_sides_that_compute_something_else_are_a_fault(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    timed(benchmark, monkeypatch, ours=torch.ones(3), theirs=torch.tensor([1.0, 1.0, 1.1]))
    assert benchmark.main(["--rounds", "2"]) == 1
    assert list(benchmark.disagreement(torch.ones(3), torch.ones(3))) == []
    assert list(benchmark.disagreement(torch.ones(3), torch.ones(4))) == [], "originals may return another form"
    assert len(list(benchmark.disagreement(torch.ones(3), torch.full((3,), torch.nan)))) == 1


def test_ratios_are_of_rounds(benchmark: ModuleType) -> None:
    found = benchmark.figures({"attnc": [1.0, 2.0, 4.0], "original": [3.0, 2.0, 8.0]})
    assert (found["attnc"], found["original"], found["ratio"]) == (2.0, 3.0, 2.0)


def test_a_row_is_of_the_text_without_comments_and_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    from attnc.compiler.modules import load_text
    from tests.systems import freshness

    def digest(text: str) -> str:
        monkeypatch.setattr(freshness, "load_shipped", lambda name: load_text(text))
        return text_digest("any")

    plain = digest("pattern p = k <= q\n")
    assert digest("# Words.\npattern p =\n    k <= q\n\ntest p at n = 4 { causal }\n") == plain
    assert digest("pattern p = k < q\n") != plain
    assert code_digest("system") != code_digest("comparison")
    assert set(settings_of(SYSTEMS[0])) == {"text", "comparison"}


def test_a_speed_that_lies_apart_is_also_of_the_code_that_makes_its_calls() -> None:
    by_name = {system.name: system for system in SYSTEMS}
    assert speed_settings_of(by_name["Full attention"]) == settings_of(by_name["Full attention"])
    apart = by_name["Padding"]
    timing = code_digest("speeds/library_masks")
    assert speed_settings_of(apart) == {**settings_of(apart), "timing": timing}
    assert timing != code_digest("speeds/flex_masks")
