"""The records of the two Triton backends: on GPUs, and in Triton's interpreter."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...compiler.plan import FLOATS, FP16, FP32, FP64, PASSES, DType, Pass, PassTiles, Program, Specialisation
from ...lazy import late
from ..base import Backend, Targets

if TYPE_CHECKING:
    from ...compiler.codegen import KernelSource
    from ...compiler.codegen.triton import TritonVariant

_executor = late(__name__, "executor")
_modules = late(__name__, "modules")
_ahead_of_time = late(__name__, "ahead_of_time")


def _tiles(dtype: DType, dim: int, target: str) -> PassTiles:
    from ...compiler.codegen.triton import tiles

    return tiles(dtype, dim, target)


def _variants(kind: Specialisation, target: str) -> tuple[tuple[Pass, TritonVariant], ...]:
    from ...compiler.codegen.triton import make_variant

    sizes = kind.dtype, kind.head_dim, kind.value_dim, kind.tables
    return tuple(
        (
            direction,
            make_variant(direction, *sizes, target=target, wide=kind.wide, dropout=kind.dropout, descriptors=True),
        )
        for direction in PASSES
    )


def _render(program: Program, variant: TritonVariant) -> KernelSource:
    from ...compiler.codegen.triton import render_triton

    return render_triton(program, variant)


TRITON: Backend = Backend(
    name="triton",
    devices=("cuda",),  # torch calls ROCm devices so, too
    dtypes=FLOATS,
    tiles=_tiles,
    require=_modules("require"),
    forward=_executor("forward"),
    backward=_executor("backward"),
    target=_modules("target_of"),
    plans_on_device=True,
    targets=Targets(
        ("sm_80", "sm_90", "gfx942"),
        r"sm_[1-9]\d{1,2}|gfx[0-9a-f]{3,4}",
        "a GPU's architecture such as sm_90 or gfx942",
    ),
    variants=_variants,
    render=_render,
    most_rows_anywhere=16,
    build=_modules("load_module"),
    compile_ahead=_ahead_of_time("compile_ahead"),
)

# Chosen by the setting ``interpret``, never by a device; Triton reads it once, at its import, for the whole process.
INTERPRETER: Backend = replace(TRITON, name="interpreter", devices=(), dtypes=(FP32, FP16, FP64), targets=Targets())
