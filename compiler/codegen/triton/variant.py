"""What decides the text of Triton kernels beside their Program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DType = Literal["fp16", "bf16", "fp32", "fp64"]
LEAST_LANES = 16  # what a matrix product takes at least
DIGIT_BITS = 28
DIGITS = 12
"""Integers for each entry of a table whose gradient is summed exactly: 11 of so many bits each, which hold any float32
with room for 2**34 of them, and one that counts what is not finite."""


@dataclass(frozen=True)
class Step:
    """How many queries and keys a kernel takes at a time: powers of two."""

    queries: int
    keys: int


@dataclass(frozen=True)
class Variant:
    """What decides the text beside the Program.

    - ``forward``, ``backward_keys`` and ``backward_queries`` say how much one step of such a kernel takes at most: a
      smaller tile is taken whole, a larger one cut;
    - ``wide``: positions, integer tables and offsets need 64 bits;
    - ``tables``: the element type of each table as it lies in memory: ``i32 i64 fp32 fp64 u8``;
    - ``exact``: gradients of table entries chosen by query and key together are summed in digits, whatever the order
      (:data:`DIGITS`); else in floats, as they come. Sums in fp64 are always floats.
    """

    head_dim: int
    value_dim: int
    dtype: DType
    wide: bool
    dropout: bool
    forward: Step
    backward_keys: Step
    backward_queries: Step
    tables: tuple[str, ...]
    exact: bool = True

    def __post_init__(self) -> None:
        if self.exact and self.compute == "fp64":
            raise ValueError("exact is True, expected False for sums in fp64")
        for step in (self.forward, self.backward_keys, self.backward_queries):
            for size in (step.queries, step.keys):
                if size < 1 or size & (size - 1):
                    raise ValueError(f"step is {size}, expected a power of two")

    @property
    def compute(self) -> Literal["fp32", "fp64"]:
        return "fp64" if self.dtype == "fp64" else "fp32"


def fitted(most: int, tile: int) -> int:
    """What a step takes of a tile: the largest power of two that divides the tile, up to ``most``."""
    return min(most, tile & -tile)


def lanes(dim: int) -> int:
    """The power of two that holds a head dimension inside a kernel."""
    return max(LEAST_LANES, 1 << (dim - 1).bit_length())
