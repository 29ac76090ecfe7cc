"""How much of a tile each Triton kernel takes at a time, with how many warps: chosen so that registers suffice.

Read from compiled kernels, not measured: at head dims up to 64 nothing spills for sm_80, sm_90 and gfx942.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...plan import Tiles
from .functions import Kind
from .variant import DType, Step, Variant

TILES = Tiles(query=64, key=64, gathered=16)


@dataclass(frozen=True)
class Options:
    """How the compiler of one kernel is told to share the device's resources."""

    num_warps: int
    num_stages: int

    def arguments(self, nvidia: bool) -> dict[str, Any]:
        """As Triton takes them. Fusion of multiply and add is asked for outright: its default differs by version.

        So is every register that a thread may have: left alone, ptxas may spill a few to fit one block more.
        """
        found: dict[str, Any] = {"num_warps": self.num_warps, "num_stages": self.num_stages, "enable_fp_fusion": True}
        return found | {"maxnreg": 255} if nvidia else found


def step(kernel: str, dtype: DType, dim: int) -> Step:
    """What a kernel takes at a time at most, for the larger of the head dimensions: so that its registers suffice."""
    wide = dim > 128
    if dtype in ("fp32", "fp64"):
        size = 32 if dim <= 64 else 16
        return Step(size, size)
    if kernel == "forward":
        return Step(64, 64 if dim <= 64 else 32)
    if kernel == "backward_keys":
        return Step(32, 32 if wide else 64)
    return Step(32 if wide else 64, 32)


def options(kind: Kind, variant: Variant) -> Options:
    """Warps and pipeline stages of one kernel, such that nothing spills on the devices that are compiled for."""
    dim = max(variant.head_dim, variant.value_dim)
    if kind in ("delta", "merge", "collect") or variant.dtype in ("fp32", "fp64"):
        return Options(num_warps=4, num_stages=1)
    few = dim <= 64 or (dim <= 128 and kind == "forward")
    staged = kind == "forward" or (kind == "backward_queries" and dim <= 128)
    return Options(num_warps=4 if few else 8, num_stages=2 if staged else 1)


def make_variant(
    dtype: DType,
    head_dim: int,
    value_dim: int,
    tables: tuple[str, ...],
    *,
    wide: bool = False,
    dropout: bool = False,
    exact: bool = True,
) -> Variant:
    """A variant with the steps that this executor chooses. ``tables``: the element types in memory."""
    dim = max(head_dim, value_dim)
    forward, keys, queries = (step(name, dtype, dim) for name in ("forward", "backward_keys", "backward_queries"))
    exact = exact and dtype != "fp64"
    return Variant(head_dim, value_dim, dtype, wide, dropout, forward, keys, queries, tables, exact)
