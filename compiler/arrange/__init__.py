"""Orders chosen by cost: an attention to its Program."""

from .search import arrange, serves

__all__ = ["arrange", "serves"]
