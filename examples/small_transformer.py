"""A transformer's block with rotary positions on any number of axes; which keys a query sees is the caller's affair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From q, k and v, each ``[batch, heads, n, head_dim]``, to the output of that shape."""


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Every query sees every key: torch's own kernels."""
    return scaled_dot_product_attention(q, k, v)


def dense_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Every query sees itself and all before: torch's own kernels."""
    return scaled_dot_product_attention(q, k, v, is_causal=True)


@dataclass(frozen=True)
class Turns:
    """Cosine and sine of each position's angles, ``[n, head_dim // 2]``."""

    cosine: Tensor
    sine: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Turns the pairs (i, i + head_dim // 2) of the features of x, ``[…, n, head_dim]``."""
        n = x.shape[-2]
        first, second = x.chunk(2, -1)
        cosine, sine = self.cosine[:n], self.sine[:n]
        return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)


def rotary(places: Tensor, head_dim: int, longest: float) -> Turns:
    """Rotary positions (Su et al., 2021) on several axes: ``places`` ``[n, axes]``, each axis with its share of angles.

    ``longest``: the slowest angle turns once in about six times so many places.
    """
    axes, pairs = places.shape[1], head_dim // 2
    angles = []
    for axis in range(axes):
        share = pairs // axes + (axis < pairs % axes)
        speeds = longest ** -(torch.arange(share, dtype=torch.float64) / max(share - 1, 1))
        angles.append(places[:, axis, None].double() * speeds)
    turned = torch.cat(angles, -1)
    return Turns(turned.cos().float(), turned.sin().float())


def grid_places(*sizes: int) -> Tensor:
    """The coordinates of every token of a grid, row by row: int64 ``[n, axes]``."""
    return torch.cartesian_prod(*(torch.arange(size) for size in sizes)).view(-1, len(sizes))


class Block(nn.Module):
    """Attention and a feed-forward layer, each after a norm and added to what came in."""

    def __init__(self, width: int, heads: int, attend: Attend) -> None:
        super().__init__()
        self.heads, self.attend = heads, attend
        self.before_attention, self.before_feed_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.join = nn.Linear(width, width, bias=False)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, turns: Turns) -> Tensor:
        """``[batch, n, width]`` to the same shape."""
        q, k, v = self.project(self.before_attention(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.join(self.attend(turns(q), turns(k), v).transpose(1, 2).flatten(2))
        change: Tensor = self.feed_forward(self.before_feed_forward(x))
        return x + change
