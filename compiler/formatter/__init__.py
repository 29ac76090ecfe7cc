"""The formatter: lays a text out in the language's one canonical form."""

from .formatter import formatted

__all__ = ["formatted"]
