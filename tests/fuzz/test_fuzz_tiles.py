"""A sample of the campaign over tiles, and whether it would notice a wrong schedule."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from attnc.compiler.analysis.classify import Boxes, Classifier, TileKinds
from attnc.compiler.plan.orders import EMPTY, FULL, PARTIAL, Gathered, Sorted, View
from attnc.compiler.schedule import periodic, strategies
from tests.fuzz import tiles as fuzz_tiles
from tests.fuzz.tiles import Batch
from tests.support.generators.random_orders import OrderGenerator

SAMPLE = 2_000_000  # seeds that a run begun at random is not likely to draw


@pytest.mark.parametrize("seed", range(SAMPLE, SAMPLE + 16))
def test_a_thousand_random_tiles_are_sound(seed: int) -> None:
    assert fuzz_tiles.fault(Batch(seed)) is None


def test_every_order_and_every_way_is_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: Counter[str] = Counter()

    def counted(module: Any, name: str) -> None:
        usual = getattr(module, name)

        def way(*arguments: Any, **settings: Any) -> Any:
            found = usual(*arguments, **settings)
            taken[name] += found is not None
            return found

        monkeypatch.setattr(module, name, way)

    every = (
        "_line",
        "_repeated_template",
        "compared",
        "_listed",
        "_by_lanes",
        "_union",
        "_intersection",
        "_subdivided",
    )
    for name in every:
        counted(strategies, name)
    counted(periodic, "bounds")
    aligned = 0
    for seed in range(SAMPLE, SAMPLE + 200):
        ordered = OrderGenerator(seed).ordered()
        kernel = ordered.program.kernels[0]
        for order in (kernel.rows, kernel.segments[0].keys):
            taken[type(order).__name__] += 1
        aligned += isinstance(kernel.rows, View) and kernel.rows.classes > 1
        assert fuzz_tiles.judged(ordered)[0] is None
    assert min(taken[name] for name in (*every, "bounds", View.__name__, Gathered.__name__, Sorted.__name__)) > 2
    assert aligned > 10


@pytest.mark.parametrize("kind", [EMPTY, FULL], ids=["called empty", "called full"])
def test_a_wrong_kind_is_noticed(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some tiles of which only a part holds are called something else."""
    usual = Classifier.classify

    def wrong(self: Classifier, boxes: Boxes) -> TileKinds:
        kinds = usual(self, boxes).copy()
        kinds[::7] = np.where(kinds[::7] == PARTIAL, kind, kinds[::7])
        return kinds

    monkeypatch.setattr(Classifier, "classify", wrong)
    periodic.forget()
    try:
        assert any(fuzz_tiles.fault(Batch(seed)) for seed in range(SAMPLE, SAMPLE + 4))
    finally:
        periodic.forget()
