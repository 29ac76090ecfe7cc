"""Chooses step sizes, warps and pipeline stages for each kind of Triton kernel, so that registers suffice.

The choice was made by reading compiled kernels, not by timing them: at head dims up to 64, registers do not spill on
sm_80, sm_90 and gfx942.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...plan import FP32, FP64, DType
from .functions import Kind
from .variant import TileStep, TritonVariant


@dataclass(frozen=True)
class Options:
    """Triton's compile options for one kernel: the warps of a program, and the stages of its pipelined loads."""

    num_warps: int
    num_stages: int

    def arguments(self, nvidia: bool) -> dict[str, Any]:
        """Return the options as keyword arguments of a launch.

        Two more are set because their defaults do harm: whether multiply and add are fused depends on the version of
        Triton, and without a limit on registers ptxas may spill a few to fit one more block on a multiprocessor.
        """
        found: dict[str, Any] = {"num_warps": self.num_warps, "num_stages": self.num_stages, "enable_fp_fusion": True}
        return found | {"maxnreg": 255} if nvidia else found


def tile_step(kernel: Kind, dtype: DType, dim: int) -> TileStep:
    """Return the largest step of a kind of kernel whose registers suffice. ``dim``: the larger head dimension."""
    wide = dim > 128
    if dtype in (FP32, FP64):
        size = 32 if dim <= 64 else 16
        return TileStep(size, size)
    if kernel == "forward":
        return TileStep(64, 64 if dim <= 64 else 32)
    if kernel == "backward_keys":
        return TileStep(32, 32 if wide else 64)
    return TileStep(32 if wide else 64, 32)


def options(kind: Kind, variant: TritonVariant) -> Options:
    """Return the options with which, at head dims up to 64, registers do not spill on devices compiled for in tests."""
    dim = max(variant.head_dim, variant.value_dim)
    if kind in ("delta", "merge", "collect") or variant.dtype in (FP32, FP64):
        return Options(num_warps=4, num_stages=1)
    few = dim <= 64 or (dim <= 128 and kind == "forward")
    staged = kind == "forward" or (kind == "backward_queries" and dim <= 128)
    return Options(num_warps=4 if few else 8, num_stages=2 if staged else 1)


def make_variant(
    dtype: DType,
    head_dim: int,
    value_dim: int,
    tables: tuple[DType, ...],
    *,
    wide: bool = False,
    dropout: bool = False,
    exact: bool = True,
    tf32: bool = False,
) -> TritonVariant:
    """Return the variant with the steps of :func:`tile_step`; ``tables``: their dtypes in memory."""
    dim = max(head_dim, value_dim)
    forward, keys, queries = (tile_step(name, dtype, dim) for name in ("forward", "backward_keys", "backward_queries"))
    exact = exact and dtype != FP64
    return TritonVariant(head_dim, value_dim, dtype, wide, dropout, forward, keys, queries, tables, exact, tf32)
