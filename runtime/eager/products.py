"""Matrix products that skip pairs that are not kept, so that NaN or infinity in such a pair does not reach the result.

A plain matrix product multiplies a value that a query does not keep by the weight 0, which makes NaN of NaN and of
infinity. Each of the two products here has derivatives that are made of these products again, so that both can be
differentiated in either mode any number of times.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def dots(a: Tensor, b: Tensor, keep: Tensor) -> Tensor:
    """``a[i] · b[j]`` for each kept pair, 0 elsewhere.

    a ``[…, m, d]``, b ``[…, n, d]`` and keep, bool ``[…, m, n]``, give ``[…, m, n]``.
    """
    return _Dots.apply(a, b, keep)  # type: ignore[no-any-return, no-untyped-call]


def sums(weights: Tensor, rows: Tensor, keep: Tensor) -> Tensor:
    """The sum over the kept pairs of ``weights[i, j] * rows[j]``.

    weights and keep (bool), both ``[…, m, n]``, and rows ``[…, n, d]`` give ``[…, m, d]``.
    """
    return _Sums.apply(weights, rows, keep)  # type: ignore[no-any-return, no-untyped-call]


def plain_dots(a: Tensor, b: Tensor, keep: Tensor) -> Tensor:
    """:func:`dots` without derivatives."""
    bad_a, bad_b = _bad_rows(a), _bad_rows(b)
    if bad_a is None and bad_b is None:
        return torch.where(keep, a @ b.transpose(-1, -2), 0.0)
    found = torch.where(keep, _finite(a) @ _finite(b).transpose(-1, -2), 0.0)
    touched = keep & (_or_none(bad_a, a)[..., None] | _or_none(bad_b, b)[..., None, :])
    *batch, row, column = touched.nonzero(as_tuple=True)
    left, right = a.expand(*keep.shape[:-2], *a.shape[-2:]), b.expand(*keep.shape[:-2], *b.shape[-2:])
    found[(*batch, row, column)] = (left[(*batch, row)] * right[(*batch, column)]).sum(-1)
    return found


def plain_sums(weights: Tensor, rows: Tensor, keep: Tensor) -> Tensor:
    """:func:`sums` without derivatives."""
    weights = torch.where(keep, weights, 0.0)
    bad = _bad_rows(rows)
    if bad is None:
        return weights @ rows
    found = weights @ _finite(rows)
    *batch, row, column = (keep & bad[..., None, :]).nonzero(as_tuple=True)
    left = rows.expand(*keep.shape[:-2], *rows.shape[-2:])[(*batch, column)]
    part = weights[(*batch, row, column)][:, None] * torch.where(left.isfinite(), 0.0, left)
    return found.index_put((*batch, row), part, accumulate=True)


def _bad_rows(x: Tensor) -> Tensor | None:
    """The rows that hold NaN or infinity, bool ``[…, rows]``; None where all are finite."""
    good = x.isfinite()
    return None if bool(good.all()) else ~good.all(-1)


def _or_none(bad: Tensor | None, x: Tensor) -> Tensor:
    return torch.zeros(x.shape[:-1], dtype=torch.bool, device=x.device) if bad is None else bad


def _finite(x: Tensor) -> Tensor:
    return torch.where(x.isfinite(), x, 0.0)


def _transposed(x: Tensor) -> Tensor:
    return x.transpose(-1, -2)


class _Product(torch.autograd.Function):
    """The base of both products: the mask has no derivative, and vmap's dimension becomes a leading dimension."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004 - torch's signature
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @classmethod
    def vmap(cls, _: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        ranks = [x.ndim - (axis is not None) for x, axis in zip(inputs, in_dims, strict=True)]
        fronts = [x[None] if axis is None else x.movedim(axis, 0) for x, axis in zip(inputs, in_dims, strict=True)]
        most = max(ranks)
        placed = [
            x.reshape(x.shape[0], *(1,) * (most - rank), *x.shape[1:]) for x, rank in zip(fronts, ranks, strict=True)
        ]
        size = max(x.shape[0] for x in placed)
        return cls.apply(*(x.expand(size, *x.shape[1:]) for x in placed)), 0  # type: ignore[no-untyped-call]


class _Dots(_Product):
    @staticmethod
    def forward(a: Tensor, b: Tensor, keep: Tensor) -> Tensor:
        return plain_dots(a, b, keep)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        a, b, keep = ctx.saved_tensors
        of_a = sums(grad, b, keep) if ctx.needs_input_grad[0] else None
        of_b = sums(_transposed(grad), a, _transposed(keep)) if ctx.needs_input_grad[1] else None
        return of_a, of_b, None

    @staticmethod
    def jvp(ctx: Any, by_a: Tensor | None, by_b: Tensor | None, _: None) -> Tensor:
        a, b, keep = ctx.saved_tensors
        parts = ([] if by_a is None else [dots(by_a, b, keep)]) + ([] if by_b is None else [dots(a, by_b, keep)])
        return sum(parts[1:], start=parts[0])


class _Sums(_Product):
    @staticmethod
    def forward(weights: Tensor, rows: Tensor, keep: Tensor) -> Tensor:
        return plain_sums(weights, rows, keep)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weights, rows, keep = ctx.saved_tensors
        of_weights = dots(grad, rows, keep) if ctx.needs_input_grad[0] else None
        of_rows = sums(_transposed(weights), grad, _transposed(keep)) if ctx.needs_input_grad[1] else None
        return of_weights, of_rows, None

    @staticmethod
    def jvp(ctx: Any, by_weights: Tensor | None, by_rows: Tensor | None, _: None) -> Tensor:
        weights, rows, keep = ctx.saved_tensors
        parts = ([] if by_weights is None else [sums(by_weights, rows, keep)]) + (
            [] if by_rows is None else [sums(weights, by_rows, keep)]
        )
        return sum(parts[1:], start=parts[0])
