"""Commands that explain: ``attnc explain`` prints the page of an error, ``attnc completion`` what a shell reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ..compiler.diagnostics import CATALOGUE, nearest, page
from ..inspection import InputError
from .app import commands
from .terminal import out

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_ATTNC_COMPLETE"  # what click looks for, by the command's name


def _slugs(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Shell completions for SLUG: the errors that begin so, each with its title."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(slug, help=title) for slug, title in CATALOGUE.items() if slug.startswith(begun)]


@commands.command()
@click.argument("slug", required=False, shell_complete=_slugs)
def explain(slug: str | None) -> None:
    """What an error means, with an example, by the SLUG in its brackets; without one, all of them."""
    out(listed() if slug is None else explained(slug).rstrip())


def explained(slug: str) -> str:
    """The page of a slug, which may be written as errors show it: ``error[slug]``. InputError for an unknown slug."""
    wanted = slug.strip().removeprefix("error").strip("[]:").lower()
    if wanted in CATALOGUE:
        return page(wanted)
    meant = nearest(wanted, CATALOGUE)
    hint = f"; did you mean {meant}?" if meant else "; `attnc explain` without a name lists them"
    raise InputError(f"there is no error {slug!r}{hint}")


def listed() -> str:
    """Every slug with its title, one per line."""
    width = max(map(len, CATALOGUE))
    return "\n".join(f"{slug:<{width}}  {title}" for slug, title in CATALOGUE.items())


@commands.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> None:
    """Print what SHELL reads to complete attnc: commands, options, shipped names, stages, errors.

    \b
    bash, in ~/.bashrc:       eval "$(attnc completion bash)"
    zsh, in ~/.zshrc:         eval "$(attnc completion zsh)"
    fish, once:               attnc completion fish > ~/.config/fish/completions/attnc.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, f"click completes no {shell}"
    out(kind(commands, {}, "attnc", VARIABLE).source())
