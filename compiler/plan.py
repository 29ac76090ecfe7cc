"""What the compiler decides: the Program (structure, compiled once) and the Schedule (numbers, for one launch).

A Program knows no length: the same one serves every n, m and batch. A Schedule says, for given lengths and table
contents, which key tiles each query tile visits. Nouns only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .ir import Expr, Table


@dataclass(frozen=True)
class Digit:
    """One mixed-radix digit of a token position: ``stride`` tokens apart; ``extent`` None is as many as n needs."""

    stride: int
    extent: int | None


@dataclass(frozen=True)
class View:
    """A token order that is an affine shuffle of digits: the outer digits name the tile, the inner ones the lane."""

    outer: tuple[Digit, ...]
    inner: tuple[Digit, ...]

    @property
    def tile(self) -> int:
        """Tokens in one tile."""
        size = 1
        for digit in self.inner:
            assert digit.extent is not None
            size *= digit.extent
        return size


def natural(tile: int) -> View:
    """Tokens in the order in which they stand, ``tile`` at a time."""
    return View(outer=(Digit(tile, None),), inner=(Digit(1, tile),))


Order = View


@dataclass(frozen=True)
class Segment:
    """Keys walked in one order. ``condition`` (bool or count) is evaluated on partial tiles; full tiles need none."""

    keys: Order
    condition: Expr


@dataclass(frozen=True)
class Kernel:
    """One launch: query rows walked in one order, over segments of keys under one online softmax."""

    rows: Order
    segments: tuple[Segment, ...]
    output: Literal["store", "merge"]


@dataclass(frozen=True)
class Program:
    """Everything that decides the text of the kernels, and nothing else.

    Expressions name tables by their position in ``tables``: the table of ``Entry.table == "3"`` is ``tables[3]``, so
    that no name of the user's reaches a template.
    """

    kernels: tuple[Kernel, ...]
    mask: Expr
    score: Expr
    sink: Expr | None
    tables: tuple[Table, ...]

    @property
    def counted(self) -> bool:
        """Whether a pair may count more than once."""
        return self.mask.type == "count"


EMPTY, PARTIAL, FULL = 0, 1, 2


@dataclass(frozen=True)
class Runs:
    """Rows of runs: row ``r`` visits the tiles of runs ``pointer[r] .. pointer[r + 1] - 1``, in rising order.

    Run ``i`` covers the tiles ``start[i] .. start[i] + length[i] - 1`` and is PARTIAL or FULL as ``kind[i]`` says.
    Rows are numbered ``(batch slot * head slots + head slot) * tiles + tile``.
    """

    pointer: NDArray[np.int64]  # [rows + 1]
    start: NDArray[np.int32]  # [runs], tiles
    length: NDArray[np.int32]  # [runs], tiles
    kind: NDArray[np.uint8]  # [runs]


@dataclass(frozen=True)
class Schedule:
    """The bounds of one segment for one launch.

    ``batch_slots`` is the batch size where the plan differs from one batch entry to another, else 1; ``head_slots``
    likewise for heads. ``by_query`` has a row for each query tile and runs of key tiles; ``by_key`` a row for each key
    tile and runs of query tiles (the backward's order). Both visit exactly the same pairs of tiles.
    """

    n: int
    m: int
    query_tile: int
    key_tile: int
    batch_slots: int
    head_slots: int
    by_query: Runs
    by_key: Runs
    full: int  # tiles, over all slots
    partial: int  # tiles, over all slots

    @property
    def query_tiles(self) -> int:
        return -(-self.m // self.query_tile)

    @property
    def key_tiles(self) -> int:
        return -(-self.n // self.key_tile)
