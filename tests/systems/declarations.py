"""The declarations of all shipped files, each ready to be called: against the dense definition and the support test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import attnc
from attnc.compiler.diagnostics import ErrorCollector
from attnc.compiler.ir import Expr
from attnc.compiler.modules import load_shipped
from attnc.compiler.syntax import parse
from attnc.compiler.syntax import tree as t
from attnc.inspection import read_literal
from attnc.testing import Shape, assert_matches_reference, assert_support
from tests.systems.all_systems import gallery

APPLICABLE = ("pattern", "attention", "model")
TABLES: Mapping[str, Mapping[str, Callable[[Shape], Any]]] = {}
"""Contents of tables where those that would be made up say little, by file and declaration: a function of the sizes."""
MOST = 3
"""How many bindings of a declaration are compared with kernels: the first, the last, and those between."""
DOUBLE = frozenset({"reformer:reformer", "reformer:reformer_causal", "reformer:reformer_enwik8"})
"""Declarations whose random input is in float64: beside a logit of -100,000, float32 loses the logarithm of a count."""


@dataclass(frozen=True)
class Declared:
    """One declaration of one shipped file."""

    file: str
    name: str

    def __str__(self) -> str:
        return f"{self.file}:{self.name}"


@dataclass(frozen=True)
class Bound:
    """A declaration with its constants as a test of its own file has them; ``title`` says which."""

    title: str
    attention: attnc.Attention
    heads: int


def declared() -> Iterator[Declared]:
    """Every pattern, attention and model of the gallery, but for patterns that only others can apply."""
    for file in gallery():
        for declaration in load_shipped(file).declarations.values():
            within = any(parameter.type.element == "index" for parameter in declaration.parameters)
            if declaration.kind in APPLICABLE and not within:
                yield Declared(file, declaration.name)


def bound(subject: Declared, several: bool = False) -> tuple[Bound, ...]:
    """The declaration as the first test of its file binds it, whose constants are small; with ``several`` also
    as other tests do, and of a model in other layers, MOST in all that keep different pairs.
    """
    found: dict[tuple[Expr, int], Bound] = {}
    bind = attnc.load(subject.file)[subject.name]
    for test in _tests(subject.file):
        if test.application.name.name != subject.name:
            continue
        made = bind(**_constants(subject, test))
        title = _text(test.application)
        settings: dict[str, Any] = {one.name.name: read_literal(_text(one.value)) for one in test.settings or ()}
        layers = made.layers if isinstance(made, attnc.Model) else (made,)
        asked = settings.get("layer", 0) if len(layers) > 1 else 0
        for layer, attention in enumerate(layers):
            heads = attention._bound.heads or settings.get("heads", 1)
            one = Bound(f"{title}, layer {layer}", attention, heads if heads > 1 else 2)
            if several or layer == asked:
                found.setdefault((attention._bound.mask, one.heads), one)
        if not several:
            break
    every = tuple(found.values())
    return (
        every if len(every) <= MOST else tuple(every[place * (len(every) - 1) // (MOST - 1)] for place in range(MOST))
    )


@lru_cache(maxsize=4)
def _tests(file: str) -> tuple[t.Test, ...]:
    """The tests of a shipped file; those of one length first."""
    reports = ErrorCollector()
    tree = parse(load_shipped(file).source, reports)
    found = [node for node in tree.declarations if isinstance(node, t.Test)]
    return tuple(sorted(found, key=lambda test: test.settings is None))


def _constants(subject: Declared, test: t.Test) -> dict[str, Any]:
    """The arguments of a test that are bound at compile time."""
    parameters = load_shipped(subject.file).declarations[subject.name].parameters
    known = {parameter.name: parameter for parameter in parameters}
    named = [
        (argument.keyword.name if argument.keyword else parameters[place].name, _text(argument.value))
        for place, argument in enumerate(test.application.arguments)
    ]
    return {name: read_literal(text) for name, text in named if known[name].compile_time}


def _text(node: t.Expression | t.Application) -> str:
    return node.span.source.text[node.span.start : node.span.end]


def check(subject: Declared, one: Bound) -> None:
    """Compares kernels with the definition on the executor that ``attnc.settings`` chooses: pair by pair, forward and
    backward, and on random input. AssertionError where they differ.
    """
    shared = one.heads // 2 if one.heads % 2 == 0 else one.heads
    grouped = Shape(65, batch=2, heads=one.heads, kv_heads=shared)
    later = Shape(130, m=70, heads=one.heads, q_start=60, head_dim=24, value_dim=8)
    given = {name: make for name, make in TABLES.get(str(subject), {}).items() if name in one.attention.tables}
    assert_support(one.attention, shapes=(grouped, later), **given)
    dtype = "float64" if str(subject) in DOUBLE else "float32"
    assert_matches_reference(one.attention, shapes=(grouped,), dtypes=(dtype,), **given)
