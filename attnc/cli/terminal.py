"""The way to a terminal: everything that a command prints goes through here, and nothing from outside acts on it.

What imports this imports no numbers and no drawing: the commands that read a text start with it.
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
    """Whether a stream is a terminal that knows escape sequences: one that draws a line again, if asked to."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def coloured(stream: TextIO) -> bool:
    """Whether a stream may have colours: a terminal that knows them, and nobody said ``NO_COLOR``."""
    return moves(stream) and not os.environ.get("NO_COLOR")


def out(text: str, tints: Iterable[str] = ()) -> None:
    """A result, to stdout. Of escape sequences only ``tints`` remain: the colours that the caller put in itself."""
    own = [re.escape(tint) for tint in tints]
    parts: Sequence[str] = re.split(f"({'|'.join(own)})", text) if own else [text]
    click.echo("".join(part if at % 2 else visible(part) for at, part in enumerate(parts)), color=bool(own))


def out_text(data: bytes) -> None:
    """A text as the result of a command: to a terminal neutralised, and anywhere else byte for byte."""
    if sys.stdout.isatty():
        click.echo(visible(data.decode("utf-8", "surrogateescape")), nl=False, color=False)
    else:
        click.echo(data, nl=False)


def say(text: str) -> None:
    """One message to stderr."""
    click.echo(visible(text), err=True, color=False)


def say_fault(head: str, rest: str) -> None:
    """What is wrong, to stderr, with its first words in red."""
    painted = coloured(sys.stderr)
    styled = click.style(head, fg="red", bold=True) if painted else head
    click.echo(f"{styled}{visible(rest)}", err=True, color=painted)


def say_diagnostics(diagnostics: Iterable[Diagnostic], more: bool = False) -> None:
    """Faults of a text, to stderr, with a line between them, and one after them where there may come ``more``."""
    from ..compiler.diagnostics import render

    for number, diagnostic in enumerate(diagnostics):
        if number:
            say("")
        head, colon, rest = render(diagnostic).partition(":")
        say_fault(head, colon + rest)
    if more:
        say("")


def say_usage(error: click.ClickException) -> int:
    """What click has to say of a command that it could not read, to stderr; the exit code."""
    words = io.StringIO()
    error.show(words)
    say(words.getvalue().rstrip("\n"))
    return error.exit_code


def say_warning(message: Warning | str, *_place: object, **_more: object) -> None:
    """In the place of :func:`warnings.showwarning`: the message alone."""
    say_fault("warning", f": {message}")
