"""Turns an attention into its Program: chooses the orders of rows and keys by estimated cost."""

from .search import applies_to, arrange

__all__ = ["applies_to", "arrange"]
