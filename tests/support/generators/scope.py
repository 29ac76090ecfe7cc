"""What a random program is made in, the numbers that its expressions calculate with, and comparisons of two of them.

An expression is text with the level at which it binds, so that parentheses stand where they must, and now and then
where they need not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from tests.support.generators import tables
from tests.support.generators.tables import RuntimeTable, Sizes
from tests.support.operation_cases import an_opaque, called, taken

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
    newer: bool = False  # whether it has what came later to the language
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
        """A pattern of a file in a folder, imported and applied: tests/golden/modules/nested/shapes.attn."""
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


def _scattered(s: Scope, depth: int) -> Text:
    function = an_opaque(s.draw)
    arguments = taken(function, (s.number(depth)[0], str(s.draw.randint(0, 9))))
    return f"{called(function.op, *arguments)} % {s.constant(s.draw.randint(2, 40), UNARY)}", PRODUCT


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


NUMBERS = (_sum, _multiple, _floored, _absolute, _extreme, _negative, _scattered, _either, _folded, _entry)
NUMBER_WEIGHTS = (5, 2, 5, 2, 2, 1, 1, 1, 0.6, 1.6)


def comparison(s: Scope, depth: int = 2) -> Text:
    """Two numbers compared, one of them about as large as positions are."""
    sign = s.draw.choice(("<", "<=", ">", ">=", "==", "!="))
    left = wrap(s.number(depth), RANGE)
    right = s.constant(s.draw.randint(0, s.sizes.n), RANGE) if s.chance(0.5) else wrap(s.number(depth), RANGE)
    return f"{left} {sign} {right}", COMPARISON
