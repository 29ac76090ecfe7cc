"""Descriptors of tensors, by which kernels load blocks of rows (tensor maps, for the tensor memory accelerator)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ...compiler.codegen.triton import Parameter
from ..base import filled

_BYTES = 16  # to which a descriptor's rows and base are aligned


def aligned(*tensors: Tensor) -> bool:
    """Whether tensors begin where descriptors may: that differs from call to call of one form."""
    together = 0
    for tensor in tensors:
        together |= tensor.data_ptr()
    return not together % _BYTES


def describable(*tensors: Tensor) -> bool:
    """Whether descriptors can describe such tensors ``[batch, heads, rows, features]``, where they are aligned: none is
    empty, features lie one after the other, and the other strides are positive multiples of 16 bytes.
    """
    return all(
        tensor.numel()
        and tensor.stride(-1) == 1
        and all(
            size == 1 or (stride > 0 and not stride * tensor.element_size() % _BYTES)
            for size, stride in zip(tensor.shape[:-1], tensor.stride()[:-1], strict=True)
        )
        for tensor in tensors
    )


Described: TypeAlias = tuple[tuple[int, str, tuple[int, ...]], ...]
"""The arguments of a function that are descriptors: the place of each, the name of its tensor, and its block."""


def describing(parameters: Sequence[Parameter]) -> Described:
    """The parameters of a function that are descriptors."""
    return tuple((place, p.name.partition("_descriptor")[0], p.block) for place, p in enumerate(parameters) if p.block)


def laid_out(tensor: Tensor) -> Tensor:
    """The tensor, or a copy of it that is aligned and describable."""
    if aligned(tensor) and describable(tensor):
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def described(tensor: Tensor, block: tuple[int, ...]) -> Any:
    """The descriptor by which kernels load a ``block`` of a tensor that is aligned and describable; 0 outside it.

    It holds the tensor of one launch, and is not to be kept: the next launch has another.
    """
    from triton.tools.tensor_descriptor import TensorDescriptor

    # its own __init__ checks at every launch what `aligned` and `describable` have told
    form = _form(tensor.shape, tensor.stride(), tensor.element_size(), block)
    return filled(TensorDescriptor, base=tensor, **form)


@lru_cache(maxsize=1024)
def _form(
    shape: tuple[int, ...], strides: tuple[int, ...], size: int, block: tuple[int, ...]
) -> Mapping[str, list[int]]:
    """The fields of a descriptor beside its tensor, whose elements take ``size`` bytes."""
    usual = _BYTES // size  # of an axis of one place, whose stride may be anything
    own = [stride if places > 1 else usual for places, stride in zip(shape, strides, strict=True)]
    return {"shape": [*shape], "strides": [*own[:-1], 1], "block_shape": [*block]}
