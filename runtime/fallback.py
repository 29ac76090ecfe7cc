"""What runs in the place of kernels that cannot be had, where nobody insists on them: the blocked executor."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from ..compiler.codegen.cpp import Pass
from .base import Backend, Gradients, Launch
from .cpp import CPP, BuildError, Compiler, NoCompilerError, compiler, executor, fault_of_compiler, passing
from .eager import BLOCKED

T = TypeVar("T")

_warned: set[str] = set()


class CppOrBlocked:
    """The C++ kernels; the blocked executor, with one warning, for what the compiler does not build.

    A compiler that cannot build the least of libraries is not tried again, and of a sound one not the kernel that it
    refused. Both walk the same schedules.
    """

    def __init__(self) -> None:
        self.unfit: dict[Compiler, str] = {}
        self._refused: set[object] = set()
        self.backend = replace(CPP, require=self.require, forward=self.forward, backward=self.backward)

    def require(self, device: torch.device) -> None:
        """As of the C++ kernels; NoCompilerError also for a compiler that was found to build nothing."""
        CPP.require(device)
        if self.unfit:
            fault = self.unfit.get(compiler())
            if fault is not None:
                raise NoCompilerError(fault)

    def forward(self, launch: Launch) -> tuple[Tensor, Tensor]:
        return self._run("forward", launch, lambda backend: backend.forward(launch))

    def backward(
        self, launch: Launch, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None
    ) -> Gradients:
        return self._run("backward", launch, lambda backend: backend.backward(launch, out, lse, grad_out, grad_lse))

    def _run(self, direction: Pass, launch: Launch, on: Callable[[Backend], T]) -> T:
        try:
            if not self._refused or executor.kernel_of(direction, launch) not in self._refused:
                return on(CPP)
        except NoCompilerError as error:
            return on(instead(str(error), "cpu"))
        except BuildError as error:
            return on(instead(self._judged(error, direction, launch), "cpu"))
        return on(BLOCKED)

    def _judged(self, error: BuildError, direction: Pass, launch: Launch) -> str:
        """Why there is no kernel, remembered unless the next attempt may go otherwise."""
        if passing(error):
            return str(error)
        try:
            using = compiler()
        except NoCompilerError as gone:  # since it was found
            return str(gone)
        fault = fault_of_compiler(using)
        if fault is None:
            self._refused.add(executor.kernel_of(direction, launch))
            return str(error)
        if not passing(fault):
            self.unfit[using] = str(fault)
        return str(fault)


cpp_or_blocked = CppOrBlocked()


def instead(reason: str, device: str) -> Backend:
    """The blocked executor for a type of device; one warning that says why."""
    if device not in _warned:
        _warned.add(device)
        message = f"{reason}: attnc runs tensors on {device} by its blocked PyTorch executor, which is slower"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return BLOCKED
