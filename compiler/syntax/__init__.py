"""Text to tree."""

from . import tree
from .gc_pause import paused
from .lalr import Branch, branches
from .lexer import RESERVED, Segment, Word, decode, segments
from .parser import parse
from .tree import Attention, Model, Pattern

__all__ = [
    "RESERVED",
    "Attention",
    "Branch",
    "Model",
    "Pattern",
    "Segment",
    "Word",
    "branches",
    "decode",
    "parse",
    "paused",
    "segments",
    "tree",
]
