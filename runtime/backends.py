"""Which executor runs a call; where the C++ kernels cannot be had and nobody insists on them, the blocked one."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor

from ..compiler.codegen.cpp import Pass
from ..compiler.plan import Tiles
from .base import Gradients, Launch, settings
from .cpp import BuildError, Compiler, NoCompilerError, compiler, fault_of_compiler
from .cpp import executor as cpu
from .eager import blocked

T = TypeVar("T")

# Errors of a system that has run out of something: another attempt may succeed.
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC, errno.EDQUOT}


class Executor(Protocol):
    """What runs a launch: an executor module of :mod:`runtime.cpp`, :mod:`runtime.triton` or :mod:`runtime.eager`, or
    :class:`CppOrBlocked`."""

    TILES: Tiles

    def forward(self, launch: Launch) -> tuple[Tensor, Tensor]: ...
    def backward(
        self, launch: Launch, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None
    ) -> Gradients: ...


class CppOrBlocked:
    """The C++ kernels; the blocked executor, with one warning, for what the compiler does not build.

    A compiler that cannot build the least of libraries is not tried again, and of a sound one not the kernel that it
    refused. Both executors walk the same schedules.
    """

    TILES = cpu.TILES

    def __init__(self) -> None:
        self.unfit: dict[Compiler, str] = {}
        self._refused: set[object] = set()

    def forward(self, launch: Launch) -> tuple[Tensor, Tensor]:
        return self._run("forward", launch, lambda executor: executor.forward(launch))

    def backward(
        self, launch: Launch, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None
    ) -> Gradients:
        return self._run("backward", launch, lambda executor: executor.backward(launch, out, lse, grad_out, grad_lse))

    def _run(self, direction: Pass, launch: Launch, on: Callable[[Executor], T]) -> T:
        try:
            if not self._refused or cpu.kernel_of(direction, launch) not in self._refused:
                return on(cast(Executor, cpu))
        except NoCompilerError as error:
            return on(_instead(str(error), "cpu"))
        except BuildError as error:
            return on(_instead(self._judged(error, direction, launch), "cpu"))
        return on(_blocked())

    def _judged(self, error: BuildError, direction: Pass, launch: Launch) -> str:
        """Why there is no kernel, remembered unless the next attempt may go otherwise."""
        if _passing(error):
            return str(error)
        try:
            using = compiler()
        except NoCompilerError as gone:  # since it was found
            return str(gone)
        fault = fault_of_compiler(using)
        if fault is None:
            self._refused.add(cpu.kernel_of(direction, launch))
            return str(error)
        if not _passing(fault):
            self.unfit[using] = str(fault)
        return str(fault)


_cpp_or_blocked = CppOrBlocked()
_warned: set[str] = set()


def executor_for(device: torch.device, keys: int) -> Executor:
    """What runs tensors on a device, as ``settings.backend`` says; one warning where something is missing for it.

    ValueError where the backend does not run such tensors; ImportError or NoCompilerError where the one that was
    insisted on cannot be had. C++ kernels that were insisted on and cannot be built are a BuildError at their launch.
    """
    backend = settings.backend
    if not keys or backend == "blocked":  # without a key there is nothing to launch
        return _blocked()
    if backend == "triton" or (backend == "auto" and (device.type == "cuda" or settings.interpret)):
        return _gpu(device, insisted=backend == "triton" or settings.interpret)
    if device.type != "cpu":
        raise ValueError(f"q: is on {device}, and the setting backend is {backend}, which runs CPU tensors only")
    return _cpu(insisted=backend == "cpp")


def _blocked() -> Executor:
    return cast(Executor, blocked)


def _gpu(device: torch.device, insisted: bool) -> Executor:
    try:
        from .triton import executor as gpu
    except ImportError as error:
        if insisted:
            raise
        return _instead(f"triton cannot be imported ({error})", device.type)
    gpu.require_device(device)
    return cast(Executor, gpu)


def _cpu(insisted: bool) -> Executor:
    try:
        missing = _missing_compiler(settings.cxx, settings.optimisation, os.environ.get("PATH"))
        if missing is None and _cpp_or_blocked.unfit and not insisted:
            missing = _cpp_or_blocked.unfit.get(compiler())
    except NoCompilerError as error:
        missing = str(error)
    if missing is None:
        return cast(Executor, cpu) if insisted else _cpp_or_blocked
    if insisted:
        raise NoCompilerError(missing)
    return _instead(missing, "cpu")


@lru_cache(maxsize=64)
def _missing_compiler(*_looked_at: object) -> str | None:
    """Why there is no C++ compiler, or None where there is one. The arguments are what the answer depends on.

    NoCompilerError where the next attempt may give another answer, which is not kept then.
    """
    try:
        compiler()
    except NoCompilerError as error:
        if _passing(error):
            raise
        return str(error)
    return None


def _passing(error: Exception) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _PASSING


def _instead(reason: str, device: str) -> Executor:
    if device not in _warned:
        _warned.add(device)
        message = f"{reason}: attnc runs tensors on {device} by its blocked PyTorch executor, which is slower"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return _blocked()
