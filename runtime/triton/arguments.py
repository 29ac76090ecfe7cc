"""Builds the arguments of Triton kernels: a launch, its schedule and its numbers, as tensors on the device and
integers.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...compiler.plan import Bounds, ComputedOrder, Listing, Order, Runs, TileCount
from ..base import Launch


def call_sizes(launch: Launch) -> dict[str, Any]:
    """The arguments that all kernels of a launch share, and all launches of its form: sizes and strides."""
    heads, kv_heads = launch.q.shape[1], launch.k.shape[1]
    found: dict[str, Any] = {
        "m": launch.schedule.m,
        "n": launch.schedule.n,
        "heads": heads,
        "group": heads // kv_heads if kv_heads else 1,
        "q_start_step": int(launch.q_start.numel() > 1),
    }
    if launch.k_start is not None:
        found |= {"k_start_step": int(launch.k_start.numel() > 1), "key_rows": launch.k.shape[2]}
    found |= strides("query", launch.q) | strides("key", launch.k) | strides("value", launch.v)
    for number, table in enumerate(launch.tables):
        found[f"table{number}_batch"] = table.tensor.stride(0) if table.batched and table.tensor.shape[0] > 1 else 0
        found |= {f"table{number}_size{axis}": size for axis, size in enumerate(table.sizes)}
    return found


def call_arguments(launch: Launch) -> dict[str, Any]:
    """The arguments that all kernels of a launch share, and that each launch has of its own."""
    found: dict[str, Any] = {
        "query": launch.q,
        "key": launch.k,
        "value": launch.v,
        "q_start": launch.q_start,
        "scale": launch.scale,
        "k_start": launch.k_start,
    }
    for number, table in enumerate(launch.tables):
        found[f"table{number}"] = table.tensor
    if launch.dropout > 0:
        last = round(launch.dropout * 2**31) - 1
        found |= {"seed_low": _signed(launch.seed), "seed_high": _signed(launch.seed >> 32), "drop_last": last}
        found["drop_scale"] = 1 / (1 - launch.dropout) if launch.dropout < 1 else 0.0
    return found


def strides(name: str, tensor: Tensor) -> dict[str, int]:
    """The strides of a tensor ``[batch, heads, rows, lanes]`` as arguments."""
    batch, head, row = tensor.stride()[:3]
    return {f"{name}_batch": batch, f"{name}_head": head, f"{name}_row": row}


def _signed(number: int) -> int:
    """The low 32 bits of a number as a signed 32-bit integer."""
    low = number & 0xFFFFFFFF
    return low - 2**32 if low >= 2**31 else low


def number_arguments(numbers: tuple[int, ...], listed: bool, device: torch.device) -> dict[str, Any]:
    """The numbers that were taken out of a program: each as an argument and, for functions with many (``listed``), as a
    tensor.
    """
    found: dict[str, Any] = {f"number{index}": number for index, number in enumerate(numbers)}
    return found | ({"numbers": _on_device(numbers, torch.int64, device)} if listed else {})


def head_arguments(heads: tuple[int, ...] | None, q: Tensor) -> dict[str, Any]:
    """The heads of a kernel as a list, and for each head its index in that list (-1 if absent); None for all heads."""
    total = q.shape[1]
    if heads is None:
        return {"kernel_heads": total, "head_list": None, "head_places": None}
    places = [-1] * total
    for place, head in enumerate(heads):
        places[head] = place
    return {
        "kernel_heads": len(heads),
        "head_list": _on_device(heads, torch.int32, q.device),
        "head_places": _on_device(tuple(places), torch.int32, q.device),
    }


@lru_cache(maxsize=256)
def _on_device(values: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device)


def list_arguments(name: str, listing: Listing | None, device: torch.device) -> dict[str, Any]:
    """The list of an order's tokens, if the launch lists them, as arguments; their names begin with ``name``."""
    if listing is None:
        return {}
    length = listing.tokens.shape[1]
    return {
        f"{name}_list": _kept(listing, (listing.tokens,), (np.int32,), device)[0],
        f"{name}_list_length": length,
        f"{name}_list_batch": listing.head_slots * length if listing.batch_slots > 1 else 0,
        f"{name}_list_head": length if listing.head_slots > 1 else 0,
    }


def count_arguments(name: str, order: Order, listing: Listing | None, tokens: int) -> dict[str, int]:
    """How many tiles an order has for so many tokens, as arguments; their names begin with ``name``."""
    found = {f"{name}_tiles": order.tiles(tokens, listing).total}
    return found | {f"{name}_main_tiles": order.main_tiles(tokens)} if isinstance(order, ComputedOrder) else found


def bounds_arguments(suffix: str, bounds: Bounds, device: torch.device) -> dict[str, Any]:
    """The arguments for ``bounds``: which runs of column tiles each row tile visits, however many there are."""
    runs: Runs = bounds.runs
    arrays = (runs.pointer, runs.start, runs.length, runs.kind)
    pointer, start, length, kind = _kept(runs, arrays, (np.int64, np.int32, np.int32, np.uint8), device)
    found = {
        "run_pointer": pointer,
        "run_start": start,
        "run_length": length,
        "run_kind": kind,
        "schedule_batch": bounds.head_slots * bounds.period if bounds.batch_slots > 1 else 0,
        "schedule_head": bounds.period if bounds.head_slots > 1 else 0,
        "period": bounds.period,
        "shift": bounds.shift,
        "start_step": bounds.start_step,
        "start_shift": bounds.start_shift,
    }
    return {f"{name}{suffix}": value for name, value in found.items()}


def limit_arguments(
    suffix: str, bounds: Bounds, rows: TileCount, columns: TileCount, order: Order, tokens: int
) -> dict[str, int]:
    """The arguments for ``bounds`` that follow from how many tiles there are.

    ``rows`` and ``columns`` count the tiles; ``order`` is that of the columns, with ``tokens`` tokens.
    """
    return {
        f"class_tiles{suffix}": max(1, rows.per_class if bounds.aligned else rows.total),
        f"limit{suffix}": columns.per_class if bounds.aligned else columns.total,
        f"whole{suffix}": _whole_tiles(order, tokens, columns, bounds.aligned),
    }


def _whole_tiles(order: Order, tokens: int, columns: TileCount, aligned: bool) -> int:
    """How many of the first tiles have a token in every lane, per class where the bounds are aligned.

    All tiles, where kernels check each lane of a full tile; 0, where a partly filled last tile of a class lies between.
    """
    whole = order.whole_tiles(tokens)
    if whole is None:
        return columns.per_class if aligned else columns.total
    return 0 if columns.classes > 1 and not aligned else min(whole, columns.per_class)


_tensors: dict[tuple[int, torch.device], tuple[Tensor, ...]] = {}


def _kept(
    owner: object, arrays: Sequence[NDArray[Any]], dtypes: Sequence[Any], device: torch.device
) -> tuple[Tensor, ...]:
    """Copies of arrays on a device, kept as long as their owner lives."""
    key = (id(owner), device)
    found = _tensors.get(key)
    if found is None:
        ready = (np.ascontiguousarray(array, dtype) for array, dtype in zip(arrays, dtypes, strict=True))
        found = _tensors[key] = tuple(torch.from_numpy(array).to(device) for array in ready)
        weakref.finalize(owner, _tensors.pop, key, None)
    return found
