"""The dtypes of torch as the kernels' vocabulary has them (:mod:`compiler.plan.dtypes`), and back."""

from __future__ import annotations

import torch

from ...compiler.plan import DTYPES, U8, DType

_TORCH: dict[DType, torch.dtype] = {dtype: getattr(torch, dtype.torch) for dtype in DTYPES}
_OURS = {**{of_torch: dtype for dtype, of_torch in _TORCH.items()}, torch.bool: U8}


def dtype_of(dtype: torch.dtype) -> DType:
    """What kernels call it. KeyError for what no kernel takes."""
    return _OURS[dtype]


def torch_dtype(dtype: DType) -> torch.dtype:
    """What torch calls it."""
    return _TORCH[dtype]


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums, softmax and log-sum-exp of queries of this one."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """As torch writes it in a program, for messages: ``float32``."""
    return str(dtype).removeprefix("torch.")
