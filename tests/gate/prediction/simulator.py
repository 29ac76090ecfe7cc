"""A model of one Hopper multiprocessor that runs one loop again and again: warps that issue in order.

It reads the stall counts and scoreboards that the compiler wrote into the instructions. Pipes, bandwidths and latencies
are from public documents or guessed, and were never compared with a device: believe signs, and sizes within 30 %.
What the tensor memory accelerator loads takes the way of other loads, and comes a little later: that, too, is a guess.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import ceil

from ..machine_code.hardware import MMA_SHARE
from ..machine_code.listing import Instruction
from ..store import digest, kept

_FMA = frozenset(("FFMA", "FMUL", "FADD"))
_ALU = frozenset({
    "FMNMX", "FSEL", "FSETP", "IADD3", "LOP3", "ISETP", "SEL", "SHF", "LEA", "PRMT", "F2FP", "VIADD", "IMNMX",
    "VIMNMX", "PLOP3", "FSET", "IABS", "SGXT", "BMSK", "MOV", "P2R", "R2P", "VIADDMNMX", "I2FP",
})  # fmt: skip
_SPECIAL = frozenset(("MUFU", "F2F", "F2I", "I2F", "POPC", "FCHK"))
_MEMORY = frozenset({
    "LDS", "LDSM", "STS", "STSM", "LDG", "STG", "LDGSTS", "SHFL", "LD", "ST", "LDC", "RED", "ATOMG",
})  # fmt: skip
_PARTS = 4  # of a multiprocessor, each with its own warps, pipes and tensor core
_NEVER = 10**12
_PIECE = 512  # bytes of a load that come together
_QUEUED = 96  # clocks of products that may wait for a tensor core before a warp stalls


class UnknownError(Exception):
    """The model does not know what a loop does, or the loop does not come to an end in it."""


@dataclass(frozen=True)
class Costs:
    """Clocks for which an instruction of a warp holds a pipe, clocks until a result, and bytes for each clock."""

    mufu: int = 8
    alu: int = 2
    imad: int = 2
    fma: int = 1
    lsu: int = 1
    mufu_latency: int = 22
    lds_latency: int = 30
    shuffle_latency: int = 25
    l2_latency: int = 600
    tma_latency: int = 800
    global_latency: int = 600
    constant_latency: int = 30
    uniform_latency: int = 14
    mma_latency: int = 24
    barrier: int = 22
    fence: int = 20
    product_end: int = 35
    shared_bytes: float = 128.0
    l2_bytes: float = 28.0


COSTS = Costs()


@dataclass(frozen=True)
class Step:
    """An instruction as the model takes it.

    ``wait``: the scoreboards that must be clear, as bits; ``writes`` and ``reads``: the scoreboard that a result, or
    the reading of operands, clears, 7 for none. ``tensor``: clocks of the tensor core, 0 if it is no product;
    ``operand_bytes``: what the product reads of shared memory; ``commits``: it ends a group of products; ``leaves``:
    for a wait, the groups that may go on; ``size``: bytes that a warp moves; ``loaded``: those that the tensor memory
    accelerator loads for a block.
    """

    name: str
    pipe: str
    occupies: int
    stall: int
    writes: int
    reads: int
    wait: int
    never: bool
    tensor: float = 0.0
    operand_bytes: float = 0.0
    commits: bool = False
    leaves: int = 0
    size: int = 128
    loaded: float = 0.0


def step(instruction: Instruction, costs: Costs = COSTS, loaded: float = 0.0) -> Step:
    """An instruction decoded. ``loaded``: bytes, of a load by the tensor memory accelerator. UnknownError for what the
    model does not know.
    """
    name, high = instruction.name, instruction.control
    if name in ("UTCHMMA", "UTMASTG"):
        raise UnknownError(f"the model of a multiprocessor does not know {name}")
    pipe, occupies = _pipe(name, costs)
    product = _product(instruction)
    return Step(
        _WAITS.get(".".join(instruction.opcode.split(".")[:2]), name),
        pipe,
        occupies,
        stall=(high >> 41) & 15,
        writes=(high >> 46) & 7,
        reads=(high >> 49) & 7,
        wait=(high >> 52) & 63,
        never=instruction.guard == "@!PT",
        tensor=product[0],
        operand_bytes=product[1],
        commits=product[1] > 0 and "gsb0" in instruction.operands,
        leaves=_leaves(instruction),
        size=_size(instruction),
        loaded=loaded if name == "UTMALDG" else 0.0,
    )


_WAITS = {"WARPGROUP.DEPBAR": "WGWAIT", "SYNCS.PHASECHK": "TMAWAIT"}


def loaded_bytes(instructions: Sequence[Instruction]) -> float:
    """The bytes of a block that each load by the tensor memory accelerator in a loop brings on average: what the
    barriers of the loop are told to expect. 0 without such loads; UnknownError where that is not in the loop.
    """
    loads = sum(each.name == "UTMALDG" for each in instructions)
    if not loads:
        return 0.0
    known: dict[str, int] = {}
    total = 0
    for each in instructions:
        match = re.match(r"\s*(R\d+), (?:RZ, RZ, )?(0x[0-9a-f]+)\s*$", each.operands)
        if match and each.name in ("MOV", "IMAD"):
            known[match[1]] = int(match[2], 16)
        if each.opcode.startswith("SYNCS.ARRIVE"):
            register = each.operands.rsplit(",", 1)[1].strip()
            if register not in known:
                raise UnknownError("how many bytes the tensor memory accelerator loads stands outside the loop")
            total += known[register]
    return total / loads


def _pipe(name: str, costs: Costs) -> tuple[str, int]:
    if name in _FMA:
        return "fma", costs.fma
    if name == "IMAD":
        return "imad", costs.imad
    if name in _ALU:
        return "alu", costs.alu
    if name in _SPECIAL:
        return "mufu", costs.mufu
    if name in _MEMORY:
        return "lsu", costs.lsu
    return "", 0


def _product(instruction: Instruction) -> tuple[float, float]:
    """Clocks of a part's tensor core and bytes of shared memory that a product takes."""
    if match := re.search(r"HGMMA\.64x(\d+)x(\d+)", instruction.opcode):
        n, k = int(match[1]), int(match[2])
        both_shared = re.match(r"\s*R\d+, gdesc", instruction.operands) is not None
        return 2 * 64 * n * k / 4096, n * k * 2 + (64 * k * 2 if both_shared else 0)
    if instruction.name == "HMMA":
        return 2 * 16 * 8 * 16 / (1024 * MMA_SHARE), 0.0
    return 0.0, 0.0


def _leaves(instruction: Instruction) -> int:
    if instruction.name not in ("DEPBAR", "WARPGROUP"):
        return 0
    match = re.search(r"(?:SB0|gsb0), 0x([0-9a-f]+)", instruction.operands)
    return int(match[1], 16) if match else 0


def _size(instruction: Instruction) -> int:
    """Bytes that a load or store of a warp moves."""
    opcode = instruction.opcode
    if instruction.name in ("LDG", "LD"):
        return 32 if "U8" in opcode else 512 if ".128" in opcode else 256 if ".64" in opcode else 128
    if instruction.name in ("LDSM", "STSM", "LDGSTS"):
        return 512
    return 512 if "128" in opcode else 128


class _Warp:
    """Where a warp is, and what it waits for. ``board``: for each scoreboard the clocks at which it is cleared;
    ``leads``: it is the one of its block that asks the tensor memory accelerator.
    """

    __slots__ = ("block", "board", "groups", "leads", "loads", "place", "products", "ready", "released_by", "stamps")

    def __init__(self, block: int, leads: bool) -> None:
        self.leads = leads
        self.block, self.place, self.ready = block, 0, block * 137  # blocks do not start together
        self.board: list[list[float]] = [[] for _ in range(6)]
        self.groups: deque[float] = deque()
        self.loads: list[float] = []
        self.products: deque[float] = deque()
        self.released_by: int | None = None
        self.stamps: list[int] = []


class _Barrier:
    """The barrier of a block: how often it was passed, and when last."""

    def __init__(self) -> None:
        self.count, self.passed, self.time = 0, 0, 0


class _Multiprocessor:
    """Warps on the four parts of a multiprocessor, all of which run ``turns`` turns of one loop."""

    def __init__(self, body: Sequence[Step], warps: int, blocks: int, turns: int, costs: Costs, ahead: int) -> None:
        self.body, self.warps, self.turns, self.costs, self.ahead = body, warps, turns, costs, ahead
        self.coming: deque[float] = deque()
        self.asked: list[dict[int, list[float]]] = [{} for _ in range(blocks)]
        self.loads = sum(its.name == "UTMALDG" for its in body)
        self.barriers = [_Barrier() for _ in range(blocks)]
        self.all = [_Warp(block, not number) for block in range(blocks) for number in range(warps)]
        placed = [number % warps % _PARTS for number in range(len(self.all))]
        self.parts = [[w for w, at in zip(self.all, placed, strict=True) if at == part] for part in range(_PARTS)]
        self.pipes: list[dict[str, float]] = [
            {"fma": 0, "alu": 0, "mufu": 0, "lsu": 0, "imad": 0, "tensor": 0} for _ in range(_PARTS)
        ]
        self.turn = [0] * _PARTS
        self.shared = self.l2 = 0.0
        self.left = len(self.all)

    def run(self) -> list[_Warp]:
        """All warps, with the clocks at which each of their turns ended."""
        time = 0
        while self.left:
            again, progressed = float(_NEVER), False
            for part in range(_PARTS):
                issued, later, moved = self._part(part, time)
                progressed |= moved
                again = time + 1 if issued else min(again, later)
            if not progressed and again >= _NEVER:
                raise UnknownError(f"nothing goes on after {time} clocks: what is awaited never comes")
            time = time + 1 if progressed else max(time + 1, ceil(again))
        return self.all

    def _part(self, part: int, time: int) -> tuple[bool, float, bool]:
        """Lets one warp of a part issue. Whether one did, when one may if not, and whether any warp went on."""
        warps, first = self.parts[part], self.turn[part]
        again, moved = float(_NEVER), False
        for off in range(len(warps)):
            at = (first + off) % len(warps)
            warp = warps[at]
            if len(warp.stamps) == self.turns:
                continue
            if warp.ready > time:
                again = min(again, warp.ready)
                continue
            if warp.released_by is not None:
                barrier = self.barriers[warp.block]
                if barrier.passed < warp.released_by or barrier.time > time:
                    if barrier.passed >= warp.released_by:
                        again = min(again, barrier.time)
                    continue
                warp.released_by = None
                moved |= self._advance(warp, time)
                if len(warp.stamps) == self.turns:
                    continue
            its = self.body[warp.place]
            later = self._blocked(warp, its, part, time)
            if later > time:
                again = min(again, later)
                continue
            self._issue(warp, its, part, time)
            self.turn[part] = at
            return True, again, True
        return False, again, moved

    def _advance(self, warp: _Warp, time: int) -> bool:
        """Moves a warp to its next instruction. Whether that ended its last turn."""
        warp.place += 1
        if warp.place < len(self.body):
            return False
        warp.place = 0
        warp.stamps.append(time)
        if len(warp.stamps) < self.turns:
            return False
        self.left -= 1
        return True

    def _blocked(self, warp: _Warp, its: Step, part: int, time: int) -> float:
        """When an instruction may be tried again; a clock that is not later than now if it can be issued."""
        blocked = 0.0
        for number in range(6):
            if its.wait >> number & 1 and (board := warp.board[number]):
                board[:] = [end for end in board if end > time]
                blocked = max(blocked, max(board, default=0))
        if blocked > time:
            return blocked
        if its.name == "TMAWAIT" and (awaited := self._arrives(warp, time)) > time:
            return awaited
        if its.name in ("DEPBAR", "WGWAIT"):
            groups = warp.groups if its.name == "DEPBAR" else warp.products
            awaited = max(list(groups)[: max(len(groups) - its.leaves, 0)], default=0)
            if awaited > time:
                return awaited
            while len(groups) > its.leaves:
                groups.popleft()
        pipes = self.pipes[part]
        if its.pipe and pipes[its.pipe] > time:
            return pipes[its.pipe]
        if its.tensor and pipes["tensor"] - time > _QUEUED:
            return int(pipes["tensor"] - _QUEUED) + 1
        return time

    def _arrives(self, warp: _Warp, time: int) -> float:
        """When there is what a warp awaits of the tensor memory accelerator: loads of some turns before."""
        turn = len(warp.stamps) - self.ahead
        if turn < 0:
            return time
        known = self.asked[warp.block].get(turn, [])
        return max(known) if len(known) == self.loads else time + 1

    def _issue(self, warp: _Warp, its: Step, part: int, time: int) -> None:
        if its.pipe:
            self.pipes[part][its.pipe] = time + its.occupies
        result, read = self._product(warp, its, part, time) if its.tensor else self._latencies(warp, its, time)
        if its.writes != 7:
            warp.board[its.writes].append(time + max(result, 2))
        if its.reads != 7:
            waits = result if its.name in ("MEMBAR", "FENCE") else 2
            warp.board[its.reads].append(time + max(read, waits, 2))
        warp.ready = time + max(1, its.stall)
        if its.name != "BAR":
            self._advance(warp, time)
            return
        barrier = self.barriers[warp.block]
        barrier.count += 1
        warp.released_by = barrier.passed + 1
        if barrier.count == self.warps:
            barrier.count, barrier.passed, barrier.time = 0, barrier.passed + 1, time + self.costs.barrier

    def _latencies(self, warp: _Warp, its: Step, time: int) -> tuple[float, float]:
        """Clocks until the result of an instruction is there, and until its operands are read."""
        costs = self.costs
        match its.name:
            case "MUFU" | "F2F" | "I2F" | "F2I":
                return costs.mufu_latency, 0
            case "LDS" | "LDSM":
                return (1, 0) if its.never else (costs.lds_latency + self._shared(its.size, time), 0)
            case "STS" | "STSM":
                return 0, 15 + self._shared(its.size, time)
            case "SHFL":
                return costs.shuffle_latency, 0
            case "LDG" | "LD":
                return costs.global_latency + self._l2(its.size, time), 15
            case "LDGSTS":
                warp.loads.append(time + self._l2(its.size, time) + costs.l2_latency)
                self._shared(its.size, time)
                return 0, 20
            case "UTMALDG":
                if warp.leads:
                    self.asked[warp.block].setdefault(len(warp.stamps), []).append(self._load(its.loaded, time))
                return 0, 0
            case "LDGDEPBAR":
                warp.groups.append(max(warp.loads, default=time))
                warp.loads = []
                return 0, 0
            case "LDC" | "LDCU" | "ULDC":
                return costs.constant_latency, 0
            case "MEMBAR" | "FENCE":
                return costs.fence, costs.fence
            case "R2UR" | "S2UR" | "S2R" | "REDUX" | "VOTE" | "VOTEU" | "TMAWAIT":
                return costs.uniform_latency, 0
        return 0, 0

    def _load(self, size: float, time: int) -> float:
        """Has the tensor memory accelerator load some bytes: the clock at which the last of them is there. They go
        through shared memory as they come.
        """
        there = float(time)
        for _ in range(ceil(size / _PIECE)):
            there = time + self._l2(_PIECE, time) + self.costs.tma_latency
            self.coming.append(there)
        return there

    def _come(self, time: int) -> None:
        """Takes shared memory for what has come by now."""
        while self.coming and self.coming[0] <= time:
            self.shared = max(self.shared, self.coming.popleft()) + _PIECE / self.costs.shared_bytes

    def _shared(self, size: int, time: int) -> float:
        """Takes shared memory for some bytes: the clocks until they have gone through."""
        self._come(time)
        self.shared = max(self.shared, time) + size / self.costs.shared_bytes
        return self.shared - time

    def _l2(self, size: int, time: int) -> float:
        """Takes the way to the second-level cache for some bytes: the clocks until they have gone through."""
        self.l2 = max(self.l2, time) + size / self.costs.l2_bytes
        return self.l2 - time

    def _product(self, warp: _Warp, its: Step, part: int, time: int) -> tuple[float, float]:
        pipes = self.pipes[part]
        start = max(pipes["tensor"], time)
        self._come(time)
        # each warp of a group is charged a quarter of what the group reads
        self.shared = max(self.shared, start - 64) + its.operand_bytes / 4 / self.costs.shared_bytes
        end = max(start, self.shared - its.tensor) + its.tensor
        pipes["tensor"] = end
        if its.commits:
            warp.products.append(end + self.costs.product_end)
        return (self.costs.mma_latency if its.name == "HMMA" else 0), 0


def clocks(
    instructions: Sequence[Instruction],
    warps: int,
    blocks: int,
    costs: Costs = COSTS,
    turns: int = 24,
    skipped: int = 8,
    ahead: int = 1,
) -> float:
    """The clocks of a multiprocessor that one turn of one block takes, with ``blocks`` blocks resident.

    Measured over the turns after the first ``skipped``. ``ahead``: how many turns before its use the tensor memory
    accelerator is asked for what a turn needs. UnknownError for loops that the model does not know.
    """
    loaded = loaded_bytes(instructions)
    body = [step(each, costs, loaded) for each in instructions]
    spans = [
        (warp.stamps[-2] - warp.stamps[skipped]) / (turns - 2 - skipped)
        for warp in _Multiprocessor(body, warps, blocks, turns, costs, ahead).run()
    ]
    return sum(spans) / len(spans) / blocks


def kept_clocks(instructions: Sequence[Instruction], warps: int, blocks: int, ahead: int) -> float:
    """As :func:`clocks`, kept from run to run."""
    ahead = ahead if any(each.name == "UTMALDG" for each in instructions) else 1
    code = [[each.guard, each.opcode, each.operands, each.control] for each in instructions]
    costs = [getattr(COSTS, field.name) for field in fields(COSTS)]
    key = digest(code, warps, blocks, costs, ahead)
    found: float = kept("clocks", key, lambda: clocks(instructions, warps, blocks, ahead=ahead))
    return found
