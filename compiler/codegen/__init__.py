"""Generates the source text of a Program's kernels; one folder for each target."""

from .lifting import Lifted, lift_constants, lift_expressions, numbers_of
from .source import Code, KernelSource, render
from .straight_line import Dialect, Statement, dependencies, is_leaf, lower

__all__ = [
    "Code",
    "Dialect",
    "KernelSource",
    "Lifted",
    "Statement",
    "dependencies",
    "is_leaf",
    "lift_constants",
    "lift_expressions",
    "lower",
    "numbers_of",
    "render",
]
