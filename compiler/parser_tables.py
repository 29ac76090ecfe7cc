"""The parser's tables, kept beside the grammar as plain JSON: building them is most of the time that a check takes.

After a change to the grammar ``python -m attnc.compiler.parser_tables > compiler/grammar.json`` makes them anew. They
count only for the very grammar and the very version of Lark that they were made from; for any other they are built.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

GRAMMAR = Path(__file__).parent / "grammar.lark"
TABLES = Path(__file__).parent / "grammar.json"
_NUMBERED = "numbered"  # JSON's keys are texts: what has numbers for keys is a list of pairs under this name


def built(text: str) -> lark.Lark:
    """The parser, from the text of its grammar."""
    return lark.Lark(
        text,
        parser="lalr",
        lexer="contextual",
        start="declaration",
        keep_all_tokens=True,
        maybe_placeholders=False,
    )


def dumped(text: str) -> str:
    """The tables for a grammar, and what they were made from, as JSON."""
    data, memo = built(text).memo_serialize([TerminalDef, Rule])
    return json.dumps({**_made_from(text), "data": _plain(data), "memo": _plain(memo)}, separators=(",", ":")) + "\n"


def loaded(text: str, tables: str) -> lark.Lark | None:
    """The parser, from tables; None where they were made from another grammar or by another Lark."""
    found = json.loads(tables)
    if not isinstance(found, dict) or any(found.get(key) != value for key, value in _made_from(text).items()):
        return None
    # Lark's own way to what it saved, given the tables themselves: of a file it would unpickle them.
    return lark.Lark.__new__(lark.Lark)._load({"data": _numbered(found["data"]), "memo": _numbered(found["memo"])})


def parser() -> lark.Lark:
    """The parser, from the tables beside the grammar if they fit it."""
    text = GRAMMAR.read_text(encoding="utf-8")
    try:
        found = loaded(text, TABLES.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    return found or built(text)


def _made_from(text: str) -> dict[str, str]:
    return {"lark": lark.__version__, "grammar": hashlib.sha256(text.encode()).hexdigest()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if any(isinstance(key, int) for key in value):
            return {_NUMBERED: [[key, _plain(part)] for key, part in value.items()]}
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value


def _numbered(value: Any) -> Any:
    if isinstance(value, dict):
        if _NUMBERED in value:
            return {key: _numbered(part) for key, part in value[_NUMBERED]}
        return {key: _numbered(part) for key, part in value.items()}
    return [_numbered(part) for part in value] if isinstance(value, list) else value


if __name__ == "__main__":
    import sys

    sys.stdout.write(dumped(GRAMMAR.read_text(encoding="utf-8")))
