"""C++ kernels: built, loaded, run on CPU tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import attributes

__all__ = ["TILES", "BuildError", "Compiler", "NoCompilerError", "compiler", "executor", "fault_of_compiler"]

if TYPE_CHECKING:
    from . import executor
    from .build import BuildError, Compiler, NoCompilerError, compiler, fault_of_compiler
    from .executor import TILES
else:
    __getattr__ = attributes(
        __name__,
        {
            "build": ("BuildError", "Compiler", "NoCompilerError", "compiler", "fault_of_compiler"),
            "executor": ("TILES",),
        },
        modules=("executor",),
    )
