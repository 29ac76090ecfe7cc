"""Sparse Transformer, DeepSpeed's layouts, LongNet and StreamingLLM, held against DeepSpeed's classes and formulas."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, product
from typing import Any

import torch
from torch import Tensor

import attnc
from tests.systems import originals
from tests.systems.layers import DIM, EXACT, compared, dense, drawn
from tests.systems.system import Compared, System

# Sparse Transformer


def openai_mask(n: int, mode: str, context: int) -> Tensor:
    """What ``get_attn_mask`` keeps, bool ``[n, n]``: a band of ``context`` keys, or every ``context``-th."""
    mask = torch.zeros(n, n, dtype=torch.bool)
    for query in range(n):
        for key in range(query + 1):
            band = query - key <= min(n - 1, context - 1)
            mask[query, key] = band if mode == "local" else (query - key) % context == 0
    return mask


def openai_fixed(n: int, context: int, heads: int, verts: int, size: int, block: int) -> Tensor:
    """What ``get_blocksparse_obj`` keeps in the mode ``fixed``, bool ``[heads, n, n]``.

    Each head has ``size`` columns of blocks in every ``context`` keys, from the last on, by turns of ``verts`` kinds; a
    block on the diagonal keeps what lies on or below it.
    """
    blocks, stride = n // block, context // block
    columns = torch.arange(stride - 1, -1, -1).view(-1, size)[:verts]
    layout = torch.zeros(heads, blocks, blocks, dtype=torch.bool)
    for head in range(heads):
        for column in columns[head % verts].tolist():
            layout[head, :, column::stride] = True
        for row in range(blocks):
            window = row // stride * stride
            layout[head, row, window : window + stride] = True
            layout[head, row, row + 1 :] = False
    inner = torch.ones(n, n, dtype=torch.bool).tril()
    return layout.repeat_interleave(block, 1).repeat_interleave(block, 2) & inner


def held(attend: Any, theirs: Tensor, tables: Mapping[str, Any] | None = None) -> Compared:
    """An attention beside the dense formula of their mask, ``[heads, n, n]``."""
    heads, n = theirs.shape[:2]
    q, k, v = drawn(*[(2, heads, n, DIM)] * 3)
    mask = attend.mask(n, heads=heads, **(tables or {}))
    ours = attend(q, k, v, **(tables or {}))
    return compared((mask.expand_as(theirs), theirs), ours, dense(q, k, v, theirs), {"q": q, "k": k, "v": v})


def strided() -> Compared:
    theirs = openai_mask(80, "local", 12) | openai_mask(80, "strided", 12)
    return held(attnc.load("strided").strided(stride=12), theirs[None])


def strided_column() -> Compared:
    return held(attnc.load("strided").strided_column(stride=12), openai_mask(80, "strided", 12)[None])


def fixed() -> Compared:
    attend = attnc.load("strided").fixed(stride=16, summary=4)
    return held(attend, openai_fixed(80, 16, 1, 1, 2, 2))


def fixed_heads() -> Compared:
    attend = attnc.load("strided").fixed_heads(stride=16, summary=4, columns=3)
    return held(attend, openai_fixed(80, 16, 6, 3, 2, 2))


# DeepSpeed

BLOCK, LAYOUT_HEADS = 2, 4


def layout(made: Any, blocks: int) -> Tensor:
    """The layout of a configuration for so many blocks; random blocks are drawn with the seed 3."""
    state = random.getstate()
    random.seed(3)
    found: Tensor = made.make_layout(blocks * BLOCK)
    random.setstate(state)
    return found


def by_tokens(blocks: Tensor) -> Tensor:
    """A layout ``[heads, rows, columns]`` token by token, bool."""
    return blocks.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2).bool()


def random_blocks(per_row: int, choices: Sequence[int]) -> Tensor:
    """What the same seed draws for each head and row, int64 ``[heads, rows, per_row]``; ``choices``: from how many."""
    state = random.getstate()
    random.seed(3)
    found = [[random.sample(range(few), per_row) for few in choices] for _ in range(LAYOUT_HEADS)]
    random.setstate(state)
    return torch.tensor(found)


Variant = tuple[str, Mapping[str, Any], Mapping[str, Any], Any, int]
"""The declaration, its constants and tables; the original's configuration, and how many blocks."""


def layouts(name: str, variants: Callable[[Any], Iterable[Variant]]) -> Callable[[], Compared]:
    """The comparison of all variants' masks, and of the first one's outputs with a dense softmax over its layout."""

    def compare() -> Compared:
        path = "deepspeed-0.14.5/deepspeed/ops/sparse_attention/sparsity_config.py"
        configurations, texts, pairs, first = originals.single(path), attnc.load("deepspeed"), [], None
        for declaration, constants, tables, made, blocks in variants(configurations):
            theirs = by_tokens(layout(made, blocks))
            attend = texts[declaration](block=BLOCK, **constants)
            ours = attend.mask(theirs.shape[-1], heads=LAYOUT_HEADS, **tables).expand_as(theirs)
            pairs.append((ours.flatten(), theirs.flatten()))
            if declaration == name:
                first = first or held(attend, theirs, tables)
        assert first is not None
        masks = [torch.cat(side) for side in zip(*pairs, strict=True)]
        return Compared((masks[0], masks[1]), first.outputs, first.gradients)

    return compare


def direction(unidirectional: bool) -> str:
    return "unidirectional" if unidirectional else "bidirectional"


def any_layout(original: Any) -> Iterable[Variant]:
    for made in (
        original.FixedSparsityConfig(LAYOUT_HEADS, BLOCK, True, num_different_global_patterns=4),
        original.DenseSparsityConfig(LAYOUT_HEADS, BLOCK),
        original.BigBirdSparsityConfig(LAYOUT_HEADS, BLOCK, True, num_random_blocks=2),
    ):
        yield "deepspeed", {}, {"layout": layout(made, 17).bool()}, made, 17


def fixed_layouts(original: Any) -> Iterable[Variant]:
    for local, summary, patterns, blocks in product((4, 6), (1, 2), (1, 2), (3, 8, 13, 16)):
        for unidirectional, horizontal in ((False, False), (True, False), (False, True)):
            constants = {
                "local": local, "summary": summary, "patterns": patterns, "unidirectional": unidirectional,
                "horizontal": horizontal,
            }  # fmt: skip
            made = original.FixedSparsityConfig(
                LAYOUT_HEADS, BLOCK, patterns > 1, local, summary, direction(unidirectional), horizontal, patterns
            )
            yield "deepspeed_fixed", constants, {}, made, blocks


def variable_layouts(original: Any) -> Iterable[Variant]:
    for windows, begins, span, blocks in product(((4,), (4, 2, 8), (1, 3, 2)), ((0,), (1, 5)), (1, 2), (7, 20)):
        for unidirectional, horizontal, drawn_ in ((False, False, 0), (True, False, 2), (False, True, 0)):
            constants = {
                "cuts": {*accumulate(windows[:-2])} if len(windows) > 1 else set(),
                "repeat_from": sum(windows[:-1]), "size": windows[-1], "summaries": {*begins}, "span": span,
                "unidirectional": unidirectional, "horizontal": horizontal,
            }  # fmt: skip
            ends = None if span == 1 else [begin + span for begin in begins]
            made = original.VariableSparsityConfig(
                LAYOUT_HEADS, BLOCK, True, drawn_, [*windows], [*begins], ends, direction(unidirectional), horizontal
            )
            if drawn_:
                chosen = random_blocks(drawn_, [blocks] * blocks)
                yield "deepspeed_variable_random", constants, {"chosen": chosen}, made, blocks
            else:
                yield "deepspeed_variable", constants, {}, made, blocks


def longformer_layouts(original: Any) -> Iterable[Variant]:
    for size, begins, span, blocks, unidirectional in product(
        (1, 2, 3, 5), ((0,), (1, 5)), (1, 2), (7, 20), (False, True)
    ):
        ends = None if span == 1 else [begin + span for begin in begins]
        constants = {"size": size, "summaries": {*begins}, "span": span, "unidirectional": unidirectional}
        made = original.BSLongformerSparsityConfig(
            LAYOUT_HEADS, BLOCK, False, size, [*begins], ends, direction(unidirectional)
        )
        yield "deepspeed_longformer", constants, {}, made, blocks


def window_layouts(original: Any) -> Iterable[Variant]:
    for size, blocks, unidirectional in product((1, 2, 3, 5), (7, 20), (True, False)):
        constants = {"size": size, "unidirectional": unidirectional}
        made = original.LocalSlidingWindowSparsityConfig(LAYOUT_HEADS, BLOCK, size, direction(unidirectional))
        yield "deepspeed_window", constants, {}, made, blocks


def bigbird_layouts(original: Any) -> Iterable[Variant]:
    """A unidirectional layout draws one block for each row: its first row has no more to choose from."""
    for size, summary, blocks, unidirectional in product((1, 3, 4), (1, 2), (7, 20), (False, True)):
        per_row = 1 if unidirectional else 2
        made = original.BigBirdSparsityConfig(
            LAYOUT_HEADS, BLOCK, True, per_row, size, summary, direction(unidirectional)
        )
        chosen = random_blocks(per_row, [row + 1 if unidirectional else blocks for row in range(blocks)])
        constants = {"size": size, "summary": summary, "unidirectional": unidirectional}
        yield "deepspeed_bigbird", constants, {"chosen": chosen}, made, blocks


# LongNet


def branch(q: Tensor, k: Tensor, v: Tensor, segment: int, ratio: int) -> tuple[Tensor, Tensor, Tensor]:
    """One branch of ``dilated_attention.py``: its output, the logarithms of its sums, and what it keeps.

    Heads are padded to a multiple of the ratio and lie in as many groups; of every ``ratio`` tokens of a segment the
    r-th group has the r-th. Tokens that it lacks have the sum 0, that is, the logarithm -1e8.
    """
    n, heads = q.shape[2], q.shape[1]
    of_group = (heads + ratio - 1) // ratio
    out, sums = torch.zeros_like(v), torch.full(q.shape[:3], -1e8, dtype=q.dtype)
    kept = torch.zeros(heads, n, n, dtype=torch.long)
    for head, start in product(range(heads), range(0, n, segment)):
        tokens = torch.arange(start + head // of_group, min(start + segment, n), ratio)
        if not len(tokens):
            continue
        below = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()
        scores = q[:, head, tokens] @ k[:, head, tokens].mT * q.shape[-1] ** -0.5
        scores = scores.masked_fill(~below, -torch.inf)
        out = out.index_put(
            (torch.arange(len(q))[:, None], torch.tensor(head), tokens), scores.softmax(-1) @ v[:, head, tokens]
        )
        sums = sums.index_put((torch.arange(len(q))[:, None], torch.tensor(head), tokens), scores.logsumexp(-1))
        kept[head, tokens[:, None], tokens] += below
    return out, sums, kept


def longnet_formula(
    q: Tensor, k: Tensor, v: Tensor, segments: Sequence[int], ratios: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Branches merged by their sums, and how often they keep each pair, int64 ``[heads, n, n]``."""
    found = [branch(q, k, v, segment, ratio) for segment, ratio in zip(segments, ratios, strict=True)]
    outs, sums, kept = (torch.stack(part) for part in zip(*found, strict=True))
    return (outs * sums.softmax(0)[..., None]).sum(0), kept.sum(0)


def longnet() -> Compared:
    """The paper's ratios with segments from 8 tokens, 12 heads; and the mask of 5 heads, which no ratio divides."""
    n, segments, ratios = 150, [8, 16, 32, 64, 128], [1, 2, 4, 6, 12]
    q, k, v = drawn(*[(1, 12, n, DIM)] * 3)
    out, kept = longnet_formula(q, k, v, segments, ratios)
    few = longnet_formula(q[:, :5], k[:, :5], v[:, :5], segments, ratios)[1]
    text = attnc.load("longnet").longnet
    masks = [text(segment=8, heads_in_all=heads).mask(n, heads=heads) for heads in (12, 5)]
    ours = text(segment=8)(q, k, v)
    return compared((torch.cat(masks), torch.cat([kept, few])), ours, out, {"q": q, "k": k, "v": v})


# StreamingLLM


def streamed(start: int, recent: int, early: bool) -> Callable[[], Compared]:
    """The comparison of decoding with ``StartRecentKVCache``, token by token.

    ``early``: the cache makes room for the token before it is read (``evict_for_space``, as the authors' chat has it);
    else what is too much goes after the token was read, as in their evaluation, and one more token is read.
    """

    def compare() -> Compared:
        n = 90
        q, k, v = drawn(*[(2, 2, n, DIM)] * 3)
        cache: list[int] = []
        rows, kept = [], torch.zeros(2, n, n, dtype=torch.bool)
        for token in range(n):
            length = len(cache)
            if early and length + 1 > start + recent:
                cache = cache[:start] + cache[length - recent + 1 :]
            cache = [*cache, token]
            scores = q[:, :, token : token + 1] @ k[:, :, cache].mT * DIM**-0.5
            rows.append(scores.softmax(-1) @ v[:, :, cache])
            kept[:, token, cache] = True
            if not early and len(cache) > start + recent:
                cache = cache[:start] + cache[len(cache) - recent :]
        attend = attnc.load("sink_window").sink_window(size=recent if early else recent + 1, sinks=start)
        ours = attend(q, k, v)
        return compared((attend.mask(n, heads=2), kept), ours, torch.cat(rows, 2), {"q": q, "k": k, "v": v})

    return compare


OPENAI = "formula: openai/sparse_attention attention.py"
DEEPSPEED = "deepspeed 0.14.5"


def _sparse(name: str, declaration: str, compare: Callable[[], Compared], *constants: str) -> System:
    what = "get_blocksparse_obj" if "fixed" in declaration else "get_attn_mask"
    picture = ("--n", "64", *(part for constant in constants for part in ("--set", constant)))
    return System(
        name, "Child et al., 2019", f"strided:{declaration}", f"{OPENAI} {what}", False, compare, picture, EXACT
    )


def _layout(name: str, declaration: str, configuration: str, variants: Callable[[Any], Iterable[Variant]]) -> System:
    return System(
        name,
        "Microsoft, 2020",
        f"deepspeed:{declaration}",
        f"{DEEPSPEED} {configuration}",
        True,
        layouts(declaration, variants),
        ("--n", "48", "--set", "block=2"),
        tolerance=EXACT,
        note="its layouts; its kernels need a GPU and an old Triton: the outputs are those of a dense softmax",
    )


SYSTEMS: tuple[System, ...] = (
    _sparse("Sparse Transformer, strided", "strided", strided, "stride=8"),
    _sparse("Sparse Transformer, strided, columns alone", "strided_column", strided_column, "stride=8"),
    _sparse("Sparse Transformer, fixed", "fixed", fixed, "stride=16", "summary=4"),
    _sparse("Sparse Transformer, fixed, by heads", "fixed_heads", fixed_heads, "stride=16", "summary=4"),
    _layout("DeepSpeed, any layout", "deepspeed", "SparsityConfig", any_layout),
    _layout("DeepSpeed, Fixed", "deepspeed_fixed", "FixedSparsityConfig", fixed_layouts),
    _layout("DeepSpeed, Variable", "deepspeed_variable", "VariableSparsityConfig", variable_layouts),
    _layout("DeepSpeed, BSLongformer", "deepspeed_longformer", "BSLongformerSparsityConfig", longformer_layouts),
    _layout("DeepSpeed, LocalSlidingWindow", "deepspeed_window", "LocalSlidingWindowSparsityConfig", window_layouts),
    _layout("DeepSpeed, BigBird", "deepspeed_bigbird", "BigBirdSparsityConfig", bigbird_layouts),
    System(
        "LongNet",
        "Ding et al., 2023",
        "longnet:longnet",
        "formula: microsoft/torchscale dilated_attention.py",
        False,
        longnet,
        ("--n", "64", "--heads", "12", "--set", "segment=8"),
        tolerance=EXACT,
        note="that code's backward pass takes the weights of the merge as constants; here they are differentiated",
    ),
    System(
        "StreamingLLM, generation",
        "Xiao et al., 2023",
        "sink_window:sink_window",
        "formula: mit-han-lab/streaming-llm kv_cache.py evict_for_space",
        False,
        streamed(4, 20, True),
        ("--n", "64", "--set", "size=16"),
        tolerance=EXACT,
        note="keys as they lie in the cache: rotating them by their places there is left to the caller",
    ),
    System(
        "StreamingLLM, evaluation",
        "Xiao et al., 2023",
        "sink_window:sink_window",
        "formula: mit-han-lab/streaming-llm kv_cache.py StartRecentKVCache",
        False,
        streamed(4, 20, False),
        ("--n", "64", "--set", "size=17"),
        tolerance=EXACT,
        note="keys as they lie in the cache: rotating them by their places there is left to the caller",
    ),
)
