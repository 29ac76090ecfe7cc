"""The shipped patterns: their folder, their modules, and the names that these declare."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

SHIPPED = Path(__file__).parents[2] / "patterns"
_DECLARED = re.compile(r"^(?:pattern|attention|model|const) ([A-Za-z_][A-Za-z0-9_]*)", re.MULTILINE)


def shipped_names() -> list[str]:
    """The names of the shipped modules, as an import writes them: ``longformer``, ``folder.name``."""
    found = sorted(SHIPPED.rglob("*.attn"))
    return [".".join(path.relative_to(SHIPPED).with_suffix("").parts) for path in found]


@lru_cache(maxsize=1)
def shipped_declarations() -> Mapping[str, str]:
    """The shipped module that declares each name. Of several, the one that has that name itself, or else the first.

    Found by a regular expression over the formatted texts, without checking them; it is used for suggestions only.
    """
    found: dict[str, str] = {}
    for module in shipped_names():
        text = SHIPPED.joinpath(*module.split(".")).with_suffix(".attn").read_text(encoding="utf-8")
        for name in _DECLARED.findall(text):
            if name not in found or module == name:
                found[name] = module
    return found
