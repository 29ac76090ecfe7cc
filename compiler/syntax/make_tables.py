"""The parser's tables, made from the grammar by Lark and kept beside it as JSON: reading a text needs no Lark.

After a change to the grammar run ``python -m attnc.compiler.syntax.make_tables``, its output into grammar.json.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lark
from lark.lexer import TerminalDef

GRAMMAR = Path(__file__).parent / "grammar.lark"
START = "declaration"
_UNTOLD = {"RANGE": ("..", "..<"), "NOT_IN": ("not in",), "TEXT": ('"""',), "INT": (), "FLOAT": (), "NAME": ()}


def built(text: str) -> lark.Lark:
    """Lark's own parser for a grammar."""
    return lark.Lark(
        text,
        parser="lalr",
        lexer="contextual",
        start=START,
        keep_all_tokens=True,
        maybe_placeholders=False,
    )


def dumped(text: str) -> str:
    """The tables for a grammar as JSON, as :mod:`compiler.syntax.lalr` reads them.

    ``words``: what a terminal is in the text, by its name, where the text says it by itself. ``rules``: name of the
    symbol, name of what it becomes (empty where its only part stands for it), symbols of its parts. ``states``, the
    first at 0: number of a row of words and of a row of symbols. ``rows`` of words: the state to go to, or for
    reducing rule r the number -1 - r. ``gotos``, rows of symbols: the state to go to. ``end``: the state at the end.
    """
    whole = built(text)
    table = whole.parser.parser._parse_table
    numbers = _numbered(table)
    rules = {rule: number for number, rule in enumerate(sorted(_reduced(table), key=str))}
    rows: dict[str, int] = {}
    gotos: dict[str, int] = {}
    states = [
        [_number(_row(table.states[state], True, numbers, rules), rows),
         _number(_row(table.states[state], False, numbers, rules), gotos)]
        for state in numbers
    ]  # fmt: skip
    parts = {
        "words": {terminal.name: _spelled(terminal) for terminal in sorted(whole.terminals, key=lambda t: str(t.name))
                  if terminal.name not in whole.ignore_tokens},
        "rules": [_rule(rule) for rule in rules],
        "states": states,
        "rows": [json.loads(row) for row in rows],
        "gotos": [json.loads(row) for row in gotos],
        "end": numbers[table.end_states[START]],
    }  # fmt: skip
    lines = (f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in parts.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _numbered(table: Any) -> dict[int, int]:
    """The states in the order in which words and symbols lead to them from the first: the same for every process."""
    numbers = {table.start_states[START]: 0}
    queue = list(numbers)
    for state in queue:  # grows while it is walked
        for _, (action, target) in sorted(table.states[state].items()):
            if _shifts(action) and target not in numbers:
                numbers[target] = len(numbers)
                queue.append(target)
    return numbers


def _shifts(action: object) -> bool:
    return str(action) == "Shift"


def _reduced(table: Any) -> set[Any]:
    return {target for row in table.states.values() for action, target in row.values() if not _shifts(action)}


def _row(row: dict[str, Any], words: bool, numbers: dict[int, int], rules: dict[Any, int]) -> str:
    found = {
        symbol: numbers[target] if _shifts(action) else -1 - rules[target]
        for symbol, (action, target) in sorted(row.items())
        if symbol.isupper() == words
    }
    return json.dumps(found)


def _number(row: str, known: dict[str, int]) -> int:
    return known.setdefault(row, len(known))


def _rule(rule: Any) -> list[Any]:
    passes = rule.options.expand1 and rule.alias is None and len(rule.expansion) == 1
    name = "" if passes else str(rule.alias or rule.origin.name)
    return [str(rule.origin.name), name, [str(symbol.name) for symbol in rule.expansion]]


def _spelled(terminal: TerminalDef) -> list[str]:
    """What a terminal is in the text, where it is one of few words or signs."""
    if terminal.name in _UNTOLD:
        return list(_UNTOLD[terminal.name])
    if terminal.pattern.type == "str":
        return [str(terminal.pattern.value)]
    return list(_alternatives(terminal.pattern.value))


def _alternatives(pattern: str) -> Iterator[str]:
    found = re.fullmatch(r"\(?([a-z|]+)\)?\\b", pattern)
    if found is None:
        raise ValueError(f"{pattern}: a terminal is words of small letters, or named in {__name__}")
    yield from found[1].split("|")


if __name__ == "__main__":
    sys.stdout.write(dumped(GRAMMAR.read_text(encoding="utf-8")))
