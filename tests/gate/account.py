"""What a compiled kernel needs and does: resources, resident blocks, and the work of its loops."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .kernels import Compiled, Walk
from .machine_code import hardware
from .machine_code.listing import Instruction, Listing, disassemble, read_amd
from .machine_code.loops import Loop, groups, is_mask, is_product, product_loops
from .store import digest, kept

NORMAL_ROWS, NORMAL_KEYS, NORMAL_WARPS = 64, 128, 4


class UntoldError(Exception):
    """The loops of a kernel could not be told apart."""


@dataclass(frozen=True)
class Turn:
    """One turn of a loop: the instructions of a warp, for tiles of ``rows`` by ``keys``.

    ``ahead``: so many turns before its use is loaded what a turn needs.
    """

    instructions: tuple[Instruction, ...]
    rows: int
    keys: int
    warps: int
    ahead: int = 1

    @property
    def count(self) -> float:
        """Instructions of a warp, brought to 64 rows by 128 keys for every four warps."""
        size = NORMAL_ROWS / self.rows * NORMAL_KEYS / self.keys * self.warps / NORMAL_WARPS
        return len(self.instructions) * size

    @property
    def in_flight(self) -> int | None:
        """The groups of asynchronous loads that may be under way while the loop waits for one; None if it has none."""
        maps = sum(each.name == "UTMALDG" for each in self.instructions)
        return maps * (self.ahead - 1) if maps else loads_in_flight(self.instructions)


@dataclass(frozen=True)
class Work:
    """The loops of one segment: a turn on full tiles, and one on partial tiles; None where it has no such loop.

    ``single``: one loop serves both.
    """

    full: Turn | None
    partial: Turn | None
    single: bool = False

    @property
    def typical(self) -> Turn:
        found = self.full or self.partial
        assert found is not None
        return found


@dataclass(frozen=True)
class Account:
    """What is known of one compiled kernel.

    ``blocks``: resident on a multiprocessor; ``free_blocks``: those of the same kernel if its registers are not limited
    by hand (None where that is not asked). ``works``: for each segment.
    """

    name: str
    kind: str
    target: str
    dim: int
    warps: int
    stages: int
    registers: int
    spilled: int
    shared: int
    blocks: int
    free_blocks: int | None
    tensor: str
    works: tuple[Work, ...]

    @property
    def needed(self) -> float:
        """Tensor clocks that a turn of the first segment's loop needs."""
        turn = self.works[0].typical
        return hardware.needed_clocks(self.target, hardware.PRODUCTS[self.kind], turn.rows, turn.keys, self.dim)

    @property
    def spent(self) -> float | None:
        """Tensor clocks that a turn of the first segment's loop spends; None where the opcodes do not tell."""
        turn = self.works[0].typical
        return hardware.spent_clocks(turn.instructions, self.target, turn.warps)


def account(kernel: Compiled, half: bool = False) -> Account:
    """What a kernel needs and does. UntoldError where its loops are not as its segments would have them.

    ``half``: the kernel does another pass as well, and only the loops whose products are those of this one count.
    """
    listing = listing_of(kernel)
    found = product_loops(listing)
    if half:
        found = tuple(loop for loop in found if _is_of(loop, kernel))
    return Account(
        name=kernel.name,
        kind=kernel.kind,
        target=kernel.target,
        dim=kernel.dim,
        warps=kernel.warps,
        stages=kernel.stages,
        registers=kernel.registers,
        spilled=kernel.spilled,
        shared=kernel.shared,
        blocks=hardware.resident_blocks(kernel.target, kernel.registers, kernel.warps, kernel.shared),
        free_blocks=free_blocks(kernel) if kernel.target == "sm_90" else None,
        tensor=tensor_instruction(listing.instructions),
        works=works(found, kernel.walks, kernel.warps, amd=kernel.target.startswith("gfx"), ahead=kernel.stages - 1),
    )


def _is_of(loop: Loop, kernel: Compiled) -> bool:
    """Whether the products of a loop are as many as the pass of a kernel takes."""
    (walk,) = kernel.walks
    spent = hardware.spent_clocks(loop.longest, kernel.target, kernel.warps)
    needed = hardware.needed_clocks(kernel.target, hardware.PRODUCTS[kernel.kind], walk.rows, walk.keys, kernel.dim)
    return spent is not None and abs(spent / needed - 1) < 0.1


@lru_cache(maxsize=8)
def listing_of(kernel: Compiled) -> Listing:
    """The machine code of a kernel."""
    return read_amd(kernel.assembly) if kernel.target.startswith("gfx") else disassemble(kernel.code)


def tensor_instruction(instructions: Iterable[Instruction]) -> str:
    """The kind of matrix product that a kernel has, ``wgmma`` or ``mma`` and so on; nothing if it has none."""
    names = {"HGMMA": "wgmma", "HMMA": "mma", "UTCHMMA": "tcgen05"}
    found = {names.get(each.name, "mfma") for each in instructions if is_product(each)}
    return "+".join(sorted(found))


def works(
    loops: Sequence[Loop], walks: Sequence[Walk], warps: int, amd: bool = False, ahead: int = 1
) -> tuple[Work, ...]:
    """The loops of each segment, told apart by what they do; those that are reached behind a test for NaN are left out.

    ``ahead``: as of :class:`Turn`. UntoldError where the loops do not fit the segments.
    """
    wanted = [loop for loop in loops if not loop.careful]
    apart = list(groups(wanted))
    if len(walks) == 1:
        apart = [tuple(wanted)]
    if len(apart) != len(walks) or not all(apart):
        raise UntoldError(f"{len(walks)} segments, but loops with products in {len(apart)} places")
    return tuple(_work(each, walk, warps, amd, max(ahead, 1)) for each, walk in zip(apart, walks, strict=True))


def _work(loops: Sequence[Loop], walk: Walk, warps: int, amd: bool, ahead: int) -> Work:
    scores = walk.rows * walk.keys / (warps * (64 if amd else 32))
    usual = min(loop.masks for loop in loops) if amd else 0  # exp2 has selects of its own there

    def turn(instructions: tuple[Instruction, ...]) -> Turn:
        return Turn(instructions, walk.rows, walk.keys, warps, ahead)

    def masked(instructions: Sequence[Instruction]) -> bool:
        return 2 * (sum(map(is_mask, instructions)) - usual) >= scores

    sizes = {tuple(sorted(Counter(each.opcode for each in loop.longest if is_product(each)).items())) for loop in loops}
    if len(sizes) > 1:
        raise UntoldError(f"loops of {[*map(_length, loops)]} instructions for one segment have different products")
    if len(loops) == 1:
        (loop,) = loops
        if not walk.has_full:
            return Work(None, turn(loop.longest))
        way = loop.longest if masked(loop.shortest) == masked(loop.longest) else loop.shortest
        return Work(turn(way), turn(loop.longest), single=True)
    if not walk.has_full:
        return Work(None, turn(max(loops, key=_length).longest))
    # a mask only adds to a loop: where the lanes of full tiles are masked too, the shorter loop is theirs
    full, *partial = sorted(loops, key=lambda loop: (masked(loop.longest), _length(loop)))
    return Work(turn(full.longest), turn(max(partial, key=_length).longest))


def _length(loop: Loop) -> int:
    return len(loop.longest)


def loads_in_flight(instructions: Iterable[Instruction]) -> int | None:
    """The groups of asynchronous loads that may be under way while a loop waits for one; None if it has none."""
    instructions = tuple(instructions)
    if any(each.opcode.startswith("buffer_load") or each.opcode.startswith("global_load") for each in instructions):
        waits = [re.search(r"vmcnt\((\d+)\)", each.operands) for each in instructions if each.name == "s_waitcnt"]
        return max((int(match[1]) for match in waits if match), default=0)
    if not any(each.name == "LDGSTS" for each in instructions):
        return None
    depths = [re.search(r"SB\d, (0x[0-9a-f]+)", each.operands) for each in instructions if each.name == "DEPBAR"]
    return max((int(match[1], 16) for match in depths if match), default=0)


def free_blocks(kernel: Compiled) -> int | None:
    """The resident blocks of a kernel whose registers ptxas chooses without a limit; None where it does not run."""
    text = re.sub(r"\.maxnreg \d+", "", kernel.assembly)
    if text == kernel.assembly:
        return hardware.resident_blocks(kernel.target, kernel.registers, kernel.warps, kernel.shared)
    registers = kept("registers", digest(text), lambda: _registers(text))
    if registers is None:
        return None
    return hardware.resident_blocks(kernel.target, registers, kernel.warps, kernel.shared)


def _registers(ptx: str) -> int | None:
    import triton

    match = re.search(r"\.target (sm_(\d+)\w*)", ptx)
    assert match is not None
    tool = "ptxas-blackwell" if int(match[2]) >= 100 else "ptxas"
    with tempfile.TemporaryDirectory(prefix="gate-") as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [str(Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / tool), "-v"]
        command += ["--regAllocOptLevel=2", f"--gpu-name={match[1]}", str(source), "-o", str(source.with_suffix(".o"))]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        except (OSError, subprocess.SubprocessError):
            return None
    used = re.search(r"Used (\d+) registers", ended.stderr)
    return None if used is None else int(used[1])
