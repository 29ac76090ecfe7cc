"""Converts numbers and arrays of the caller into values that the call owns.

A caller may change a list or a numpy array before the backward pass runs. Torch notices that for its own tensors only,
so everything else is copied. This runs in the caller's frame, also while torch.compile traces it.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor

LARGEST = 2**63 - 1  # of 64 bits
LEAST = -(2**63)
_KNOWN = frozenset(map(np.dtype, (
    "bool", "int8", "int16", "int32", "int64", "uint8", "float16", "float32", "float64",
)))  # fmt: skip


@torch.library.custom_op("attnc::own", mutates_args=())
def own(x: Tensor) -> Tensor:
    """A copy that torch.compile does not recompute in the backward pass, when its source may have changed."""
    return x.clone(memory_format=torch.contiguous_format)


@own.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def integer(value: object) -> int | None:
    """A Python or numpy integer as an int; None for anything else, bools included."""
    if isinstance(value, (bool, np.bool_, Tensor)):
        return None
    if isinstance(value, int):
        return value
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def real(value: object) -> float | None:
    """A Python or numpy number as a float, infinite if too large for one; None for anything else, bools included."""
    if isinstance(value, (bool, np.bool_, Tensor)):
        return None
    if isinstance(value, float):
        return value
    if isinstance(value, np.ndarray) and (value.ndim or value.dtype.kind not in "iuf"):
        return None
    if not isinstance(value, (int, np.integer, np.floating, np.ndarray)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def copied(name: str, value: Any, expected: str) -> Tensor:
    """A numpy array or scalar as a contiguous tensor in native byte order that shares no memory with it.

    Unsigned integers that torch lacks are widened. TypeError for an array that does not hold plain numbers or bools,
    ValueError for an integer beyond 64 bits.
    """
    if torch.compiler.is_compiling():  # tracing makes the array a tensor of the graph, with unknown contents
        return own(torch.as_tensor(value))  # type: ignore[no-any-return]
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: is a masked array, expected {expected}")
    array = np.asarray(value)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        if array.size and int(array.max()) > LARGEST:
            raise ValueError(f"{name}: holds an integer beyond 64 bits, expected {expected}")
        return torch.from_numpy(array.astype(np.int32 if array.dtype.itemsize == 2 else np.int64, order="C"))
    native = array.dtype.newbyteorder("=")
    if native not in _KNOWN:
        raise TypeError(f"{name}: has dtype {array.dtype}, expected {expected}")
    return torch.from_numpy(np.array(array, dtype=native, order="C", copy=True))


def unfit(tensor: Tensor) -> str | None:
    """Why a tensor cannot be read by its strides, in words (``is a nested tensor``); None for a dense one."""
    if tensor.layout is torch.strided and not tensor.is_nested:
        return None
    layout = str(tensor.layout).removeprefix("torch.")
    return "is a nested tensor" if tensor.is_nested else f"is a tensor of layout {layout}"
