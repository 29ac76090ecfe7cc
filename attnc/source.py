"""Renders kernel sources for reading, for `Attention.source`."""

from __future__ import annotations

from .compiler import pipeline
from .compiler.codegen import KernelSource
from .compiler.ir import Attention, Entry, walk
from .compiler.plan import DType, Specialisation, float_named, usual
from .runtime.backends import backend_of_target


def source_of(attention: Attention, target: str, head_dim: int, dtype: str) -> str:
    """The text of the kernels for ``"cpu"``, ``"sm_90"``, ``"gfx942"`` and so on, forward and backward.

    ValueError for an unknown target or dtype.
    """
    asked = float_named(dtype)
    attention = settled(attention, asked)
    kind = usual(attention.tables, asked, head_dim)
    return "\n".join(source.text for source in sources(attention, kind, target))


def settled(attention: Attention, dtype: DType) -> Attention:
    """The attention as kernels compute it that no call asks for, with float tables of the dtype of their sums."""
    if not any(isinstance(node, Entry) and node.type == "float" for node in walk(attention.mask)):
        return attention
    from .runtime.base import torch_dtype
    from .runtime.call import settle_alike

    return settle_alike(attention, torch_dtype(dtype.compute))


def sources(attention: Attention, kind: Specialisation, target: str) -> tuple[KernelSource, ...]:
    """The texts of the kernels for a target, one for each pass or direction. ValueError for an unknown target."""
    backend = backend_of_target(target)
    tiles = backend.tiles(kind.dtype, max(kind.head_dim, kind.value_dim), target)
    variants = backend.variants(kind, target)
    shapes = dict.fromkeys(tiles.of(direction) for direction, _ in variants)
    programs = {choices: pipeline.program(attention, choices) for choices in shapes}
    return tuple(
        pipeline.source(programs[tiles.of(direction)], backend.render, variant) for direction, variant in variants
    )
