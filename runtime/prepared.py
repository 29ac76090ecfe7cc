"""Runs a call by what an earlier one of its form left ready: the way from the arguments to the kernel without a stop.

A form is told by shapes, strides and dtypes, for few rows of any number of keys at any position. Only the plainest
calls are looked for: no tables, the text's own scale, all keys, no dropout, no transform, and nobody who looks on.
Every other call goes through :func:`runtime.op.attend` whole.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from .base import Backend, Launch, Prepared, PreparedBackward, registered, settings
from .call import Call
from .dispatch import goes_straight

_MOST = 512  # forms
_FEW = 16  # rows that may begin anywhere
_forward: dict[Hashable, Prepared] = {}
_backward: dict[Hashable, PreparedBackward] = {}


def run_prepared(
    name: str, q: Tensor, k: Tensor, v: Tensor, q_start: int, backward: Callable[..., Any]
) -> tuple[Tensor, Tensor] | None:
    """out and lse of a call without tables; None where no call of its form was prepared, or it is not so plain.

    ``name``: that of the attention, by :func:`runtime.base.register`. ``backward``: what takes the arguments of
    ``attnc::backward``, for the first backward pass of a form.
    """
    try:
        prepared = _forward.get(_form(name, q, k, v, q_start))
    except (AttributeError, IndexError, RuntimeError, TypeError):  # what the checks of a call refuse
        return None
    if prepared is None or not prepared.serves(k.shape[2], q_start) or not _is_unseen(q, k, v):
        return None
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        found: tuple[Tensor, Tensor] = _Recorded.apply(prepared, name, q_start, backward, q, k, v)  # type: ignore[no-untyped-call]
        return found
    return prepared.run(q, k, v, q_start)


def is_unwatched(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether nobody but the caller takes note of a call with these tensors: no autograd, mode or transform."""
    recorded = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    return not recorded and _is_unseen(q, k, v)


def _is_unseen(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """The same, but for autograd."""
    if torch.is_autocast_enabled("cpu") or forward_ad._current_level >= 0:
        return False
    return not torch._C._are_functorch_transforms_active() and goes_straight(q, k, v, ())


class _Recorded(Function):
    """Such a call as an autograd function."""

    @staticmethod
    def forward(
        ctx: Any, prepared: Prepared, name: str, q_start: int, backward: Any, q: Tensor, k: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor]:
        found = prepared.run(q, k, v, q_start)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q, k, v, *found)
        ctx.rest = name, q_start, backward
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        name, q_start, backward = ctx.rest
        grad_out, grad_lse = grads
        if grad_out is None and grad_lse is None:
            return (None,) * 7
        prepared = None if torch.is_grad_enabled() else _backward.get(_form(name, q, k, v, q_start, exact=True))
        if prepared is not None and grad_out is not None and goes_straight(q, k, v, (out, lse, grad_out, grad_lse)):
            return (None, None, None, None, *prepared.run(q, k, v, out, lse, grad_out, grad_lse))
        given = "0" * len(registered(name).parameters)
        rest = None, None, q_start, None, 0, None, None, 0.0, name
        dq, dk, dv, _ = backward(grad_out, grad_lse, q, k, v, out, lse, [], given, *rest)
        return None, None, None, None, dq, dk, dv


def keep_prepared(name: str, call: Call, backend: Backend, launch: Launch) -> None:
    """Keeps what forward passes of the form of a call share, if it is plain and the backend makes such things ready."""
    anywhere = launch.lengths is not None
    if _is_plain(call, launch) and (anywhere or call.q.shape[2] > _FEW):  # few rows are not told by their position
        _keep(_forward, _form(name, call.q, call.k, call.v, call.q_start), backend.prepare, launch)


def keep_prepared_backward(name: str, call: Call, backend: Backend, launch: Launch) -> None:
    """The same of backward passes."""
    if _is_plain(call, launch):
        _keep(
            _backward, _form(name, call.q, call.k, call.v, call.q_start, exact=True), backend.prepare_backward, launch
        )


def _keep(found: dict[Hashable, Any], form: Hashable, prepare: Callable[[Launch], Any], launch: Launch) -> None:
    if form in found:
        return
    prepared = prepare(launch)
    if prepared is not None:
        if len(found) >= _MOST:
            found.clear()
        found[form] = prepared


def _is_plain(call: Call, launch: Launch) -> bool:
    plain = call.scale is None and call.q_starts is None and not call.tables and not call.dropout and call.of_all_keys
    inputs = call.q, call.k, call.v  # of others than these the launch has copies
    return plain and bool(launch.ready) and all(x.is_cpu and x.stride(-1) == 1 for x in inputs)


def _form(name: str, q: Tensor, k: Tensor, v: Tensor, q_start: int, exact: bool = False) -> Hashable:
    """What tells calls apart; ``exact``: those of few rows too by their position and the number of keys."""
    rows = q.shape
    keys, values, where = k.shape, v.shape, q_start
    if rows[2] <= _FEW and not exact:
        same = keys[2] == values[2]
        keys, values, where = keys[:2] + keys[3:], values[:2] + values[3:] if same else values, -1
    return (
        name, rows, keys, values, where, q.stride(), k.stride(), v.stride(), q.dtype, k.dtype, v.dtype, q.is_cpu,
        k.is_cpu, v.is_cpu, settings.backend, settings.interpret, settings.cxx, settings.optimisation,
    )  # fmt: skip
