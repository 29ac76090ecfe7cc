"""The shipped patterns: their folder, their modules, and the names that these declare."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

SHIPPED = Path(__file__).parents[2] / "patterns"
_DECLARED = re.compile(r"^(?:pattern|attention|model|const) ([A-Za-z_][A-Za-z0-9_]*)", re.MULTILINE)


def shipped_names() -> list[str]:
    """The names of the shipped modules, without the folders that they lie in: ``longformer``, ``neighborhood``."""
    return sorted(_files())


def shipped_file(name: str) -> Path | None:
    """The file of a shipped module, by its name alone or with its folder: ``longformer``, ``text.longformer``."""
    file = _files().get(name.rpartition(".")[2])
    return file if file is not None and name in (file.stem, ".".join(_parts(file))) else None


@lru_cache(maxsize=1)
def _files() -> Mapping[str, Path]:
    """The file of each module: folders sort the files by field, and no two files have the same name."""
    return {file.stem: file for file in SHIPPED.rglob("*.attn")}


def _parts(file: Path) -> tuple[str, ...]:
    return file.relative_to(SHIPPED).with_suffix("").parts


@lru_cache(maxsize=1)
def shipped_declarations() -> Mapping[str, str]:
    """The shipped module that declares each name. Of several, the one that has that name itself, or else the first.

    Found by a regular expression over the formatted texts, without checking them; it is used for suggestions only.
    """
    found: dict[str, str] = {}
    for module in shipped_names():
        text = _files()[module].read_text(encoding="utf-8")
        for name in _DECLARED.findall(text):
            if name not in found or module == name:
                found[name] = module
    return found
