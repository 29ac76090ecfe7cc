"""Renders kernel sources for reading, for `Attention.source`."""

from __future__ import annotations

from .compiler.ir import Attention
from .compiler.pipeline import Pipeline
from .compiler.plan import float_named, usual
from .runtime.backends import backend_of_target


def source_of(attention: Attention, target: str, head_dim: int, dtype: str) -> str:
    """The text of the kernels for ``"cpu"``, ``"sm_90"``, ``"gfx942"`` and so on, forward and backward.

    ValueError for an unknown target or dtype.
    """
    kind = usual(attention.tables, float_named(dtype), head_dim)
    backend = backend_of_target(target)
    made = Pipeline(attention, backend.tiles).source(backend.render, backend.variants(kind))
    return "\n".join(source.text for source in made)
