"""Lowered expressions spread over the stages at which their parts are known: a head, a query, a key, a pair.

So a pair computes only what changes with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .. import Code, Lowered, Statement

Stage = Literal["head", "row", "key", "pair"]

_SINGLE = {"int": "Int", "float": "Real", "bool": "bool", "count": "Int"}
_VECTOR = {"int": "Ints", "float": "Reals", "bool": "Bools", "count": "Ints"}
_NAME = re.compile(r"\bt\d+\b")


@dataclass(frozen=True)
class Straight:
    """Statements for one pair, and what they give."""

    statements: tuple[Code, ...]
    result: Code


class Stages:
    """Lowered expressions, each statement at its stage, every name spelled as its user sees it."""

    def __init__(self, lowered: Lowered, results: Sequence[str]) -> None:
        self._by_name = {statement.name: statement for statement in lowered.statements}
        self._stage: dict[str, Stage] = {s.name: _stage(s.depends) for s in lowered.statements}
        self._fields = self._shared(lowered, results)
        self._statements = lowered.statements

    def _shared(self, lowered: Lowered, results: Sequence[str]) -> frozenset[str]:
        """Names that another stage than their own wants."""
        shared = {name for text in results for name in _NAME.findall(text)}
        for statement in lowered.statements:
            used = _NAME.findall(statement.text)
            shared |= {name for name in used if self._stage[name] != self._stage[statement.name]}
        return frozenset(name for name in shared if self._stage[name] != "pair")

    def spelled(self, text: str) -> Code:
        def name(match: re.Match[str]) -> str:
            return f"{self._stage[match[0]]}.{match[0]}" if match[0] in self._fields else match[0]

        return Code(_NAME.sub(name, text))

    def fields(self, stage: Stage) -> tuple[Code, ...]:
        here = (s for s in self._statements if s.name in self._fields and self._stage[s.name] == stage)
        return tuple(Code(f"{_declared(s)} {s.name};") for s in here)

    def statements(self, stage: Stage) -> tuple[Code, ...]:
        return tuple(self._line(s) for s in self._statements if self._stage[s.name] == stage)

    def _line(self, statement: Statement) -> Code:
        target = self.spelled(statement.name) if statement.name in self._fields else None
        start = target if target is not None else f"const {_declared(statement)} {statement.name}"
        return Code(f"{start} = {self.spelled(statement.text)};")

    def pair(self, *results: str) -> tuple[Code, ...]:
        """The statements of a pair that some results need, in order."""
        wanted: set[str] = set()
        stack = [name for text in results for name in _NAME.findall(text)]
        while stack:
            name = stack.pop()
            if name not in wanted and self._stage[name] == "pair":
                wanted.add(name)
                stack.extend(_NAME.findall(self._by_name[name].text))
        return tuple(self._line(s) for s in self._statements if s.name in wanted)

    def straight(self, result: str) -> Straight:
        return Straight(self.pair(result), self.spelled(result))


def _stage(depends: frozenset[str]) -> Stage:
    if not depends:
        return "head"
    if depends == {"q"}:
        return "row"
    return "key" if depends == {"k"} else "pair"


def _declared(statement: Statement) -> str:
    return (_VECTOR if statement.depends & {"q", "s"} else _SINGLE)[statement.type]
