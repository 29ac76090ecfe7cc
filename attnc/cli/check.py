"""``attnc check``: reports every fault of some files, as text or as JSON.

In the JSON, lines and columns count from 1 and offsets from 0; all count characters (code points), and an end is
exclusive.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .app import FAULT, commands
from .terminal import out, say_diagnostics

if TYPE_CHECKING:
    from ..compiler.diagnostics import Diagnostic, Label, Span

PLACE = ("file", "line", "column", "end_line", "end_column", "start", "end")


@commands.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="json is for editors.")
def check(files: tuple[Path, ...], form: str) -> int:
    """Check .attn files: every fault, with its place. `-` is standard input. Exit code 1 if there is any."""
    from ..compiler.diagnostics import AttnError
    from ..inspection import load, shown_name

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


def document(diagnostics: Iterable[Diagnostic]) -> str:
    """A JSON document, in ASCII: a list of diagnostics, in the order of the files."""
    return json.dumps([described(diagnostic) for diagnostic in diagnostics], indent=2)


def described(diagnostic: Diagnostic) -> dict[str, object]:
    """One diagnostic as a JSON object, placed at its first label; null without one, as for a missing file."""
    primary = diagnostic.primary
    labels = [] if primary is None else [_label(primary, True), *(_label(label, False) for label in diagnostic.related)]
    return {
        "slug": diagnostic.slug,
        "message": diagnostic.message,
        **(dict.fromkeys(PLACE) if primary is None else _place(primary.span)),
        "labels": labels,
        "notes": list(diagnostic.notes),
        "helps": list(diagnostic.helps),
        "edits": [{**_place(edit.span), "text": edit.text} for edit in diagnostic.edits],
    }


def _label(label: Label, primary: bool) -> dict[str, object]:
    return {**_place(label.span), "text": label.text, "primary": primary}


def _place(span: Span) -> dict[str, object]:
    (line, column), (end_line, end_column) = span.position(span.start), span.position(span.end)
    return dict(zip(PLACE, (span.source.name, line, column, end_line, end_column, span.start, span.end), strict=True))
