"""The record of the blocked executor as a backend: it runs on any device, and has no kernels to build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...compiler.plan import FLOATS, DType, PassTiles, Tiles, always
from ...lazy import late
from ..base import Backend

if TYPE_CHECKING:
    import torch

_executor = late(__name__, "blocked")


def _tiles(_dtype: DType, _dim: int, _target: str) -> PassTiles:
    return always(Tiles(64, 64))


def _anywhere(_device: torch.device) -> None:
    """Accepts every device, and needs nothing that could be missing."""


BLOCKED: Backend = Backend(
    name="blocked",
    devices=(),  # it runs as a fallback, or because a setting says so
    dtypes=FLOATS,
    tiles=_tiles,
    require=_anywhere,
    forward=_executor("forward"),
    backward=_executor("backward"),
)
