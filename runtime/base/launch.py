"""The data types of a launch: one checked call in the form that every executor takes, and its gradients. Data only."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ...compiler.plan import Program, Schedule, Specialisation
from .torch_dtypes import compute_dtype, dtype_of


def stride_bits(*tensors: Tensor) -> int:
    """The bits of the largest stride of tensors whose lengths may grow, at least 20: until then nothing depends on it.

    Kernels that serve several lengths have indices wide enough for all strides of so many bits.
    """
    return max(20, max([stride for x in tensors for stride in x.stride()], default=0).bit_length())


T = TypeVar("T")


def filled(kind: type[T], /, **values: Any) -> T:
    """An instance of a frozen dataclass with all its fields given by name.

    Its own ``__init__`` sets them one by one past the refusing ``__setattr__``, and takes more than twice as long. For
    what every call makes anew.
    """
    made = object.__new__(kind)
    made.__dict__.update(values)
    return made


@dataclass(frozen=True)
class TableArgument:
    """One table in the form that kernels read, contiguous: ``[batch?, dimensions…]``.

    ``int`` and ``order`` are int32 (int64 in a wide launch), ``float`` has the compute dtype (float32, or float64
    beside float64 queries), ``bool`` is uint8. A ``set`` is a bitmap, uint8 ``[batch?, dimensions…, universe]``, or its
    members in ascending order, integers ``[batch?, dimensions…, slots]``, where unused slots hold -1. A scalar has no
    dimensions.
    """

    tensor: Tensor
    batched: bool

    @property
    def sizes(self) -> tuple[int, ...]:
        """The table's shape without the batch."""
        return tuple(self.tensor.shape[1:] if self.batched else self.tensor.shape)


@dataclass(frozen=True)
class Launch:
    """Everything that an executor needs for the forward pass and, with its saved results, for the backward pass.

    Shapes: q ``[batch, heads, m, head_dim]``, k ``[batch, kv_heads, keys, head_dim]``, v
    ``[batch, kv_heads, keys, value_dim]``, with any strides but a contiguous last dimension; scale ``[heads]`` in the
    compute dtype; q_start int64 ``[1]`` or ``[batch]``. ``wide``: positions and integer tables need 64 bits.
    ``dropout``: the probability of dropping; at 0 nothing is dropped and ``seed`` is not read.

    ``keys`` is ``schedule.n``, unless the keys are a part of the whole (``program.is_part``): then row ``i`` of k is
    the key at position ``k_start + i``, int64 ``[1]`` or ``[batch]``, and no key stands at ``schedule.n`` or beyond,
    whatever k holds. Everything else counts by positions.

    ``by_key``: the program and the schedule of the gradients of keys and values, where their kernels have other tiles.

    ``ready``: where an executor may keep what launches of one form share (:mod:`runtime.launch_cache`): program,
    schedule, device, dtypes, and the shapes and strides of all tensors. None where nothing is shared.

    ``lengths``: the least number of keys and the greatest position that launches of one form serve, where they serve
    several: under a schedule for rows that begin anywhere.
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
    k_start: Tensor | None = None
    by_key: tuple[Program, Schedule] | None = None
    ready: dict[Hashable, Any] | None = None
    lengths: tuple[int, int] | None = None

    @property
    def over_keys(self) -> Launch:
        """The launch of the kernels that make the gradients of keys and values."""
        if self.by_key is None:
            return self
        program, schedule = self.by_key
        return replace(self, program=program, schedule=schedule, by_key=None)

    @property
    def compute_dtype(self) -> torch.dtype:
        """The dtype of sums, softmax, log-sum-exp and table gradients."""
        return compute_dtype(self.q.dtype)

    @property
    def specialisation(self) -> Specialisation:
        """What the kernels are compiled for, beside the program."""
        return Specialisation(
            dtype=dtype_of(self.q.dtype),
            head_dim=self.q.shape[-1],
            value_dim=self.v.shape[-1],
            tables=tuple(dtype_of(argument.tensor.dtype) for argument in self.tables),
            wide=self.wide,
            dropout=self.dropout > 0,
        )


class Prepared(Protocol):
    """A launch of which but q, k, v and the position of the first row are open, for tensors of the form of its own."""

    @property
    def anywhere(self) -> bool:
        """Whether calls of any number of keys, with their first row at any position, may be served."""

    def serves(self, n: int, q_start: int) -> bool:
        """Whether a call of so many keys, with its first row at a position, may be run."""

    def run(self, q: Tensor, k: Tensor, v: Tensor, q_start: int) -> tuple[Tensor, Tensor]:
        """out and lse as those of a forward pass."""


class PreparedBackward(Protocol):
    """The same of a backward pass without tables."""

    def run(
        self, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None,
        wanted: Wanted,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
        """The gradients of q, k and v that are wanted; ``grad_out`` and ``grad_lse`` may have any strides."""


@dataclass(frozen=True)
class Wanted:
    """Whose gradients a call asks for. ``tables``: of each of the program's tables; None for all float tables."""

    q: bool = True
    k: bool = True
    v: bool = True
    tables: tuple[bool, ...] | None = None

    def table(self, number: int) -> bool:
        """Whether the gradient of a table is asked for, if it has one."""
        return self.tables is None or self.tables[number]


ALL_WANTED = Wanted()


@dataclass(frozen=True)
class Gradients:
    """The gradients of one call. ``tables`` holds, for each float table, a tensor of its argument's shape in the
    compute dtype; None for the other tables. What was not wanted is None.
    """

    q: Tensor | None
    k: Tensor | None
    v: Tensor | None
    tables: tuple[Tensor | None, ...]
