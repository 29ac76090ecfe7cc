"""PyTorch as an array library for the oracle's interpreter, which thereby evaluates scores differentiably."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ...compiler.diagnostics import within_64_bits
from ...compiler.ir import Op, Operation, Table
from ...compiler.oracle import Arrays, TableValues
from ..base import TableArgument

_ROUNDED = {"fp16": torch.float16, "bf16": torch.bfloat16}


class TorchArrays(Arrays):
    """Array operations on tensors of one device; ``dtype`` is that of floats."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device

    def constant(self, value: bool | int | float) -> Tensor:
        if type(value) is int:
            value = within_64_bits(value)  # a wider one is clamped, because its value is never used
        kind = torch.bool if isinstance(value, bool) else torch.int64 if isinstance(value, int) else self.dtype
        return torch.full((1, 1, 1, 1), value, dtype=kind, device=self.device)

    def arange(self, size: int) -> Tensor:
        return torch.arange(size, device=self.device)

    def integers(self, x: Tensor) -> Tensor:
        return x.long()

    def floats(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)

    def where(self, condition: Tensor, then: Any, otherwise: Any) -> Tensor:
        return torch.where(condition, then, otherwise)

    def operate(self, operation: Operation, *xs: Tensor) -> Tensor:
        own = operation.python if operation.library is None else getattr(torch, operation.library)
        found: Tensor = own(*xs)
        return found

    def rounded(self, op: Op, x: Tensor) -> Tensor:
        if op == "fp64":
            return x
        single = x.to(torch.float32)
        return (single if op == "fp32" else single.to(_ROUNDED[op])).to(x.dtype)

    def numpy(self, x: Tensor) -> NDArray[Any]:
        return x.detach().cpu().numpy()


def table_values(table: Table, argument: TableArgument) -> TableValues:
    """An executor's table in the form that the interpreter reads, with bitmaps and bools as bool tensors."""
    tensor = argument.tensor.bool() if argument.tensor.dtype == torch.uint8 else argument.tensor
    return TableValues(table, tensor, argument.batched)
