"""Checks of test blocks: what passes, what fails and how a failure is told."""

from __future__ import annotations

import re

import numpy as np
import pytest

from attnc.compiler.diagnostics.diagnostic import AttnError
from attnc.compiler.modules.loader import bound_tests, load_text
from attnc.compiler.verify.claims import Outcome, run_test
from attnc.compiler.verify.for_all import EVERY_LENGTH
from attnc.compiler.verify.pictures import picture, picture_lines, set_text
from tests.fuzz.masks import MODULES, bound
from tests.support.generators.programs import generate
from tests.support.generators.tables import literal


def outcomes(text: str) -> tuple[Outcome, ...]:
    (test,) = bound_tests(load_text(text))
    return run_test(test)


def only(text: str) -> Outcome:
    (outcome,) = outcomes(text)
    return outcome


TABLE = "pattern p(g: tokens = {}) = k in g or q == k\n"

PASSED = [
    'test causal at n = 3 { picture """\n#..\n##.\n###\n""" }',
    'test causal at n = 3 { picture """  # . . \n\n 1 1 0\n ###""" }',
    'pattern p = causal + (q == k)\ntest p at n = 3 { picture """\n2..\n#2.\n##2""" }',
    "test causal at n = 4, q_start = 2 { row 2 == {0..2}  row 3 == {0..<4}  column 3 == {3}  pairs == 7 }",
    "test causal at n = 4, m = 1 { row 0 == {0}  pairs == 1  causal  not columns nonempty }",
    "test window(2) at n = 6 { symmetric  diagonal  rows nonempty  columns nonempty  pairs == 16 }",
    "test first(0) at n = 3 { row 1 == {}  not rows nonempty  not columns nonempty  pairs == 0  causal  symmetric }",
    "test window(2) at n = 6 { within window(4)  contains (q == k)  disjoint (abs(q - k) == 2)  not equals window(4) }",
    "test window(2) at n = 6 { equals band(1, 1)  not within causal  not contains full  not disjoint causal }",
    "pattern p = causal + (q == k)\ntest p at n = 3 { contains causal  within causal  not equals causal  pairs == 9 }",
    "pattern p = head == 1 and causal\ntest p at n = 3, heads = 2, head = 1 { equals causal }",
    "pattern p = head == 1 and causal\ntest p at n = 3, heads = 2 { pairs == 0 }",
    TABLE + "test p(g = {1}) at n = 3 { column 1 == {0..2}  row 0 == {0, 1} }",
    TABLE + "test p at n = 3 { pairs == 3 }",
    "test documents(doc = [0, 0, 1]) at n = 3 { pairs == 5 }",
    "pattern p(rows: int[query]) = k < rows[q]\n"
    "test p(rows = [1, 3]) at n = 4, q_start = 2 { row 2 == {0}  row 3 == {0..2} }",
    "attention a(slope: float[head]) { mask = causal score = s + slope[head] }\n"
    "test a(slope = [0.5]) at n = 3 { equals causal }",
    "model m { layers = 2 heads = 2 layer 0 = causal layer 1 { head 0 = full head 1 = first(1) } }\n"
    "test m at n = 3, layer = 1, heads = 2, head = 1 { pairs == 3  column 0 == {0..2} }",
]


@pytest.mark.parametrize("text", PASSED)
def test_passes(text: str) -> None:
    for outcome in outcomes(text):
        assert (outcome.verdict, outcome.message) == ("passed", ""), outcome


FAILED = [
    ("pairs == 5", r"6 pairs are kept, not 5"),
    ("row 1 == {0}", r"row 1 also keeps \{1\}"),
    ("row 2 == {0..3}", r"row 2 lacks \{3\}"),
    ("column 2 == {0}", r"column 2 lacks \{0\}; also keeps \{2\}"),
    ("row 7 == {0}", r"there is no row 7"),
    ("column 3 == {0}", r"there is no column 3"),
    ("symmetric", r"the pair \(q = 1, k = 0\) is kept at n = 3, and its mirror image is not"),
    ("not causal", r"it holds, and the test says that it does not"),
    ("within (q == k)", r"the pair \(q = 1, k = 0\) is kept at n = 3, and not by the other"),
    ("contains full", r"the pair \(q = 0, k = 1\) is not kept at n = 3"),
    ("equals full", r"the two differ at \(q = 0, k = 1\) at n = 3"),
    ("disjoint (q == k)", r"the pair \(q = 0, k = 0\) is kept by both at n = 3"),
]


@pytest.mark.parametrize(("check", "message"), FAILED)
def test_fails(check: str, message: str) -> None:
    outcome = only(f"test causal at n = 3 {{ {check} }}")
    assert outcome.verdict == "failed"
    assert re.fullmatch(message, outcome.message), outcome.message


def test_other_failures_name_the_place() -> None:
    places = []
    for claim in ("causal", "diagonal", "rows nonempty", "columns nonempty"):
        applied = "full" if claim == "causal" else "band(5, -1)"
        found = only(f"test {applied} at n = 3 {{ {claim} }}").counterexample
        assert found is not None
        places.append((found.q, found.k))
    assert places == [(0, 1), (0, 0), (0, None), (None, 2)]


def test_a_picture_that_differs_is_shown_beside_what_is() -> None:
    outcome = only('pattern p = causal + (k == 0)\ntest p at n = 2 { picture """\n##\n##\n""" }')
    assert outcome.verdict == "failed"
    assert outcome.expected == ("##", "##")
    assert outcome.got == ("2.", "2#")
    assert only('test causal at n = 3 { picture """\n#.\n##\n""" }').verdict == "failed"


def test_a_read_outside_a_table_fails_the_whole_test() -> None:
    text = "pattern p(t: int[some]) = t[k] == 0 and q == k\ntest p(t = [0, 1]) at n = 3 { causal  pairs == 1 }"
    first, second = outcomes(text)
    assert first.verdict == second.verdict == "failed"
    assert "index 2 is outside dimension `some`" in first.message


def test_contents_that_do_not_fit_are_refused_before_the_test_runs() -> None:
    with pytest.raises(AttnError, match=r"`\[0, 1\]` has 2 entries where the test has 3 keys"):
        only("test documents(doc = [0, 1]) at n = 3 { causal }")


def test_for_all_n_what_is_proved_passes() -> None:
    for text in (
        "test window(8) for all n { symmetric }",
        "test documents for all n { diagonal }",
        "test sorted for all n { symmetric }\npattern sorted(rank: order[token]) = rank[q] // 4 == rank[k] // 4",
        "test global_tokens(g = {0}) for all n { rows nonempty }",
    ):
        assert only(text) == Outcome(only(text).check, "passed"), text
    outcome = only("test causal for all n { not causal }")
    assert (outcome.verdict, outcome.message) == ("failed", "it holds for every n, and the test says that it does not")


@pytest.mark.parametrize("negation", ["", "not "])
def test_for_all_n_without_proof_and_counterexample_is_undecided(negation: str) -> None:
    outcome = only(f"pattern p = q * q <= k * k + n * n\ntest p for all n {{ {negation}contains full }}")
    assert (outcome.verdict, outcome.checked_to) == ("undecided", EVERY_LENGTH)
    assert outcome.message.startswith("checked to n = 32, and at some n up to 129; not proved: ")
    assert not outcome.passed


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("test causal for all n { symmetric }", (2, 1, 0)),
        ("test window(20) for all n { equals full }", (12, 0, 11)),
        ("test window(120) for all n { equals full }", (62, 0, 61)),
        ("test strided(40) for all n { within causal_window(40) }", (41, 40, 0)),
        ("test documents for all n { causal }", (2, 0, 1)),
        ("test prefix for all n { causal }", (2, 0, 1)),
        ("pattern p(g: tokens) = k in g or k == 0 and q == 0\ntest p for all n { rows nonempty }", (2, 1, None)),
        ("pattern p = head == 0 or q == k\ntest p for all n { contains full }", (2, 0, 1)),
        ("pattern a = causal\npattern b = causal and head == 0\ntest a for all n { within b }", (1, 0, 0)),
        ("pattern a = causal\npattern b = causal and heads < 3\ntest a for all n { within b }", (1, 0, 0)),
        ("pattern p(limit: int[query]) = k <= limit[q]\ntest p for all n { causal }", (2, 0, 1)),
        ("test full for all n { within hash(head) % 97 != 37 }", (1, 0, 0)),  # that of head 1
    ],
)
def test_for_all_n_finds_the_smallest_counterexample(text: str, place: tuple[int, int, int]) -> None:
    outcome = only(text)
    assert outcome.verdict == "failed"
    found = outcome.counterexample
    assert found is not None
    assert (found.n, found.q, found.k) == place
    negated = only(re.sub(r"\{ ([^}]*) \}$", r"{ not \1 }", text))
    assert (negated.verdict, negated.counterexample) == ("passed", found)


def test_what_the_text_gives_is_kept_for_all_n() -> None:
    assert only("test global_tokens(g = {0}) for all n { rows nonempty }").verdict == "passed"
    assert only("test global_tokens(g = {3}) for all n { rows nonempty }").verdict == "failed"


def test_sets_and_pictures_as_text() -> None:
    assert set_text(frozenset({0, 1, 3, 5, 6, 7})) == "{0, 1, 3, 5..7}"
    assert set_text(frozenset()) == "{}"
    assert picture(np.array([[0, 1, 2], [9, 10, 700]])) == (".#2", "9++")
    assert picture_lines(("", " # . 2 ", "1 0 2")) == ("#.2", "#.2")


def test_random_programs_pass_what_is_true_and_fail_what_is_not() -> None:
    """The oracle's own mask as a picture, in rows, in columns and in pairs; then one pair of it flipped."""
    judged = 0
    for seed in range(150):
        program = generate(seed, largest=14)
        if program.layer is not None or program.sizes.batch > 1 or "test " in program.text:
            continue
        mask = bound(program).dense()[0].astype(int)
        head = seed % program.sizes.heads
        counts = mask[head]
        given = [f"{name} = {literal(held, types_of(program.text, name))}" for name, held in program.contents.items()]
        given += [f"{name} = {constant_text(value)}" for name, value in program.constants.items()]
        applied = program.subject + (f"({', '.join(given)})" if given else "")
        sizes = program.sizes
        call = f"n = {sizes.n}, m = {sizes.m}, q_start = {sizes.q_start[0]}, heads = {sizes.heads}, head = {head}"
        if counts.max(initial=0) > 9:
            continue
        first, row = sizes.q_start[0], seed % sizes.m
        checks = [
            'picture """\n' + "\n".join(picture(counts)) + '\n"""',
            f"row {first + row} == {set_text(frozenset(np.flatnonzero(counts[row]).tolist()))}",
            f"column 0 == {set_text(frozenset((first + np.flatnonzero(counts[:, 0])).tolist()))}",
            f"pairs == {counts.sum()}",
        ]
        flipped = counts.copy()
        flipped[row, 0] = 0 if flipped[row, 0] else 1
        wrong = [
            'picture """\n' + "\n".join(picture(flipped)) + '\n"""',
            f"row {first + row} == {set_text(frozenset(np.flatnonzero(flipped[row]).tolist()))}",
            f"column 0 == {set_text(frozenset((first + np.flatnonzero(flipped[:, 0])).tolist()))}",
            f"pairs == {counts.sum() + 1}",
        ]
        for said, verdict in ((checks, "passed"), (wrong, "failed")):
            text = f"{program.text}\ntest {applied} at {call} {{ {' '.join(said)} }}"
            (test,) = bound_tests(load_text(text, folder=MODULES))
            assert [outcome.verdict for outcome in run_test(test)] == [verdict] * 4, text
        judged += 1
    assert judged > 50


def types_of(text: str, name: str) -> str:
    """Whether a parameter holds sets, told by its declared type."""
    found = re.search(rf"\b{re.escape(name)}: (\w+)", text)
    assert found is not None
    return found[1]


def constant_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return set_text(value) if isinstance(value, frozenset) else str(value)
