"""Triton kernels: compiled, run on devices and in the interpreter."""

from . import executor
from .executor import TILES, make_variant

__all__ = ["TILES", "executor", "make_variant"]
