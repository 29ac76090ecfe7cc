"""Converts what a caller may write for a table (numbers, lists, sets and ranges) into small host tensors.

This runs in the caller's frame, also while torch.compile traces it: it reads Python values, never a tensor's contents.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...compiler.ir import Attention, Entry, Table, walk
from .errors import located, missing, unknown
from .host_values import LARGEST, LEAST, copied, unfit

Nested: TypeAlias = Any  # an int, or a list of Nested

_INT32 = 2**31 - 1
_HOST = torch.device("cpu")
# What an entry of a list may be, by the table's element; bools are numbers to Python, and entries of bool tables only.
_ENTRIES: dict[str, tuple[type, ...]] = {
    "float": (int, float, np.integer, np.floating), "bool": (bool, np.bool_), "int": (int, np.integer),
    "order": (int, np.integer),
}  # fmt: skip


def collect(attention: Attention, given: Mapping[str, object], device: torch.device) -> dict[str, Tensor]:
    """The tables of a call as tensors, by name, in the attention's order; tables with a default may be left out.

    A tensor stays as it is. A Python or numpy value becomes a new tensor on the host, whatever ``device`` is: its
    contents stay known for planning, and stay unchanged until the backward pass. TypeError for an unknown or missing
    table and for a value of the wrong type. ValueError for a ragged list, for a tensor on another device (a host tensor
    is allowed beside any), and for a number that is not finite where the sink reads it.
    """
    parameters = attention.parameters
    if not parameters and not given:
        return {}
    known = {table.name: table for table in parameters}
    for name in given:
        if name not in known:
            raise TypeError(unknown(attention, name))
    tensors: dict[str, Tensor] = {}
    for table in parameters:
        value = given.get(table.name)
        if value is None:
            if table.default is None:
                raise TypeError(missing(attention, table, described(table)))
            continue
        if isinstance(value, Tensor):
            odd = unfit(value)
            if odd is not None:
                raise TypeError(located(f"{table.name}: {odd}, expected a dense one: {described(table)}", table))
            if value.device not in (device, _HOST):
                places = f"{device}, where q is" + ("" if device == _HOST else ", or cpu")
                raise ValueError(located(f"{table.name}: is on {value.device}, expected {places}", table))
            tensors[table.name] = value
        else:
            tensors[table.name] = _tensor(table, value)
            # while a call is traced, an array's contents are not known
            if not torch.compiler.is_compiling() and table.name in _sinks(attention):
                _require_finite(table, tensors[table.name])
    return tensors


@lru_cache(maxsize=512)
def _sinks(attention: Attention) -> frozenset[str]:
    """The names of the float tables that the sink reads."""
    nodes = () if attention.sink is None else walk(attention.sink)
    return frozenset(node.table for node in nodes if isinstance(node, Entry) and node.type == "float")


def _require_finite(table: Table, tensor: Tensor) -> None:
    """ValueError for a host tensor that holds NaN or infinity."""
    if bool(tensor.isfinite().all()):
        return
    endless = tensor[~tensor.isfinite()][0].item()
    raise ValueError(located(f"{table.name}: holds {endless}, expected finite numbers: the sink reads it", table))


def described(table: Table) -> str:
    """What a caller may give for a table, in words: ``an int tensor [n] or [batch, n]``."""
    kinds = {"int": "an int tensor", "order": "an int tensor", "float": "a float tensor", "bool": "a bool tensor"}
    shape = shape_text(table)
    if table.element == "set":
        universe = f"{shape}, universe".lstrip(", ")
        slots = f"{shape}, slots".lstrip(", ")
        return f"an int tensor [{slots}] or a bool tensor [{universe}], or [batch, …] of either"
    if not table.dimensions:
        kinds.update({"int": "an int or an int tensor", "float": "a number or a float tensor"})
        kinds.update({"bool": "a bool or a bool tensor"})
        return f"{kinds[table.element]} [batch]"
    return f"{kinds[table.element]} [{shape}] or [batch, {shape}]"


def shape_text(table: Table) -> str:
    """The dimensions of a table, without the batch, as messages show them: ``heads, n``."""
    names = {"token": "n", "query": "m", "head": "heads"}
    return ", ".join(
        str(dimension.size) if dimension.kind == "fixed" else names.get(dimension.kind, dimension.name)
        for dimension in table.dimensions
    )


def _tensor(table: Table, value: object) -> Tensor:
    if table.element == "set":
        return _set_tensor(table, value)
    if isinstance(value, (np.ndarray, np.generic)):
        return _copied(table, value)
    leaves = list(_leaves(value))
    numbers = _ENTRIES[table.element]
    for leaf in leaves:
        if not isinstance(leaf, numbers) or (isinstance(leaf, (bool, np.bool_)) and table.element != "bool"):
            raise TypeError(located(_held(table, leaf), table))
    if any(isinstance(leaf, np.generic) for leaf in leaves):
        value = _plain(value, {"float": float, "bool": bool}.get(table.element, int))
    if table.element == "float":
        dtype = torch.float64
    elif table.element == "bool":
        dtype = torch.bool
    else:
        if not all(LEAST <= leaf <= LARGEST for leaf in leaves):
            message = f"{table.name}: holds an integer beyond 64 bits, expected {described(table)}"
            raise ValueError(located(message, table))
        dtype = torch.int32 if all(-_INT32 <= leaf <= _INT32 for leaf in leaves) else torch.int64
    try:
        return torch.tensor(value, dtype=dtype)
    except OverflowError:
        raise ValueError(
            located(f"{table.name}: holds a number beyond any float, expected {described(table)}", table)
        ) from None
    except (ValueError, TypeError):
        raise ValueError(located(_ragged(table), table)) from None


def _copied(table: Table, value: object) -> Tensor:
    try:
        return copied(table.name, value, described(table))
    except (TypeError, ValueError) as error:
        raise type(error)(located(str(error), table)) from None


def _plain(value: object, kind: type) -> object:
    """Lists of numpy numbers as lists of Python numbers."""
    return [_plain(part, kind) for part in value] if isinstance(value, (list, tuple)) else kind(value)


def _held(table: Table, value: object) -> str:
    return f"{table.name}: holds {value!r} of type {type(value).__name__}, expected {described(table)}"


def _ragged(table: Table) -> str:
    return f"{table.name}: its lists differ in length, expected {described(table)}"


def _leaves(value: object) -> Iterable[Any]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _set_tensor(table: Table, value: object) -> Tensor:
    """Sets (written as sets, ranges or lists, in one nested list per dimension) as int64 members, padded with -1."""
    if isinstance(value, np.ndarray) and value.ndim and value.dtype.kind in "biu":
        return _copied(table, value)
    nested = _nested(table, value)
    if isinstance(nested, int):
        message = f"{table.name}: is the number {nested}, expected a set, or {described(table)}"
        raise TypeError(located(message, table))
    depth = _depth(nested)
    padded = _padded(table, nested, depth, _widest(nested, depth))
    try:
        return torch.tensor(padded, dtype=torch.int64)
    except (RuntimeError, OverflowError, ValueError):
        raise ValueError(located(f"{table.name}: holds a member beyond 64 bits", table)) from None


def _nested(table: Table, value: object) -> Nested:
    if isinstance(value, (list, tuple)):
        return [_nested(table, part) for part in value]
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        listed = value.tolist()
        return listed if isinstance(listed, int) else _nested(table, listed)
    if isinstance(value, (bool, str, bytes)) or (isinstance(value, dict) and value):
        raise TypeError(located(_held(table, value), table))
    if isinstance(value, int):
        return value
    if isinstance(value, Iterable):
        members = [_member(table, part) for part in value]
        return sorted(members) if isinstance(value, (set, frozenset)) else members
    return _member(table, value)


def _member(table: Table, value: object) -> int:
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(located(_held(table, value), table)) from None


def _depth(nested: Nested) -> int:
    return 0 if isinstance(nested, int) else 1 + max([0, *[_depth(part) for part in nested]])


def _widest(nested: Nested, depth: int) -> int:
    if isinstance(nested, int):  # _padded refuses it
        return 0
    return len(nested) if depth == 1 else max([0, *[_widest(part, depth - 1) for part in nested]])


def _padded(table: Table, nested: Nested, depth: int, width: int) -> Nested:
    if isinstance(nested, int):
        raise ValueError(located(f"{table.name}: mixes numbers and sets, expected {described(table)}", table))
    if depth == 1:
        return [*nested, *([-1] * (width - len(nested)))]
    parts = [_padded(table, part, depth - 1, width) for part in nested]
    if depth > 2 and len({len(part) for part in parts}) > 1:
        raise ValueError(located(_ragged(table), table))
    return parts
