"""Questions of ``cpu.py`` about whole sequences: causal beside SDPA, masks and training beside a matrix product, 16
bits beside fp32, and sparsity that is chosen at run time beside a window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from math import sqrt
from typing import Any

import numpy as np
import torch
from _questions import (
    DIM,
    HEADS,
    PRODUCT,
    Question,
    backward_pass,
    both_passes,
    of_product,
    of_shape,
    product,
    random,
)
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

import attnc

N = 4096
SPARSE_HEADS = 8
MASKS = """
pattern near(width: int) = grid_window(width, 6, 6)
pattern packed(doc: int[token]) = causal and documents(doc)
pattern earlier(size: int) = causal_window(size)
"""
SPARSE = """
pattern moba(chosen: set[head, token], chunk: int = 256) =
    causal and (blocks(chunk) or k // chunk in chosen[head, q])
pattern nsa(chosen: set[head, rows], block: int = 64) =
    causal and (blocks(block) or k // block in chosen[head, q // block])
pattern lines(vertical: set[head], slash: set[head]) = causal and (k in vertical[head] or q - k in slash[head])
"""


@dataclass(frozen=True)
class Masked:
    """One attention over ``n`` tokens. ``asked``: the shares of a product's rate that are wanted, by pass."""

    name: str
    attention: attnc.Attention
    n: int
    tables: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, float] = field(default_factory=dict)

    def pairs(self, heads: int = HEADS) -> int:
        return int(self.attention.plan(self.n, heads=heads, **self.tables).pairs)

    @property
    def attend(self) -> Callable[..., Tensor]:
        return partial(self.attention, **self.tables)


def causal_whole() -> Iterator[Question]:
    """All earlier keys, as SDPA has them built in."""
    causal = attnc.load("causal").causal()
    inputs, gradient = of_shape(N, N, grad=True), random(1, HEADS, N, DIM)
    plain = [x.detach() for x in inputs]
    theirs, fast = partial(sdpa, is_causal=True), "times as fast as SDPA"
    yield Question("causal, 4,096 tokens", fast, lambda: causal(*plain), lambda: theirs(*plain), 1.3, True)
    passes = both_passes(causal, inputs, gradient), both_passes(theirs, inputs, gradient)
    yield Question("causal, 4,096 tokens, forward and backward", fast, *passes, 1.3, True)


@cache
def masked() -> tuple[Masked, ...]:
    """The masks whose rates are measured."""
    module, window = attnc.loads(MASKS), attnc.load("window").window(512)
    both = {"forward": 0.85, "backward": 0.85}
    return (
        Masked("strided 128", attnc.load("strided").strided(128), N, asked={"forward": 0.55}),
        Masked("13 x 13 on a grid of 64 x 64", module.near(64), N, asked={"forward": 0.5}),
        Masked("documents of about 340", module.packed(), N, {"doc": _documents(N)}, asked={"forward": 0.7}),
        Masked("window 513, 4,096 tokens", window, N, asked=both),
        Masked("window 513, 16,384 tokens", window, 16384, asked=both),
    )


def _documents(n: int) -> Any:
    """The number of its document for each token; lengths are lognormal."""
    drawn = np.random.default_rng(0).lognormal(np.log(250), 0.8, n)
    return np.searchsorted(np.cumsum(np.maximum(drawn.astype(np.int64), 16)), np.arange(n), side="right")


def masks() -> Iterator[Question]:
    """Shares of a matrix product's rate, forward."""
    limit = product()
    for mask in masked():
        call = partial(mask.attend, *of_shape(mask.n, mask.n))
        factor = of_product(mask.pairs(), "forward")
        yield Question(mask.name, PRODUCT, call, limit, mask.asked["forward"], True, factor)


def training() -> Iterator[Question]:
    """The backward's share of a product's rate, and that share over the forward's."""
    limit = product()
    for mask in masked():
        inputs = of_shape(mask.n, mask.n, grad=True)
        backward = backward_pass(mask.attend, inputs)
        forward = partial(mask.attend, *(x.detach() for x in inputs))
        factor = of_product(mask.pairs(), "backward")
        asked = mask.asked.get("backward")
        yield Question(f"{mask.name}, backward", PRODUCT, backward, limit, asked, True, factor)
        told = "of the forward's share"
        yield Question(f"{mask.name}, backward beside forward", told, backward, forward, 0.95, True, 2.5)


def half_precision() -> Iterator[Question]:
    """Sixteen bits beside fp32: a window, and all earlier keys."""
    patterns = (("window 513", attnc.load("window").window(512)), ("causal", attnc.load("causal").causal()))
    for name, attend in patterns:
        single = of_shape(N, N, grad=True)
        for dtype in (torch.bfloat16, torch.float16):
            short = [x.detach().to(dtype).requires_grad_() for x in single]
            kind, told = str(dtype).removeprefix("torch."), "times fp32's"
            calls = [partial(attend, *(x.detach() for x in given)) for given in (short, single)]
            yield Question(f"{name}, 4,096 tokens, {kind}", told, *calls, 1.0)
            passes = [backward_pass(attend, given) for given in (short, single)]
            yield Question(f"{name}, 4,096 tokens, {kind}, backward", told, *passes, 1.0)


def sparsity() -> Iterator[Question]:
    """Patterns that tables choose at run time, each beside the causal window that keeps as many pairs: for a pair."""
    module, draw = attnc.loads(SPARSE), np.random.default_rng(0)
    for clustered in (False, True):
        kind = "clustered" if clustered else "random"
        vertical, slash = lines_chosen(draw, N, clustered), lines_chosen(draw, N, clustered)
        for name, attention, tables in (
            ("NSA", module.nsa(), {"chosen": nsa_chosen(draw, N, clustered)}),
            ("MoBA", module.moba(), {"chosen": moba_chosen(draw, N, clustered)}),
            ("vertical-slash", module.lines(), {"vertical": vertical, "slash": slash}),
        ):
            yield from _beside_window(Masked(f"{name}, {kind}", attention, N, tables))


def _beside_window(mask: Masked) -> Iterator[Question]:
    pairs = mask.pairs(SPARSE_HEADS)
    size = window_size(mask.n, pairs / SPARSE_HEADS)
    window = Masked("", attnc.loads(MASKS).earlier(size), mask.n)
    factor = window.pairs(SPARSE_HEADS) / pairs
    inputs = of_shape(mask.n, mask.n, grad=True, heads=SPARSE_HEADS)
    plain, told = [x.detach() for x in inputs], "times a window's of as many pairs"
    calls = partial(mask.attend, *plain), partial(window.attend, *plain)
    yield Question(mask.name, told, *calls, 2.0, factor=factor)
    passes = backward_pass(mask.attend, inputs), backward_pass(window.attend, inputs)
    yield Question(f"{mask.name}, backward", told, *passes, 2.0, factor=factor)


def window_size(n: int, pairs: float) -> int:
    """The size of the causal window of n tokens whose pairs are nearest to ``pairs``, of one head."""
    return max(1, min(n, round((2 * n + 1 - sqrt(max(0.0, (2 * n + 1) ** 2 - 8 * pairs))) / 2)))


def nsa_chosen(draw: np.random.Generator, n: int, clustered: bool, block: int = 64, count: int = 8) -> Tensor:
    """Chosen blocks of keys for each block of queries, ``[heads, blocks, count]``; -1: none. Clustered: neighbours."""
    chosen = np.full((SPARSE_HEADS, n // block, count), -1, np.int32)
    for head in range(SPARSE_HEADS):
        for row in range(n // block):
            if clustered:
                first = int(draw.integers(max(1, row - count + 1)))
                blocks = np.arange(first, min(first + count, row + 1))
            else:
                blocks = draw.permutation(row + 1)[:count]
            chosen[head, row, : len(blocks)] = blocks
    return torch.from_numpy(chosen)


def moba_chosen(draw: np.random.Generator, n: int, clustered: bool, chunk: int = 256, count: int = 3) -> Tensor:
    """Chosen chunks of earlier keys for each query, ``[heads, n, count]``; -1 for none. Clustered: the same for 64
    queries in a row.
    """
    chosen = np.full((SPARSE_HEADS, n, count), -1, np.int32)
    for head in range(SPARSE_HEADS):
        for query in range(n):
            if not clustered or query % 64 == 0:
                chunks = draw.permutation(query // chunk)[:count]
            chosen[head, query, : len(chunks)] = chunks
    return torch.from_numpy(chosen)


def lines_chosen(draw: np.random.Generator, n: int, clustered: bool, count: int = 64) -> Tensor:
    """Vertical lines, or diagonals, of each head, ``[heads, count]``. Clustered: runs of eight."""
    chosen = np.empty((SPARSE_HEADS, count), np.int32)
    for head in range(SPARSE_HEADS):
        if clustered:
            starts = draw.permutation(n // 8)[: count // 8] * 8
            chosen[head] = (starts[:, None] + np.arange(8)).ravel()
        else:
            chosen[head] = draw.permutation(n)[:count]
    return torch.from_numpy(chosen)
