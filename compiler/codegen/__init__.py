"""A Program to the text of its kernels; one folder for each target."""

from .lifting import Lifted, lift, numbers_of
from .source import Code, KernelSource, render
from .straight_line import Lowered, Statement, lower

__all__ = ["Code", "KernelSource", "Lifted", "Lowered", "Statement", "lift", "lower", "numbers_of", "render"]
