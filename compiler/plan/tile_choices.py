"""The passes that kernels make over the tiles of a call, and the tile shapes that each pass may have.

A pass has its own Program and its own Schedule, because the best tile of one is not that of another: what a pass keeps
in registers and what it loads again for each step differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .orders import Tiles

Pass = Literal["forward", "backward_keys", "backward_queries"]
"""``forward`` makes outputs; ``backward_keys`` the gradients of keys and values, with a block of keys for each program;
``backward_queries`` the gradients of queries, with a block of rows for each program."""

PASSES: tuple[Pass, ...] = ("forward", "backward_keys", "backward_queries")


@dataclass(frozen=True)
class TileChoice:
    """A tile shape that the kernels of a pass may have.

    ``cost``: of one key of a full tile, computed for one query, relative to the same in the fastest shape of the pass.
    """

    tiles: Tiles
    cost: float = 1.0


Choices = tuple[TileChoice, ...]
"""The shapes among which the cheapest for a mask is taken; the first one wins ties."""


@dataclass(frozen=True)
class PassTiles:
    """The tile shapes that a backend has for each pass."""

    forward: Choices
    backward_keys: Choices
    backward_queries: Choices

    def of(self, direction: Pass) -> Choices:
        """The shapes of one pass."""
        choices: Choices = getattr(self, direction)
        return choices


def only(tiles: Tiles) -> Choices:
    """One shape, without a choice."""
    return (TileChoice(tiles),)


def always(tiles: Tiles) -> PassTiles:
    """One shape in every pass."""
    return PassTiles(only(tiles), only(tiles), only(tiles))
