"""Judges how sums over thousands of keys round in the C++ kernels: what a tile adds is summed by itself first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import attnc

# One key added after the other, the output is 1.6e-6 off and the gradient of the queries 1.1e-5.
BOUNDS = {"output": 8e-7, "q": 6e-6, "k": 1e-6, "v": 1.2e-6}


@pytest.mark.parametrize("condition", ["full", "k != q"], ids=["full tiles", "partial tiles"])
def test_sums_of_many_keys_round_as_sums_of_tiles(condition: str) -> None:
    attention = attnc.loads(f"pattern p = {condition}\n").p()
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, rows, 16) for rows in (1024, 2048, 2048))
    gradient = torch.rand(1, 2, 1024, 16)

    def run(dtype: torch.dtype) -> list[Tensor]:
        given = [x.to(dtype).requires_grad_() for x in (q, k, v + 1)]
        out = attention(*given)
        return [out, *torch.autograd.grad(out, given, gradient.to(dtype))]

    with attnc.settings.override(backend="cpp"):
        found, exact = run(torch.float32), run(torch.float64)
    for (name, bound), mine, wanted in zip(BOUNDS.items(), found, exact, strict=True):
        assert (mine - wanted).abs().max() <= bound * wanted.abs().max(), name
