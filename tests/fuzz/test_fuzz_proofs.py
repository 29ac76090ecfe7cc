"""A sample of the campaign over claims for every n, and whether it would notice a wrong proof."""

from __future__ import annotations

from collections import Counter

import pytest

from attnc.compiler.proofs.questions import Proved
from attnc.compiler.verify import for_all
from tests.fuzz import proofs as fuzz_proofs

SAMPLE = 3_000_000  # seeds that a run begun at random is not likely to draw


def test_random_claims_are_decided_and_rightly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_proofs, "LONGEST", 16)  # the campaign goes to 64
    monkeypatch.setattr(fuzz_proofs, "TALLY", fuzz_proofs.Tally())
    for seed in range(SAMPLE, SAMPLE + 40):
        assert fuzz_proofs.fault(fuzz_proofs.generate(seed)) is None, seed
    found = fuzz_proofs.TALLY.affine
    assert found["proved"] + found["refuted"] >= 0.9 * found.total()
    assert min(found["proved"], found["refuted"]) >= 0.2 * found.total()


def test_a_wrong_proof_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_proofs, "LONGEST", 8)
    monkeypatch.setattr(for_all, "prove", lambda asked: Proved())
    told = Counter(fuzz_proofs.fault(fuzz_proofs.generate(seed)) is None for seed in range(SAMPLE, SAMPLE + 20))
    assert told[False] > 10
