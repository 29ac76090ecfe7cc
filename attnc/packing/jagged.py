"""Attention over nested tensors: each sequence of a jagged batch attends within itself, without padding.

All sequences are one call where that gives the same (:mod:`.restarted`); else each has a call of its own, over slices
that share the memory of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from ..compiler.ir import Attention
from ..runtime.call import checked_start, collect, is_batched, located
from .restarted import reads_by_position, restarted

# Up to so many tokens on average, one call is faster whose positions come from tables: more tiles are looked at than in
# a call for each sequence, but nothing is planned for each length.
_SHORT = 1024
_SHAPE = "[batch, heads, tokens, features]"


# Computes out and lse of an attention, known by its name, from dense q, k and v, as :func:`runtime.op.attend` does.
Attend = Callable[..., tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Sequences:
    """What nested q, k and v hold: values ``[1, heads, tokens, features]`` of all sequences, one after the other.

    ``offsets`` and ``key_offsets``: where each begins, and the last ends, among rows of q and of k, ``[batch + 1]``.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    offsets: Tensor
    key_offsets: Tensor

    @property
    def count(self) -> int:
        return len(self.offsets) - 1

    @property
    def are_alike(self) -> bool:
        """Whether each has as many queries as keys."""
        return self.offsets is self.key_offsets or torch.equal(self.offsets, self.key_offsets)

    def nested(self, x: Tensor) -> Tensor:
        """A result ``[1, heads, tokens, …]``, nested as q is: ``[batch, heads, tokens, …]``."""
        return torch.nested.nested_tensor_from_jagged(x[0], self.offsets, jagged_dim=2)


def sequences_of(q: Tensor, k: Tensor, v: Tensor) -> Sequences:
    """Takes nested tensors apart, without a copy. TypeError and ValueError for those that do not fit."""
    values: list[Tensor] = []
    given: tuple[tuple[str, Any], ...] = (("q", q), ("k", k), ("v", v))
    for name, x in given:
        _check_nested(name, x)
        values.append(x.values()[None])
    own, keys, of_values = (x.offsets() for _, x in given)
    for name, offsets in (("k", keys), ("v", of_values)):
        if len(offsets) != len(own):
            raise ValueError(f"{name}: has {len(offsets) - 1} sequences, expected {len(own) - 1}, as q has")
    if of_values is not keys and not torch.equal(of_values, keys):
        raise ValueError("v: has sequences of other lengths than those of k, expected the same offsets")
    return Sequences(values[0], values[1], values[2], own, keys)


def _check_nested(name: str, x: Any) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: is {type(x).__name__}, expected a nested tensor, as q is")
    if not x.is_nested or x.layout is not torch.jagged:
        kind = f"a nested tensor of layout {str(x.layout).removeprefix('torch.')}" if x.is_nested else "dense"
        raise TypeError(f"{name}: is {kind}, expected a nested tensor of layout torch.jagged")
    jagged: Any = x
    if x.ndim != 4 or jagged._ragged_idx != 2:
        transposed = "; did you mean transpose(1, 2)?" if x.ndim == 4 else ""
        raise ValueError(f"{name}: has shape {_shown(x)}, expected {_SHAPE}, its tokens jagged{transposed}")
    if jagged._lengths is not None:
        raise ValueError(f"{name}: has gaps between its sequences, expected none: make it contiguous()")


def _shown(x: Any) -> str:
    """A nested tensor's shape as a user reads it: ``[2, 4, *, 8]``."""
    return f"[{', '.join('*' if axis == x._ragged_idx else str(size) for axis, size in enumerate(x.shape))}]"


@_disable_dynamo  # which would trace how sequences are taken apart, in pieces
def attend_sequences(
    attend: Attend,
    attention: Attention,
    name: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    as_one: bool = True,
    **given: Any,
) -> tuple[Tensor, Tensor]:
    """out ``[batch, heads, tokens, value_dim]`` and lse ``[batch, heads, tokens]``, nested as q is; differentiable.

    ``given``: the other arguments of ``attend``. Tables and ``q_start`` may have an entry for each sequence.
    ``as_one``: one call may serve all sequences. ValueError for what has no meaning beside nested tensors.
    """
    sequences = sequences_of(q, k, v)
    for argument, usual in (("k_start", "0"), ("n", "None")):
        if repr(given[argument]) != usual:
            expected = "expected none beside nested q, k and v: all keys of a sequence are there, from position 0 on"
            raise ValueError(f"{argument}: is given, {expected}")
    tables = _tables(attention, sequences, given["tables"])
    start, starts = checked_start(given["q_start"])
    if starts is not None and list(starts.shape) not in ([], [1], [sequences.count]):
        shape = list(starts.shape)
        raise ValueError(f"q_start: has shape {shape}, expected an int or [{sequences.count}], one for each sequence")
    given = {**given, "tables": tables}
    known = {table.name: table for table in attention.parameters}
    split = {its for its, tensor in tables.items() if is_batched(known[its], tensor)}
    from_first = not start and starts is None and not split
    if not sequences.count or (as_one and from_first and _fit_one_call(attention, sequences)):
        out, lse = _all_at_once(attend, attention, sequences, given)
    else:
        each = [start] * sequences.count if starts is None else starts.reshape(-1).expand(sequences.count).tolist()
        out, lse = _one_by_one(attend, attention, name, sequences, given, each, split)
    return sequences.nested(out), sequences.nested(lse)


def _tables(attention: Attention, sequences: Sequences, given: Mapping[str, object]) -> dict[str, Tensor]:
    """The tables as tensors. ValueError for one that has an entry for each token, and for a batch of another size."""
    for table in attention.parameters:
        by = next((one.kind for one in table.dimensions if one.kind in ("token", "query")), None)
        if by is not None:
            message = (
                f"{table.name}: has an entry for each {by}, expected no such table beside nested q, k and v: call with "
                "the packed tokens, and a table of documents by attnc.documents(cu_seqlens)"
            )
            raise ValueError(located(message, table))
    tensors = collect(attention, given, sequences.q.device)
    for table in attention.parameters:
        tensor = tensors.get(table.name)
        if tensor is not None and is_batched(table, tensor) and tensor.shape[0] not in (1, sequences.count):
            message = (
                f"{table.name}: has a batch of {tensor.shape[0]}, expected {sequences.count}, one for each sequence"
            )
            raise ValueError(located(message, table))
    return tensors


def _fit_one_call(attention: Attention, sequences: Sequences) -> bool:
    if not sequences.are_alike or reads_by_position(attention):
        return False
    return restarted(attention).natural or sequences.q.shape[2] <= _SHORT * sequences.count


def _all_at_once(
    attend: Attend, attention: Attention, sequences: Sequences, given: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    one = restarted(attention)
    tables = {**given["tables"], **one.tables(sequences.offsets, sequences.q.shape[2])}
    found: tuple[Tensor, Tensor] = attend(
        one.attention, one.name, sequences.q, sequences.k, sequences.v, **{**given, "tables": tables, "q_start": 0}
    )
    return found


def _one_by_one(
    attend: Attend,
    attention: Attention,
    name: str,
    sequences: Sequences,
    given: Mapping[str, Any],
    starts: list[int],
    split: set[str],
) -> tuple[Tensor, Tensor]:
    """``starts``: the position of each sequence's first row; ``split``: the tables that have a batch."""
    rows, keys = sequences.offsets.diff().tolist(), sequences.key_offsets.diff().tolist()
    apart = (
        torch.split(x, lengths, 2) for x, lengths in ((sequences.q, rows), (sequences.k, keys), (sequences.v, keys))
    )
    seed = given["seed"]
    if given["dropout"] and seed is None:
        seed = int(torch.randint(0, 2**62, ()))
    found = []
    for number, (q, k, v) in enumerate(zip(*apart, strict=True)):
        tables = {
            its: table[number : number + 1] if its in split and table.shape[0] > 1 else table
            for its, table in given["tables"].items()
        }
        own = {"tables": tables, "q_start": starts[number], "seed": None if seed is None else seed + number}
        found.append(attend(attention, name, q, k, v, **{**given, **own}))
    out, lse = (torch.cat(parts, 2) for parts in zip(*found, strict=True))
    return out, lse
