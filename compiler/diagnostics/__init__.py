"""Diagnostics: what an error holds, how it is rendered, the catalogue of errors with their pages, limits of a text."""

from . import limits
from .catalogue import CATALOGUE, page
from .collector import ErrorCollector, Suggestion
from .diagnostic import (
    ArgumentError,
    AttnError,
    Diagnostic,
    Edit,
    Label,
    Source,
    Span,
    edited,
    line_ends,
    nearest,
    render,
    with_places,
)
from .limits import FIRST_BEYOND, LARGEST_POSITION, LARGEST_SIZE, NESTING, within_64_bits
from .terminal_text import visible, visible_line
from .wording import at, counted, listed, shortened, up_to, words

__all__ = [
    "CATALOGUE",
    "FIRST_BEYOND",
    "LARGEST_POSITION",
    "LARGEST_SIZE",
    "NESTING",
    "ArgumentError",
    "AttnError",
    "Diagnostic",
    "Edit",
    "ErrorCollector",
    "Label",
    "Source",
    "Span",
    "Suggestion",
    "at",
    "counted",
    "edited",
    "limits",
    "line_ends",
    "listed",
    "nearest",
    "page",
    "render",
    "shortened",
    "up_to",
    "visible",
    "visible_line",
    "with_places",
    "within_64_bits",
    "words",
]
