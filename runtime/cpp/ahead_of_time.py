"""Compiles the C++ kernels of a Program into libraries for this machine's processor, to be kept as files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from ...compiler import pipeline
from ...compiler.codegen import KernelSource, lift_constants
from ...compiler.codegen.cpp import CppVariant, variant_for
from ...compiler.ir import Attention, CallShape
from ...compiler.plan import Program, Specialisation
from ...compiler.schedule import schedule_anywhere, serves_anywhere
from ..base import CompiledFunction, get
from .backend import CPP
from .build import Compiler, build, cache_key, compiler, headers

_LENGTH = 2**17  # for which it is asked whether rows at any position have a plan; the answer does not depend on it


def compile_ahead(
    attention: Attention, heads: int | None, kind: Specialisation, target: str
) -> Iterator[CompiledFunction]:
    """Yields the forward and the backward pass and, where calls have one, the forward pass of few rows, each with its
    source, the headers that this includes, and a library. The cache has the library too, where calls find it.

    NoCompilerError without a compiler, BuildError where it fails. The one target is ``cpu``.
    """
    using = compiler()
    texts = {name: text.encode() for name, text in headers().items()}
    for name, program, variant in _functions(attention, heads, kind, target):
        source = pipeline.source(program, CPP.render, variant)
        files = {**texts, f"{name}.cpp": source.text.encode(), f"{name}.so": _library(source, using)}
        facts = {"pass": name, **_facts(program), "compiler": shlex.join([*using.command, *using.flags])}
        if variant.decoding:
            facts["rows"] = CPP.most_rows_anywhere
        yield CompiledFunction(name, f"{name}.so", files, facts)


def _functions(
    attention: Attention, heads: int | None, kind: Specialisation, target: str
) -> Iterator[tuple[str, Program, CppVariant]]:
    """Each function with its program. Where it depends on what tables hold whether calls have a kernel for few rows,
    that is one of them, though perhaps no call uses it.
    """
    tiles = CPP.tiles(kind.dtype, max(kind.head_dim, kind.value_dim), target)
    program = pipeline.program(attention, tiles.forward, heads)
    for _, variant in CPP.variants(kind, target):
        yield variant.direction, program, variant
    if not serves_anywhere(attention.tables):
        return
    program = pipeline.program(attention, tiles.forward, heads, natural_rows=True)
    extent = CallShape(_LENGTH, 1, heads or 1, (0,))
    if attention.tables or schedule_anywhere(program, extent, ()) is not None:
        yield "decoding", program, variant_for("forward", kind, decoding=True)


def _facts(program: Program) -> dict[str, object]:
    names = {str(number): table.name for number, table in enumerate(program.tables)}
    segments = [
        {"kernel": number, "keys": part.keys.describe(names), "tile": part.keys.tile}
        for number, kernel in enumerate(program.kernels)
        for part in kernel.segments
    ]
    return {
        "rows": max(kernel.rows.tile for kernel in program.kernels),
        "keys": max((part.keys.tile for kernel in program.kernels for part in kernel.segments), default=None),
        "segments": segments,
        "numbers": lift_constants(program).numbers,
    }


def _library(source: KernelSource, using: Compiler) -> bytes:
    """The library of a source, from the cache if that has it: so layers that differ in constants alone share one."""
    return get(cache_key(source, using), lambda: build(source, using))
