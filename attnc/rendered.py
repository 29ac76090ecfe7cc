"""Kernel sources for reading: what `Attention.source` gives."""

from __future__ import annotations

import re
from typing import Any

from .compiler.arrange import arrange
from .compiler.ir import Attention
from .compiler.plan import Program

CPU_TILES = 64, 64
GPU_TILES = 64, 64
_GPU = re.compile(r"sm_[1-9]\d{1,2}|gfx[0-9a-f]{3,4}")
_DTYPES = {"fp32": "float32", "fp64": "float64", "bf16": "bfloat16", "fp16": "float16"}


def source_of(attention: Attention, target: str, head_dim: int, dtype: str) -> str:
    """The text of the kernels for ``"cpu"``, ``"sm_90"``, ``"gfx942"`` and so on, forward and backward.

    ValueError for a target or a dtype that is none.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"dtype: is {dtype!r}, expected one of {', '.join(_DTYPES)}")
    if target == "cpu":
        return _cpp(arrange(attention, *CPU_TILES), head_dim, dtype)
    if not _GPU.fullmatch(target):
        raise ValueError(f"target: is {target!r}, expected cpu, or a GPU's architecture such as sm_90 or gfx942")
    return _triton(arrange(attention, *GPU_TILES), head_dim, dtype)


def _cpp(program: Program, head_dim: int, dtype: str) -> str:
    from .compiler.render_cpp import CppVariant, render_cpp

    compute = "float64" if dtype == "fp64" else "float32"
    elements = {"float": compute, "int": "int32", "order": "int32", "bool": "uint8", "set": "uint8"}
    made: dict[str, Any] = {
        "head_dim": head_dim,
        "value_dim": head_dim,
        "storage": _DTYPES[dtype],
        "compute": compute,
        "wide": False,
        "dropout": False,
        "elements": tuple(elements[table.element] for table in program.tables),
    }
    passes = (render_cpp(program, CppVariant(direction=direction, **made)) for direction in ("forward", "backward"))
    return "\n".join(source.text for source in passes)


def _triton(program: Program, head_dim: int, dtype: str) -> str:
    from .compiler.render_triton import Variant, render_triton

    elements = {"float": "fp64" if dtype == "fp64" else "fp32", "int": "i32", "order": "i32", "bool": "u8", "set": "u8"}
    kernel = program.kernels[0]
    query_tile, key_tile = kernel.rows.tile, kernel.segments[0].keys.tile
    made: dict[str, Any] = {"dtype": dtype}
    variant = Variant(
        head_dim=head_dim,
        value_dim=head_dim,
        wide=False,
        dropout=False,
        query_tile=query_tile,
        key_tile=key_tile,
        query_block=query_tile,
        key_block=key_tile,
        tables=tuple(elements[table.element] for table in program.tables),
        **made,
    )
    return render_triton(program, variant).text
