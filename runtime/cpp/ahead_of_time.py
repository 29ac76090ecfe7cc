"""Compiles the C++ kernels of a Program into libraries for this machine's processor, to be kept as files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from functools import lru_cache

from ...compiler import pipeline
from ...compiler.codegen import KernelSource, lift_constants
from ...compiler.ir import Attention
from ...compiler.plan import Specialisation
from ..base import CompiledFunction
from .backend import CPP
from .build import Compiler, build, compiler, headers


def compile_ahead(
    attention: Attention, heads: int | None, kind: Specialisation, target: str
) -> Iterator[CompiledFunction]:
    """Yields the forward and the backward pass, each with its source, the headers that this includes, and a library.

    NoCompilerError without a compiler, BuildError where it fails. The one target is ``cpu``.
    """
    using = compiler()
    tiles = CPP.tiles(kind.dtype, max(kind.head_dim, kind.value_dim), target)
    program = pipeline.program(attention, tiles.forward, heads)
    names = {str(number): table.name for number, table in enumerate(program.tables)}
    segments = [
        {"kernel": number, "keys": part.keys.describe(names), "tile": part.keys.tile}
        for number, kernel in enumerate(program.kernels)
        for part in kernel.segments
    ]
    facts = {
        "rows": max(kernel.rows.tile for kernel in program.kernels),
        "keys": max((part.keys.tile for kernel in program.kernels for part in kernel.segments), default=None),
        "segments": segments,
        "numbers": lift_constants(program).numbers,
        "compiler": shlex.join([*using.command, *using.flags]),
    }
    texts = {name: text.encode() for name, text in headers().items()}
    for _, variant in CPP.variants(kind, target):
        name = variant.direction
        source = pipeline.source(program, CPP.render, variant)
        files = {**texts, f"{name}.cpp": source.text.encode(), f"{name}.so": _library(source, using)}
        yield CompiledFunction(name, f"{name}.so", files, {"pass": name, **facts})


@lru_cache(maxsize=16)
def _library(source: KernelSource, using: Compiler) -> bytes:
    """The library of a source; layers of a model that differ in constants alone share it."""
    return build(source, using)
