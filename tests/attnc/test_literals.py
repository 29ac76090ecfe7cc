"""Values of ``--set``: what the language writes is what is read, and everything else is refused with a reason."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnc.compiler.diagnostics.limits import LARGEST
from attnc.inspection.literals import MOST_MEMBERS, read_literal


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("512", 512), ("-3", -3), ("0.5", 0.5), ("-1.5e-3", -0.0015), ("1e-5", 1e-5), ("true", True), ("false", False),
        ("{}", frozenset()), ("{0, 3..7}", frozenset({0, 3, 4, 5, 6, 7})), ("{0..<3}", frozenset({0, 1, 2})),
        ("{5..3}", frozenset()), ("{ -1 , 2 }", frozenset({-1, 2})), ("[]", ()), ("[1,2]", (1, 2)),
        ("[[1, 2], [3, 4]]", ((1, 2), (3, 4))), ("[{0}, {1..2}]", (frozenset({0}), frozenset({1, 2}))),
        ("2 ** 4 * 3", 48), ("0..3", frozenset({0, 1, 2, 3})), ("max(3, 4) // 2", 2), ("[1, 2.5]", (1.0, 2.5)),
        ("sum(i for i in 0..3)", 6), ("8 # eight", 8), ("[\n1,\n2,\n]", (1, 2)), ("--1", 1),
        (f"{{0..{MOST_MEMBERS - 1}}}", frozenset(range(MOST_MEMBERS))),
    ],
    ids=lambda value: str(value)[:24],
)  # fmt: skip
def test_values_are_read_as_the_language_writes_them(text: str, value: object) -> None:
    found = read_literal(text)
    assert found == value
    assert type(found) is type(value)


INTEGERS = st.integers(-LARGEST, LARGEST)
SCALARS = st.one_of(
    INTEGERS, st.booleans(), st.floats(1e-30, 1e30).map(lambda x: math.copysign(x, 1)), st.frozensets(INTEGERS)
)
VALUES = st.one_of(
    SCALARS,
    *(st.lists(each, max_size=4).map(tuple) for each in (INTEGERS, st.booleans(), st.frozensets(INTEGERS))),
    st.lists(st.lists(INTEGERS, max_size=3).map(tuple), max_size=3).map(tuple),
)


def written(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case frozenset():
            return f"{{{', '.join(map(str, value))}}}"
        case tuple():
            return f"[{', '.join(map(written, value))}]"
        case float():
            return f"{value:.17e}"
    return str(value)


@given(VALUES)
def test_every_value_that_is_written_is_read(value: object) -> None:
    found = read_literal(written(value))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a number, a set or a list was expected, but there is nothing"), (" ", "but there is nothing"),
        ("# none", "but there is nothing"), ("x", "a number, a set or a list was expected, but there is `x`"),
        ("q", "but there is `q`"), ("window(3)", "but there is `window(3)`"),
        ("{", "`{` is never closed"), ("{1", "`{` is never closed"), ("[1", "`[` is never closed"), ("5)", "`)`"),
        ("1 2", "`2`"), ("[1 2]", "`2`"), ("{1,,2}", "`,`"), ("{1.5}", "`1.5` is a float"),
        ("{true}", "`true` is a condition"), ("-true", "`true` is a condition"), ("[1, [2]]", "entries of a list"),
        ("__import__('os')", "`'`"), ("$", "`$`"), ("\udcff", "udcff"), ("1/0", "`0` is 0"),
        ("{0..9999999}", "a set may list at most 1,048,576 members"),
        ("[{0..999999}, {0..999999}]", "at most 1,048,576 members"), ("1" * 19, "18"), ("[" * 99 + "]" * 99, "64"),
        ("8\nconst y = 3", "nothing was expected after the value, but there is `const`"),
        ("8 test causal for all n { causal }", "nothing was expected after the value, but there is `test`"),
        ("8 from std import window", "nothing was expected after the value, but there is `from`"),
    ],
    ids=lambda text: text[:24],
)  # fmt: skip
def test_anything_else_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"^`") as caught:
        read_literal(text)
    told = str(caught.value)
    assert words in told
    assert "\n" not in told
    assert len(told) < 300
