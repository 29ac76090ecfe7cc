"""The dense definition of attention in plain PyTorch: slow, differentiable by autograd; every kernel is tested against
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ...compiler.ir import LOGIT, Apply, Attention, CallShape, Expr, HostTable, children, substitute
from ...compiler.oracle import Environment, OutOfTableError, TableValues, evaluate, interpret
from ...compiler.verify import check_attention
from ..base import TableArgument, kept
from ..call import Call, bind, check_call, check_divisors, extent_of, is_batched, scale_of, settle
from .products import dots, sums
from .torch_arrays import TorchArrays, table_values
from .transform_levels import contents_of, outside_transforms


@dataclass(frozen=True)
class _Pairs:
    """Some query-key pairs of one call, as index tensors ``[pairs]``; for whole rows ``k`` and ``logit`` are None."""

    batch: Tensor
    head: Tensor
    row: Tensor
    k: Tensor | None
    logit: Tensor | None

    def place(self, number: int) -> tuple[int, ...]:
        """The indices of batch, head, row and key of one pair; a whole row has no key."""
        axes = (self.batch, self.head, self.row, self.k)
        return tuple(int(axis[number]) for axis in axes if axis is not None)

    def chosen(self, where: Tensor) -> _Pairs:
        k, logit = (None if x is None else x[where] for x in (self.k, self.logit))
        return _Pairs(self.batch[where], self.head[where], self.row[where], k, logit)


def reference(attention: Attention, call: Call) -> tuple[Tensor, Tensor]:
    """out ``[batch, heads, m, value_dim]`` in the dtype of q, and lse ``[batch, heads, m]`` in the compute dtype.

    Computes in float32, or in float64 for float64 inputs. NaN or infinity in a query, key or value reaches only the
    rows that keep such a pair, and in the gradients only the pairs of those rows. Raises what :func:`check_call`
    raises, OutOfTableError where an index that is evaluated for some pair is outside its table, and IntegerRangeError
    where an integer that is evaluated for some pair leaves 63 bits.
    """
    check_call(attention, call)
    dtype, device = call.compute_dtype, call.q.device
    call = _on_host_positions(call)
    extent = extent_of(call)
    tables = contents_of(attention, call.tables)
    with outside_transforms():
        given = {name: table.detach().cpu() for name, table in tables.items()}
        check_divisors(attention, given)
        host = bind(attention, given, extent, _CPU, dtype)
        check_attention(attention, extent, _as_called(attention, call, host.contents))
        check_attention(attention, extent, host.contents)
        mask = dense_mask(attention, given, extent)
    count = torch.from_numpy(mask).to(device).expand(call.sizes.batch, -1, -1, -1)
    scale = scale_of(attention, call)
    group = call.q.shape[1] // max(1, call.k.shape[1])
    k, v = (x.to(dtype).repeat_interleave(group, 1) for x in (call.k, call.v))
    logit = dots(call.q.to(dtype), k, count > 0) * scale[:, None, None]
    base = _base(attention, call, host.arguments)
    logits = _logits(attention.score, logit, count, base)
    sink = None if attention.sink is None else _sinks(attention.sink, logit, base)
    p, lse, alive = _softmax(logits, sink)
    if call.dropout:
        batch, head = (torch.arange(size, device=device) for size in logit.shape[:2])
        q = base.q_start.reshape(-1, 1, 1, 1) + torch.arange(extent.m, device=device)[:, None]
        keep = kept(call.dropout, call.seed, batch[:, None, None, None], head[:, None, None], q, base.positions["k"])
        p = p * keep / (1 - call.dropout)
    return sums(p, v, (count > 0) & alive[..., None]).to(call.q.dtype), lse


_CPU = torch.device("cpu")


def dense_mask(attention: Attention, tables: Mapping[str, Tensor], extent: CallShape) -> NDArray[Any]:
    """The mask as bool or int64 ``[batch or 1, heads, m, keys]``; ``tables`` are checked and on the host.

    Raises what :func:`compiler.oracle.evaluate` raises.
    """
    exact, tables = settle(attention, tables, extent, torch.float64)
    held = bind(exact, tables, extent, _CPU, torch.float64).contents
    return evaluate(exact.mask, exact.tables, extent, dict(zip((t.name for t in exact.tables), held, strict=True)))


def _as_called(attention: Attention, call: Call, held: tuple[HostTable, ...]) -> tuple[HostTable, ...]:
    """The contents that the call itself knows: only the sizes, for tables on a device."""
    elsewhere = {name for name, table in call.tables.items() if table.device.type != "cpu"}
    return tuple(
        replace(own, values=None) if table.name in elsewhere and table.element != "set" else own
        for table, own in zip(attention.tables, held, strict=True)
    )


def _on_host_positions(call: Call) -> Call:
    """The same call with its positions on the host, where the dense mask needs them."""
    given = {name: starts for name in ("q_starts", "k_starts") if (starts := getattr(call, name)) is not None}
    return replace(call, **{name: starts.cpu() for name, starts in given.items()}) if given else call


def _base(attention: Attention, call: Call, arguments: tuple[TableArgument, ...]) -> Environment:
    """The positions and tables that the score reads, apart from those of single pairs.

    Float tables that the call gives stay connected to the caller's tensors, so that they get gradients.
    """
    arrays = TorchArrays(call.compute_dtype, call.q.device)
    tables: dict[str, TableValues] = {}
    for table, argument in zip(attention.tables, arguments, strict=True):
        given = call.tables.get(table.name)
        if table.element == "float" and given is not None:
            values = given.to(call.q.device, call.compute_dtype)
            tables[table.name] = TableValues(table, values, is_batched(table, given))
        else:
            moved = TableArgument(argument.tensor.to(call.q.device), argument.batched)
            tables[table.name] = table_values(table, moved)
    sizes, extent = call.sizes, extent_of(call)
    starts = torch.tensor(extent.q_start, device=call.q.device).expand(max(1, sizes.batch))
    k_starts = torch.tensor(extent.k_start, device=call.q.device)
    fixed = {"n": sizes.n, "heads": sizes.heads, "head_dim": call.q.shape[3]}
    positions = {name: arrays.constant(size) for name, size in fixed.items()}
    positions["k"] = k_starts.reshape(-1, 1, 1, 1) + arrays.arange(extent.keys)
    return Environment(arrays, positions, starts, arrays.arange(sizes.batch), tables)


def _logits(score: Expr, logit: Tensor, count: Tensor, base: Environment) -> Tensor:
    """The score plus the logarithm of the count at every kept pair; -inf elsewhere."""
    keep = count > 0
    nothing = torch.full_like(logit, -torch.inf)
    if score == LOGIT:
        logits = torch.where(keep, logit, nothing)
    else:  # only at the kept pairs: elsewhere a score may be infinite, and its gradient NaN
        places = batch, head, row, key_row = keep.nonzero(as_tuple=True)
        k = base.positions["k"].expand(len(keep), -1, -1, -1)[batch, 0, 0, key_row]
        values = _at(score, _Pairs(batch, head, row, k, logit[places]), base)
        logits = nothing.index_put(places, values)
    return logits if count.dtype == torch.bool else logits + count.clamp(min=1).to(logits.dtype).log()


def _sinks(sink: Expr, logit: Tensor, base: Environment) -> Tensor:
    """The sink of every row, ``[batch, heads, m]``."""
    everywhere = torch.ones(logit.shape[:3], dtype=torch.bool, device=logit.device)
    batch, head, row = everywhere.nonzero(as_tuple=True)
    return _at(sink, _Pairs(batch, head, row, None, None), base).reshape(logit.shape[:3])


def _at(expr: Expr, pairs: _Pairs, base: Environment) -> Tensor:
    """Evaluates a float expression at some pairs, ``[pairs]``.

    Each branch of a choice between floats is evaluated only at the pairs that take it. Else the gradient of the other
    branch, which may be infinite, would be multiplied by zero.
    """
    choice = _outermost_choice(expr)
    if choice is not None:
        condition, then, otherwise = choice.args
        holds = _plain(condition, pairs, base).detach().bool()
        places = (holds.nonzero().flatten(), (~holds).nonzero().flatten())
        parts = [
            _at(substitute(expr, {choice: branch}), pairs.chosen(where), base)
            for branch, where in zip((then, otherwise), places, strict=True)
            if len(where)
        ]
        if len(parts) == 2:
            return torch.cat(parts)[torch.cat(places).argsort()]
        if parts:
            return parts[0]
    return _plain(expr, pairs, base)


def _plain(expr: Expr, pairs: _Pairs, base: Environment) -> Tensor:
    def column(x: Tensor) -> Tensor:
        return x.reshape(-1, 1, 1, 1)

    starts = base.q_start[pairs.batch]
    positions = {**base.positions, "q": column(starts + pairs.row), "head": column(pairs.head)}
    if pairs.k is not None:
        positions["k"] = column(pairs.k)
    logit = None if pairs.logit is None else column(pairs.logit)
    bound = Environment(base.arrays, positions, column(starts), column(pairs.batch), base.tables, logit)
    try:
        value: Tensor = interpret(expr, bound)
    except OutOfTableError as error:
        raise error.at(pairs.place(error.pair[0])) from None
    return value.expand(len(pairs.batch), 1, 1, 1).reshape(-1)


def _outermost_choice(expr: Expr) -> Apply | None:
    """A choice between floats that is not inside another one, None if the expression has none."""
    stack, seen = [expr], set[Expr]()
    while stack:
        node = stack.pop()
        if node in seen or node.type != "float":
            continue
        seen.add(node)
        if isinstance(node, Apply) and node.op == "if":
            return node
        stack.extend(children(node))
    return None


def _softmax(logits: Tensor, sink: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The probabilities ``[…, m, n]``, the log-sum-exp ``[…, m]`` and which rows keep anything, bool ``[…, m]``.

    Rows that keep nothing have probabilities 0 and no gradients; their log-sum-exp is -inf, or the sink.
    """
    alive = (logits > -torch.inf).any(-1) | logits.isnan().any(-1)
    safe = torch.where(alive[..., None], logits, 0.0)
    lse = safe.logsumexp(-1)
    lse = torch.where(lse == torch.inf, torch.nan, lse)  # as torch's softmax: a logit of inf makes the row NaN
    if sink is not None:
        lse = torch.logaddexp(lse, torch.where(alive, sink, 0.0))
    # In a row that keeps nothing the sink, even if infinite or NaN, does not take part in the probabilities.
    p = torch.where(alive[..., None], (safe - torch.where(alive, lse, 0.0)[..., None]).exp(), 0.0)
    if sink is None:
        return p, torch.where(alive, lse, -torch.inf), alive
    return p, torch.where(alive, lse, torch.where(sink == -torch.inf, -torch.inf, sink)), alive
