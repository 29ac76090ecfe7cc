"""Generates the Triton module of a Program."""

from .functions import direct_keys, direct_output, direct_queries, kind_of
from .render import render_triton
from .signature import Parameter, Steps, parameters, steps
from .sites import GradientSite, gradient_sites, pair_tables
from .standalone import NotStandaloneError, PassPlan, StandaloneTable, StandaloneText, render_standalone
from .tuning import USUAL_TARGET, Options, make_variant, options, tiles
from .variant import DIGIT_BITS, DIGITS, TritonVariant, fitted
from .walks import span

__all__ = [
    "DIGITS",
    "DIGIT_BITS",
    "USUAL_TARGET",
    "GradientSite",
    "NotStandaloneError",
    "Options",
    "Parameter",
    "PassPlan",
    "StandaloneTable",
    "StandaloneText",
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
    "render_standalone",
    "render_triton",
    "span",
    "steps",
    "tiles",
]
