"""C++ kernels: built, loaded, run on CPU tensors."""

from . import executor
from .build import BuildError, Compiler, NoCompilerError, compiler, fault_of_compiler
from .executor import TILES

__all__ = ["TILES", "BuildError", "Compiler", "NoCompilerError", "compiler", "executor", "fault_of_compiler"]
