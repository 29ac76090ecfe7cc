"""The sizes of one call and what its tables hold: what an expression needs to have a value. Nouns only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # half of the time that `attnc check` takes to start would be numpy's
    from numpy.typing import NDArray


@dataclass(frozen=True)
class CallShape:
    """``m`` query rows, at positions ``q_start .. q_start + m - 1``, against ``n`` keys.

    ``q_start`` holds one position, or one for each entry of the batch; None where only the device knows it.
    """

    n: int
    m: int
    heads: int = 1
    q_start: tuple[int, ...] | None = (0,)


@dataclass(frozen=True)
class HostTable:
    """What one table holds, in the form that everything behind the call's checks uses.

    ``values``: int32 or int64 for ``int`` and ``order``, float32 or float64 for ``float``, bool for ``bool``, and for
    ``set`` one axis more at the end: the universe of a bool bitmap, or where that would be large the slots of the
    members, int32 or int64, which rise, the unused ones first, at -1. Axes: batch (if ``batched``), then the table's
    dimensions. None where only the device knows them: then ``shape``, in the
    same form, says what is still known of their sizes, and ``wide`` that integers may need 64 bits.
    """

    values: NDArray[Any] | None
    batched: bool = False
    shape: tuple[int, ...] | None = None
    wide: bool = False
