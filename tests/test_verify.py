"""ATTNC_VERIFY finds a schedule that is wrong, and lets right ones pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import attnc
from attnc.compiler.plan import EMPTY, FULL, PARTIAL, Runs
from attnc.runtime import planning, verify
from attnc.runtime.settings import settings

MODULE = attnc.loads("""
pattern near = abs(q - k) <= 70
pattern twice = (k <= q) + near
pattern documents_of(doc: int[token]) = doc[q] == doc[k]
pattern by_head(reach: int[head]) = 0 <= q - k and q - k <= reach[head]
attention learned(w: float[token]) { mask = k <= q   score = s + w[k] }
""")


@pytest.fixture(autouse=True)
def verifying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_plans", planning.Kept(8))


def test_right_schedules_pass() -> None:
    n = 300
    with settings.override(verify=True):
        MODULE.near().plan(n)
        MODULE.twice().plan(n, 100, q_start=150)
        MODULE.documents_of().plan(n, doc=torch.arange(2 * n).reshape(2, n) // 40)
        MODULE.by_head().plan(n, reach=torch.tensor([3, 200]))
        MODULE.learned().plan(n, w=torch.zeros(n))
        MODULE.near().plan(n, 0)
        MODULE.near().plan(0, 0)


def _changed(runs: Runs, was: int, becomes: int) -> Runs:
    """The same runs, the first of one kind made another."""
    kind = runs.kind.copy()
    kind[np.flatnonzero(kind == was)[0]] = becomes
    return replace(runs, kind=kind)


@pytest.mark.parametrize(
    ("name", "was", "becomes", "message"),
    [
        ("near", PARTIAL, FULL, "called full lacks a pair"),
        ("near", PARTIAL, EMPTY, "called empty holds a pair"),
        ("near", FULL, EMPTY, "called empty holds a pair"),
        ("twice", PARTIAL, FULL, "called full lacks a pair or counts one twice"),
    ],
)
def test_wrong_schedules_are_found(
    monkeypatch: pytest.MonkeyPatch, name: str, was: int, becomes: int, message: str
) -> None:
    right = MODULE[name]().plan(64 if name == "twice" else 300).schedule
    by_query = _changed(right.by_query, was, becomes)
    wrong = replace(right, by_query=by_query)
    extent = attnc.compiler.extent.Extent(n=right.n, m=right.m)
    program = MODULE[name]().plan(right.n).program
    with pytest.raises(verify.ScheduleFaultError, match="forward and backward visit different tiles"):
        verify.verify_schedule(program, wrong, extent, ())
    monkeypatch.setattr(verify, "_kinds", lambda s, runs, forth, kinds=verify._kinds: (
        kinds(wrong, wrong.by_query, True) if forth else kinds(wrong, wrong.by_query, True).swapaxes(-1, -2)
    ))  # fmt: skip
    with pytest.raises(verify.ScheduleFaultError, match=message):
        verify.verify_schedule(program, wrong, extent, ())


def test_a_call_verifies_its_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(planning, "verify_schedule", lambda *x: seen.append(x))
    q = torch.zeros(1, 1, 20, 8)
    with settings.override(backend="blocked"):
        MODULE.near()(q, q, q)
        assert not seen
        with settings.override(verify=True):
            MODULE.near()(q[:, :, :10], q, q)
    assert len(seen) == 1
