"""Patterns of videos against NATTEN, Attention Gym, and the code of sliding tiles, Sparse VideoGen and VSA."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask

import attnc
from tests.systems import originals
from tests.systems.system import Compared, System
from tests.systems.vision import axial, compared, dense, inputs, natten

Keeps = Callable[[Any, Any, Tensor, Tensor], Tensor]
"""FlexAttention's mask_mod: of a batch entry, a head, and positions of a query and a key."""


def gym(name: str) -> Any:
    """A module of Attention Gym's masks."""
    return originals.module(f"attn_gym.masks.{name}")


def masked(name: str, constants: dict[str, int | bool], mask: Tensor, heads: int = 1, **tables: Any) -> Compared:
    """A shipped function against dense attention over the original's mask: [m, n] or [heads, m, n].

    ``name``: of a module and of its declaration.
    """
    module, _, declared = name.partition(":")
    attend, n = attnc.load(module)[declared](**constants), mask.shape[-1]
    given = dict(zip("qkv", inputs(*[(2, heads, n, 16)] * 3), strict=True))

    def theirs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return dense(q, k, v, mask)

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, **tables)

    own = attend.mask(n, heads=heads, **tables)
    return compared(ours, theirs, given, (own, mask.expand(own.shape)))


def pairs(keeps: Keeps, n: int, heads: int = 1) -> Tensor:
    """The mask [heads, n, n] of a mask_mod."""
    return create_mask(keeps, 1, heads, n, n, device="cpu")[0]


# -- sliding tiles -----------------------------------------------------------------------------------------------------


def sliding_tiles() -> Compared:
    """8 by 4 by 6 tokens in tiles of 2 by 2 by 2, windows of 3 by 2 by 2 tiles, 5 tokens of text and 3 of padding."""
    canvas, kernel, tile = (8, 4, 6), (6, 4, 4), (2, 2, 2)
    keeps = gym("sta").generate_sta_mask_mod_3d(canvas, kernel, tile, text_seq_len=5)
    sizes = {"size_t": 3, "size_y": 2, "size_x": 2, "tile": 8}
    return masked("sta:sta_text", sizes, pairs(keeps, 200), frames=4, down=2, across=3, text=5)


def sliding_tiles_2d() -> Compared:
    keeps = gym("sta").generate_sta_mask_mod_2d((12, 15), (8, 9), (2, 3))
    sizes = {"size_y": 4, "size_x": 3, "tile": 6}
    return masked("sta:sta_2d", sizes, pairs(keeps, 180), across=5)


def fast_video(size: tuple[int, int, int]) -> Tensor:
    """generate_sta_mask of FastVideo without text, over 4 by 2 by 5 tiles of 4 tokens: [160, 160]."""
    tiles, tile = (4, 2, 5), 4
    position = torch.arange(math.prod(tiles) * tile)
    where = position // tile
    places = (where // (tiles[1] * tiles[2]), where % (tiles[1] * tiles[2]) // tiles[2], where % tiles[2])
    mask = torch.ones(len(position), len(position), dtype=torch.bool)
    for own, length, kernel in zip(places, tiles, size, strict=True):
        center = own.clamp(kernel // 2, (length - 1) - kernel // 2)
        mask &= (center[:, None] - own[None, :]).abs() <= kernel // 2
    return mask


def sliding_tiles_of_fast_video() -> Compared:
    """Windows of 2 by 2 by 3 tiles, which FastVideo takes for 3 by 3 by 3 and, of 2 lines of tiles, for all."""
    sizes = {"size_t": 3, "size_y": 3, "size_x": 3, "tile": 4}
    return masked("sta:sta", sizes, fast_video((2, 2, 3)), down=2, across=5)


def sliding_tiles_in_lines() -> Compared:
    """The same windows for tokens line by line, as FastVideo arranges them before and after."""
    frames, height, width, tile = 4, 4, 6, (2, 2, 2)
    keeps = gym("sta").generate_sta_mask_mod_3d((frames, height, width), (2, 4, 4), tile)
    by_tile = pairs(keeps, frames * height * width)[0]
    tokens = torch.arange(frames * height * width).reshape(frames // 2, 2, height // 2, 2, width // 2, 2)
    place = tokens.permute(0, 2, 4, 1, 3, 5).flatten().argsort()  # "(n_t n_h n_w ts_t ts_h ts_w)"
    sizes = {"size_t": 1, "size_y": 2, "size_x": 2, "tile_t": 2, "tile_y": 2, "tile_x": 2}
    return masked("sta:sta_lines", sizes, by_tile[place[:, None], place[None, :]], height=height, width=width)


# -- Sparse VideoGen -------------------------------------------------------------------------------------------------


def spatial_head(sink: bool) -> Compared:
    keeps = gym("svg").generate_spatial_head_mask_mod(
        prompt_length=7, num_frames=5, token_per_frame=26, width=2, attn_sink=sink, round_width=8
    )
    constants = {"frame": 26, "width": 2, "rounding": 8, "sink": sink}
    return masked("svg:svg_spatial", constants, pairs(keeps, 137), prompt=7)


def temporal_head() -> Compared:
    keeps = gym("svg").generate_temporal_head_mask_mod(prompt_length=7, num_frames=5, token_per_frame=26, width=2)
    return masked("svg:svg_temporal", {"frame": 26, "frames": 5, "width": 2}, pairs(keeps, 137), prompt=7)


def laid_out(mask: Tensor, prompt: int, frames: int, frame: int) -> Tensor:
    """A mask of tokens place by place as one of tokens frame by frame, as Sparse VideoGen's placement moves them."""
    video = torch.arange(frames * frame).reshape(frames, frame)
    moved = torch.cat([torch.arange(prompt), prompt + video.T.flatten()])
    mask = mask.clone()
    mask[moved[:, None], moved[None, :]] = mask.clone()
    return mask


def video_gen() -> Compared:
    """Two heads of which the second is temporal: svg/models/cog, utils.py and placement.py."""
    prompt, frames, frame, mul, rounding = 7, 5, 26, 2, 8
    position = torch.arange(prompt + frames * frame)
    q, k = position[:, None], position[None, :]
    two_frames = math.floor(mul * frame / rounding) * rounding
    spatial = (k < prompt) | (q < prompt) | (torch.abs(q - k) < two_frames)
    mask = torch.stack([spatial, laid_out(spatial, prompt, frames, frame)])
    constants = {"frame": frame, "frames": frames, "width": mul, "rounding": rounding}
    return masked("svg:svg", constants, mask, 2, temporal=torch.tensor([False, True]), prompt=prompt)


def hunyuan() -> Compared:
    """generate_temporal_head_mask_mod of svg/models/hunyuan/utils.py, which rounds to 8 here instead of 128."""
    prompt, frames, frame, mul, rounding = 7, 5, 26, 2, 8
    position, real_length = torch.arange(150), frames * frame + prompt
    q, k = position[:, None], position[None, :]
    real, fake = (k < real_length) & (q < real_length), (k >= real_length) & (q >= real_length)
    near = torch.abs(q - k) < math.floor(mul * frame / rounding) * rounding
    column = (frames * frame <= k) & (k < real_length)
    row = (frames * frame <= q) & (q < real_length)
    constants = {"frame": frame, "frames": frames, "width": mul, "rounding": rounding}
    return masked("svg:svg_hunyuan", constants, real & (near | column | row) | fake, prompt=prompt)


def wan() -> Compared:
    """The same of svg/models/wan/utils.py."""
    frame, mul, rounding = 26, 2, 8
    position = torch.arange(5 * frame)
    q, k = position[:, None], position[None, :]
    mask = (k < frame) | (torch.abs(q - k) <= math.ceil(mul * frame / rounding) * rounding)
    return masked("svg:svg_wan", {"frame": frame, "width": mul, "rounding": rounding}, mask)


# -- VSA -------------------------------------------------------------------------------------------------------------


def video_sparse() -> Compared:
    """The fine pass over the tiles that Attention Gym chooses for random inputs; those at borders are cut."""
    vsa, heads, tile = gym("vsa"), 2, 8
    layout = vsa.create_vsa_tile_metadata((4, 5, 6), (2, 2, 2))
    sizes, n = layout.variable_block_sizes, layout.padded_seq_length
    q, k = (vsa.tile_vsa_sequence(x.detach(), layout) for x in inputs(*[(1, heads, 120, 16)] * 2))
    chosen = vsa.compute_vsa_topk_indices(q, k, tile, 5, q_variable_block_sizes=sizes, kv_variable_block_sizes=sizes)
    mask = pairs(vsa.generate_vsa_mask_mod(chosen, tile, sizes), n, heads)
    return masked("vsa:vsa_padded", {"tile": tile}, mask, heads, chosen=chosen[0], size=sizes)


def _system(
    name: str, paper: str, shipped: str, original: str, compare: Callable[[], Compared], **shown: object
) -> System:
    """A system; its original is a formula where the name begins so. ``shown``: what its picture sets, and its n."""
    options = [part for key, value in shown.items() if key != "n" for part in ("--set", f"{key}={value}")]
    return System(
        name=name,
        paper=paper,
        shipped=shipped,
        original=original,
        runs=not original.startswith("formula"),
        compare=compare,
        picture=(shipped, *options, "--n", str(shown["n"])),
    )


SYSTEMS: tuple[System, ...] = (
    _system(
        "NATTEN, three dimensions",
        "Hassani et al., 2023",
        "natten_3d:natten_3d",
        "natten 0.21.7, na3d_flex",
        lambda: natten("natten_3d", (4, 6, 7), (3, 3, 4), height=6, width=7),
        height=4, width=4, size_y=3, size_x=3, n=64,
    ),
    _system(
        "NATTEN, three dimensions, dilated, strided, time causal",
        "Hassani et al., 2025",
        "natten_3d:natten_3d",
        "natten 0.21.7, na3d_flex",
        lambda: natten(
            "natten_3d", (4, 6, 7), (2, 3, 3), (1, 2, 1), (2, 1, 3), (True, False, False), height=6, width=7
        ),
        height=4, width=4, size_t=2, size_y=3, size_x=3, past_t="true", n=64,
    ),
    _system(
        "Axial attention, three dimensions",
        "Ho et al., 2019",
        "axial:axial_3d",
        "axial-attention 0.6.1, AxialAttention",
        lambda: axial((3, 5, 4)),
        height=4, width=4, axis=1, n=64,
    ),
    _system(
        "Sliding tile attention with text",
        "Zhang et al., 2025",
        "sta:sta_text",
        "attn-gym 0.0.17, generate_sta_mask_mod_3d",
        sliding_tiles,
        frames=3, down=1, across=4, text=8, size_t=2, size_y=1, size_x=3, tile=4, n=64,
    ),
    _system(
        "Sliding tile attention, two dimensions",
        "Zhang et al., 2025",
        "sta:sta_2d",
        "attn-gym 0.0.17, generate_sta_mask_mod_2d",
        sliding_tiles_2d,
        across=4, size_y=3, size_x=3, tile=4, n=64,
    ),
    _system(
        "Sliding tile attention, windows as in FastVideo",
        "Zhang et al., 2025",
        "sta:sta",
        "formula: FastVideo, generate_sta_mask",
        sliding_tiles_of_fast_video,
        down=2, across=4, size_t=1, size_y=1, size_x=3, tile=4, n=64,
    ),
    _system(
        "Sliding tile attention, tokens line by line",
        "Zhang et al., 2025",
        "sta:sta_lines",
        "attn-gym 0.0.17, generate_sta_mask_mod_3d",
        sliding_tiles_in_lines,
        height=8, width=8, size_t=1, size_y=1, tile_t=1, tile_y=2, tile_x=2, n=64,
    ),
    _system(
        "Sparse VideoGen, spatial head",
        "Xi et al., 2025",
        "svg:svg_spatial",
        "attn-gym 0.0.17, generate_spatial_head_mask_mod",
        lambda: spatial_head(False),
        prompt=4, frame=12, width=1, rounding=4, n=64,
    ),
    _system(
        "Sparse VideoGen, spatial head with a sink",
        "Xi et al., 2025",
        "svg:svg_spatial",
        "attn-gym 0.0.17, generate_spatial_head_mask_mod",
        lambda: spatial_head(True),
        prompt=4, frame=12, width=1, rounding=4, sink="true", n=64,
    ),
    _system(
        "Sparse VideoGen, temporal head",
        "Xi et al., 2025",
        "svg:svg_temporal",
        "attn-gym 0.0.17, generate_temporal_head_mask_mod",
        temporal_head,
        prompt=4, frame=12, frames=5, width=1, n=64,
    ),
    _system(
        "Sparse VideoGen, a spatial and a temporal head",
        "Xi et al., 2025",
        "svg:svg",
        "formula: Sparse-VideoGen, svg/models/cog",
        video_gen,
        temporal="[true]", prompt=4, frame=12, frames=5, width=1, rounding=4, n=64,
    ),
    _system(
        "Sparse VideoGen for HunyuanVideo",
        "Xi et al., 2025",
        "svg:svg_hunyuan",
        "formula: Sparse-VideoGen, svg/models/hunyuan",
        hunyuan,
        prompt=6, frame=12, frames=4, width=1, rounding=4, n=64,
    ),
    _system(
        "Sparse VideoGen for Wan",
        "Xi et al., 2025",
        "svg:svg_wan",
        "formula: Sparse-VideoGen, svg/models/wan",
        wan,
        frame=12, width=1, rounding=4, n=64,
    ),
    _system(
        "VSA, the fine pass",
        "Zhang et al., 2025",
        "vsa:vsa_padded",
        "attn-gym 0.0.17, generate_vsa_mask_mod",
        video_sparse,
        chosen="[[{0,2},{1,3},{2},{0,3}]]", size="[16,16,16,10]", tile=16, n=64,
    ),
)  # fmt: skip
