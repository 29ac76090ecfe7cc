"""A Program to C++."""

from .render import CppVariant, Element, Pass, Storage, render_cpp

__all__ = ["CppVariant", "Element", "Pass", "Storage", "render_cpp"]
