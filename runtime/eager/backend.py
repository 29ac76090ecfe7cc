"""The blocked executor as a backend: it runs anywhere, and has no kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...compiler.plan import FLOATS, Tiles
from ...lazy import late
from ..base import Backend

if TYPE_CHECKING:
    import torch

_executor = late(__name__, "blocked")


def _anywhere(_device: torch.device) -> None:
    """No device is refused, and nothing can be missing."""


BLOCKED: Backend = Backend(
    name="blocked",
    devices=(),  # in the place of another backend, or because a setting says so
    dtypes=FLOATS,
    tiles=Tiles(64, 64),
    require=_anywhere,
    forward=_executor("forward"),
    backward=_executor("backward"),
)
