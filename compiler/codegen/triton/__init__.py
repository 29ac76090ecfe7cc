"""Generates the Triton module of a Program."""

from .functions import direct_keys, direct_output, direct_queries, kind_of
from .render import render_triton
from .signature import Parameter, Steps, parameters, steps
from .sites import GradientSite, gradient_sites, pair_tables
from .tuning import MOST_ROWS_ANYWHERE, USUAL_TARGET, Options, make_variant, options, tiles
from .variant import DIGIT_BITS, DIGITS, TritonVariant, fitted
from .walks import span

__all__ = [
    "DIGITS",
    "DIGIT_BITS",
    "MOST_ROWS_ANYWHERE",
    "USUAL_TARGET",
    "GradientSite",
    "Options",
    "Parameter",
    "Steps",
    "TritonVariant",
    "direct_keys",
    "direct_output",
    "direct_queries",
    "fitted",
    "gradient_sites",
    "kind_of",
    "make_variant",
    "options",
    "pair_tables",
    "parameters",
    "render_triton",
    "span",
    "steps",
    "tiles",
]
