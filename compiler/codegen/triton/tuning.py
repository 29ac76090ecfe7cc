"""The table of choices: tile shapes, warps and pipeline stages for each architecture, dtype, head dimension and pass.

The table was made by reading compiled kernels, not by timing them (docs/decisions says how): registers do not spill,
shared memory suffices, and of what remains the fewest instructions for each pair win. ``make gate`` checks it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...plan import FP32, FP64, PASSES, DType, Pass, PassTiles, TileChoice, Tiles
from .functions import Kind
from .signature import Steps
from .variant import TileStep, TritonVariant, lanes

USUAL_TARGET = "sm_90"
"""The architecture whose choices Triton's interpreter takes."""

MOST_ROWS_ANYWHERE = 16
"""The most rows of a call whose kernels find their tiles by the rows' position on the device: as few as a product
takes."""


@dataclass(frozen=True)
class Options:
    """Triton's compile options for one kernel: the warps of a program, the stages of its pipelined loads, and whether a
    product is fused with the sum that it is part of.
    """

    num_warps: int
    num_stages: int
    fuses: bool = True

    def arguments(self, nvidia: bool) -> dict[str, Any]:
        """Return the options as keyword arguments of a launch.

        Two more are set because their defaults do harm: whether multiply and add are fused depends on the version of
        Triton, and without a limit on registers ptxas may spill a few to fit one more block on a multiprocessor.
        """
        found: dict[str, Any] = {"num_warps": self.num_warps, "num_stages": self.num_stages}
        found["enable_fp_fusion"] = self.fuses
        return found | {"maxnreg": 255} if nvidia else found


@dataclass(frozen=True)
class TileConfig:
    """One row of the table: a tile shape of ``queries`` by ``keys``, its options, and its :attr:`TileChoice.cost`.

    ``step``: how much of a tile one step of a kernel takes at most, the whole tile unless given. ``pointers``: the
    steps and options of kernels for the same tile that load by pointers, where the row's own load by descriptors.
    """

    queries: int
    keys: int
    num_warps: int
    num_stages: int
    cost: float = 1.0
    step: TileStep | None = None
    pointers: TileConfig | None = None

    @property
    def by_pointers(self) -> TileConfig:
        return self.pointers or self

    @property
    def most(self) -> TileStep:
        return self.step or TileStep(self.queries, self.keys)

    @property
    def options(self) -> Options:
        return Options(self.num_warps, self.num_stages)


_C = TileConfig
_Row = Mapping[Pass, tuple[TileConfig, ...]]

# For 16-bit inputs, by lanes of the larger head dimension: shapes that need few registers everywhere.
_SMALL: Mapping[int, _Row] = {
    64: {
        "forward": (_C(64, 64, 4, 2),),
        "backward_keys": (_C(32, 64, 4, 1),),
        "backward_queries": (_C(64, 32, 4, 2),),
    },
    128: {
        "forward": (_C(64, 32, 4, 2),),
        "backward_keys": (_C(32, 64, 8, 1),),
        "backward_queries": (_C(64, 32, 8, 2),),
    },
    256: {
        "forward": (_C(64, 32, 8, 2),),
        "backward_keys": (_C(32, 32, 8, 1),),
        "backward_queries": (_C(32, 32, 8, 1),),
    },
}
# The same by architecture.
_TABLE: Mapping[str, Mapping[int, _Row]] = {
    "sm_80": {**_SMALL, 64: {**_SMALL[64], "forward": (_C(128, 64, 4, 3), _C(64, 64, 4, 3, 1.18))}},
    "sm_90": {
        64: {
            "forward": (_C(128, 128, 4, 3, pointers=_C(128, 128, 8, 3)), _C(64, 64, 4, 3, 1.3)),
            "backward_keys": (_C(32, 64, 4, 3),),
            "backward_queries": (_C(128, 64, 8, 3, pointers=_C(128, 64, 8, 3)), _C(64, 64, 4, 3, 1.05)),
        },
        128: {
            "forward": (_C(128, 128, 8, 3, pointers=_C(128, 64, 8, 3)), _C(64, 64, 4, 3, 1.4)),
            "backward_keys": (_C(32, 128, 8, 3),),
            "backward_queries": (_C(128, 64, 8, 3),),
        },
        256: {
            "forward": (_C(128, 32, 8, 4, pointers=_C(128, 32, 8, 3)),),
            "backward_keys": (_C(32, 32, 8, 1),),
            "backward_queries": (_C(128, 32, 8, 2),),
        },
    },
    "gfx9": _SMALL,
}


# Of rows at any position, of which a block has MOST_ROWS_ANYWHERE: such kernels wait for memory, so that what counts is
# how many bytes are under way. Four warps, since there are rows for one; nothing spills.
_ANYWHERE: Mapping[str, Mapping[int, TileConfig]] = {
    "sm_80": {
        64: _C(MOST_ROWS_ANYWHERE, 64, 4, 3),
        128: _C(MOST_ROWS_ANYWHERE, 32, 4, 3),
        256: _C(MOST_ROWS_ANYWHERE, 32, 4, 3),
    },
    "sm_90": {
        64: _C(MOST_ROWS_ANYWHERE, 64, 4, 4),
        128: _C(MOST_ROWS_ANYWHERE, 64, 4, 3),
        256: _C(MOST_ROWS_ANYWHERE, 32, 4, 3),
    },
    "gfx9": {
        64: _C(MOST_ROWS_ANYWHERE, 64, 4, 3),
        128: _C(MOST_ROWS_ANYWHERE, 32, 4, 3),
        256: _C(MOST_ROWS_ANYWHERE, 32, 4, 3),
    },
}


def config_anywhere(target: str, dtype: DType, dim: int) -> TileConfig:
    """Return the row of the table for kernels of rows at any position. ``dim``: the larger head dimension."""
    if dtype in (FP32, FP64):
        return TileConfig(MOST_ROWS_ANYWHERE, 32 if dim <= 64 else 16, 4, 3)
    row = _ANYWHERE[family(target)]
    return row[min(max(lanes(dim), min(row)), max(row))]


def configs(target: str, dtype: DType, dim: int, direction: Pass) -> tuple[TileConfig, ...]:
    """Return the rows of the table for kernels of one pass. ``dim``: the larger head dimension.

    fp32 and fp64 are multiplied exactly, without tensor cores, and their products need more registers.
    """
    if dtype in (FP32, FP64):
        size = 32 if dim <= 64 else 16
        return (TileConfig(64, 64, 4, 1, step=TileStep(size, size)),)
    row = _TABLE[family(target)]
    return row[min(max(lanes(dim), min(row)), max(row))][direction]


def family(target: str) -> str:
    """Return the architecture in the table whose choices serve a target such as ``sm_89`` or ``gfx942``."""
    if target.startswith("gfx"):
        return "gfx9"
    return "sm_90" if 90 <= int(target.removeprefix("sm_")) < 120 else "sm_80"


def tiles(dtype: DType, dim: int, target: str) -> PassTiles:
    """Return the tile shapes of kernels for a target, for each pass. ``dim``: the larger head dimension."""

    def choices(direction: Pass) -> tuple[TileChoice, ...]:
        rows = configs(target, dtype, dim, direction)
        return tuple(TileChoice(Tiles(row.queries, row.keys), row.cost) for row in rows)

    return PassTiles(*(choices(direction) for direction in PASSES))


def options(kind: Kind, variant: TritonVariant, taken: Steps, target: str) -> Options:
    """Return the compile options of a function. ``taken``: its steps, as :func:`signature.steps` has them.

    A function whose tiles are not those of the table (gathered rows, blocks of rows that a mask tells apart) has the
    options of the row that is nearest, and no more warps than its products have rows for. Where a mask multiplies
    floats, whose products are rounded, no product is fused.
    """
    return replace(_options(kind, variant, taken, target), fuses=taken.fuses)


def _options(kind: Kind, variant: TritonVariant, taken: Steps, target: str) -> Options:
    if kind in ("delta", "merge", "collect"):
        return Options(num_warps=4, num_stages=1)
    dim = max(variant.head_dim, variant.value_dim)
    if variant.anywhere:
        return config_anywhere(target, variant.dtype, dim).options
    rows = configs(target, variant.dtype, dim, variant.direction)
    if not taken.described:
        rows = tuple(row.by_pointers for row in rows)
    keys = max(taken.keys, default=variant.step.keys)

    def distance(row: TileConfig) -> int:
        return abs(row.most.queries - taken.rows) + abs(row.most.keys - keys)

    nearest = min(rows, key=distance)
    by_key = variant.direction == "backward_keys"
    lead, own = (keys, nearest.most.keys) if by_key else (taken.rows, nearest.most.queries)
    few = lead <= 64 < own
    if taken.summed:  # shared memory is for the pairs of a step as well
        return Options(min(nearest.num_warps, 4) if few else nearest.num_warps, min(nearest.num_stages, 2))
    if not few and taken.described and int(target.removeprefix("sm_")) >= 100:
        return Options(8, min(nearest.num_stages, 2))  # products there keep more in shared memory
    if not few and taken.described and taken.reading and taken.rows > 64:
        return Options(8, nearest.num_stages)  # what a table says of a pair takes registers that fewer warps lack
    if not few:
        return nearest.options
    # half of the warps for half of the lanes; of more than two stages, a thread with so many sums keeps too much
    return Options(min(nearest.num_warps, 4), min(nearest.num_stages, 2) if by_key else nearest.num_stages)


def make_variant(
    direction: Pass,
    dtype: DType,
    head_dim: int,
    value_dim: int,
    tables: tuple[DType, ...],
    *,
    target: str = USUAL_TARGET,
    wide: bool = False,
    dropout: bool = False,
    exact: bool = True,
    tf32: bool = False,
    anywhere: bool = False,
    split: bool = False,
    packed: bool = False,
    descriptors: bool = False,
) -> TritonVariant:
    """Return the variant for one pass with the steps of the table; ``tables``: their dtypes in memory.

    ``descriptors``: the tensors of the call are as descriptors need them, aligned to 16 bytes.
    """
    dim = max(head_dim, value_dim)
    rows = (config_anywhere(target, dtype, dim),) if anywhere else configs(target, dtype, dim, direction)
    step = _largest(row.by_pointers for row in rows)
    described = None
    if descriptors and not (wide or anywhere or head_dim % 8 or value_dim % 8) and any(row.pointers for row in rows):
        described = _largest(rows)
    exact = exact and dtype != FP64
    return TritonVariant(
        head_dim, value_dim, dtype, wide, dropout, direction, step, tables, exact, tf32, anywhere, split, packed,
        described,
    )  # fmt: skip


def _largest(rows: Iterable[TileConfig]) -> TileStep:
    steps = [row.most for row in rows]
    return TileStep(max(step.queries for step in steps), max(step.keys for step in steps))
