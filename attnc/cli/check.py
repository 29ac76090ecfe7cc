"""Diagnostics for programs: what `attnc check --format json` prints.

Lines and columns count from 1, offsets from 0; all count characters (code points), and an end is behind the last one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from ..compiler.diagnostics import Diagnostic, Label, Span

PLACE = ("file", "line", "column", "end_line", "end_column", "start", "end")


def document(diagnostics: Iterable[Diagnostic]) -> str:
    """One JSON document, in ASCII for whatever reads it: a list of diagnostics, in the order of the files."""
    return json.dumps([described(diagnostic) for diagnostic in diagnostics], indent=2)


def described(diagnostic: Diagnostic) -> dict[str, object]:
    """One diagnostic. Its place is that of its first label; null where a fault has none, as that of a missing file."""
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
