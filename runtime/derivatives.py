"""The derivatives of the operators: first-order reverse mode; forward mode and second derivatives raise.

PyTorch's own ``register_autograd`` neither works under ``torch.func`` nor notices a forward-mode tangent where nothing
requires a gradient. So kernels are registered for the dispatcher's autograd keys instead. PyTorch calls them at each
level of its transforms, with a tangent or a gradient of that level at hand, in eager mode as from a compiled graph.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import Function, forward_ad
from torch.autograd.forward_ad import _set_fwd_grad_enabled
from torch.autograd.function import FunctionCtx

from ..compiler.ir import Attention
from .base import registered
from .registration import without_dynamo


@without_dynamo
def derivable_forward(keys: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
    """``attnc::forward`` at the dispatcher's autograd keys; ``keys``: those of the call."""
    if inputs[3] is None:  # AOTInductor passes no list of tables for an empty one
        inputs = *inputs[:3], [], *inputs[4:]
    operator = torch.ops.attnc.forward.default
    found: tuple[Tensor, Tensor] = (
        _below(operator, keys, inputs) if is_plain(inputs) else _attend(operator, keys, *inputs)
    )
    return found


@without_dynamo
def derivable_backward(keys: Any, *inputs: Any) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """``attnc::backward`` at the same keys."""
    operator = torch.ops.attnc.backward.default
    found: tuple[Tensor, Tensor, Tensor, list[Tensor]] = (
        _below(operator, keys, inputs) if is_plain(inputs) else _derive(operator, keys, *inputs)
    )
    return found


def is_plain(inputs: tuple[Any, ...]) -> bool:
    """Whether no derivative is recorded: no transform, no forward mode, and no input that requires a gradient."""
    if forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
        return False
    return not (torch.is_grad_enabled() and torch._C._any_requires_grad(*inputs))


def is_reverse_only() -> bool:
    """Whether autograd alone may record a derivative: no transform and no forward mode."""
    return forward_ad._current_level < 0 and not torch._C._are_functorch_transforms_active()


def _attend(operator: Any, keys: Any, q: Tensor, k: Tensor, v: Tensor, tables: list[Tensor], *rest: Any) -> Any:
    given, scale, q_starts, q_start, k_starts, k_start, n, seed, dropout, attention = rest
    if scale is not None and scale.requires_grad and torch.is_grad_enabled():
        raise ValueError("scale: requires a gradient, which it does not get; expected q to be multiplied by it")
    forward = functools.partial(_below_with, operator, keys)
    plain = forward, torch.ops.attnc.backward.default, given, q_start, k_start, n, dropout, attention
    return _applied(_Attend, plain, q, k, v, scale, q_starts, k_starts, seed, *tables)


def _derive(operator: Any, keys: Any, *inputs: Any) -> Any:
    wanted, *tensors, tables, given, scale, q_starts, q_start, k_starts, k_start, n, seed, dropout, attention = inputs
    plain = operator, keys, wanted, given, q_start, k_start, n, dropout, attention
    dq, dk, dv, *rest = _applied(_Derive, plain, *tensors, scale, q_starts, k_starts, seed, *tables)
    return dq, dk, dv, rest


def _applied(function: type[Function], *inputs: Any) -> Any:
    """Applies an autograd function, at the current level of ``torch.func`` where a transform is active."""
    if not torch._C._are_functorch_transforms_active():
        return function.apply(contextlib.nullcontext, *inputs)  # type: ignore[no-untyped-call]
    modes = functools.partial(_modes, torch.is_grad_enabled(), torch._C._is_fwd_grad_enabled())
    with enable_single_level_autograd_function():
        return super(Function, function).apply(modes, *inputs)  # type: ignore[misc]


@contextlib.contextmanager
def _modes(reverse: bool, forward: bool) -> Iterator[None]:
    """Restores the gradient modes of the caller, which a function turns off, so that lower levels take their
    derivatives.
    """
    with torch.set_grad_enabled(reverse), _set_fwd_grad_enabled(forward):
        yield


def _below(operator: Any, keys: Any, inputs: tuple[Any, ...]) -> Any:
    """The operator's result, dispatched below the autograd keys: this level records no derivative."""
    with torch._C._AutoDispatchBelowAutograd():
        return operator.redispatch(keys & torch._C._after_autograd_keyset, *inputs)


@without_dynamo
def recorded(
    forward: Any, backward: Any, q: Tensor, k: Tensor, v: Tensor, tables: list[Tensor], *rest: Any
) -> tuple[Tensor, Tensor]:
    """The forward pass by functions in place of the operators, in a call of which autograd alone takes note.

    ``forward`` and ``backward`` take what the operators take; the backward pass calls the operator where someone else
    looks on by then.
    """
    given, scale, q_starts, q_start, k_starts, k_start, n, seed, dropout, attention = rest
    plain = forward, backward, given, q_start, k_start, n, dropout, attention
    found: tuple[Tensor, Tensor] = _applied(_Attend, plain, q, k, v, scale, q_starts, k_starts, seed, *tables)
    return found


def _below_with(operator: Any, keys: Any, *inputs: Any) -> Any:
    return _below(operator, keys, inputs)


class _Attend(Function):
    """``attnc::forward`` as an autograd function; its backward calls ``attnc::backward``."""

    @staticmethod
    def forward(ctx: Any, modes: Any, plain: tuple[Any, ...], *tensors: Any) -> tuple[Tensor, Tensor]:
        forward, backward, given, q_start, k_start, n, dropout, attention = plain
        q, k, v, scale, q_starts, k_starts, seed, *tables = tensors
        with modes():
            found: tuple[Tensor, Tensor] = forward(
                q, k, v, tables, given, scale, q_starts, q_start, k_starts, k_start, n, seed, dropout, attention
            )
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q, k, v, *found, scale, q_starts, k_starts, seed, *tables)
        ctx.rest = backward, given, q_start, k_start, n, dropout, attention
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, scale, q_starts, k_starts, seed, *tables = ctx.saved_tensors
        backward, given, q_start, k_start, n, dropout, attention = ctx.rest
        asked = ctx.needs_input_grad[2:5] + ctx.needs_input_grad[9:]
        if all(grad is None for grad in grads):
            return (None,) * len(ctx.needs_input_grad)
        wanted = "".join(["1" if its else "0" for its in asked])
        *found, of_tables = backward(
            wanted, *grads, q, k, v, out, lse, tables, given, scale, q_starts, q_start, k_starts, k_start, n, seed,
            dropout, attention,
        )  # fmt: skip
        if tables:
            of_tables = _spread(of_tables, registered(attention), given)
        dq, dk, dv, *rest = [x if its else None for x, its in zip((*found, *of_tables), asked, strict=True)]
        return (None, None, dq, dk, dv, None, None, None, None, *rest)

    @staticmethod
    def jvp(_ctx: FunctionCtx, *_tangents: Any) -> Any:
        raise no_forward_mode()


class _Derive(Function):
    """``attnc::backward`` as an autograd function. Second derivatives raise only when they are computed, so that
    ``create_graph=True`` alone is allowed.
    """

    @staticmethod
    def forward(_ctx: Any, modes: Any, plain: tuple[Any, ...], *tensors: Any) -> tuple[Tensor, ...]:
        backward, keys, wanted, given, q_start, k_start, n, dropout, attention = plain
        *first, scale, q_starts, k_starts, seed = tensors[:11]
        inputs = (
            wanted, *first, list(tensors[11:]), given, scale, q_starts, q_start, k_starts, k_start, n, seed, dropout,
            attention,
        )  # fmt: skip
        with modes():
            dq, dk, dv, rest = _below(backward, keys, inputs)
        return dq, dk, dv, *rest

    @staticmethod
    def backward(_ctx: FunctionCtx, *_grads: Any) -> Any:
        raise RuntimeError(
            "attnc has no second derivatives: the gradient of a gradient was asked for; use .reference for it"
        )

    @staticmethod
    def jvp(_ctx: FunctionCtx, *_tangents: Any) -> Any:
        raise no_forward_mode()


def no_forward_mode() -> RuntimeError:
    """The error for a forward-mode tangent; it names what to use instead."""
    return RuntimeError(
        "attnc has no forward-mode derivatives: a tangent came in (by jvp, jacfwd, linearize, hessian or a dual "
        "number); use grad, vjp or jacrev, or jvp, jacfwd and hessian of .reference"
    )


def _spread(found: list[Tensor], known: Attention, given: str) -> Iterator[Tensor | None]:
    """Yields the gradient of each table that the call gave, None for tables without floats."""
    rest = iter(found)
    for table, its in zip(known.parameters, given, strict=True):
        if its == "1":
            yield next(rest) if table.element == "float" else None
