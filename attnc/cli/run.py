"""Commands that build kernels: ``attnc run`` checks and times one attention, ``attnc bench`` times it beside others,
``attnc compile`` writes its kernels.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..compiler.plan import FLOATS
from ..runtime.backends import targets
from .app import FORM, HEADS, LAYER, LENGTH, NAME, SET, OfOneName, commands, values_of
from .progress import progress
from .terminal import out, say

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

RUN_HEADS = 8  # query heads, where neither the text nor a table nor an option says how many
BESIDE = ("dense", "causal", "flex", "slice")
KEYS = click.option("--n", "keys", type=LENGTH, default=4096, show_default=True, help="How many keys and queries.")
HEAD_DIM = click.option("--head-dim", type=click.IntRange(min=1), default=64, show_default=True)
DEVICE = click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, …")
DTYPE = click.option("--dtype", type=click.Choice([dtype.name for dtype in FLOATS]), default="fp32", show_default=True)
BACKWARD = click.option("--backward", is_flag=True, help="The gradients as well.")


@commands.command("run", cls=OfOneName)
@NAME
@KEYS
@SET
@LAYER
@HEADS
@HEAD_DIM
@DEVICE
@DTYPE
@BACKWARD
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
    from ..inspection import LaunchSizes, find, prepare
    from ..measuring import measure, report, request

    sizes = LaunchSizes(keys, layer=layer, heads=heads, usual_heads=RUN_HEADS)
    view = prepare(find(name), values_of(settings), sizes, "cpu", say)
    wanted = request(view, device, dtype, head_dim, backward)
    with progress(True) as at:
        measured = measure(wanted, at)
    out(report(view.name, wanted, measured))
    if not measured.right:
        raise RuntimeError("the result differs from the dense definition")


@commands.command("bench", cls=OfOneName)
@NAME
@KEYS
@SET
@LAYER
@HEADS
@HEAD_DIM
@DEVICE
@DTYPE
@BACKWARD
@click.option(
    "--beside", type=click.Choice(BESIDE), multiple=True, default=BESIDE, help="Beside what: all unless given."
)
@click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True, help="Rounds that count.")
@FORM
def bench_command(
    name: str,
    keys: int,
    settings: tuple[str, ...],
    layer: int | None,
    heads: int | None,
    head_dim: int,
    device: str,
    dtype: str,
    backward: bool,
    beside: tuple[str, ...],
    rounds: int,
    form: str,
) -> None:
    """Time NAME on random input, side by side with what one would use instead.

    A whole call, forward and with --backward its gradients, beside PyTorch's attention with the dense mask, causal
    where NAME is causal, and FlexAttention, compiled (a CPU has its forward alone); one query at the last position
    beside PyTorch's attention with its row of the mask, and on the slice of the keys that it needs. All take turns,
    with a square matrix product as the limit. Figures are medians of rounds, ratios those of ratios within one round.
    """
    from ..inspection import LaunchSizes, find, prepare
    from ..measuring import compare, comparison_document, comparison_table, request

    sizes = LaunchSizes(keys, layer=layer, heads=heads, usual_heads=RUN_HEADS)
    view = prepare(find(name), values_of(settings), sizes, "cpu", say)
    wanted = request(view, device, dtype, head_dim, backward)
    with progress(True) as at:
        found = compare(view.name, wanted, tuple(dict.fromkeys(beside)), rounds, at)
    out(comparison_document(found) if form == "json" else comparison_table(found))


def _targets(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Shell completions for TARGET, which may also be another one."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(target) for target in targets() if target.startswith(begun)]


@commands.command("compile", cls=OfOneName)
@NAME
@click.option(
    "--target", required=True, metavar="TARGET", shell_complete=_targets, help="sm_80, sm_90, gfx942, …, or cpu."
)
@SET
@click.option("--layer", type=click.IntRange(min=0), help="Which layer of a model (all of them unless given).")
@HEADS
@HEAD_DIM
@click.option("--value-dim", type=click.IntRange(min=1), help="As --head-dim unless given.")
@DTYPE
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="The folder of the files."
)
@click.option("--standalone", is_flag=True, help="One file that needs only torch and triton: forward and backward.")
@click.option("--dropout", is_flag=True, help="With --standalone: it takes a dropout and a seed.")
def compile_command(
    name: str,
    target: str,
    settings: tuple[str, ...],
    layer: int | None,
    heads: int | None,
    head_dim: int,
    value_dim: int | None,
    dtype: str,
    output: Path,
    standalone: bool,
    dropout: bool,
) -> None:
    """Compile NAME for TARGET, which need not be here, and write each function of its kernels into a folder.

    FUNCTION.py is the source, FUNCTION.ptx and FUNCTION.cubin what a GPU's driver takes (of AMD's .amdgcn and .hsaco,
    of a CPU .cpp and .so), FUNCTION.json what it needs. A model has a folder for each attention that differs.

    With --standalone it writes one file instead, NAME.py, with a differentiable PyTorch function of that name, which
    serves every length and imports nothing but torch and triton.
    """
    from ..inspection import KernelWish, WrongUseError, find, kernel_list, write_kernels, write_standalone

    wish = KernelWish(target, dtype, head_dim, value_dim, heads, layer, dropout)
    if dropout and not standalone:
        raise WrongUseError("--dropout is for --standalone")
    if standalone:
        with progress(True) as at:
            paths = write_standalone(find(name), values_of(settings), wish, output, at)
        out("\n".join(str(path) for path in paths))
        return
    with progress(True) as at:
        written = write_kernels(find(name), values_of(settings), wish, output, at)
    out(kernel_list(written))
