"""Finds and reads imported modules: beside the file that imports them, then among the shipped ones, nowhere else."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path

from ..checker import SHIPPED, shipped_file, shipped_names
from ..diagnostics import AttnError, Diagnostic, ErrorCollector, Source, Suggestion, at, limits, shortened
from ..syntax import decode
from ..syntax import tree as t


class MissingFileError(AttnError, FileNotFoundError):
    """There is no file at a path; also a FileNotFoundError."""


@dataclass(frozen=True)
class Place:
    """The file of a module, and the ``name`` that errors give it; ``shipped``: it is one of attnc's own."""

    path: Path
    name: str
    shipped: bool


def read(path: Path, name: str) -> Source:
    """Read a file of text. Raises MissingFileError, an AttnError, if there is none, and other AttnErrors.

    Those are for what is no regular file, cannot be read, is too long or is not UTF-8. ``name`` is that of the file in
    error messages.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise AttnError([Diagnostic("unreadable-file", f"{name} is not a file of text")])
        if status.st_size > limits.BYTES:
            data = b"\0" * (limits.BYTES + 1)  # `decode` refuses it for its length
        else:
            with path.open("rb") as file:
                data = file.read(limits.BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFileError([Diagnostic("missing-file", f"there is no file {name}")]) from None
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise AttnError([Diagnostic("unreadable-file", f"{name} cannot be read: {reason}")]) from None
    return Source(name, decode(data, name))


def find(node: t.Import, folder: Path | None, shipped: bool, reports: ErrorCollector) -> Place | None:
    """Search for the file of an imported module: in ``folder``, if given, then among the shipped modules.

    ``shipped``: ``folder`` holds shipped modules itself. None after reporting that there is no such file, or that it is
    a symbolic link out of its folder.
    """
    parts = [part.name for part in node.module]
    relative = Path(*parts).with_suffix(".attn")
    span = node.module[0].span
    span = type(span)(span.source, span.start, node.module[-1].span.end)
    candidates = [] if folder is None else [(folder, folder / relative, shipped)]
    known = shipped_file(".".join(parts))
    if known is not None:
        candidates.append((SHIPPED, known, True))
    for root, path, root_is_shipped in candidates:
        try:
            if not path.is_file():
                continue
            inside = path.resolve().is_relative_to(root.resolve())
        except (OSError, RuntimeError):
            continue
        if not inside:
            message = f"`{'.'.join(parts)}` is a link that leads out of its folder"
            reports.add(Diagnostic("import-outside", message, at(span)))
            return None
        return Place(path, path.relative_to(root).as_posix(), root_is_shipped)
    message = f"there is no module `{shortened('.'.join(parts))}`"
    beside = "beside the file, then " if folder is not None else ""
    notes = (f"looked for {shortened(relative.as_posix())} {beside}among the shipped patterns",)
    helps, edits = Suggestion() if reports.full else reports.meant(".".join(parts), shipped_names(), span)
    reports.add(Diagnostic("unknown-module", message, at(span), notes=notes, helps=helps, edits=edits))
    return None
