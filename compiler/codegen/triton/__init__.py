"""Generates the Triton module of a Program."""

from .body import written
from .dialect import TritonDialect
from .functions import direct_keys, direct_output, direct_queries, kind_of
from .render import render_triton
from .signature import Parameter, Steps, order_parameters, parameters, steps, table_parameters
from .sites import GradientSite, gradient_sites, pair_tables
from .standalone import NotStandaloneError, PassPlan, StandaloneTable, StandaloneText, render_standalone
from .tuning import MOST_ROWS_ANYWHERE, USUAL_TARGET, Options, make_variant, options, tiles
from .variant import DIGIT_BITS, DIGITS, TritonVariant, fitted
from .walks import TokenLoop, make_loop, span

__all__ = [
    "DIGITS",
    "DIGIT_BITS",
    "MOST_ROWS_ANYWHERE",
    "USUAL_TARGET",
    "GradientSite",
    "NotStandaloneError",
    "Options",
    "Parameter",
    "PassPlan",
    "StandaloneTable",
    "StandaloneText",
    "Steps",
    "TokenLoop",
    "TritonDialect",
    "TritonVariant",
    "direct_keys",
    "direct_output",
    "direct_queries",
    "fitted",
    "gradient_sites",
    "kind_of",
    "make_loop",
    "make_variant",
    "options",
    "order_parameters",
    "pair_tables",
    "parameters",
    "render_standalone",
    "render_triton",
    "span",
    "steps",
    "table_parameters",
    "tiles",
    "written",
]
