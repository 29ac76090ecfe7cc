"""The dtypes of kernels, with the name of each for users, in torch, in C++ and in Triton.

Users and the signatures of Triton functions write ``bf16``; torch and Triton's language write ``bfloat16``; C++ has
types of its own in ``templates/cpp``. Dtypes are listed here only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..ir import Table


@dataclass(frozen=True)
class DType:
    """How one number is stored in memory. Two dtypes with the same ``name`` are equal.

    ``torch``: the attribute of the torch module; ``cpp``: the type in C++ kernels; ``size``: bytes of one number.
    """

    name: str
    torch: str = field(compare=False)
    cpp: str = field(compare=False)
    size: int = field(compare=False)

    @property
    def triton(self) -> str:
        """The name in Triton's language. (The signatures of Triton functions use ``name``.)"""
        return f"tl.{self.torch}"

    @property
    def compute(self) -> DType:
        """The dtype of sums, softmax, log-sum-exp and gradients of tables when queries have this dtype."""
        return FP64 if self == FP64 else FP32


FP32 = DType("fp32", "float32", "float", 4)
FP64 = DType("fp64", "float64", "double", 8)
BF16 = DType("bf16", "bfloat16", "BrainFloat", 2)
FP16 = DType("fp16", "float16", "Half", 2)
I32 = DType("i32", "int32", "int32_t", 4)
I64 = DType("i64", "int64", "int64_t", 8)
U8 = DType("u8", "uint8", "uint8_t", 1)

FLOATS = (FP32, FP64, BF16, FP16)
"""The dtypes that queries, keys and values may have."""

DTYPES = (*FLOATS, I32, I64, U8)


def float_named(name: str) -> DType:
    """The dtype among FLOATS that users call ``name``. Otherwise raises ValueError, which lists the choices."""
    for dtype in FLOATS:
        if dtype.name == name:
            return dtype
    raise ValueError(f"dtype: is {name!r}, expected one of {', '.join(dtype.name for dtype in FLOATS)}")


def integers(wide: bool) -> DType:
    """The dtype of positions and integer tables: 64 bits if ``wide``, else 32."""
    return I64 if wide else I32


@dataclass(frozen=True)
class Specialisation:
    """What kernels are compiled for besides their Program, on every backend.

    ``dtype``: of q, k and v; ``tables``: the dtype of each table in memory; ``wide``: whether positions and integer
    tables need 64 bits; ``dropout``: whether probabilities are dropped.
    """

    dtype: DType
    head_dim: int
    value_dim: int
    tables: tuple[DType, ...]
    wide: bool = False
    dropout: bool = False


def usual(tables: Iterable[Table], dtype: DType, head_dim: int, value_dim: int | None = None) -> Specialisation:
    """The specialisation of a call whose integers fit in 32 bits and whose sets are bitmaps. ``value_dim``: as
    ``head_dim`` unless given.
    """
    held = {"float": dtype.compute, "double": FP64, "int": I32, "order": I32, "bool": U8, "set": U8}
    return Specialisation(dtype, head_dim, value_dim or head_dim, tuple(held[table.element] for table in tables))
