"""CUDA graphs: what a captured launch uses stays, and what a capture cannot hold is refused by name.

A graph holds raw addresses. The memory that is made during a capture belongs to the graph; what caches keep from calls
before it may be dropped from them at any time, and is kept here instead.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T", bound=Tensor | tuple[Tensor, ...])

_pinned: dict[int, Tensor] = {}


def capturing(device: torch.device) -> bool:
    """Whether launches on a device are recorded in a CUDA graph just now, and do not run."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def kept_by_graphs(cached: T, device: torch.device) -> T:
    """Tensors from a cache, for a launch on a device; if that is captured, they live as long as the process."""
    if capturing(device):
        for tensor in (cached,) if isinstance(cached, Tensor) else cached:
            _pinned[id(tensor)] = tensor
    return cached


def require_uncaptured(what: str, device: torch.device) -> None:
    """RuntimeError if a copy from the host to a device would be captured, which CUDA refuses. ``what`` is copied."""
    if capturing(device):
        raise RuntimeError(
            f"{what} would be copied to {device} while a CUDA graph is captured, expected a call with the same sizes "
            "and the same host values before the capture, which leaves the copy on the device"
        )


def pinned() -> tuple[Tensor, ...]:
    """Everything that is kept for graphs."""
    return tuple(_pinned.values())
