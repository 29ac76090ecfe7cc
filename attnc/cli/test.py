"""``attnc test``: runs the test blocks of some files."""

from __future__ import annotations

from pathlib import Path

import click

from .app import FAULT, commands
from .progress import Spinner
from .terminal import out, say, say_diagnostics


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

    found = files(paths, patterns)
    if not found:
        raise InputError(f"there is no .attn file in {', '.join(map(shown_name, paths))}")
    tallies, broken = [(0, 0, 0)], 0
    with Spinner() as spinner:

        def write(text: str) -> None:
            spinner.clear()
            out(text)

        for file in found:
            try:
                tallies.append(run_file(file, write, spinner.at, summed=len(found) > 1))
            except AttnError as error:
                broken += 1
                spinner.clear()
                say_diagnostics(error.diagnostics, more=True)
    passed, failed, left = (sum(column) for column in zip(*tallies, strict=True))
    faults = f", {broken} with faults" if broken else ""
    out(f"{passed} passed, {failed} failed, {left} undecided{faults}")
    wanting = left > 0 and undecided == "fail"
    if wanting and not failed and not broken:
        say("a claim for all n that is only checked to some n does not pass; with `--undecided pass` it does")
    return FAULT if failed or broken or wanting else 0
