"""What goes along while an expression is elaborated, that is checked or bound: scope, faults, limits of work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..diagnostics import Diagnostic, Edit, ErrorCollector, Label, Span, at, limits
from ..ir import Apply, Const, Entry, Expr, Literal_, Position, Table, Type, measure
from .values import Scalar, TableValue, Value

if TYPE_CHECKING:
    from .scope import Definition, Scope
from collections.abc import Iterator
from itertools import chain

from ..diagnostics import Suggestion
from ..syntax import tree as t
from .scope import Definition
from .shipped import shipped_declarations

_WORK = 10 * limits.NODES  # arguments of all nodes built; an expression within the limits needs fewer


@dataclass(frozen=True)
class Role:
    """What an expression is for: the positions it may read, and whether it may use floats and run-time tables."""

    phrase: str
    positions: frozenset[str]
    floats: bool
    tables: bool


_EVERY = frozenset({"q", "k", "n", "head", "heads", "layer", "layers"})
MASK = Role("a mask", _EVERY, floats=False, tables=True)
SCORE = Role("a score", _EVERY | {"s"}, floats=True, tables=True)
SCALE = Role("a scale", frozenset({"head", "heads", "layer", "layers"}), floats=True, tables=False)
SINK = Role("a sink", _EVERY - {"k"}, floats=True, tables=True)
CONSTANT = Role("a constant", frozenset(), floats=True, tables=False)
RULE = Role("a model's rule", frozenset({"layer", "layers", "head", "heads"}), floats=False, tables=True)
TEST = Role("a test", _EVERY, floats=False, tables=True)
SETTING = Role("a test's number", frozenset({"n", "head", "heads", "layer", "layers"}), floats=True, tables=False)


class LimitExceeded(Exception):  # noqa: N818 - a limit, not a fault of ours; callers report its diagnostic
    """A declaration grew past a limit; the rest of it is not checked."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


@dataclass(frozen=True)
class Local:
    """The value of a name of a ``where``, and its faults, which are reported where the name is used."""

    value: Value | None
    faults: tuple[Diagnostic, ...] = ()


@dataclass
class Elaboration:
    """One pass over a declaration: ``checking`` it, with parameters of which only the type is known, or binding it.

    Binding substitutes a value for each parameter and expands applied patterns, local names and comprehensions.
    """

    reports: ErrorCollector
    checking: bool
    visits: int = 0
    work: int = 0
    depth: int = 0
    trail: list[Span] = field(default_factory=list)  # the applications that led here, outermost first
    tables: dict[tuple[object, ...], Table] = field(default_factory=dict)  # those whose contents the text gives
    numbers: dict[str, int] = field(default_factory=dict)  # the last number appended to a name that is taken
    taken: set[str] = field(default_factory=set)  # names of tables that are in use
    memory: dict[tuple[object, ...], Any] = field(default_factory=dict)  # results, so that equal work is done once
    used: set[str] = field(default_factory=set)  # local names that were read
    later: dict[str, Span] = field(default_factory=dict)  # names that are declared after this place
    _unknowns: int = 0

    def unknown(self, kind: Type, constant: bool = False) -> Scalar:
        """A new value of which only the type is known."""
        self._unknowns += 1
        return Scalar(kind, Entry(f"?{self._unknowns}", (), kind), constant)

    def visit(self, span: Span) -> None:
        """Count one visit to a node of the text; LimitExceeded past a limit."""
        self.visits += 1
        if self.visits > limits.NODES or self.depth > limits.EXPANDED_NESTING:
            self.stop(span)

    @property
    def steps(self) -> int:
        """The work so far: visits to nodes of the text, and arguments of expression nodes built."""
        return self.visits + self.work

    def stop(self, span: Span) -> None:
        """Raise LimitExceeded for the limit that was passed: of visits, or else of nesting."""
        if self.visits > limits.NODES:
            self.overflow(span)
        self.too_deep(span)

    def overflow(self, span: Span, helps: tuple[str, ...] = ()) -> None:
        """Raise LimitExceeded: the declaration has too many nodes."""
        message = f"this grows beyond {limits.NODES:,} nodes, the most that a declaration may have once it is filled in"
        raise LimitExceeded(Diagnostic("too-large", message, at(span), self.led_here(span), helps=helps))

    def too_deep(self, span: Span) -> None:
        """Raise LimitExceeded: the declaration nests too deep."""
        message = f"this nests deeper than {limits.EXPANDED_NESTING} once patterns and local names are filled in"
        raise LimitExceeded(Diagnostic("too-deep", message, at(span), self.led_here(span)))

    def led_here(self, span: Span) -> tuple[Label, ...]:
        """Labels for the innermost three applications around a place, the innermost first."""
        outside = [place for place in self.trail if place != span]
        return tuple(at(place, "applied here") for place in outside[-1:-4:-1])

    def build(self, constructor: Callable[..., Expr], parts: tuple[Expr, ...], span: Span) -> Expr:
        """Build an expression node. LimitExceeded, before it is built, where it would have too many nodes."""
        if 1 + sum([1 if isinstance(part, Const) else measure(part)[0] for part in parts]) > limits.NODES:
            self.overflow(span)
        result = constructor(*parts, span=span)
        if isinstance(result, Apply):
            self.work += len(result.args)
            if self.work > _WORK:
                self.overflow(span)
            if measure(result)[1] > limits.EXPANDED_NESTING:
                self.too_deep(span)
        return result


@dataclass(frozen=True)
class ExprContext:
    """What names mean at one place of a text. ``local`` gains the names of a ``where`` and of a comprehension."""

    scope: Scope
    elaboration: Elaboration
    place: Role
    local: dict[str, Value | Local | None]
    positions: Mapping[str, Scalar]  # positions that are constants here, such as `layer`

    def fault(
        self,
        slug: str,
        message: str,
        span: Span,
        label: str = "",
        related: tuple[Label, ...] = (),
        notes: tuple[str, ...] = (),
        helps: tuple[str, ...] = (),
        edits: tuple[Edit, ...] = (),
    ) -> None:
        """Report a fault, with the applications of patterns that led here as related places."""
        related = (*related, *self.elaboration.led_here(span))
        self.elaboration.reports.add(Diagnostic(slug, message, at(span, label), related, notes, helps, edits))

    def build(self, constructor: Callable[..., Expr], *parts: Expr, span: Span) -> Expr | None:
        """Build an expression node; None after reporting that it holds a number that is too large."""
        result = self.elaboration.build(constructor, parts, span)
        inside = result.args if isinstance(result, Apply) else (result,)
        for part in inside:
            if isinstance(part, Const) and not _fits(part.value):
                message = f"this comes to a number of more than {limits.DIGITS} digits"
                if isinstance(part.value, float):
                    message = "this comes to a number beyond the largest float"
                self.fault("number-too-large", message, span)
                return None
        return result

    def layer_for(self, definition: Definition) -> tuple[Scalar | None, ...]:
        """The values of ``layer`` and ``layers``, each if the declaration reads it: part of a cached result's key."""
        return tuple([self.positions.get(name) for name in ("layer", "layers") if name in definition.positions_read])

    def at(self, place: Role) -> ExprContext:
        """The same context for an expression with another role."""
        return ExprContext(self.scope, self.elaboration, place, self.local, self.positions)


def _fits(value: bool | int | float) -> bool:
    if isinstance(value, float):
        return abs(value) < float("inf")
    return abs(int(value)) <= limits.LARGEST


def literal_table(
    elaboration: Elaboration, name: str, element: Any, dimensions: tuple[Any, ...], value: Literal_, span: Span
) -> TableValue:
    """A table whose contents the text gives. Equal contents of one element and shape share a table."""
    short = ("table", id(value), element, dimensions)
    if short not in elaboration.memory:
        key = (element, dimensions, _typed(value))
        table = elaboration.tables.get(key)
        if table is None:
            number = elaboration.numbers.get(name, 0)
            free = name if number == 0 else f"{name} {number + 1}"
            while free in elaboration.taken:
                number, free = number + 1, f"{name} {number + 2}"
            elaboration.numbers[name] = number
            elaboration.taken.add(free)
            table = elaboration.tables[key] = Table(free, element, dimensions, value=value, span=span)
        elaboration.memory[short] = value, TableValue(table.name, element, table.dimensions)
    found: TableValue = elaboration.memory[short][1]
    return found


def _typed(value: Literal_) -> object:
    """A dictionary key that distinguishes 1, 1.0 and true, which Python holds equal."""
    return tuple(map(_typed, value)) if isinstance(value, tuple) else (type(value), value)


def position(name: str) -> Position:
    assert name in ("q", "k", "n", "head", "heads")
    return Position(name)  # type: ignore[arg-type]


_ENDLESS = frozenset({"inf", "infinity", "nan"})


def definition_of(name: t.Identifier, env: ExprContext, wanted: str) -> Definition | None:
    """The declaration that a name means. None after reporting that there is none, now or where it was declared."""
    definition = env.scope.find(name.name)
    if definition is None and not env.scope.excused(name.name):
        later = env.elaboration.later.get(name.name)
        if later is not None:
            notes = ("names of a `where`, and defaults, see only what stands before them",)
            message = f"`{name.name}` is not known yet"
            env.fault("unknown-name", message, name.span, related=(at(later, "given here"),), notes=notes)
            return None
        helps, edits = _elsewhere(name, env) or env.elaboration.reports.meant(name.name, known_names(env), name.span)
        message = f"`{name.name}` is not {wanted}"
        env.fault("unknown-name", message, name.span, "not defined here or in the prelude", helps=helps, edits=edits)
    return definition


def _elsewhere(name: t.Identifier, env: ExprContext) -> Suggestion | None:
    """What to do about an unknown name that Python has (``inf``), or that a shipped module declares."""
    if name.name.lower() in _ENDLESS:
        if env.place.floats:
            return Suggestion(("a pair that is to be left out is left out by the mask: `mask = causal and …`",))
        return Suggestion(("integers have no infinity: leave the bound out",))
    module = None if env.elaboration.reports.full else shipped_declarations().get(name.name)
    if module is None:
        return None
    text = f"from {module} import {name.name}"
    return Suggestion((f"import it: `{text}`",), (Edit(_top(name.span), f"{text}\n"),))


def _top(span: Span) -> Span:
    return Span(span.source, 0, 0)


def known_names(env: ExprContext) -> Iterator[str]:
    """The names that mean something at a place: local names, declarations, positions."""
    return chain(env.local, env.scope.names(), sorted(env.place.positions))
