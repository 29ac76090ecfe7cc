"""Sequences of different lengths, packed one after the other without padding: by offsets or as nested tensors."""

from .documents import documents
from .jagged import attend_sequences

__all__ = ["attend_sequences", "documents"]
