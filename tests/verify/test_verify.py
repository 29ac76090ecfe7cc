"""ATTNC_VERIFY finds a schedule that is wrong, and lets right ones pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import attnc
from attnc.compiler import verify
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.plan.orders import EMPTY, FULL, PARTIAL
from attnc.compiler.plan.schedule import Bounds
from attnc.compiler.verify import schedule_interpreter
from attnc.compiler.verify.schedule_interpreter import ScheduleFaultError
from attnc.runtime import planning
from attnc.runtime.base.configuration import settings

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


def _changed(bounds: Bounds, was: int, becomes: int) -> Bounds:
    """The same runs, the first of one kind made another, or shorter by a tile where it becomes EMPTY."""
    runs = bounds.runs
    kind, length = runs.kind.copy(), runs.length.copy()
    place = np.flatnonzero(kind == was)[0]
    if becomes == EMPTY:
        length[place] -= 1
    else:
        kind[place] = becomes
    return replace(bounds, runs=replace(runs, kind=kind, length=length))


@pytest.mark.parametrize("way", ["by_query", "by_key"])
@pytest.mark.parametrize(
    ("name", "was", "becomes", "message"),
    [
        ("near", PARTIAL, FULL, "called full lacks a pair"),
        ("near", PARTIAL, EMPTY, "ward counts [0-9]+ pairs wrongly; the first, .*, 0 times, not 1"),
        ("near", FULL, EMPTY, "ward counts [0-9]+ pairs wrongly; the first, .*, 0 times, not 1"),
        ("twice", PARTIAL, FULL, "called full lacks a pair or counts one twice"),
    ],
)
def test_wrong_schedules_are_found(name: str, was: int, becomes: int, message: str, way: str) -> None:
    planned = MODULE[name]().plan(300)
    first, *rest = planned.schedule.kernels
    segment = replace(first.segments[0], **{way: _changed(getattr(first.segments[0], way), was, becomes)})
    first = replace(first, segments=(segment, *first.segments[1:]))
    wrong = replace(planned.schedule, kernels=(first, *rest))
    with pytest.raises(ScheduleFaultError, match=message):
        schedule_interpreter.verify_schedule(planned.program, wrong, CallShape(n=300, m=300), ())


def test_a_call_verifies_its_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(verify, "validate", lambda *x: seen.append(x))
    q = torch.zeros(1, 1, 20, 8)
    with settings.override(backend="blocked"):
        MODULE.near()(q, q, q)
        assert not seen
        with settings.override(verify=True):
            MODULE.near()(q[:, :, :10], q, q)
    assert len(seen) == 1
