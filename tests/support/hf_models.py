"""Tiny models of transformers with random weights, drawn wide enough that attention moves every output."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnc

logging.getLogger("transformers").setLevel(logging.ERROR)


def drawn(make: Callable[[Any], nn.Module], config: Any, seed: int, dtype: torch.dtype = torch.float32) -> Any:
    """A model, in eval mode, whose matrices are drawn with a deviation of 1 / sqrt(inputs), and biases with 0.1."""
    torch.manual_seed(seed)
    model = make(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
            elif parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@dataclass(frozen=True)
class Run:
    """Outputs and gradients of one pass."""

    output: Tensor
    gradients: Mapping[str, Tensor]


def run(model: nn.Module, inputs: Mapping[str, Any], real: Tensor, output: str = "last_hidden_state") -> Run:
    """A pass forward and backward; the loss reads the rows of ``real`` tokens, bool ``[batch, n]``, alone."""
    model.zero_grad(set_to_none=True)
    out = getattr(model(**inputs), output)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(5)).to(out) * real[..., None]
    (out * weight).sum().backward()
    gradients = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    return Run((out * real[..., None]).detach(), gradients)


def distance(found: Tensor, expected: Tensor) -> float:
    """The largest difference, by the largest entry that is expected."""
    found, expected = found.detach(), expected.detach()
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def assert_equal(found: Run, expected: Run, output: float = 5e-6, gradients: float = 1e-4) -> None:
    """Outputs and gradients within bounds relative to the largest; gradients that are missing must be zero."""
    assert found.output.isfinite().all()
    assert distance(found.output, expected.output) <= output
    largest = max(float(one.abs().max()) for one in expected.gradients.values())
    assert found.gradients.keys() <= expected.gradients.keys()
    for name, wanted in expected.gradients.items():
        got = found.gradients.get(name, torch.zeros_like(wanted))
        scale = max(float(wanted.abs().max()), 1e-3 * largest)
        assert float((got - wanted).abs().max()) <= gradients * scale, name


@pytest.fixture(autouse=True)
def without_builds() -> Iterator[None]:
    """Tests that import it run on the executor that builds nothing, on one thread: their tensors are small, and which
    kernel runs is not what they judge.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with attnc.settings.override(backend="blocked"):
        yield
    torch.set_num_threads(threads)
