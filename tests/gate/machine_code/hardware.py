"""What GPUs have: registers and shared memory of a multiprocessor, and how long its tensor cores take for a product."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .listing import Instruction
from .loops import is_product


@dataclass(frozen=True)
class Multiprocessor:
    """The limits of one multiprocessor (AMD: compute unit), from the vendors' tables.

    - ``registers``: 32-bit registers, given to a warp in units of ``granule`` for each of its ``lanes``;
    - ``shared``: bytes; ``reserved``: of them, for each block; ``most_shared``: what one block may have;
    - ``warps`` and ``blocks``: the most that are resident;
    - ``tensor``: floating-point operations in bf16 for each clock.
    """

    registers: int
    granule: int
    lanes: int
    shared: int
    reserved: int
    most_shared: int
    warps: int
    blocks: int
    tensor: int


MULTIPROCESSORS: Mapping[str, Multiprocessor] = {
    "sm_80": Multiprocessor(65536, 8, 32, 164 << 10, 1024, 163 << 10, 64, 32, 2048),
    "sm_90": Multiprocessor(65536, 8, 32, 228 << 10, 1024, 227 << 10, 64, 32, 4096),
    "sm_100": Multiprocessor(65536, 8, 32, 228 << 10, 1024, 227 << 10, 64, 32, 8192),
    "gfx942": Multiprocessor(4 * 512 * 64, 8, 64, 64 << 10, 0, 64 << 10, 32, 32, 2048),
}


def resident_blocks(target: str, registers: int, warps: int, shared: int) -> int:
    """How many blocks of a kernel are on a multiprocessor at a time, by registers, shared memory and warps.

    A warp of NVIDIA's takes its registers in units of 256, and each of the four parts of a multiprocessor has a quarter
    of them; so has AMD's.
    """
    its = MULTIPROCESSORS[target]
    for_warp = -(-max(registers, 1) // its.granule) * its.granule * its.lanes
    by_registers = its.registers // (for_warp * warps)
    by_shared = its.shared // (shared + its.reserved) if shared + its.reserved else its.blocks
    return min(by_registers, by_shared, its.warps // warps, its.blocks)


_WGMMA = re.compile(r"HGMMA\.64x(\d+)x(\d+)")
_MMA = re.compile(r"HMMA\.16816")
_MFMA = re.compile(r"v_mfma_f32_(\d+)x(\d+)x(\d+)")
MMA_SHARE = 0.62
"""Of sm_90's rate, what the older instruction for one warp reaches."""


def operations(instruction: Instruction) -> int | None:
    """The floating-point operations of a product that one warp issues; None where its opcode does not say its shape.

    Of a product of a warp group each of its four warps counts a quarter.
    """
    if match := _WGMMA.match(instruction.opcode):
        return 2 * 64 * int(match[1]) * int(match[2]) // 4
    if _MMA.match(instruction.opcode):
        return 2 * 16 * 8 * 16
    if match := _MFMA.match(instruction.opcode):
        return 2 * int(match[1]) * int(match[2]) * int(match[3])
    return None


def spent_clocks(instructions: Iterable[Instruction], target: str, warps: int) -> float | None:
    """The clocks for which a block's products keep the tensor cores busy, at their full rate; None if unknown."""
    total = 0.0
    for each in instructions:
        if is_product(each):
            its = operations(each)
            if its is None:
                return None
            total += its / MMA_SHARE if (target, each.name) == ("sm_90", "HMMA") else its
    return total * warps / MULTIPROCESSORS[target].tensor


def needed_clocks(target: str, products: int, rows: int, keys: int, dim: int) -> float:
    """The clocks that ``products`` products of rows by keys by dim take at the tensor cores' full rate."""
    return 2 * products * rows * keys * dim / MULTIPROCESSORS[target].tensor


PRODUCTS: Mapping[str, int] = {"forward": 2, "backward_keys": 4, "backward_queries": 3}
"""Of each pair of a query and a key, the products over the head dimension that a pass computes."""
