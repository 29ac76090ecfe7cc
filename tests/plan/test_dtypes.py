"""The one list of dtypes: each name means the same number to torch, to Triton and to the C++ kernels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attnc.compiler.plan.dtypes import DTYPES, FLOATS, FP32, FP64, U8, DType, float_named
from attnc.runtime.base.torch_dtypes import compute_dtype, dtype_name, dtype_of, torch_dtype

TEMPLATES = Path(__file__).parents[2] / "templates" / "cpp"


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_torch_has_it_and_finds_the_way_back(dtype: DType) -> None:
    held = torch_dtype(dtype)
    assert (held.itemsize, held.is_floating_point) == (dtype.size, dtype in FLOATS)
    assert dtype_of(held) is dtype
    assert dtype_name(held) == dtype.torch
    assert torch_dtype(dtype.compute) == compute_dtype(held)


def test_conditions_are_bytes_and_half_a_complex_number_is_nothing() -> None:
    assert dtype_of(torch.bool) is U8
    with pytest.raises(KeyError):
        dtype_of(torch.complex64)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_triton_calls_one_type_by_both_names(dtype: DType) -> None:
    """``*bf16`` of a signature points to ``tl.bfloat16``."""
    language = pytest.importorskip("triton.language")
    attribute = dtype.triton.removeprefix("tl.")
    of_text = getattr(language, attribute)
    assert of_text == language.str_to_ty(f"*{dtype.name}", None).element_ty
    assert of_text.primitive_bitwidth == 8 * dtype.size


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_kernels_know_the_type(dtype: DType) -> None:
    """A type of C++ itself, or one that the headers define, of as many bits."""
    text = "\n".join(path.read_text() for path in TEMPLATES.glob("*.h"))
    built_in = {"float": 4, "double": 8, "int32_t": 4, "int64_t": 8, "uint8_t": 1}
    assert built_in.get(dtype.cpp, 2) == dtype.size
    assert dtype.cpp in built_in or f"struct {dtype.cpp} " in text


def test_names_are_apart() -> None:
    for names in ({d.name for d in DTYPES}, {d.torch for d in DTYPES}, {d.cpp for d in DTYPES}):
        assert len(names) == len(DTYPES)
    assert [float_named(dtype.name) for dtype in FLOATS] == list(FLOATS)


def test_sums_are_made_in_single_precision_or_better() -> None:
    assert [dtype.compute for dtype in FLOATS] == [FP32, FP64, FP32, FP32]


@pytest.mark.parametrize("name", ["float32", "i32", "", "FP32"])
def test_another_name_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(ValueError, match="expected one of fp32, fp64, bf16, fp16"):
        float_named(name)
