"""A case for the Triton kernels: a pattern in the compiler's expressions, and the same as dense formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import Dimension, Table
from attnc.compiler.ir.expressions import LOGIT, Const, Entry, Expr, K, Q


@dataclass(frozen=True)
class Positions:
    """Of a dense formula: q ``[batch, 1, m, 1]``, k ``[n]``, head ``[heads, 1, 1]``, and the tables by name."""

    q: Tensor
    k: Tensor
    head: Tensor
    n: int
    tables: Mapping[str, Tensor]


Formula = Callable[[Positions], Tensor]


@dataclass(frozen=True)
class Case:
    """An attention as the compiler gets it, and the same as dense formulas written independently."""

    name: str
    mask: Expr
    dense_mask: Formula  # bool or counts, broadcasting to [batch, heads, m, n]
    score: Expr = LOGIT
    dense_score: Callable[[Tensor, Positions], Tensor] = lambda s, _: s
    sink: Expr | None = None
    dense_sink: Formula | None = None
    tables: tuple[Table, ...] = ()
    values: Mapping[str, tuple[Tensor, bool]] = field(default_factory=dict)  # tensor, batched
    batch: int = 1
    heads: int = 2
    kv_heads: int = 1
    m: int = 64
    n: int = 40
    head_dim: int = 16
    value_dim: int = 16
    tiles: tuple[int, int] = (32, 32)
    dtype: torch.dtype = torch.float32
    q_start: tuple[int, ...] = (0,)
    wide: bool = False
    dropout: float = 0.0
    seed: int = 0
    layout: str = "plain"  # of q, k, v and the gradient: plain | strided | margins
    magnitude: float = 1.0
    with_lse: bool = True


INT, FLOAT = "int", "float"
CAUSAL = constructors.less_equal(K, Q)


def constant(value: int | float) -> Const:
    return Const(value)


def window(size: int, dilation: int = 1) -> Expr:
    distance = constructors.sub(Q, K)
    near = constructors.less_equal(constructors.absolute(distance), constant(size // 2 * dilation))
    return constructors.conjunction(near, constructors.equal(constructors.mod(distance, dilation), constant(0)))


def dense_window(size: int, dilation: int = 1) -> Formula:
    return lambda p: ((p.q - p.k).abs() <= size // 2 * dilation) & ((p.q - p.k) % dilation == 0)


def dense_causal(p: Positions) -> Tensor:
    return p.k <= p.q


def murmur(*xs: Tensor | int) -> Tensor:
    h = torch.tensor(0x9E3779B9)
    for x in xs:
        h = h ^ (torch.as_tensor(x) & 0xFFFFFFFF)
        h = ((h ^ (h >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
        h = ((h ^ (h >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
        h = h ^ (h >> 16)
    return h >> 1


def entry(name: str, *indices: Expr, kind: str = FLOAT) -> Entry:
    return Entry(name, indices, kind)  # type: ignore[arg-type]


def table(name: str, element: str, *kinds: str) -> Table:
    return Table(name, element, tuple(Dimension(kind, name="size") for kind in kinds))  # type: ignore[arg-type]


def looked_up(values: Tensor, *indices: Tensor) -> Tensor:
    """A dense bounds-checked read of a table whose leading axis is the batch: 0 outside."""
    inside = torch.ones((), dtype=torch.bool)
    clamped = []
    for index, size in zip(indices, values.shape[1:], strict=True):
        inside = inside & (index >= 0) & (index < size)
        clamped.append(index.clamp(0, max(size - 1, 0)))
    batch = torch.arange(values.shape[0])[:, None, None, None]
    return torch.where(inside, values[(batch, *clamped)], torch.zeros((), dtype=values.dtype))


def numbers(*shape: int, seed: int = 5) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def integers(high: int, *shape: int, seed: int = 6, low: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, shape, generator=generator, dtype=torch.int32)
