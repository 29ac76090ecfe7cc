"""Runs a call by what an earlier one of its form left ready: the way from the arguments to the kernel without a stop.

A form is told by shapes, strides and dtypes, for few rows of any number of keys at any position. Only the plainest calls
are looked for: no tables, the text's own scale, all keys, no dropout, no derivative, and nobody who looks on. Every
other call goes through :func:`runtime.op.attend` whole.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .base import Backend, Launch, Prepared, settings
from .call import Call
from .dispatch import goes_straight

_MOST = 512  # forms
_FEW = 16  # rows that may begin anywhere
_found: dict[Hashable, Prepared] = {}


def run_prepared(name: str, q: Tensor, k: Tensor, v: Tensor, q_start: int) -> tuple[Tensor, Tensor] | None:
    """out and lse of a call without tables; None where no call of its form was prepared, or it is not so plain.

    ``name``: that of the attention, by :func:`runtime.base.register`.
    """
    try:
        prepared = _found.get(_form(name, q, k, v, q_start))
    except (AttributeError, RuntimeError, TypeError):  # what the checks of a call refuse
        return None
    if prepared is None or torch.is_autocast_enabled("cpu") or not prepared.serves(k.shape[2], q_start):
        return None
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        return None
    if forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active() or not goes_straight(q, k, v, ()):
        return None
    return prepared.run(q, k, v, q_start)


def keep_prepared(name: str, call: Call, backend: Backend, launch: Launch) -> None:
    """Keeps what calls of the form of a call share, if it is plain enough and the backend makes such things ready."""
    plain = call.scale is None and call.q_starts is None and not call.tables and not call.dropout and call.of_all_keys
    if not plain or launch.ready is None or not all(x.is_cpu for x in (call.q, call.k, call.v)):
        return
    if any(x.stride(-1) != 1 for x in (call.q, call.k, call.v)):  # the launch has copies
        return
    prepared = backend.prepare(launch)
    if prepared is not None:
        if len(_found) >= _MOST:
            _found.clear()
        _found[_form(name, call.q, call.k, call.v, call.q_start)] = prepared


def _form(name: str, q: Tensor, k: Tensor, v: Tensor, q_start: int) -> Hashable:
    rows = q.shape
    keys, values, where = k.shape, v.shape, q_start
    if rows[2] <= _FEW:
        same = keys[2] == values[2]
        keys, values, where = keys[:2] + keys[3:], values[:2] + values[3:] if same else values, -1
    return (
        name, rows, keys, values, where, q.stride(), k.stride(), v.stride(), q.dtype, k.dtype, v.dtype, q.is_cpu,
        k.is_cpu, v.is_cpu, settings.backend, settings.interpret, settings.cxx, settings.optimisation,
    )  # fmt: skip
