"""Questions of ``cpu.py`` about calls: small ones, and one token decoded against long caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import torch
from _questions import DIM, HEADS, SDPA_TIME, Question, both_passes, of_shape, random
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

import attnc

CACHE, GROUPED = 65536, 4
COPIED = 2**28  # bytes, which a copy reads and writes
TEXT = """
pattern window(size: int) = causal_window(size)
pattern packed(doc: int[token]) = causal and documents(doc)
attention sloped(slope: float[head]) { mask = causal  score = s - slope[head] * (q - k) }
"""


def small_calls() -> Iterator[Question]:
    """Without tables; a growing cache last."""
    full, causal = attnc.load("full").full(), attnc.load("causal").causal()
    q, k, v = of_shape(1, 16)
    yield Question("one query, 16 keys", SDPA_TIME, lambda: full(q, k, v), lambda: sdpa(q, k, v), 2.5)
    prepared = full.prepare(q, k, v)
    yield Question("the same, prepared", SDPA_TIME, lambda: prepared(q, k, v), lambda: sdpa(q, k, v), 2.5)
    inputs, gradient = of_shape(1, 16, grad=True), random(1, HEADS, 1, DIM)
    passes = both_passes(full, inputs, gradient), both_passes(sdpa, inputs, gradient)
    yield Question("one query, 16 keys, forward and backward", SDPA_TIME, *passes, 2.5)
    for n, asked in ((64, 1.2), (128, 0.8)):
        given = of_shape(n, n)
        yield Question(
            f"causal, {n} tokens", SDPA_TIME, lambda given=given: causal(*given),
            lambda given=given: sdpa(*given, is_causal=True), asked,
        )  # fmt: skip
    window, cache = attnc.loads(TEXT).window(256), (random(1, HEADS, 4096, DIM), random(1, HEADS, 4096, DIM))
    lengths, others = cycle(range(300, 4096)), cycle(range(300, 4096))

    def grow() -> object:
        n = next(lengths)
        return window(q, *(x[:, :, :n] for x in cache), q_start=n - 1)

    def sliced() -> object:
        n = next(others)
        return sdpa(q, *(x[:, :, n - 256 : n] for x in cache))

    yield Question("growing cache, window 256", "times SDPA's on the slice", grow, sliced, 2.0)


def calls_with_tables() -> Iterator[Question]:
    """Small calls that are given a table, beside SDPA that is given the mask or the bias it means, made before."""
    module, position = attnc.loads(TEXT), torch.arange(64)
    packed, sloped = module.packed(), module.sloped()
    doc = (position // 20).int()
    q, k, v = of_shape(64, 64)
    mask = (position[:, None] >= position) & (doc[:, None] == doc)
    told = "times SDPA's with the mask"
    yield Question(
        "64 tokens, documents", told, lambda: packed(q, k, v, doc=doc), lambda: sdpa(q, k, v, attn_mask=mask)
    )
    slope = 2.0 ** -torch.arange(1, HEADS + 1)
    distance = (position[:, None] - position).float()
    bias = torch.where(distance >= 0, -slope[:, None, None] * distance, float("-inf"))[None]
    told = "times SDPA's with the bias"
    yield Question(
        "64 tokens, a slope for each head", told, lambda: sloped(q, k, v, slope=slope),
        lambda: sdpa(q, k, v, attn_mask=bias),
    )  # fmt: skip
    last, past = q[:, :, -1:].contiguous(), bias[:, :, -1:].contiguous()
    yield Question(
        "one query, 64 keys, a slope for each head", told, lambda: sloped(last, k, v, q_start=63, slope=slope),
        lambda: sdpa(last, k, v, attn_mask=past),
    )  # fmt: skip


def copy() -> Callable[[], object]:
    source, target = torch.randn(COPIED // 4), torch.empty(COPIED // 4)
    return lambda: target.copy_(source)


def decoding() -> Iterator[Question]:
    """One token against 64k cached ones, at a new position each time; two caches take turns, so that none of them lies
    in the processor's cache.
    """
    window, causal = attnc.loads(TEXT).window(4096), attnc.load("causal").causal()
    yield from _decoding(
        "", HEADS, torch.float32, [("window 4,096", window, 4096, 0.7), ("causal", causal, CACHE, 0.8)]
    )
    yield from _decoding(f", {GROUPED} heads of keys", GROUPED, torch.float32, [("causal", causal, CACHE, None)])
    yield from _decoding(", bfloat16", HEADS, torch.bfloat16, [("causal", causal, CACHE, None)])


def _decoding(
    more: str, kv_heads: int, dtype: torch.dtype, patterns: list[tuple[str, Any, int, float | None]]
) -> Iterator[Question]:
    limit = copy()
    caches = [[random(1, kv_heads, CACHE, DIM, dtype=dtype) for _ in range(2)] for _ in range(2)]
    turns = cycle([(k, v, back) for back in range(5) for k, v in caches])
    query = random(1, HEADS, 1, DIM, dtype=dtype)
    for name, attend, kept, asked in patterns:

        def step(attend: Callable[..., Tensor] = attend) -> object:
            k, v, back = next(turns)
            n = CACHE - 7 * back
            return attend(query, k[:, :, :n], v[:, :, :n], q_start=n - 1)

        kept_bytes = kept * kv_heads * DIM * 2 * dtype.itemsize
        title = f"decode, 64k cached, {name}{more}"
        yield Question(title, "of a copy's bytes", step, limit, asked, True, kept_bytes / (2 * COPIED))
