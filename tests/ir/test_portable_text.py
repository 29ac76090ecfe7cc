"""Attentions as lines: there and back for every shipped pattern and random programs; damaged and hostile lines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from random import Random

import pytest

from attnc.compiler import pipeline
from attnc.compiler.codegen.cpp.render import render_cpp
from attnc.compiler.ir.attentions import Attention, Model
from attnc.compiler.ir.portable_reader import MOST_CHARACTERS, PortableTextError, attention_of
from attnc.compiler.ir.portable_writer import FORM, digest, digest_of, portable_text
from attnc.compiler.modules.loader import bind, load_shipped, load_text
from attnc.compiler.plan.dtypes import FP32, usual
from attnc.runtime.base.identities import identity, registered
from attnc.runtime.cpp.backend import CPP
from tests.fuzz.masks import bound
from tests.fuzz.programs import generate_any, newer
from tests.support.shipped_support import SHIPPED

RANDOM, DAMAGED, FIRST = 150, 1_500, 3_000_000
EVERYTHING = """
const near = 0.25
attention everything(g: tokens, slope: float[head], lists: set[token], doc: int[token] = [0, 0, 1], w: int[] = 3) {
    mask = (abs(q - k) // w <= 4 and doc[q] == doc[k] and hash(q, k) % 5 > 0) or k in g or k in lists[q]
    score = tanh(s) - slope[head] * abs(q - k) if q > k else s * near
    scale = 0.1 if head == 0 else 0.5
    sink = slope[head]
}
"""
BODY = "k;q;le:b 0 1;s;=f0x1.0000000000000p+0|mask 2|score 3|scale 4|sink -"


def everything() -> Attention:
    found = bind(load_text(EVERYTHING), "everything", {})
    assert isinstance(found, Attention)
    return found


def shipped() -> Iterator[Attention]:
    for each in SHIPPED:
        found = bind(load_shipped(each.file), each.name, each.constants)
        yield from found.layers if isinstance(found, Model) else [found]
    for file in ("longformer", "bigbird", "longnet"):
        module = load_shipped(file)
        for name, declaration in module.declarations.items():
            if declaration.kind == "model":
                model = bind(module, name, {})
                assert isinstance(model, Model)
                yield from model.layers


def signed(body: str) -> str:
    return f"attnc:{FORM}:{digest(body)}:{body}"


def source(attention: Attention) -> str:
    program = pipeline.program(attention, CPP.tiles(FP32, 64, "cpu").forward)
    kind = usual(program.tables, FP32, 64)
    return "".join(pipeline.source(program, render_cpp, variant).text for _, variant in CPP.variants(kind, "cpu"))


# There and back


def test_everything_comes_back() -> None:
    attention = everything()
    assert replace(attention_of(portable_text(attention)), name=attention.name) == attention


def test_every_shipped_attention_comes_back_with_its_kernels() -> None:
    seen = set()
    for attention in shipped():
        text = portable_text(attention)
        found = attention_of(text)
        assert replace(found, name=attention.name) == attention
        assert portable_text(found) == text
        assert identity(found) == identity(attention) == digest_of(text) == digest(text.split(":", 3)[3])
        if text not in seen and len(seen) < 16:
            assert source(found) == source(attention)
        seen.add(text)
    assert len(seen) > 16


@pytest.mark.parametrize("part", range(3))
def test_random_programs_come_back(part: int) -> None:
    for seed in range(FIRST + part, FIRST + RANDOM, 3):
        for attention in (bound(generate_any(seed)).attention, bound(newer(seed % 1000)).attention):
            assert replace(attention_of(portable_text(attention)), name=attention.name) == attention, f"seed {seed}"


def test_names_of_declarations_and_places_are_left_out_and_names_of_tables_are_not() -> None:
    first, other, third = (
        bind(load_text(text), name, {})
        for text, name in (
            ("pattern a(g: tokens) = k <= q or k in g", "a"),
            ("# elsewhere\n\npattern b(g: tokens) = k <= q or k in g", "b"),
            ("pattern a(h: tokens) = k <= q or k in h", "a"),
        )
    )
    assert isinstance(first, Attention)
    assert isinstance(other, Attention)
    assert isinstance(third, Attention)
    assert portable_text(first) == portable_text(other)
    assert portable_text(first) != portable_text(third)


def test_floats_come_back_to_the_bit() -> None:
    for number in ("0.1", "1e300", "5e-324", "1.7976931348623157e308"):
        attention = bind(load_text(f"attention a {{ mask = k <= q  score = s * {number} }}"), "a", {})
        assert isinstance(attention, Attention)
        assert replace(attention_of(portable_text(attention)), name="a") == attention


def test_reading_needs_neither_torch_nor_the_language() -> None:
    code = (
        f"import sys; from attnc.compiler.ir import attention_of; attention_of({signed(BODY)!r});"
        "loaded = {'torch', 'triton', 'lark', 'islpy', 'attnc.compiler.checker'} & {*sys.modules}; assert not loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_attention_that_this_process_never_bound_is_called_exported() -> None:
    assert registered(signed(BODY)).name == "exported"


# Damaged and hostile lines


def test_the_plain_line_is_read() -> None:
    assert attention_of(signed(BODY)).name == "attention"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", r"is '', expected the line of an attention, which begins with attnc:1:"),
        ("61107607dd0583eddffc49e76163901008a4c716c865b57ea946f77e2a5dbb57", "expected the line of an attention"),
        ("attnc:one:", "expected the line of an attention"),
        ("attnc:²:", "expected the line of an attention"),
        (f"attnc:{FORM + 1}:{digest(BODY)}:{BODY}", "has the form '2', expected 1: another version of attnc wrote it"),
        (signed(BODY)[:-1], "is damaged: its digest is not that of what follows it"),
        (signed(BODY).replace("le", "lt"), "is damaged"),
        (f"attnc:{FORM}:", "is damaged"),
        ("attnc:1:" + "q" * MOST_CHARACTERS, r"has 16,777,224 characters, expected at most 16,777,216"),
    ],
)  # fmt: skip
def test_a_line_that_is_none(text: str, fault: str) -> None:
    with pytest.raises(PortableTextError, match=f"^attention: .*{fault}"):
        attention_of(text)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("|mask 2|score 3|scale 4|sink -", "|mask 2", "has 1 parts after its nodes, expected mask, score, scale, sink"),
        ("|mask 2|", "|score 2|", "has 'score 2', expected its mask"),
        ("mask 2", "mask 5", "has the operand '5', expected the number of an earlier node"),
        ("mask 2", "mask -", "has the operand '-', expected the number of an earlier node"),
        ("mask 2", "mask 3", "has a mask of float, expected bool or count"),
        ("scale 4", "scale 3", "has a scale that reads what no scale may"),
        ("sink -", "sink 3", "has a sink that reads what no sink may"),
        ("le:b 0 1", "le:b 0 2", "has the operand '2', expected the number of an earlier node"),
        ("le:b 0 1", "le:b 0 ٣", "expected the number of an earlier node"),
        ("le:b 0 1", "le:b 0 01", "expected the number of an earlier node"),
        ("le:b 0 1", "le:i 0 1", "has the node 'le:i 0 1', expected one that the language has"),
        ("le:b 0 1", "le:d 0 1", "has the node 'le:d 0 1', expected one that the language has"),
        ("le:b 0 1", "le:b 0", "has the node 'le:b 0', expected one that the language has"),
        ("le:b 0 1", "add:b 0 1", "expected one that the language has, of operands of its types"),
        ("le:b 0 1", "system:b 0 1", "expected one that the language has"),
        ("le:b 0 1", "if:b 0 1 1", "expected one that the language has"),
        ("le:b 0 1", "floordiv:i 0 1", "expected one that the language has"),
        ("k;q;", "k;q 0;", "has the node 'q 0', expected one that the language has"),
        ("k;q;", "k;;", "has the node '', expected one that the language has"),
        ("k;q;", "k;z;", "has the node 'z', expected one that the language has"),
        ("k;q;", "k;head_dim;", "has a mask that reads what no mask may"),
        ("k;q;", "k;=9223372036854775808;", "has the constant '9223372036854775808', expected a condition, an integer"),
        ("k;q;", f"k;={'9' * 5000};", "has the constant '9999.*…', expected a condition"),
        ("k;q;", "k;=-0;", "has the constant '-0', expected"),
        ("f0x1.0000000000000p+0", "fnan", "has the constant 'fnan', expected"),
        ("f0x1.0000000000000p+0", "f0x1.0000000000000p+9999", "has the constant 'f0x1.*', expected"),
        ("f0x1.0000000000000p+0", "f0x1.0p+0", "is not as attnc writes it"),
        ("p+0|", "p+0;n|", "is not as attnc writes it: the same attention has another line"),
        ("sink -", "sink -|tables", "has 'tables', expected a table with a name of its own"),
        ("sink -", "sink -|table g;x set - - - 0", "expected a table with a name of its own"),
        ("sink -", "sink -|table g set - - - 0|table g set - - - 0", "expected a table with a name of its own"),
        ("sink -", f"sink -|table {'g' * 65} set - - - 0", "expected a table with a name of its own"),
        ("sink -", "sink -|table g double - - - 0", "expected a table of an element that the language has"),
        ("sink -", "sink -|table g set - - - 2", "expected a table of an element that the language has"),
        ("sink -", "sink -|table g int token - - 1", "expected a divisor to be one int"),
        ("sink -", "sink -|table g int page - - 0", "has the dimension 'page', expected one of token, query, head"),
        ("sink -", "sink -|table g int free - - 0", "has the dimension 'free', expected one of"),
        ("sink -", "sink -|table g int fixed:-1 - - 0", "has a dimension of '-1', expected 0 to"),
        ("sink -", "sink -|table g int token true - 0", "has 'true' in a table of int, expected contents of that type"),
        ("sink -", "sink -|table g int token [1,2 - 0", "has a list of 2 without an end, or deeper than"),
        ("sink -", "sink -|table g int - [1] - 0", "has a list of 0 without an end, or deeper than"),
        ("sink -", "sink -|table g int - 1] - 0", r"has the contents '1\]', expected nothing after '1'"),
        ("sink -", "sink -|table g set - {1,{2}} - 0", "expected numbers, sets and lists of them"),
        ("sink -", "sink -|table g set - {1,1} - 0", "is not as attnc writes it"),
        ("sink -", "sink -|heads 0", "has '0' heads, expected 1 to"),
        ("sink -", "sink -|heads 2|heads 2", "has 'heads 2', expected a table"),
        ("k;q;le:b 0 1", "k;q;entry:b g 0", "reads the table 'g', expected one of none"),
    ],
)  # fmt: skip
def test_a_line_with_a_digest_of_its_own(old: str, new: str, fault: str) -> None:
    assert old in BODY
    with pytest.raises(PortableTextError, match=f"^attention: .*{fault}"):
        attention_of(signed(BODY.replace(old, new)))


def test_a_line_that_nests_too_deep() -> None:
    nodes = ["k", "q", *(f"add:i {number + 1} 1" for number in range(300))]
    body = f"{';'.join(nodes)};le:b 301 1;s;=f0x1.0000000000000p+0|mask 302|score 303|scale 304|sink -"
    with pytest.raises(PortableTextError, match="nests deeper than 256"):
        attention_of(signed(body))


@pytest.mark.parametrize("node", ["add:i {0} {0}", "entry:i t {0} {0}"])
def test_a_line_that_grows_beyond_measure(node: str) -> None:
    nodes = ["k", "q", *(node.format(number + 1) for number in range(60))]
    body = f"{';'.join(nodes)};le:b 61 1|mask 62|score 63|scale 64|sink -|table t int token,token - - 0"
    with pytest.raises(PortableTextError, match="grows beyond 400,000 nodes"):
        attention_of(signed(body))


def test_whatever_is_changed_is_refused_or_is_another_attention() -> None:
    body = portable_text(everything()).split(":", 3)[3]
    random, kept = Random(7), 0
    for _ in range(DAMAGED):
        changed = list(body)
        for _ in range(random.randint(1, 3)):
            place = random.randrange(len(changed))
            changed[place : place + random.randint(0, 2)] = random.choice((*"0123456789;| :-={}[],fib", "", body[:9]))
        text = signed("".join(changed))
        with suppress(PortableTextError):
            assert portable_text(attention_of(text)) == text
            kept += 1
    assert 0 < kept < DAMAGED
