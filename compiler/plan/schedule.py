"""A Schedule: which tiles the kernels of a Program visit in one launch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .order_protocol import Listing

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Runs:
    """Runs of tiles in CSR form: row ``r`` visits the runs ``pointer[r] .. pointer[r + 1] - 1``, in rising order.

    Run ``i`` covers the tiles ``start[i] .. start[i] + length[i] - 1`` and is PARTIAL or FULL as ``kind[i]`` says.
    """

    pointer: NDArray[np.int64]  # [rows + 1]
    start: NDArray[np.int32]  # [runs], tiles
    length: NDArray[np.int32]  # [runs], tiles
    kind: NDArray[np.uint8]  # [runs]

    @classmethod
    def deferred(cls, make: Callable[[], Runs]) -> Runs:
        """Runs that ``make`` returns, called when they are first read: a pass reads those of one side only."""
        found = cls.__new__(cls)
        found.__dict__["_make"] = make
        return found

    def __getattr__(self, name: str) -> Any:  # of what an instance lacks: an array that is not made yet
        own = self.__dict__
        if name not in _ARRAYS:
            raise AttributeError(name)
        make = own.get("_make")
        if make is not None:
            made = make()
            own.update((each, getattr(made, each)) for each in _ARRAYS)
            own.pop("_make", None)
        return own[name]


_ARRAYS = tuple(field.name for field in fields(Runs))


UNBOUNDED = 2**30
"""In tiles: a run that reaches this far from its row is endless, whatever n is."""


@dataclass(frozen=True)
class Bounds:
    """Which tiles of the other side each tile of one side visits.

    One period of rows serves all tiles: tile ``u`` of a class visits the runs of row ``u % period``, moved on by
    ``(u // period) * shift`` tiles and clipped to the existing tiles. ``aligned``: tiles of class c visit only tiles of
    class c of the other side, numbered within the class; otherwise ``u`` and the tiles visited are numbered through all
    classes.

    In ``runs`` that is row ``(batch slot * head_slots + head slot) * period + u % period``. ``batch_slots`` is the
    batch size if the bounds differ between batch entries, else 1. ``head_slots`` is the number of the kernel's heads if
    they differ between heads, else 1; heads are numbered by their place in the kernel.

    With ``period`` 1 the bounds are a closed form; with one row for each tile (and ``shift`` 0) they list the runs of
    every tile; a period in between is a template. A FULL tile may extend past the last token: empty lanes count
    nothing.

    ``reach`` says which launches the bounds serve, given the contents of the tables, the n and the heads that the
    condition reads: those of which each class has at most so many tiles of keys, and as many that the shifts of its
    last row reach. It is UNBOUNDED for every length, and 0 for the one launch that the bounds were made for.

    In a schedule for rows that begin anywhere (:attr:`Schedule.anywhere`) the runs are those of rows that begin at any
    of the positions ``0 .. start_step - 1``. They are moved on by ``start_shift`` tiles for each ``start_step`` tokens
    by which rows begin further on, which kernels compute from the position on the device.
    """

    period: int
    shift: int
    aligned: bool
    batch_slots: int
    head_slots: int
    runs: Runs
    reach: int = 0
    start_step: int = 1
    start_shift: int = 0

    @cached_property
    def most_runs(self) -> tuple[int, ...]:
        """The lengths of the runs of the row that has the most tiles."""
        ends = zip(self.runs.pointer[:-1], self.runs.pointer[1:], strict=True)
        return max((tuple(self.runs.length[first:last].tolist()) for first, last in ends), key=sum, default=())


@dataclass(frozen=True)
class SegmentSchedule:
    """The bounds of one segment: ``by_query`` for query tiles, ``by_key`` for key tiles (see :func:`key_major`).

    Both visit exactly the same pairs of tiles or, if keys are in boxes, the same pairs of tokens. ``keys`` lists the
    keys if their order is gathered or sorted.

    ``on_device``: the host does not know what the condition reads, so the device finds the tiles at each launch. Then
    both bounds are those of every tile, which is right for whoever cannot ask the device. ``keys_room``: it lists the
    keys, too, at most so many; None where it does not.
    """

    by_query: Bounds
    by_key: Bounds
    keys: Listing | None = None
    on_device: bool = False
    keys_room: int | None = None


@dataclass(frozen=True)
class KernelSchedule:
    """The bounds of a kernel's segments. ``rows`` lists the rows if their order is gathered or sorted.

    ``rows_room``: the device lists the rows, because the host cannot, at most so many; None where it does not.
    ``walked``: where rows read their keys off a set, how many each reads on average; None where it is not known.
    """

    segments: tuple[SegmentSchedule, ...]
    rows: Listing | None = None
    rows_room: int | None = None
    walked: float | None = None


@dataclass(frozen=True)
class Schedule:
    """The bounds of a whole program for one launch, kernel by kernel: ``m`` query rows against ``n`` keys.

    ``anywhere``: they serve all positions of the rows, which fill one tile at most, and all numbers of keys up to that
    for which they were made. Then bounds by key visit the tile of rows from every tile of keys.
    """

    n: int
    m: int
    kernels: tuple[KernelSchedule, ...]
    anywhere: bool = False

    @cached_property
    def on_device(self) -> bool:
        """Whether the device must list tokens or find tiles before kernels run."""
        return self.lists_on_device or any(its.on_device for kernel in self.kernels for its in kernel.segments)

    @cached_property
    def lists_on_device(self) -> bool:
        """Whether the device lists tokens, which the host then does not know."""
        rooms = [
            room for kernel in self.kernels for room in (kernel.rows_room, *(x.keys_room for x in kernel.segments))
        ]
        return any(room is not None for room in rooms)
