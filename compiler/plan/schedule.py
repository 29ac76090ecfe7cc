"""A Schedule: which tiles the kernels of a Program visit, for one launch. Nouns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .order_protocol import Listing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Runs:
    """Rows of runs: row ``r`` visits the tiles of runs ``pointer[r] .. pointer[r + 1] - 1``, in rising order.

    Run ``i`` covers the tiles ``start[i] .. start[i] + length[i] - 1`` and is PARTIAL or FULL as ``kind[i]`` says.
    """

    pointer: NDArray[np.int64]  # [rows + 1]
    start: NDArray[np.int32]  # [runs], tiles
    length: NDArray[np.int32]  # [runs], tiles
    kind: NDArray[np.uint8]  # [runs]


UNBOUNDED = 2**30
"""Tiles: a relative run that reaches so far from its row goes on for ever, whatever n is."""


@dataclass(frozen=True)
class Bounds:
    """Which tiles of the other side each tile of one side visits.

    One period of rows of runs serves all: tile ``u`` of a class visits what row ``u % period`` says, moved on by
    ``(u // period) * shift`` tiles and clipped to the tiles that there are. ``aligned``: tiles of class c visit tiles
    of class c of the other side, counted within it; else ``u`` counts through all classes, and so do the tiles visited.

    Row ``(batch slot * head_slots + head slot) * period + u % period`` of ``runs`` is meant: ``batch_slots`` is the
    batch size where the bounds differ from one batch entry to another, else 1; ``head_slots`` likewise, with the place
    of a head among the kernel's heads.

    With ``period`` 1 the bounds are a closed form; with as many rows as there are tiles (and ``shift`` 0) a list of
    runs for each; a period in between is a template. The first and the last hold for one launch only where tables or
    lengths are read; a tile called FULL may hang over the last token: lanes without a token count nothing.
    """

    period: int
    shift: int
    aligned: bool
    batch_slots: int
    head_slots: int
    runs: Runs


@dataclass(frozen=True)
class SegmentSchedule:
    """The bounds of one segment: ``by_query`` has a row for query tiles, ``by_key`` one for key tiles (the backward's
    order, as :func:`key_major` says). Both visit exactly the same pairs of tiles; of pairs of tokens where keys are a
    box. ``keys`` lists them where their order is gathered or sorted.
    """

    by_query: Bounds
    by_key: Bounds
    keys: Listing | None = None


@dataclass(frozen=True)
class KernelSchedule:
    """The segments' bounds in their order. ``rows`` lists the rows where their order is gathered or sorted."""

    segments: tuple[SegmentSchedule, ...]
    rows: Listing | None = None


@dataclass(frozen=True)
class Schedule:
    """The bounds of a whole program for one launch, kernel by kernel: ``m`` query rows against ``n`` keys."""

    n: int
    m: int
    kernels: tuple[KernelSchedule, ...]
