"""The grammar and what is made of it: the parser, the words and signs, and which terminal a word has where.

Lark's own contextual lexer is the judge of our lexer: the same texts taken, with the same trees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from random import Random

import lark
import pytest
from lark.exceptions import UnexpectedInput, UnexpectedToken
from lark.lexer import PatternRE, TerminalDef

from attnc.compiler.diagnostics.diagnostic import AttnError, Source
from attnc.compiler.formatter.rules import Layout
from attnc.compiler.syntax.grammar import START, ContextLexer, Token, grammar_text, parser, vocabulary
from attnc.compiler.syntax.lexer import DeclarationTokens, comments, declaration_tokens, tokens
from attnc.compiler.syntax.parser import parse_tokens
from attnc.compiler.syntax.tree_builder import TreeBuilder
from tests.fuzz import texts as fuzz_text
from tests.support import coverage
from tests.support.generators.programs import generate

Shape = tuple[object, ...]  # the name of a rule with shapes, or the terminal of a token with its place


def test_no_parser_is_read_from_a_file() -> None:
    """Lark's cache would be a pickle, in a folder that others can write to."""
    assert not parser().options.cache
    assert parser().options.lexer is ContextLexer


# Words and signs


def test_every_terminal_is_told_apart() -> None:
    known = vocabulary()
    unbounded = {name for name, texts in known.spellings.items() if not texts}
    assert unbounded == {"NAME", "INT", "FLOAT", "TEXT", "COMMENT", "BLANK"}
    assert len(known.types) == sum(len(texts) for texts in known.spellings.values()), "no text is of two terminals"
    for text, terminal in known.types.items():
        assert [(token.type, token.value) for token in tokens(f" {text} ")] == [(terminal, text)]
    assert {*"-+*/%<>=(){}[],:.", "**", "..<", "..", "//", "<=", ">=", "==", "!="} < set(known.types)
    assert known.starters == {"const", "pattern", "attention", "model", "test", "from"}
    assert known.starters < known.reserved
    assert {"rows", "causal", "mask", "picture", "not in"} < set(known.types)
    assert not {"rows", "causal", "mask", "picture", "not in"} & known.reserved


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0..3", ["INT 0", "RANGE ..", "INT 3"]), ("1.5..<2e3", ["FLOAT 1.5", "RANGE ..<", "FLOAT 2e3"]),
        ("q**-2", ["POSITION q", "__ANON_1 **", "MINUS -", "INT 2"]), ("qk order", ["NAME qk", "NAME order"]),
        ("not \n in", ["NOT_IN not in"]), ("not # why\n in", ["NOT not", "IN in"]),
        ("not inner", ["NOT not", "NAME inner"]), ("notin", ["NAME notin"]),
        ('picture """#."""', ["PICTURE picture", 'TEXT """#."""']),
        ('""', ['UNKNOWN ""']), ("é!", ["UNKNOWN é", "UNKNOWN !"]), ("#\r\n a #b", ["NAME a"]),
        ("1.e5", ["INT 1", "DOT .", "NAME e5"]), ("a.b", ["NAME a", "DOT .", "NAME b"]), ("", []),
    ],
)  # fmt: skip
def test_tokens(text: str, found: list[str]) -> None:
    assert [f"{token.type} {token.value}" for token in tokens(text)] == found
    for token in tokens(text):
        assert " ".join(text[token.start_pos : token.end_pos].split()) == token.value


def test_comments_are_found_outside_of_pictures() -> None:
    text = '# a\npattern p = causal # b\ntest p at n = 1 { picture """#""" }#c'
    assert [text[start:end] for start, end in comments(text)] == ["# a", "# b", "#c"]


def terminals(text: str) -> list[str]:
    """What the parser takes the tokens of a declaration for."""
    session = parser().parse_interactive(tuple(tokens(text)))
    return [str(token.type) for token in session.exhaust_lexer()]


def test_a_word_is_a_name_where_its_own_terminal_does_not_fit() -> None:
    assert terminals("attention mask { mask = mask score = s }") == [
        "ATTENTION", "NAME", "LBRACE", "FIELD", "EQUAL", "NAME", "FIELD", "EQUAL", "POSITION", "RBRACE",
    ]  # fmt: skip
    assert terminals("test row for all n { within rows rows nonempty row row == {1} }")[6:] == [
        "RELATION", "NAME", "EVERY", "NONEMPTY", "LINE", "NAME", "__ANON_0", "LBRACE", "INT", "RBRACE", "RBRACE",
    ]  # fmt: skip


def test_a_reserved_word_is_a_name_nowhere() -> None:
    for word in vocabulary().reserved:
        with pytest.raises(UnexpectedToken) as caught:
            parser().parse(tuple(tokens(f"pattern {word} = causal")))
        assert caught.value.accepts == {"NAME"}


# Every rule is built and laid out


def test_the_tree_builder_and_the_layout_know_every_rule() -> None:
    rules = {name.removeprefix("rule ") for name in coverage.rules()}
    assert {rule for rule in rules if rule not in vars(TreeBuilder)} == set()
    assert {rule for rule in rules if rule not in vars(Layout)} <= {
        "integer", "float_", "truth", "builtin", "name", "dimension", "imported", "layer_rule",
    } | {"application"}  # fmt: skip


# Lark's own lexer as the judge


def _whole(terminal: TerminalDef) -> None:
    """Let a word end where it ends: our lexer reads words before it asks what they are."""
    if any(text.isalpha() for text in vocabulary().spellings[terminal.name]):
        terminal.pattern = PatternRE(f"(?:{terminal.pattern.value})\\b")


@lru_cache(maxsize=1)
def judge() -> lark.Lark:
    return lark.Lark(
        grammar_text(), parser="lalr", lexer="contextual", start=START, edit_terminals=_whole,
        keep_all_tokens=True, maybe_placeholders=False,
    )  # fmt: skip


def declarations(text: str) -> Iterator[DeclarationTokens]:
    """The declarations of a text whose tokens are without faults; none past a limit."""
    with suppress(AttnError):
        yield from (
            declaration for declaration in declaration_tokens(Source("x", text), lambda _: None) if declaration.parsable
        )


def shape(piece: object, offset: int) -> Shape:
    if isinstance(piece, lark.Tree):
        return (str(piece.data), *(shape(child, offset) for child in piece.children))
    assert isinstance(piece, lark.Token)
    return piece.type, offset + int(piece.start_pos or 0), offset + int(piece.end_pos or 0)


def ours(declaration: DeclarationTokens) -> Shape | None:
    try:
        return shape(parse_tokens(declaration), 0)
    except UnexpectedToken:
        return None


def larks(declaration: DeclarationTokens, text: str) -> Shape | None:
    start, end = declaration.tokens[0].start_pos, declaration.tokens[-1].end_pos
    try:
        return shape(judge().parse(text[start:end]), start)
    except UnexpectedInput:
        return None


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
def test_as_larks_own_lexer_reads_it(source: Callable[[int], str], count: int) -> None:
    read = refused = 0
    for seed in range(count):
        text = source(seed)
        for declaration in declarations(text):
            found, expected = ours(declaration), larks(declaration, text)
            told = seed, text[declaration.tokens[0].start_pos : declaration.tokens[-1].end_pos]
            if found is None and expected is not None:  # Lark's takes a reserved word for a name
                named = [token for token in declaration.tokens if token.value in vocabulary().reserved]
                assert named, told
            else:
                assert found == expected, told
            refused += found is None
            read += found is not None
    assert read > count // 100
    assert source in (program, grown) or refused > count // 20


CORNERS = [
    "pattern p(t: int[1.5]) = q < k", "from a..b import c", "const c == 5", "pattern p = not in q",
    "model m { layers = 1 layer ** = full }", "pattern p = q not in {1}", "pattern p = q not # why\n in {1}",
    "pattern p = q not k", "test p at n = 3 { within a not in b not causal within c }", "pattern p =", "pattern",
    "pattern causal(mask: int) = rows and mask", "attention mask { mask = mask score = s }", "pattern p = q <",
    "pattern p = k in 0...3", "pattern p = a[]", "test causal at n = 3 { picture }", "const c = -", "const c = {1,}",
    "const c = {1,,}", "pattern p(size: int,) = q", "pattern p(,) = q", "test p for all n { rows }", "const c = [1,]",
    "test p for all k { }", "pattern p = (q if k else n) if q else (k) ", "const c = 2 ** - 3 ** x", "pattern = q",
    'test p at n = 1 { picture """#""" }', "const c = a.b", "pattern p = q // // k", "pattern p = q <= = k",
    "pattern p = sum(q for i in 0..3 in k)", "pattern p = abs(q,)", "pattern p = t[q,]", "pattern p = w(q,)",
]  # fmt: skip


@pytest.mark.parametrize("text", CORNERS)
def test_corners_as_larks_own_lexer_reads_them(text: str) -> None:
    (declaration,) = declarations(text)
    assert ours(declaration) == larks(declaration, text)


def test_tokens_are_where_they_stand() -> None:
    (declaration,) = declarations("  pattern  causal = causal")
    leaves = [leaf for leaf in parse_tokens(declaration).scan_values(lambda _: True) if isinstance(leaf, Token)]
    assert [(leaf.type, leaf.start_pos, leaf.end_pos) for leaf in leaves] == [
        ("PATTERN", 2, 9), ("NAME", 11, 17), ("EQUAL", 18, 19), ("NAME", 20, 26),
    ]  # fmt: skip
