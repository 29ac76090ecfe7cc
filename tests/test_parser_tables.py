"""The tables kept beside the grammar: made from it, the same as built ones, and never trusted for another grammar."""

from __future__ import annotations

import json
from typing import Any

import lark
import pytest

from attnc.compiler import parser_tables
from attnc.compiler.parser_tables import GRAMMAR, TABLES, built, loaded, parser

TEXT = GRAMMAR.read_text(encoding="utf-8")


def automaton(tables: lark.Lark) -> dict[int, dict[str, Any]]:
    """The parser's states, numbered in the order in which its words lead to them from the first."""
    table = tables.parser.parser._parse_table  # type: ignore[attr-defined]
    numbers = {table.start_states["declaration"]: 0}
    queue, found = list(numbers), {}
    for state in queue:  # grows while it is walked
        actions = {}
        for word, (action, target) in sorted(table.states[state].items()):
            if str(action) == "Shift":
                if target not in numbers:
                    numbers[target] = len(numbers)
                    queue.append(target)
                actions[word] = ("shift", numbers[target])
            else:
                actions[word] = ("reduce", str(target), target.alias, repr(target.options))
        found[numbers[state]] = actions
    return found


def spelled(tables: lark.Lark) -> dict[str, tuple[str, str, list[str], int]]:
    """How each word is written."""
    return {
        terminal.name: (
            type(terminal.pattern).__name__, terminal.pattern.value, sorted(terminal.pattern.flags), terminal.priority
        )
        for terminal in tables.terminals
    }  # fmt: skip


def test_the_tables_are_those_of_the_grammar() -> None:
    kept, fresh = loaded(TEXT, TABLES.read_text(encoding="utf-8")), built(TEXT)
    if kept is None:
        assert json.loads(TABLES.read_text(encoding="utf-8"))["lark"] != lark.__version__, "make the tables anew"
        kept = loaded(TEXT, parser_tables.dumped(TEXT))
    assert kept is not None
    assert len(automaton(fresh)) > 300
    assert automaton(kept) == automaton(fresh)
    assert spelled(kept) == spelled(fresh)
    assert sorted(map(str, kept.rules)) == sorted(map(str, fresh.rules))
    assert vars(kept.options) == vars(fresh.options)


def test_a_grammar_of_another_text_or_lark_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = parser_tables.dumped(TEXT)
    assert loaded(TEXT, tables) is not None
    assert loaded(TEXT + "\n", tables) is None
    monkeypatch.setattr(lark, "__version__", "0.0")
    assert loaded(TEXT, tables) is None
    assert parser().parse("pattern p = q in g") == built(TEXT).parse("pattern p = q in g")


@pytest.mark.parametrize("tables", [None, "", "{", "[]", "{}"])
def test_tables_that_are_missing_or_broken_are_built(
    tables: str | None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "grammar.json"
    if tables is not None:
        file.write_text(tables)
    monkeypatch.setattr(parser_tables, "TABLES", file)
    assert parser().parse("pattern p = causal") == built(TEXT).parse("pattern p = causal")
