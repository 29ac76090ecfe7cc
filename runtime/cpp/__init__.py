"""The C++ backend: builds and loads kernels, and runs them on CPU tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import attributes

__all__ = ["CPP", "BuildError", "Compiler", "NoCompilerError", "compiler", "executor", "fault_of_compiler", "passing"]

if TYPE_CHECKING:
    from . import executor
    from .availability import passing
    from .backend import CPP
    from .build import BuildError, Compiler, NoCompilerError, compiler, fault_of_compiler
else:
    __getattr__ = attributes(
        __name__,
        {
            "availability": ("passing",),
            "backend": ("CPP",),
            "build": ("BuildError", "Compiler", "NoCompilerError", "compiler", "fault_of_compiler"),
        },
        modules=("executor",),
    )
