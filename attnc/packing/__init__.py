"""Sequences of different lengths, packed one after the other without padding: by offsets or as nested tensors."""

from .jagged import attend_sequences
from .offsets import documents

__all__ = ["attend_sequences", "documents"]
