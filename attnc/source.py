"""Kernel sources for reading: what `Attention.source` gives."""

from __future__ import annotations

import re
from typing import Any, cast

from .compiler.arrange import arrange
from .compiler.ir import Attention

_GPU = re.compile(r"sm_[1-9]\d{1,2}|gfx[0-9a-f]{3,4}")
_DTYPES = {"fp32": "float32", "fp64": "float64", "bf16": "bfloat16", "fp16": "float16"}


def source_of(attention: Attention, target: str, head_dim: int, dtype: str) -> str:
    """The text of the kernels for ``"cpu"``, ``"sm_90"``, ``"gfx942"`` and so on, forward and backward.

    ValueError for a target or a dtype that is none; ImportError for a GPU's without triton, which chooses the steps.
    """
    if dtype not in _DTYPES:
        raise ValueError(f"dtype: is {dtype!r}, expected one of {', '.join(_DTYPES)}")
    if target == "cpu":
        return _cpp(attention, head_dim, dtype)
    if not _GPU.fullmatch(target):
        raise ValueError(f"target: is {target!r}, expected cpu, or a GPU's architecture such as sm_90 or gfx942")
    return _triton(attention, head_dim, dtype)


def _cpp(attention: Attention, head_dim: int, dtype: str) -> str:
    from .compiler.codegen import lift_constants
    from .compiler.codegen.cpp import CppVariant, render_cpp
    from .runtime.cpp import TILES

    program = lift_constants(arrange(attention, TILES)).program
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


def _triton(attention: Attention, head_dim: int, dtype: str) -> str:
    from .compiler.codegen import lift_constants
    from .compiler.codegen.triton import render_triton
    from .runtime.triton import TILES, make_variant

    program = lift_constants(arrange(attention, TILES)).program
    elements = {"float": "fp64" if dtype == "fp64" else "fp32", "int": "i32", "order": "i32", "bool": "u8", "set": "u8"}
    tables = tuple(elements[table.element] for table in program.tables)
    return render_triton(program, make_variant(cast(Any, dtype), head_dim, head_dim, tables)).text
