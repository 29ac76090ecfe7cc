"""Judges the benchmark of whole models: what its free attention leaves, how it compares, and what it makes of times."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import attnc

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = ("longformer", "bigbird", "reformer", "mistral")


@pytest.fixture(scope="module")
def models() -> Iterator[ModuleType]:
    """The script as it is when it is run: its own folder comes first on the path."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import models

        yield models
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("name", NAMES)
def test_free_attention_runs_no_kernel_and_leaves_everything_else(models: ModuleType, name: str) -> None:
    """It has the output's shape, and every parameter that learns still does. As attention it is wrong, and found so."""
    torch.manual_seed(0)
    system = models.SYSTEMS[name](models.small(models.Sizes()))
    before = dict(attnc.launches())
    for part in system.parts:
        sides = models.sides(system, part)
        own, free = sides[models.OWN], sides[models.FREE]
        weight = torch.randn_like(part.forward(own.module))
        with pytest.raises(ValueError, match=f"{system.name}, {part.name}: outputs differ by"):
            models.compare(system, part, own, free, weight)
        learning = [{name for name, each in s.module.named_parameters() if each.grad is not None} for s in (own, free)]
        assert learning[0] == learning[1] != set()
        models.compare(system, part, own, own, weight)
    assert dict(attnc.launches()) == before


def test_ratios_are_of_rounds(models: ModuleType) -> None:
    torch.manual_seed(0)
    system = models.SYSTEMS["mistral"](models.small(models.Sizes()))
    times = {
        models.OWN: models.Times([4.0, 9.0, 6.0], [8.0, 1.0, 2.0]),
        models.ATTNC: models.Times([2.0, 3.0, 1.0], [2.0, 1.0, 1.0]),
        models.FREE: models.Times([1.0, 1.0, 0.5], [1.0, 0.5, 0.5]),
    }
    forward, backward, both = models.rows(system, system.parts[0], times, models.Difference(1e-7, 2e-7))
    assert [row.direction for row in (forward, backward, both)] == ["forward", "backward", "both"]
    assert (forward.transformers, forward.attnc) == (6.0, 2.0)
    assert (forward.ratio, forward.limit, forward.rest) == (3.0, 9.0, 0.5)
    assert (backward.ratio, both.ratio, both.limit) == (2.0, 3.0, pytest.approx(10 / 1.5))
    assert (forward.asked, backward.asked, both.asked) == (2, None, 2.5)


def test_the_figures_that_are_kept_are_of_every_part(models: ModuleType) -> None:
    kept = json.loads((BENCHMARKS / "results" / "models.json").read_text())
    sizes = models.Sizes(**kept["sizes"])
    assert (sizes, kept["rounds"], kept["settings"]["threads"]) == (models.Sizes(), 5, 2)
    assert tuple(models.SYSTEMS) == NAMES
    systems = [models.SYSTEMS[name](models.small(sizes)) for name in NAMES]
    parts = [
        (system.name, part, direction) for system in systems for part in system.parts for direction in models.PASSES
    ]
    assert [(row["system"], row["part"], row["direction"], row["asked"]) for row in kept["rows"]] == [
        (name, part.name, direction, part.asked.get(direction)) for name, part, direction in parts
    ]
    bounds = {system.name: system.bound for system in systems}
    assert all(max(row["output"], row["gradient"]) <= bounds[row["system"]] for row in kept["rows"])
    assert all(len(each) == 5 for row in kept["rows"] for each in row["seconds"].values())
