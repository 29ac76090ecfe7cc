"""A plain call goes straight to its kernel; whoever looks on, or changes what operators see, gets the operator."""

from __future__ import annotations

import contextlib
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import attnc
from attnc.runtime import op

CAUSAL = attnc.load("causal").causal()


class Watched(Tensor):
    """A subclass that says by which functions it is seen."""

    seen: ClassVar[list[str]] = []

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.seen.append(str(function))
        return super().__torch_function__(function, types, args, kwargs)


class Functions(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


class Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


def inputs() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn((1, 2, 12, 8), generator=generator) for _ in range(3)]


def expected() -> Tensor:
    found: Tensor = CAUSAL.reference(*inputs())
    return found


@pytest.fixture
def dispatched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one at each call that goes through torch's dispatcher."""
    calls: list[int] = []
    usual = op.forward

    def operator(*given: Any) -> Any:
        calls.append(1)
        return usual(*given)

    monkeypatch.setattr(op, "forward", operator)
    return calls


def test_a_plain_call_does_not_ask_the_dispatcher(dispatched: list[int]) -> None:
    torch.testing.assert_close(CAUSAL(*inputs()), expected())
    with torch.no_grad():
        weights = [torch.nn.Parameter(x) for x in inputs()]
        torch.testing.assert_close(CAUSAL(*weights), expected())
    with torch.inference_mode():
        torch.testing.assert_close(CAUSAL(*inputs()), expected())
    with torch.autocast("cpu", torch.bfloat16):
        assert CAUSAL(*inputs()).dtype == torch.bfloat16
    assert dispatched == []


def test_nor_does_one_with_a_derivative(dispatched: list[int]) -> None:
    for seen in ([], [1]):
        for _ in range(2):  # a form that is known and one that is not
            q, k, v = inputs()
            with torch.autograd.forward_ad.dual_level() if seen else contextlib.nullcontext():
                out = CAUSAL(q.requires_grad_(), k, v)
            out.sum().backward()
            gradient, q.grad = q.grad, None
            assert gradient is not None
            CAUSAL.reference(q, k, v).sum().backward()
            torch.testing.assert_close(gradient, q.grad)
        assert dispatched == seen * 2


def test_whoever_looks_on_sees_the_operator() -> None:
    with Operators() as operators:
        torch.testing.assert_close(CAUSAL(*inputs()), expected())
    assert "attnc.forward.default" in operators.seen
    with Functions() as functions:
        CAUSAL(*inputs())
    assert any("attnc" in name for name in functions.seen)
    q, k, v = inputs()
    Watched.seen.clear()
    CAUSAL(q.as_subclass(Watched), k, v)
    assert any("attnc" in name for name in Watched.seen)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        CAUSAL(*inputs())
    assert "attnc::forward" in {event.name for event in profile.events()}


def test_a_view_of_negated_memory_is_resolved(dispatched: list[int]) -> None:
    q, k, v = inputs()
    negated = torch._neg_view(-q)  # as of a conjugate's imaginary part
    assert negated.is_neg()
    torch.testing.assert_close(CAUSAL(negated, k, v), expected())
    assert dispatched == [1]


def test_a_traced_call_keeps_the_operator() -> None:
    traced = make_fx(lambda q, k, v: CAUSAL(q, k, v))(*inputs())
    assert "attnc.forward" in traced.code
