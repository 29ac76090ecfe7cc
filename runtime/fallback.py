"""Falls back to the blocked executor where kernels cannot be had, unless a setting insists on them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from ..compiler.codegen.cpp import Pass
from .base import ALL_WANTED, Backend, Gradients, Launch, Wanted
from .cpp import CPP, BuildError, Compiler, NoCompilerError, compiler, executor, fault_of_compiler, passing
from .eager import BLOCKED

T = TypeVar("T")

_warned: set[str] = set()


class CppOrBlocked:
    """The C++ backend, with the blocked executor, and one warning, in place of kernels that cannot be built.

    A compiler that fails to build even a trivial library is not tried again; of a working compiler, only the kernel
    that it failed to build is not tried again. Both backends walk the same schedules.
    """

    def __init__(self) -> None:
        self.unfit: dict[Compiler, str] = {}
        self._refused: set[object] = set()
        self.backend = replace(CPP, require=self.require, forward=self.forward, backward=self.backward)

    def require(self, device: torch.device) -> None:
        """As ``CPP.require``; NoCompilerError also for a compiler that failed to build a trivial library."""
        CPP.require(device)
        if self.unfit:
            fault = self.unfit.get(compiler())
            if fault is not None:
                raise NoCompilerError(fault)

    def forward(self, launch: Launch) -> tuple[Tensor, Tensor]:
        return self._run("forward", launch, lambda backend: backend.forward(launch))

    def backward(
        self, launch: Launch, out: Tensor, lse: Tensor, grad_out: Tensor, grad_lse: Tensor | None,
        wanted: Wanted = ALL_WANTED,
    ) -> Gradients:  # fmt: skip
        given = launch, out, lse, grad_out, grad_lse, wanted
        return self._run("backward", launch, lambda backend: backend.backward(*given))

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
        """The reason why a kernel was not built, for the warning; remembered unless the next attempt may succeed."""
        if passing(error):
            return str(error)
        try:
            using = compiler()
        except NoCompilerError as gone:  # it was removed in the meantime
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
    """Returns the blocked executor, and warns once per device type, giving the reason."""
    if device not in _warned:
        _warned.add(device)
        message = f"{reason}: attnc runs tensors on {device} by its blocked PyTorch executor, which is slower"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return BLOCKED
