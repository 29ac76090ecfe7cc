"""The sizes of one call and the contents of its tables, which give an expression its value. Dataclasses only."""

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
    """The contents of one table, in the form that all code behind the call's checks uses.

    The axes of ``values`` are the batch (if ``batched``), then the table's dimensions. The dtype is int32 or int64 for
    ``int`` and ``order``, float32 or float64 for ``float``, bool for ``bool``. A ``set`` has one more axis at the end,
    in one of two forms: a bool bitmap over its universe, or, where that would be large, its members as int32 or int64
    in rising order, with unused slots first and at -1.

    ``values`` is None where only the device knows them. Then ``shape`` holds their shape as far as it is known, and
    ``wide`` says that integers may need 64 bits.
    """

    values: NDArray[Any] | None
    batched: bool = False
    shape: tuple[int, ...] | None = None
    wide: bool = False
