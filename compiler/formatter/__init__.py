"""Text to text: the one layout."""

from .formatter import formatted

__all__ = ["formatted"]
