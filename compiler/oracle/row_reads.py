"""Which keys some rows of a mask read, and for each key the last row that does, in blocks of rows: of any length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ir import CallShape, Expr, HostTable, Table
from .dense import cut
from .interpreter import Environment, call_environment, interpret
from .out_of_table import OutOfTableError

MOST_PAIRS = 2**32
"""Pairs that a method of :class:`RowReads` looks at: half a minute's."""

_PAIRS = 2**18  # of a block of rows
_MOST_ROWS = 256
_ALL = slice(None)


class TooManyPairsError(ValueError):
    """An answer takes more than MOST_PAIRS pairs. Raised before any of them is looked at."""


@dataclass(frozen=True)
class RowReads:
    """A condition on the pairs of a call; table contents and positions are known."""

    condition: Expr
    environment: Environment

    @classmethod
    def of(
        cls, condition: Expr, tables: Sequence[Table], extent: CallShape, contents: Mapping[str, HostTable]
    ) -> RowReads:
        return cls(condition, call_environment(tables, extent, contents))

    @property
    def shape(self) -> tuple[int, int, int]:
        """The batch, the heads and the keys of the call."""
        places = self.environment.positions
        return len(self.environment.batch), places["head"].shape[1], places["k"].shape[3]

    def kept(self, first: int, stop: int, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The pairs of rows ``first .. stop - 1``, counted from the first of the call, and some keys.

        Bool ``[batch, heads, rows, keys]``; an axis has size 1 where entries or heads do not differ. OutOfTableError
        for a read outside its table.
        """
        try:
            with np.errstate(all="ignore"):
                part = interpret(self.condition, cut(self.environment, _ALL, _ALL, slice(first, stop), keys))
        except OutOfTableError as error:
            batch, head, row, key = error.pair
            raise error.at((batch, head, first + row, int(keys[key]))) from None
        return np.broadcast_to(part, (*part.shape[:2], stop - first, len(keys)))

    def first_later_key(self) -> tuple[int, int] | None:
        """The first row that reads a key after itself, and that key; None where no row does. Errors of last_readers."""
        _, _, n = self.shape
        self._require_few(n * n)
        for row in range(n):
            later = np.flatnonzero(self.kept(row, row + 1, np.arange(row + 1, n)).any((0, 1, 2)))
            if later.size:
                return row, row + 1 + int(later[0])
        return None

    def last_readers(self, most: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """For each key the last row, itself or a later one, that reads it: int64 ``[batch, heads, n]``, -1 for none.

        ``most``: rows that none reads a key after, ``[heads, n]``, which spares work. OutOfTableError as for
        :meth:`kept`; TooManyPairsError, before any pair is looked at.
        """
        batch, heads, n = self.shape
        bound = np.full(n, n - 1) if most is None else most.max(0)
        keys = np.arange(n)
        self._require_few(int(np.maximum(bound + 1 - keys, 0).sum()))
        last = np.full((batch, heads, n), -1)
        stop = n
        while stop:
            open_ = keys[(last < 0).any((0, 1)) & (keys < stop)]
            start = max(0, stop - max(1, min(_MOST_ROWS, _PAIRS // max(batch * heads * len(open_), 1))))
            open_ = open_[bound[open_] >= start]
            kept = self.kept(start, stop, open_) & (open_ <= np.arange(start, stop)[:, None])
            row = np.where(kept.any(2), stop - 1 - kept[:, :, ::-1].argmax(2), -1)
            last[:, :, open_] = np.where(last[:, :, open_] < 0, row, last[:, :, open_])
            stop = start
        return last if most is None else np.minimum(last, most)

    def _require_few(self, pairs: int) -> None:
        batch, heads, n = self.shape
        if pairs * batch * heads > MOST_PAIRS:
            raise TooManyPairsError(
                f"n: is {n:,}, and {pairs * batch * heads:,} pairs would be looked at, expected at most {MOST_PAIRS:,}"
            )
