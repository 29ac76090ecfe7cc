"""What a shell offers when Tab is pressed after `attnc`: commands and options by click, names by this module."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from ..compiler.checker import shipped_names
from ..compiler.diagnostics import CATALOGUE

VARIABLE = "_ATTNC_COMPLETE"  # what click looks for, by the command's name


def script(commands: click.Command, shell: str) -> str:
    """What the shell has to read once, at its start, so that it completes `attnc`."""
    kind = get_completion_class(shell)
    assert kind is not None, f"click completes no {shell}"
    return kind(commands, {}, "attnc", VARIABLE).source()


def names(begun: str) -> list[CompletionItem]:
    """Shipped patterns that begin so, and the shell's own list of files."""
    found = [CompletionItem(name) for name in shipped_names() if name.startswith(begun)]
    return [*found, CompletionItem(begun, type="file")]


def slugs(begun: str) -> list[CompletionItem]:
    """Errors that begin so, each with what it stands for."""
    return [CompletionItem(slug, help=title) for slug, title in CATALOGUE.items() if slug.startswith(begun)]
