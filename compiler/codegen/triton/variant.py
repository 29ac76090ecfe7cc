"""The variants of Triton kernels: what decides their text besides their Program."""

from __future__ import annotations

from dataclasses import dataclass

from ...plan import FP32, FP64, DType, Pass

LEAST_LANES = 16  # the least that a matrix product takes
DIGIT_BITS = 28
DIGITS = 12
"""Integers for each entry of a table whose gradient is summed exactly. 11 of them, of ``DIGIT_BITS`` bits each, hold
any float32, with room for the sum of 2**34; the last counts what is not finite."""


@dataclass(frozen=True)
class TileStep:
    """How many queries and keys one step of a kernel takes at most: powers of two."""

    queries: int
    keys: int


@dataclass(frozen=True)
class TritonVariant:
    """What decides the text of the kernels besides the Program. Raises ValueError for an impossible combination.

    - ``direction``: the pass whose functions the text holds;
    - ``step``: the largest step of its kernels. A smaller tile is taken whole, a larger one is cut;
    - ``wide``: positions, integer tables and offsets need 64 bits;
    - ``tables``: the dtype of each table in memory;
    - ``exact``: gradients of table entries chosen by query and key together are summed in integer digits
      (:data:`DIGITS`), so that the order does not matter; else in floats, in any order. Sums in fp64 are always floats;
    - ``tf32``: products of fp32 may round their factors to 11 bits, as tensor cores take them; else they are exact.
    - ``anywhere``: rows are few, and may begin anywhere: which tiles they visit follows from their position on the
      device (:attr:`compiler.plan.Schedule.anywhere`);
    - ``split``: the tiles of keys that such rows visit are cut into parts, which one more launch merges;
    - ``packed``: such rows of all query heads that share a key head are one block of rows, so that keys are read once.
    - ``described``: tensors come by descriptors where an order is natural, and this is the largest step of kernels that
      walk natural orders alone; None where all come by pointers.
    """

    head_dim: int
    value_dim: int
    dtype: DType
    wide: bool
    dropout: bool
    direction: Pass
    step: TileStep
    tables: tuple[DType, ...]
    exact: bool = True
    tf32: bool = False
    anywhere: bool = False
    split: bool = False
    packed: bool = False
    described: TileStep | None = None

    def __post_init__(self) -> None:
        if self.exact and self.compute == FP64:
            raise ValueError("exact is True, expected False for sums in fp64")
        if self.tf32 and self.dtype != FP32:
            raise ValueError(f"tf32 is True, expected False for {self.dtype.name}")
        if (self.split or self.packed) and not self.anywhere:
            raise ValueError("split or packed is True, expected False for rows at a known position")
        if self.described and (self.wide or self.anywhere or self.direction == "backward_keys"):
            raise ValueError("described is given, expected None for 64 bits, a few rows, and programs that keep keys")
        steps = (self.step, self.described or self.step)
        for size in (size for step in steps for size in (step.queries, step.keys)):
            if size < 1 or size & (size - 1):
                raise ValueError(f"step is {size}, expected a power of two")

    @property
    def compute(self) -> DType:
        return self.dtype.compute


def fitted(most: int, tile: int) -> int:
    """Return the lanes of a tile that one step takes: the largest power of two in the tile's size, up to ``most``."""
    return min(most, tile & -tile)


def lanes(dim: int) -> int:
    """Return the lanes for the features of a token: the least power of two that holds them and that products take."""
    return max(LEAST_LANES, 1 << (dim - 1).bit_length())
