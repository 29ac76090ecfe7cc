"""What the generator of random programs writes: text that uses all of the language, and masks worth looking at."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.fuzz.masks import bound
from tests.support import coverage
from tests.support.generators.programs import generate

PROGRAMS = 1000
EXAMINED = 300


def test_every_rule_word_type_and_table_kind_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    found: Counter[str] = Counter()
    for seed in range(PROGRAMS):
        found.update(coverage.used(generate(seed).text))
    shares = {feature: found[feature] / PROGRAMS for feature in coverage.required()}
    with capsys.disabled():
        rare = sorted(shares.items(), key=lambda item: item[1])[:8]
        print(f"\n{len(shares)} features in {PROGRAMS} programs; the rarest: " + _listed(rare))
    assert {feature: share for feature, share in shares.items() if share < 0.01} == {}
    assert set(found) <= coverage.required(), "a feature that nobody asked for: is it new in the grammar?"


def test_most_masks_are_neither_empty_nor_full(capsys: pytest.CaptureFixture[str]) -> None:
    empty = full = counted = 0
    for seed in range(EXAMINED):
        mask = bound(generate(seed)).dense()
        empty += not mask.any()
        full += bool(mask.all())
        counted += mask.dtype == np.int64
    between = 1 - (empty + full) / EXAMINED
    with capsys.disabled():
        print(f"\n{EXAMINED} masks: {between:.1%} neither empty nor full, {counted / EXAMINED:.1%} counted")
    assert between >= 0.8
    assert counted / EXAMINED >= 0.05


def test_the_same_seed_gives_the_same_program() -> None:
    for seed in range(20):
        first, second = generate(seed), generate(seed)
        assert (first.text, first.sizes, first.constants) == (second.text, second.sizes, second.constants)
        assert list(first.contents) == list(second.contents)
        for name, contents in first.contents.items():
            np.testing.assert_array_equal(contents.values, second.contents[name].values)


def _listed(shares: list[tuple[str, float]]) -> str:
    return ", ".join(f"{feature} {share:.1%}" for feature, share in shares)
