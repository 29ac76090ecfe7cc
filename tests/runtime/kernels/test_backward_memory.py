"""What the C++ backward pass takes beyond its inputs and results: no more than it was given, whatever the length."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor

import attnc
from attnc.runtime.base import settings
from attnc.runtime.cpp import executor

MEASURED = """
import sys
import torch
import attnc
from attnc.runtime.cpp import executor
from examples.peak_memory import peak_memory

heads, head_dim, n, room = 12, 64, 8192, int(sys.argv[1])
torch.set_num_threads(2)
module = attnc.loads('''
pattern near = window(513)
pattern longformer(g: tokens) = window(513) or q in g or k in g
''')
given = {"near": {}, "longformer": {"g": {0, 900, 5000}}}[sys.argv[2]]
attend = module[sys.argv[2]]()

def backward(n):
    q, k, v = (torch.randn(1, heads, n, head_dim, requires_grad=True) for _ in range(3))
    out = attend(q, k, v, **given)
    gradient = torch.ones_like(out)
    with peak_memory() as peak:
        out.backward(gradient)
    return None if peak.bytes is None else peak.bytes - 3 * q.nbytes

backward(1024)  # loads libraries and starts threads
executor.ROOM = room
print(backward(n))
"""
MIB = 2**20


def beyond(name: str, room: int) -> int:
    """Bytes that a backward pass of 8,192 tokens and 12 heads took at its most, beyond inputs and results."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(room), name], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = done.stdout.split()[-1]
    if found == "None":
        pytest.skip("this system does not tell the most memory that a process held")
    return int(found)


@pytest.mark.parametrize("name", ["near", "longformer"])
def test_a_backward_pass_takes_no_more_than_its_room(name: str) -> None:
    assert executor.ROOM == 64 * MIB
    most = beyond(name, executor.ROOM)
    assert 40 * MIB < most <= 64 * MIB, "private sums fill the room, and all else has its place in it"
    assert beyond(name, 24 * MIB) <= 24 * MIB


def test_room_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Private sums are added in one order, however many of them there are at once, and on however many threads."""
    attend = attnc.loads("pattern p = causal_window(40) or k < 3").p()
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, 300, 16, generator=generator) for _ in range(3))

    def gradients() -> list[Tensor]:
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        return list(torch.autograd.grad(attend(*leaves).square().sum(), leaves))

    threads = torch.get_num_threads()
    with settings.override(optimisation=0):
        whole = gradients()
        try:
            for room in (0, 2**16, 2**18):
                monkeypatch.setattr(executor, "ROOM", room)
                for count in (1, 2):
                    torch.set_num_threads(count)
                    assert all(torch.equal(*pair) for pair in zip(gradients(), whole, strict=True)), (room, count)
        finally:
            torch.set_num_threads(threads)


def test_ready_calls_keep_no_memory_for_results() -> None:
    attend = attnc.load("causal").causal()
    q, k, v = (torch.randn(1, 2, 64, 16, requires_grad=True) for _ in range(3))
    with settings.override(optimisation=0):
        for _ in range(2):
            attend(q, k, v).sum().backward()
    from attnc.runtime import prepared

    ready = [*(one.prepared for one in prepared._forward.values()), *prepared._backward.values()]
    held = [x for one in ready for x in vars(one).values() if isinstance(x, Tensor)]
    assert held
    assert all(x.untyped_storage().nbytes() <= 8 for x in held)
