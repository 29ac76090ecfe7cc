"""Rounds arrays of floats to narrower dtypes, as torch does."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ir import Op


def round_to(op: Op, x: NDArray[Any]) -> NDArray[Any]:
    """Floats rounded to a dtype, ``op`` of :data:`compiler.ir.operations.ROUNDINGS`, as an array of their own dtype.

    To nearest, ties to even; to float32 first, unless to float64. NaN stays, and what is too large becomes infinite.
    """
    if op == "fp64":
        return x
    with np.errstate(over="ignore"):
        single = np.asarray(x).astype(np.float32)
        if op == "fp16":
            single = single.astype(np.float16)
        elif op == "bf16":
            bits = single.view(np.uint32)
            kept = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)
            single = np.where(np.isfinite(single), kept, single)
        return single.astype(np.asarray(x).dtype)
