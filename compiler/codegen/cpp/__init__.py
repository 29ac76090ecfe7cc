"""A Program to C++."""

from .render import CppVariant, Pass, render_cpp, variant_for

__all__ = ["CppVariant", "Pass", "render_cpp", "variant_for"]
