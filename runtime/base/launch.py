"""One checked call, as every executor takes it. Nouns only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...compiler.plan import Program, Schedule, Specialisation
from .torch_dtypes import compute_dtype, dtype_of


@dataclass(frozen=True)
class TableArgument:
    """One table, checked and brought to its form, contiguous: ``[batch?, dimensions…]``.

    int32 (int64 in a wide launch) for ``int`` and ``order``; the compute dtype (float32, or float64 beside float64
    queries) for ``float``; uint8 for ``bool``. For ``set`` uint8 ``[batch?, dimensions…, universe]``, or rising members
    ``[batch?, dimensions…, slots]`` of the dtype of integers, -1 where there is none. A scalar has no dimensions.
    """

    tensor: Tensor
    batched: bool

    @property
    def sizes(self) -> tuple[int, ...]:
        """Without the batch."""
        return tuple(self.tensor.shape[1:] if self.batched else self.tensor.shape)


@dataclass(frozen=True)
class Launch:
    """Everything that an executor needs for forward, and with the saved results for backward.

    Shapes: q ``[batch, heads, m, head_dim]``, k ``[batch, kv_heads, n, head_dim]``, v ``[batch, kv_heads, n,
    value_dim]``, any strides but the last dimension contiguous; scale ``[heads]`` in the compute dtype; q_start int64
    ``[1]`` or ``[batch]``. ``wide``: positions and integer tables need 64 bits. ``dropout``: the probability of
    dropping, 0 for none; ``seed`` counts then.
    """

    program: Program
    schedule: Schedule
    q: Tensor
    k: Tensor
    v: Tensor
    tables: tuple[TableArgument, ...]
    scale: Tensor
    q_start: Tensor
    wide: bool
    dropout: float
    seed: int

    @property
    def compute_dtype(self) -> torch.dtype:
        """The dtype of sums, softmax, log-sum-exp and table gradients."""
        return compute_dtype(self.q.dtype)

    @property
    def specialisation(self) -> Specialisation:
        """What its kernels are compiled for, beside the program."""
        return Specialisation(
            dtype=dtype_of(self.q.dtype),
            head_dim=self.q.shape[-1],
            value_dim=self.v.shape[-1],
            tables=tuple(dtype_of(argument.tensor.dtype) for argument in self.tables),
            wide=self.wide,
            dropout=self.dropout > 0,
        )


@dataclass(frozen=True)
class Gradients:
    """``tables`` holds a tensor, in the compute dtype and of the argument's shape, for each float table, else None."""

    q: Tensor
    k: Tensor
    v: Tensor
    tables: tuple[Tensor | None, ...]
