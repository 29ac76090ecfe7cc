"""Random expressions of the language, directed by type: conditions that say something about a pair, numbers, counts.

An expression is text with the level at which it binds, so that parentheses stand where they must, and now and then
where they need not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from . import generate_tables as tables
from .generate_tables import RuntimeTable, Sizes

CHOICE, OR, AND, NOT, COMPARISON, RANGE, SUM, PRODUCT, UNARY, POWER, ATOM = range(11)

Text = tuple[str, int]

STEMS = {"int": ("size", "rows", "stride"), "float": ("level",), "bool": ("on",), "set": ("keep", "column")}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a declaration: ``value`` is a compile-time one's, ``table`` a run-time one's."""

    name: str
    type: str
    value: int | float | bool | frozenset[int] | None = None
    table: RuntimeTable | None = None
    index: bool = False
    default: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.type}{' = ' if self.default else ''}{self.default}"


@dataclass
class File:
    """What the declarations of one file share."""

    draw: Random
    sizes: Sizes
    names: int = 0
    bare: set[str] = field(default_factory=set)
    declarations: list[str] = field(default_factory=list)
    imports: dict[str, str] = field(default_factory=dict)  # a prelude name to what the file calls it
    constants: dict[int, str] = field(default_factory=dict)
    applicable: list[tuple[str, tuple[Parameter, ...]]] = field(default_factory=list)

    def name(self, *stems: str) -> str:
        """A name that the file has not used, now and then the bare word: most words of the grammar may be names."""
        self.names += 1
        stem = self.draw.choice(stems)
        if stem not in self.bare and self.draw.random() < 0.2:
            self.bare.add(stem)
            return stem
        return f"{stem}_{self.names}"

    def prelude(self, name: str) -> str:
        """What the file calls a pattern of the prelude, with an import now and then."""
        if name not in self.imports:
            if self.draw.random() > 0.04:
                return name
            alias = self.name("borrowed", "rows", "within") if self.draw.random() < 0.7 else name
            self.imports[name] = alias
            other = f", band as {self.name('wide')}" if self.draw.random() < 0.3 else ""
            shown = name if alias == name else f"{name} as {alias}"
            self.declarations.append(f"from std import {shown}{other if name != 'band' else ''}")
        return self.imports[name]

    def nested(self) -> str:
        """A pattern of a file in a folder, imported and applied: tests/modules/nested/shapes.attn."""
        if "nested" not in self.imports:
            self.imports["nested"] = self.name("stairs")
            self.declarations.append(f"from nested.shapes import diamond, staircase as {self.imports['nested']}")
        return self.draw.choice((f"{self.imports['nested']}(width = {self.draw.randint(1, 9)})", "diamond"))


@dataclass
class Scope:
    """One declaration that is being written, with its parameters and local names."""

    file: File
    parameters: list[Parameter] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)  # local names of integers
    conditions: list[str] = field(default_factory=list)  # local names of conditions
    constants_only: bool = False  # inside a model's rules: no q and k
    room: int = 3  # for more run-time tables

    def __post_init__(self) -> None:
        self.draw = self.file.draw
        self.sizes = self.file.sizes

    def chance(self, probability: float) -> bool:
        return self.draw.random() < probability

    # -- compile-time values ------------------------------------------------------------------------------------

    def constant(self, value: int, level: int = RANGE) -> str:
        """A constant integer of a given value: a literal, a name, or a small calculation."""
        chance = self.draw.random()
        if chance < 0.72 or value < 0:
            return wrap((str(value), ATOM if value >= 0 else UNARY), level)
        if chance < 0.8:
            return self._parameter("int", value, str(value))
        if chance < 0.9:
            if value not in self.file.constants:
                self.file.constants[value] = name = self.file.name("width", "sink", "size")
                self.file.declarations.append(f"const {name} = {value}")
            return self.file.constants[value]
        power = value > 0 and not value & (value - 1)
        forms: tuple[Text, ...] = (
            (f"{value - 1} + 1", SUM) if value else ("1 - 1", SUM),
            (f"min({value}, {value + 3})", ATOM),
            (f"{2 * value} // 2", PRODUCT),
            (f"{value + 2} - {2}", SUM),
            (f"2 ** {value.bit_length() - 1}", POWER) if power else (f"max({value}, 0)", ATOM),
            (f"{value} + layer", SUM) if not self.constants_only else (f"{value} + 0", SUM),
            (f"{value} * layers", PRODUCT) if not self.constants_only else (f"{value} * 1", PRODUCT),
            (f"sum({value} for one in 0..0)", ATOM),
            self._listed(value),
        )
        return wrap(self.draw.choice(forms), level)

    def _listed(self, value: int) -> Text:
        name = self.file.name("sizes", "table")
        self.file.declarations.append(f"const {name} = [{value + 1}, {value}, 3]")
        return f"{name}[1]", ATOM

    def _parameter(self, kind: str, value: int | float | bool | frozenset[int], text: str) -> str:
        for known in self.parameters:
            if known.type == kind and known.value == value:
                return known.name
        default = text if self.chance(0.4) else ""
        parameter = Parameter(self.file.name(*STEMS[kind]), kind, value, default=default)
        self.parameters.append(parameter)
        return parameter.name

    def small(self, largest: int = 0) -> int:
        """A size, more often small than large."""
        most = max(1, largest or self.sizes.n // 2)
        return min(self.draw.randint(1, most), self.draw.randint(1, most + 3))

    def divisor(self) -> int:
        return self.draw.choice((2, 2, 3, 4, 4, 5, 7, 8, 16))

    def constant_set(self, members: Sequence[int]) -> str:
        """A constant set: a literal, a range, a name or a parameter."""
        chance = self.draw.random()
        low, high = min(members), max(members)
        if chance < 0.3:
            return wrap((f"{low}..{high}", RANGE), ATOM) if low < 0 else f"{low}..{high}"
        if chance < 0.4:
            return f"{max(low, 0)}..<{high + 1}"
        text = "{" + ", ".join(map(str, members)) + (f", {high}..{high + 2}" if self.chance(0.3) else "") + "}"
        if chance < 0.55:
            return self._parameter("set", frozenset(members), "{" + ", ".join(map(str, members)) + "}")
        if chance < 0.65:
            name = self.file.name("keep", "pairs")
            self.file.declarations.append(f"const {name} = {text}")
            return name
        return text

    # -- run-time tables ----------------------------------------------------------------------------------------

    def table(self, make: Callable[[Random, Sizes], RuntimeTable]) -> tuple[str, RuntimeTable] | None:
        """A run-time parameter of some use, an earlier one or a new one; None when there are enough."""
        use = make.__name__
        for known in self.parameters:
            if known.table is not None and known.table.use == use:
                return known.name, known.table
        if self.room <= 0:
            return None
        return self.hold(make(self.draw, self.sizes))

    def hold(self, table: RuntimeTable) -> tuple[str, RuntimeTable]:
        """The parameter that holds exactly this table."""
        for known in self.parameters:
            if known.table is table:
                return known.name, table
        self.room -= 1
        name = self.file.name(table.use, "data")
        self.parameters.append(Parameter(name, table.type, table=table))
        return name, table

    def token(self, side: str) -> str:
        """An index of a token table: ``q`` or ``k``, kept inside where queries may lie beyond the last key."""
        return side if side == "k" or self.sizes.end <= self.sizes.n else "min(q, n - 1)"

    def header(self, name: str) -> str:
        self.parameters.sort(key=lambda parameter: bool(parameter.default))
        if not self.parameters:
            return name
        return f"{name}({', '.join(map(str, self.parameters))})"

    # -- numbers ------------------------------------------------------------------------------------------------

    def position(self) -> str:
        return self.draw.choice(("q", "k"))

    def number(self, depth: int = 2) -> Text:
        """An integer expression over positions, locals and tables; of moderate size."""
        if depth <= 0 or self.chance(0.25):
            leaf = self.draw.random()
            if leaf < 0.72:
                return self.position(), ATOM
            if leaf < 0.82 and self.numbers:
                return self.draw.choice(self.numbers), ATOM
            if leaf < 0.92:
                return self.constant(self.small(), ATOM), ATOM
            return self.draw.choice(("n", "head", "heads", "layer", "layers")), ATOM
        return self.draw.choices(NUMBERS, NUMBER_WEIGHTS)[0](self, depth - 1)


def wrap(text: Text, level: int, scope: Scope | None = None) -> str:
    """The text, in parentheses where it binds more loosely than its place demands."""
    if text[1] < level or (scope is not None and scope.chance(0.03)):
        return f"({text[0]})"
    return text[0]


def _sum(s: Scope, depth: int) -> Text:
    return f"{wrap(s.number(depth), SUM)} {s.draw.choice('+-')} {wrap(s.number(depth), PRODUCT, s)}", SUM


def _multiple(s: Scope, depth: int) -> Text:
    return f"{wrap(s.number(depth), PRODUCT)} * {s.constant(s.draw.choice((0, 1, 2, 2, 3, 3, 4, 5)), UNARY)}", PRODUCT


def _floored(s: Scope, depth: int) -> Text:
    return f"{wrap(s.number(depth), PRODUCT)} {s.draw.choice(('//', '%'))} {s.constant(s.divisor(), UNARY)}", PRODUCT


def _absolute(s: Scope, depth: int) -> Text:
    return f"abs({s.number(depth)[0]})", ATOM


def _extreme(s: Scope, depth: int) -> Text:
    return f"{s.draw.choice(('min', 'max'))}({s.number(depth)[0]}, {s.number(depth)[0]})", ATOM


def _negative(s: Scope, depth: int) -> Text:
    return f"-{wrap(s.number(depth), UNARY)}", UNARY


def _hashed(s: Scope, depth: int) -> Text:
    return f"hash({s.number(depth)[0]}, {s.draw.randint(0, 9)}) % {s.constant(s.draw.randint(2, 40), UNARY)}", PRODUCT


def _either(s: Scope, depth: int) -> Text:
    then, condition, otherwise = s.number(depth), comparison(s, depth), s.number(depth)
    return f"{wrap(then, OR)} if {wrap(condition, OR)} else {otherwise[0]}", CHOICE


def _folded(s: Scope, depth: int) -> Text:
    variable = s.file.name("i", "x")
    scaled = s.draw.choice((f"{variable} * ", f"{variable} + ", ""))
    body = f"{scaled}{wrap(s.number(depth), UNARY)}"
    return f"sum({body} for {variable} in {s.constant_set(range(s.draw.randint(0, 2) + 1))})", ATOM


def _entry(s: Scope, depth: int) -> Text:
    held = s.table(s.draw.choice((tables.labels, tables.head_sizes, tables.head_sizes, tables.length)))
    if held is None:
        return s.position(), ATOM
    name, table = held
    place = {"labels": f"[{s.token(s.position())}]", "head_sizes": "[head]"}.get(table.use, "")
    return f"{name}{place}", ATOM


NUMBERS = (_sum, _multiple, _floored, _absolute, _extreme, _negative, _hashed, _either, _folded, _entry)
NUMBER_WEIGHTS = (5, 2, 5, 2, 2, 1, 1, 1, 0.6, 1.6)


def comparison(s: Scope, depth: int = 2) -> Text:
    """Two numbers compared, one of them about as large as positions are."""
    sign = s.draw.choice(("<", "<=", ">", ">=", "==", "!="))
    left = wrap(s.number(depth), RANGE)
    right = s.constant(s.draw.randint(0, s.sizes.n), RANGE) if s.chance(0.5) else wrap(s.number(depth), RANGE)
    return f"{left} {sign} {right}", COMPARISON


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
    arguments = ", ".join(s.draw.sample(("q // 2", "k // 4", "head", "q - k", "k", "7", "q"), 3))
    return f"hash({arguments}) % {s.constant(10, UNARY)} < {s.constant(s.draw.randint(2, 8))}", COMPARISON


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


def atom(s: Scope) -> Text:
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
