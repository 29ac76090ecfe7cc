"""Converts between torch's dtypes and those of the compiler (:mod:`compiler.plan.dtypes`)."""

from __future__ import annotations

import torch

from ...compiler.plan import DTYPES, U8, DType

_TORCH: dict[DType, torch.dtype] = {dtype: getattr(torch, dtype.torch) for dtype in DTYPES}
_OURS = {**{of_torch: dtype for dtype, of_torch in _TORCH.items()}, torch.bool: U8}


def dtype_of(dtype: torch.dtype) -> DType:
    """The compiler's name for a torch dtype. KeyError for a dtype that no kernel takes."""
    return _OURS[dtype]


def torch_dtype(dtype: DType) -> torch.dtype:
    """The torch dtype of a compiler's dtype."""
    return _TORCH[dtype]


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums, softmax and log-sum-exp for queries of this dtype: float64 for float64, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as messages show it: ``float32``."""
    return str(dtype).removeprefix("torch.")
