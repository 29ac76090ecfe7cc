"""What a text uses: grammar rules, words and signs, types, kinds of tables. For the generator's statistics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import lark

from attnc.compiler.diagnostics.diagnostic import Source
from attnc.compiler.syntax.lexer import segments
from attnc.compiler.syntax.make_tables import GRAMMAR, built

TYPES = ("int", "float", "bool", "set", "index")
"""The types of compile-time parameters."""

TABLE_KINDS = (
    "int[]", "float[]", "int[token]", "int[query]", "int[head]", "float[head]", "float[token]", "bool[token]", "tokens",
    "set[]", "set[head]", "set[query]", "set[head, free]", "order[token]", "order[head, token]", "int[head, token]",
    "int[head, free, fixed]", "float[head, fixed]", "float[head, free]", "bool[free, free]",
)  # fmt: skip


@lru_cache(maxsize=1)
def _whole() -> lark.Lark:
    """The grammar as Lark reads it: its parse says which terminal each word was taken for."""
    return built(GRAMMAR.read_text(encoding="utf-8"))


def rules() -> frozenset[str]:
    """Every rule of the grammar that shows in a parse, by its name or alias."""
    found = set()
    for rule in _whole().rules:
        name = rule.alias or rule.origin.name
        collapses = rule.options.expand1 and rule.alias is None and len(rule.expansion) == 1
        if not collapses and not name.startswith("_"):
            found.add(f"rule {name}")
    return frozenset(found)


def words() -> frozenset[str]:
    """Every word and sign of the grammar, each function by its name."""
    whole = _whole()
    found = {f"word {terminal.name}" for terminal in whole.terminals if terminal.name not in whole.ignore_tokens}
    functions = ("abs", "min", "max", "hash", "exp", "log", "tanh", "sqrt", "sigmoid")
    return frozenset(found | {f"function {name}" for name in (*functions, "any", "sum")})


def required() -> frozenset[str]:
    """Everything that random programs must use."""
    types = {f"type {name}" for name in TYPES} | {f"table {name}" for name in TABLE_KINDS}
    return rules() | words() | frozenset(types)


def used(text: str) -> frozenset[str]:
    """Everything that a text uses, by the names of :func:`required`."""
    faults: list[object] = []
    found = {
        feature
        for segment in segments(Source("random", text), faults.append)
        for feature in _of_declaration(text[segment.words[0].start : segment.words[-1].end])
    }
    assert not faults, faults[0]
    return frozenset(found)


def _of_declaration(text: str) -> Iterator[str]:
    raw = _whole().parse(text)
    assert isinstance(raw, lark.Tree)
    for node in raw.iter_subtrees():
        yield f"rule {node.data}"
        for child in node.children:
            if isinstance(child, lark.Token):
                yield f"word {child.type}"
                if child.type in ("FUNCTION", "FOLD"):
                    yield f"function {child}"
        if node.data == "type":
            yield _type("".join(str(token) for token in node.scan_values(lambda _: True)))


def _type(text: str) -> str:
    """A type's name with every size told as fixed or free: ``float[head, 13]`` is ``float[head, fixed]``."""
    if "[" not in text:
        return f"table {text}" if text == "tokens" else f"type {text}"
    element, inside = text.rstrip("]").split("[")
    sizes = [
        "fixed" if size.isdigit() else size if re.fullmatch("token|query|head|", size) else "free"
        for size in inside.split(",")
    ]
    return f"table {element}[{', '.join(sizes)}]"
