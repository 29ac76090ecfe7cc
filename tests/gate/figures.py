"""What the gate finds of one pass of one pattern: figures that JSON can hold, measured in one go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from attnc.compiler.ir import CallShape

from .account import Account, Turn, UntoldError, account
from .kernels import Choice, Visits, compiled, visits
from .patterns import DECODING, PATTERNS, contents
from .prediction import flex, model
from .prediction.simulator import UnknownError

N = 16384
"""The length of the calls whose work and time are compared."""
COMPARED_DIMS = (64, 128)


@dataclass(frozen=True)
class Loops:
    """The loops of one segment: queries by keys of a turn; instructions of a warp for 64 rows by 128 keys on full and
    partial tiles, None without such a loop; whether one loop serves both; loads under way while it waits.
    """

    rows: int
    keys: int
    full: float | None
    partial: float | None
    single: bool
    in_flight: int | None


@dataclass(frozen=True)
class Kernel:
    """The figures of one compiled function: see :class:`tests.gate.account.Account`."""

    name: str
    warps: int
    stages: int
    registers: int
    spilled: int
    shared: int
    blocks: int
    free_blocks: int | None
    tensor: str
    needed: float
    spent: float | None
    loops: tuple[Loops, ...]


@dataclass(frozen=True)
class Figures:
    """The figures of one pass.

    - ``kernels``: attnc's; ``peers``: FlexAttention's, where it is compared;
    - ``work`` and ``peer_work``: instructions in loops, forward, for one head at :data:`N` tokens, in those of a warp
      for 64 rows by 128 keys; ``clocks`` and ``peer_clocks``: predicted, of the same; backward, of 64 by 64 pairs on
      full tiles;
    - ``fault``: why something could not be compiled, told apart or predicted.
    """

    pattern: str
    dim: int
    target: str
    kind: str
    kernels: tuple[Kernel, ...]
    peers: tuple[Kernel, ...] = ()
    work: float | None = None
    peer_work: float | None = None
    clocks: float | None = None
    peer_clocks: float | None = None
    fault: str = ""


def measure(
    pattern: str, dim: int, target: str, kind: str, choice: Choice | None = None, alone: bool = False
) -> Figures:
    """Compiles a pass and reads its figures; beside FlexAttention's where they are compared, unless it is ``alone`` or
    of a ``choice``.
    """
    attention = PATTERNS[pattern].attention()
    try:
        accounts = [account(each) for each in compiled(attention, dim, target, kind, choice)]
    except Exception as error:  # noqa: BLE001 - whatever a compiler raises is a miss, and the rest goes on
        return Figures(pattern, dim, target, kind, (), fault=_said(error))
    own = Figures(pattern, dim, target, kind, tuple(map(kernel, accounts)))
    if alone or choice is not None or kind == DECODING or dim not in COMPARED_DIMS or target not in flex.TARGETS:
        return own
    if kind != "forward" and (pattern, target) != ("causal", "sm_90"):
        return own
    try:
        return _beside(own, accounts)
    except Exception as error:  # noqa: BLE001 - of FlexAttention's kernels, too
        return Figures(pattern, dim, target, kind, own.kernels, fault=_said(error))


def _said(error: Exception) -> str:
    """What went wrong, in one line."""
    told = isinstance(error, (UntoldError, UnknownError))
    line = next(iter(str(error).splitlines()), "")
    return line if told else f"{type(error).__name__}: {line}"[:300]


def _beside(own: Figures, accounts: Sequence[Account]) -> Figures:
    pattern, dim, target, kind = own.pattern, own.dim, own.target, own.kind
    peer = account(flex.compiled(pattern, dim, target, kind), half=kind != "forward")
    peers = (kernel(peer),)
    if kind != "forward":
        clocks = model.full_tile_clocks(accounts[:1]), model.full_tile_clocks((peer,))
        return Figures(pattern, dim, target, kind, own.kernels, peers, clocks=clocks[0], peer_clocks=clocks[1])
    seen, blocks = _visited(pattern, dim, target)
    functions = [(its, seen[its.name]) for its in accounts]
    work = model.attnc_work(functions), model.flex_work(peer, blocks)
    if target != "sm_90":
        return Figures(pattern, dim, target, kind, own.kernels, peers, *work)
    clocks = model.attnc_clocks(functions), model.flex_clocks(peer, blocks, N)
    return Figures(pattern, dim, target, kind, own.kernels, peers, *work, *clocks)


@lru_cache(maxsize=32)
def _visited(pattern: str, dim: int, target: str) -> tuple[dict[str, tuple[Visits, ...]], model.Blocks]:
    attention = PATTERNS[pattern].attention()
    heads = 4 if pattern == "bigbird" else 1
    held = contents(pattern, attention, N, heads)
    seen = visits(attention, dim, target, "forward", CallShape(N, N, heads), held)
    return seen, model.flex_blocks(pattern, attention, N, heads, held)


def kernel(its: Account) -> Kernel:
    """The figures of a kernel."""
    loops = tuple(
        Loops(
            work.typical.rows, work.typical.keys, _count(work.full), _count(work.partial), work.single,
            work.typical.in_flight,
        )
        for work in its.works
    )  # fmt: skip
    return Kernel(
        its.name, its.warps, its.stages, its.registers, its.spilled, its.shared, its.blocks, its.free_blocks,
        its.tensor, its.needed, its.spent, loops,
    )  # fmt: skip


def _count(turn: Turn | None) -> float | None:
    return None if turn is None else turn.count


def by_key(found: Iterable[Figures]) -> dict[tuple[str, int, str, str], Figures]:
    """Figures by pattern, dimension, target and pass."""
    return {(each.pattern, each.dim, each.target, each.kind): each for each in found}
