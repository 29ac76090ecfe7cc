"""An attention whose arguments are the host's and whose kernels run on a device: what is compared with stays apart."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnc.attention import Attention
from attnc.compiler import ir


class OnDevice(Attention):
    """Takes and returns host tensors, differentiably. ``known``: the host knows the integer tables and ``q_start``."""

    def __init__(self, bound: ir.Attention, device: str, known: bool) -> None:
        super().__init__(bound)
        self._device, self._known = device, known

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, **given: Any) -> Any:
        q, k, v = (self._moved(x) for x in (q, k, v))
        elements = {table.name: table.element for table in self._bound.parameters}
        arguments = {name: self._argument(x, elements.get(name)) for name, x in given.items()}
        result = super().__call__(q, k, v, **arguments)
        return tuple(x.cpu() for x in result) if isinstance(result, tuple) else result.cpu()

    def _argument(self, value: Any, element: str | None) -> Any:
        if not isinstance(value, Tensor):
            return value
        if value.is_floating_point():
            return self._moved(value)
        if not self._known:
            return value.to(self._device)
        if element is None:  # q_start, which may lie on the host
            return value
        return _members(value) if element == "set" and value.dtype == torch.bool else value.numpy()

    def _moved(self, value: Tensor) -> Tensor:
        moved: Tensor = _Moved.apply(value, self._device)  # type: ignore[no-untyped-call]
        return moved


def _members(bitmap: Tensor) -> Any:
    """Sets as lists of their members."""
    return bitmap.nonzero().flatten().tolist() if bitmap.ndim == 1 else [_members(part) for part in bitmap]


class _Moved(torch.autograd.Function):
    """A tensor on a device with all that lies around it: the same strides, the same margins."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, device: str) -> Tensor:
        whole = torch.empty(0, dtype=value.dtype).set_(value.untyped_storage())  # type: ignore[call-overload]
        return whole.to(device, copy=True).as_strided(value.shape, value.stride(), value.storage_offset())  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.cpu(), None
