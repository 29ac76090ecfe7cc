"""What a checked text offers: its declarations, its tests, and the grammar behind both."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import lark
import pytest

from attnc.compiler.diagnostics.collector import ErrorCollector
from attnc.compiler.diagnostics.diagnostic import AttnError, Source
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.modules.loader import (
    Claim,
    Column,
    Pairs,
    Picture,
    Row,
    bind,
    bound_tests,
    load_file,
    load_shipped,
    load_text,
)
from attnc.compiler.syntax import parser as parse
from attnc.compiler.syntax.grammar import START, ContextLexer, grammar_text, vocabulary
from attnc.compiler.syntax.lexer import python_words

TEXT = """
# Not of any declaration.

# A window,
#   twice.
pattern pair(g: tokens, size: int = 2 * 4, i: index = 3) = q in g or abs(q - k) < size
const five = 5  # the number

# Learned.
attention learned(slope: float[head]) { mask = causal  score = s * slope[head] }
model net { layers = 2 heads = 3 layer 0 = causal layer 1 { head 0 = full head * = window(five) } }
"""


def test_declarations() -> None:
    module = load_text(TEXT)
    assert [(d.name, d.kind, d.documentation) for d in module.declarations.values()] == [
        ("pair", "pattern", "A window,\n  twice."),
        ("five", "const", ""),
        ("learned", "attention", "Learned."),
        ("net", "model", ""),
    ]
    parameters = module.declarations["pair"].parameters
    assert [(p.name, str(p.type), p.default, p.compile_time, p.run_time) for p in parameters] == [
        ("g", "tokens", None, False, True),
        ("size", "int", "2 * 4", True, False),
        ("i", "index", "3", False, False),
    ]
    assert [str(p.type) for p in module.declarations["learned"].parameters] == ["float[head]"]
    with pytest.raises(TypeError):
        module.declarations["x"] = module.declarations["net"]  # type: ignore[index]


def test_the_prelude_is_documented_and_its_own_module() -> None:
    declarations = load_shipped("std").declarations
    assert len(declarations) == 19
    assert all(declaration.documentation for declaration in declarations.values())
    assert load_text("pattern p = causal").declarations.keys() == {"p"}
    assert load_shipped("std") is load_shipped("std")


TESTS = '''
pattern p(g: tokens, len: int[], doc: int[token], w: int = 3) = q in g or k < len and doc[q] == doc[k] and q - k < w
test p(g = {0, 2}, len = 3, doc = [0, 0, 1, 1]) at n = 2 + 2, heads = 2, head = 1, q_start = 1 {
    picture """
        # # . 2

        ....
    """
    row n - 1 == {0, 2..3}  column heads - 1 == {}  pairs == 7
    not within causal + full  rows nonempty  equals p(g, len, doc, w)  disjoint documents([0, 1, 0, 1])
}
test p(doc = [0, 1]) for all n { not causal  contains p(g, len, doc, 2) }
model m1(g: tokens = {5}) { layers = 3 heads = 2 layer 0..1 = sees_all(g) layer 2 { head 0 = causal head 1 = full } }
test m1 at n = 3, layer = 2, head = 1, heads = 2 { symmetric }
test m1 for all n { not symmetric }
attention a(t: float[head]) { mask = causal sink = t[head] }
test a(t = [1, 2]) at n = 3, heads = 2 { causal }
'''


def test_bound_tests() -> None:
    found = bound_tests(load_text(TESTS))
    assert [test.title for test in found] == [
        "p(g = {0, 2}, len = 3, doc = [0, 0, 1, 1]) at n = 2 + 2, heads = 2, head = 1, q_start = 1",
        "p(doc = [0, 1]) for all n",
        "m1 at n = 3, layer = 2, head = 1, heads = 2",
        "m1 for all n, layer 0",
        "m1 for all n, layer 2",
        "a(t = [1, 2]) at n = 3, heads = 2",
    ]
    assert [(test.extent, test.head, test.heads) for test in found] == [
        (CallShape(4, 3, 2, (1,)), 1, 2),
        (None, 0, None),
        (CallShape(3, 3, 2, (0,)), 1, 2),
        (None, 0, 2),
        (None, 0, 2),
        (CallShape(3, 3, 2, (0,)), 0, 2),
    ]


def test_checks_and_tables_of_a_test() -> None:
    first, second, third, fourth, _, last = bound_tests(load_text(TESTS))
    picture, row, column, pairs, within, rows, equals, disjoint = first.checks
    assert picture == Picture(("##.2", "...."))
    assert (row, column, pairs) == (Row(3, frozenset({0, 2, 3})), Column(1, frozenset()), Pairs(7))
    assert isinstance(within, Claim)
    assert (within.kind, within.negated, within.operand and within.operand.type) == ("within", True, "count")
    assert rows == Claim("rows nonempty")
    assert isinstance(equals, Claim)
    assert equals.operand == first.subject.mask
    assert isinstance(disjoint, Claim)
    assert sorted(table.value for table in first.subject.tables) == [(0, 0, 1, 1), (0, 1, 0, 1)]
    assert [(table.name, table.value) for table in second.subject.tables] == [
        ("g", None),
        ("len", None),
        ("doc", (0, 1)),
    ]
    assert third.subject.tables == ()
    assert [(table.name, table.default) for table in fourth.subject.tables] == [("g", frozenset({5}))]
    assert [(table.name, table.value) for table in last.subject.tables] == [("t", (1.0, 2.0))]
    for check in first.checks:
        assert check.span is not None
        assert check.span.position(check.span.start)[0] > 3


def test_shipped_modules_are_without_faults() -> None:
    for path in sorted((Path(__file__).parents[2] / "patterns").rglob("*.attn")):
        module = load_file(path)
        for declaration in module.declarations.values():
            if declaration.kind != "const" and all(p.default for p in declaration.parameters if p.compile_time):
                bind(module, declaration.name, {})


# The grammar


@pytest.mark.parametrize("word", sorted(vocabulary().reserved | python_words()))
def test_a_reserved_word_is_no_name(word: str) -> None:
    with pytest.raises(AttnError):
        load_text(f"pattern {word} = causal")
    with pytest.raises(AttnError):
        load_text(f"pattern p({word}: int) = causal")


FREE = [
    "sink", "causal", "rows", "row", "column", "columns", "pairs", "picture", "mask", "score", "symmetric", "diagonal",
    "within", "contains", "equals", "disjoint", "nonempty", "int", "float", "bool", "set", "tokens", "index", "order",
    "token", "query", "orbit", "android", "inner", "iffy", "nothing", "attentions", "qk", "layered", "truely", "_",
    "m1",
]  # fmt: skip


@pytest.mark.parametrize("word", FREE)
def test_every_other_word_may_be_a_name(word: str) -> None:
    text = f"pattern {word} = q < k\npattern p(x_{word}: int) = {word} and q < x_{word}\n"
    text += f"test {word} at n = 3 {{ within {word} contains {word} not causal equals {word} rows nonempty }}"
    assert len(bound_tests(load_text(text))[0].checks) == 5
    load_text(f"pattern p(t: int[{word}, 3]) = {word} < 3 where {word} = 4" if word not in ("token", "query") else "")


def test_words_do_not_run_into_each_other() -> None:
    for text in (
        "pattern p = causal orfull",
        "pattern p = notcausal",
        "test causal at n=3 { rowsnonempty }",
        "test causal atn = 3 {}",
    ):
        with pytest.raises(AttnError):
            load_text(text)


def test_the_grammar_is_free_of_conflicts(caplog: pytest.LogCaptureFixture) -> None:
    text = grammar_text()
    lark.logger.setLevel(logging.DEBUG)
    try:
        with caplog.at_level(logging.DEBUG, logger=lark.logger.name):
            lark.logger.addHandler(caplog.handler)
            lark.Lark(text, parser="lalr", lexer=ContextLexer, start=START, debug=True)
    finally:
        lark.logger.removeHandler(caplog.handler)
        lark.logger.setLevel(logging.CRITICAL)
    assert not [record.message for record in caplog.records if "conflict" in record.message.lower()]


def test_the_tree_keeps_places() -> None:
    source = Source("x", "# é\npattern p = (q + k) in {1, 2..3} or not causal")
    (pattern,) = parse.parse(source, ErrorCollector()).declarations
    assert source.text[pattern.span.start : pattern.span.end].startswith("pattern p")
    body = pattern.body  # type: ignore[union-attr]
    parts = [source.text[part.span.start : part.span.end] for part in body.parts]  # type: ignore[union-attr]
    assert parts == ["(q + k) in {1, 2..3}", "not causal"]


def test_checking_loads_nothing_heavy() -> None:
    script = "import sys, attnc; attnc.loads('pattern p = window(3)');" \
        "print({'torch', 'triton', 'islpy', 'jinja2', 'transformers', 'lark'} & {*sys.modules})"  # fmt: skip
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout == "{'lark'}\n"


def test_a_range_of_any_length_is_a_set() -> None:
    module = load_text("pattern p(keep: set) = k in keep")
    for given, same in ((range(10**18), {0}), (range(9, 2, -1), range(3, 10)), (range(0), set())):
        mask = bind(module, "p", {"keep": given}).mask  # type: ignore[union-attr]
        assert (mask == bind(module, "p", {"keep": same}).mask) == (len(given) < 10**18)  # type: ignore[union-attr]
