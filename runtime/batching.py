"""Rules for ``torch.vmap``: all its entries are folded into the batch of one call, or each gets a call of its own.

Each entry gets the result of a call of its own. The dropout hash reads the number of the batch entry, and ``scale`` has
no batch dimension, so calls with dropout, or with a scale that is mapped over, run once per entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from ..compiler.ir import Table
from .base import registered
from .call import Call, check_call
from .registration import LIBRARY, without_dynamo

# Both operators end with: tables, given, scale, q_starts, q_start, k_starts, k_start, n, seed, dropout, attention.
_REST = 11
_TABLES, _SCALE, _Q_STARTS, _K_STARTS, _DROPOUT = -_REST, 2 - _REST, 3 - _REST, 5 - _REST, -2


class _Info(Protocol):
    """What torch passes to a vmap rule."""

    batch_size: int


@dataclass(frozen=True)
class _Fold:
    """The sizes of a folded batch: ``size`` vmap entries times ``batch`` batch entries of each."""

    size: int
    batch: int

    def rows(self, x: Tensor) -> Tensor:
        """Folds ``[size, batch, …]`` into ``[size · batch, …]``; a leading dimension of size 1 is expanded first."""
        return x.expand(self.size, self.batch, *x.shape[2:]).flatten(0, 1)

    def entries(self, x: Tensor) -> Tensor:
        """Unfolds a result of the one call: ``[size · batch, …]`` to ``[size, batch, …]``."""
        return x.reshape(self.size, self.batch, *x.shape[1:])


@dataclass(frozen=True)
class _Given:
    """A table that a call gives, and the dimension of its tensor that vmap maps over (None where it is shared)."""

    table: Table
    tensor: Tensor
    dim: int | None

    @property
    def own(self) -> int | None:
        """The size of the batch dimension that the table has in each entry, None without one."""
        shape = _shape(self.tensor, self.dim)
        return shape[0] if len(shape) > len(self.table.dimensions) + (self.table.element == "set") else None

    def rows(self, fold: _Fold) -> Tensor:
        """The table with a folded batch, ``[size · batch, …]``."""
        x = self.tensor[None] if self.dim is None else self.tensor.movedim(self.dim, 0)
        return fold.rows(x.unsqueeze(1) if self.own is None else x)

    def gradient(self, fold: _Fold, found: Tensor) -> Tensor:
        """The gradient of each entry's table, ``[size, …]``, from ``found``, the gradient of :meth:`rows`; summed over
        the batch where its entries share one table.
        """
        apart = fold.entries(found)
        return apart if self.own == fold.batch else apart.sum(1, keepdim=self.own is not None)


def register_batching() -> None:
    """Registers the vmap rules of the two operators."""
    forward, backward = torch.ops.attnc.forward.default, torch.ops.attnc.backward.default

    @torch.library.register_vmap("attnc::forward", lib=LIBRARY)  # type: ignore[untyped-decorator]
    @without_dynamo
    def _(info: _Info, dims: tuple[Any, ...], *inputs: Any) -> tuple[Any, Any]:
        _check_first(info, dims, inputs)
        if _one_by_one(info, dims, inputs):
            return _each(forward, info, dims, inputs)
        fold = _Fold(info.batch_size, _shape(inputs[0], dims[0])[0])
        found = forward(*_tensors(fold, dims, inputs), *_rest(fold, dims, inputs, apart=False))
        return tuple(map(fold.entries, found)), (0, 0)

    @torch.library.register_vmap("attnc::backward", lib=LIBRARY)  # type: ignore[untyped-decorator]
    @without_dynamo
    def _(info: _Info, dims: tuple[Any, ...], wanted: str, *inputs: Any) -> tuple[Any, Any]:
        dims = dims[1:]
        if _one_by_one(info, dims, inputs):
            return _each(partial(backward, wanted), info, dims, inputs)
        fold = _Fold(info.batch_size, _shape(inputs[2], dims[2])[0])
        *found, gradients = backward(wanted, *_tensors(fold, dims, inputs), *_rest(fold, dims, inputs, apart=True))
        entries = [fold.entries(x) if its == "1" else x for x, its in zip(found, wanted, strict=False)]
        out = tuple(0 if its == "1" else None for its in wanted[:3])
        floats = [
            (given, its == "1")
            for given, its in zip(_given(dims, inputs), wanted[3:], strict=True)
            if given.table.element == "float"
        ]
        tables = [
            given.gradient(fold, own) if its else own for (given, its), own in zip(floats, gradients, strict=True)
        ]
        return (*entries, tables), (*out, [0 if its else None for _, its in floats])


def _shape(x: Tensor, dim: int | None) -> list[int]:
    """The shape of one entry's tensor: that of ``x`` without the dimension that vmap maps over."""
    return [size for axis, size in enumerate(x.shape) if axis != dim]


def _given(dims: Sequence[Any], inputs: Sequence[Any]) -> list[_Given]:
    tables, given, *_, attention = inputs[-_REST:]
    known = [table for table, its in zip(registered(attention).parameters, given, strict=True) if its == "1"]
    return [_Given(*one) for one in zip(known, tables, dims[_TABLES], strict=True)]


def _tensors(fold: _Fold, dims: Sequence[Any], inputs: Sequence[Any]) -> Iterator[Tensor | None]:
    """Yields the folded tensors before the tables: q, k, v, and in the backward pass results and gradients."""
    for x, dim in zip(inputs[:-_REST], dims[:-_REST], strict=True):
        yield None if x is None else fold.rows(x[None] if dim is None else x.movedim(dim, 0))


def _rest(fold: _Fold, dims: Sequence[Any], inputs: Sequence[Any], apart: bool) -> tuple[Any, ...]:
    """The arguments from the tables on, folded. ``apart``: expand float tables that entries share, so that each entry
    gets a gradient of its own.
    """
    _, given, scale, q_starts, q_start, k_starts, *rest = inputs[-_REST:]
    shared = [
        one.dim is None and one.own in (None, 1) and not (apart and one.table.element == "float")
        for one in _given(dims, inputs)
    ]
    tables = [one.tensor if its else one.rows(fold) for one, its in zip(_given(dims, inputs), shared, strict=True)]
    q_starts = _starts(fold, q_starts, dims[_Q_STARTS])
    return tables, given, scale, q_starts, q_start, _starts(fold, k_starts, dims[_K_STARTS]), *rest


def _starts(fold: _Fold, starts: Tensor | None, dim: int | None) -> Tensor | None:
    """The first positions of queries or keys with a folded batch, unless all entries share one."""
    if starts is None or (dim is None and starts.numel() <= 1):
        return starts
    apart = starts[None] if dim is None else starts.movedim(dim, 0)
    return fold.rows(apart[:, None] if apart.ndim == 1 else apart)


def _one_by_one(info: _Info, dims: Sequence[Any], inputs: Sequence[Any]) -> bool:
    """Whether the entries need a call each, because of dropout or a scale that is mapped over."""
    return info.batch_size > 0 and bool(inputs[_DROPOUT] or dims[_SCALE] is not None)


def _each(operator: Any, info: _Info, dims: tuple[Any, ...], inputs: tuple[Any, ...]) -> tuple[Any, Any]:
    """Calls the operator once per entry and stacks the results."""
    found = [operator(*_entry(dims, inputs, number)) for number in range(info.batch_size)]
    stacked = [
        [torch.stack(own) for own in zip(*parts, strict=True)] if isinstance(parts[0], list) else torch.stack(parts)
        for parts in zip(*found, strict=True)
    ]
    return tuple(stacked), tuple([0] * len(parts) if isinstance(parts, list) else 0 for parts in stacked)


def _entry(dims: Any, inputs: Any, number: int) -> list[Any]:
    """The arguments of the call of entry ``number`` alone."""
    return [
        _entry(dim, x, number) if isinstance(dim, (list, tuple)) else x if dim is None else x.select(dim, number)
        for x, dim in zip(inputs, dims, strict=True)
    ]


def _check_first(info: _Info, dims: tuple[Any, ...], inputs: tuple[Any, ...]) -> None:
    """Checks the first entry as a call of its own, so that errors name the shapes that the caller knows
    (:func:`check_call`).
    """
    if info.batch_size:
        first = _entry(dims, inputs, 0)
        q, k, v, tables, _, scale, q_starts, q_start, k_starts, k_start, n, _, dropout, attention = first
        names = [one.table.name for one in _given(dims, inputs)]
        named = dict(zip(names, tables, strict=True))
        call = Call(q, k, v, named, scale, q_start, q_starts, dropout, 0, k_start, k_starts, n)
        check_call(registered(attention), call)
