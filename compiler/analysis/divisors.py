"""Puts run-time divisors that the host knows into the conditions of a Program, which are analysed by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..ir import Const, Entry, Expr, HostTable, divisors, substitute
from ..plan import Program


def with_known_divisors(program: Program, contents: Sequence[HostTable]) -> Program:
    """A Program whose conditions have the same values in a call with these contents, and divide by constants.

    Where the entries of a batch are divided by different numbers, these stay; so do those that only the device knows.
    Kernels are made from the Program itself, and so serve every divisor.
    """
    read = divisors(*(segment.condition for kernel in program.kernels for segment in kernel.segments))
    known: dict[Expr, Expr] = {}
    for name in sorted(read):
        values = contents[int(name)].values
        if values is not None and values.size and values.min() == values.max() >= 1:
            known[Entry(name, (), "int")] = Const(int(values.min()))
    if not known:
        return program
    kernels = tuple(
        replace(
            kernel,
            segments=tuple(
                replace(segment, condition=substitute(segment.condition, known)) for segment in kernel.segments
            ),
        )
        for kernel in program.kernels
    )
    return replace(program, kernels=kernels)
