"""``attnc show``: shows one attention at one stage of the compiler, as text, or draws its mask into a file."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..compiler.pipeline import STAGES
from ..runtime.backends import targets
from .app import HEADS, LENGTH, NAME, SET, OfOneName, commands, values_of
from .progress import progress
from .terminal import coloured, out, say

if TYPE_CHECKING:
    from ..compiler.ir import Literal_
    from ..inspection import LaunchSizes, LaunchView, Target

DRAWINGS = (".png", ".svg", ".html")
LONG = 4096  # from this many keys on a mask takes long, and progress is shown


@commands.command(cls=OfOneName)
@NAME
@click.option("--n", "keys", type=LENGTH, help="How many keys (64, or as many as the constants need to be seen).")
@click.option("--m", "queries", type=LENGTH, help="How many query rows (n - q_start unless given).")
@click.option("--q-start", type=click.IntRange(min=0), default=0, help="Position of the first query row.")
@SET
@click.option("--layer", type=click.IntRange(min=0), help="Which layer of a model (all of them unless given).")
@click.option("--head", type=click.IntRange(min=0), help="Which head (0, and of a whole model all, unless given).")
@HEADS
@click.option("--stage", type=click.Choice(list(STAGES)), default="mask", show_default=True, help="What to show.")
@click.option("--target", type=click.Choice(targets()), default="cpu", show_default=True, help="For --stage source.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Draw into FILE.png, FILE.svg or FILE.html."
)
@click.option("--plain", is_flag=True, help="Draw the mask alone: without tiles, orders and words, and smaller.")
def show(
    name: str,
    keys: int | None,
    queries: int | None,
    q_start: int,
    settings: tuple[str, ...],
    layer: int | None,
    head: int | None,
    heads: int | None,
    stage: str,
    target: str,
    output: Path | None,
    plain: bool,
) -> None:
    """Show the mask of NAME as blocks, or what another stage of the compiler makes of it.

    Of a model, without --layer, all layers: a picture for each group of heads that keep the same pairs. On a terminal,
    green lies in tiles that are kept whole, yellow in tiles that are kept in part. A drawing shows the orders that the
    compiler chose, each with its tiles, beside natural order.
    """
    from ..inspection import LaunchSizes, find, prepare, shown_name, telling_length
    from ..pictures import OWN_COLOURS, draw

    if output is not None:
        _check_drawing(output, stage)
    elif plain:
        raise click.UsageError("--plain goes with -o")
    subject, values = find(name), values_of(settings)
    sizes = LaunchSizes(keys or telling_length(subject, values, layer), queries, q_start, layer, head, heads)
    if subject.declaration.kind == "model" and layer is None and stage == "mask":
        _show_model(subject, values, sizes, target, output, plain)
        return
    view = prepare(subject, values, sizes, target, say)
    with progress(view.extent.n >= LONG) as at:
        at(f"{view.title}: {stage}")
        if output is not None:
            drawn = draw(view, output, plain)
        else:
            text = to_text(stage, view, shutil.get_terminal_size().columns, coloured(sys.stdout))
    if output is not None:
        say(f"{shown_name(output)}: {drawn}")
    else:
        out(text, OWN_COLOURS)


def _check_drawing(output: Path, stage: str) -> None:
    """Refuses a drawing that cannot be made, before any work begins."""
    from ..inspection import WrongUseError, shown_name

    if stage != "mask":
        raise click.UsageError("-o draws the mask: it goes with --stage mask")
    if output.suffix.lower() not in DRAWINGS:
        raise click.UsageError(f"-o takes FILE.png, FILE.svg or FILE.html, not {output}")
    if not output.parent.is_dir():
        raise WrongUseError(f"-o {shown_name(output)}: there is no folder {shown_name(output.parent)}")


def _show_model(
    subject: Target,
    values: Mapping[str, Literal_],
    sizes: LaunchSizes,
    target: str,
    output: Path | None,
    plain: bool,
) -> None:
    """Draws a model's pictures on the terminal or into a file."""
    from ..inspection import shown_name
    from ..pictures import OWN_COLOURS, TERMINAL_PANEL, grid_blocks, overview, panel_side, write_grid

    tinted = output is None and coloured(sys.stdout)
    tiles = tinted or (output is not None and not plain)
    cells = panel_side if output is not None else lambda _: TERMINAL_PANEL
    with progress(sizes.n >= LONG) as at:
        grid = overview(subject, values, sizes, target, cells, tiles, say, at)
        if output is not None:
            write_grid(grid, output)
    if output is None:
        out(grid_blocks(grid, shutil.get_terminal_size().columns, tinted), OWN_COLOURS)
    else:
        pictures = sum(len(row.panels) for row in grid.rows)
        say(f"{shown_name(output)}: {grid.title}, {pictures} picture{'' if pictures == 1 else 's'}")


def to_text(name: str, view: LaunchView, columns: int, tinted: bool = False) -> str:
    """One of the compiler's stages as text; a picture is at most ``columns`` wide, and coloured if ``tinted``."""
    from ..compiler import dump, pipeline
    from ..compiler.ir import attention as attention_text
    from ..compiler.plan import program as program_text
    from ..inspection import HEAD_DIM, shown_dtype, stage
    from ..pictures import mask
    from ..runtime.base import settings
    from ..source import source_of

    made = view.pipeline
    with stage(name):
        match name:
            case "tree":
                return "\n".join(outline(pipeline.tree(view.subject.module, view.subject.name)))
            case "mask":
                return mask(view, columns, tinted)
            case "terms":
                return f"{view.name}: a pair is kept where a term holds of it\n{dump.terms(made.terms)}"
            case "program":
                return f"{attention_text(made.attention)}\n{program_text(made.program)}"
            case "schedule":
                sizes = f"{view.name}: {view.extent.m:,} queries × {view.extent.n:,} keys"
                known = made.validation if settings.verify else ()
                return "\n".join([sizes, dump.schedule(made.program, made.schedule, view.extent), *map(str, known)])
            case "source":
                return source_of(made.attention, view.target, HEAD_DIM, shown_dtype(view.target).name).rstrip("\n")
    raise ValueError(f"{name} is no stage")


def outline(node: object, name: str = "", depth: int = 0) -> Iterator[str]:
    """Yields a line for each node of a syntax tree: the field that holds it, its type, its plain values."""
    lead = "  " * depth + (f"{name}: " if name else "")
    if not is_dataclass(node):
        yield f"{lead}{node!r}"
        return
    parts = [(field.name, getattr(node, field.name)) for field in fields(node) if field.name not in ("span", "source")]
    plain = [f"{key}={value!r}" for key, value in parts if isinstance(value, (bool, int, float, str, type(None)))]
    yield f"{lead}{type(node).__name__}{' ' if plain else ''}{' '.join(plain)}"
    for key, value in parts:
        for part in value if isinstance(value, tuple) else (value,):
            if is_dataclass(part):
                yield from outline(part, key, depth + 1)
