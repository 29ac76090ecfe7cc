"""Copies of host values on a device, each made once: by the tensor that holds the values, or by the values.

The copy of a tensor is kept as long as the tensor lives, and taken as long as it holds what was copied: all of it is
compared at each call. Its version would tell of changes by torch, but not of those by numpy, where both see the same
memory, and no tensor tells whether numpy sees its memory. Python lists make a new tensor at each call: they are copied
at each call, unless there is a copy of equal values.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from .captures import kept_by_graphs, require_uncaptured

_MOST_FORMS = 16  # of one tensor: sets have another form for other sizes
_MOST_BY_VALUE = 64  # copies that are found by their values, which have at most _LARGEST_BY_VALUE bytes
_LARGEST_BY_VALUE = 2**20

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_by_tensor: dict[int, tuple[weakref.ref[Tensor], dict[Hashable, tuple[Tensor, Tensor]]]] = {}
_by_value: OrderedDict[Hashable, Tensor] = OrderedDict()
_lock = threading.Lock()


def device_copy(values: Tensor, device: torch.device, source: Tensor | None, form: Hashable) -> Tensor:
    """``values``, a host tensor, on a device.

    ``source``: the caller's tensor that they were made of, None if there is none; ``form``: all that they depend on
    besides. RuntimeError where a CUDA graph is being captured and there is no copy.
    """
    if values.device == device:
        return values
    key = (form, values.dtype, tuple(values.shape), device)
    if source is None:
        return kept_by_graphs(_of_values(values, device), device)
    return kept_by_graphs(_of_tensor(source, values, key, device), device)


def _of_tensor(source: Tensor, values: Tensor, key: Hashable, device: torch.device) -> Tensor:
    number, bits = id(source), values.detach().view(_BITS[values.element_size()])
    with _lock:
        held = _by_tensor.get(number)
        if held is None or held[0]() is not source:
            held = _by_tensor[number] = (weakref.ref(source, partial(_forget, number)), {})
        found = held[1].get(key)
    if found is None or not torch.equal(found[0], bits):
        found = bits.clone(), _of_values(values, device)
        with _lock:
            if len(held[1]) >= _MOST_FORMS and key not in held[1]:
                held[1].clear()
            held[1][key] = found
    return found[1]


def _forget(number: int, reference: weakref.ref[Tensor]) -> None:
    """Drops the copies of a tensor that is gone, unless another one has its number by now."""
    held = _by_tensor.get(number)
    if held is not None and held[0] is reference:
        _by_tensor.pop(number, None)


def _of_values(values: Tensor, device: torch.device) -> Tensor:
    """The copy of equal values, if they are few; else a new one."""
    if values.numel() * values.element_size() > _LARGEST_BY_VALUE:
        require_uncaptured("a host tensor", device)
        return values.to(device)
    held = values.contiguous().reshape(-1).view(torch.uint8).numpy()
    key = (hashlib.sha256(held.data).digest(), values.dtype, tuple(values.shape), device)
    with _lock:
        found = _by_value.get(key)
        if found is not None:
            _by_value.move_to_end(key)
            return found
    require_uncaptured("a host value", device)
    found = values.to(device)
    with _lock:
        _by_value[key] = found
        while len(_by_value) > _MOST_BY_VALUE:
            _by_value.popitem(last=False)
    return found


def device_numbers(numbers: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers ``[numbers]`` on a device. They may be those of an earlier call, so nobody may write to them.

    RuntimeError where a CUDA graph is being captured and they are not on the device yet.
    """
    return kept_by_graphs(_numbers(numbers, dtype, device), device)


@lru_cache(maxsize=512)
def _numbers(numbers: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    require_uncaptured("a list of numbers", device)
    return torch.tensor(numbers, dtype=dtype).to(device)
