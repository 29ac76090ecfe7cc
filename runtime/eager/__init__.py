"""Executors in plain PyTorch: the dense reference, and a Program tile by tile."""

from . import blocked
from .blocked import TILES
from .dense_reference import reference

__all__ = ["TILES", "blocked", "reference"]
