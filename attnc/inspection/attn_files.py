"""Finds the `.attn` files that a command or a test run means: each once, without ignored ones."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

STDIN = Path("-")


def ignored(path: PurePath, patterns: Iterable[str]) -> bool:
    """Whether a pattern matches a path or a folder above it; the path is relative to the folder that patterns start
    from.

    A pattern with a slash is compared with the path from its beginning, one without with every part of it.
    """
    above = [part.as_posix() for part in (path, *path.parents)]
    for pattern in patterns:
        bare = pattern.strip("/")
        if any(fnmatchcase(name, bare) for name in (above if "/" in bare else path.parts)):
            return True
    return False


def files(paths: Iterable[Path], patterns: Iterable[str] = ()) -> list[Path]:
    """The .attn files among and below ``paths``, each once, even if several links lead to it.

    A file that is named itself is always included; below folders, files that match ``patterns`` are left out.
    """
    given = tuple(patterns)
    found: dict[Path, Path] = {}
    for path in paths:
        if path == STDIN or not path.is_dir():
            found.setdefault(path.resolve(), path)
            continue
        for file in sorted(path.rglob("*.attn")):
            if not ignored(file.relative_to(path), given):
                found.setdefault(file.resolve(), file)
    return list(found.values())
