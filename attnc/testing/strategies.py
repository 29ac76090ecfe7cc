"""Hypothesis strategies for random patterns, sizes of calls, and contents of run-time tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from .. import loads
from ..attention import Attention
from ..compiler.ir import Attention as BoundAttention
from ..compiler.ir import Dimension, Table
from .call_shapes import Shape

_PARAMETERS = {"g": "g: tokens", "doc": "doc: int[token]", "length": "length: int[]"}


class DrawnPattern(Attention):
    """A random pattern; ``text`` is its source."""

    def __init__(self, bound: BoundAttention, text: str) -> None:
        super().__init__(bound)
        self.text = text

    def __repr__(self) -> str:
        return f"<attnc.Attention of `{self.text}`>"


def patterns(with_tables: bool, with_counts: bool) -> st.SearchStrategy[Attention]:
    """See :func:`attnc.testing.assertions.patterns`."""
    condition = st.recursive(_leaves(with_tables), _joined, max_leaves=5)
    if with_counts:
        condition |= st.builds("({}) + ({})".format, condition, condition)
    return condition.map(_pattern)


def _pattern(condition: str) -> Attention:
    """Binds a pattern with this condition and the parameters that the condition names."""
    words = set("".join(c if c.isidentifier() else " " for c in condition).split())
    parameters = ", ".join(text for name, text in _PARAMETERS.items() if name in words)
    text = f"pattern drawn{f'({parameters})' if parameters else ''} = {condition}"
    bound = loads(text).drawn()
    return DrawnPattern(bound._bound, text)


def _joined(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("({}) or ({})".format, parts, parts),
        st.builds("({}) and ({})".format, parts, parts),
        st.builds("not ({})".format, parts),
        st.builds("({} if q % {} == 0 else {})".format, parts, st.integers(2, 9), parts),
    )


def _leaves(with_tables: bool) -> st.SearchStrategy[str]:
    """The prelude's patterns with small constants, and some other conditions."""
    small, size = st.integers(0, 9), st.integers(1, 17)
    forms = [
        st.just("causal"),
        st.just("full"),
        st.builds("window({})".format, small),
        st.builds("causal_window({}, dilation = {})".format, size, st.integers(1, 3)),
        st.builds("band({}, {})".format, small, small),
        st.builds("first({})".format, small),
        st.builds("blocks({})".format, size),
        st.builds("block_band({}, {}, {})".format, size, st.integers(0, 2), st.integers(0, 2)),
        st.builds("strided({})".format, size),
        st.builds("fixed({}, 1)".format, size),
        st.builds("random_blocks({}, 40, seed = {})".format, size, small),
        st.builds("q % {0} == k % {0}".format, size),
        st.builds("k in {{{}, {}..{}}}".format, small, small, st.integers(10, 30)),
        st.builds("(head + q) % {} != 0".format, st.integers(2, 5)),
        st.builds("k >= n - {}".format, small),
    ]
    if with_tables:
        forms += [st.just(text) for text in ("global_tokens(g)", "documents(doc)", "prefix(length)", "padded(length)")]
    return st.one_of(forms)


def shapes(largest: int, heads: tuple[int, ...], decoding: bool) -> st.SearchStrategy[Shape]:
    """See :func:`attnc.testing.assertions.shapes`."""

    @st.composite
    def draw_shape(draw: st.DrawFn) -> Shape:
        n = draw(st.integers(1, largest))
        query_heads = draw(st.sampled_from(heads))
        groups = [kv_heads for kv_heads in range(1, query_heads + 1) if query_heads % kv_heads == 0]
        later = decoding and draw(st.booleans())
        q_start = draw(st.integers(0, n - 1)) if later else 0
        return Shape(
            n=n,
            m=draw(st.integers(1, n - q_start)) if later else None,
            batch=draw(st.integers(1, 2)),
            heads=query_heads,
            kv_heads=draw(st.sampled_from(groups)),
            head_dim=draw(st.sampled_from((8, 16, 24))),
            q_start=q_start,
        )

    return draw_shape()


def tables(attention: Attention, shape: Shape) -> st.SearchStrategy[dict[str, torch.Tensor]]:
    """See :func:`attnc.testing.assertions.tables`."""

    @st.composite
    def draw_tables(draw: st.DrawFn) -> dict[str, torch.Tensor]:
        found = {}
        for table in attention._bound.parameters:
            if table.default is not None and draw(st.booleans()):
                continue
            batch = (shape.batch,) if shape.batch > 1 and draw(st.booleans()) else ()
            spread = draw(st.sampled_from(("none", "rising", "any")))
            random = np.random.default_rng(draw(st.integers(0, 2**16)))
            size = batch + tuple(_size(shape, dimension) for dimension in table.dimensions)
            found[table.name] = torch.from_numpy(np.ascontiguousarray(_contents(table, size, shape, spread, random)))
        return found

    return draw_tables()


def _positions(shape: Shape) -> int:
    """One more than the largest position of a query or a key."""
    return max(shape.n, shape.q_start + shape.rows, 1)


def _size(shape: Shape, dimension: Dimension) -> int:
    match dimension.kind:
        case "token":
            return shape.n
        case "query":
            return shape.rows
        case "head":
            return shape.heads
        case "fixed":
            return dimension.size or 0
        case "free":
            return _positions(shape)


def _contents(
    table: Table, size: tuple[int, ...], shape: Shape, spread: str, random: np.random.Generator
) -> NDArray[Any]:
    """Random contents. ``spread``: ``none`` gives zeros (False, empty sets, or the natural order), ``rising`` sorts
    integers along the last axis, ``any`` restricts nothing.
    """
    match table.element:
        case "set":
            kept = random.random((*size, _positions(shape))) < 0.2
            return np.zeros_like(kept) if spread == "none" else kept
        case "bool":
            return np.zeros(size, np.bool_) if spread == "none" else np.asarray(random.random(size) < 0.6)
        case "float":
            scale = 0 if spread == "none" else 1
            return np.asarray(np.round(random.normal(size=size), 2) * scale, dtype=np.float32)
        case "order":
            keys = np.zeros(size) if spread == "none" else random.random(size)
            return np.argsort(keys, axis=-1, kind="stable").astype(np.int32)
        case _:
            high = 1 if spread == "none" else max(shape.n, 1)
            places = np.asarray(random.integers(0, high, size, dtype=np.int32)) + np.int32(table.divides)
            return np.sort(places, axis=-1) if spread == "rising" and size else places
