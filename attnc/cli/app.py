"""The click application: the group of all commands, and the arguments and options that several of them share.

A command is a module of this package and an entry of HOMES. Its module is imported when the command is asked for, and
all modules for a list of commands; so they import heavy packages (numpy, pictures and above all torch) only inside
functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

import click

from .. import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ..compiler.ir import Literal_

HOMES: Mapping[str, str] = {
    "audit": "audit",
    "bench": "run",
    "cache": "status",
    "check": "check",
    "compile": "run",
    "completion": "help",
    "explain": "help",
    "fmt": "fmt",
    "run": "run",
    "settings": "status",
    "show": "show",
    "test": "test",
}
"""The module of each command."""

FAULT, USAGE, OURS, INTERRUPTED = 1, 2, 3, 130
"""Exit codes: a fault in the input, a wrong use of the command, a bug of attnc, and an interrupt (Ctrl-C)."""


def _names(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Shell completions for NAME: shipped patterns that begin so, and files."""
    from click.shell_completion import CompletionItem

    from ..compiler.checker import shipped_names

    found = [CompletionItem(name) for name in shipped_names() if name.startswith(begun)]
    return [*found, CompletionItem(begun, type="file")]


NAME = click.argument("name", shell_complete=_names)
SET = click.option("--set", "settings", metavar="NAME=VALUE", multiple=True, help="A parameter: size=8, 'g={0,5}', …")
FORM = click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", help="json is for programs."
)
LENGTH = click.IntRange(min=1)
HEADS = click.option("--heads", type=click.IntRange(min=1), help="How many query heads.")
LAYER = click.option("--layer", type=click.IntRange(min=0), help="Which layer of a model (0 unless given).")


class OfOneName(click.Command):
    """A command that takes NAME; ``-:pattern``, a declaration of standard input, is not parsed as an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given = [word for word in args if word.startswith("-:")]
        rest = [word for word in args if not word.startswith("-:")]
        return super().parse_args(ctx, [*rest, "--", *given] if given and "--" not in rest else args)


class _Commands(click.Group):
    """The group of commands, which imports a command's module when the command is asked for."""

    def list_commands(self, _: click.Context) -> list[str]:
        return sorted(HOMES)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in HOMES:
            import_module(f".{HOMES[name]}", __package__)
        return super().get_command(ctx, name)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="attnc", message="%(prog)s %(version)s")
def commands() -> None:
    """A compiler for attention patterns.

    NAME is a shipped pattern (longformer), a file (mine.attn), or one declaration of either (mine.attn:local); - is
    standard input, and -:local one declaration of it.
    """


def values_of(settings: tuple[str, ...]) -> Mapping[str, Literal_]:
    """Parses ``--set`` options into names and values. InputError for a value that the language does not accept."""
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
