"""What the operators ``attnc::forward`` and ``attnc::backward`` run, and :func:`attend`, which calls them.

All work that depends on the contents of tensors (planning, launching) happens inside the operators, so that a tracer
sees one opaque call. Operators take strings, not attentions, so each call passes the name under which
:func:`runtime.base.identities.register` keeps the attention; :mod:`runtime.registration` registers them with torch.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..compiler.ir import Attention, Table
from .backends import backend_for, devices
from .base import Prepared, Wanted, compute_dtype, filled, registered, settings
from .batching import register_batching
from .call import (
    Call,
    check_call,
    check_dropout,
    check_tensors,
    checked_positions,
    checked_scale,
    checked_start,
    collect,
    integer,
)
from .derivatives import is_plain, is_reverse_only, no_forward_mode, recorded
from .dispatch import goes_straight
from .launch_cache import launch_for
from .planning import last_contiguous
from .prepared import keep_prepared, keep_prepared_backward, run_prepared, run_prepared_backward
from .registration import without_dynamo

_SEEDS = 2**63 - 1
DEVICES = devices()

# Dynamo, where anything imports it, imports triton, which then decides for good whether it interprets.
if settings.interpret and "triton" not in sys.modules:
    os.environ["TRITON_INTERPRET"] = "1"


def attend(
    attention: Attention,
    name: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: object,
    q_start: object,
    k_start: object,
    n: object,
    dropout: object,
    seed: object,
    tables: Mapping[str, object],
) -> tuple[Tensor, Tensor]:
    """Checks the arguments and calls ``attnc::forward``: out ``[batch, heads, m, value_dim]`` and lse
    ``[batch, heads, m]``.

    ``name``: what :func:`runtime.base.identities.register` returned for the attention. TypeError and ValueError, naming
    the parameter, for an argument that does not fit.
    """
    if torch.compiler.is_dynamo_compiling() and forward_ad._current_level >= 0:
        raise no_forward_mode()
    usual = scale is None and n is None and seed is None and not tables and type(k_start) is int and not k_start
    if usual and type(q_start) is int and type(dropout) is float and not dropout and not torch.compiler.is_compiling():
        found = run_prepared(name, q, k, v, q_start, _backward_of)
        if found is not None:
            return found
    q, k, v = _under_autocast(q, k, v)
    check_tensors(q, k, v, DEVICES)
    if q.dtype == torch.float64 and q.device.type != "cpu":
        raise TypeError(f"q: has dtype float64 on {q.device}, expected float32, bfloat16 or float16 there")
    q, k, v = last_contiguous(q), last_contiguous(k), last_contiguous(v)
    tensors = collect(attention, tables, q.device)
    start, starts = checked_start(q_start)
    first, firsts = checked_start(k_start, "k_start")
    total = checked_positions(n, firsts)
    probability = check_dropout(dropout)
    factor, seeds = checked_scale(scale, q.dtype), _seed_tensor(probability, seed)
    others = (*tensors.values(), factor, starts, firsts)
    compiling = torch.compiler.is_compiling()
    plain = not compiling and is_plain((q, k, v, *others))
    straight = not compiling and goes_straight(q, k, v, others)
    if plain and straight:
        number = 0 if seeds is None else int(seeds)
        call = filled(
            Call, q=q, k=k, v=v, tables=tensors, scale=factor, q_start=start, q_starts=starts, dropout=probability,
            seed=number, k_start=first, k_starts=firsts, positions=total,
        )  # fmt: skip
        return _attended(attention, name, call)
    given = "".join("1" if table.name in tensors else "0" for table in attention.parameters)
    inputs = (
        q, k, v, list(tensors.values()), given, factor, starts, start, firsts, first, total, seeds, probability, name
    )  # fmt: skip
    if plain:
        with torch._C._AutoDispatchBelowAutograd():  # which would only pass it on
            return forward(*inputs)  # type: ignore[no-any-return]
    if straight and is_reverse_only() and not (factor is not None and factor.requires_grad):
        return recorded(run_forward, _backward_of, *inputs)
    return forward(*inputs)  # type: ignore[no-any-return]


def call_of(
    attention: Attention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: object,
    q_start: object,
    k_start: object = 0,
    n: object = None,
    dropout: object,
    seed: object,
    tables: Mapping[str, object],
) -> Call:
    """The same arguments as a :class:`Call`, for :func:`runtime.eager.dense_reference.reference`; the same errors."""
    check_tensors(q, k, v, DEVICES)
    start, starts = checked_start(q_start)
    first, firsts = checked_start(k_start, "k_start")
    total = checked_positions(n, firsts)
    probability = check_dropout(dropout)
    drawn = _seed_tensor(probability, seed)
    tensors = collect(attention, tables, q.device)
    factor = checked_scale(scale, q.dtype)
    number = 0 if drawn is None else int(drawn)
    return Call(q, k, v, tensors, factor, start, starts, probability, number, first, firsts, total)


def settle_tables(attention: Attention, q: Tensor, scale: object, tables: Mapping[str, object]) -> dict[str, Any]:
    """The scale and the tables of a call as its own copies, by the names of :func:`attend`'s parameters."""
    check_tensors(q, q, q, DEVICES)
    factor = checked_scale(scale, q.dtype)
    given = collect(attention, tables, q.device)
    for name, table in given.items():
        if table.requires_grad and torch.is_grad_enabled():
            message = f"{name}: requires a gradient, which a prepared call does not give: call the attention itself"
            raise ValueError(message)
    copies = {name: table.detach().clone() for name, table in given.items()}
    return {"scale": None if factor is None else factor.detach().clone(), "tables": copies}


def prepared_call(attention: Attention, name: str, call: Call) -> Prepared | None:
    """Forward passes of the form of a call without derivatives, all but their tensors settled; None where the backend
    makes no such thing, or the kernel cannot be built.
    """
    backend = backend_for(call.q.device, call.k.shape[2])
    launch = launch_for(attention, name, call, backend, backward=False)
    contiguous = all(x.stride(-1) == 1 for x in (call.q, call.k, call.v))
    if not contiguous or not call.q.shape[:3].numel():
        return None
    backend.forward(launch)  # builds the kernel, or says once why it runs without
    return backend.prepare(launch) if launch.ready is not None and launch.ready else None


def _under_autocast(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v in autocast's dtype where autocast is on; float64 stays, as in PyTorch's own operators."""
    device = q.device.type if all(isinstance(x, Tensor) for x in (q, k, v)) else "meta"
    if device not in DEVICES or not torch.is_autocast_enabled(device):
        return q, k, v
    dtype = torch.get_autocast_dtype(device)

    def cast(x: Tensor) -> Tensor:
        return x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x

    return cast(q), cast(k), cast(v)


def _seed_tensor(dropout: float, seed: object) -> Tensor | None:
    """The seed as int64 ``[1]`` on the host, drawn from torch's generator unless given; None without dropout.

    TypeError for a seed that is not an int.
    """
    number = None if seed is None else integer(seed)
    if seed is not None and number is None:
        raise TypeError(f"seed: is {type(seed).__name__}, expected an int")
    if not dropout:
        return None
    if number is None:
        return torch.randint(0, _SEEDS, (1,), dtype=torch.int64, device="cpu")
    return torch.tensor([plain_seed(number)], dtype=torch.int64)


def plain_seed(seed: int) -> int:
    """Any int reduced to a seed of 63 bits, modulo ``2**63``: -1 and ``2**63 - 1`` are the same seed."""
    return seed & _SEEDS


@without_dynamo
def run_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tables: Sequence[Tensor],
    given: str,
    scale: Tensor | None,
    q_starts: Tensor | None,
    q_start: int,
    k_starts: Tensor | None,
    k_start: int,
    n: int | None,
    seed: Tensor | None,
    dropout: float,
    attention: str,
) -> tuple[Tensor, Tensor]:
    """Plans and launches the forward pass: out and lse, contiguous.

    ``given`` has one character per parameter of the attention: 1 where ``tables`` holds it, 0 where it does not.
    AOTInductor, in whose packages an empty list is lost, gives None for ``tables``.
    """
    known = registered(attention)
    call = _call(known, q, k, v, tables or [], given, scale, q_starts, q_start, k_starts, k_start, n, seed, dropout)
    return _attended(known, attention, call)


@without_dynamo
def _attended(known: Attention, name: str, call: Call) -> tuple[Tensor, Tensor]:
    q = call.q
    with _without_autocast(q.device.type):
        backend = backend_for(q.device, call.k.shape[2])
        launch = launch_for(known, name, call, backend, backward=False)
        if not q.shape[:3].numel():
            return _empty(q, call.v)
        out, lse = backend.forward(launch)
        keep_prepared(name, call, backend, launch)
    return out.contiguous(), lse.contiguous()


forward = torch.ops.attnc.forward.default
_nothing = contextlib.nullcontext()


def _without_autocast(device: str) -> contextlib.AbstractContextManager[object]:
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else _nothing


def fake_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tables: Sequence[Tensor],
    given: str,
    scale: Tensor | None,
    q_starts: Tensor | None,
    q_start: int,
    k_starts: Tensor | None,
    k_start: int,
    n: int | None,
    _seed: Tensor | None,
    dropout: float,
    attention: str,
) -> tuple[Tensor, Tensor]:
    """out and lse of a call whose tensors hold nothing, checked as far as their shapes tell."""
    known = registered(attention)
    check_call(
        known, _call(known, q, k, v, tables, given, scale, q_starts, q_start, k_starts, k_start, n, None, dropout)
    )
    return _empty(q, v)


@without_dynamo
def run_backward(
    wanted: str,
    grad_out: Tensor | None,
    grad_lse: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    tables: Sequence[Tensor],
    given: str,
    scale: Tensor | None,
    q_starts: Tensor | None,
    q_start: int,
    k_starts: Tensor | None,
    k_start: int,
    n: int | None,
    seed: Tensor | None,
    dropout: float,
    attention: str,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """The gradients of q, k and v, and of each float table in ``tables``, with the shapes and dtypes of the inputs.

    ``wanted`` has a character for each of q, k, v and the tables: 1 where the gradient is asked for; others are empty.
    """
    known = registered(attention)
    call = _call(known, q, k, v, tables, given, scale, q_starts, q_start, k_starts, k_start, n, seed, dropout)
    with _without_autocast(q.device.type):
        backend = backend_for(q.device, k.shape[2])
        launch = launch_for(known, attention, call, backend, backward=True)
        parameters = _given(known, given)
        floats = [table.element == "float" for table in parameters]
        if not q.shape[:3].numel():
            return _like_inputs((q, k, v), tables, floats, wanted, torch.Tensor.new_zeros)
        if grad_out is None:
            grad_out = torch.zeros_like(out)
        elif not q.is_cpu:  # whose kernels take any strides; on a device the width of indices was settled without them
            grad_out = grad_out.contiguous()
        grad_lse = None if grad_lse is None else grad_lse.contiguous()
        positions = {table.name: position for position, table in enumerate(known.tables)}
        asked = {positions[parameter.name] for parameter, its in zip(parameters, wanted[3:], strict=True) if its == "1"}
        flags = tuple([number in asked for number in range(len(launch.tables))])
        found = backend.backward(launch, out, lse, grad_out, grad_lse, Wanted(*_first(wanted), flags))
        keep_prepared_backward(attention, call, backend, launch)
        gradients: list[Tensor] = []
        for parameter, table in zip(parameters, tables, strict=True):
            gradient = found.tables[positions[parameter.name]]
            if gradient is not None:
                gradients.append(gradient.reshape(table.shape).to(table).contiguous())
            elif parameter.element == "float":
                gradients.append(table.new_empty(0))
    own = [q.new_empty(0) if x is None else x.contiguous() for x in (found.q, found.k, found.v)]
    return own[0], own[1], own[2], gradients


def _first(wanted: str) -> tuple[bool, bool, bool]:
    """Whether the gradients of q, k and v are asked for."""
    return wanted[0] == "1", wanted[1] == "1", wanted[2] == "1"


@without_dynamo
def _backward_of(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """The backward pass of a call that went straight: straight again, or by the operator where someone looks on."""
    wanted, grad_out, grad_lse, q, k, v, out, lse, tables, _, *numbers, name = inputs
    others = grad_out, grad_lse, out, lse, *tables
    if not is_plain((q, k, v, *others)) or not goes_straight(q, k, v, others):
        found: tuple[Tensor, Tensor, Tensor, list[Tensor]] = torch.ops.attnc.backward.default(*inputs)
        return found
    scale, q_starts, q_start, k_starts, k_start, n, _, dropout = numbers
    if not tables and scale is q_starts is k_starts is n is None and not k_start and not dropout:
        own = Wanted(*_first(wanted))
        prepared = run_prepared_backward(name, q, k, v, q_start, out, lse, grad_out, grad_lse, own)
        if prepared is not None:
            return *prepared, []  # type: ignore[return-value]  # what is not wanted may be None here
    return run_backward(*inputs)


def fake_backward(*inputs: Any) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """The gradients that :func:`run_backward` returns, for tensors that hold nothing."""
    wanted, _, _, q, k, v, _, _, tables, given, *_, attention = inputs
    floats = [table.element == "float" for table in _given(registered(attention), given)]
    return _like_inputs((q, k, v), tables, floats, wanted, torch.Tensor.new_empty)


def _like_inputs(
    first: Sequence[Tensor], tables: Sequence[Tensor], floats: Sequence[bool], wanted: str, make: Any
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """Gradients as the operator returns them, contiguous, each made by ``make(input, shape)``; ``floats``: which tables
    have one.
    """

    def made(x: Tensor, its: str) -> Tensor:
        return make(x, x.shape if its == "1" else (0,))  # type: ignore[no-any-return]

    q, k, v = map(made, first, wanted[:3])
    return q, k, v, [made(x, its) for x, own, its in zip(tables, floats, wanted[3:], strict=True) if own]


def _empty(q: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Uninitialised out and lse, contiguous, of the shapes and dtypes that the operator returns."""
    return q.new_empty((*q.shape[:3], v.shape[3])), q.new_empty(q.shape[:3], dtype=compute_dtype(q.dtype))


def _given(known: Attention, given: str) -> list[Table]:
    """The parameters that a call gives, by the ``1`` of each in ``given``."""
    return [table for table, its in zip(known.parameters, given, strict=True) if its == "1"]


def _call(
    known: Attention,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tables: Sequence[Tensor],
    given: str,
    scale: Tensor | None,
    q_starts: Tensor | None,
    q_start: int,
    k_starts: Tensor | None,
    k_start: int,
    n: int | None,
    seed: Tensor | None,
    dropout: float,
) -> Call:
    named = {parameter.name: table for parameter, table in zip(_given(known, given), tables, strict=True)}
    number = 0 if seed is None else int(seed)
    return Call(q, k, v, named, scale, q_start, q_starts, dropout, number, k_start, k_starts, n)


register_batching()
