"""Runs a launch on the Triton kernels: CUDA and ROCm tensors on the device, CPU tensors in Triton's interpreter.

The same two functions as every executor. Results are contiguous. All sums run in a fixed order, and so are equal from
run to run, except gradients of table entries chosen by query and key together: those are added atomically.

Importing this module imports triton: TritonUnavailable, an ImportError, where it cannot be had.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..compiler.plan import Program, Runs
from ..compiler.render_triton import DType, Step, Variant, parameters, render_triton
from ..compiler.triton_sites import Site, gradient_sites
from ..compiler.triton_steps import KEY_TILE, QUERY_TILE, make_variant, options
from .launch import Gradients, Launch
from .launches import count
from .triton_modules import interpreting, load_module, require_triton

require_triton()

__all__ = ["KEY_TILE", "QUERY_TILE", "backward", "forward", "make_variant", "variant_of"]

_DTYPES: Mapping[torch.dtype, DType] = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
}
_ELEMENTS = {
    torch.int32: "i32",
    torch.int64: "i64",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.uint8: "u8",
    torch.bool: "u8",
}
_LARGEST_OFFSET = 2**31


def variant_of(launch: Launch) -> Variant:
    """The text's variant for a launch."""
    schedule = launch.schedule
    tensors = (launch.q, launch.k, launch.v)
    farthest = max(schedule.query_tile, schedule.key_tile) * max(
        (abs(x) for t in tensors for x in t.stride()), default=0
    )
    entries = max((table.tensor.numel() for table in launch.tables), default=0)
    return make_variant(
        _DTYPES[launch.q.dtype],
        launch.q.shape[-1],
        launch.v.shape[-1],
        tuple(_ELEMENTS[table.tensor.dtype] for table in launch.tables),
        wide=launch.wide or max(farthest, entries) >= _LARGEST_OFFSET,
        dropout=launch.dropout > 0,
        tiles=(schedule.query_tile, schedule.key_tile),
    )


@dataclass(frozen=True)
class _Kernels:
    module: ModuleType
    variant: Variant
    parameters: Mapping[str, tuple[str, ...]]
    sites: tuple[Site, ...]


@lru_cache(maxsize=256)
def _kernels(program: Program, variant: Variant) -> _Kernels:
    names = {kernel: tuple(p.name for p in ps) for kernel, ps in parameters(program, variant).items()}
    module = load_module(render_triton(program, variant))
    return _Kernels(module, variant, names, gradient_sites(program))


def forward(launch: Launch) -> tuple[Tensor, Tensor]:
    """The output ``[batch, heads, m, value_dim]`` and the log-sum-exp ``[batch, heads, m]``.

    ValueError for CPU tensors outside the interpreter.
    """
    kernels = _prepared(launch)
    batch, heads, m, _ = launch.q.shape
    output = launch.q.new_empty((batch, heads, m, launch.v.shape[-1]))
    lse = torch.empty((batch, heads, m), dtype=launch.compute_dtype, device=launch.q.device)
    arguments = (
        _common(launch) | _inputs(launch) | _schedule(launch, launch.schedule.by_query, launch.schedule.query_tiles)
    )
    _run(
        launch,
        kernels,
        "forward",
        _query_programs(launch, kernels.variant.forward),
        arguments | {"output": output, "lse": lse},
    )
    count("triton.forward")
    return output, lse


def backward(launch: Launch, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None) -> Gradients:
    """The gradients of q, k, v and of every float table, from what forward returned and the gradients of both."""
    kernels = _prepared(launch)
    grad_out = grad_out.to(launch.q.dtype)
    if grad_out.stride(-1) != 1 and grad_out.shape[-1] > 1:
        grad_out = grad_out.contiguous()
    grad_lse = None if grad_lse is None else grad_lse.to(launch.compute_dtype).contiguous()
    row_delta = torch.empty_like(lse, memory_format=torch.contiguous_format)
    q, k, v = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (launch.q, launch.k, launch.v))
    tables = _table_gradients(launch)
    schedule, programs = launch.schedule, _query_programs(launch, kernels.variant.backward_queries)
    arguments = _common(launch) | _inputs(launch) | _strided("grad_output", grad_out)
    arguments |= {"output": out.contiguous(), "lse": lse.contiguous(), "row_delta": row_delta, "grad_lse": grad_lse}
    arguments |= {"grad_query": q, "grad_key": k, "grad_value": v}
    arguments |= {f"grad_table{number}": table for number, table in enumerate(tables)}
    sums = {site.number: _Sums(launch, site, kernels.variant) for site in kernels.sites if site.level != "pair"}
    for part in sums.values():
        arguments |= part.arguments
    _run(launch, kernels, "delta", programs, arguments)
    by_key = arguments | _schedule(launch, schedule.by_key, schedule.key_tiles)
    kv_programs = k.shape[0] * k.shape[1] * -(-schedule.n // kernels.variant.backward_keys.keys)
    _run(launch, kernels, "backward_keys", kv_programs, by_key)
    by_query = arguments | _schedule(launch, schedule.by_query, schedule.query_tiles)
    _run(launch, kernels, "backward_queries", programs, by_query)
    for part in sums.values():
        part.add_to(tables[part.site.table])
    count("triton.backward")
    return Gradients(q, k, v, tables)


def _prepared(launch: Launch) -> _Kernels:
    if launch.q.device.type == "cpu" and not interpreting():
        raise ValueError("q: is on the cpu, expected a GPU: set ATTNC_INTERPRET=1 to run Triton's interpreter")
    return _kernels(launch.program, variant_of(launch))


def _query_programs(launch: Launch, step: Step) -> int:
    batch, heads, m, _ = launch.q.shape
    return batch * heads * -(-m // step.queries)


def _run(launch: Launch, kernels: _Kernels, name: str, programs: int, arguments: Mapping[str, Any]) -> None:
    """One launch. The grid lies in one axis: the others are short."""
    if not programs:
        return
    values = {parameter: arguments[parameter] for parameter in kernels.parameters[name]}
    chosen = options(name, kernels.variant).arguments(nvidia=torch.version.hip is None)
    with _device(launch.q.device):
        getattr(kernels.module, name)[(programs,)](**values, **chosen)


@contextmanager
def _device(device: torch.device) -> Iterator[None]:
    if device.type == "cuda":
        with torch.cuda.device(device):
            yield
    else:
        import numpy as np

        with np.errstate(all="ignore"):  # inf - inf in lanes that are masked out
            yield


def _strided(name: str, tensor: Tensor) -> dict[str, Any]:
    batch, head, row = tensor.stride()[:3]
    return {name: tensor, f"{name}_batch": batch, f"{name}_head": head, f"{name}_row": row}


def _inputs(launch: Launch) -> dict[str, Any]:
    return _strided("query", launch.q) | _strided("key", launch.k) | _strided("value", launch.v)


def _common(launch: Launch) -> dict[str, Any]:
    heads, kv_heads = launch.q.shape[1], launch.k.shape[1]
    found: dict[str, Any] = {
        "m": launch.schedule.m,
        "n": launch.schedule.n,
        "heads": heads,
        "group": heads // kv_heads if kv_heads else 1,
        "q_start": launch.q_start,
        "q_start_step": int(launch.q_start.numel() > 1),
        "scale": launch.scale.contiguous(),
    }
    for number, table in enumerate(launch.tables):
        found[f"table{number}"] = table.tensor
        found[f"table{number}_batch"] = table.tensor.stride(0) if table.batched and table.tensor.shape[0] > 1 else 0
        found |= {f"table{number}_size{axis}": size for axis, size in enumerate(table.sizes)}
    if launch.dropout > 0:
        last = round(launch.dropout * 2**31) - 1
        found |= {"seed_low": _signed(launch.seed), "seed_high": _signed(launch.seed >> 32), "drop_last": last}
        found["drop_scale"] = 1 / (1 - launch.dropout) if launch.dropout < 1 else 0.0
    return found


def _signed(number: int) -> int:
    """The low 32 bits as a 32-bit integer with a sign."""
    low = number & 0xFFFFFFFF
    return low - 2**32 if low >= 2**31 else low


def _schedule(launch: Launch, runs: Runs, tiles: int) -> dict[str, Any]:
    schedule = launch.schedule
    pointer, start, length, kind = _runs_on(runs, launch.q.device)
    return {
        "run_pointer": pointer,
        "run_start": start,
        "run_length": length,
        "run_kind": kind,
        "schedule_batch": schedule.head_slots * tiles if schedule.batch_slots > 1 else 0,
        "schedule_head": tiles if schedule.head_slots > 1 else 0,
    }


_on_device: dict[tuple[int, torch.device], tuple[Tensor, ...]] = {}


def _runs_on(runs: Runs, device: torch.device) -> tuple[Tensor, ...]:
    """The runs as tensors on a device, kept as long as the runs themselves are."""
    key = (id(runs), device)
    found = _on_device.get(key)
    if found is None:
        arrays = (runs.pointer, runs.start, runs.length, runs.kind)
        found = _on_device[key] = tuple(torch.from_numpy(array).to(device) for array in arrays)
        weakref.finalize(runs, _on_device.pop, key, None)
    return found


def _table_gradients(launch: Launch) -> tuple[Tensor | None, ...]:
    return tuple(
        torch.zeros(argument.tensor.shape, dtype=launch.compute_dtype, device=launch.q.device)
        if table.element == "float"
        else None
        for table, argument in zip(launch.program.tables, launch.tables, strict=True)
    )


class _Sums:
    """What the kernels store for one site: sums, and the place in the table that each belongs to."""

    def __init__(self, launch: Launch, site: Site, variant: Variant) -> None:
        batch, heads, m, _ = launch.q.shape
        steps = -(-m // variant.backward_queries.queries)
        shape = {
            "block": (batch, heads, steps),
            "row": (batch, heads, m),
            "column": (batch, heads, launch.schedule.n),
        }
        self.site = site
        device = launch.q.device
        self.values = torch.zeros(shape[site.level], dtype=launch.compute_dtype, device=device)
        places = (batch, heads) if site.level == "block" else shape[site.level]
        self.places = torch.zeros(places, dtype=torch.int64, device=device)

    @property
    def arguments(self) -> dict[str, Tensor]:
        return {f"site{self.site.number}": self.values, f"site{self.site.number}_place": self.places}

    def add_to(self, table: Tensor | None) -> None:
        """Adds the sums where they belong. One place may receive many: accumulated in a fixed order."""
        assert table is not None
        values = self.values.sum(-1) if self.site.level == "block" else self.values
        if table.numel() and values.numel():
            table.view(-1).index_put_((self.places.view(-1),), values.reshape(-1), accumulate=True)
