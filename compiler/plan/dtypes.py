"""The dtypes of kernels, by the name that each has to users, to torch, to C++ and to Triton. Nouns.

Users and Triton's signatures write ``bf16``; torch, and Triton's language, ``bfloat16``; what C++ writes is a type of
``templates/cpp``. Nothing else lists them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..ir import Table


@dataclass(frozen=True)
class DType:
    """What one number is in memory. Those of one ``name`` are equal.

    ``torch``: the attribute of torch; ``cpp``: the type in kernels; ``size``: in bytes.
    """

    name: str
    torch: str = field(compare=False)
    cpp: str = field(compare=False)
    size: int = field(compare=False)

    @property
    def triton(self) -> str:
        """In Triton's language. (In the signatures of its functions it is ``name``.)"""
        return f"tl.{self.torch}"

    @property
    def compute(self) -> DType:
        """The dtype of sums, softmax, log-sum-exp and gradients of tables beside queries of this one."""
        return FP64 if self == FP64 else FP32


FP32 = DType("fp32", "float32", "float", 4)
FP64 = DType("fp64", "float64", "double", 8)
BF16 = DType("bf16", "bfloat16", "BrainFloat", 2)
FP16 = DType("fp16", "float16", "Half", 2)
I32 = DType("i32", "int32", "int32_t", 4)
I64 = DType("i64", "int64", "int64_t", 8)
U8 = DType("u8", "uint8", "uint8_t", 1)

FLOATS = (FP32, FP64, BF16, FP16)
"""What queries, keys and values may be."""

DTYPES = (*FLOATS, I32, I64, U8)


def float_named(name: str) -> DType:
    """One of FLOATS, by its name to users. ValueError that lists them."""
    for dtype in FLOATS:
        if dtype.name == name:
            return dtype
    raise ValueError(f"dtype: is {name!r}, expected one of {', '.join(dtype.name for dtype in FLOATS)}")


def integers(wide: bool) -> DType:
    """The dtype of positions and integer tables; ``wide``: they need 64 bits."""
    return I64 if wide else I32


@dataclass(frozen=True)
class Specialisation:
    """What kernels are compiled for beside their Program, whatever compiles them.

    ``dtype``: of q, k and v; ``tables``: of each table as it lies in memory; ``wide``: positions and integer tables
    need 64 bits; ``dropout``: whether probabilities are dropped.
    """

    dtype: DType
    head_dim: int
    value_dim: int
    tables: tuple[DType, ...]
    wide: bool = False
    dropout: bool = False


def usual(tables: Iterable[Table], dtype: DType, head_dim: int) -> Specialisation:
    """That of a call whose tables are short enough for 32 bits and whose sets are bitmaps."""
    held = {"float": dtype.compute, "int": I32, "order": I32, "bool": U8, "set": U8}
    return Specialisation(dtype, head_dim, head_dim, tuple(held[table.element] for table in tables))
