"""The command line. Results go to stdout, everything else to stderr.

Exit codes: 0, 1 for a fault in the input, 2 for a wrong use of the command, 3 for a fault of ours. What is heavy
(torch above all) is imported by the command that needs it, when it needs it.
"""

from __future__ import annotations

import shutil
import sys
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import __version__
from ..compiler.pipeline import STAGES
from .terminal import coloured, out, out_text, progress, say, say_diagnostics, say_fault, say_usage, say_warning

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ..compiler.diagnostics import Diagnostic
    from ..compiler.ir import Literal_
    from ..inspection import LaunchSizes, Target

FAULT, USAGE, OURS, INTERRUPTED = 1, 2, 3, 130
SHELLS = ("bash", "zsh", "fish")
TARGETS = ("cpu", "sm_80", "sm_90", "gfx942")
DRAWINGS = (".png", ".svg", ".html")
RUN_HEADS = 8
LONG = 4096  # keys from which on a mask takes its time
REPORT = "please report it, with the input and what `attnc --version` prints"


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and ends the process with its exit code."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Runs one command; its exit code."""
    from ..compiler.diagnostics import AttnError
    from ..inspection import InputError, WrongUseError, begin, current_stage
    from ..runtime.base import SettingError

    begin()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = say_warning
            code = commands.main(args=arguments, prog_name="attnc", standalone_mode=False)
    except click.ClickException as error:
        return say_usage(error)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our results has seen enough
        sys.stderr.close()
        return 0
    except AttnError as error:
        say_diagnostics(error.diagnostics)
        return FAULT
    except WrongUseError as error:
        say_fault("error", f": {error}")
        return USAGE
    except (InputError, SettingError, OSError) as error:
        say_fault("error", f": {error}")
        return FAULT
    except MemoryError as error:
        say_fault("error", f": not enough memory{f': {error}' if str(error) else ''}")
        return FAULT
    except Exception:  # noqa: BLE001 - whatever it is, it is ours, and says so
        say(traceback.format_exc().rstrip())
        say_fault("bug in attnc", f", stage {current_stage()}: {REPORT}")
        return OURS
    return int(code or 0)


def _values(settings: tuple[str, ...]) -> Mapping[str, Literal_]:
    """``--set`` options as names and values."""
    from ..inspection import InputError, read_literal

    values: dict[str, Literal_] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip().isidentifier():
            raise click.UsageError(f"--set takes NAME=VALUE, not {setting!r}")
        try:
            values[name.strip()] = read_literal(text)
        except ValueError as error:
            raise InputError(f"--set {name.strip()}: {error}") from None
    return values


def _names(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """What a shell offers for NAME."""
    from .completion import names

    return names(begun)


def _slugs(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """What a shell offers for SLUG."""
    from .completion import slugs

    return slugs(begun)


NAME = click.argument("name", shell_complete=_names)
SET = click.option("--set", "settings", metavar="NAME=VALUE", multiple=True, help="A parameter: size=8, 'g={0,5}', …")
FORM = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="json is for programs."
)
LENGTH = click.IntRange(min=1)
HEADS = click.option("--heads", type=click.IntRange(min=1), help="How many query heads.")
LAYER = click.option("--layer", type=click.IntRange(min=0), help="Which layer of a model (0 unless given).")


class OfOneName(click.Command):
    """A command of NAME: ``-:pattern``, a declaration of standard input, is no option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = [word for word in args if word.startswith("-:")]
        rest = [word for word in args if not word.startswith("-:")]
        return super().parse_args(ctx, [*rest, "--", *given] if given and "--" not in rest else args)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="attnc", message="%(prog)s %(version)s")
def commands() -> None:
    """A compiler for attention patterns.

    NAME is a shipped pattern (longformer), a file (mine.attn), or one declaration of either (mine.attn:local); - is
    standard input, and -:local one declaration of it.
    """


@commands.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="json is for editors.")
def check(files: tuple[Path, ...], form: str) -> int:
    """Check .attn files: every fault, with its place. `-` is standard input. Exit code 1 if there is any."""
    from ..compiler.diagnostics import AttnError
    from ..inspection import load, shown_name
    from .check import document

    faults: list[Diagnostic] = []
    for file in files:
        try:
            load(file)
        except AttnError as error:
            faults += error.diagnostics
            if form == "text":
                say_diagnostics(error.diagnostics, more=True)
        else:
            if form == "text":
                out(f"{shown_name(file)}: no faults")
    if form == "json":
        out(document(faults))
    return FAULT if faults else 0


@commands.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--check", "only_look", is_flag=True, help="Write nothing; name the files that would change.")
def fmt(paths: tuple[Path, ...], only_look: bool) -> int:
    """Lay out .attn files, and those in folders. `-` is standard input, laid out to standard output.

    Exit code 1 if a file cannot be read, and with --check if one would change.
    """
    from ..compiler.diagnostics import AttnError
    from ..inspection import STDIN, InputError, files, shown_name
    from .fmt import laid_out_file, laid_out_input

    found = files(paths)
    if not found:
        raise InputError(f"there is no .attn file in {', '.join(map(shown_name, paths))}")
    wrong = False
    for file in found:
        try:
            if file == STDIN:
                text, changed = laid_out_input()
                if not only_look:
                    out_text(text)
            else:
                changed = laid_out_file(file, only_look)
        except AttnError as error:
            wrong = True
            say_diagnostics(error.diagnostics, more=True)
            continue
        if changed and (only_look or file != STDIN):
            out(f"{file if file == STDIN else shown_name(file)}: {'would change' if only_look else 'laid out'}")
        wrong = wrong or (changed and only_look)
    return FAULT if wrong else 0


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
@click.option("--target", type=click.Choice(TARGETS), default="cpu", show_default=True, help="For --stage source.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Draw into FILE.png, FILE.svg or FILE.html."
)
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
) -> None:
    """Show the mask of NAME as blocks, or what another stage of the compiler makes of it.

    Of a model, without --layer, all layers: a picture for each group of heads that keep the same pairs. On a terminal,
    green lies in tiles that are kept whole, yellow in tiles that are kept in part. A drawing shows the orders that the
    compiler chose, each with its tiles, beside natural order.
    """
    from ..inspection import LaunchSizes, find, prepare, shown_name, telling_length
    from ..pictures import OWN_COLOURS, draw
    from .show import to_text

    if output is not None:
        _check_drawing(output, stage)
    subject, values = find(name), _values(settings)
    sizes = LaunchSizes(keys or telling_length(subject, values, layer), queries, q_start, layer, head, heads)
    if subject.declaration.kind == "model" and layer is None and stage == "mask":
        _show_model(subject, values, sizes, target, output)
        return
    view = prepare(subject, values, sizes, target, say)
    with progress(view.way.extent.n >= LONG) as at:
        at(f"{view.title}: {stage}")
        if output is not None:
            drawn = draw(view, output)
        else:
            text = to_text(stage, view, shutil.get_terminal_size().columns, _coloured_output())
    if output is not None:
        say(f"{shown_name(output)}: {drawn}")
    else:
        out(text, OWN_COLOURS)


def _check_drawing(output: Path, stage: str) -> None:
    """Refuse a drawing that could not be made, before there is any work."""
    from ..inspection import WrongUseError, shown_name

    if stage != "mask":
        raise click.UsageError("-o draws the mask: it goes with --stage mask")
    if output.suffix.lower() not in DRAWINGS:
        raise click.UsageError(f"-o takes FILE.png, FILE.svg or FILE.html, not {output}")
    if not output.parent.is_dir():
        raise WrongUseError(f"-o {shown_name(output)}: there is no folder {shown_name(output.parent)}")


def _show_model(
    subject: Target, values: Mapping[str, Literal_], sizes: LaunchSizes, target: str, output: Path | None
) -> None:
    """A model's pictures, on the terminal or into a file."""
    from ..inspection import shown_name
    from ..pictures import OWN_COLOURS, TERMINAL_PANEL, grid_blocks, overview, panel_side, write_grid

    tinted = output is None and _coloured_output()
    cells = panel_side if output is not None else lambda _: TERMINAL_PANEL
    with progress(sizes.n >= LONG) as at:
        grid = overview(subject, values, sizes, target, cells, tinted or output is not None, say, at)
        if output is not None:
            write_grid(grid, output)
    if output is None:
        out(grid_blocks(grid, shutil.get_terminal_size().columns, tinted), OWN_COLOURS)
    else:
        pictures = sum(len(row.panels) for row in grid.rows)
        say(f"{shown_name(output)}: {grid.title}, {pictures} picture{'' if pictures == 1 else 's'}")


def _coloured_output() -> bool:
    """Whether results may have colours."""
    return coloured(sys.stdout)


@commands.command("run", cls=OfOneName)
@NAME
@click.option("--n", "keys", type=LENGTH, default=4096, show_default=True, help="How many keys and queries.")
@SET
@LAYER
@HEADS
@click.option("--head-dim", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, …")
@click.option("--dtype", type=click.Choice(["fp32", "fp64", "bf16", "fp16"]), default="fp32", show_default=True)
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
    view = prepare(find(name), _values(settings), sizes, "cpu", say)
    asked = request(view, device, dtype, head_dim, backward)
    with progress(True) as at:
        measured = measure(asked, at)
    out(report(view.name, asked, measured))
    if not measured.right:
        raise RuntimeError("the result differs from the dense definition")


@commands.command()
@click.argument("slug", required=False, shell_complete=_slugs)
def explain(slug: str | None) -> None:
    """What an error means, with an example, by the SLUG in its brackets; without one, all of them."""
    from .explain import explained, listed

    out(listed() if slug is None else explained(slug).rstrip())


@commands.command("test")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, allow_dash=True))
@click.option("--ignore", "patterns", metavar="GLOB", multiple=True, help="Leave out files and folders below PATH.")
@click.option(
    "--undecided", type=click.Choice(["fail", "pass"]), default="fail", show_default=True,
    help="What claims for all n count as that are not refuted.",
)  # fmt: skip
def test_command(paths: tuple[Path, ...], patterns: tuple[str, ...], undecided: str) -> int:
    """Run the test blocks of .attn files, and of those in folders. `-` is standard input.

    Exit code 1 if a check or a file is wrong, or a claim undecided.
    """
    from ..compiler.diagnostics import AttnError
    from ..inspection import InputError, files, run_file, shown_name
    from .progress import Ticker

    found = files(paths, patterns)
    if not found:
        raise InputError(f"there is no .attn file in {', '.join(map(shown_name, paths))}")
    tallies, broken, ticker = [(0, 0, 0)], 0, Ticker()

    def told(text: str) -> None:
        ticker.clear()
        out(text)

    for file in found:
        try:
            tallies.append(run_file(file, told, ticker.at, summed=len(found) > 1))
        except AttnError as error:
            broken += 1
            ticker.clear()
            say_diagnostics(error.diagnostics, more=True)
    passed, failed, left = (sum(column) for column in zip(*tallies, strict=True))
    faults = f", {broken} with faults" if broken else ""
    told(f"{passed} passed, {failed} failed, {left} undecided{faults}")
    wanting = left > 0 and undecided == "fail"
    if wanting and not failed and not broken:
        say("a claim for all n that is only checked to some n does not pass; with `--undecided pass` it does")
    return FAULT if failed or broken or wanting else 0


@commands.command("settings")
@FORM
def settings_command(form: str) -> int:
    """Every setting: the variable that sets it, its value, what it does. Exit code 1 if one cannot be read."""
    from .status import lines, settings_document, settings_table

    found = lines()
    out(settings_document(found) if form == "json" else settings_table(found, shutil.get_terminal_size().columns))
    return FAULT if any(line.fault for line in found) else 0


@commands.command("cache")
@click.option("--clear", is_flag=True, help="Remove every kernel that is kept.")
@FORM
def cache_command(clear: bool, form: str) -> None:
    """Where built kernels are kept, how many there are, and how large they are."""
    from .status import cache_document, cache_text, cache_usage, clear_cache

    if clear:
        removed = clear_cache()
        say(f"removed {removed:,} entr{'y' if removed == 1 else 'ies'}")
    usage = cache_usage()
    out(cache_document(usage) if form == "json" else cache_text(usage))


@commands.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> None:
    """Print what SHELL reads to complete attnc: commands, options, shipped names, stages, errors.

    \b
    bash, in ~/.bashrc:       eval "$(attnc completion bash)"
    zsh, in ~/.zshrc:         eval "$(attnc completion zsh)"
    fish, once:               attnc completion fish > ~/.config/fish/completions/attnc.fish
    """
    from .completion import script

    out(script(commands, shell))
