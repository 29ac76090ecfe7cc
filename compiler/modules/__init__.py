"""Loads and checks texts with their imports, and binds the constants of declarations and tests."""

from .binding import literal
from .imports import read
from .loader import Declaration, Module, Parameter, bind, bound_tests, known_default, load_file, load_shipped, load_text
from .test_cases import BoundTest, Check, Claim, ClaimKind, Column, Pairs, Picture, Row

__all__ = [
    "BoundTest",
    "Check",
    "Claim",
    "ClaimKind",
    "Column",
    "Declaration",
    "Module",
    "Pairs",
    "Parameter",
    "Picture",
    "Row",
    "bind",
    "bound_tests",
    "known_default",
    "literal",
    "load_file",
    "load_shipped",
    "load_text",
    "read",
]
