"""Parses a text into its syntax tree."""

from . import tree
from .grammar import Token
from .lexer import DeclarationTokens, comments, declaration_tokens, decode
from .parser import parse, parse_tokens
from .tree import Attention, Model, Pattern

__all__ = [
    "Attention",
    "DeclarationTokens",
    "Model",
    "Pattern",
    "Token",
    "comments",
    "declaration_tokens",
    "decode",
    "parse",
    "parse_tokens",
    "tree",
]
