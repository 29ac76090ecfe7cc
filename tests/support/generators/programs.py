"""A seeded generator of random programs: valid text, the call for which it is written, and what its tables hold.

The same seed gives the same program everywhere. Everything that the language's page describes turns up; masks are
biased towards the shapes that attention patterns have, so that most are neither empty nor full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from attnc.compiler.ir.extent import HostTable
from tests.support.generators.expressions import (
    CHOICE,
    OR,
    File,
    Parameter,
    Scope,
    application,
    condition,
    count,
    wrap,
)
from tests.support.generators.tables import Sizes, biases, draw_sizes, literal, slopes, weights
from tests.support.operation_cases import OF_FLOATS


@dataclass(frozen=True)
class Program:
    """One random program. ``layer`` is set when the subject is a model: the layer to look at."""

    seed: int
    text: str
    subject: str
    constants: Mapping[str, object]
    layer: int | None
    sizes: Sizes
    contents: Mapping[str, HostTable]


def generate(seed: int, *, largest: int = 64, floats: bool | None = None) -> Program:
    """The program of a seed. ``largest`` bounds n and m; ``floats`` demands (or forbids) an attention with a score."""
    draw = Random(seed)
    sizes = draw_sizes(draw, largest)
    file = File(draw, sizes, newer=seed % 4 == 3)
    for _ in range(draw.choices((0, 1, 2), (6, 3, 1))[0]):
        _helper(file)
    kind = draw.choices(("pattern", "attention", "model"), (7, 1.8, 1.2))[0]
    if floats is not None:
        kind = "attention" if floats else "pattern"
    name = file.name("subject", "mask", "pairs")
    scope = Scope(file)
    layer = None
    match kind:
        case "pattern":
            _pattern(scope, name)
        case "attention":
            _attention(scope, name)
        case _:
            layer = _model(scope, name)
    if draw.random() < 0.2:
        _test(scope, name, layer)
    if draw.random() < 0.5:
        draw.shuffle(file.declarations)
    return Program(
        seed=seed,
        text="\n".join(file.declarations) + "\n",
        subject=name,
        constants={
            p.name: p.value for p in scope.parameters if p.table is None and (not p.default or draw.random() < 0.3)
        },
        layer=layer,
        sizes=sizes,
        contents={p.name: p.table.contents for p in scope.parameters if p.table is not None},
    )


def _mask(scope: Scope) -> str:
    depth = scope.draw.choices((0, 1, 2, 3), (1, 5, 4, 1))[0]
    if scope.chance(0.14):
        return count(scope, min(depth, 2))[0]
    if scope.chance(0.03):
        return f"{condition(scope, depth)[0]} # {scope.file.name('because')}\n"
    return condition(scope, depth)[0]


def _where(scope: Scope) -> str:
    """Local names, for use in what is written after."""
    if not scope.chance(0.2):
        return ""
    bound: list[str] = []
    for _ in range(scope.draw.choice((1, 1, 2))):
        if scope.chance(0.6):
            name, text = scope.file.name("half", "start"), scope.number(2)
            scope.numbers.append(name)
        else:
            name, text = scope.file.name("late", "near"), condition(scope, 1)
            scope.conditions.append(name)
        bound.append(f"{name} = {text[0]}")
    return f" where {', '.join(bound)}"


def _pattern(scope: Scope, name: str) -> None:
    where = _where(scope)
    mask = _mask(scope)
    comment = f"# {name}: one of many.\n" if scope.chance(0.1) else ""
    scope.file.declarations.append(f"{comment}pattern {scope.header(name)} = {mask}{where}")


def _helper(file: File) -> None:
    """A pattern for others to apply, with parameters of every type."""
    scope = Scope(file, room=1)
    name = file.name("near", "step", "documents")
    if scope.chance(0.3):
        first, second = file.name("i"), file.name("j")
        scope.parameters += [Parameter(first, "index", index=True), Parameter(second, "index", index=True)]
        scope.numbers += [first, second]
        size = scope.constant(scope.small(6))
        comparison = f"{scope.draw.choice(('abs(', 'max(0, '))}{first} - {second}) <= {size}"
        extra = f" or {wrap(condition(scope, 0), OR + 1)}" if scope.chance(0.4) else ""
        file.declarations.append(f"pattern {scope.header(name)} = {comparison}{extra}")
    else:
        where = _where(scope)
        mask = condition(scope, scope.draw.choice((0, 1, 1, 2)))[0]
        file.declarations.append(f"pattern {scope.header(name)} = {mask}{where}")
    file.applicable.append((name, tuple(scope.parameters)))


def _attention(scope: Scope, name: str) -> None:
    where = _where(scope)
    fields = [f"mask = {_mask(scope)}"]
    scope.room = 3
    if scope.chance(0.85):
        fields.append(f"score = {score(scope)}")
    if scope.chance(0.25):
        fields.append(f"scale = {scope.draw.choice(('0.5', '1 / sqrt(16)', '1 / 4', '2.0 ** -1'))}")
    if scope.chance(0.3):
        fields.append(f"sink = {_sink(scope)}")
    scope.draw.shuffle(fields)
    scope.file.declarations.append(f"attention {scope.header(name)} {{ {'  '.join(fields)}{where} }}")


def score(scope: Scope) -> str:
    """A score whose values stay moderate: the logit changed by at most two of the ways that papers know."""
    text = "s"
    for _ in range(scope.draw.choice((1, 1, 2))):
        text = _bent(scope, text)
    return text


def _bent(scope: Scope, inner: str) -> str:
    draw = scope.draw
    slope, weight, bias = scope.table(slopes), scope.table(weights), scope.table(biases)
    forms = [
        f"5 * tanh(({inner}) / 5)",
        f"({inner}) - 0.1 * abs(q - k)",
        f"({inner} if q - k < {scope.constant(scope.small())} else {inner} - 1.5)",
        f"max(-8.0, min({inner}, 8.0))",
        f"({inner}) - log(1 + abs(q - k))",
        f"({inner}) - log(2 + max(q, k)) * 0.25",
        f"2 * tanh({inner})",
        f"({inner}) * sigmoid(({inner}) / 2)",
        f"({inner}) - sigmoid(-({inner}))",
        f"({inner}) + sqrt(abs(q - k) + 1) * 0.25",
        f"({inner}) - exp(-abs({inner}) / 4)",
        f"({inner}) + exp(-(abs(q - k) / 4))",
    ]
    own = " ".join(forms)
    forms += [f"({inner}) + {f.op}(1.5 + abs({inner}))" for f in OF_FLOATS if f"{f.op}(" not in own]
    if slope is not None:
        forms += [f"({inner}) + {slope[0]}[head] * (k - q) / {draw.choice((8, 16))}"] * 3
    if weight is not None:
        forms += [f"({inner}) + {weight[0]}[k]", f"({inner}) * (1.0 + 0.5 * {weight[0]}[k])"]
    if bias is not None:
        reach = bias[1].limit
        forms += [f"({inner}) + {bias[0]}[head, max(-{reach}, min(k - q, {reach})) + {reach}]"] * 2
    return draw.choice(forms)


def _sink(scope: Scope) -> str:
    held = scope.table(slopes)
    if held is None or scope.chance(0.2):
        return "0.5"
    return scope.draw.choice((f"{held[0]}[head]", f"{held[0]}[head] * 2.0", f"{held[0]}[head] + 0.01 * q"))


def _model(scope: Scope, name: str) -> int:
    """A model of a few layers. Rules apply what the file has; the subject's heads are the model's."""
    file, draw = scope.file, scope.draw
    if not file.applicable or scope.chance(0.3):
        _helper(file)
    if scope.chance(0.4):
        inner = Scope(file, room=1)
        attention = file.name("scored")
        _attention(inner, attention)
        usable = [(attention, tuple(inner.parameters))]
    else:
        usable = []
    scope.constants_only, scope.room = True, 9
    layers = draw.randint(1, 4)
    rules = [f"layer {selector} {_rule(scope, usable)}" for selector in _selectors(draw, layers)]
    fields = [f"layers = {scope.constant(layers, CHOICE)}", f"heads = {file.sizes.heads}", *rules]
    file.declarations.append(f"model {scope.header(name)} {{\n    " + "\n    ".join(fields) + "\n}")
    return draw.randrange(layers)


def _rule(scope: Scope, usable: list[tuple[str, tuple[Parameter, ...]]]) -> str:
    if scope.chance(0.35):
        rules = [f"head {selector} = {_used(scope, usable)}" for selector in _selectors(scope.draw, scope.sizes.heads)]
        return "{ " + "  ".join(rules) + " }"
    if scope.chance(0.2):
        return f"= {_used(scope, usable)} if layer % 2 == 0 else {_used(scope, usable)}"
    return f"= {_used(scope, usable)}"


def _used(scope: Scope, usable: list[tuple[str, tuple[Parameter, ...]]]) -> str:
    candidates = [entry for entry in scope.file.applicable if not any(p.index for p in entry[1])] + usable
    if not candidates or scope.chance(0.3):
        forms = ("causal", "chunked(5)", "window(4 + layer)", "causal_window(2 ** min(layer + 2, 4))", "strided(3)")
        return scope.draw.choice(forms)
    name, parameters = scope.draw.choice(candidates)
    return application(scope, name, parameters)


def _selectors(draw: Random, size: int) -> list[str]:
    """Selectors that name each of ``0 .. size - 1`` once."""
    if size == 1:
        return [draw.choice(("0", "*", "0..0"))]
    cut = draw.randint(1, size - 1)
    first = draw.choice((f"0..{cut - 1}", ", ".join(map(str, range(cut))), f"0..<{cut}"))
    rest = "*" if draw.random() < 0.6 else f"{cut}..{size - 1}"
    if draw.random() < 0.25:
        return ["*"]
    return [first, rest] if draw.random() < 0.7 else [rest, first]


def _test(scope: Scope, name: str, layer: int | None) -> None:
    """A test of the subject. Most of its checks are false: what they say is for other tests to judge."""
    draw, sizes = scope.draw, scope.sizes
    constants = [f"{p.name} = {_shown(p)}" for p in scope.parameters if p.table is None]
    has_tables = any(p.table is not None for p in scope.parameters)
    if not has_tables and sizes.n > SMALL:  # no literal has the size of the call: a small one serves as well
        sizes = Sizes(draw.randint(1, SMALL), draw.randint(1, SMALL), sizes.heads, 1, (draw.randint(0, 3),))
    if sizes.n > SMALL or draw.random() < 0.25:
        applied = f"{name}({', '.join(constants)})" if constants else name
        claims = [_claim(scope) for _ in range(draw.randint(1, 4))]
        if layer is None and not any(p.table is not None for p in scope.parameters if p.default):
            scope.file.declarations.append(f"test {applied} for all n {{ {'  '.join(claims)} }}")
        return
    given = constants + [f"{p.name} = {literal(p.table.contents, p.type)}" for p in scope.parameters if p.table]
    applied = f"{name}({', '.join(given)})" if given else name
    settings = [f"n = {sizes.n}", f"heads = {sizes.heads}", f"head = {draw.randrange(sizes.heads)}"]
    if sizes.m != sizes.n - sizes.q_start[0] or draw.random() < 0.2:
        settings.append(f"m = {sizes.m}")
    if sizes.q_start[0]:
        settings.append(f"q_start = {sizes.q_start[0]}")
    if layer is not None:
        settings.append(f"layer = {layer}")
    checks = [_check(draw, sizes) if draw.random() < 0.6 else _claim(scope) for _ in range(draw.randint(1, 4))]
    scope.file.declarations.append(f"test {applied} at {', '.join(settings)} {{ {'  '.join(checks)} }}")


def _shown(parameter: Parameter) -> str:
    match parameter.value:
        case bool() as value:
            return str(value).lower()
        case frozenset() as members:
            return "{" + ", ".join(map(str, sorted(members))) + "}"
        case value:
            return str(value)


SMALL = 14
"""The most keys of a call that a test spells out."""

PLAIN_CLAIMS = ("causal", "symmetric", "diagonal", "rows nonempty", "columns nonempty")
RELATIVE_CLAIMS = ("within", "contains", "equals", "disjoint")


def _claim(scope: Scope) -> str:
    claim = scope.draw.choice((*PLAIN_CLAIMS, *RELATIVE_CLAIMS))
    if claim in RELATIVE_CLAIMS:
        claim = f"{claim} {scope.draw.choice(('window(4)', '(q == k or causal)', 'full', 'k < 3'))}"
    return f"not {claim}" if scope.chance(0.3) else claim


def _check(draw: Random, sizes: Sizes) -> str:
    first = sizes.q_start[0]
    match draw.randrange(4):
        case 0:
            lines = ["".join(draw.choice("##...2") for _ in range(sizes.n)) for _ in range(sizes.m)]
            return 'picture """\n' + "\n".join(lines) + '\n"""'
        case 1:
            return f"row {first + draw.randrange(sizes.m)} == {{0..{draw.randrange(sizes.n)}}}"
        case 2:
            return f"column {draw.randrange(sizes.n)} == {{{draw.randrange(sizes.n)}, {sizes.n}}}"
        case _:
            return f"pairs == {draw.randrange(sizes.n * sizes.m)}"
