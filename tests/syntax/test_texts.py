"""What reading a text costs: steps for each word, whatever the text, and memory at the limits.

Steps are calls, of our functions and of Python's own, counted and not timed: the same on every machine.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from contextlib import suppress
from types import FrameType

import pytest

from attnc.compiler.diagnostics import diagnostic, limits
from attnc.compiler.diagnostics.diagnostic import AttnError, Source
from attnc.compiler.modules.loader import load_text
from attnc.compiler.modules.models import RuleSpan, RuleTable
from attnc.compiler.syntax.lexer import declaration_tokens
from tests.fuzz.texts import wide_text

STEPS = 250  # calls for each word; every shape below takes less than two thirds of it
# What stands before, what is repeated, what stands between, what stands after.
SHAPES = {
    "or": ("pattern p = ", "q + {i} < k", " or ", ""),
    "numbers": ("pattern p = q < ", "k * {i}", " + ", ""),
    "patterns": ("", "pattern p{i} = q < k + {i}", " ", ""),
    "patterns of patterns": ("pattern a = causal ", "pattern p{i} = a or causal", " ", ""),
    "local names": ("pattern p = q < k where ", "a{i} = q + {i}", ", ", ""),
    "parameters": ("pattern p(", "a{i}: int = {i}", ", ", ") = q < a0"),
    "parameters applied": ("pattern z = p or p(a3 = 2) pattern p(", "a{i}: int = {i}", ", ", ") = q < a0"),
    "sets": ("const c = {", "{i}", ", ", "} pattern p = k in c"),
    "numbers in a set": ("const c = {0, 2, 4, 6, 9} pattern p = ", "{i} in c", " or ", ""),
    "lists": ("const c = [", "{i}", ", ", "] pattern a(t: int[x]) = t[q] == 1 pattern p = a(c)"),
    "a list passed on": ("const c = [1, 2, 3] pattern a(t: int[x]) = t[q] == 1 pattern p = ", "a(c)", " or ", ""),
    "layers": ("model m { layers = 700 heads = 2 ", "layer {i} = first({i})", " ", " layer * = full }"),
    "models": ("", "model m{i} {{ layers = 99999 heads = 1 layer 5 = full }}", " ", ""),
    "rules that overlap": ("model m { layers = 50000 heads = 1 ", "layer {i}..49999 = full", " ", "}"),
    "tests": ("", "test causal at n = 4 {{ row {i} == {{0..{i}}} }}", " ", ""),
    "checks": ("test causal at n = 4096 { ", "row {i} == {{0..5}}", " ", " }"),
    "unknown names": ("", "pattern p{i} = zz{i}", " ", ""),
    "missing arguments": ("pattern p(a: int) = q < a ", "pattern p{i} = p", " ", ""),
    "nothing declared": ("", "pattern", " ", ""),
    "a fault in each": ("", "pattern p{i} = q <", " ", ""),
    "signs in a row, then a fault": ("pattern p = q < ", "- ", "", "k = 3"),
    "choices in a row, then a fault": ("pattern p = ", "q < k if q < 3 else ", "", "= k"),
    "pieces of a chain, then a fault": ("const c = {", "1 + 2, ", "", "= 3}"),
    "unknown characters": ("pattern p = ", "é", " ", ""),
}


def words(text: str) -> int:
    return sum(len(declaration.tokens) for declaration in declaration_tokens(Source("", text), lambda _: None))


def steps(text: str) -> int:
    """Calls that it takes to read a text and to check it."""
    count = 0

    def counted(_: FrameType, event: str, __: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        load_text(text)
    except AttnError:
        pass
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("name", SHAPES)
def test_steps_grow_as_the_words_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostic, "CANDIDATES", 10)  # names that a spelling is compared with: at most so many
    load_text("pattern p = causal")
    few, many = (wide_text(SHAPES[name], times) for times in (150, 600))
    more_words = words(many) - words(few) or 450
    more_steps = steps(many) - steps(few)
    assert more_steps / more_words < STEPS, (more_steps, more_words)
    assert steps(many) < 6 * steps(few) + 20_000


@pytest.mark.parametrize(
    "rule", ["= full", "= window(8) if heads > 3 else causal", "{ head 0 = full head * = causal }"]
)
def test_layers_that_are_alike_are_worked_out_once(rule: str) -> None:
    load_text("pattern p = causal")
    few, many = (steps(f"model m {{ layers = {layers} heads = 2 layer * {rule} }}") for layers in (1000, 5000))
    assert (many - few) / 4000 < 100, "calls for each layer"


def test_steps_that_grow_faster_would_be_seen() -> None:
    def slow(text: str) -> int:
        return sum(1 for i in range(len(text) // 1000) for _ in range(i))

    texts = [wide_text(SHAPES["or"], times) for times in (1000, 4000)]
    assert slow(texts[1]) > 6 * slow(texts[0])


@pytest.mark.parametrize("name", ["or", "tests"])
def test_memory_at_the_limit(name: str) -> None:
    start, piece, between, end = SHAPES[name]
    times = limits.TOKENS // (words(piece.format(i=1) + between) + len(between.split())) - 20
    text = wide_text((start, piece, between, end), times)
    assert 0.8 * limits.TOKENS < words(text) < limits.TOKENS
    gc.collect()
    tracemalloc.start()
    try:
        with suppress(AttnError):  # the tests are too many together
            load_text(text)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 256 << 20


TOGETHER = [
    " ".join(f"const c{i} = sum(j for j in 0..60000)" for i in range(9)),
    "pattern big = sum((q == k + i) for i in 0..9000) " + "test big at n = 4 { causal } " * 9,
    "pattern big(x: int) = sum((q == k + i * x) for i in 0..900) "
    + " ".join(f"test big({i}) at n = 4 {{ causal }}" for i in range(90)),
]


@pytest.mark.parametrize("text", TOGETHER, ids=lambda text: text[:20])
def test_constants_and_tests_have_a_limit_together(text: str) -> None:
    with pytest.raises(AttnError) as caught:
        load_text(text)
    (fault,) = caught.value.diagnostics
    assert fault.slug == "too-large"
    assert f"{limits.TOGETHER:,} steps" in fault.message


def test_a_large_constant_and_a_test_of_it_are_within_the_limit() -> None:
    load_text("pattern big = sum((q == k + i) for i in 0..9000) test big at n = 4 { causal }")


# Who owns a layer


def test_owners_are_those_of_a_plain_table() -> None:
    span = load_text("pattern p = causal").declarations["p"].span
    found, plain = RuleTable(), dict[int, int]()
    for rule, (first, last) in enumerate([(5, 9), (0, 1), (12, 12), (9, 14), (2, 3), (3, 3), (13, 20)]):
        taken = next((i for i in range(first, last + 1) if i in plain), None)
        assert found.taken(first, last) == taken
        free = [i for low, high in found.free(first, last) for i in range(low, high + 1)]
        assert free == [i for i in range(first, last + 1) if i not in plain]
        end = last if taken is None else taken - 1
        if first <= end:
            found.enter(RuleSpan(first, end, rule, span))
            plain |= dict.fromkeys(range(first, end + 1), rule)
    assert found.claimed == len(plain)
    for number in range(-1, 25):
        owner = found.owner(number)
        assert (None if owner is None else owner.rule) == plain.get(number)
    found.rest = 7
    assert [found.rule(number) for number in range(22)] == [plain.get(number, 7) for number in range(22)]
