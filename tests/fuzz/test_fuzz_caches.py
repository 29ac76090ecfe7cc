"""A sample of the campaign over what a cache keeps, and whether it would notice a key that is dropped too early."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attnc import cache_plan, last_reader
from attnc.compiler.ir import Const, N, constructors
from attnc.compiler.proofs import last_reader as asked_of_the_worker
from attnc.compiler.proofs.questions import LastReader, ReaderQuestion, Unknown
from tests.fuzz import caches as fuzz_caches

SAMPLE = 4_000_000  # seeds that a run begun at random is not likely to draw


def test_random_masks_lose_no_key_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_caches, "TALLY", fuzz_caches.Tally())
    for seed in range(SAMPLE, SAMPLE + 30):
        assert fuzz_caches.fault(fuzz_caches.generate(seed)) is None, seed
    found = fuzz_caches.TALLY.forms
    assert found["exact"] + found["upper bounds"] >= 0.9 * 30
    assert min(found["exact"], found["upper bounds"], found["bounded for every n"]) >= 3


def _early(question: ReaderQuestion) -> LastReader | Unknown:
    """The answer, but that the last row reads nothing."""
    answer = asked_of_the_worker(question)
    if isinstance(answer, Unknown):
        return answer
    return replace(answer, last=constructors.minimum(answer.last, constructors.add(N, Const(-2))))


def test_a_key_dropped_too_early_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_reader, "last_reader", _early)
    last_reader._found.cache_clear()
    seen = [fuzz_caches.fault(fuzz_caches.generate(seed)) for seed in range(SAMPLE, SAMPLE + 10)]
    last_reader._found.cache_clear()
    assert sum(fault is not None and "expected" in fault for fault in seen) >= 8


def test_a_plan_that_forgets_a_position_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    positions = cache_plan.CachePlan.positions
    monkeypatch.setattr(cache_plan.CachePlan, "positions", lambda plan, p, **given: positions(plan, p, **given)[1:])
    seen = [fuzz_caches.fault(fuzz_caches.generate(seed)) for seed in range(SAMPLE, SAMPLE + 10)]
    assert sum(fault is not None and "are read and not kept" in fault for fault in seen) >= 8
