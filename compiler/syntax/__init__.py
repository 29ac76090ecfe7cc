"""Text to tree."""

from . import tree
from .grammar import Token
from .lexer import DeclarationTokens, comments, decode, segments
from .parser import parse, parse_tokens
from .tree import Attention, Model, Pattern

__all__ = [
    "Attention",
    "DeclarationTokens",
    "Model",
    "Pattern",
    "Token",
    "comments",
    "decode",
    "parse",
    "parse_tokens",
    "segments",
    "tree",
]
