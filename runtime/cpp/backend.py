"""The record of the C++ backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...compiler.plan import FLOATS, DType, Pass, PassTiles, Program, Specialisation, Tiles, always
from ...lazy import late
from ..base import Backend, Targets

if TYPE_CHECKING:
    import torch

    from ...compiler.codegen import KernelSource
    from ...compiler.codegen.cpp import CppVariant

_executor = late(__name__, "executor")
_availability = late(__name__, "availability")
_ahead_of_time = late(__name__, "ahead_of_time")


def _tiles(_dtype: DType, _dim: int, _target: str) -> PassTiles:
    return always(Tiles(64, 64, by_row=True))


def _target(_: torch.device) -> str:
    return "cpu"


def _variants(kind: Specialisation, _target: str) -> tuple[tuple[Pass, CppVariant], ...]:
    from ...compiler.codegen.cpp import variant_for

    return ("forward", variant_for("forward", kind)), ("backward_queries", variant_for("backward", kind))


def _render(program: Program, variant: CppVariant) -> KernelSource:
    from ...compiler.codegen.cpp import render_cpp

    return render_cpp(program, variant)


CPP: Backend = Backend(
    name="cpp",
    devices=("cpu",),
    dtypes=FLOATS,
    tiles=_tiles,
    require=_availability("require"),
    forward=_executor("forward"),
    backward=_executor("backward"),
    target=_target,
    prepare=_executor("prepare"),
    prepare_backward=_executor("prepare_backward"),
    targets=Targets(("cpu",), "cpu", "cpu"),
    variants=_variants,
    render=_render,
    build=_executor("build_entry"),
    build_for=_executor("build_for"),
    compile_ahead=_ahead_of_time("compile_ahead"),
    most_rows_anywhere=16,  # at most LINES of templates/cpp/decoding_kernel.cpp.jinja
)
