"""`attnc fmt`: lays out files in place, or only checks them; lays out standard input to standard output."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import click

from .app import FAULT, commands
from .terminal import out, out_text, say_diagnostics


@commands.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--check", "only_look", is_flag=True, help="Write nothing; name the files that would change.")
def fmt(paths: tuple[Path, ...], only_look: bool) -> int:
    """Lay out .attn files, and those in folders. `-` is standard input, laid out to standard output.

    Exit code 1 if a file cannot be read, and with --check if one would change.
    """
    from ..compiler.diagnostics import AttnError
    from ..inspection import STDIN, InputError, files, shown_name

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


def laid_out_file(path: Path, only_look: bool) -> bool:
    """Lays a file out and returns whether that changes it. Writes only if it does, and never with ``only_look``.

    AttnError for a file that cannot be read or parsed. Then, and if writing fails, the file stays as it was.
    """
    from ..compiler.formatter import formatted
    from ..compiler.modules import read

    after = formatted(read(path, str(path)).text, str(path)).encode()
    changed = after != path.read_bytes()
    if changed and not only_look:
        _replace(path.resolve(), after)
    return changed


def laid_out_input() -> tuple[bytes, bool]:
    """Standard input laid out, and whether that changed it. AttnError for a text that cannot be read or parsed."""
    from ..compiler.formatter import formatted
    from ..compiler.syntax import decode
    from ..inspection import INPUT_NAME, standard_input

    before = standard_input()
    after = formatted(decode(before, INPUT_NAME), INPUT_NAME).encode()
    return after, after != before


def _replace(path: Path, data: bytes) -> None:
    """Replaces a file's contents atomically, and keeps its permissions."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    fresh = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        shutil.copymode(path, fresh)
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
