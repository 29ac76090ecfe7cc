"""Generates the C++ source of a Program."""

from .render import CppVariant, Pass, render_cpp, variant_for

__all__ = ["CppVariant", "Pass", "render_cpp", "variant_for"]
