"""``attnc run``: runs one attention on random input, checks it against its definition and times it."""

from __future__ import annotations

import click

from ..compiler.plan import FLOATS
from .app import HEADS, LAYER, LENGTH, NAME, SET, OfOneName, commands, values_of
from .progress import progress
from .terminal import out, say

RUN_HEADS = 8  # query heads, where neither the text nor a table nor an option says how many


@commands.command("run", cls=OfOneName)
@NAME
@click.option("--n", "keys", type=LENGTH, default=4096, show_default=True, help="How many keys and queries.")
@SET
@LAYER
@HEADS
@click.option("--head-dim", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, …")
@click.option("--dtype", type=click.Choice([dtype.name for dtype in FLOATS]), default="fp32", show_default=True)
@click.option("--backward", is_flag=True, help="The gradients as well.")
def run_command(
    name: str,
    keys: int,
    settings: tuple[str, ...],
    layer: int | None,
    heads: int | None,
    head_dim: int,
    device: str,
    dtype: str,
    backward: bool,
) -> None:
    """Compile NAME, run it on random input, check it against its dense definition, and time it."""
    from ..inspection import LaunchSizes, find, measure, prepare, report, request

    sizes = LaunchSizes(keys, layer=layer, heads=heads, usual_heads=RUN_HEADS)
    view = prepare(find(name), values_of(settings), sizes, "cpu", say)
    wanted = request(view, device, dtype, head_dim, backward)
    with progress(True) as at:
        measured = measure(wanted, at)
    out(report(view.name, wanted, measured))
    if not measured.right:
        raise RuntimeError("the result differs from the dense definition")
