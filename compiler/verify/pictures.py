"""Draws masks as text: one as a picture, or several side by side with the cells in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Counts: TypeAlias = NDArray[np.int64]  # [m, n], of one head

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


def contrast(
    expected: Sequence[str], got: Sequence[str], corner: tuple[int, int] = (0, 0), whole: tuple[int, int] | None = None
) -> list[str]:
    """The expected picture, the actual one, and where they differ; ``corner`` and ``whole`` are those of
    :func:`side_by_side`.
    """
    marks = differences(expected, got)
    panels = (Panel("expected", tuple(expected)), Panel("got", tuple(got)), Panel("differs", marks))
    return [*side_by_side(panels, corner, whole), LEGEND]


def side_by_side(
    panels: Sequence[Panel], corner: tuple[int, int] = (0, 0), whole: tuple[int, int] | None = None
) -> list[str]:
    """Lays pictures out beside each other: a line of titles, then the rows, each with its number in front.

    The last panel marks the cells to look at, by any character but a dot or a blank. Of pictures larger than LARGEST
    only the part around the first mark is shown, and a last line says which part. ``corner``: the row and the column
    that the pictures begin with. ``whole``: how many rows and columns there are, where the pictures are a part already.
    """
    first_row, first_column = corner
    height = max((len(panel.lines) for panel in panels), default=0)
    width = max((len(line) for panel in panels for line in panel.lines), default=0)
    row, column = _first_mark(panels[-1].lines)
    top, left = _start(row, height), _start(column, width)
    rows, columns = whole or (height, width)
    bottom, right = min(height, top + LARGEST), min(width, left + LARGEST)
    numbers = [str(first_row + number) for number in range(top, bottom)]
    margin = max([1, *map(len, numbers)])
    shown = [
        (max(len(panel.title), right - left), [_at(panel.lines, number)[left:right] for number in range(top, bottom)])
        for panel in panels
    ]
    lines = [_joined("q".rjust(margin), [(panel.title, w) for panel, (w, _) in zip(panels, shown, strict=True)])]
    for place, number in enumerate(numbers):
        lines.append(_joined(number.rjust(margin), [(cells[place], wide) for wide, cells in shown]))
    if (bottom - top, right - left) != (rows, columns):
        lines.append(
            f"rows {numbers[0]}..{numbers[-1]} and columns {first_column + left}..{first_column + right - 1} "
            f"of {rows} rows, {columns} columns"
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


def picture(counts: Counts) -> tuple[str, ...]:
    """A mask as lines, one for each row: ``.`` not kept, ``#`` kept once, a digit its count, ``+`` a count above 9."""
    symbols = np.array([".", "#", *"23456789", "+"])
    return tuple("".join(row) for row in symbols[np.minimum(counts, 10)])


def picture_lines(lines: tuple[str, ...]) -> tuple[str, ...]:
    """The picture of a text in the form that :func:`picture` gives: without blanks, ``.`` for 0 and ``#`` for 1."""
    bare = ("".join(line.split()).translate({ord("0"): ".", ord("1"): "#"}) for line in lines)
    return tuple(line for line in bare if line)


def set_text(members: frozenset[int]) -> str:
    """A set as the language writes it, three or more neighbours as a range: ``{0, 4..7}``."""
    parts: list[str] = []
    ordered = sorted(members)
    start = 0
    for place, member in enumerate(ordered):
        if place + 1 < len(ordered) and ordered[place + 1] == member + 1:
            continue
        low = ordered[start]
        parts.append(str(member) if low == member else f"{low}..{member}" if member - low > 1 else f"{low}, {member}")
        start = place + 1
    return "{" + ", ".join(parts) + "}"
