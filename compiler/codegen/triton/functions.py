"""Which functions the Triton module of a Program has, and where they put their results."""

from __future__ import annotations

from typing import Literal

from ...plan import Gathered, Kernel, Program, View, covers, key_major

Kind = Literal["forward", "merge", "delta", "backward_keys", "backward_queries", "collect"]


def function_names(program: Program) -> tuple[str, ...]:
    """In the order in which a forward and a backward launch them."""
    numbers = range(len(program.kernels))
    split = [number for number in numbers if is_split(program.kernels[number])]
    keys = [(i, j) for i in numbers for j in range(len(program.kernels[i].segments))]
    return (
        *(f"forward_{number}" for number in numbers),
        *(f"merge_{number}" for number in split),
        "delta",
        *(f"backward_keys_{i}_{j}" for i, j in keys),
        *(f"backward_queries_{number}" for number in numbers),
        *(f"collect_{number}" for number in split),
    )


def kind_of(name: str) -> Kind:
    """``backward_keys`` of ``backward_keys_0_1``."""
    return name.rstrip("_0123456789")  # type: ignore[return-value]


def is_split(kernel: Kernel) -> bool:
    """Whether the keys of a kernel are cut into parts, each with a program of its own: gathered rows are few."""
    return isinstance(kernel.rows, Gathered)


def direct_output(program: Program) -> bool:
    """Whether each row gets its output from one kernel, which stores it as it is wanted; else sums are merged."""
    return all(kernel.output == "store" for kernel in program.kernels)


def direct_queries(program: Program) -> bool:
    """Whether each row's gradient comes from one kernel, which stores it as it is wanted; else sums are added to."""
    return direct_output(program) and all(kernel.segments for kernel in program.kernels)


def direct_keys(program: Program) -> bool:
    """Whether each key's gradients come from one launch, which stores them as they are wanted."""
    walks = [(kernel.rows, segment.keys) for kernel in program.kernels for segment in kernel.segments]
    if len(program.kernels) != 1 or len(walks) != 1:
        return False
    _, keys = key_major(*walks[0])
    return isinstance(keys, View) and covers(keys)
