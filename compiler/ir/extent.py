"""The sizes of one call and the contents of its tables, which give an expression its value. Dataclasses only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # half of the time that `attnc check` takes to start would be numpy's
    from numpy.typing import NDArray


@dataclass(frozen=True)
class CallShape:
    """``m`` query rows, at positions ``q_start .. q_start + m - 1``, against the keys of ``n`` positions.

    Where the keys are a part of the whole, ``k_rows`` of them exist, at positions ``k_start .. k_start + k_rows - 1``,
    and those of them that are ``n`` or more do not; None for all ``n``. ``q_start`` and ``k_start`` each hold one
    position, or one for each entry of the batch; None where only the device knows it.
    """

    n: int
    m: int
    heads: int = 1
    q_start: tuple[int, ...] | None = (0,)
    k_start: tuple[int, ...] | None = (0,)
    k_rows: int | None = None

    @property
    def keys(self) -> int:
        """The number of key rows."""
        return self.n if self.k_rows is None else self.k_rows

    @property
    def is_part(self) -> bool:
        """Whether some of the keys at ``n`` positions may not exist."""
        return self.k_rows is not None

    @property
    def whole(self) -> CallShape:
        """The call of the same rows in which every key exists."""
        return replace(self, k_start=(0,), k_rows=None) if self.is_part else self


def part_of_keys(shape: CallShape, k_start: tuple[int, ...] | None, k_rows: int) -> CallShape:
    """The call of ``shape`` over ``k_rows`` keys from ``k_start`` on; ``shape`` itself where those are all."""
    return shape if (k_start, k_rows) == ((0,), shape.n) else replace(shape, k_start=k_start, k_rows=k_rows)


@dataclass(frozen=True)
class HostTable:
    """The contents of one table, in the form that all code behind the call's checks uses.

    The axes of ``values`` are the batch (if ``batched``), then the table's dimensions. The dtype is int32 or int64 for
    ``int`` and ``order``, float32 or float64 for ``float``, bool for ``bool``. A ``set`` has one more axis at the end,
    in one of two forms: a bool bitmap over its universe, or, where that would be large, its members as int32 or int64
    in rising order, with unused slots first and at -1.

    ``values`` is None where only the device knows them. Then ``shape`` holds their shape as far as it is known,
    ``wide`` says that integers may need 64 bits, and ``most`` how many members a set has at most, if that is known.
    """

    values: NDArray[Any] | None
    batched: bool = False
    shape: tuple[int, ...] | None = None
    wide: bool = False
    most: int | None = None
