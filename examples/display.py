"""What the examples show in a terminal: progress, narrow tables, pictures of masks; and the error of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import Tensor

from attnc.pictures.picture import Picture, bins


class DisagreementError(Exception):
    """What attnc computed and what it is held against differ, or the kernels did not run as often as they must."""


@contextmanager
def step(progress: Progress, description: str, total: int) -> Iterator[Callable[[], None]]:
    """One line of the progress display; gives the function that moves it on."""
    task = progress.add_task(description, total=total)
    yield lambda: progress.advance(task)
    progress.update(task, completed=total)


def progress_display() -> Progress:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))


def narrow_table(*columns: str) -> Table:
    """A table that fits eighty characters."""
    return Table(*columns, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def picture(mask: Tensor, cells: int, title: str = "document") -> Picture:
    """A mask ``[queries, keys]``: the darker a square of pairs, the more of them are kept."""
    queries, keys = mask.shape
    rows, columns = bins(queries, cells), bins(keys, cells)
    kept = np.add.reduceat(np.add.reduceat(mask.numpy().astype(np.float32), rows[:-1], 0), columns[:-1], 1)
    return Picture(title, queries, keys, kept / (np.diff(rows)[:, None] * np.diff(columns)))
