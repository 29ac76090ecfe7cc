"""Schedules by looking at every pair: what any order may be given, for tests of what carries schedules out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from attnc.compiler.ir.expressions import Expr
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.oracle.interpreter import environment, interpret, numbered_values
from attnc.compiler.plan.orders import FULL, PARTIAL, Box, Gathered, Order, Sorted
from attnc.compiler.plan.programs import Kernel, Program
from attnc.compiler.plan.schedule import Bounds, KernelSchedule, Listing, Runs, Schedule, SegmentSchedule
from attnc.compiler.schedule.segments import schedule
from attnc.compiler.verify.schedule_interpreter import tile_tokens


def brute_schedule(program: Program, extent: CallShape, contents: Sequence[HostTable]) -> Schedule:
    """A row of runs for each tile, each batch entry and each head; a tile is full if all of its pairs count once."""
    looker = _Looker(program, extent, contents)
    return Schedule(extent.n, extent.m, tuple(map(looker.kernel, program.kernels)))


class _Looker:
    def __init__(self, program: Program, extent: CallShape, contents: Sequence[HostTable]) -> None:
        values, arrays = numbered_values(program.tables, contents)
        start = np.asarray(extent.q_start, np.int64)
        nowhere = arrays.constant(False)
        self._bound = environment(arrays, extent.n, extent.m, extent.heads, start, values, reached=nowhere)
        self._program, self._extent, self._contents = program, extent, contents
        self._batch = len(self._bound.batch)

    def _dense(self, expr: Expr) -> NDArray[np.int64]:
        with np.errstate(all="ignore"):
            found = interpret(expr, self._bound)
        shape = self._batch, self._extent.heads, self._extent.m, self._extent.n
        return np.broadcast_to(np.asarray(found, np.int64), shape)

    def kernel(self, kernel: Kernel) -> KernelSchedule:
        heads = list(range(self._extent.heads) if kernel.heads is None else kernel.heads)
        rows = self._listing(kernel.rows, heads, "q")
        segments = []
        for place, segment in enumerate(kernel.segments):
            if isinstance(segment.keys, Box):  # which has all its tiles in any case
                whole = schedule(self._program, self._extent, self._contents)
                segments.append(whole.kernels[self._program.kernels.index(kernel)].segments[place])
                continue
            keys, kept = self._listing(segment.keys, heads, "k"), self._dense(segment.condition)
            kinds = [
                self._kinds(
                    kept[batch, head],
                    tile_tokens(kernel.rows, rows, self._extent.m, batch, place),
                    tile_tokens(segment.keys, keys, self._extent.n, batch, place),
                )
                for batch in range(self._batch)
                for place, head in enumerate(heads)
            ]
            by_query, by_key = (self._bounds(table, len(heads)) for table in (kinds, [x.T for x in kinds]))
            segments.append(SegmentSchedule(by_query, by_key, keys))
        return KernelSchedule(tuple(segments), rows)

    def _listing(self, order: Order, heads: list[int], side: str) -> Listing | None:
        if not isinstance(order, Gathered | Sorted):
            return None
        rule = order.condition if isinstance(order, Gathered) else order.rank
        with np.errstate(all="ignore"):
            found = np.asarray(interpret(rule, self._bound), np.int64)
        tokens = self._extent.m if side == "q" else self._extent.n
        shape = (tokens, 1) if side == "q" else (1, tokens)
        heads_of_batch = self._batch, self._extent.heads
        values = np.broadcast_to(found, (*heads_of_batch, *shape)).reshape(*heads_of_batch, tokens)
        picked = [
            np.flatnonzero(values[batch, head])
            if isinstance(order, Gathered)
            else np.argsort(values[batch, head], kind="stable")
            for batch in range(self._batch)
            for head in heads
        ]
        length = max((len(tokens) for tokens in picked), default=0)
        listed = np.full((len(picked), length), -1, np.int32)
        for row, own in zip(listed, picked, strict=True):
            row[: len(own)] = own
        return Listing(listed, self._batch, len(heads))

    def _kinds(
        self, kept: NDArray[np.int64], rows: list[NDArray[np.int64]], keys: list[NDArray[np.int64]]
    ) -> NDArray[np.uint8]:
        kinds = np.zeros((len(rows), len(keys)), np.uint8)
        for row, its in enumerate(rows):
            for column, others in enumerate(keys):
                tile = kept[np.ix_(its, others)]
                if tile.any():
                    kinds[row, column] = FULL if (tile == 1).all() else PARTIAL
        return kinds

    def _bounds(self, tables: list[NDArray[np.uint8]], heads: int) -> Bounds:
        pointer, runs = [0], []
        for row in (row for table in tables for row in table):
            runs += [(column, 1, kind) for column, kind in enumerate(row.tolist()) if kind]
            pointer.append(len(runs))
        start, length, kind = np.array(runs, np.int64).reshape(-1, 3).T
        period = max(1, len(tables[0])) if tables else 1
        pointer += [len(runs)] * (period * max(1, len(tables)) + 1 - len(pointer))  # no tile at all: a row all the same
        held = Runs(np.array(pointer), start.astype(np.int32), length.astype(np.int32), kind.astype(np.uint8))
        return Bounds(period, 0, False, self._batch, max(1, heads), held)
