"""The shipped patterns: where they are, and which of them declares a name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

SHIPPED = Path(__file__).parents[2] / "patterns"
_DECLARED = re.compile(r"^(?:pattern|attention|model|const) ([A-Za-z_][A-Za-z0-9_]*)", re.MULTILINE)


def shipped_names() -> list[str]:
    """The modules among the shipped patterns, as an import writes them."""
    found = sorted(SHIPPED.rglob("*.attn"))
    return [".".join(path.relative_to(SHIPPED).with_suffix("").parts) for path in found]


@lru_cache(maxsize=1)
def shipped_declarations() -> Mapping[str, str]:
    """The module of each name that a shipped one declares; of several the one that is called like it, or the first.

    Read off the texts as they are laid out, and not checked: it serves advice.
    """
    found: dict[str, str] = {}
    for module in shipped_names():
        text = SHIPPED.joinpath(*module.split(".")).with_suffix(".attn").read_text(encoding="utf-8")
        for name in _DECLARED.findall(text):
            if name not in found or module == name:
                found[name] = module
    return found
