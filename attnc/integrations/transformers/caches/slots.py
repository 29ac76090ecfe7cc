"""Keys and values of the positions that are kept, in a buffer with room for more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOST_RUNS = 8  # that a cache is attended in; where there would be more, the shortest gaps between them are kept
FOREVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Run:
    """``length`` positions from ``start`` on, in the rows from ``row`` on of what a layer gives to its attention."""

    start: int
    row: int
    length: int

    @property
    def stop(self) -> int:
        return self.start + self.length


@dataclass
class Slots:
    """Keys and values ``[batch, kv_heads, room, d]``, of which the slots from ``first`` to ``end`` are in use.

    ``position`` and ``last``: int64 ``[room]``, the position of each slot and the last row that may read it; positions
    rise. ``live``: bool ``[room]``, which of the slots in use still hold something. ``owned``: whether the buffer is
    the cache's own, and may be written.
    """

    keys: Tensor
    values: Tensor
    position: NDArray[np.int64]
    last: NDArray[np.int64]
    live: NDArray[np.bool_]
    first: int = 0
    end: int = 0
    owned: bool = True

    @classmethod
    def of(cls, keys: Tensor, values: Tensor, first_position: int, last: NDArray[np.int64]) -> Slots:
        """The slots of a text's first tokens: the tensors themselves, which are only read."""
        count = keys.shape[2]
        position = np.arange(first_position, first_position + count)
        return cls(keys, values, position, last.copy(), np.ones(count, bool), 0, count, owned=False)

    @property
    def in_use(self) -> slice:
        return slice(self.first, self.end)

    @property
    def held(self) -> int:
        """How many positions are kept."""
        return int(self.live[self.in_use].sum())

    @property
    def views(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the slots in use, without a copy."""
        return self.keys[:, :, self.in_use], self.values[:, :, self.in_use]

    def runs(self) -> tuple[Run, ...]:
        """What is kept, as runs of positions in :attr:`views`."""
        rows = np.flatnonzero(self.live[self.in_use])
        position = self.position[self.in_use][rows]
        begins = np.flatnonzero((np.diff(position, prepend=-2) != 1) | (np.diff(rows, prepend=-2) != 1))
        ends = np.append(begins, len(rows))[1:]
        return tuple(Run(int(position[a]), int(rows[a]), int(b - a)) for a, b in zip(begins, ends, strict=True))

    def append(self, keys: Tensor, values: Tensor, first_position: int, last: NDArray[np.int64]) -> None:
        """Adds tokens after those that there are; copies these only where there is no room left, and wherever autograd
        may have saved them for a backward pass.
        """
        count = keys.shape[2]
        if keys.dtype != self.keys.dtype or values.dtype != self.values.dtype:  # as torch.cat has it
            self.map(lambda x: x.to(torch.promote_types(x.dtype, keys.dtype)))
        if torch.is_grad_enabled():
            self._move(0)
            self.keys, self.values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)
            self.owned = False
            self._note_room(self.end + count)
        else:
            sealed = self.keys.is_inference() and not torch.is_inference_mode_enabled()
            if not self.owned or sealed or self.end + count > self.keys.shape[2]:
                self._move(count + _spare(self.held + count))
            self.keys[:, :, self.end : self.end + count] = keys
            self.values[:, :, self.end : self.end + count] = values
        new = slice(self.end, self.end + count)
        self.position[new] = np.arange(first_position, first_position + count)
        self.last[new], self.live[new] = last, True
        self.end += count

    def drop(self, row: int) -> int | None:
        """Lets go of what no row from ``row`` on reads; the last reader of what was let go, None where nothing was."""
        now = self.in_use
        dead = self.live[now] & (self.last[now] < row)
        dead = _fewer_runs(self.live[now] & ~dead, dead) if dead.any() else dead
        if not dead.any():
            return None
        self.live[now] &= ~dead
        latest = int(self.last[now][dead].max())
        alive = np.flatnonzero(self.live[now])
        if len(alive):
            self.first, self.end = self.first + int(alive[0]), self.first + int(alive[-1]) + 1
        else:
            self.first = self.end
        if self.keys.shape[2] - self.held > 2 * _spare(self.held):  # more room than a cache of this size leaves
            self._move(_spare(self.held))
        return latest

    def forget_from(self, row: int) -> None:
        """Takes out the positions from ``row`` on."""
        self.end = self.first + int(np.searchsorted(self.position[self.in_use], row))

    def map(self, change: Callable[[Tensor], Tensor]) -> None:
        """Changes keys and values, which keep their slots: another order of the batch, another device."""
        self.keys, self.values = change(self.keys), change(self.values)
        self.owned = True

    def copy(self) -> Slots:
        """The same slots apart: neither writes into the memory that both read."""
        self.owned = False
        arrays = {name: getattr(self, name).copy() for name in ("position", "last", "live")}
        return replace(self, **arrays)

    def _move(self, room: int) -> None:
        """To a new buffer, with ``room`` for more, the slots that hold nothing left out."""
        alive = self.first + np.flatnonzero(self.live[self.in_use])
        runs, base = self.runs(), self.first
        held = len(alive)

        def moved(old: Tensor) -> Tensor:
            parts = [old[:, :, base + run.row : base + run.row + run.length] for run in runs]
            if parts and torch.is_grad_enabled():
                return torch.cat(parts, 2)
            new = old.new_empty((*old.shape[:2], held + room, old.shape[3]))
            at = 0
            for part in parts:
                new[:, :, at : at + part.shape[2]] = part
                at += part.shape[2]
            return new

        self.keys, self.values = moved(self.keys), moved(self.values)
        for name in ("position", "last", "live"):
            setattr(self, name, getattr(self, name)[alive])
        self.first, self.end, self.owned = 0, held, not torch.is_grad_enabled()
        self._note_room(held + room)

    def _note_room(self, room: int) -> None:
        for name in ("position", "last", "live"):
            array = getattr(self, name)[: self.end]
            setattr(self, name, np.concatenate([array, np.zeros(room - len(array), array.dtype)]))


def _spare(held: int) -> int:
    """Room for tokens to come: so much that few of those held are copied for each, and little beside them."""
    return max(16, held // 4)


def _fewer_runs(kept: NDArray[np.bool_], dead: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those of the dead slots that may go, so that what stays is MOST_RUNS runs at most: the longest gaps."""
    rows = np.flatnonzero(kept)
    if not len(rows):
        return dead
    steps = np.diff(rows)
    gaps = np.flatnonzero(steps > 1)
    if len(gaps) < MOST_RUNS:
        return dead
    short = gaps[np.argsort(steps[gaps], kind="stable")[: len(gaps) - MOST_RUNS + 1]]
    stays = dead.copy()
    for gap in short:
        stays[rows[gap] + 1 : rows[gap + 1]] = False
    return stays
