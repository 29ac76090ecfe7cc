"""Reads the mask off an attention function: the pairs that it really keeps, whatever it was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# What a boosted logit is above the others: more than any bias of a position in use (ALiBi over thousands of tokens),
# far less than what stands for "not kept" in an additive mask (-1e4 in old models, the least float in others).
BOOST = 3000.0
_LEAST_BIAS = 1e-30  # a weight below may be one that a bias made small
_MOST_COUNT = 64  # weights of one row that are further apart are so by a bias, and not by counts


@dataclass(frozen=True)
class _Probe:
    """A function under examination, and the sizes of its calls."""

    attend: Callable[..., Any]
    batch: int
    heads: int
    kv_heads: int
    m: int
    n: int
    head_dim: int
    value_dim: int
    dtype: torch.dtype
    device: torch.device

    def weights(self, first: int, count: int, boosted: int | None) -> Tensor:
        """What rows give to keys ``first`` to ``first + count - 1``, ``[batch, heads, m, count]``.

        All logits are 0, before what the function adds to them, but those of the ``boosted`` key.
        """
        q, k = (
            torch.zeros(self.batch, heads, rows, self.head_dim, dtype=self.dtype, device=self.device)
            for heads, rows in ((self.heads, self.m), (self.kv_heads, self.n))
        )
        v = torch.zeros(self.batch, self.kv_heads, self.n, self.value_dim, dtype=self.dtype, device=self.device)
        lanes = torch.arange(count, device=self.device)
        v[:, :, first + lanes, lanes] = 1
        if boosted is not None:
            size = (BOOST * self.head_dim**0.5) ** 0.5  # for the usual scale; another one only changes the boost
            q[..., 0], k[:, :, boosted, 0] = size, size
        return self._called(q, k, v)[..., :count]

    def _called(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with torch.no_grad():
            out = self.attend(q, k, v)
        if isinstance(out, tuple) and out:
            out = out[0]
        expected = [self.batch, self.heads, self.m, self.value_dim]
        if not isinstance(out, Tensor):
            raise TypeError(f"attend: returned {type(out).__name__}, expected a tensor {expected}, alone or first")
        if list(out.shape) != expected:
            raise ValueError(f"attend: returned shape {list(out.shape)}, expected {expected}")
        return out


def applied_mask(
    attend: Callable[..., Any],
    m: int,
    n: int,
    heads: int = 1,
    *,
    batch: int = 1,
    kv_heads: int | None = None,
    head_dim: int = 16,
    value_dim: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Tensor:
    """The mask that ``attend(q, k, v)`` really applies, bool ``[batch, heads, m, n]``, on the host.

    The function is called and not looked into. It gets q ``[batch, heads, m, head_dim]``, k
    ``[batch, kv_heads, n, head_dim]`` and v ``[batch, kv_heads, n, value_dim]`` (``kv_heads`` is ``heads``, and
    ``value_dim`` is ``head_dim``, unless given) and returns out ``[batch, heads, m, value_dim]``, or a tuple that
    begins with it. Queries are zero and values a block of the identity, so that a row of ``out`` holds the weights of
    some keys. A key whose weight comes out as 0 is asked for once more with a logit of its own that is larger by about
    3,000: a bias such as ALiBi's makes weights vanish that are kept.

    Dropout must be off. What an additive mask takes away by less than about 3,000 counts as kept, and what a bias takes
    away by more as masked. ValueError where neither can be told: weights differ, so that there is a bias, and the
    function bounds its logits (by a softcap, or by normalising queries and keys), so that none can be made larger. A
    row that is NaN throughout keeps nothing. A row that masks all keys by adding one large negative number to each
    keeps them all: that is what such a function computes. TypeError and ValueError where the result does not have that
    shape. Takes about ``n / value_dim`` calls, and one more for each key that some row does
    not keep.
    """
    probe = _Probe(
        attend, _positive("batch", batch), _positive("heads", heads), _kv_heads(kv_heads, heads), _positive("m", m),
        _positive("n", n), _positive("head_dim", head_dim),
        _positive("value_dim", head_dim if value_dim is None else value_dim), dtype, torch.device(device),
    )  # fmt: skip
    firsts = range(0, n, probe.value_dim)
    parts = [probe.weights(first, min(probe.value_dim, n - first), None) for first in firsts]
    weights = torch.cat(parts, -1).nan_to_num(nan=0.0).cpu()
    plain = weights > _LEAST_BIAS
    biased = _biased_rows(weights, plain)
    kept, bounded = plain.clone(), False
    for key in range(n):
        if not plain[..., key].all():
            boosted = probe.weights(key, 1, key)[..., 0].nan_to_num(nan=0.0).cpu()
            kept[..., key] |= boosted > _LEAST_BIAS
            # A row that masks every key alike by one large number stays as it is, and says nothing of bounds.
            moved = ~torch.isclose(boosted, weights[..., key], rtol=1e-5, atol=0.0)
            bounded |= bool((plain[..., key] & (boosted < 0.5) & (moved | biased)).any())
    if bounded and biased.any():
        raise ValueError(
            "attend: bounds its logits, and adds a bias that makes weights vanish: whether a pair is kept cannot be "
            "told, expected a function without the one or the other"
        )
    return kept


def _biased_rows(weights: Tensor, kept: Tensor) -> Tensor:
    """In which rows the weights of the kept keys differ by more than counts explain, though all logits are 0."""
    most = weights.amax(-1)
    least = torch.where(kept, weights, torch.inf).amin(-1)
    return most > _MOST_COUNT * least


def _positive(name: str, size: object) -> int:
    if isinstance(size, bool) or not isinstance(size, int):
        raise TypeError(f"{name}: is {type(size).__name__}, expected an int")
    if size < 1:
        raise ValueError(f"{name}: is {size}, expected 1 or more")
    return size


def _kv_heads(kv_heads: int | None, heads: int) -> int:
    found = _positive("kv_heads", heads if kv_heads is None else kv_heads)
    if heads % found:
        raise ValueError(f"kv_heads: is {found}, expected a divisor of heads = {heads}")
    return found
