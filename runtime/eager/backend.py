"""The record of the blocked executor as a backend: it runs on any device, and has no kernels to build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...compiler.plan import FLOATS, Tiles
from ...lazy import late
from ..base import Backend, one_shape

if TYPE_CHECKING:
    import torch

_executor = late(__name__, "blocked")


def _anywhere(_device: torch.device) -> None:
    """Accepts every device, and needs nothing that could be missing."""


BLOCKED: Backend = Backend(
    name="blocked",
    devices=(),  # it runs as a fallback, or because a setting says so
    dtypes=FLOATS,
    tiles=one_shape(Tiles(64, 64)),
    require=_anywhere,
    forward=_executor("forward"),
    backward=_executor("backward"),
)
