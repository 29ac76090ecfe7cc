"""What a text uses: grammar rules, words and signs, types, kinds of tables. For the generator's statistics."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attnc.compiler.diagnostics.diagnostic import Source
from attnc.compiler.syntax.grammar import Token, parser, vocabulary
from attnc.compiler.syntax.lexer import DeclarationTokens, declaration_tokens
from attnc.compiler.syntax.parser import parse_tokens

TYPES = ("int", "float", "bool", "set", "index")
"""The types of compile-time parameters."""

TABLE_KINDS = (
    "int[]", "float[]", "int[token]", "int[query]", "int[head]", "float[head]", "float[token]", "bool[token]", "tokens",
    "set[]", "set[head]", "set[query]", "set[head, free]", "order[token]", "order[head, token]", "int[head, token]",
    "int[head, free, fixed]", "float[head, fixed]", "float[head, free]", "bool[free, free]",
)  # fmt: skip


def rules() -> frozenset[str]:
    """Every rule of the grammar that shows in a parse, by its name or alias."""
    found = set()
    for rule in parser().rules:
        name = rule.alias or rule.origin.name
        collapses = rule.options.expand1 and rule.alias is None and len(rule.expansion) == 1
        if not collapses and not name.startswith("_"):
            found.add(f"rule {name}")
    return frozenset(found)


def words() -> frozenset[str]:
    """Every word and sign of the grammar; numbers, names and pictures by their terminals."""
    ignored = parser().ignore_tokens
    return frozenset(
        f"word {text}"
        for terminal, texts in vocabulary().spellings.items()
        for text in texts or (terminal,)
        if terminal not in ignored
    )


def required() -> frozenset[str]:
    """Everything that random programs must use."""
    types = {f"type {name}" for name in TYPES} | {f"table {name}" for name in TABLE_KINDS}
    return rules() | words() | frozenset(types)


def used(text: str) -> frozenset[str]:
    """Everything that a text uses, by the names of :func:`required`."""
    faults: list[object] = []
    found = {
        feature
        for declaration in declaration_tokens(Source("random", text), faults.append)
        for feature in _of_declaration(declaration)
    }
    assert not faults, faults[0]
    return frozenset(found)


def _of_declaration(declaration: DeclarationTokens) -> Iterator[str]:
    known = vocabulary().types
    for node in parse_tokens(declaration).iter_subtrees():
        yield f"rule {node.data}"
        for child in node.children:
            if isinstance(child, Token):
                yield f"word {child.value if child.type == known.get(child.value) else child.type}"
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
