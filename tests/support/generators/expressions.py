"""Random expressions of the language, directed by type: conditions that say something about a pair, and counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.support.generators import tables
from tests.support.generators.scope import (
    AND,
    ATOM,
    CHOICE,
    COMPARISON,
    NOT,
    OR,
    PRODUCT,
    SUM,
    UNARY,
    File,
    Parameter,
    Scope,
    Text,
    comparison,
    wrap,
)  # fmt: skip
from tests.support.operation_cases import an_opaque, called, taken

__all__ = [
    "CHOICE", "OR", "File", "Parameter", "Scope", "application", "atom", "comparison", "condition", "count", "wrap",
]  # fmt: skip

# -- conditions that say something about a pair --------------------------------------------------------------------


def _window(s: Scope) -> Text:
    size = s.small()
    match s.draw.randrange(5):
        case 0:
            return f"abs(q - k) <= {s.constant(size)}", COMPARISON
        case 1:
            return f"0 <= q - k < {s.constant(size)}", COMPARISON
        case 2:
            return f"{s.constant(size)} > k - q >= {s.constant(-s.small())}", COMPARISON
        case 3:
            return f"max(q, k) - min(q, k) < {s.constant(size)}", COMPARISON
        case _:
            return f"q - k in {-s.small()}..{s.constant(size, SUM)}", COMPARISON


def _periodic(s: Scope) -> Text:
    d = s.divisor()
    match s.draw.randrange(4):
        case 0:
            return f"(q - k) % {s.constant(d, UNARY)} == 0", COMPARISON
        case 1:
            return f"q % {s.constant(d, UNARY)} == k % {s.constant(d, UNARY)}", COMPARISON
        case 2:
            return f"{s.position()} % {s.constant(d, UNARY)} < {s.constant(s.draw.randint(1, d))}", COMPARISON
        case _:
            members = sorted({s.draw.randrange(d) for _ in range(3)})
            return f"{wrap(s.number(1), PRODUCT)} % {s.constant(d, UNARY)} in {s.constant_set(members)}", COMPARISON


def _blocks(s: Scope) -> Text:
    b = s.constant(s.divisor(), UNARY)
    match s.draw.randrange(3):
        case 0:
            return f"q // {b} == k // {b}", COMPARISON
        case 1:
            return f"-1 <= q // {b} - k // {b} <= {s.constant(s.draw.randint(0, 2))}", COMPARISON
        case _:
            return f"q // {b} - k // {b} in {{0, 1, {s.draw.choice(('1 - n // 8', '3..4', '-2'))}}}", COMPARISON


def _prelude(s: Scope) -> Text:
    name, arguments = s.draw.choice(PRELUDE)
    given = [(key, s.constant(max(least, s.small(most)), CHOICE)) for key, least, most in arguments]
    positional = s.draw.choice((len(given), len(given), len(given), 0, 1))
    shown = [value for _, value in given[:positional]] + [f"{key} = {value}" for key, value in given[positional:]]
    if s.chance(0.03):
        return s.file.nested(), ATOM
    called = s.file.prelude(name)
    return (f"{called}({', '.join(shown)})" if shown else called), ATOM


PRELUDE: tuple[tuple[str, tuple[tuple[str, int, int], ...]], ...] = (
    ("causal", ()),
    ("causal", ()),
    ("full", ()),
    ("window", (("size", 1, 0),)),
    ("window", (("size", 2, 12), ("dilation", 1, 4))),
    ("causal_window", (("size", 1, 0),)),
    ("causal_window", (("size", 1, 12), ("dilation", 1, 4))),
    ("band", (("left", 0, 0), ("right", 0, 0))),
    ("first", (("count", 1, 8),)),
    ("blocks", (("size", 1, 16),)),
    ("block_band", (("size", 1, 8), ("left", 0, 2), ("right", 0, 2))),
    ("chunked", (("size", 2, 32),)),
    ("strided", (("stride", 2, 10),)),
    ("fixed", (("stride", 2, 10), ("summary", 1, 3))),
    ("grid_window", (("width", 3, 9), ("rows", 1, 3), ("cols", 1, 3))),
    ("random_blocks", (("size", 1, 8), ("percent", 20, 60), ("seed", 0, 9))),
)


def _member(s: Scope) -> Text:
    kinds = (tables.tokens, tables.tokens, tables.head_sets, tables.query_sets, tables.block_sets)
    held = s.table(s.draw.choice(kinds))
    if held is None:
        return f"{s.position()} in {s.constant_set([s.small(8), s.small()])}", COMPARISON
    name, table = held
    word = "not in" if s.chance(0.08) else "in"
    match table.use:
        case "tokens" if s.chance(0.3):
            return f"{s.file.prelude(s.draw.choice(('sees_all', 'seen_by_all', 'global_tokens')))}({name})", ATOM
        case "tokens":
            return f"{s.draw.choice(('q', 'k', 'k', 'k // 2', 'q - k'))} {word} {name}", COMPARISON
        case "head_sets":
            return f"{s.draw.choice(('k', 'q - k', 'abs(k - q)'))} {word} {name}[head]", COMPARISON
        case "query_sets":
            return f"k {word} {name}[q]", COMPARISON
        case _:
            return f"k // {table.limit} {word} {name}[head, q // {table.limit}]", COMPARISON


def _labelled(s: Scope) -> Text:
    held = s.table(s.draw.choice((tables.labels, tables.labels, tables.head_labels, tables.limits, tables.length)))
    if held is None:
        return comparison(s, 1)
    name, table = held
    q, k = s.token("q"), s.token("k")
    match table.use:
        case "labels":
            forms = (
                f"{name}[{q}] == {name}[{k}]",
                f"{name}[{k}] <= {name}[{q}]",
                f"0 <= {name}[{q}] - {name}[{k}] < 2",
                f"{name}[{k}] != {s.draw.randrange(table.limit)}",
                f"q - k > {name}[{k}] * 3",
            )
            return s.draw.choice(forms), COMPARISON
        case "head_labels":
            return f"{name}[head, {q}] == {name}[head, {k}]", COMPARISON
        case "limits":
            return s.draw.choice((f"k < {name}[q]", f"{name}[q] - 5 <= k < {name}[q]")), COMPARISON
        case _ if s.chance(0.3):
            return f"{s.file.prelude(s.draw.choice(('prefix', 'padded')))}({name})", ATOM
        case _:
            return s.draw.choice((f"k < {name}", f"q >= {name} - 2", f"abs(q - {name}) > k")), COMPARISON


def _measured(s: Scope) -> Text:
    """A float entry, compared."""
    held = s.table(s.draw.choice((tables.level, tables.slopes, tables.weights, tables.biases)))
    if held is None:
        return comparison(s, 1)
    name, table = held
    sign = s.draw.choice(("<", "<=", ">", ">="))
    bound = s.draw.choice(("0.0", "0.25", "-0.5", "1e-1", "2", "-1"))
    if s.chance(0.2):
        bound = s._parameter("float", 0.25, "0.25")
    match table.use:
        case "level":
            return f"{name} {sign} {bound}", COMPARISON
        case "slopes":
            return f"{name}[head] {sign} {bound}", COMPARISON
        case "weights":
            other = f"{name}[{s.token('q')}]"
            return f"{name}[k] {sign} {other if s.chance(0.5) else bound}", COMPARISON
        case _:
            reach = table.limit
            if s.chance(0.5):
                return f"abs(q - k) <= {reach} and {name}[head, k - q + {reach}] {sign} {bound}", AND
            return f"{name}[head, max(-{reach}, min(k - q, {reach})) + {reach}] {sign} {bound}", COMPARISON


def _flagged(s: Scope) -> Text:
    held = s.table(s.draw.choice((tables.flags, tables.block_flags)))
    if held is None:
        return comparison(s, 1)
    name, table = held
    if table.use == "flags":
        place = s.token(s.position())
        return s.draw.choice(((f"{name}[{place}]", ATOM), (f"(q < k) == {name}[{place}]", COMPARISON)))
    return f"{name}[q // {table.limit}, k // {table.limit}]", ATOM


def _ranked(s: Scope) -> Text:
    held = s.table(s.draw.choice((tables.order, tables.head_order)))
    if held is None:
        return comparison(s, 1)
    name, table = held
    before = "head, " if table.use == "head_order" else ""
    q, k = f"{name}[{before}{s.token('q')}]", f"{name}[{before}{s.token('k')}]"
    c = s.constant(table.limit, UNARY)
    if s.chance(0.6):
        return f"{q} // {c} == {k} // {c}", COMPARISON
    return f"{q} // {c} - {k} // {c} in {{0, 1}}", COMPARISON


def _chosen(s: Scope) -> Text:
    held = s.table(tables.choices)
    if held is None:
        return comparison(s, 1)
    name, table = held
    variable = s.file.name("t")
    fold = s.draw.choice(("any", "any", "all"))
    body = f"k // {table.limit} == {name}[head, q // {table.limit}, {variable}]"
    return f"{fold}({body} for {variable} in 0..<{table.dimensions[0]})", ATOM


def _random(s: Scope) -> Text:
    function = an_opaque(s.draw)
    arguments = s.draw.sample(("q // 2", "k // 4", "head", "q - k", "k", "7", "q"), 3)
    number = called(function.op, *taken(function, arguments))
    return f"{number} % {s.constant(10, UNARY)} < {s.constant(s.draw.randint(2, 8))}", COMPARISON


def _folded_condition(s: Scope) -> Text:
    variable = s.file.name("i", "step")
    body = s.draw.choice(
        (
            f"q - k == 2 ** {variable}",
            f"abs(q - k - {variable} * 3) < 2",
            f"(q + {variable}) % 5 != k % 5",
            f"k // 4 - {variable} <= q // 4",
        )
    )
    return f"{s.draw.choice(('any', 'all'))}({body} for {variable} in {s.constant_set([0, 1, 3])})", ATOM


def _equivalent(s: Scope) -> Text:
    return f"({atom(s)[0]}) {s.draw.choice(('==', '!='))} ({atom(s)[0]})", COMPARISON


def _wide(s: Scope) -> Text:
    """Numbers beyond 32 bits."""
    return f"(q * {s.draw.choice((100003, 70001))} + k) * 100000 % {s.constant(s.divisor(), UNARY)} == 0", COMPARISON


def _local(s: Scope) -> Text:
    return (s.draw.choice(s.conditions), ATOM) if s.conditions else _window(s)


def _fixed_condition(s: Scope) -> Text:
    if s.chance(0.5):
        return s._parameter("bool", s.chance(0.5), s.draw.choice(("true", "false"))), ATOM
    return s.draw.choice((("head % 2 == 0", COMPARISON), ("true", ATOM), ("false", ATOM), ("n > 20", COMPARISON)))


def _applied(s: Scope) -> Text:
    if not s.file.applicable:
        return _prelude(s)
    name, parameters = s.draw.choice(s.file.applicable)
    return application(s, name, parameters), ATOM


def application(s: Scope, name: str, parameters: Sequence[Parameter]) -> str:
    """A pattern of this file applied: its own values for constants, its own tables for run-time parameters."""
    shown: list[str] = []
    keyword = False
    for parameter in parameters:
        if parameter.default and s.chance(0.5):
            keyword = True
            continue
        keyword = keyword or s.chance(0.3)
        value = argument(s, parameter)
        shown.append(f"{parameter.name} = {value}" if keyword else value)
    return f"{name}({', '.join(shown)})" if shown else name


def argument(s: Scope, parameter: Parameter) -> str:
    if parameter.index:
        return s.draw.choice(("q // 2", "k // 2", "q", "k", "q - k", "k % 7"))
    if parameter.table is not None:
        return s.hold(parameter.table)[0]
    match parameter.value:
        case bool() as value:
            return str(value).lower()
        case int() as value:
            return s.constant(value, CHOICE)
        case frozenset() as members:
            return "{" + ", ".join(map(str, sorted(members))) + "}"
        case value:
            return str(value)


ATOMS: tuple[Callable[[Scope], Text], ...] = (
    _window, _periodic, _blocks, _prelude, _member, _labelled, _measured, _flagged, _ranked, _chosen, _random,
    _folded_condition, _equivalent, _wide, _local, _fixed_condition, _applied, comparison,
)  # fmt: skip
ATOM_WEIGHTS = (16, 7, 7, 15, 10, 9, 4, 3, 4, 2.5, 4, 2, 2, 0.7, 4, 1.3, 12, 5)


def _divided(s: Scope) -> Text:
    """Numbers by a width that the call gives."""
    held = s.table(tables.divisor)
    if held is None:
        return comparison(s, 1)
    w = held[0]
    forms = (
        f"q // {w} == k // {w}",
        f"abs(q // {w} - k // {w}) <= {s.draw.randrange(3)}",
        f"(q - k) % {w} == {s.draw.randrange(3)}",
        f"min((q - k) % {w}, (k - q) % {w}) < {s.draw.randint(1, 4)}",
        f"{wrap(s.number(1), PRODUCT)} % {w} < {s.draw.randint(1, 6)}",
        f"{wrap(s.number(1), PRODUCT)} // {w} <= {wrap(s.number(1), PRODUCT)}",
    )
    return s.draw.choice(forms), COMPARISON


def _timed(s: Scope) -> Text:
    """What is computed with floats, compared."""
    held = s.table(tables.times)
    if held is None:
        return comparison(s, 1)
    q, k = f"{held[0]}[{s.token('q')}]", f"{held[0]}[{s.token('k')}]"
    sign, bound = (
        s.draw.choice(("<", "<=", ">", ">=", "==", "!=")),
        s.draw.choice(("0.125", "1.5", "2", "-0.5", "10.0")),
    )
    forms = (
        f"abs({q} - {k}) {sign} {bound}",
        f"{q} - {k} {sign} {bound}",
        f"{q} * 0.5 + {bound} {sign} {k}",
        f"{q} * {k} {sign} {bound}",
        f"min({q}, {bound}) {sign} max({k} - 1, -{q})",
        f"-{k} + {bound} {sign} -{q}",
    )
    return s.draw.choice(forms), COMPARISON


NEWER: tuple[Callable[[Scope], Text], ...] = (_divided, _timed)
"""Atoms that only the files of some seeds have: the programs of all others stay what they were."""


def atom(s: Scope) -> Text:
    if s.file.newer and s.chance(0.4):
        return s.draw.choice(NEWER)(s)
    return s.draw.choices(ATOMS, ATOM_WEIGHTS)[0](s)


def condition(s: Scope, depth: int) -> Text:
    """A condition: atoms under union, intersection, complement and choice."""
    if depth <= 0 or s.chance(0.2):
        return atom(s)
    match s.draw.choices(("and", "or", "not", "if"), (8, 9, 1.6, 1.6))[0]:
        case "not":
            return f"not {wrap(condition(s, depth - 1), NOT, s)}", NOT
        case "if":
            then, otherwise = condition(s, depth - 1), condition(s, depth - 1)
            return f"{wrap(then, OR)} if {wrap(condition(s, 0), OR)} else {otherwise[0]}", CHOICE
        case word:
            level = AND if word == "and" else OR
            parts = [condition(s, depth - 1) for _ in range(2 if s.chance(0.8) else 3)]
            return f" {word} ".join(wrap(part, level + 1, s) for part in parts), level


def count(s: Scope, depth: int) -> Text:
    """A pattern in which a pair may count more than once."""
    match s.draw.choices(("plus", "sum", "if", "and"), (6, 3, 1.5, 2))[0]:
        case "sum":
            variable = s.file.name("i", "round")
            bodies = (f"q // 4 == k // 4 + {variable}", f"window(4 * {variable} + 2)", f"k == q - {variable}")
            body = s.draw.choice(bodies)
            body = f"{body} and {wrap(condition(s, 0), NOT)}" if s.chance(0.5) else body
            return f"sum({body} for {variable} in {s.constant_set([0, 1, 2])})", ATOM
        case "if" if depth > 0:
            other = condition(s, depth - 1) if s.chance(0.5) else count(s, depth - 1)
            return f"{wrap(count(s, depth - 1), OR)} if {wrap(condition(s, 0), OR)} else {other[0]}", CHOICE
        case "and" if depth > 0:
            return f"{wrap(condition(s, depth - 1), NOT)} and {wrap(count(s, depth - 1), NOT)}", AND
        case _:
            parts = [wrap(condition(s, depth - 1), PRODUCT) for _ in range(2 if s.chance(0.7) else 3)]
            return " + ".join(parts), SUM
