"""Prints all that commands print, so that escape sequences from a file or a name never reach a terminal.

Importing this module imports neither numpy nor drawing, because the commands that only read a text start with it.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

import click

from ..compiler.diagnostics import visible

if TYPE_CHECKING:
    from ..compiler.diagnostics import Diagnostic


def moves(stream: TextIO) -> bool:
    """Whether a stream is a terminal that understands escape sequences, such as those that redraw a line."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def coloured(stream: TextIO) -> bool:
    """Whether a stream may have colours: a terminal that understands them, unless ``NO_COLOR`` is set."""
    return moves(stream) and not os.environ.get("NO_COLOR")


def out(text: str, tints: Iterable[str] = ()) -> None:
    """Prints a result to stdout. The only escape sequences that remain are ``tints``, the caller's own colours."""
    own = [re.escape(tint) for tint in tints]
    parts: Sequence[str] = re.split(f"({'|'.join(own)})", text) if own else [text]
    click.echo("".join(part if at % 2 else visible(part) for at, part in enumerate(parts)), color=bool(own))


def out_text(data: bytes) -> None:
    """Prints a text as a result: to a terminal without control characters, elsewhere byte for byte."""
    if sys.stdout.isatty():
        click.echo(visible(data.decode("utf-8", "surrogateescape")), nl=False, color=False)
    else:
        click.echo(data, nl=False)


def say(text: str) -> None:
    """Prints one message to stderr."""
    click.echo(visible(text), err=True, color=False)


def say_fault(head: str, rest: str) -> None:
    """Prints an error to stderr, with ``head`` in red."""
    painted = coloured(sys.stderr)
    styled = click.style(head, fg="red", bold=True) if painted else head
    click.echo(f"{styled}{visible(rest)}", err=True, color=painted)


def say_diagnostics(diagnostics: Iterable[Diagnostic], more: bool = False) -> None:
    """Prints faults of a text to stderr with a blank line between them, and with ``more`` a blank line after the last
    one.
    """
    from ..compiler.diagnostics import render

    for number, diagnostic in enumerate(diagnostics):
        if number:
            say("")
        head, colon, rest = render(diagnostic).partition(":")
        say_fault(head, colon + rest)
    if more:
        say("")


def say_usage(error: click.ClickException) -> int:
    """Prints click's message about a command that it could not parse to stderr; returns the exit code."""
    words = io.StringIO()
    error.show(words)
    say(words.getvalue().rstrip("\n"))
    return error.exit_code


def say_warning(message: Warning | str, *_place: object, **_more: object) -> None:
    """Prints a warning as its message alone; takes the place of :func:`warnings.showwarning`."""
    say_fault("warning", f": {message}")
