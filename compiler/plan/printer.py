"""Orders and programs as text for people."""

from __future__ import annotations

from collections.abc import Mapping

from ..ir import TRUE, expression
from .orders import Axis, Box, Gathered, Order, Sorted, View
from .programs import Kernel, Program


def order(order: Order, names: Mapping[str, str] | None = None) -> str:
    """An order as a phrase: ``natural``, ``residue(4)``, ``gathered k in g``."""
    match order:
        case Gathered(condition=condition):
            return f"gathered {expression(condition, names)}"
        case Sorted(rank=rank):
            return f"sorted by {expression(rank, names)}"
        case Box(view=view, extents=extents):
            return f"box of {'×'.join(map(str, extents))} around each tile of {_view(view.axes, view.offset)}"
        case View(axes=axes, offset=offset):
            return _view(axes, offset)


def _view(axes: tuple[Axis, ...], offset: int) -> str:
    start = f" from {offset}" if offset else ""
    match axes:
        case (Axis(stride=1, length=None),):
            return f"natural{start}"
        case (Axis(stride=stride, length=None),):
            return f"every {stride}{start}"
        case (Axis(stride=1, length=count, tile=1), Axis(stride=stride, length=None)) if count == stride:
            return f"residue({stride}){start}"
        case (
            Axis(stride=block, length=count, tile=1),
            Axis(stride=stride, length=None),
            Axis(stride=1, length=width),
        ) if width == block and count is not None and stride == block * count:
            return f"residue({count}) of blocks of {block}{start}"
        case (Axis(stride=period, length=None, tile=high), Axis(stride=1, length=width, tile=wide)):
            if width == period:
                return f"grid {period} wide in {high}×{wide}{start}"
            return f"{width} of every {period}{start}"
        case (
            Axis(stride=width, length=lines, tile=1),
            Axis(stride=1, length=columns, tile=1),
            Axis(stride=stride, length=None, tile=high),
            Axis(stride=step, length=count, tile=wide),
        ) if step == columns and count is not None and width == step * count and stride == width * (lines or 0):
            return f"grid {width} wide, every {lines} lines and {columns} columns, in {high}×{wide}{start}"
        case (Axis(stride=plane, length=None), Axis(stride=line, length=lines), Axis(stride=1, length=width)) if (
            width == line and lines is not None and plane == lines * line
        ):
            return f"grid {lines}×{width} in {'×'.join(str(axis.tile) for axis in axes)}{start}"
    digits = (f"{axis.length or '*'}@{axis.stride}" for axis in axes)
    return f"digits {' '.join(digits)}{start}"


def program(program: Program) -> str:
    """The kernels of a program, a line for each and for each of their segments."""
    names = {str(number): table.name for number, table in enumerate(program.tables)}
    return "\n".join(line for kernel in program.kernels for line in _kernel(kernel, names))


def _kernel(kernel: Kernel, names: Mapping[str, str]) -> list[str]:
    rows = "all" if kernel.owned_rows == TRUE else expression(kernel.owned_rows, names)
    lines = [f"kernel rows {rows}   order {order(kernel.rows, names)}   tile {kernel.rows.tile}   {kernel.output}"]
    if kernel.heads is not None:
        lines[0] += f"   heads {', '.join(map(str, kernel.heads))}"
    for segment in kernel.segments:
        lines.append(f"  segment keys {order(segment.keys, names)}   tile {segment.keys.tile}")
        lines.append(f"    partial tiles check: {expression(segment.condition, names)}")
    return lines
