"""The example of a cache at a small size, and the faults that it must find."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

import attnc

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    sys.path.insert(0, str(EXAMPLES))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what transformers warns of while it is imported is its own affair
            import gemma_generation
        with attnc.settings.override(backend="blocked"):
            yield gemma_generation
    finally:
        sys.path.remove(str(EXAMPLES))


def test_the_example_generates_with_what_its_patterns_demand(example: ModuleType, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=120)
    setup = example.Setup(hidden=32, window=12, sinks=2, prompt=30, tokens=8)
    configured, sinks = example.main(setup, console, tmp_path / "cache.png")
    assert [layer.kept for layer in configured.layers] == [11] * 5 + [37]
    assert [layer.kept for layer in sinks.layers] == [11] * 6
    assert set(configured.seconds) == {"attnc", "everything", "library"}
    assert (tmp_path / "cache.png").read_bytes().startswith(b"\x89PNG")
    shown = console.file.getvalue()
    for expected in ("with sinks: 30 tokens", "n - 1 if k < 2 else min(k + 9, n - 1)", "What layer 5 keeps"):
        assert expected in shown


def test_a_position_too_many_and_another_token_are_found(example: ModuleType) -> None:
    layer = example.Layer("n - 1", 7, 7, 0, 0, 0)
    report = example.Report("as configured", [layer], 0.0, {}, [])
    example.check(report, True)
    with pytest.raises(example.DisagreementError, match="layer 0 keeps 8 positions, its pattern demands 7"):
        example.check(replace(report, layers=[replace(layer, kept=8)]), True)
    with pytest.raises(example.DisagreementError, match="the tokens are not the same"):
        example.check(report, False)
    with pytest.raises(example.DisagreementError, match=r"the logits differ by 1.0e-03"):
        example.check(replace(report, difference=1e-3), True)
