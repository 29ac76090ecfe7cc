"""Compares layers of other libraries with ours: their weights drawn, their masks read off, gradients of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tests.systems.system import Compared, Pair

HEADS, DIM = 4, 8
EXACT = 1e-12
"""What is allowed in float64, in which all that is no layer's own code is compared: a formula has no precision of its
own, and a pair too many or too few cannot hide in rounding.
"""


def compared(mask: Pair | None, ours: Tensor, theirs: Tensor, leaves: Mapping[str, Tensor]) -> Compared:
    """Two outputs of one shape, and the gradients of one random sum of each by the leaves."""
    weights = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(9)).to(theirs)
    found = (torch.autograd.grad((out * weights).sum(), [*leaves.values()]) for out in (ours, theirs))
    return Compared(mask, (ours.detach(), theirs.detach()), dict(zip(leaves, zip(*found, strict=True), strict=True)))


def drawn(*shapes: Sequence[int], dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Random leaves, the same at each call."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def dense(q: Tensor, k: Tensor, v: Tensor, counts: Tensor) -> Tensor:
    """Softmax attention over every pair, each as often as ``counts`` says, bool or int; rows without a pair are 0."""
    scores = (q @ k.mT) * q.shape[-1] ** -0.5 + counts.to(q).log()
    return scores.softmax(-1).nan_to_num(0.0) @ v


def drawn_layer(made: nn.Module, seed: int = 0) -> Any:
    """The layer in eval mode, with matrices and biases drawn wide enough that attention moves every output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.1
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return made.eval()


def split(projected: Tensor, dim: int) -> Tensor:
    """``[batch, n, heads * dim]`` to ``[batch, heads, n, dim]``."""
    return projected.unflatten(-1, (-1, dim)).transpose(1, 2)


def merged(out: Tensor) -> Tensor:
    """The way back."""
    return out.transpose(1, 2).flatten(2)


def reading(made: Any, values: Sequence[str]) -> Any:
    """The layer with weights that make its outputs its probabilities.

    All logits are 0, and in each head the value of token t, whose hidden state is the t-th unit vector, is that vector:
    a key's weight is how often it is kept, by how many are kept in all.
    """
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.zero_()
            if name.removesuffix(".weight") in values:
                n = getattr(made, "head_dim", None) or made.attention_head_size
                for head in range(len(parameter) // n):
                    parameter[head * n : (head + 1) * n, :n] = torch.eye(n)
    return made.eval()


def unit_states(batch: int, n: int, hidden: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """``[batch, n, hidden]``: token t is the t-th unit vector."""
    return torch.eye(n, hidden, dtype=dtype).expand(batch, n, hidden)


def counts_of(probabilities: Tensor, dim: int, kept: int | None = None) -> Tensor:
    """What a layer kept, int64 ``[batch, heads, n, n]``, from its output ``[batch, n, heads * n]``.

    ``kept``: how many keys it keeps in a row, with their counts. Else each row keeps some key once.
    """
    shares = split(probabilities, dim)
    least = shares.masked_fill(shares <= 1e-6, 1.0).amin(-1, keepdim=True) if kept is None else 1.0 / kept
    counts = shares / least
    whole = counts.round()
    assert float((counts - whole).abs().max()) < 1e-3, "no whole numbers"
    return whole.long()
