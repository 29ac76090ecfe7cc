"""Checks the tables of one call against their types, and converts each to the form that every executor takes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
import torch
from torch import Tensor

from ...compiler.ir import Apply, Attention, CallShape, Const, Expr, HostTable, Member, Position, Table, walk
from ...compiler.oracle import fits_bitmaps, from_literal
from ...compiler.plan import FLOATS
from ..base import TableArgument, device_copy, dtype_name, torch_dtype
from .errors import located, missing
from .python_values import described

INTEGERS = frozenset({torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64})
DTYPES = tuple(map(torch_dtype, FLOATS))
"""Of q, k and v, and of float tables: torch has narrower ones besides, which no kernel reads."""

_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class TableSizes:
    """The sizes of one call that tables are checked against. ``n_is``: the words by which errors name ``n``."""

    batch: int
    heads: int
    m: int
    n: int
    n_is: str = "n"


@dataclass(frozen=True)
class Bound:
    """The tables of one call: ``arguments`` for the kernels, on the device; ``contents`` as far as the host knows them.

    Both are in the order of the attention's tables. ``wide``: some integers do not fit 32 bits, or may not.
    """

    arguments: tuple[TableArgument, ...]
    contents: tuple[HostTable, ...]
    wide: bool


def is_batched(table: Table, tensor: Tensor) -> bool:
    """Whether a tensor of the right rank has the leading batch dimension that the language does not write."""
    return tensor.ndim > len(table.dimensions) + (table.element == "set")


def check(attention: Attention, tensors: Mapping[str, Tensor], sizes: TableSizes) -> None:
    """Checks the dtypes and shapes of tables; reads no contents, so that it also runs while tracing.

    TypeError for a wrong dtype and a missing table, ValueError for a wrong shape.
    """
    free: dict[str, tuple[int, Table]] = {}
    for table in attention.parameters:
        tensor = tensors.get(table.name)
        if tensor is None:
            if table.default is None:
                raise TypeError(missing(attention, table, described(table)))
            continue
        _check_dtype(table, tensor)
        _check_shape(table, tensor, sizes, free)


def _check_dtype(table: Table, tensor: Tensor) -> None:
    dtype = tensor.dtype
    fits = {
        "int": dtype in INTEGERS,
        "order": dtype in INTEGERS,
        "float": dtype in DTYPES,
        "bool": dtype == torch.bool,
        "set": dtype in INTEGERS or dtype == torch.bool,
    }
    if not fits[table.element]:
        raise TypeError(located(f"{table.name}: has dtype {dtype_name(dtype)}, expected {described(table)}", table))


def _check_shape(table: Table, tensor: Tensor, sizes: TableSizes, free: dict[str, tuple[int, Table]]) -> None:
    rank = len(table.dimensions) + (table.element == "set")
    shape = list(tensor.shape)
    if len(shape) not in (rank, rank + 1):
        raise ValueError(located(f"{table.name}: has shape {shape}, expected {described(table)}", table))
    if is_batched(table, tensor):
        if shape[0] not in (1, sizes.batch):
            message = f"{table.name}: has shape {shape}, expected a batch of {sizes.batch}, as q has"
            raise ValueError(located(message, table))
        shape = shape[1:]
    known = {"token": (sizes.n, sizes.n_is), "query": (sizes.m, "m"), "head": (sizes.heads, "heads")}
    for axis, (dimension, size) in enumerate(zip(table.dimensions, shape, strict=False)):
        others: tuple[tuple[Table, str], ...] = ()
        if dimension.kind == "fixed":
            assert dimension.size is not None
            expected, name = dimension.size, ""
        elif dimension.kind == "free":
            expected, first = free.setdefault(dimension.name, (size, table))
            name = f"{dimension.name}, as {first.name} has"
            others = ((first, f"`{dimension.name}` is {expected} here"),) if first is not table else ()
        else:
            expected, name = known[dimension.kind]
        if size != expected:
            what = f" ({name})" if name else ""
            after = " after the batch" if is_batched(table, tensor) else ""
            message = (
                f"{table.name}: has shape {list(tensor.shape)}, expected {expected}{what} in dimension {axis}{after}; "
                f"it takes {described(table)}"
            )
            raise ValueError(located(message, table, *others))


def check_divisors(attention: Attention, tensors: Mapping[str, Tensor]) -> None:
    """Checks that what the attention divides by is positive. ValueError for a table that the host knows.

    The device asserts it for a table that only it knows, before the kernels run and without the host's waiting: as for
    an index of torch's own, the next call that waits for the device raises then.
    """
    for table in attention.tables:
        tensor = tensors.get(table.name) if table.divides and table.value is None else None
        if tensor is None or not tensor.numel():  # what the text gives is checked as it is bound
            continue
        verb = "is" if tensor.numel() == 1 else "holds"
        if not tensor.is_cpu:
            torch._assert_async((tensor > 0).all(), _not_positive(table, verb, "0 or a negative number"))
        elif (least := int(tensor.min())) < 1:
            raise ValueError(located(_not_positive(table, verb, str(least)), table))


def _not_positive(table: Table, verb: str, found: str) -> str:
    return f"{table.name}: {verb} {found}, expected 1 or more: something is divided by it"


def bind(
    attention: Attention,
    tensors: Mapping[str, Tensor],
    extent: CallShape,
    device: torch.device,
    compute_dtype: torch.dtype,
    unread: bool = False,
    sources: Mapping[str, Tensor] | None = None,
) -> Bound:
    """Converts checked tables to the form of the kernels, and collects their contents.

    In ``contents``, int64 tables stay int64; ``arguments`` are int32 where every value fits. Sets become bitmaps, or
    sorted members where these take much less memory. A table that has its form already is not copied. Nothing waits for
    a device. ``unread``: the host reads no tensor, not even one that lies on it. ``sources``: the caller's own tensors,
    whose copies on the device are kept; ``tensors`` unless given. ValueError for a literal that does not fit the call's
    sizes.
    """
    sources = tensors if sources is None else sources
    free: dict[str, int] = {}
    forms: list[Tensor] = []
    contents: list[HostTable] = []
    for table in attention.tables:
        tensor = tensors.get(table.name)
        if tensor is None or table.value is not None:
            literal = table.value if table.value is not None else table.default
            assert literal is not None, "checked"
            held = from_literal(table, literal, extent, free)
            assert held.values is not None
            form, batched, hidden = torch.from_numpy(held.values), held.batched, False
        else:
            form, batched = tensor.detach(), is_batched(table, tensor)
            hidden = unread or form.device.type != "cpu"
            if batched and form.shape[0] == 1:
                form, batched = form[0], False
            _learn_free_sizes(table, form, batched, free)
        most = form.shape[-1] if hidden and table.element == "set" and form.dtype != torch.bool else None
        form = _brought_to_form(attention, table, form, extent, compute_dtype, hidden)
        forms.append(form)
        wide = form.dtype == torch.int64
        contents.append(HostTable(None if hidden else _on_host(form), batched, tuple(form.shape), wide, most))
    wide = any(not _fits_32_bits(held, form) for held, form in zip(contents, forms, strict=True))
    arguments = tuple(
        TableArgument(_argument(form, wide, device, sources.get(table.name), _made_by(table, extent)), held.batched)
        for table, form, held in zip(attention.tables, forms, contents, strict=True)
    )
    return Bound(arguments, tuple(contents), wide)


def widened(arguments: tuple[TableArgument, ...]) -> tuple[TableArgument, ...]:
    """The same arguments with 64-bit integers."""
    return tuple(
        TableArgument(argument.tensor.long(), argument.batched) if argument.tensor.dtype == torch.int32 else argument
        for argument in arguments
    )


def _learn_free_sizes(table: Table, form: Tensor, batched: bool, free: dict[str, int]) -> None:
    for dimension, size in zip(table.dimensions, form.shape[1:] if batched else form.shape, strict=False):
        if dimension.kind == "free":
            free[dimension.name] = size


def _brought_to_form(
    attention: Attention, table: Table, tensor: Tensor, extent: CallShape, compute_dtype: torch.dtype, hidden: bool
) -> Tensor:
    match table.element:
        case "float":
            return tensor.to(compute_dtype).contiguous()
        case "double":
            return tensor.to(torch.float64).contiguous()
        case "bool":
            return tensor.contiguous().view(torch.uint8)
        case "set":
            return _sets(attention, table, tensor, extent, hidden)
        case _:
            return tensor.to(torch.int64 if tensor.dtype == torch.int64 else torch.int32).contiguous()


def _sets(attention: Attention, table: Table, tensor: Tensor, extent: CallShape, hidden: bool) -> Tensor:
    """Sets as bitmaps, uint8 ``[…, universe]``, or as sorted members, int32 or int64 ``[…, slots]``, padded with -1.

    Members that no lookup of the pattern can equal are left out. ``hidden``: the host does not read the tensor, and
    where the sizes do not bound the members it has them sorted.
    """
    if tensor.dtype == torch.bool:
        return tensor.contiguous().view(torch.uint8)
    universe = universe_bound(attention, table, extent)
    if hidden and universe is None and tensor.shape[-1]:
        narrow = torch.int64 if tensor.dtype == torch.int64 else torch.int32
        return tensor.to(narrow).clamp(min=-1).sort(-1).values.contiguous()
    if universe is None or not hidden:
        largest = int(tensor.max()) + 1 if tensor.numel() else 1
        universe = max(1, largest if universe is None else min(largest, universe))
    universe = min(universe, 2**63)
    members = tensor.long()
    inside = (members >= 0) & (members <= universe - 1)
    if not fits_bitmaps(universe, members.shape[:-1].numel(), members.numel(), extent.n):
        narrow = torch.int32 if universe <= _INT32.max else torch.int64
        return torch.where(inside, members, -1).to(narrow).sort(-1).values.contiguous()
    rest = torch.where(inside, members, universe)  # one extra column collects those left out
    bits = torch.zeros((*members.shape[:-1], universe + 1), dtype=torch.uint8, device=members.device)
    bits.scatter_(-1, rest, 1)
    return bits[..., :universe].contiguous()


def universe_bound(attention: Attention, table: Table, extent: CallShape) -> int | None:
    """One more than the largest number that the pattern looks for in a set; None where sizes alone do not bound it."""
    bound = 1
    for element in _elements(attention, table.name):
        found = integer_bounds(element, extent)
        if found is None:
            return None
        bound = max(bound, found[1] + 1)
    return bound


@lru_cache(maxsize=512)
def _elements(attention: Attention, table: str) -> tuple[Expr, ...]:
    """The expressions whose membership in a set the attention asks for."""
    roots = (attention.mask, attention.score, *(() if attention.sink is None else (attention.sink,)))
    nodes = (node for root in roots for node in walk(root))
    return tuple(node.element for node in nodes if isinstance(node, Member) and node.table == table)


def integer_bounds(expr: Expr, extent: CallShape) -> tuple[int, int] | None:
    """Bounds ``(least, greatest)`` of an integer expression by sizes and positions alone; None where they give none."""
    match expr:
        case Const(value=int() as value):
            return value, value
        case Position(name=("k" | "n" | "head" | "heads") as name):
            size = extent.n if name in ("k", "n") else extent.heads
            return (0, max(0, size - 1)) if name in ("k", "head") else (size, size)
        case Position(name="q") if extent.q_start:
            return min(extent.q_start), max(extent.q_start) + max(0, extent.m - 1)
        case Apply(op=("add" | "sub" | "mul" | "neg" | "min" | "max" | "floordiv" | "mod") as op, args=args):
            parts = [integer_bounds(part, extent) for part in args]
            known = [part for part in parts if part is not None]
            return _combined(op, known) if len(known) == len(parts) else None
        case _:
            return None


def _combined(op: str, parts: list[tuple[int, int]]) -> tuple[int, int]:
    lows, highs = [part[0] for part in parts], [part[1] for part in parts]
    match op:
        case "add":
            return sum(lows), sum(highs)
        case "sub":
            return lows[0] - highs[1], highs[0] - lows[1]
        case "neg":
            return -highs[0], -lows[0]
        case "min" | "max":
            choose = min if op == "min" else max
            return choose(lows), choose(highs)
        case "floordiv":
            return lows[0] // lows[1], highs[0] // lows[1]  # by a positive constant
        case "mod":
            return (lows[0], highs[0]) if lows[0] >= 0 and highs[0] < lows[1] else (0, lows[1] - 1)
        case _:  # mul
            return reduce(_product, parts)


def _product(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    corners = [x * y for x in a for y in b]
    return min(corners), max(corners)


def _on_host(form: Tensor) -> np.ndarray | None:
    if form.device.type != "cpu":
        return None
    values = form.numpy()
    return values.view(np.bool_) if form.dtype == torch.uint8 else values


def _fits_32_bits(held: HostTable, form: Tensor) -> bool:
    if form.dtype != torch.int64:
        return True
    if held.values is None:
        return False
    return not held.values.size or bool(_INT32.min < held.values.min() and held.values.max() <= _INT32.max)


def _made_by(table: Table, extent: CallShape) -> Hashable:
    """What the form of a table depends on beside its tensor: that of a set also on which members can be asked for."""
    return (table.element, extent if table.element == "set" else None)


def _argument(form: Tensor, wide: bool, device: torch.device, source: Tensor | None, made_by: Hashable) -> Tensor:
    """A table on the device. ``source``: the caller's tensor that it was made of, for which ``made_by`` says how."""
    if form.dtype in (torch.int32, torch.int64):
        form = form.to(torch.int64 if wide else torch.int32)
    if form.device != device and form.numel() == 1:  # filled on the device: a copy would synchronise
        return torch.full(form.shape, form.item(), dtype=form.dtype, device=device)
    if form.device.type == "cpu" != device.type:
        return device_copy(form, device, source, made_by)
    return form.to(device)
