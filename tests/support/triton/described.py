"""Kernels that load by descriptors, in Triton's interpreter: against the same call by pointers, and the definition.

`python -m tests.support.triton.described` prints one line of JSON: for each check what is wrong, or nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

if __name__ == "__main__":
    os.environ["ATTNC_INTERPRET"] = "1"

import torch
from torch import Tensor

import attnc
from attnc.attention import Attention
from attnc.runtime.triton import descriptors, executor
from tests.support.triton.told import tell

Inputs = tuple[Tensor, Tensor, Tensor]


@contextmanager
def counted() -> Iterator[list[tuple[int, ...]]]:
    """The blocks of all descriptors that launches get."""
    found: list[tuple[int, ...]] = []

    def described(tensor: Tensor, block: tuple[int, ...]) -> Any:
        found.append(block)
        return descriptors.described(tensor, block)

    with patch.object(executor, "described", described):
        yield found


def by_pointers() -> Any:
    """While it holds, no tensor begins where a descriptor may."""
    return patch.object(executor, "aligned", lambda *_: False)


def inputs(
    shape: tuple[int, int, int, int], keys: tuple[int, int], value_dim: int | None = None, interleaved: bool = False
) -> Inputs:
    """Queries of ``shape``, and ``keys``: their heads and tokens. ``interleaved``: heads lie within tokens."""
    batch, heads, m, dim = shape

    def made(heads: int, tokens: int, features: int) -> Tensor:
        if interleaved:
            return torch.randn(batch, tokens, heads, features).half().transpose(1, 2).requires_grad_()
        return torch.randn(batch, heads, tokens, features).half().requires_grad_()

    return made(heads, m, dim), made(keys[0], keys[1], dim), made(keys[0], keys[1], value_dim or dim)


def results(attend: Attention, given: Inputs, more: Mapping[str, Any], summed: bool = False) -> tuple[Tensor, ...]:
    out = attend(*given, **more)
    assert isinstance(out, Tensor)
    grad = torch.linspace(-1, 1, out.numel()).reshape(out.shape).half()
    loss = out.sum() if summed else (out * grad).sum()
    return (out.detach(), *torch.autograd.grad(loss, given))


def same(attend: Attention, given: Inputs, described: bool = True, summed: bool = False, **more: Any) -> None:
    """Results by descriptors, if ``described``, equal those by pointers and the definition's."""
    with counted() as blocks:
        found = results(attend, given, more, summed)
    assert bool(blocks) == described, blocks
    with by_pointers(), counted() as blocks:
        again = results(attend, given, more, summed)
    assert not blocks
    for one, other in zip(found, again, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3)
    exact = attend.reference(*(x.detach().double() for x in given), **more)
    torch.testing.assert_close(found[0].double(), exact, rtol=4e-3, atol=4e-3)


def of(file: str, name: str, **constants: Any) -> Attention:
    found = getattr(attnc.load(file), name)(**constants)
    assert isinstance(found, Attention)
    return found


def documents() -> None:
    """A condition that reads a table has kernels of other warps."""
    same(of("documents", "causal_documents"), inputs((1, 1, 150, 32), (1, 150)), doc=torch.arange(150) // 45)


def misaligned() -> None:
    """Tensors that begin, or whose rows lie, where no descriptor may."""
    attend = of("causal", "causal")
    q, k, v = inputs((1, 2, 70, 32), (2, 70))
    apart = torch.zeros(k.numel() + 4, dtype=torch.float16)[4:].view(k.shape).copy_(k.detach()).requires_grad_()
    same(attend, (q, apart, v), described=False)
    wide = torch.randn(1, 2, 70, 36).half()
    same(attend, (q, wide[..., :32].requires_grad_(), v), described=False)
    same(attend, (q, k.detach()[:, :1].expand(1, 2, 70, 32).requires_grad_(), v), described=False)
    same(attend, inputs((1, 2, 70, 36), (2, 70)), described=False)


def of_one_form() -> None:
    """Launches of one form are kept, with the descriptors of none."""
    attend = of("window", "causal_window", size=40)
    for turn in range(3):
        torch.manual_seed(turn)
        given = inputs((1, 1, 90, 32), (1, 90))
        same(attend, given)
        same(attend, tuple(torch.randn_like(x).requires_grad_() for x in given))  # type: ignore[arg-type]
        del given


def gradients_of_any_layout() -> None:
    """The gradient of a sum lies in one number, and one may begin anywhere."""
    attend, given = of("causal", "causal"), inputs((1, 2, 70, 32), (1, 70))
    same(attend, given, summed=True)
    out = attend(*given)
    assert isinstance(out, Tensor)
    apart = torch.zeros(out.numel() + 1, dtype=torch.float16)[1:].view(out.shape).fill_(0.5)
    found = torch.autograd.grad(out, given, apart, retain_graph=True)
    for one, other in zip(found, torch.autograd.grad(out, given, torch.full_like(out, 0.5)), strict=True):
        assert torch.equal(one, other)


def parts() -> None:
    """Some of the keys, of a token that each entry of the batch has for itself."""
    given = inputs((2, 2, 64, 32), (1, 50))
    same(of("window", "window", size=60), given, k_start=torch.tensor([13, 40]), n=131, q_start=20)


def not_finite() -> None:
    """Values that are not finite spoil the rows that keep them alone; the second look is by pointers."""
    attend = of("window", "causal_window", size=30)
    q, k, v = (x.detach() for x in inputs((1, 1, 150, 32), (1, 150)))
    v[0, 0, 7, 3] = float("inf")
    with counted() as blocks:
        found = attend(q, k, v)
    assert blocks
    with by_pointers():
        torch.testing.assert_close(found, attend(q, k, v), rtol=2e-3, atol=2e-3, equal_nan=True)
    assert isinstance(found, Tensor)
    assert found.isnan().any(-1)[0, 0].nonzero().flatten().tolist() == [*range(7, 37)]
    same(attend, (q.requires_grad_(), k.requires_grad_(), torch.randn_like(v).requires_grad_()), scale=-0.3)


def steady() -> None:
    """Orders that are not natural come by pointers, in a program that has both too."""
    same(of("window", "window", size=64, dilation=8), inputs((1, 1, 1040, 16), (1, 1040)), described=False)
    chosen = torch.zeros(140, dtype=torch.bool)
    chosen[[3, 77]] = True
    same(of("longformer", "longformer", size=20), inputs((1, 2, 140, 32), (2, 140)), g=chosen)


def checks() -> dict[str, Callable[[], None]]:
    causal = of("causal", "causal")
    return {
        "heads that share keys": lambda: same(causal, inputs((2, 4, 131, 64), (2, 131))),
        "heads side by side": lambda: same(causal, inputs((2, 4, 131, 64), (2, 131), interleaved=True)),
        "one token": lambda: same(of("full", "full"), inputs((1, 1, 40, 32), (1, 1))),
        "other lengths": lambda: same(causal, inputs((1, 2, 70, 32), (1, 150)), q_start=80),
        "features that fill no power of two": lambda: same(causal, inputs((1, 1, 140, 80), (1, 140), 24)),
        "two lanes of 64": lambda: same(of("window", "window", size=90), inputs((1, 1, 260, 128), (1, 260), 128)),
        "documents": documents,
        "a sink window": lambda: same(of("sink_window", "sink_window"), inputs((1, 1, 150, 32), (1, 150))),
        "dropout": lambda: dropped(causal),
        "misaligned": misaligned,
        "launches of one form": of_one_form,
        "gradients of any layout": gradients_of_any_layout,
        "parts": parts,
        "values that are not finite": not_finite,
        "other orders": steady,
    }  # fmt: skip


def dropped(attend: Attention) -> None:
    """The same pairs are dropped."""
    given, more = inputs((1, 2, 140, 32), (2, 140)), {"dropout": 0.3, "seed": 5}
    with counted() as blocks:
        found = results(attend, given, more)
    assert blocks
    with by_pointers():
        again = results(attend, given, more)
    for one, other in zip(found, again, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-3)


if __name__ == "__main__":
    tell(checks(), sys.argv[1:])
