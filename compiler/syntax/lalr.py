"""The words of one declaration, read by the tables of the grammar: shifts and reductions, and nothing built in between.

The tables are Lark's (:mod:`.make_tables`), and what is read, what is refused and what would have fitted are
as Lark's own parser has them. A word is first what the place allows: ``causal`` a name, or a claim where no name fits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeAlias

from .lexer import RESERVED, Word

TABLES = Path(__file__).parent / "grammar.json"
END = "$END"

Piece: TypeAlias = Any  # a word, or what a rule made of its pieces
Make: TypeAlias = Callable[[list[Piece]], Piece]
Key: TypeAlias = tuple[int, str, str]

_REFUSED = 1 << 20  # beyond every state
_DONE = _REFUSED + 1
_KINDS = {"word": "NAME", "text": "TEXT"}
# Where `1.5` does not fit, but `1` would, it is what follows the `1` that is refused.
_SHORTER = {"..": ".", "..<": ".", "**": "*", "==": "=", "//": "/", "<=": "<", ">=": ">"}


class Refused(Exception):  # noqa: N818 - never leaves the parser
    """The word at ``index`` does not fit, or past the last word the end, after what led to ``states``."""

    def __init__(self, index: int, states: list[int]) -> None:
        super().__init__(index)
        self.index, self.states = index, states

    @property
    def expected(self) -> frozenset[str]:
        """The terminals that would fit: not all that a state knows, for it may reduce and refuse then."""
        found, states = tables(), self.states
        return frozenset(word for word in found.rows[states[-1]] if _after(found, states, word) is not None)


@dataclass(frozen=True)
class Rule:
    """``name``: of what it makes; empty where its only part stands for it. ``lists``: its parts that are lists, whose
    pieces are taken one by one. ``repeats``: it makes such a list.
    """

    symbol: str
    name: str
    parts: tuple[str, ...]
    lists: frozenset[int]
    repeats: bool


@dataclass(frozen=True)
class Tables:
    """``rows`` and ``gotos``: for each state, where a word or a symbol leads; below 0 a rule to reduce by."""

    rules: tuple[Rule, ...]
    rows: tuple[Mapping[str, int], ...]
    gotos: tuple[Mapping[str, int], ...]
    end: int
    spelling: Mapping[str, tuple[str, ...]]  # what a terminal is in the text, where it is one of few words
    terminals: Mapping[str, str]  # and what such a word is
    # What reducing takes, from the end as the actions count: how many pieces, the symbol, and where lists are among the
    # pieces: None for nowhere, empty for a list that repeats itself.
    reductions: tuple[tuple[int, str, frozenset[int] | None], ...]
    settled: dict[Key, tuple[int, int]] = field(default_factory=dict)

    def settle(self, key: Key) -> tuple[int, int]:
        """A symbol on a state, before a word: the state, and the action, once every rule that makes nothing is done."""
        below, symbol, terminal = key
        while True:
            state = self.gotos[below][symbol]
            if terminal == END and state == self.end:
                found = state, _DONE
                break
            action = self.rows[state].get(terminal, _REFUSED)
            if action >= 0 or self.rules[-1 - action].name:
                found = state, action
                break
            symbol = self.rules[-1 - action].symbol
        self.settled[key] = found
        return found


@lru_cache(maxsize=1)
def tables() -> Tables:
    """The tables beside the grammar, read once for each process, at the first text."""
    data = json.loads(TABLES.read_text(encoding="utf-8"))
    rules = tuple(_rule(*entry) for entry in data["rules"])
    rows, gotos = data["rows"], data["gotos"]
    words = {terminal: tuple(several) for terminal, several in data["words"].items()}
    return Tables(
        rules,
        tuple(rows[row] for row, _ in data["states"]),
        tuple(gotos[row] for _, row in data["states"]),
        data["end"],
        words,
        {word: terminal for terminal, several in words.items() for word in several},
        tuple((len(rule.parts), rule.symbol, _places(rule)) for rule in reversed(rules)),
    )


def _rule(symbol: str, name: str, parts: list[str]) -> Rule:
    lists = frozenset(place for place, part in enumerate(parts) if part.startswith("__") and not part.isupper())
    return Rule(symbol, name, tuple(parts), lists, symbol.startswith("__"))


def _places(rule: Rule) -> frozenset[int] | None:
    return frozenset() if rule.repeats and rule.lists else rule.lists or None


@dataclass(frozen=True, eq=False, slots=True)
class Branch:
    """What a rule took, as it stands: the tree of the words themselves."""

    name: str
    pieces: list[Piece]


def makers(make: Callable[[str], Make]) -> tuple[Make, ...]:
    """What each rule does with its pieces, the last rule first: ``make`` says so by the rule's name, if it has one."""
    return tuple(
        _as_they_are if rule.repeats else make(rule.name) if rule.name else itemgetter(0)
        for rule in reversed(tables().rules)
    )


def _as_they_are(pieces: list[Piece]) -> list[Piece]:
    return pieces


@lru_cache(maxsize=1)
def _branches() -> tuple[Make, ...]:
    return makers(lambda name: partial(Branch, name))


def branches(words: Sequence[Word], text: str) -> Branch:
    """The tree of a declaration's words. Raises Refused where one does not fit."""
    found: Branch = read(words, text, _branches())
    return found


def read(words: Sequence[Word], text: str, make: Sequence[Make]) -> Piece:
    """What the rules make of a declaration, whose words stand in ``text``. Raises Refused where one does not fit."""
    found = tables()
    rows, settled, terminals, reductions = found.rows, found.settled, found.terminals, found.reductions
    states: list[int] = [0]
    values: list[Piece] = []
    index, count = 0, len(words)
    while True:
        row = rows[states[-1]]
        terminal = END
        if index < count:
            word = words[index]
            kind, spelt, start, _ = word
            terminal = terminals.get(spelt) or (_class(word) if kind != "word" else "NAME")
            if terminal not in row or terminal == "NOT":
                terminal = _here(row, terminal, words, index, text)
        action = row.get(terminal, _REFUSED)
        while action < 0:
            size, symbol, lists = reductions[action]
            pieces = values[-size:]
            del values[-size:], states[-size:]
            if lists is not None:
                pieces = _joined(pieces, lists)
            values.append(make[action](pieces))
            key = states[-1], symbol, terminal
            state, action = settled.get(key) or found.settle(key)
            states.append(state)
        if action == _DONE:
            return values[-1]
        if action == _REFUSED:
            raise Refused(index, _begun(found, states, words[index : index + 1]))
        states.append(action)
        if terminal == "NOT_IN":
            index += 1
            word = Word("word", "not in", start, words[index].end)
        values.append(word)
        index += 1


def _class(word: Word) -> str:
    if word.kind == "number":
        return "INT" if word.text.isdigit() else "FLOAT"
    return _KINDS[word.kind]


def _here(row: Mapping[str, int], terminal: str, words: Sequence[Word], index: int, text: str) -> str:
    """What a word is where what it mostly is may not stand: any but a reserved word is a name, ``not in`` is one."""
    word = words[index]
    if terminal == "NOT" and "NOT_IN" in row and index + 1 < len(words):
        following = words[index + 1]
        if following.text == "in" and text[word.end : following.start].isspace():
            return "NOT_IN"
    if word.kind == "word" and word.text not in RESERVED and "NAME" in row:
        return "NAME"
    return terminal


def _joined(pieces: list[Piece], lists: frozenset[int]) -> list[Piece]:
    """The pieces with those of lists in their places; a list that repeats itself grows where it is."""
    if not lists:
        first: list[Piece] = pieces[0]
        first.extend(pieces[1:])
        return first
    joined: list[Piece] = []
    for place, piece in enumerate(pieces):
        if place in lists:
            joined.extend(piece)
        else:
            joined.append(piece)
    return joined


# Where a word is refused


def _after(found: Tables, states: list[int], terminal: str) -> list[int] | None:
    """The states after one more word; None where it is refused."""
    states = states.copy()
    action = found.rows[states[-1]].get(terminal, _REFUSED)
    while action < 0:
        rule = found.rules[-1 - action]
        del states[-len(rule.parts) :]
        state, action = found.settle((states[-1], rule.symbol, terminal))
        states.append(state)
    return None if action == _REFUSED else [*states, action]


def _begun(found: Tables, states: list[int], words: Sequence[Word]) -> list[int]:
    """The states after the part of the refused word that is a word by itself and fits, if there is one."""
    if not words:
        return states
    word = words[0]
    terminal = "INT" if word.kind == "number" else found.terminals.get(_SHORTER.get(word.text, ""))
    return (None if terminal is None else _after(found, states, terminal)) or states
