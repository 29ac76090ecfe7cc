"""Names never reach generated code: a program with every name replaced by a hostile one gives the same source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from random import Random

from attnc.compiler import ir
from attnc.compiler.diagnostics.collector import ErrorCollector
from attnc.compiler.diagnostics.diagnostic import Source, Span
from attnc.compiler.diagnostics.limits import NAME
from attnc.compiler.syntax import tree as t
from attnc.compiler.syntax.parser import parse
from attnc.source import source_of
from tests.fuzz.masks import bound
from tests.support.generators.programs import Program

TARGETS = ("cpu", "sm_90")
# Legal names that mean something to whoever reads what is generated: C++, its preprocessor, Python, Triton, templates,
# and the generated code's own.
_WORDS = """
__import__ __builtins__ __class__ __globals__ __init__ __name__ __file__ __debug__ eval exec open compile getattr
print input os sys system subprocess torch triton tl jit program_id constexpr load store cls object type int
float bool set index double char long unsigned signed auto void const_cast static extern template typename namespace
using operator new delete this virtual goto switch case default do struct union enum register volatile inline alignas
asm __asm__ __attribute__ _Pragma __COUNTER__ __FILE__ __LINE__ __DATE__ __TIME__ __VA_ARGS__ __cplusplus NULL EOF
INFINITY NAN M_PI errno define include ifdef endif pragma defined std size_t int32_t int64_t uint8_t main printf abort
exit free malloc memcpy expf exp2 fmax isinf loop super caller varargs kwargs endfor endif_ block macro include_ raw
endraw range dict lipsum cycler joiner namespace_ t0 t1 t2 t10 row pair mask score sink rows columns causal_ picture
pairs within forward backward delta lse out table0 tables launch Launch Int Real Ints Reals Bools _ __ _0
"""
HOSTILE = (*_WORDS.split(), "x" * NAME, "__" + "X" * (NAME - 4) + "__", "I" * NAME, "l" * NAME)
_RESERVED_SIZES = ("token", "query", "head")


def fault(program: Program) -> str | None:
    """Whether the kernels of a program differ from those of the same program under hostile names."""
    other, _ = renamed(program)
    first, second = bound(program).attention, bound(other).attention
    for target in TARGETS:
        before, after = (source_of(attention, target, 64, "fp32") for attention in (first, second))
        if before.encode() != after.encode():
            return f"{target}: other names give another source\n\n{other.text}\n{_difference(before, after)}"
        found = [name for name in _told(second) if name in after and name not in before]
        if found:
            return f"{target}: the source holds {found}"
    return None


def _told(attention: ir.Attention) -> Iterator[str]:
    yield attention.name
    yield from (table.name for table in attention.tables)


def _difference(before: str, after: str) -> str:
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    return next((f"- {old}\n+ {new}" for old, new in pairs if old != new), "one is longer")


def renamed(program: Program) -> tuple[Program, dict[str, str]]:
    """The program with every name of its own replaced, and what became of each."""
    source = Source("<renamed>", program.text)
    places = Places.of(parse(source, ErrorCollector()))
    draw = Random(program.seed)
    names = sorted({place.name for place in places.found})
    fresh = dict(zip(names, _fresh(draw, names), strict=True))
    text = program.text
    for place in sorted(places.found, key=lambda place: -place.span.start):
        text = text[: place.span.start] + fresh[place.name] + text[place.span.end :]
    other = replace(
        program,
        text=text,
        subject=fresh[program.subject],
        constants={fresh[name]: value for name, value in program.constants.items()},
        contents={fresh[name]: value for name, value in program.contents.items()},
    )
    return other, fresh


def _fresh(draw: Random, names: Sequence[str]) -> list[str]:
    """As many different hostile names, none of them among ``names``."""
    free = [name for name in HOSTILE if name not in names]
    several = draw.sample(free, min(len(names), len(free)))
    return several + [f"{'_' * (NAME - 8)}{number:08}" for number in range(len(names) - len(several))]


@dataclass(frozen=True)
class Place:
    """A name of the program's own where it stands in the text."""

    name: str
    span: Span


@dataclass(frozen=True)
class Places:
    """Every place of a text at which a name of its own stands; those of the prelude and of other modules stay."""

    found: frozenset[Place]

    @staticmethod
    def of(tree: t.Tree) -> Places:
        own = {node.name.name: node for node in tree.declarations if isinstance(node, t.Named)}
        aliases = {
            name.alias.name
            for node in tree.declarations
            if isinstance(node, t.Import)
            for name in node.names
            if name.alias.span.start != name.name.span.start
        }
        found: set[Place] = set()
        for node in tree.declarations:
            visible = {*own, *aliases, *_local_names(node, own)}
            found.update(place for place in _places(node) if place.name in visible)
            found.update(_keywords(node, own))
        return Places(frozenset(found))


def _nodes(node: object) -> Iterator[object]:
    """A node of the tree and all below it."""
    stack = [node]
    while stack:
        part = stack.pop()
        if isinstance(part, tuple):
            stack.extend(part)
        elif is_dataclass(part) and not isinstance(part, Span | Source):
            yield part
            stack.extend(getattr(part, field.name) for field in fields(part))


def _local_names(node: t.Declaration, own: Mapping[str, t.Named]) -> set[str]:
    """Names that mean something in one declaration alone; in a test, the parameters of what it tests."""
    if isinstance(node, t.Test):
        tested = own.get(node.application.name.name)
        return _bound_names(node) | (set() if tested is None else _parameters(tested))
    return _bound_names(node)


def _parameters(node: t.Declaration) -> set[str]:
    return {part.name.name for part in _nodes(node) if isinstance(part, t.Parameter)}


def _bound_names(node: t.Declaration) -> set[str]:
    found = _parameters(node)
    found |= {part.name.name for part in _nodes(node) if isinstance(part, t.Comprehension)}
    found |= {
        part.value
        for part in _nodes(node)
        if isinstance(part, t.Dimension) and isinstance(part.value, str) and part.value not in _RESERVED_SIZES
    }
    if isinstance(node, t.Pattern | t.Attention):
        found |= {binding.name.name for binding in node.locals}
    return found


def _keywords(node: t.Declaration, own: Mapping[str, t.Named]) -> Iterator[Place]:
    """The names of arguments in applications of the text's own declarations."""
    for part in _nodes(node):
        if isinstance(part, t.Application) and part.name.name in own:
            declared = _parameters(own[part.name.name])
            for argument in part.arguments:
                if argument.keyword is not None and argument.keyword.name in declared:
                    yield Place(argument.keyword.name, argument.keyword.span)


def _places(node: t.Declaration) -> Iterator[Place]:
    """Where names stand in a declaration, whoever declares them; never the language's own words."""
    if isinstance(node, t.Named):
        yield Place(node.name.name, node.name.span)
    if isinstance(node, t.Pattern | t.Attention):
        yield from (Place(binding.name.name, binding.name.span) for binding in node.locals)
    for part in _nodes(node):
        match part:
            case t.Name(name=name, span=span):
                yield Place(name, span)
            case t.Dimension(value=str(name), span=span) if name not in _RESERVED_SIZES:
                yield Place(name, span)
            case t.Application(name=name) | t.Indexed(name=name) | t.Comprehension(name=name) | t.Parameter(name=name):
                yield Place(name.name, name.span)
            case t.ImportedName(alias=alias, name=name) if alias.span.start != name.span.start:
                yield Place(alias.name, alias.span)
