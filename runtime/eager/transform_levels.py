"""Reads the contents of tables on the host while ``torch.func`` transforms a function, for the dense definition."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_batchedtensor, is_gradtrackingtensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

from ...compiler.ir import Attention, Entry, Table, walk
from ..call import located


def outside_transforms() -> AbstractContextManager[object]:
    """A context in which operations are not transformed."""
    return temporarily_clear_interpreter_stack()


def contents_of(attention: Attention, tables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The given tables as plain tensors, without the wrappers of ``torch.func``, for evaluating the mask.

    A float table that ``vmap`` maps over becomes zeros if the mask does not read it. ValueError for any other table
    that is mapped over: each entry of the map would have another mask.
    """
    known = {table.name: table for table in attention.parameters}
    return {name: _contents(attention, known[name], tensor) for name, tensor in tables.items()}


def _contents(attention: Attention, table: Table, tensor: Tensor) -> Tensor:
    inner = tensor
    while is_gradtrackingtensor(inner):
        inner = get_unwrapped(inner)
    if not is_batchedtensor(inner):
        return inner
    decides = any(isinstance(node, Entry) and node.table == table.name for node in walk(attention.mask))
    if table.element != "float" or decides:
        message = f"{table.name}: is mapped over by vmap, expected one table for all entries, as .reference takes it"
        raise ValueError(located(message, table))
    with outside_transforms():
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
