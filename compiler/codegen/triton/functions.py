"""The functions of a Program's Triton module: their kinds and names, where results go, and what templates take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...plan import Pass, Program, key_major
from .. import Code
from .body import Body, EntriesText
from .walks import TokenLoop

Kind = Literal["forward", "merge", "delta", "backward_keys", "backward_queries", "collect"]


@dataclass(frozen=True)
class SegmentText:
    """A segment of a kernel as the templates take it.

    ``suffix``: its number, at the end of its parameters' names; ``keys``: the loop over its keys; ``again``: the
    careful second loop over them, for sums that became NaN; ``body``: the code for each pair.
    """

    suffix: Code
    keys: TokenLoop
    again: TokenLoop
    body: Body


@dataclass(frozen=True)
class FunctionText:
    """One function of a module as its template takes it.

    - ``name`` and ``parameters``; ``unspecialised``: integer parameters, quoted, for single values of which Triton must
      not compile separate kernels;
    - ``numbers``: the constants of the text that it reads; ``numbers_listed``: from memory, not as parameters;
    - a program keeps a block of ``rows`` and walks the keys of all ``segments``; in ``backward_keys`` it keeps a block
      of ``columns`` and walks ``rows`` (the careful second time, ``rows_again``), and ``body`` is the code for each
      pair;
    - ``store``: it stores all rows, else it merges into stored ones; ``split``: its keys are cut into parts;
      ``all_heads``: it runs for every head, not only for those of one kernel; ``counted``: rows are listed, maybe on
      the device, which alone knows how many there are, and their keys are split; ``ordered``: arguments tell in which
      order its programs take their blocks;
    - ``owned``: the condition of the rows that the kernel owns, after ``owned_statements``; None if it owns all;
    - ``entries``: the tables of few entries for each of which a program has a sum.
    """

    name: Code
    parameters: tuple[Code, ...]
    unspecialised: tuple[Code, ...]
    numbers: tuple[int, ...]
    numbers_listed: bool
    rows: TokenLoop
    rows_again: TokenLoop | None = None
    columns: TokenLoop | None = None
    segments: tuple[SegmentText, ...] = ()
    body: Body | None = None
    store: bool = True
    split: bool = False
    all_heads: bool = False
    counted: bool = False
    ordered: bool = False
    owned_statements: tuple[Code, ...] = ()
    owned: Code | None = None
    entries: tuple[EntriesText, ...] = ()

    @property
    def spoilable(self) -> bool:
        """Whether a tile may hold pairs that are not kept: their weight 0, times NaN or infinity, makes sums NaN."""
        bodies = [segment.body for segment in self.segments] if self.body is None else [self.body]
        return self.owned is not None or not all(body.always for body in bodies)


@dataclass(frozen=True)
class FunctionId:
    """A function of a module: its kind, the number of its kernel and, for ``backward_keys``, that of its segment."""

    kind: Kind
    kernel: int | None = None
    segment: int | None = None

    @property
    def name(self) -> str:
        return "_".join(str(part) for part in (self.kind, self.kernel, self.segment) if part is not None)


def functions(program: Program, direction: Pass, split: bool = False) -> tuple[FunctionId, ...]:
    """Return the functions of one pass in the order in which it launches them. ``split``: every kernel is split."""
    numbers = range(len(program.kernels))
    cut = [number for number in numbers if split or program.kernels[number].splits]
    match direction:
        case "forward":
            return (*(FunctionId("forward", i) for i in numbers), *(FunctionId("merge", i) for i in cut))
        case "backward_keys":
            return tuple(
                FunctionId("backward_keys", i, j) for i in numbers for j in range(len(program.kernels[i].segments))
            )
    walks = (FunctionId("backward_queries", i) for i in numbers)
    return (FunctionId("delta"), *walks, *(FunctionId("collect", i) for i in cut))


def function_names(program: Program, direction: Pass) -> tuple[str, ...]:
    """Return the names of the functions, in the order of :func:`functions`."""
    return tuple(function.name for function in functions(program, direction))


def kind_of(name: str) -> Kind:
    """Return the kind of a function: ``backward_keys`` for ``backward_keys_0_1``."""
    return name.rstrip("_0123456789")  # type: ignore[return-value]


def direct_output(program: Program) -> bool:
    """Whether one kernel makes each row's output and stores it in its final dtype; else kernels merge results."""
    return all(kernel.output == "store" for kernel in program.kernels)


def direct_queries(program: Program) -> bool:
    """Whether one kernel makes each row's gradient and stores it in its final dtype; else kernels add to sums."""
    return direct_output(program) and all(kernel.segments for kernel in program.kernels)


def direct_keys(program: Program) -> bool:
    """Whether one launch makes each key's gradients and stores them in their final dtype; else launches add."""
    walks = [(kernel.rows, segment.keys) for kernel in program.kernels for segment in kernel.segments]
    if len(program.kernels) != 1 or len(walks) != 1:
        return False
    _, keys = key_major(*walks[0])
    return keys.listed_by is None and keys.covers
