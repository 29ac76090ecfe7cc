"""Turns an attention into its Program: chooses the orders of rows and keys by estimated cost."""

from .search import applies_to
from .tile_shapes import choose

__all__ = ["applies_to", "choose"]
