"""Our reading of the grammar's tables against Lark's own parser: the same texts taken, the same trees, the same words
refused, and the same words expected there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from random import Random

import lark
import pytest
from lark.exceptions import UnexpectedToken

from attnc.compiler.diagnostics.diagnostic import AttnError, Source
from attnc.compiler.syntax.lalr import Branch, Refused, branches, tables
from attnc.compiler.syntax.lexer import Segment, Word, segments
from attnc.compiler.syntax.make_tables import GRAMMAR, built

from . import fuzz_text
from .generate import generate

Shape = tuple[object, ...]  # a name with shapes, or a word with its place; for a refusal the word and what was expected


@lru_cache(maxsize=1)
def judge() -> lark.Lark:
    return built(GRAMMAR.read_text(encoding="utf-8"))


def declarations(text: str) -> Iterator[Segment]:
    """The declarations of a text whose words are without faults; none past a limit."""
    with suppress(AttnError):
        yield from (segment for segment in segments(Source("x", text), lambda _: None) if segment.whole)


def ours(segment: Segment, text: str) -> Shape:
    try:
        return _shape(branches(segment.words, text))
    except Refused as refused:
        return "refused", refused.index, refused.expected


def _shape(piece: Branch | Word) -> Shape:
    if isinstance(piece, Branch):
        return (piece.name, *map(_shape, piece.pieces))
    return piece.text, piece.start, piece.end


def larks(segment: Segment, text: str) -> Shape:
    words = segment.words
    offset = words[0].start
    try:
        return _larks_shape(judge().parse(text[offset : words[-1].end]), offset)
    except UnexpectedToken as error:
        place = offset + int(error.pos_in_stream or 0)
        index = next(i for i, word in enumerate(words) if word.end > place)
        expected = frozenset(error.accepts) or frozenset(error.expected)
        return "refused", len(words) if error.token.type == "$END" else index, expected


def _larks_shape(piece: object, offset: int) -> Shape:
    if isinstance(piece, lark.Tree):
        return (str(piece.data), *(_larks_shape(child, offset) for child in piece.children))
    assert isinstance(piece, lark.Token)
    text = " ".join(piece.split()) if piece.type == "NOT_IN" else str(piece)
    return text, offset + int(piece.start_pos or 0), offset + int(piece.end_pos or 0)


def mutated(seed: int) -> str:
    return fuzz_text.mutated(Random(seed))


def grown(seed: int) -> str:
    return fuzz_text.grown(Random(seed))


def cut(seed: int) -> str:
    """A right text that ends too early."""
    draw = Random(seed)
    text = "".join(draw.choice(fuzz_text.corpus()[0]))
    return text[: draw.randrange(len(text))]


def words_at_random(seed: int) -> str:
    draw = Random(seed)
    alike, others = fuzz_text._vocabulary()
    start = draw.choice(("pattern p = ", "test causal at n = 4 { ", "model m { ", "attention a { mask = ", "from ", ""))
    return start + " ".join(draw.choice(draw.choice((alike, others))) for _ in range(draw.randrange(1, 12)))


def program(seed: int) -> str:
    return generate(seed).text


@pytest.mark.parametrize(
    ("source", "count"), [(program, 60), (mutated, 500), (grown, 200), (cut, 300), (words_at_random, 800)]
)
def test_as_lark_reads_it(source: Callable[[int], str], count: int) -> None:
    read = refused = 0
    for seed in range(count):
        text = source(seed)
        for segment in declarations(text):
            expected = larks(segment, text)
            assert ours(segment, text) == expected, (seed, text[segment.words[0].start : segment.words[-1].end])
            refused += expected[0] == "refused"
            read += expected[0] != "refused"
    assert read > count // 100
    assert source in (program, grown) or refused > count // 20


@pytest.mark.parametrize(
    "text",
    [
        "pattern p(t: int[1.5]) = q < k", "from a..b import c", "const c == 5",
        "model m { layers = 1 layer ** = full }", "pattern p = not in q", "pattern p = q not in {1}",
        "pattern p = q not # why\n in {1}", "pattern p = q not k",
        "test p at n = 3 { within a not in b not causal within c }", "pattern causal(mask: int) = rows and mask",
        "attention mask { mask = mask score = s }", "pattern p =", "pattern", "pattern p = q <", "pattern = q",
        "pattern p = k in 0...3", "pattern p = a[]", "test causal at n = 3 { picture }", "const c = -",
        "const c = {1,,}", "pattern p(size: int,) = q", "pattern p(,) = q", "test p for all n { rows }",
        "test p for all k { }", "pattern p = (q if k else n) if q else (k) ", "const c = 2 ** - 3 ** x",
        'test p at n = 1 { picture """#""" }', "const c = a.b", "pattern p = q // // k", "pattern p = q <= = k",
        "pattern p = sum(q for i in 0..3 in k)",
    ],
)  # fmt: skip
def test_corners_as_lark_reads_them(text: str) -> None:
    (segment,) = declarations(text)
    assert ours(segment, text) == larks(segment, text)


def test_every_word_is_of_a_terminal() -> None:
    assert {*"-+*/%<>=(){}[],:.", "**", "..<", "..", "//", "<=", ">=", "==", "!="} <= set(tables().terminals)
    assert len(tables().rules) > 150
