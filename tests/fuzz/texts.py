"""Hostile texts: whatever is read, nothing but AttnError comes out of it, within a second and 256 MiB.

Valid texts with words and characters changed, texts grown from the grammar, plain bytes, and now and then a text as
large or as deep as one can be.
"""

from __future__ import annotations

import re
import resource
import time
import tracemalloc
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import itemgetter
from pathlib import Path
from random import Random

from attnc.compiler.diagnostics import limits
from attnc.compiler.diagnostics.diagnostic import AttnError
from attnc.compiler.formatter.formatter import formatted
from attnc.compiler.modules.loader import Module, bind, load_text
from attnc.compiler.syntax.grammar import parser, vocabulary
from tests.support.generators import programs

TESTS = Path(__file__).parents[1]
MODULES = TESTS / "golden" / "modules"
PINNED = TESTS / "golden" / "texts"
SUFFIX = "attn"
SECONDS = 1.0  # of the processor, for one text
LAYOUT_SECONDS = 5.0  # and to lay it out, which nobody has to wait for to know its faults
ATTEMPTS = 3  # at a text that seems to take longer
BRIEF = 0.02  # seconds in which nothing takes as much memory as would matter
BOUND = 50  # declarations of one text that are bound
MEMORY = 256 << 20  # bytes that one text may take
_PAGE = resource.getpagesize()


@dataclass(frozen=True)
class HostileText:
    """One text. ``data`` is bytes, or characters that need not be encodable."""

    seed: int
    data: str | bytes


def told(text: HostileText) -> str:
    """The text in one line, cut where it is long."""
    shown = repr(text.data)
    return shown if len(shown) <= 4000 else f"{shown[:2000]} … {shown[-2000:]} ({len(shown):,} characters)"


def kept(text: HostileText) -> bytes:
    """The text as bytes: what is moved to ``tests/golden/texts/`` is read again by :func:`pinned`."""
    return text.data if isinstance(text.data, bytes) else text.data.encode("utf-8", "surrogatepass")


def pinned() -> Iterator[HostileText]:
    """The texts that failed once, as bytes and as characters."""
    for path in sorted(PINNED.glob(f"*.{SUFFIX}")):
        data = path.read_bytes()
        yield HostileText(0, data)
        yield HostileText(0, data.decode("utf-8", "surrogateescape"))


# What is asked of every text


def fault(text: HostileText) -> str | None:
    """What is wrong with how a text is read, bound and laid out, or None. What it raises is a fault too."""
    warm()
    modules: list[Module] = []
    taken = watched(lambda: modules.extend(_read(text.data)))
    if taken is not None:
        return f"reading takes {taken}"
    return _used(Random(text.seed), modules[0]) if modules else None


def _used(draw: Random, module: Module) -> str | None:
    """What is wrong with how a right text is bound and laid out."""
    names = sorted(module.declarations)
    for name in draw.sample(names, min(len(names), BOUND)):
        taken = watched(partial(_bind, draw.getrandbits(32), module, name))
        if taken is not None:
            return f"binding `{name}` takes {taken}"
    if draw.random() < 0.2:
        taken = watched(lambda: _attempt(lambda: formatted(module.source.text)), LAYOUT_SECONDS)
        if taken is not None:
            return f"laying out takes {taken}"
    return None


@lru_cache(maxsize=1)
def warm() -> int:
    """Build what a process builds once, so that no text is charged for it; the bytes that the process holds then."""
    load_text("pattern p = causal")
    corpus()
    return _resident()


def watched(action: Callable[[], object], most: float = SECONDS) -> str | None:
    """Run something; what it took, if that is more than a text may take."""
    start = time.perf_counter()
    action()
    taken = time.perf_counter() - start
    if taken < BRIEF:  # too brief for either; asking the system costs more than most texts
        return None
    # The peak may be older than this text: a process that held much before tells nothing of it, and is asked again.
    if _peak() - warm() > MEMORY and (held := _held(action)) > MEMORY:
        return f"{held >> 20} MiB"
    # A busy machine makes everything late, and takes some of the processor's time too.
    return None if taken <= most else _slow(action, most)


def _slow(action: Callable[[], object], most: float) -> str | None:
    fastest = float("inf")
    for _ in range(ATTEMPTS):
        start = time.thread_time()
        action()
        fastest = min(fastest, time.thread_time() - start)
        if fastest <= most:
            return None
    return f"{fastest:.2f} s"


def _held(action: Callable[[], object]) -> int:
    """The bytes that Python holds at most while the action runs."""
    tracemalloc.start(1)
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * _PAGE


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _attempt(action: Callable[[], object]) -> None:
    try:
        action()
    except AttnError as error:
        if not error.diagnostics or not str(error):
            raise RuntimeError("an error that says nothing") from error
        for fault in error.diagnostics:
            for label in (*([fault.primary] if fault.primary else []), *fault.related):
                span = label.span
                if not 0 <= span.start <= span.end <= len(span.source.text):
                    raise RuntimeError(f"{fault.slug} is at {span}, outside of its text") from error


def _read(data: str | bytes) -> list[Module]:
    found: list[Module] = []
    _attempt(lambda: found.append(load_text(data, folder=MODULES)))
    return found


_CONSTANTS: dict[str, tuple[object, ...]] = {
    "int": (0, 1, 4, -3, limits.LARGEST, -limits.LARGEST, "4", 1.5),
    "float": (0, 0.5, 1e308, float("nan"), None),
    "bool": (True, False, 1),
    "set": (frozenset(), {1, 2, 9}, range(0, 10**4, 3), range(10**18), [1 << 70], "12"),
}


def _bind(seed: int, module: Module, name: str) -> None:
    draw = Random(seed)
    parameters = module.declarations[name].parameters
    constants = {p.name: draw.choice(_CONSTANTS[p.type.element]) for p in parameters if p.compile_time}
    _attempt(lambda: bind(module, name, constants))


# Where texts come from


def generate(seed: int) -> HostileText:
    """The text of a seed."""
    draw = Random(seed)
    kind = draw.random()
    if kind < 0.0005:
        return HostileText(seed, extreme(draw))
    if kind < 0.1:
        return HostileText(seed, raw(draw))
    if kind < 0.35:
        return HostileText(seed, grown(draw))
    text = mutated(draw)
    return HostileText(seed, text.encode("utf-8", "surrogatepass") if draw.random() < 0.2 else text)


_WORDS = re.compile(r'"""|[A-Za-z_]\w*|\d+(?:\.\d+)?|\*\*|\.\.<|\.\.|//|<=|>=|==|!=|\s+|\S')
_STRANGE = (
    "999999999999999999", "9999999999999999999", "0", "-1", "1e308", "1e309", "{}", "[]", "()", "{", "]", "\0", "é",
    "ﬁ", "'", '"', '"""', "\ud800", "\N{RIGHT-TO-LEFT OVERRIDE}", "\ufeff", "s", "layer", "#", "\\", "{{7*7}}", "`",
    "\r", "\x0b", "\f", "lambda", "__import__", "a" * 64, "a" * 65, "..", "..<", "…", "q", "10**17", "not in", "in",
    "=",
)  # fmt: skip


@lru_cache(maxsize=1)
def corpus() -> tuple[tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    """Texts to start from, as words: right ones, and wrong ones."""
    right = [path.read_text(encoding="utf-8") for path in sorted((TESTS.parent / "patterns").rglob("*.attn"))]
    right += re.split(r"(?m)^(?=#= )", (TESTS / "golden" / "language" / "gallery.attn").read_text(encoding="utf-8"))
    right += [programs.generate(seed).text for seed in range(300)]
    cases = (TESTS / "golden" / "language" / "faults.txt").read_text(encoding="utf-8").split("\n---\n")
    wrong = [case.partition("\n>>>\n")[0] for case in cases]
    wrong += [path.read_text(encoding="utf-8") for path in sorted((TESTS / "golden" / "errors").glob("*.attn"))]
    several = (tuple(tuple(_WORDS.findall(text)) for text in texts if text.strip()) for texts in (right, wrong))
    return next(several), next(several)


@lru_cache(maxsize=1)
def _vocabulary() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words that start like a name, and all others."""
    words = [word for texts in corpus() for text in texts for word in text]
    return tuple(w for w in words if w[0].isalpha()), tuple(w for w in words if not w[0].isalpha())


def mutated(draw: Random) -> str:
    """A text of the corpus with a few words changed, dropped, doubled, moved or made strange."""
    right, wrong = corpus()
    text = list(draw.choice(right if draw.random() < 0.75 else wrong))
    if draw.random() < 0.1:
        text += draw.choice(right)
    alike, others = _vocabulary()
    for _ in range(draw.choice((0, 1, 1, 1, 2, 4, 8))):
        place = draw.randrange(len(text))
        match draw.randrange(9):
            case 0:
                text[place] = draw.choice(_STRANGE)
            case 1:
                text[place] = " "
            case 2:
                text[place:place] = text[place : place + draw.randrange(1, 12)]
            case 3:
                other = draw.randrange(len(text))
                text[place], text[other] = text[other], text[place]
            case 4:
                word = text[place]
                at = draw.randrange(len(word) + 1)
                text[place] = word[:at] + chr(draw.choice((draw.randrange(128), draw.randrange(0x3000)))) + word[at:]
            case 5:
                text[place] = draw.choice(others if text[place][0].isalpha() else alike)
            case _:
                text[place] = draw.choice(alike if text[place][0].isalpha() else others)
    return "".join(text)


def raw(draw: Random) -> str | bytes:
    """Bytes or characters of no grammar."""
    length = draw.choice((4, 40, 400))
    match draw.randrange(4):
        case 0:
            return draw.randbytes(draw.randrange(length))
        case 1:
            return "".join(chr(draw.randrange(128)) for _ in range(draw.randrange(length)))
        case 2:
            return "".join(chr(draw.randrange(0x110000)) for _ in range(draw.randrange(length)))
    alike, others = _vocabulary()
    return " ".join(draw.choice(draw.choice((alike, others))) for _ in range(draw.randrange(length)))


# Texts from the grammar


Rule = tuple[str, ...]  # what a symbol becomes: terminals in capitals, and other symbols


@dataclass(frozen=True)
class _Grammar:
    """The rules of each symbol, each with the depth of the least tree that it has; and what terminals look like."""

    rules: dict[str, list[tuple[int, Rule]]]  # the shallowest first
    terminals: dict[str, tuple[str, ...]]


_NAMES = ("a", "b", "size", "g", "doc", "p", "r", "causal", "full", "window", "mask", "int", "token", "tokens", "order")
_SHAPES = {
    "INT": ("0", "1", "2", "7", "64", "999999999999999999"), "FLOAT": ("0.5", "1e9", "1.5e308"), "NAME": _NAMES,
    "TEXT": ('"""#"""', '"""#. .#"""', '"""\n##\n.2\n"""', '"""x"""'),
}  # fmt: skip


@lru_cache(maxsize=1)
def _grammar() -> _Grammar:
    rules = [(str(rule.origin.name), tuple(str(symbol.name) for symbol in rule.expansion)) for rule in parser().rules]
    depths: dict[str, int] = {}  # of the least tree of each symbol

    def reached(parts: Rule) -> int | None:
        below = [0 if part.isupper() else depths.get(part) for part in parts]
        return None if None in below else 1 + max(depth for depth in below if depth is not None)

    changed = True
    while changed:
        changed = False
        for symbol, parts in rules:
            depth = reached(parts)
            if depth is not None and depth < depths.get(symbol, 1000):
                depths[symbol] = depth
                changed = True
    by_symbol: dict[str, list[tuple[int, Rule]]] = {}
    for symbol, parts in rules:
        by_symbol.setdefault(symbol, []).append((reached(parts) or 0, parts))
    for several in by_symbol.values():
        several.sort(key=itemgetter(0))
    return _Grammar(by_symbol, {name: words for name, words in vocabulary().spellings.items() if words} | _SHAPES)


def grown(draw: Random) -> str:
    """A few declarations derived from the grammar at random."""
    return "\n".join(_derived(draw, draw.choice((8, 16, 30))) for _ in range(draw.choice((1, 1, 2, 4))))


def _derived(draw: Random, room: int) -> str:
    whole = _grammar()
    words: list[str] = []
    stack = [("declaration", room)]
    while stack:
        name, left = stack.pop()
        if name.isupper():
            words.append(draw.choice(whole.terminals[name]))
            continue
        choices = whole.rules[name]
        if len(words) + len(stack) > 200:  # enough: the shortest way out
            parts = choices[0][1]
        else:
            fitting = bisect_right(choices, left, key=itemgetter(0))
            parts = choices[draw.randrange(fitting) if fitting else 0][1]
        stack.extend((part, left - 1) for part in reversed(parts))
    return " ".join(words)


# Texts at the limits


# What stands before, what is repeated, what stands between, what stands after: right texts of any width.
_WIDE = (
    ("pattern p = ", "q + {i} < k", " or ", ""),
    ("pattern p = ", "(q + {i} == k)", " + ", ""),
    ("pattern p = q < max(", "q + {i}", ", ", ")"),
    ("pattern p = q < hash(", "k * {i}", ", ", ")"),
    ("pattern p = sum(", "(q == k + {i} + i)", " + ", " for i in 0..9)"),
    ("pattern p = q < k where ", "a{i} = q + {i}", ", ", ""),
    ("pattern p = a1 < k where a0 = q, a1 = q, ", "a{i}0 = a1 * {i} + a0", ", ", ""),
    ("pattern p = k in {", "{i}, {i}0..q", ", ", "}"),
    ("const c = {", "{i}", ", ", "} pattern p = k in c and q not in c"),
    ("const c = {", "{i} * 3", ", ", "} pattern p = sum((q == i) for i in c)"),
    ("const c = [", "{i}", ", ", "] pattern p = q < c[3] and any(q == c[i] for i in 0..9999)"),
    ("const c = [", "[{i}]", ", ", "] pattern a(t: int[x, y]) = t[q, k] == 1 pattern p = a(c)"),
    ("", "pattern p{i} = q < k + {i}", "\n", ""),
    ("pattern base(keep: set) = k in keep ", "pattern p{i} = base({{0..{i}, 7, 9}})", " ", ""),
    ("", "# comment {i}\nconst c{i} = {i} # more", "\n", ""),
    ("", "model m{i} {{ layers = 99999 heads = 1 layer * = window(layer + 1) }}", "\n", ""),
    ("", "model m{i} {{ layers = 1 heads = 99999 layer * = window(head + 1) }}", "\n", ""),
    ("model m { layers = 9999 heads = 9 ", "layer {i} = window({i} + layer)", " ", " layer * = full }"),
    ("attention a { mask = causal score = s + ", "q * {i}", " + ", " }"),
    ("attention a(t: float[head]) { mask = causal score = ", "exp(t[head] * {i})", " * ", " }"),
    ("pattern p(", "a{i}: int = {i}", ", ", ") = q < a0"),
    ("pattern p(", "a{i}: int[b{i}]", ", ", ") = q < a0[k]"),
    ("from std import ", "window as w{i}", ", ", ""),
    ("", "test causal at n = 4096 {{ row {i} == {{0..{i}}} }}", " ", ""),
    ("test causal at n = 4096 { ", "row {i} == {{0..{i}}}", " ", " }"),
    ("test causal at n = 4096 { ", "row {i} == {{0..99999}}", " ", " }"),
    ("test window(4) for all n { ", "within window({i})", " ", " }"),
    ("test documents(doc = [", "{i}", ", ", "]) at n = 4096 { symmetric }"),
    ("test sees_all(g = {", "{i}", ", ", "}) at n = 4096 { symmetric }"),
    ('test causal at n = 4096 { picture """', "#", "", '""" }'),
)


def wide(draw: Random) -> str:
    """A right text with one thing in it repeated as often as a text may hold it, or past that."""
    return wide_text(draw.choice(_WIDE), draw.choice((300, 1000, 2000, 3000, 6000, 10_000)))


def wide_text(shape: tuple[str, str, str, str], times: int) -> str:
    """What stands before, what is repeated with its number, what stands between, what stands after."""
    start, piece, between, end = shape
    several = [piece.format(i=i) for i in range(times)] if "{" in piece else [piece] * times
    return start + between.join(several) + end


def extreme(draw: Random) -> str | bytes:
    """As long, as deep or as wide as a text can be, and a little more."""
    if draw.random() < 0.5:
        return wide(draw)
    piece = draw.choice(
        (
            "(", "[", "not ", "-", "q ", "q + ", "q < k or ", "a = ", "pattern p = q ", "#\n", "\n", '"', "é", "9",
            "a", "1 if q < k else ", "pattern p{i} = q < {i} ", "pattern p{i} = p{j} or q < {i} ",
            "const c{i} = [{i}, c{j}] ", "from m{i} import x{i} ", "test causal at n = {i} {{ causal }} ", "a{i}, ",
            "2 ** ", "lambda{i} ", "lambda ", "{{{i}, ", "window({i}) or ", "x{i}: int, ", "a{i} = a{j} + a{j}, ",
            "head {i} = causal ", "layer {i} = full ", "pattern p{i}(x: int) = p{j}(x + 1) or p{j}(x + 2) ",
            "zz{i} or ", "max(", "any(", "pattern p = \ud800 ",
        )
    )  # fmt: skip
    start = draw.choice(
        ("", "pattern p = ", "pattern p = q < k where ", "const c = ", "const c = {", "attention a { mask = ", "#",
         "model m { layers = 100000 heads = 1 ", "model m { layers = 1 heads = 99999 layer 0 { ", "pattern p(", '"""',
         "test p at n = 4096 { ", "pattern p = sum(" * 6)
    )  # fmt: skip
    end = draw.choice(("", " causal", ")", "}", "0", ")" * draw.randrange(100), " for i in 0..99)" * 6))
    times = draw.choice((65, 130, 1000, 6000, limits.TOKENS + 1, limits.BYTES // max(len(piece), 1) + 1))
    body = "".join(piece.format(i=i, j=i - 1) for i in range(times)) if "{i}" in piece else piece * times
    text = (start + body + end)[: limits.BYTES + draw.choice((0, 1, -1000))]
    return text.encode("utf-8", "surrogatepass") if draw.random() < 0.3 else text
