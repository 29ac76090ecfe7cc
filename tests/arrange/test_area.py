"""What the orders are worth: keys computed for each query at n = 65,536, never more than in natural order."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from attnc.compiler.arrange.search import arrange
from attnc.compiler.plan.orders import Tiles

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LENGTH = 65536
# Of the benchmark's patterns: natural order in tiles of 128 by 128, and the most that a plan may compute.
MOST = {
    "causal": (32832, 32832),
    "window of 1,025": (1147, 1147),
    "Longformer, 512, three global positions": (893, 670),
    "window, dilation 4": (2158, 640),
    "window, dilation 2": (1147, 640),
    "BigBird, blocks of 64": (1395, 515),
    "every third block, causal": (32832, 11100),
    "13 by 13 on a grid 256 wide": (3286, 560),
    "LongNet": (32832, 2650),
    "fixed(256, 8)": (16512, 1230),
    "strided(256)": (16576, 580),
    "causal window of 1,024, four sinks": (1269, 1160),
    "packed documents, causal": (2234, 2200),
}


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    """The script as it is when it is run: its own folder comes first on the path."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import area

        yield area
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("title", MOST)
def test_a_plan_computes_no_more_keys_than_it_may(benchmark: ModuleType, title: str) -> None:
    (published,) = (each for each in benchmark.PUBLISHED if each.title == title)
    attention = published.attention(LENGTH)
    wide = Tiles(128, 128)
    natural, most = MOST[title]
    found = benchmark.area(arrange(attention, Tiles(64, 64)), published, LENGTH)
    assert found <= most
    if title not in ("every third block, causal", "strided(256)"):  # their natural order has a run for each tile
        plain = benchmark.area(benchmark.in_natural_order(attention, wide), published, LENGTH)
        assert round(plain) == natural
        assert found <= plain


def test_every_pattern_of_the_benchmark_is_held_to_something(benchmark: ModuleType) -> None:
    assert {published.title for published in benchmark.PUBLISHED} == set(MOST)


@pytest.mark.parametrize("title", ["Longformer, 512, three global positions", "fixed(256, 8)"])
def test_blocks_of_flex_attention_are_those_of_natural_order(benchmark: ModuleType, title: str) -> None:
    (published,) = (each for each in benchmark.PUBLISHED if each.title == title)
    row = benchmark.measure(published, 1024, 1024)
    assert row.flex == row.natural == row.dense_natural
    assert row.area < row.natural
