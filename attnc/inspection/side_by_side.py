"""Draws two masks as pictures side by side, with the cells in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LARGEST = 32  # rows and keys of a picture; of a larger one the part around the first marked cell is shown
LEGEND = "`-` is expected and missing, `+` is kept and should not be, `!` is kept another number of times"


@dataclass(frozen=True)
class Panel:
    """One picture: a line for each row, a character for each key."""

    title: str
    lines: tuple[str, ...]


def differences(expected: Sequence[str], got: Sequence[str]) -> tuple[str, ...]:
    """A mark for each cell: ``-`` missing, ``+`` too much, ``!`` another count, ``.`` as expected.

    Where one picture is smaller, the cells that it lacks count as not kept.
    """
    rows = max(len(expected), len(got))
    return tuple(_line_marks(_at(expected, row), _at(got, row)) for row in range(rows))


def _at(lines: Sequence[str], row: int) -> str:
    return lines[row] if row < len(lines) else ""


def _line_marks(expected: str, got: str) -> str:
    width = max(len(expected), len(got))
    return "".join(map(_mark, expected.ljust(width), got.ljust(width)))


def _mark(expected: str, got: str) -> str:
    wanted, kept = expected not in ". ", got not in ". "
    if wanted != kept:
        return "-" if wanted else "+"
    return "!" if wanted and expected != got else "."


def contrast(expected: Sequence[str], got: Sequence[str], first_row: int = 0) -> list[str]:
    """The expected picture, the actual one, and where they differ; rows are numbered from ``first_row``."""
    marks = differences(expected, got)
    panels = (Panel("expected", tuple(expected)), Panel("got", tuple(got)), Panel("differs", marks))
    return [*side_by_side(panels, first_row), LEGEND]


def side_by_side(panels: Sequence[Panel], first_row: int = 0, axis: str = "q") -> list[str]:
    """Lays pictures out beside each other: a line of titles, then the rows, each with its number in front.

    The last panel marks the cells to look at, by any character but a dot or a blank. Of pictures larger than LARGEST
    only the part around the first mark is shown, and a last line says which part. ``axis``: what is written above the
    row numbers.
    """
    height = max((len(panel.lines) for panel in panels), default=0)
    width = max((len(line) for panel in panels for line in panel.lines), default=0)
    row, column = _first_mark(panels[-1].lines)
    top, left = _start(row, height), _start(column, width)
    bottom, right = min(height, top + LARGEST), min(width, left + LARGEST)
    numbers = [str(first_row + number) for number in range(top, bottom)]
    margin = max([len(axis), *map(len, numbers)])
    shown = [
        (max(len(panel.title), right - left), [_at(panel.lines, number)[left:right] for number in range(top, bottom)])
        for panel in panels
    ]
    lines = [_joined(axis.rjust(margin), [(panel.title, w) for panel, (w, _) in zip(panels, shown, strict=True)])]
    for place, number in enumerate(numbers):
        lines.append(_joined(number.rjust(margin), [(cells[place], wide) for wide, cells in shown]))
    if (bottom - top, right - left) != (height, width):
        lines.append(
            f"rows {numbers[0]}..{numbers[-1]} and columns {left}..{right - 1} of {height} rows, {width} columns"
        )
    return lines


def _joined(head: str, cells: Sequence[tuple[str, int]]) -> str:
    return f"{head}  {'   '.join(text.ljust(width) for text, width in cells)}".rstrip()


def _first_mark(marks: Sequence[str]) -> tuple[int, int]:
    """The first cell with a mark, in reading order; the corner where there is none."""
    for row, line in enumerate(marks):
        for column, mark in enumerate(line):
            if mark not in ". ":
                return row, column
    return 0, 0


def _start(place: int, size: int) -> int:
    """The first index of a window of LARGEST cells around ``place``."""
    return max(0, min(place - LARGEST // 2, size - LARGEST))
