"""Builds the arguments of Triton kernels: a launch, its schedule and its numbers, as tensors on the device and
integers.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...compiler.plan import (
    Bounds,
    ComputedOrder,
    ListedOrder,
    Listing,
    Order,
    OrderTable,
    Runs,
    TileCount,
)
from ..base import Launch, device_numbers, kept_by_graphs, require_uncaptured


@dataclass(frozen=True)
class PlannedListing:
    """Tokens that the device listed: int32 ``[batch_slots * head_slots, length]``, -1 past the end of a list.

    What :class:`compiler.plan.Listing` is for a list that the host made. ``counts``: the length of each list, int32,
    None where all have that of the tensor.
    """

    tokens: Tensor
    batch_slots: int
    head_slots: int
    counts: Tensor | None = None

    def tiles(self, tile: int) -> TileCount:
        """The number of tiles of ``tile`` lanes for which there is room."""
        return TileCount(1, -(-self.tokens.shape[1] // tile))


@dataclass(frozen=True)
class PlannedRuns:
    """Runs that the device found: those of row ``r`` are ``pointer[r] .. end[r] - 1`` of start, length and kind.

    Each of the ``tiles`` tiles of a side has a row, slot after slot, as in :class:`compiler.plan.Bounds`.
    """

    pointer: Tensor
    end: Tensor
    start: Tensor
    length: Tensor
    kind: Tensor
    batch_slots: int
    head_slots: int
    tiles: int


AnyListing: TypeAlias = Listing | PlannedListing | None


def call_arguments(launch: Launch) -> dict[str, Any]:
    """The arguments that all kernels of a launch share."""
    return call_sizes(launch) | call_tensors(launch)


def call_sizes(launch: Launch) -> dict[str, Any]:
    """Those of them that launches of one form share: sizes and strides. Of launches of any length, those of
    :func:`key_sizes` differ.
    """
    heads, kv_heads = launch.q.shape[1], launch.k.shape[1]
    found: dict[str, Any] = {
        "m": launch.schedule.m,
        "heads": heads,
        "kv_heads": kv_heads,
        "kv_heads_inverse": inverse(kv_heads),
        "group": heads // kv_heads if kv_heads else 1,
        "group_inverse": inverse(heads // kv_heads if kv_heads else 1),
        "q_start_step": int(launch.q_start.numel() > 1),
    }
    if launch.k_start is not None:
        found |= {"k_start_step": int(launch.k_start.numel() > 1), "key_rows": launch.k.shape[2]}
    found |= strides("query", launch.q) | key_sizes(launch)
    for number, table in enumerate(launch.tables):
        found[f"table{number}_batch"] = table.tensor.stride(0) if table.batched and table.tensor.shape[0] > 1 else 0
        found |= {f"table{number}_size{axis}": size for axis, size in enumerate(table.sizes)}
    return found


def key_sizes(launch: Launch) -> dict[str, Any]:
    """The number of keys, and the strides of keys and values."""
    key, value = launch.k.stride(), launch.v.stride()
    return {
        "n": launch.schedule.n, "key_batch": key[0], "key_head": key[1], "key_row": key[2],
        "value_batch": value[0], "value_head": value[1], "value_row": value[2],
    }  # fmt: skip


def call_tensors(launch: Launch) -> dict[str, Any]:
    """Those of them that each launch has of its own: tensors, and what dropout depends on."""
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


def inverse(divisor: int) -> int:
    """By what kernels divide (``_ratio`` in templates/triton/module.py.jinja): a factor, ``2 ** shift / divisor``
    rounded up to 32 bits, and above it the shift. Quotients of numbers below 2**31 are exact; 1 stands for 0.
    """
    divisor = max(divisor, 1)
    shift = 31 + (divisor - 1).bit_length()
    return shift << 32 | -(-(1 << shift) // divisor)


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
    return found | ({"numbers": numbers_tensor(numbers, device)} if listed else {})


def numbers_tensor(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    """Numbers of a program as int64 on a device."""
    return device_numbers(numbers, torch.int64, device)


def head_arguments(heads: tuple[int, ...] | None, q: Tensor) -> dict[str, Any]:
    """The heads of a kernel as a list, and for each head its index in that list (-1 if absent); None for all heads."""
    total = q.shape[1]
    if heads is None:
        sizes = {"kernel_heads": total, "kernel_heads_inverse": inverse(total)}
        return {**sizes, "head_list": None, "head_places": None}
    places = [-1] * total
    for place, head in enumerate(heads):
        places[head] = place
    return {
        "kernel_heads": len(heads),
        "kernel_heads_inverse": inverse(len(heads)),
        "head_list": device_numbers(heads, torch.int32, q.device),
        "head_places": device_numbers(tuple(places), torch.int32, q.device),
    }


def order_arguments(name: str, order: Order, listing: AnyListing, tokens: int, device: torch.device) -> dict[str, Any]:
    """The arguments from which a kernel computes an order's tokens; their names begin with ``name``."""
    return {f"{name}_tiles": tiles_of(order, tokens, listing).total} | _own_arguments(
        order, name, listing, tokens, device
    )


def tiles_of(order: Order, tokens: int, listing: AnyListing) -> TileCount:
    """The number of tiles of an order, for its list if it has one."""
    if isinstance(listing, PlannedListing):
        return listing.tiles(order.tile)
    return order.tiles(tokens, listing)


@OrderTable
def _own_arguments(
    order: Order, name: str, listing: AnyListing, tokens: int, device: torch.device, /
) -> dict[str, Any]:
    """The arguments of :func:`order_arguments` that depend on the kind of order."""
    raise NotImplementedError


@_own_arguments.register(ComputedOrder)
def _of_computed(
    order: ComputedOrder, name: str, _listing: AnyListing, tokens: int, _device: torch.device, /
) -> dict[str, Any]:
    return {f"{name}_main_tiles": order.main_tiles(tokens)}


@_own_arguments.register(ListedOrder)
def _of_listed(
    _order: ListedOrder, name: str, listing: AnyListing, _tokens: int, device: torch.device, /
) -> dict[str, Any]:
    assert isinstance(listing, (Listing, PlannedListing)), "counted"
    length = listing.tokens.shape[1]
    if isinstance(listing, PlannedListing):
        tokens = listing.tokens
    else:
        (tokens,) = _kept(listing, (listing.tokens,), (np.int32,), device)
    return {
        f"{name}_list": tokens,
        f"{name}_list_length": length,
        f"{name}_list_batch": listing.head_slots * length if listing.batch_slots > 1 else 0,
        f"{name}_list_head": length if listing.head_slots > 1 else 0,
    }


def bounds_arguments(
    suffix: str,
    bounds: Bounds | PlannedRuns,
    rows: TileCount,
    columns: TileCount,
    order: Order,
    tokens: int,
    device: torch.device,
) -> dict[str, Any]:
    """The arguments for ``bounds``: which runs of column tiles each row tile visits.

    ``rows`` and ``columns`` count the tiles; ``order`` is that of the columns, with ``tokens`` tokens.
    """
    if isinstance(bounds, Bounds):
        runs: Runs = bounds.runs
        arrays = (runs.pointer[:-1], runs.pointer[1:], runs.start, runs.length, runs.kind)
        kept = _kept(runs, arrays, (np.int64, np.int64, np.int32, np.int32, np.uint8), device)
        period, shift, aligned = bounds.period, bounds.shift, bounds.aligned
        step, move = bounds.start_step, bounds.start_shift
    else:
        kept = (bounds.pointer, bounds.end, bounds.start, bounds.length, bounds.kind)
        period, shift, aligned = max(bounds.tiles, 1), 0, False
        step, move = 1, 0
    class_tiles = max(1, rows.per_class if aligned else rows.total)
    names = ("run_pointer", "run_end", "run_start", "run_length", "run_kind")
    found: dict[str, Any] = dict(zip(names, kept, strict=True))
    found |= {
        "schedule_batch": bounds.head_slots * period if bounds.batch_slots > 1 else 0,
        "schedule_head": period if bounds.head_slots > 1 else 0,
        "period": period,
        "shift": shift,
        "start_step": step,
        "start_shift": move,
        "class_tiles": class_tiles,
        "period_inverse": inverse(period),
        "class_inverse": inverse(class_tiles),
        "limit": columns.per_class if aligned else columns.total,
        "whole": _whole_tiles(order, tokens, columns, aligned),
    }
    return {f"{name}{suffix}": value for name, value in found.items()}


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
        require_uncaptured("a plan", device)
        ready = (np.ascontiguousarray(array, dtype) for array, dtype in zip(arrays, dtypes, strict=True))
        found = _tensors[key] = tuple(torch.from_numpy(array).to(device) for array in ready)
        weakref.finalize(owner, _tensors.pop, key, None)
    return kept_by_graphs(found, device)
