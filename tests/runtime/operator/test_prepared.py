"""Calls of a known form go from their arguments to the kernel: when they do, when they may not, and what they give."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import attnc
from attnc.runtime import prepared
from attnc.runtime.base.configuration import settings
from attnc.runtime.cpp.arguments import PreparedBackwardCall, PreparedCall
from tests.runtime.operator.test_op import needs_compiler

CAUSAL = attnc.load("causal").causal()
WINDOW = attnc.load("window").causal_window(size=9)
pytestmark = needs_compiler


def inputs(m: int = 5, n: int = 40, *, grad: bool = False, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((2, 3, t, 8), generator=generator, requires_grad=grad) for t in (m, n, n)]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by ``forward`` or ``backward`` at each pass that was ready. Nothing is at the beginning."""
    monkeypatch.setattr(prepared, "_forward", {})
    monkeypatch.setattr(prepared, "_backward", {})
    found: list[str] = []
    for kind, name in ((PreparedCall, "forward"), (PreparedBackwardCall, "backward")):
        usual: Any = kind.run

        def run(self: Any, *given: Any, usual: Any = usual, name: str = name) -> Any:
            found.append(name)
            return usual(self, *given)

        monkeypatch.setattr(kind, "run", run)
    return found


def test_the_second_call_of_a_form_is_ready(ran: list[str]) -> None:
    for number in range(3):
        q, k, v = inputs(20, 40, seed=number)
        torch.testing.assert_close(WINDOW(q, k, v, q_start=7), WINDOW.reference(q, k, v, q_start=7))
        assert ran == ["forward"] * number
    WINDOW(*inputs(20, 40), q_start=8)  # another position
    WINDOW(*inputs(21, 40), q_start=7)
    CAUSAL(*inputs(20, 40), q_start=7)
    assert len(ran) == 2


def test_few_rows_are_ready_for_any_length_and_position(ran: list[str]) -> None:
    cache = torch.randn(2, 2, 3, 300, 8)
    for m in (1, 4, 16):
        for position in (0, 1, 17, 63, 64, 200, 300 - m):
            q, k, v = inputs(m)[0], *cache[:, :, :, : position + m]
            for attend in (CAUSAL, WINDOW):
                expected = attend.reference(q, k, v, q_start=position, return_lse=True)
                torch.testing.assert_close(attend(q, k, v, q_start=position, return_lse=True), expected)
    assert len(ran) == 3 * 7 * 2 - 6
    far = 2**17  # farther than the first plan serves
    k, v = torch.randn(2, 1, 1, far + 5, 8)
    for position in (3, far, far + 4):
        q = torch.randn(1, 1, 1, 8)
        torch.testing.assert_close(WINDOW(q, k, v, q_start=position), WINDOW.reference(q, k, v, q_start=position))


def test_gradients_are_ready_too(ran: list[str]) -> None:
    for number in range(3):
        for m, position in ((1, 30), (5, 30), (30, 10)):
            found = []
            for attend in (WINDOW, WINDOW.reference):
                q, k, v = inputs(m, grad=True, seed=number)
                out, lse = attend(q, k, v, q_start=position, return_lse=True)
                (out.square().sum() + lse.sum()).backward()
                found.append([q.grad, k.grad, v.grad])
            torch.testing.assert_close(*found, atol=2e-5, rtol=2e-5)
    assert ran.count("backward") == 6


def test_expanded_gradients_and_those_of_the_log_sum_exp_alone(ran: list[str]) -> None:
    for _ in range(2):
        for which in (0, 1):
            found = []
            for attend in (CAUSAL, CAUSAL.reference):
                q, k, v = inputs(30, grad=True)
                attend(q, k, v, return_lse=True)[which].sum().backward()
                found.append([q.grad, k.grad, v.grad if which == 0 else None])
            torch.testing.assert_close(*found, atol=2e-5, rtol=2e-5)
    assert "backward" in ran


def test_second_derivatives_and_changes_in_place_are_errors(ran: list[str]) -> None:
    for _ in range(2):
        q, k, v = inputs(grad=True)
        (dq,) = torch.autograd.grad(CAUSAL(q, k, v).sum(), q, create_graph=True)
        with pytest.raises(RuntimeError, match="no second derivatives"):
            dq.sum().backward()
        q, k, v = inputs(grad=True)
        out = CAUSAL(q * 1, held := k * 1, v)
        held.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            out.sum().backward()
    assert ran


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(dtype: torch.dtype, ran: list[str]) -> None:
    for _ in range(2):
        q, k, v = (x.detach().to(dtype).requires_grad_() for x in inputs(20))
        out = WINDOW(q, k, v, q_start=20)
        out.sum().backward()
        wide = [x.detach().double().requires_grad_() for x in (q, k, v)]
        expected = WINDOW.reference(*wide, q_start=20)
        expected.sum().backward()
        close = {"atol": 1e-10, "rtol": 1e-10} if dtype == torch.float64 else {"atol": 0.05, "rtol": 0.05}
        torch.testing.assert_close(out.double(), expected, **close)
        for ours, theirs in zip((q, k, v), wide, strict=True):
            assert ours.grad is not None
            assert theirs.grad is not None
            assert ours.grad.dtype == dtype
            torch.testing.assert_close(ours.grad.double(), theirs.grad, **close)
    assert ran == ["forward", "backward"]


def test_what_a_ready_call_may_not_pass_by(ran: list[str]) -> None:
    q, k, v = inputs()
    CAUSAL(q, k, v), CAUSAL(q, k, v)
    assert ran == ["forward"]
    with torch.autocast("cpu", torch.bfloat16):
        assert CAUSAL(q, k, v).dtype == torch.bfloat16
    with settings.override(backend="blocked"):
        before = attnc.launches().get("blocked.forward", 0)
        CAUSAL(q, k, v)
        assert attnc.launches()["blocked.forward"] == before + 1
    for wrong in ({"q_start": -1}, {"k_start": -1}, {"dropout": 2.0}, {"tables": 3}, {"q_start": 2**63}):
        with pytest.raises((TypeError, ValueError)):
            CAUSAL(q, k, v, **wrong)
    for odd in (k[:, :, :, :7], k[:, :2], k[:1], k.double()):
        with pytest.raises((TypeError, ValueError)):
            CAUSAL(q, odd, v)
    torch.func.vmap(CAUSAL)(q[None], k[None], v[None])
    torch.func.grad(lambda q: CAUSAL(q, k, v).sum())(q)
    assert ran == ["forward"]
    expected = CAUSAL.reference(q, k, v, scale=2.0)
    torch.testing.assert_close(CAUSAL(q, k, v, scale=2.0), expected)
    assert CAUSAL(q, k, v, dropout=0.5, seed=1).shape == q.shape
    assert ran == ["forward"]
    with torch.inference_mode():
        CAUSAL(q, k, v)
    assert ran == ["forward"] * 2


def test_strides_of_each_call_are_its_own(ran: list[str]) -> None:
    whole = torch.randn(2, 2, 60, 3, 8)  # as a cache that is batch, tokens, heads, features
    for n in (20, 40, 60):
        k, v = whole[:, :, :n].transpose(2, 3)
        for m in (1, 18):
            q = inputs(m)[0]
            torch.testing.assert_close(CAUSAL(q, k, v, q_start=n - m), CAUSAL.reference(q, k, v, q_start=n - m))
            q = torch.randn(2, m, 3, 8).transpose(1, 2)
            torch.testing.assert_close(CAUSAL(q, k, v, q_start=n - m), CAUSAL.reference(q, k, v, q_start=n - m))
    reversed_last = torch.randn(2, 3, 8, 20).transpose(2, 3)
    for _ in range(2):
        q = inputs(1)[0]
        torch.testing.assert_close(
            CAUSAL(q, reversed_last, reversed_last, q_start=19),
            CAUSAL.reference(q, reversed_last, reversed_last, q_start=19),
        )


def test_threads_share_what_is_ready(ran: list[str]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    cache = torch.randn(2, 2, 3, 300, 8)
    WINDOW(inputs(1)[0], *cache[:, :, :, :10], q_start=9)

    def step(position: int) -> bool:
        q, (k, v) = inputs(1, seed=position)[0], cache[:, :, :, : position + 1]
        return torch.allclose(WINDOW(q, k, v, q_start=position), WINDOW.reference(q, k, v, q_start=position), atol=1e-5)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(step, range(300)))


def test_prepare_settles_scale_and_tables() -> None:
    attend = attnc.loads(
        "attention p(slope: float[head]) { mask = causal_window(40)  score = s + slope[head] * (k - q) }"
    )
    cache, slope = torch.randn(2, 2, 3, 300, 8), torch.rand(3)
    kept = slope.clone()
    step = attend.p().prepare(inputs(1)[0], *cache[:, :, :, :10], scale=0.3, q_start=9, slope=slope)
    assert step.ready
    slope.zero_()  # copied before
    for position in (9, 10, 64, 299, 0):
        q, k, v = inputs(1, seed=position)[0], *cache[:, :, :, : position + 1]
        expected = attend.p().reference(q, k, v, scale=0.3, q_start=position, slope=kept, return_lse=True)
        torch.testing.assert_close(step(q, k, v, q_start=position, return_lse=True), expected)
    q, k, v = inputs(1)[0], *cache[:, :, :, :10]
    torch.testing.assert_close(step(q, k, v), attend.p().reference(q, k, v, scale=0.3, q_start=9, slope=kept))


def test_prepare_for_one_length_and_calls_of_other_forms() -> None:
    q, k, v = inputs(40, 40)
    step = CAUSAL.prepare(q, k, v)
    assert step.ready
    for m, n, start in ((40, 40, 0), (40, 50, 0), (20, 40, 0), (40, 50, 10), (1, 40, 39)):
        q, k, v = inputs(m, n)
        torch.testing.assert_close(step(q, k, v, q_start=start), CAUSAL.reference(q, k, v, q_start=start))
    starts = torch.tensor([3, 7])
    torch.testing.assert_close(step(q, k, v, q_start=starts), CAUSAL.reference(q, k, v, q_start=starts))
    q.requires_grad_()
    step(q, k, v, q_start=39).sum().backward()
    assert q.grad is not None
    with torch.autocast("cpu", torch.bfloat16):
        assert step(q, k, v, q_start=39).dtype == torch.bfloat16
    assert torch.func.vmap(step)(q[None], k[None], v[None]).shape == (1, *q.shape)


def test_prepare_refuses_what_a_call_refuses() -> None:
    q, k, v = inputs(1)
    with pytest.raises(TypeError, match="slope"):
        CAUSAL.prepare(q, k, v, slope=torch.rand(3))
    with pytest.raises(ValueError, match="k: has shape"):
        CAUSAL.prepare(q, k[0], v)
    with pytest.raises(TypeError, match="q: is int"):
        CAUSAL.prepare(3, k, v)  # type: ignore[arg-type]
    step = CAUSAL.prepare(q, k, v)
    with pytest.raises(TypeError, match="k: is NoneType"):
        step(q, None, v)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="q_start: is -1"):
        step(q, k, v, q_start=-1)


@pytest.mark.parametrize(
    "text", ["pattern p = causal_window(8) if head == 0 else strided(7)", "pattern p = strided(5)"]
)
def test_prepare_adds_several_kernels_up(text: str) -> None:
    attend = attnc.loads(text).p()
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = (x.to(dtype) for x in inputs(1, 200))
        expected = attend.reference(q.double(), k.double(), v.double(), q_start=199)
        found = attend.prepare(q, k, v, q_start=199)(q, k, v)
        torch.testing.assert_close(found.double(), expected, atol=0.02, rtol=0.02)


def test_prepare_loses_no_gradient_and_no_position() -> None:
    attend = attnc.loads("attention p(b: float[head]) { mask = causal  score = s + b[head] }").p()
    q, k, v = inputs(1)
    with pytest.raises(ValueError, match="b: requires a gradient, which a prepared call does not give"):
        attend.prepare(q, k, v, b=torch.rand(3, requires_grad=True))
    for name in ("dropout", "n", "return_lse"):
        with pytest.raises(TypeError, match=f"{name}: is not settled by prepare"):
            CAUSAL.prepare(q, k, v, **{name: 1})
    for starts in (torch.tensor([3, 20]), np.array([3, 20]), [3, 20]):
        step = CAUSAL.prepare(q, k, v, q_start=starts)
        starts[0] = 30
        torch.testing.assert_close(step(q, k, v), CAUSAL.reference(q, k, v, q_start=[3, 20]))
    assert copy.deepcopy(step) is step
    assert "ready" in repr(step)
    with pytest.raises(TypeError, match="pickle the attention"):
        pickle.dumps(step)


@pytest.mark.parametrize("start", [2**33 - 1, 2**33, 2**36 + 64, 2**38, 2**40, 2**62 - 40])
def test_rows_that_are_far_from_all_keys(start: int) -> None:
    """As in a cache of which only the first keys are there."""
    for m in (1, 3, 17):
        q, k, v = inputs(m, 8)
        for attend in (CAUSAL, attnc.load("full").full(), attnc.load("strided").strided(5)):
            expected = attend.reference(q, k, v, q_start=start, return_lse=True)
            for backend in ("cpp", "blocked"):
                with settings.override(backend=backend):
                    torch.testing.assert_close(attend(q, k, v, q_start=start, return_lse=True), expected)
        assert CAUSAL.plan(8, m, q_start=start).pairs == 8 * m


@pytest.mark.parametrize("mask", ["(q * k + k) % 7 < 3", "hash(q) % 5 <= k % 5", "k < n - q", "q == 3 * k or k == 0"])
def test_few_rows_of_what_no_shift_preserves(mask: str) -> None:
    """Their plan is right for one position and one length."""
    attend = attnc.loads(f"pattern p = {mask}").p()
    for m in (1, 5):
        for n, start in ((8, 0), (8, 3), (200, 0), (200, 17), (200, 130), (8, 3), (300, 200)):
            q, k, v = inputs(m, n, seed=start)
            found = attend(q, k, v, q_start=start, return_lse=True)
            torch.testing.assert_close(found, attend.reference(q, k, v, q_start=start, return_lse=True))


def test_a_change_of_any_setting_is_another_form(ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = inputs(20, 40)
    WINDOW(q, k, v), WINDOW(q, k, v)
    with monkeypatch.context() as changed:
        changed.setenv("ATTNC_BUILD_SECONDS", "599")
        WINDOW(q, k, v)
    with settings.override(verify=True):
        WINDOW(q, k, v)
    assert ran == ["forward"]
    WINDOW(q, k, v)
    assert ran == ["forward"] * 2
