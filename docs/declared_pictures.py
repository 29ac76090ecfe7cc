"""Pictures of shipped declarations that no system's picture shows: for docs/gallery.md."""

from __future__ import annotations

from collections.abc import Mapping

from attnc.compiler.modules import load_shipped
from tests.systems.all_systems import gallery

FOLDER = "pictures/declarations"
GRID = ("--set", "width=8")
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "std:full": (),
    "std:causal": (),
    "std:window": ("--set", "size=8"),
    "std:causal_window": ("--set", "size=8"),
    "std:band": ("--set", "left=9", "--set", "right=3"),
    "std:sees_all": ("--set", "g={0, 20}"),
    "std:seen_by_all": ("--set", "g={0, 20}"),
    "std:global_tokens": ("--set", "g={0, 20}"),
    "std:first": ("--set", "count=5"),
    "std:prefix": ("--set", "length=12"),
    "std:blocks": ("--set", "size=8"),
    "std:block_band": ("--set", "size=6", "--set", "left=2", "--set", "right=1"),
    "std:chunked": ("--set", "size=8"),
    "std:strided": ("--set", "stride=8"),
    "std:fixed": ("--set", "stride=8", "--set", "summary=2"),
    "std:documents": (),
    "std:grid_window": (*GRID, "--set", "rows=1", "--set", "cols=2"),
    "std:random_blocks": ("--set", "size=4", "--set", "percent=30"),
    "alibi:alibi_window": ("--set", "size=8"),
    "bigbird:bigbird": ("--set", "block=4"),
    "deepspeed:summed_up": (
        "--set", "place=0", "--set", "block=2", "--set", "local=4", "--set", "summary=1",
        "--set", "unidirectional=false", "--set", "horizontal=false",
    ),
    "deepspeed:deepspeed_variable_random": ("--set", "block=2"),
    "etc:etc_relative": ("--set", "globals=4", "--set", "radius=5"),
    "longformer:longformer_padded": ("--set", "size=12"),
    "longformer:longformer_local": ("--set", "size=12"),
    "longformer:longformer_global": (),
    "longnet:dilated": ("--set", "segment=16", "--set", "ratio=2", "--set", "heads_in_all=4"),
    "reformer:hashed": ("--set", "chunk=8", "--set", "rounds=2", "--set", "before=1", "--set", "after=0"),
    "strided:fixed_column": ("--set", "stride=8", "--set", "summary=2"),
    "window:diagonal_only": (),
    "axial:axial": GRID,
    "axial:axial_causal": GRID,
    "natten:natten_2d": (*GRID, "--set", "size_y=3", "--set", "size_x=3"),
    "swin:swin": (*GRID, "--set", "window=4", "--set", "shift=2"),
    "swin:swin_biased": (*GRID, "--set", "window=4", "--set", "shift=2"),
    "swin:swin_v2": (*GRID, "--set", "window=4", "--set", "shift=2"),
    "natten_3d:natten_3d_grid": ("--set", "height=4", "--set", "width=4", "--set", "size_y=3", "--set", "size_x=3"),
    "sta:sta_grid": ("--set", "down=2", "--set", "across=4", "--set", "tile=4"),
    "svg:svg_temporal_laid_out": (
        "--set", "prompt=6", "--set", "frame=10", "--set", "frames=5", "--set", "rounding=4",
    ),
    "vsa:vsa": ("--set", "tile=8"),
    "padding:right_padding": ("--set", "length=25"),
    "nsa:nsa_window": ("--set", "size=8"),
    "nsa:nsa_compressed": ("--set", "stride=4"),
}  # fmt: skip
"""What draws each declaration, beside its name and the length, which is 48 or a square's 64."""


def arguments_of(name: str) -> tuple[str, ...]:
    """The arguments of ``attnc show`` that draw a declaration: ``file:name``."""
    return (name, "--n", "64" if {"width=8", "width=4"} & set(SETTINGS[name]) else "48", *SETTINGS[name])


def picture_of(name: str) -> str:
    """The file of a declaration's picture, from docs/."""
    return f"{FOLDER}/{name.replace(':', '-').replace('_', '-')}.png"


def drawable() -> frozenset[str]:
    """Every shipped pattern and attention; not those with an ``index``, which only another pattern can apply."""
    return frozenset(
        f"{file}:{one.name}"
        for file in ("std", *gallery())
        for one in load_shipped(file).declarations.values()
        if one.kind in ("pattern", "attention")
        and not any(parameter.type.element == "index" for parameter in one.parameters)
    )
