"""Masks of attention-gym, NATTEN and others for FlexAttention, which runs compiled, as these packages use it."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

import attnc
from tests.systems import originals
from tests.systems.contexts import walk
from tests.systems.packing import packed_long
from tests.systems.speeds.beside import DIM, Attends, Calls, Timed, beside, drawn, flex, flex_in_blocks
from tests.systems.video import gym
from tests.systems.vision import natten_flex

HEADS = (4, 4)

# NATTEN.


def natten(
    shape: tuple[int, ...],
    size: tuple[int, ...],
    dilation: tuple[int, ...] = (1, 1, 1),
    stride: tuple[int, ...] = (1, 1, 1),
    past: tuple[bool, ...] = (False, False, False),
    **tables: int,
) -> Calls:
    """A function of ours beside the mask and the attention of NATTEN's FlexAttention backend."""
    axes = len(shape)
    numbers = (size, stride[:axes], dilation[:axes], past[:axes])
    suffixes = ([""], ["_y", "_x"], ["_t", "_y", "_x"])[axes - 1]
    named = {
        f"{word}{suffix}": value
        for word, values in zip(("size", "stride", "dilation", "past"), numbers, strict=True)
        for suffix, value in zip(suffixes, values, strict=True)
    }
    declared = ("natten", "natten_2d", "natten_3d")[axes - 1]
    attend = attnc.load("natten_3d" if axes == 3 else "natten")[declared](**named)
    backend = natten_flex()
    sys.modules.setdefault(backend.__name__, backend)  # where torch's compiler looks for what a mask uses
    blocks = backend.get_na_flex_mask("cpu", axes, shape, *numbers)
    return beside(attend, flex_in_blocks(blocks), math.prod(shape), HEADS, **tables)


# Videos.


def sliding_tiles() -> Calls:
    """12 by 16 by 32 tokens in tiles of 4 by 4 by 4, windows of 3 by 3 by 3 tiles, 200 tokens of text."""
    keeps = gym("sta").generate_sta_mask_mod_3d((12, 16, 32), (12, 12, 12), (4, 4, 4), text_seq_len=200)
    attend, n = attnc.load("sta").sta_text(size_t=3, size_y=3, size_x=3, tile=64), 12 * 16 * 32 + 256
    return beside(attend, flex(keeps, n), n, HEADS, frames=3, down=4, across=8, text=200)


def sliding_tiles_2d() -> Calls:
    """64 by 64 tokens in tiles of 8 by 8, windows of 3 by 3 tiles."""
    keeps = gym("sta").generate_sta_mask_mod_2d((64, 64), (24, 24), (8, 8))
    attend = attnc.load("sta").sta_2d(size_y=3, size_x=3, tile=64)
    return beside(attend, flex(keeps, 4096), 4096, HEADS, across=8)


def sliding_tiles_in_lines() -> Calls:
    """12 by 16 by 32 tokens line by line; the original arranges them by tiles before, and back after."""
    frames, height, width = 12, 16, 32
    n = frames * height * width
    inner = flex(gym("sta").generate_sta_mask_mod_3d((frames, height, width), (12, 12, 12), (4, 4, 4)), n)
    lines = torch.arange(n).reshape(frames // 4, 4, height // 4, 4, width // 4, 4)
    order = lines.permute(0, 2, 4, 1, 3, 5).flatten()  # "(n_t n_h n_w ts_t ts_h ts_w)"
    back = order.argsort()

    def theirs(*qkv: Tensor) -> Tensor:
        out: Tensor = inner(*(one[:, :, order] for one in qkv))
        return out[:, :, back]

    sizes = {"size_t": 3, "size_y": 3, "size_x": 3, "tile_t": 4, "tile_y": 4, "tile_x": 4}
    return beside(attnc.load("sta").sta_lines(**sizes), theirs, n, HEADS, height=height, width=width)


def spatial_head(sink: bool) -> Calls:
    """13 frames of 312 tokens behind a prompt of 40."""
    keeps = gym("svg").generate_spatial_head_mask_mod(
        prompt_length=40, num_frames=13, token_per_frame=312, width=2, attn_sink=sink, round_width=128
    )
    attend = attnc.load("svg").svg_spatial(frame=312, width=2, rounding=128, sink=sink)
    return beside(attend, flex(keeps, 4096), 4096, HEADS, prompt=40)


def temporal_head() -> Calls:
    keeps = gym("svg").generate_temporal_head_mask_mod(prompt_length=40, num_frames=13, token_per_frame=312, width=2)
    attend = attnc.load("svg").svg_temporal(frame=312, frames=13, width=2)
    return beside(attend, flex(keeps, 4096), 4096, HEADS, prompt=40)


def video_sparse() -> Calls:
    """8 by 22 by 22 tokens in tiles of 4 by 4 by 4, of which each sees 16 that attention-gym chooses."""
    vsa, heads, tile = gym("vsa"), HEADS[0], 64
    layout = vsa.create_vsa_tile_metadata((8, 22, 22), (4, 4, 4))
    sizes, n = layout.variable_block_sizes, layout.padded_seq_length
    q, k = (vsa.tile_vsa_sequence(x, layout) for x in drawn(*[(1, heads, 8 * 22 * 22, DIM)] * 2))
    chosen = vsa.compute_vsa_topk_indices(q, k, tile, 16, q_variable_block_sizes=sizes, kv_variable_block_sizes=sizes)
    theirs = flex_in_blocks(vsa.create_vsa_block_mask(chosen, tile, len(sizes), sizes))
    return beside(attnc.load("vsa").vsa_padded(tile=tile), theirs, n, HEADS, chosen=chosen[0], size=sizes)


# Prefixes, trees.


def shared_prefix_anywhere() -> Calls:
    doc, offsets = packed_long()
    of = torch.tensor([2, 2, 2, 4, 4])
    modifier = gym("shared_prefix").generate_shared_prefix_mask_mod(offsets, of)
    attend = attnc.load("shared_prefix").shared_prefix_anywhere()
    return beside(attend, flex(modifier, 4096), doc=doc, prefix=of[doc])


STEM, NODES = 8192, 128
PARENTS = [-1, *(node // 3 for node in range(NODES - 1))]


def tree(by_table: bool) -> Calls:
    """A tree of 128 guesses behind 8,192 tokens, 16 heads."""
    jetspec = gym("jetspec")
    sees = jetspec.build_tree_ancestor_matrix(PARENTS, "cpu")
    theirs = flex(jetspec.generate_jetspec_tree_causal_mask_mod(STEM, sees), STEM + NODES, NODES)
    module = attnc.load("tree")
    attend: Any = module.tree_table() if by_table else module.tree()
    tables: dict[str, Any] = {"sees": sees, "start": STEM} if by_table else behind_stem()
    return beside(partial(attend, q_start=STEM), theirs, STEM + NODES, (16, 16), m=NODES, **tables)


def behind_stem() -> dict[str, Tensor]:
    """When a walk comes to each token of the stem and of the tree behind it, and leaves it."""
    stem, end = torch.arange(STEM), torch.full((STEM,), STEM + NODES)
    enter, leave = (STEM + torch.tensor(times) for times in walk(PARENTS))
    return {"enter": torch.cat([stem, enter]), "leave": torch.cat([end, leave])}


def draft_blocks() -> Calls:
    """128 blocks of 16 tokens behind 2,048."""
    modifier = gym("jetspec").generate_jetspec_training_mask_mod(2048, 16)
    attend = attnc.load("tree").draft_blocks()
    return beside(partial(attend, q_start=2048), flex(modifier, 4096, 2048), m=2048, start=2048)


# Native sparse attention.


def nsa_each_head() -> Calls:
    """The module's own FlexAttention for the chosen blocks of each head; at each call another choice, the same for
    both.
    """
    n, made = 2048, originals.module("native_sparse_attention_pytorch.native_sparse_attention")
    blocks, mask = torch.arange(n)[:, None] // 64, made.create_fine_mask(n, 64)
    attend = attnc.load("nsa").nsa(group=1)

    def choices() -> Any:
        generator = torch.Generator().manual_seed(0)
        while True:
            few = torch.rand(1, 8, n // 64, 16, generator=generator).repeat_interleave(64, 2)
            yield (few * blocks.clamp(min=1)).long()

    ours, others, compiled = choices(), choices(), compiled_flex()

    def theirs(q: Tensor, k: Tensor, v: Tensor) -> Any:
        return compiled(q, k, v, block_mask=mask(next(others), num_grouped_queries=1), enable_gqa=True)

    return beside(lambda q, k, v: attend(q, k, v, chosen=next(ours)), theirs, n, (8, 2))


def compiled_flex() -> Attends:
    from torch.nn.attention.flex_attention import flex_attention

    made: Any = torch.compile(flex_attention)
    return made


TIMED: Mapping[str, Timed] = {
    "NATTEN, one dimension, dilated and strided": lambda: natten((4096,), (256,), (3,), (2,)),
    "NATTEN, one dimension, causal": lambda: natten((4096,), (256,), (2,), (3,), (True,)),
    "NATTEN, two dimensions": lambda: natten((64, 64), (7, 7), width=64),
    "NATTEN, two dimensions, dilated, strided, lines causal": lambda: natten(
        (64, 64), (7, 7), (2, 3), (3, 2), (True, False), width=64
    ),
    "NATTEN, three dimensions": lambda: natten((8, 16, 32), (3, 7, 7), height=16, width=32),
    "NATTEN, three dimensions, dilated, strided, time causal": lambda: natten(
        (8, 16, 32), (3, 5, 5), (1, 2, 1), (2, 1, 3), (True, False, False), height=16, width=32
    ),
    "Sliding tile attention with text": sliding_tiles,
    "Sliding tile attention, two dimensions": sliding_tiles_2d,
    "Sliding tile attention, tokens line by line": sliding_tiles_in_lines,
    "Sparse VideoGen, spatial head": lambda: spatial_head(False),
    "Sparse VideoGen, spatial head with a sink": lambda: spatial_head(True),
    "Sparse VideoGen, temporal head": temporal_head,
    "VSA, the fine pass": video_sparse,
    "Shared prefix, anywhere": shared_prefix_anywhere,
    "Tree of guesses": lambda: tree(False),
    "Tree of guesses, by a table": lambda: tree(True),
    "JetSpec, training": draft_blocks,
    "NSA, each head chooses": nsa_each_head,
}
