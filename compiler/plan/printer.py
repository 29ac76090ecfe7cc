"""Prints Programs for people to read."""

from __future__ import annotations

from collections.abc import Mapping

from ..ir import TRUE, expression
from .programs import Kernel, Program


def program(program: Program) -> str:
    """The kernels of a program as text: one line for each kernel, two for each of its segments."""
    names = {str(number): table.name for number, table in enumerate(program.tables)}
    return "\n".join(line for kernel in program.kernels for line in _kernel(kernel, names))


def _kernel(kernel: Kernel, names: Mapping[str, str]) -> list[str]:
    rows = "all" if kernel.owned_rows == TRUE else expression(kernel.owned_rows, names)
    lines = [f"kernel rows {rows}   order {kernel.rows.describe(names)}   tile {kernel.rows.tile}   {kernel.output}"]
    if kernel.heads is not None:
        lines[0] += f"   heads {', '.join(map(str, kernel.heads))}"
    if kernel.members is not None:
        lines[0] += f"   by row, off {expression(kernel.members.member, names)}"
    for segment in kernel.segments:
        lines.append(f"  segment keys {segment.keys.describe(names)}   tile {segment.keys.tile}")
        lines.append(f"    partial tiles check: {expression(segment.condition, names)}")
    return lines
