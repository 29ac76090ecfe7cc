"""Compares a mask with what was expected: a picture, an array or a function of two positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiler.verify import contrast, differences, picture, picture_lines

Mask = NDArray[Any]  # bool or int64, [heads, m, n] or [batch, heads, m, n]


def compare(name: str, mask: Mask, expected: object, q_start: int, head: int | None) -> None:
    """AssertionError, with pictures, where the mask is not as expected; ValueError where the shapes do not fit.

    With ``head`` only that head is compared.
    """
    counts = mask.astype(np.int64)
    if head is not None:
        if not 0 <= head < counts.shape[-3]:
            raise ValueError(f"head: is {head}, expected one of the {counts.shape[-3]} heads of the mask")
        counts = counts[..., head : head + 1, :, :]
    wanted = _pictures(expected, counts.shape, q_start)
    for place in np.ndindex(*counts.shape[:-2]):
        lines, got = wanted(place), picture(counts[place])
        if lines != got:
            entry = (*place[:-1], place[-1] if head is None else head)
            several = any(size > 1 for size in counts.shape[:-2]) or head is not None
            where = ", ".join(
                f"{word} {at}" for word, at in zip(("head", "batch entry"), reversed(entry), strict=False)
            )
            raise AssertionError(_told(name, f" in {where}" if several else "", lines, got, q_start))


def _told(name: str, where: str, expected: tuple[str, ...], got: tuple[str, ...], q_start: int) -> str:
    pictures = contrast(expected, got, (q_start, 0))
    if [*map(len, expected)] != [*map(len, got)]:
        size = f"{len(got)} rows of {len(got[0]) if got else 0} keys"
        return "\n".join([f"{name}{where}: the mask has {size}, the picture is of another size", "", *pictures])
    marks = differences(expected, got)
    wrong = sum(len(line) - line.count(".") for line in marks)
    row = next(number for number, line in enumerate(marks) if line.strip("."))
    column = next(number for number, mark in enumerate(marks[row]) if mark != ".")
    pairs = f"{wrong} of {len(marks) * len(marks[0])} pairs"
    first = f"{name}{where}: {pairs} are not as expected, the first at q = {q_start + row}, k = {column}"
    return "\n".join([first, "", *pictures])


def _pictures(expected: object, shape: tuple[int, ...], q_start: int) -> Callable[[tuple[int, ...]], tuple[str, ...]]:
    """A function from a head (or batch entry and head) to the lines of its expected picture."""
    if isinstance(expected, str):
        lines = picture_lines(tuple(expected.splitlines()))
        return lambda _: lines
    rows, keys = shape[-2:]
    if callable(expected):
        positions = range(q_start, q_start + rows)
        held = np.array([[int(expected(q, k)) for k in range(keys)] for q in positions], dtype=np.int64)
        held = held.reshape(rows, keys)
    else:
        held = np.asarray(_on_host(expected))
        if held.dtype.kind not in "biu":
            raise ValueError(f"expected: is an array of {held.dtype}, expected conditions or counts")
    try:
        everywhere = np.broadcast_to(held.astype(np.int64), shape) if held.ndim >= 2 else None
    except ValueError:
        everywhere = None
    if everywhere is None or held.shape[-2:] != (rows, keys):
        raise ValueError(
            f"expected: has shape {list(held.shape)}, expected {list(shape[-2:])} or {list(shape)}, as the mask"
        )
    return lambda place: picture(everywhere[place])


def _on_host(array: Any) -> Any:
    """The values of a tensor as a numpy array; anything else unchanged."""
    return array.detach().cpu().numpy() if hasattr(array, "detach") else array
