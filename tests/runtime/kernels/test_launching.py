"""Compiled kernels are kept by what decides among them: never by less than Triton compiles anew for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from attnc.runtime.triton import modules


class Kernel:
    """Stands in for a function of Triton: counts what is compiled, and what is launched of it."""

    def __init__(self, compiled: bool = True) -> None:
        self.compiled, self.runs, self.launches = compiled, 0, 0

    def run(self, *_values: Any, **_options: Any) -> Any:
        self.runs += 1
        return self if self.compiled else None

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        assert grid == (5, 1, 1)
        return self

    def __call__(self, *_values: Any) -> None:
        self.launches += 1


MEMORY = torch.zeros(64)
POINTERS = [MEMORY, MEMORY[1:], MEMORY[4:], MEMORY[2:]]
NUMBERS = [1, 2, 16, 17, 32, 0, -1, -16, 2**31 - 1, 2**31 - 16, 2**31, 2**31 + 1, 2**40, -(2**31), -(2**31) - 1]


def started(kernel: Kernel, kept: modules.CompiledKernels, *values: Any) -> None:
    modules.start(kernel, 5, values, {}, kept)


def test_a_launch_like_an_earlier_one_is_not_looked_up_again() -> None:
    kernel, values = Kernel(), (MEMORY, 3, None, 0.5)
    kept = modules.compiled_kernels(dict(enumerate(values)))
    for other in (values, values, (MEMORY[4:], 5, None, 0.25)):
        started(kernel, kept, *other)
    assert (kernel.runs, kernel.launches) == (1, 2)
    for other in ((MEMORY[1:], 3, None, 0.5), (MEMORY, 16, None, 0.5), (MEMORY, 1, None, 0.5), (MEMORY, 3, None, None)):
        started(kernel, kept, *other)
    assert (kernel.runs, kernel.launches) == (5, 2)
    for other in ((None, 3, None, 0.5), (MEMORY, 3, MEMORY, 0.5), (MEMORY, MEMORY, None, 0.5)):  # never kept
        for _ in range(2):
            started(kernel, kept, *other)
    assert (kernel.runs, kernel.launches) == (11, 2)
    modules.start(kernel, 0, values, {}, kept)
    assert (kernel.runs, kernel.launches) == (11, 2)


def test_the_interpreter_has_nothing_to_keep() -> None:
    kernel = Kernel(compiled=False)
    kept = modules.compiled_kernels({0: 3})
    for _ in range(3):
        started(kernel, kept, 3)
    assert (kernel.runs, kernel.launches, kept.found) == (3, 0, {})


def values() -> Iterator[Any]:
    yield from POINTERS
    yield from NUMBERS
    yield from (None, 0.5)


def test_equal_keys_are_equal_for_triton() -> None:
    """For every pair of values of an argument."""
    native = pytest.importorskip("triton._C.libtriton", reason="triton is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.compiler import CUDABackend

    backend = CUDABackend(GPUTarget("cuda", 90, 32))

    def triton(value: Any) -> Any:
        return native.native_specialize_impl(backend, value, False, True, True)

    for first in values():
        kept = modules.compiled_kernels({0: first})
        for second in values():
            if isinstance(first, torch.Tensor) and not (second is None or isinstance(second, torch.Tensor)):
                continue  # an argument is a tensor in every launch that gives it
            keys = kept.key([first]), kept.key([second])
            assert keys[0] is not None
            if keys[0] == keys[1]:
                assert triton(first) == triton(second), (first, second)
    large = modules.compiled_kernels({0: 2})
    assert len({large.key([x]) for x in NUMBERS}) == 5
