"""Generates the Triton module of a Program."""

from .functions import direct_keys, direct_output, direct_queries, function_names, kind_of
from .render import render_triton
from .signature import Parameter, parameters
from .sites import GradientSite, gradient_sites, pair_tables
from .tuning import make_variant, options
from .variant import DIGIT_BITS, DIGITS, TritonVariant, fitted
from .walks import span

__all__ = [
    "DIGITS",
    "DIGIT_BITS",
    "GradientSite",
    "Parameter",
    "TritonVariant",
    "direct_keys",
    "direct_output",
    "direct_queries",
    "fitted",
    "function_names",
    "gradient_sites",
    "kind_of",
    "make_variant",
    "options",
    "pair_tables",
    "parameters",
    "render_triton",
    "span",
]
