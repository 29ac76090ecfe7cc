"""Runs a call by what an earlier one of its form left ready: the way from the arguments to the kernel without a stop.

A form is told by shapes, strides and dtypes, for few rows of any number of keys at any position. Only the plainest
calls are looked for: no tables, the text's own scale, all keys, no dropout, no transform, and nobody who looks on.
Every other call goes through :func:`runtime.op.attend` whole.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from .base import Backend, Launch, Prepared, PreparedBackward, Wanted, registered, settings
from .call import Call
from .cpp import CPP
from .derivatives import is_reverse_only, recorded
from .dispatch import goes_straight

T = TypeVar("T")


class _Ready(NamedTuple):
    """``forward``: takes what ``attnc::forward`` takes; ``given``: its argument that says that no table is given."""

    prepared: Prepared
    forward: Callable[..., tuple[Tensor, Tensor]]
    given: str


_MOST = 512  # forms
_FEW = CPP.most_rows_anywhere
_forward: dict[Hashable, _Ready] = {}
_backward: dict[Hashable, PreparedBackward] = {}


def run_prepared(
    name: str, q: Tensor, k: Tensor, v: Tensor, q_start: int, backward: Callable[..., Any]
) -> tuple[Tensor, Tensor] | None:
    """out and lse of a call without tables; None where no call of its form was prepared, or it is not so plain.

    ``name``: that of the attention, by :func:`runtime.base.register`. ``backward``: takes what ``attnc::backward``
    takes.
    """
    try:
        ready = _forward.get(_form(name, q, k, v, q_start, anywhere=q.shape[2] <= _FEW))
    except (AttributeError, IndexError, RuntimeError, TypeError):  # what the checks of a call refuse
        return None
    if ready is None or not ready.prepared.serves(k.shape[2], q_start) or not _is_unseen(q, k, v):
        return None
    if not _is_recorded(q, k, v):
        return ready.prepared.run(q, k, v, q_start)
    rest = ready.given, None, None, q_start, None, 0, None, None, 0.0, name
    return recorded(ready.forward, backward, q, k, v, [], *rest)


def run_prepared_backward(
    name: str, q: Tensor, k: Tensor, v: Tensor, q_start: int, out: Tensor, lse: Tensor,
    grad_out: Tensor | None, grad_lse: Tensor | None, wanted: Wanted,
) -> tuple[Tensor | None, Tensor | None, Tensor | None] | None:  # fmt: skip
    """The gradients of q, k and v of such a call that are wanted; None where none of its form was prepared."""
    prepared = None if grad_out is None else _backward.get(_form(name, q, k, v, q_start))
    if prepared is None or grad_out is None:
        return None
    return prepared.run(q, k, v, out, lse, grad_out, grad_lse, wanted)


def is_unwatched(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether nobody but the caller takes note of a call with these tensors: no autograd, mode or transform."""
    return not _is_recorded(q, k, v) and _is_unseen(q, k, v)


def _is_recorded(q: Tensor, k: Tensor, v: Tensor) -> bool:
    return torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)


def _is_unseen(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether nobody but the caller and autograd takes note of a call with these tensors."""
    return is_reverse_only() and not torch.is_autocast_enabled("cpu") and goes_straight(q, k, v, ())


def keep_prepared(name: str, call: Call, backend: Backend, launch: Launch) -> None:
    """Keeps what forward passes of the form of a call share, if it is plain and the backend makes such things ready."""
    anywhere = launch.lengths is not None
    if not _is_plain(call, launch) or (
        not anywhere and call.q.shape[2] <= _FEW
    ):  # which are not told by their position
        return
    form = _form(name, call.q, call.k, call.v, call.q_start, anywhere)
    prepared = None if form in _forward else backend.prepare(launch)
    if prepared is not None:
        given = "0" * len(registered(name).parameters)
        _keep(_forward, form, _Ready(prepared, partial(_run, prepared), given))


def keep_prepared_backward(name: str, call: Call, backend: Backend, launch: Launch) -> None:
    """The same of backward passes."""
    if not _is_plain(call, launch):
        return
    form = _form(name, call.q, call.k, call.v, call.q_start)
    prepared = None if form in _backward else backend.prepare_backward(launch)
    if prepared is not None:
        _keep(_backward, form, prepared)


def _keep(found: dict[Hashable, T], form: Hashable, ready: T) -> None:
    if len(found) >= _MOST:
        found.clear()
    found[form] = ready


def _run(prepared: Prepared, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """A forward pass by the arguments of ``attnc::forward``."""
    _tables, _given, _scale, _q_starts, q_start, *_ = rest
    return prepared.run(q, k, v, q_start)


def _is_plain(call: Call, launch: Launch) -> bool:
    plain = call.scale is None and call.q_starts is None and not call.tables and not call.dropout and call.of_all_keys
    inputs = call.q, call.k, call.v  # of others than these the launch has copies
    return plain and bool(launch.ready) and all(x.is_cpu and x.stride(-1) == 1 for x in inputs)


def form_of(q: Tensor, k: Tensor, v: Tensor, anywhere: bool) -> tuple[Hashable, ...]:
    """What tells forms of tensors apart; ``anywhere``: but for the number of keys, where it is that of values."""
    keys: tuple[int, ...] = k.shape
    values: tuple[int, ...] = v.shape
    if anywhere and keys[2] == values[2]:
        keys, values = keys[:2] + keys[3:], values[:2] + values[3:]
    return (
        q.shape, keys, values, q.stride(), k.stride(), v.stride(), q.dtype, k.dtype, v.dtype, q.is_cpu, k.is_cpu,
        v.is_cpu,
    )  # fmt: skip


def _form(name: str, q: Tensor, k: Tensor, v: Tensor, q_start: int, anywhere: bool = False) -> Hashable:
    """What tells calls apart; ``anywhere``: but for their position and the number of keys."""
    return name, -1 if anywhere else q_start, settings.raw(), *form_of(q, k, v, anywhere)
