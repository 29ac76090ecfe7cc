"""Draws a whole model: its layers in order, and for each the heads that keep different pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby

from ..compiler.ir import HEAD, HEADS, Attention, Const, Expr, Literal_, Table, substitute
from ..inspection import LaunchSizes, LaunchView, Target, apply_all, make_view, stage
from .grid import Grid, Panel, Row
from .picture import Picture
from .whole_mask import sampled

Kept = tuple[Expr, tuple[Table, ...]]  # what decides which pairs a head keeps


def overview(
    subject: Target,
    values: Mapping[str, Literal_],
    sizes: LaunchSizes,
    target: str,
    cells: Callable[[int], int],
    tiles: bool,
    say: Callable[[str], None],
    at: Callable[[str], object],
) -> Grid:
    """The pictures of a model: one row for successive layers that keep the same pairs, one panel for heads that do.

    ``cells`` maps the number of panels in a row to the cells along a panel. ``say`` is called with a line for each
    table that is made up, ``at`` with the label of each row as it is drawn. ``sizes.head``, if given, is the only head
    drawn. Raises AttnError, InputError.
    """
    with stage("check"):
        layers = apply_all(subject, values)
    notes: dict[str, None] = {}
    views = [make_view(applied, sizes, target, lambda line: notes.setdefault(line)) for applied in layers]
    for line in notes:
        say(line)
    groups = [_heads(view.pipeline.attention, view.extent.heads, sizes.head) for view in views]
    limit = cells(max(map(len, groups)))
    seen: dict[Kept, Panel] = {}
    rows: list[Row] = []
    for _, members in groupby(range(len(views)), key=lambda layer: tuple(groups[layer].items())):
        alike = list(members)
        label = f"layer{'s' * (len(alike) > 1)} {ranges(alike)}"
        at(label)
        view, panels = views[alike[0]], []
        for kept, heads in groups[alike[0]].items():
            if kept not in seen:
                seen[kept] = _panel(replace(view, head=heads[0]), limit, tiles)
            panels.append(replace(seen[kept], label=f"{_named(heads, view)}  {seen[kept].label}"))
        rows.append(Row(label, tuple(panels)))
    m, n = views[0].extent.m, views[0].extent.n
    return Grid(f"{subject.name}: {len(views)} layers, {m:,} queries × {n:,} keys", tuple(rows))


def _heads(attention: Attention, heads: int, only: int | None) -> dict[Kept, list[int]]:
    """Groups the heads that keep the same pairs, whatever they score, ordered by each group's first head."""
    found: dict[Kept, list[int]] = {}
    for head in range(heads) if only is None else (only,):
        mask = substitute(attention.mask, {HEAD: Const(head), HEADS: Const(heads)})
        found.setdefault((mask, attention.tables), []).append(head)
    return found


def _named(heads: list[int], view: LaunchView) -> str:
    if len(heads) == view.extent.heads:
        return "all heads"
    return f"head{'s' * (len(heads) > 1)} {ranges(heads)}"


def _panel(view: LaunchView, limit: int, tiles: bool) -> Panel:
    """The picture of one head; its label says which share of all pairs the head keeps."""
    with stage("schedule"):
        planned = view.pipeline.schedule if tiles else None
    with stage("mask"):
        picture, pairs = sampled(view, limit, planned)
    return Panel(_share(picture, pairs, view.pipeline.attention.mask.type == "count"), picture)


def _share(picture: Picture, pairs: int | None, counted: bool) -> str:
    if pairs is None:
        return f"about {float(picture.density.mean()):.2%}"
    return f"{pairs:,} pairs" if counted else f"{pairs / (picture.queries * picture.keys):.2%}"


def ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers as a selector of the language: ``0..5, 7``."""
    return ", ".join(_runs(numbers))


def _runs(numbers: Iterable[int]) -> Iterator[str]:
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        yield str(members[0]) if len(members) == 1 else f"{members[0]}..{members[-1]}"
