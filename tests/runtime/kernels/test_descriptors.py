"""Loads by descriptors: equal to those by pointers, and only where a tensor can be described."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attnc.runtime.triton.descriptors import aligned, describable, described

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.long
def test_descriptors_and_pointers_give_the_same() -> None:
    """In a process of its own, because the interpreter is chosen once for a process."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.triton.described"],
        cwd=ROOT, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert not {name: fault for name, fault in json.loads(done.stdout).items() if fault}


def test_what_can_be_described() -> None:
    x = torch.zeros(2, 3, 5, 16, dtype=torch.float16)
    assert describable(x, x.transpose(1, 2), x[:, :1], x[:, :, ::2], x[..., :8])
    assert not describable(x[:0])
    assert not describable(x, x.mT)
    assert not describable(x[:, :1].expand(2, 3, 5, 16))
    assert not describable(torch.zeros(1, 1, 5, 20, dtype=torch.float16)[..., :16])
    assert describable(torch.zeros(5, 4, 1, 20, dtype=torch.float16)[:1, :1, :, :16])
    assert aligned(x, x[:, :, 1:])
    assert not aligned(x, x[..., 4:])


def test_a_descriptor_says_where_a_tensor_lies() -> None:
    pytest.importorskip("triton", reason="descriptors are Triton's")
    x = torch.zeros(1, 3, 5, 24, dtype=torch.float16)[..., :16]
    found = described(x, (1, 1, 64, 16))
    assert found.base is x
    assert (found.shape, found.strides, found.block_shape) == ([1, 3, 5, 16], [8, 120, 24, 1], [1, 1, 64, 16])
    assert found.padding == "zero"
