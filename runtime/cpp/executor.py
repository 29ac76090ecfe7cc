"""Runs checked launches on CPU tensors by C++ kernels; a kernel is built when it is first used."""

from __future__ import annotations

import shlex
from ctypes import c_int, c_void_p
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...compiler import pipeline
from ...compiler.codegen import KernelSource, Lifted, lift_constants
from ...compiler.codegen.cpp import CppVariant, Pass, variant_for
from ...compiler.plan import Program
from ..base import (
    ALL_WANTED,
    Gradients,
    Launch,
    Prepared,
    PreparedBackward,
    Wanted,
    count,
    get,
    renew,
    settings,
)
from .arguments import Arguments
from .backend import CPP
from .build import BuildError, Compiler, build, cache_key, compiler, load

# Bytes that the backward pass may take beyond its inputs and results; private sums that do not fit take turns. A single
# tile of queries may need more, since it sums for all keys that it visits.
ROOM = 64 * 2**20


def forward(launch: Launch) -> tuple[Tensor, Tensor]:
    """Output ``[batch, heads, m, value_dim]`` in q's dtype and log-sum-exp ``[batch, heads, m]`` (natural log),
    contiguous.

    At the first use of a kernel raises what :func:`runtime.cpp.build.build` raises; MemoryError where memory runs out.
    """
    out, lse = _results(launch)
    _call("forward", launch, {"out": out, "lse": lse})
    return out.to(launch.q.dtype), lse


def prepare(launch: Launch) -> Prepared | None:
    """The launch with all but its tensors settled; None where it adds several kernels up in another dtype."""
    out, lse = _results(launch)
    if out.dtype != launch.q.dtype:
        return None
    ready = _ready("forward", launch, counting=False)
    return ready.arguments.prepared(launch, ready.function, out, lse)


def prepare_backward(launch: Launch) -> PreparedBackward | None:
    """The same of a backward pass; None for several kernels or tables."""
    if len(launch.program.kernels) > 1 or launch.program.tables:
        return None
    ready = _ready("backward", launch, counting=False)
    return ready.arguments.prepared_backward(launch, ready.function)


class Columns(NamedTuple):
    """Numbers of query-key pairs. ``visited``: those in visited tiles. ``multiplied``: those of them whose logit was
    computed.

    In a partial tile logits are computed only for the groups of keys that some query of a group of queries keeps.
    """

    visited: int
    multiplied: int


def columns(launch: Launch) -> Columns:
    """Measures the work of a forward pass over this launch, with kernels that are compiled to count."""
    out, lse = _results(launch)
    found = torch.zeros(2, dtype=torch.int64)
    _call("forward", launch, {"out": out, "lse": lse, "columns": found}, counting=True)
    return Columns(*found.tolist())


def _results(launch: Launch) -> tuple[Tensor, Tensor]:
    """Uninitialised output and log-sum-exp; where several kernels add to one output, it is in the compute dtype."""
    batch, heads, m, _ = launch.q.shape
    dtype = launch.q.dtype if len(launch.program.kernels) == 1 else launch.compute_dtype
    out = launch.q.new_empty(batch, heads, m, launch.v.shape[-1], dtype=dtype)
    return out, launch.q.new_empty(batch, heads, m, dtype=launch.compute_dtype)


def backward(
    launch: Launch, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None, wanted: Wanted = ALL_WANTED
) -> Gradients:
    """The gradients of q, k, v and the float tables that are wanted, from the forward pass's results and their
    gradients. No product is computed of which only others have need.

    q's, k's and v's are contiguous, in the dtypes of their inputs. ``grad_out`` may have any strides. The result is
    bitwise the same for every number of threads.
    """
    return _derived(launch, out, lse, grad_out, grad_lse, wanted)


def products(
    launch: Launch, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None, wanted: Wanted
) -> int:
    """Measures the work of a backward pass: how many pairs were multiplied in its five products together."""
    found = torch.zeros(3, dtype=torch.int64)
    _derived(launch, out, lse, grad_out, grad_lse, wanted, found)
    return int(found[2])


def _derived(
    launch: Launch, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None, wanted: Wanted,
    counts: Tensor | None = None,
) -> Gradients:  # fmt: skip
    q, k, v = launch.q, launch.k, launch.v
    compute = launch.compute_dtype
    if grad_out.stride(-1) != 1 and grad_out.shape[-1] > 1:
        grad_out = grad_out.contiguous()
    several = len(launch.program.kernels) > 1
    grad_q = grad_k = grad_v = None
    if wanted.q:
        grad_q = q.new_zeros(q.shape, dtype=compute) if several else q.new_empty(q.shape)
    if wanted.k:
        grad_k = k.new_zeros(k.shape, dtype=compute)
    if wanted.v:
        grad_v = v.new_zeros(v.shape, dtype=compute)
    pairs = zip(launch.tables, launch.program.tables, strict=True)
    tables = tuple(
        torch.zeros_like(argument.tensor) if table.element == "float" and wanted.table(number) else None
        for number, (argument, table) in enumerate(pairs)
    )
    given = {
        "out": out.contiguous(), "lse": lse.contiguous(), "grad_out": grad_out,
        "grad_lse": None if grad_lse is None else grad_lse.to(compute).contiguous(),
        "grad_q": grad_q, "grad_k": grad_k, "grad_v": grad_v,
    }  # fmt: skip
    if counts is not None:
        given["columns"] = counts
    _call("backward", launch, given, tables, counting=counts is not None)
    grad_q, grad_k, grad_v = (None if x is None else x.to(q.dtype) for x in (grad_q, grad_k, grad_v))
    return Gradients(grad_q, grad_k, grad_v, tables)


def source_variant(direction: Pass, launch: Launch) -> CppVariant:
    """What the kernel of a launch is compiled for, beside the program."""
    decoding = direction == "forward" and launch.schedule.anywhere
    return variant_for(direction, launch.specialisation, decoding=decoding)


@lru_cache(maxsize=4096)
def _lifted(program: Program) -> Lifted:
    return lift_constants(program)


@lru_cache(maxsize=4096)
def _source(program: Program, variant: CppVariant) -> KernelSource:
    try:
        return pipeline.source(program, CPP.render, variant)
    except OSError as error:  # the templates are files
        raise BuildError(f"a kernel cannot be written: {error}") from error


@lru_cache(maxsize=4096)
def _entry(source: KernelSource, using: Compiler) -> Any:
    """The one function of a kernel's library, built or taken from the cache. BuildError where it cannot be had.

    A library enters the cache only after this process loaded it. A cached one that cannot be loaded is rebuilt once.
    """
    loaded: list[Any] = []

    def make() -> bytes:
        library = build(source, using)
        loaded.append(_function(library))
        return library

    try:
        key = cache_key(source, using)
        kept = get(key, make)
        if not loaded:
            try:
                return _function(kept)
            except OSError:
                renew(key, make)
        return loaded[-1]
    except OSError as error:
        raise BuildError(f"a kernel built by {shlex.join(using.command)} cannot be loaded: {error}") from error


def build_entry(source: KernelSource) -> Any:
    """The function of a source's library. BuildError where it cannot be built, NoCompilerError without a compiler."""
    return _entry(source, compiler())


def build_for(launch: Launch, backward: bool) -> None:
    """Builds the kernel of one pass over a launch, unless the cache has it; runs nothing. The same errors."""
    _entry(*kernel_of("backward" if backward else "forward", launch))


def _function(content: bytes) -> Any:
    """Loads a kernel's library and returns its function. OSError where it cannot be loaded or has no such function."""
    library = load(content)
    for name in ("forward", "backward"):
        if hasattr(library, name):
            function = getattr(library, name)
            function.argtypes, function.restype = (c_void_p,), c_int
            return function
    raise OSError("the library holds no kernel")


def kernel_of(direction: Pass, launch: Launch, counting: bool = False) -> tuple[KernelSource, Compiler]:
    """The source of a launch's kernel, and the compiler that builds it. NoCompilerError without a compiler."""
    variant = replace(source_variant(direction, launch), counting=counting)
    return _source(_lifted(launch.program).program, variant), compiler()


def _call(
    direction: Pass,
    launch: Launch,
    tensors: dict[str, Tensor | None],
    gradients: tuple[Tensor | None, ...] = (),
    counting: bool = False,
) -> None:
    ready = _ready(direction, launch, counting)
    call = ready.arguments.of(launch, tensors, gradients)
    if ready.function(call.address):
        raise MemoryError(f"no memory for the {direction} pass of attention")
    count(ready.kind)


@dataclass(frozen=True)
class _Ready:
    """What launches of one form share: the kernel's function, its arguments, and what a launch is counted as."""

    function: Any
    arguments: Arguments
    kind: str


def _ready(direction: Pass, launch: Launch, counting: bool) -> _Ready:
    shared = launch.ready
    key = direction, counting, ROOM, settings.cxx, settings.optimisation
    kept: _Ready | None = None if shared is None else shared.get(key)
    if kept is not None:
        return kept
    function = _entry(*kernel_of(direction, launch, counting))
    found = _Ready(function, Arguments(launch, _lifted(launch.program).numbers, ROOM), f"cpp.{direction}")
    if shared is not None:
        shared[key] = found
    return found
