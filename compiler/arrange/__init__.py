"""Orders chosen by cost: an attention to its Program."""

from .search import applies_to, arrange

__all__ = ["applies_to", "arrange"]
