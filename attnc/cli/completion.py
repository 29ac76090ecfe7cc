"""``attnc completion``: prints the script by which a shell completes commands, options and names."""

from __future__ import annotations

import click

from .app import commands
from .terminal import out

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_ATTNC_COMPLETE"  # what click looks for, by the command's name


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
