"""The entry to the language: loads and checks a text, with its imports and tests; binds a declaration to constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from ..checker import (
    SHIPPED,
    Definition,
    Elaboration,
    LimitExceeded,
    ParameterType,
    Scope,
    collect,
    ordered,
    shipped_file,
    shipped_names,
)
from ..diagnostics import (
    ArgumentError,
    AttnError,
    Diagnostic,
    ErrorCollector,
    Source,
    Span,
    at,
    limits,
    listed,
    nearest,
)
from ..ir import Attention, Literal_, Model
from ..syntax import decode, parse
from ..syntax import tree as t
from .bind_tests import bind_test
from .binding import bind_definition, bind_values, bindable, default_literal, parameter_values
from .declarations import define
from .imports import MissingFileError, Place, find, read
from .test_cases import BoundTest, Check, Claim, Column, Pairs, Picture, Row

__all__ = [
    "BoundTest", "Check", "Claim", "Column", "Declaration", "Module", "Pairs", "Parameter", "Picture", "Row", "bind",
    "bound_tests", "known_default", "load_file", "load_shipped", "load_text",
]  # fmt: skip

Kind = Literal["const", "pattern", "attention", "model"]
_KINDS: dict[type, Kind] = {
    t.Constant: "const", t.Pattern: "pattern", t.Attention: "attention", t.Model: "model",
}  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """One parameter of a declaration; ``default`` is the text of its default, or None.

    A parameter is bound at compile time, passed by the call at run time, or neither: an ``index`` takes its value where
    another declaration applies the pattern.
    """

    name: str
    type: ParameterType
    default: str | None
    span: Span = field(compare=False, repr=False)

    @property
    def compile_time(self) -> bool:
        return self.type.compile_time

    @property
    def run_time(self) -> bool:
        return self.type.run_time


@dataclass(frozen=True)
class Declaration:
    """What users see of a declaration. ``documentation`` holds the comment lines directly above it."""

    name: str
    kind: Kind
    parameters: tuple[Parameter, ...]
    documentation: str
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Module:
    """A checked text without faults.

    ``declarations`` and ``tests`` are those of the text itself, without imports, in the order of the text;
    ``definitions`` are the same declarations as the checker keeps them.
    """

    source: Source
    declarations: Mapping[str, Declaration]
    tests: tuple[BoundTest, ...]
    definitions: Mapping[str, Definition] = field(repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.source, dict(self.declarations), self.tests, dict(self.definitions))


def _unpickled(
    source: Source,
    declarations: dict[str, Declaration],
    tests: tuple[BoundTest, ...],
    definitions: dict[str, Definition],
) -> Module:
    return Module(source, MappingProxyType(declarations), tests, MappingProxyType(definitions))


def load_text(text: str | bytes, name: str = "<text>", folder: Path | None = None) -> Module:
    """Load and check a text. Its imports are searched for in ``folder``, if given, and among the shipped modules.

    ``name`` stands for the file in error messages. Raises AttnError with every fault of the text and its imports.
    """
    decoded = decoded_text(text, name)
    return _Loader().load(Source(name, decoded), None if folder is None else Path(folder), shipped=False)


def load_file(path: str | Path) -> Module:
    """Load and check a file. Raises AttnError with every fault; if there is no file, it is also a FileNotFoundError."""
    file = Path(path)
    loader = _Loader()
    source = read(file, str(path))
    return loader.load(source, file.parent, shipped=False, path=_resolved(file))


def load_shipped(name: str) -> Module:
    """Load and check a shipped module by name: ``longformer``, ``text.longformer``. Raises as :func:`load_file`."""
    if name == "std":
        return _prelude()
    return _shipped(name)


def _shipped(name: str) -> Module:
    file = shipped_file(name)
    if file is None:
        meant = nearest(name, shipped_names())
        helps: tuple[str, ...] = (f"did you mean `{meant}`?",) if meant else ()
        if _is_file(f"{name}.attn"):
            helps = (f"the file of that name is loaded by all of its name: {name}.attn",)
        message = f"there is no shipped pattern `{name}`"
        raise MissingFileError([Diagnostic("missing-file", message, helps=helps)])
    source = read(file, file.relative_to(SHIPPED).as_posix())
    return _Loader().load(source, SHIPPED, shipped=True, path=_resolved(file))


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def known_default(module: Module, name: str, parameter: str) -> Literal_ | None:
    """The default of a constant ``parameter`` of the declaration ``name``, as a Python value.

    None where it has no default, or one that depends on other parameters.
    """
    definition = module.definitions[name]
    return default_literal(definition, definition.formals[definition.places[parameter]])


def decoded_text(text: str | bytes, name: str) -> str:
    """A text as a string, without a byte order mark. Raises AttnError for bytes that are not UTF-8."""
    return decode(text, name) if isinstance(text, bytes) else text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")


@lru_cache(maxsize=1)
def _prelude() -> Module:
    """The prelude, the module whose names are visible in every text. It is checked once in each process."""
    file = SHIPPED / "std.attn"
    return _Loader(prelude=False).load(read(file, "std.attn"), SHIPPED, shipped=True, path=_resolved(file))


def _resolved(path: Path) -> Path | None:
    """The absolute path without symbolic links; None if they go in a circle or the path cannot be read."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return None


class _Loader:
    """Loads one text and the modules that it imports, directly or not, each once.

    ``loaded``: the module of each file read so far, None if it has faults, which are reported already. ``importing``:
    the files that are being loaded, each imported by the one before it.
    """

    def __init__(self, prelude: bool = True) -> None:
        self.prelude = prelude
        self.loaded: dict[Path, Module | None] = {}
        self.importing: list[Path] = []

    def load(self, source: Source, folder: Path | None, shipped: bool, path: Path | None = None) -> Module:
        """Check one text and the modules that it imports. Raises AttnError with the faults of all of them.

        ``folder``: where imports are searched for first, if given; ``shipped``: the text is one of attnc's own;
        ``path``: its file, if it has one, by which an import of itself is noticed.
        """
        reports = ErrorCollector()
        if path is not None:
            self.importing.append(path)
        tree = parse(source, reports)
        scope = Scope(prelude=_prelude().definitions if self.prelude else {})
        collect(tree, scope, reports)
        for node in tree.declarations:
            if isinstance(node, t.Import):
                self.enter(node, scope, folder, shipped, reports)
        tests = _check(tree, scope, reports)
        if path is not None:
            self.importing.pop()
        reports.check()
        definitions = MappingProxyType({name: scope.definitions[name] for name in scope.nodes})
        declarations = MappingProxyType({name: _declaration(d) for name, d in definitions.items()})
        return Module(source, declarations, tests, definitions)

    def enter(self, node: t.Import, scope: Scope, folder: Path | None, shipped: bool, reports: ErrorCollector) -> None:
        """Enter the names of an import into the scope, each with its definition, or None after reporting a fault."""
        place = find(node, folder, shipped, reports)
        module = None if place is None else self.module(node, place, reports)
        for imported in node.names:
            alias = imported.alias
            if alias.name in scope.nodes or alias.name in scope.imported:
                message = f"`{alias.name}` is declared here and imported"
                if alias.name in scope.imported:
                    message = f"`{alias.name}` is imported twice"
                first = scope.nodes.get(alias.name)
                related = () if first is None else (at(first.name.span, "declared here"),)
                another = (f"give one of them another name: `import {imported.name.name} as other`",)
                reports.add(Diagnostic("duplicate-name", message, at(alias.span), related, helps=another))
                continue
            found = None if module is None else module.definitions.get(imported.name.name)
            if module is not None and found is None:
                helps, edits = reports.meant(imported.name.name, module.definitions, imported.name.span)
                message = f"`{'.'.join(part.name for part in node.module)}` has no `{imported.name.name}`"
                reports.add(Diagnostic("unknown-name", message, at(imported.name.span), helps=helps, edits=edits))
            scope.imported[alias.name] = found

    def module(self, node: t.Import, place: Place, reports: ErrorCollector) -> Module | None:
        """The imported module, checked; None after reporting its faults, or that the import is circular or too deep."""
        path = place.path.resolve()
        span = node.span
        if path in self.importing:
            circle = [other.stem for other in self.importing[self.importing.index(path) :]]
            notes = ("by way of " + ", then ".join(f"`{name}`" for name in circle[1:]),) if len(circle) > 1 else ()
            reports.add(Diagnostic("import-cycle", f"`{circle[0]}` imports itself", at(span), notes=notes))
            return None
        if len(self.importing) >= limits.NESTING:
            message = f"files import files deeper than {limits.NESTING}, the most that there may be"
            reports.add(Diagnostic("too-deep", message, at(span)))
            return None
        if self.prelude and place.shipped and place.name == "std.attn":
            return _prelude()
        if path not in self.loaded:
            self.loaded[path] = None
            try:
                source = read(place.path, place.name)
                folder = place.path.parent
                self.loaded[path] = self.load(source, folder, place.shipped, path)
            except AttnError as error:
                reports.extend(error.diagnostics)
        return self.loaded[path]


def _check(tree: t.Tree, scope: Scope, reports: ErrorCollector) -> tuple[BoundTest, ...]:
    """Check the declarations of a text, each after those that it uses; then bind its tests and return them."""
    for named in ordered(scope, reports):
        scope.definitions[named.name.name] = define(named, scope, reports)
    tests: list[BoundTest] = []
    for node in tree.declarations:
        if isinstance(node, t.Test) and reports.may_bind and reports.members <= limits.MEMBERS:
            tests.extend(bind_test(node, scope, reports))  # past a limit, one fault has been reported for all tests
    _try_defaults(scope, reports)
    return tuple(tests)


def _try_defaults(scope: Scope, reports: ErrorCollector) -> None:
    """Bind the declarations whose constants all have defaults, to report the faults that depend on values.

    The work for one file is limited: declarations beyond the limit are not bound before they are used.
    """
    left = limits.NODES - 2 * (reports.steps + reports.binding_steps)
    for definition in scope.definitions.values():
        if isinstance(definition.node, t.Constant) or not bindable(definition) or left <= 0:
            continue
        own = ErrorCollector(reports)
        elaboration = Elaboration(
            own, checking=False, visits=0 if left >= limits.NODES * 9 // 10 else limits.NODES - left
        )
        started = elaboration.steps
        try:
            values = parameter_values(definition, {}, elaboration)
            if values is not None:
                bind_values(definition, values, elaboration)
        except LimitExceeded as stopped:
            # Past the steps that were left, but not past the limit of one declaration, there is no fault to report.
            if started == 0 or elaboration.visits <= limits.NODES:
                own.add(stopped.diagnostic)
            left = 0  # a declaration that uses this one would take as many steps
        reports.absorb(own)
        left -= elaboration.steps - started


def _declaration(definition: Definition) -> Declaration:
    """The public record of a checked declaration."""
    node = definition.node
    parameters = tuple(
        Parameter(formal.name, formal.type, _text(formal.default), formal.span)
        for formal in definition.formals
        if formal.type is not None
    )
    return Declaration(definition.name, _KINDS[type(node)], parameters, node.documentation, node.name.span)


def _text(node: t.Expression | None) -> str | None:
    """An expression as the user wrote it."""
    return None if node is None else node.span.source.text[node.span.start : node.span.end]


def bind(module: Module, name: str, constants: Mapping[str, object]) -> Attention | Model:
    """Bind a declaration to ``constants``: Python numbers, sets, ranges and iterables of ints, by parameter name.

    Raises ArgumentError, which is a TypeError, for an unknown ``name`` and for a constant that is missing, unknown or
    of a wrong type; another AttnError for faults that depend on the values.
    """
    definition = module.definitions.get(name)
    if definition is None or isinstance(definition.node, t.Constant):
        others = [key for key, found in module.declarations.items() if found.kind != "const"]
        meant = nearest(name, others)
        helps = (f"did you mean `{meant}`?",) if meant else ()
        notes = (f"it has {listed([f'`{other}`' for other in others[:20]], 'and')}",) if others else ()
        message = f"{module.source.name} declares no pattern, attention or model `{name}`"
        raise ArgumentError([Diagnostic("unknown-name", message, notes=notes, helps=helps)])
    try:
        return bind_definition(definition, constants)
    except LimitExceeded as stopped:
        raise AttnError([stopped.diagnostic]) from None


def bound_tests(module: Module) -> tuple[BoundTest, ...]:
    """The tests of a module, in the order of the text."""
    return module.tests
