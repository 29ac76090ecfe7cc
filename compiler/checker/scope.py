"""The scope of a file: its own declarations, in the order of their use, its imports, and the prelude."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ..diagnostics import Diagnostic, ErrorCollector, Span, at
from ..ir import Type
from ..syntax import tree as t
from .types import Formal
from .values import Value


@dataclass(frozen=True)
class Definition:
    """A checked declaration that others may use.

    - ``kind``: the type of a pattern, bool or count; None for other declarations, and where its body has a fault;
    - ``value``: that of a constant, else None;
    - ``positions_read``: the names of the positions that it reads, itself or through patterns and constants it uses;
    - ``faulty``: it has faults, which are reported already, so those who use it report nothing.
    """

    node: t.Named
    scope: Scope
    formals: tuple[Formal, ...]
    kind: Type | None
    value: Value | None
    positions_read: frozenset[str]
    faulty: bool

    @property
    def name(self) -> str:
        return self.node.name.name

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The number of each parameter, counted from 0, by its name."""
        return {formal.name: place for place, formal in enumerate(self.formals)}

    @cached_property
    def without_default(self) -> tuple[Formal, ...]:
        return tuple(formal for formal in self.formals if formal.default is None)

    @cached_property
    def ill_typed(self) -> bool:
        """Whether the type of any parameter has a fault."""
        return any(formal.type is None for formal in self.formals)


@dataclass
class Scope:
    """The names of one file: ``nodes`` its own declarations, ``definitions`` those of them that are checked so far."""

    nodes: dict[str, t.Named] = field(default_factory=dict)
    definitions: dict[str, Definition] = field(default_factory=dict)
    imported: dict[str, Definition | None] = field(default_factory=dict)  # None: the import has a fault
    prelude: Mapping[str, Definition] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()  # names whose declarations could not be read

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "prelude": dict(self.prelude)}  # a view of a mapping cannot be pickled

    def find(self, name: str) -> Definition | None:
        """The declaration that a name means. None if there is none, or none that could be checked: :meth:`excused`."""
        if name in self.nodes:
            return self.definitions.get(name)
        if name in self.imported:
            return self.imported[name]
        return None if name in self.broken else self.prelude.get(name)

    def excused(self, name: str) -> bool:
        """Whether a name has no definition because its declaration or import has a fault, which is reported already."""
        return self.find(name) is None and (name in self.nodes or name in self.imported or name in self.broken)

    def names(self) -> Iterator[str]:
        yield from self.nodes
        yield from self.imported
        yield from self.prelude


def collect(tree: t.Tree, scope: Scope, reports: ErrorCollector) -> None:
    """Enter the file's own declarations into its scope. Of two with one name, the second is reported and ignored."""
    for node in tree.declarations:
        if isinstance(node, t.Test | t.Import):
            continue
        name = node.name.name
        if name in scope.nodes:
            first = scope.nodes[name].name.span
            message = f"`{name}` is declared twice"
            reports.add(Diagnostic("duplicate-name", message, at(node.name.span), (at(first, "first here"),)))
        else:
            scope.nodes[name] = node
    scope.broken = tree.broken - scope.nodes.keys()


def ordered(scope: Scope, reports: ErrorCollector) -> list[t.Named]:
    """The declarations of a file, each after those that it uses. Recursive ones are reported and left out."""
    uses = {name: _uses(node, scope) for name, node in scope.nodes.items()}
    place: dict[str, int] = {}  # of each name on the path from the root, its depth
    lowest: dict[str, int] = {}  # of a name in a cycle: the least depth it leads back to
    seen: set[str] = set()
    done: list[t.Named] = []
    for root in scope.nodes:
        stack = [] if root in seen else [(root, iter(uses[root]))]
        while stack:
            name, rest = stack[-1]
            if name not in place and name not in seen:
                seen.add(name)
                place[name] = len(stack) - 1
            following = next(rest, None)
            if following is None:
                stack.pop()
                own = place.pop(name)
                low = lowest.get(name)
                if low is None:
                    done.append(scope.nodes[name])
                elif low < own:
                    above = stack[-1][0]
                    lowest[above] = min(low, lowest.get(above, low))
            elif following not in seen:
                stack.append((following, iter(uses[following])))
            elif following in place:
                if name not in lowest and not reports.full:
                    _report_circle([entry for entry, _ in stack[place[following] :]], uses, reports)
                lowest[name] = min(place[following], lowest.get(name, len(stack)))
    return done


def _report_circle(circle: list[str], uses: Mapping[str, Mapping[str, Span]], reports: ErrorCollector) -> None:
    pairs = list(zip(circle, [*circle[1:], circle[0]], strict=True))
    places = [uses[user][used] for user, used in pairs]
    message = f"`{circle[0]}` reaches itself"
    notes = ("by way of " + ", then ".join(f"`{name}`" for name in circle[1:6]),) if len(circle) > 1 else ()
    related = tuple(
        at(place, f"`{user}` uses `{used}`") for place, (user, used) in list(zip(places, pairs, strict=True))[1:4]
    )
    reports.add(Diagnostic("recursion", message, at(places[0]), related, notes))


def _uses(node: t.Named, scope: Scope) -> dict[str, Span]:
    """The declarations of the file that one of them uses, each with the place of its first use."""
    found: dict[str, Span] = {}
    hidden: set[str] = set()
    if not isinstance(node, t.Constant):
        for parameter in node.parameters:
            for dimension in parameter.type.dimensions or ():
                # A free size may be called as a pattern is.
                if isinstance(dimension.value, str) and isinstance(scope.nodes.get(dimension.value), t.Constant):
                    _use(dimension.value, dimension.span, hidden, scope, found)
            if parameter.default is not None:
                _names(parameter.default, hidden, scope, found)
            hidden.add(parameter.name.name)
    if isinstance(node, t.Pattern | t.Attention):
        for binding in node.locals:
            _names(binding.value, hidden, scope, found)
            hidden.add(binding.name.name)
    bodies = t.roots(node) if not isinstance(node, t.Pattern | t.Attention) else _bodies(node)
    for body in bodies:
        _names(body, hidden, scope, found)
    return found


def _bodies(node: t.Pattern | t.Attention) -> tuple[t.Expression, ...]:
    return (node.body,) if isinstance(node, t.Pattern) else tuple(f.value for f in node.fields)


def _use(name: str, span: Span, hidden: set[str], scope: Scope, found: dict[str, Span]) -> None:
    if name in scope.nodes and name not in hidden:
        found.setdefault(name, span)


def _names(root: t.Expression, hidden: set[str], scope: Scope, found: dict[str, Span]) -> None:
    stack: list[tuple[t.Expression, frozenset[str]]] = [(root, frozenset())]
    while stack:
        node, variables = stack.pop()
        match node:
            case t.Name(name=name, span=span):
                if name not in variables:
                    _use(name, span, hidden, scope, found)
            case t.Application(name=name) | t.Indexed(name=name):
                if name.name not in variables:
                    _use(name.name, name.span, hidden, scope, found)
        if isinstance(node, t.Comprehension):
            stack.append((node.domain, variables))
            stack.append((node.body, variables | {node.name.name}))
        else:
            stack.extend((part, variables) for part in t.parts(node))
