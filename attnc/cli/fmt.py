"""`attnc fmt`: files laid out in place, or looked at only; standard input laid out to standard output."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from ..compiler.formatter import formatted
from ..compiler.modules import read
from ..compiler.syntax import decode
from ..inspection import INPUT_NAME, standard_input


def laid_out_file(path: Path, only_look: bool) -> bool:
    """Lay a file out; whether that changes it. Nothing is written where it does not, or where ``only_look`` says so.

    AttnError for what cannot be read; the file stays as it was then, and whenever writing fails.
    """
    after = formatted(read(path, str(path)).text, str(path)).encode()
    changed = after != path.read_bytes()
    if changed and not only_look:
        _replace(path.resolve(), after)
    return changed


def laid_out_input() -> tuple[bytes, bool]:
    """Standard input laid out, and whether that changed it. AttnError for what cannot be read."""
    before = standard_input()
    after = formatted(decode(before, INPUT_NAME), INPUT_NAME).encode()
    return after, after != before


def _replace(path: Path, data: bytes) -> None:
    """The whole new contents or the whole old ones, whatever happens; the file's permissions stay."""
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
