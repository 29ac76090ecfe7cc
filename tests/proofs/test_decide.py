"""What is proved for every n, what is refuted with which counterexample, and that nothing false is proved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attnc.compiler.analysis.reached_reads import any_count
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.modules.loader import bound_tests, load_file, load_text
from attnc.compiler.modules.test_cases import BoundTest, Claim
from attnc.compiler.oracle.interpreter import evaluate
from attnc.compiler.oracle.out_of_table import OutOfTableError
from attnc.compiler.proofs import affine_sets
from attnc.compiler.proofs.canonical import canonical, mirrored
from attnc.compiler.proofs.decide import decide
from attnc.compiler.proofs.messages import read_answer, read_question, written_answer, written_question
from attnc.compiler.proofs.posing import holds_by_form, question
from attnc.compiler.proofs.questions import Proved, Question, Suspect, Unknown
from attnc.compiler.verify.claims import Outcome, run_test
from attnc.compiler.verify.counterexamples import Counterexample
from tests.fuzz import proofs as fuzz_proofs

PAPERS = bound_tests(load_file(Path(__file__).with_name("papers.attn")))


@pytest.mark.parametrize("test", PAPERS, ids=lambda test: test.title)
def test_claims_about_patterns_of_papers(test: BoundTest) -> None:
    for outcome in run_test(test):
        assert outcome.passed, f"{outcome.check}: {outcome.verdict} {outcome.message}"


def outcomes(text: str) -> list[Outcome]:
    return [outcome for test in bound_tests(load_text(text)) for outcome in run_test(test)]


def refutation(text: str) -> Counterexample:
    (outcome,) = outcomes(text)
    assert outcome.verdict == "failed", outcome
    assert outcome.counterexample is not None
    return outcome.counterexample


# Of tables, of floats and of lists: each claim is close to one that would be a proof if a step were unsound.
DECIDED = """
pattern of_floats(t: float[token]) = t[q] == t[k]
test of_floats for all n { symmetric   not diagonal   not rows nonempty }  # NaN equals nothing, itself included
pattern below(t: float[token]) = t[q] < t[k] or t[k] <= t[q]
test below for all n { not equals full   not diagonal }
pattern near(g: tokens) = q - 3 in g
test near for all n { within 3 <= q   not within 4 <= q }  # no negative number is in a set
pattern ranks(rank: order[token]) = rank[q] == rank[k]
test ranks for all n { equals q == k   diagonal }
pattern places(rank: order[token]) = rank[k] < n and rank[q] >= 0
test places for all n { equals full }
pattern labels(doc: int[token]) = doc[q] == doc[k]
test labels for all n { contains q == k   not equals q == k   not within blocks(4) }
pattern parts(g: tokens) = causal + (k in g) + window(4) + (k in g)
test parts for all n {
    equals (k in g) + window(4) + causal + (k in g)   not equals causal + window(4)   not equals causal + (k in g)
    not equals (k in g) + causal + (k in g) + window(4) + (k in g)   not equals causal + (k in g) + window(4)
    not equals causal + window(6) + (k in g) + (k in g)
    equals (causal and window(4)) + (causal or window(4)) + (k in g) + (k in g)
}
pattern nested(to: int[token], g: tokens) = to[q] in g
test nested for all n { contains nested(to, g) and causal   not rows nonempty   not symmetric }
pattern limits(limit: int[query]) = k < limit[q]
test limits for all n { not causal   not rows nonempty   not columns nonempty   contains (k < limit[q] and k == 0) }
pattern products = q * k <= n * n
test products for all n { contains q * k <= n * n and causal   symmetric   equals k * q <= n * n }
pattern hashes = hash(q, k) % 2 == hash(k, q) % 2
test hashes for all n { symmetric   diagonal   not equals full }
pattern last(doc: int[token]) = doc[k] == doc[max(0, q - 3)] and k <= q
test last for all n { rows nonempty   causal   not diagonal   contains k == max(0, q - 3) }
pattern by_head = (k + head < q + heads) and k <= q
test by_head for all n { contains causal   not equals k == q }
pattern given(t: int[some], c: int) = t[q % 3] == c
test given(t = [1, 1, 2], c = 1) for all n { equals q % 3 != 2   not rows nonempty }
test given(t = [1, 1], c = 0) for all n { within q % 3 == 2 }
pattern tokens_of(t: int[token]) = t[q] == t[k]
test tokens_of(t = [5, 5, 6]) for all n { not equals full   equals (q < 2) == (k < 2)   symmetric }
pattern heads_of(h: int[head]) = k <= q + h[head]
test heads_of(h = [0, 0]) for all n { causal   equals causal }
test heads_of(h = [0, 1]) for all n { not causal }
pattern squared(t: int[token, token]) = t[q, k] == t[k, q]
test squared for all n { symmetric diagonal rows nonempty not equals full}
pattern head_sets(g: set[head]) = k in g[head]
test head_sets for all n { not rows nonempty  not symmetric contains k in g[head] and causal}
pattern block_sets(g: set[block]) = k // 4 in g[q // 4] or q == k
test block_sets for all n { diagonal not symmetric rows nonempty columns nonempty not causal}
pattern scalars(x: int[], y: int[]) = k < x and x < y
test scalars for all n { within k < y   not within k < x and false  contains (k < x and x + 1 < y)}
pattern followed(x: int[token]) = x[x[q]] == x[k] or x[q] < 0 or x[q] >= n
test followed for all n { rows nonempty not columns nonempty not diagonal }
pattern halves(b: bool[token]) = b[q] == b[k] and causal
test halves for all n { diagonal causal rows nonempty contains q == k }
pattern picked(b: bool[token]) = (b[q] if causal else b[k])
test picked for all n { not diagonal symmetric not rows nonempty }
pattern lifted(w: float[head]) = w[head] > 0 or causal
test lifted for all n { contains causal diagonal not causal }
pattern reach(limit: int[query]) = k <= max(limit[q], q)
test reach for all n { contains causal rows nonempty columns nonempty not within causal }
pattern rounds(r: order[head, round, token], round: int = 2) =
    any(r[head, i, q] // 8 == r[head, i, k] // 8 for i in 0..<round)
test rounds for all n { symmetric diagonal rows nonempty columns nonempty not causal not equals full}
pattern seldom = hash(q // 2, k // 3) % 5 != 2
test seldom for all n { not equals full not rows nonempty not symmetric}
pattern always(t: int[token]) = t[q] - t[k] == t[q] - t[k] and t[q] * 2 == 2 * t[q]
test always for all n { equals full }
pattern checkered = abs(q - k) * 3 <= n + 4 and (q + k) % 2 == 0
test checkered for all n { symmetric diagonal rows nonempty not equals full}
pattern twice = causal + (k == q)
test twice for all n { not equals causal   within causal   contains causal   equals (k == q) + causal }
test twice for all n { not equals causal + causal   not equals (k == q) + (k == q) }
pattern divided(w: int[]) = 0 <= k % w and k % w < w and 0 <= k // w and k // w <= k and k % w <= k
test divided for all n { equals full }
pattern ends(w: int[]) = q // w <= (n - 1) // w and (n - 1) // w < (n + w - 1) // w and q // w < (n + w - 1) // w
test ends for all n { equals full }
pattern lines(w: int[]) = k // w < q // w or q == k
test lines for all n { causal diagonal rows nonempty columns nonempty not symmetric within causal }
pattern raster(w: int[]) = k // w < q // w or k // w == q // w and k % w <= q % w
test raster for all n { equals causal }
pattern itself(w: int[], h: int[]) = k // w // h == q // w // h and k // w % h == q // w % h and k % w == q % w
test itself for all n { equals q == k }
pattern quadrant(w: int[], h: int[]) =
    k // w // h <= q // w // h and k // w % h <= q // w % h and k % w <= q % w
test quadrant for all n { causal diagonal rows nonempty columns nonempty not symmetric not equals causal }
"""


@pytest.mark.parametrize("test", bound_tests(load_text(DECIDED)), ids=lambda t: t.title)
def test_claims_about_tables_floats_and_counts(test: BoundTest) -> None:
    for outcome in run_test(test):
        assert outcome.passed, f"{outcome.check}: {outcome.verdict} {outcome.message}"


# Each claim is false, and follows if one step of a proof is left out.
FALSE = {
    "a part that depends on the key has many values in a row": (
        "pattern p(g: tokens) = (k in g) != (k == 0) or n == 1\ntest p for all n { rows nonempty }"
    ),
    "a part that depends on the row has many values in a column": (
        "pattern p(g: tokens) = (q in g) != (q == 0) or n == 1\ntest p for all n { columns nonempty }"
    ),
    "no key beyond the last": "pattern p(t: int[]) = k > q + t or t >= 0 and k > q\ntest p for all n { rows nonempty }",
    "a witness must be a position": (
        "pattern p(doc: int[token]) = k == q + 1 and doc[k] == doc[q + 1]\ntest p for all n { rows nonempty }"
    ),
    "no row beyond the last": "pattern p = q == k + 1\ntest p for all n { columns nonempty }",
    "a part that one side reads only": "pattern p(g: tokens) = k in g and causal\ntest p for all n { symmetric }",
    "two reads are two values": "pattern p(t: int[token]) = t[q] <= t[k]\ntest p for all n { symmetric }",
    "a float is not equal to itself": "pattern p(t: float[token]) = t[q] == t[q]\ntest p for all n { contains full }",
    "a float is not above or below": (
        "pattern p(t: float[]) = t < 0.5 or 0.5 <= t\ntest p for all n { contains full }"
    ),
    "there may be one head": "pattern p = head < heads - 1\ntest p for all n { contains full }",
    "there may be many heads": "pattern p = head < 40\ntest p for all n { contains full }",
    "counts differ where both keep": "pattern p = causal + causal\ntest p for all n { equals causal }",
    "an order is read by position": (
        "pattern p(rank: order[token]) = rank[q // 2] == rank[k // 2]\ntest p for all n { equals q == k }"
    ),
    "a hash takes its bounds": "pattern p = hash(q, k) < 2 ** 29\ntest p for all n { contains full }",
    "a remainder may be the greatest": "pattern p(w: int[]) = k % w < w - 1\ntest p for all n { contains full }",
    "a negative quotient": "pattern p(w: int[]) = (q - 5) // w >= 0\ntest p for all n { contains full }",
    "a quotient may stay": "pattern p(w: int[]) = q // w < k // w or k <= q\ntest p for all n { contains full }",
    "a quotient grows by one": (
        "pattern p(w: int[]) = (n - 1) // w + 1 < (n + w) // w\ntest p for all n { contains full }"
    ),
    "columns of two lines": "pattern p(w: int[]) = q % w < k % w or k <= q\ntest p for all n { contains full }",
    "columns by two widths": (
        "pattern p(u: int[], w: int[]) = k // u <= q // u and k % w <= q % w\ntest p for all n { causal }"
    ),
    "a scalar is the same for all rows": ("pattern p(t: int[]) = q == t or k == t\ntest p for all n { rows nonempty }"),
}


@pytest.mark.parametrize("text", FALSE.values(), ids=FALSE.keys())
def test_nothing_false_is_proved(text: str) -> None:
    (outcome,) = outcomes(text)
    assert outcome.verdict == "failed", outcome


def test_tables_that_fit_no_call_prove_nothing() -> None:
    text = "pattern p(a: int[token], b: int[token]) = a[q] == b[k]\n"
    (outcome,) = outcomes(text + "test p(a = [1], b = [1, 2]) for all n { contains full }")
    assert (outcome.verdict, outcome.message) == ("undecided", "the tables that the test gives fit no call together")


def test_the_first_counterexample_may_be_far() -> None:
    found = refutation("pattern p = k < 1000 and causal\ntest p for all n { columns nonempty }")
    assert (found.n, found.q, found.k) == (1001, None, 1000)
    assert str(found).splitlines()[-1] == "rows 969..1000 and columns 969..1000 of 1001 rows, 1001 columns"
    found = refutation("pattern p = causal and (q != 70000 or k != 123)\ntest p for all n { contains causal }")
    assert (found.n, found.q, found.k) == (70001, 70000, 123)
    found = refutation("test strided(40000) for all n { symmetric }")
    assert (found.n, found.q, found.k) == (2, 1, 0)
    found = refutation("pattern p = q < 2000 or q == k\ntest p for all n { symmetric }")
    assert (found.n, found.q, found.k) == (2001, 0, 2000)
    found = refutation("pattern p = abs(q - k) < 900 or head < 11\ntest p for all n { contains full }")
    assert (found.n, found.q, found.k, found.head, found.heads) == (901, 0, 900, 11, 12)
    found = refutation("pattern p = k < 1200 or k == q and q != 1500\ntest p for all n { diagonal }")
    assert (found.n, found.q, found.k) == (1501, 1500, 1500)


def test_tables_that_witness_a_far_counterexample_are_found() -> None:
    found = refutation(
        "pattern p(length: int[]) = causal or k < length and q < length - 900\ntest p for all n { causal }"
    )
    assert (found.n, found.q, found.k) == (2, 0, 1)
    assert found.given == "length = 901"
    found = refutation("pattern p(g: tokens) = k <= q + 600 or k in g\ntest p for all n { within k <= q + 600 }")
    assert (found.n, found.q, found.k) == (602, 0, 601)
    assert found.given.startswith("g = {")


def test_integers_beyond_63_bits_witness_nothing() -> None:
    """A call whose integers leave 63 bits is refused, so that it contradicts no claim."""
    text = "pattern p(t: int[]) = t * 10 ** 17 * 1000 <= q\ntest p for all n { contains full }"
    (outcome,) = outcomes(text)
    assert outcome.verdict == "undecided"


@pytest.mark.parametrize("seed", range(25))
def test_fewer_steps_make_no_other_answers(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """isl may break off anywhere: then there is no answer, never a proof."""
    for asked in asked_by(fuzz_proofs.generate(seed)):
        monkeypatch.setattr(affine_sets, "_MOST_STEPS", 4_000_000)
        answer = decide(asked)
        for steps in (30, 300, 3_000, 10_000, 30_000):
            monkeypatch.setattr(affine_sets, "_MOST_STEPS", steps)
            found = decide(asked)
            assert isinstance(found, Unknown) or found == answer


def asked_by(case: fuzz_proofs.Case) -> list[Question]:
    def kept(claim: Claim, expr: fuzz_proofs.Expr) -> fuzz_proofs.Expr:
        return expr if claim.kind == "equals" else any_count(expr)

    return [
        question(
            claim.kind, kept(claim, case.mask), None if claim.operand is None else kept(claim, claim.operand),
            fuzz_proofs.TABLES,
        )
        for claim in case.claims
    ]  # fmt: skip


def test_what_follows_from_forms_isl_proves_too() -> None:
    by_form = 0
    for seed in range(200):
        for asked in asked_by(fuzz_proofs.generate(seed)):
            if holds_by_form(asked):
                by_form += 1
                assert not isinstance(decide(asked), Suspect), (seed, asked)
    assert by_form > 50


def test_a_canonical_form_keeps_its_pairs() -> None:
    compared = 0
    for seed in range(300):
        case = fuzz_proofs.generate(seed)
        random = np.random.default_rng(seed)
        n = seed % 9 + 1
        held = {table.name: fuzz_proofs.contents(table, n, random, seed % 6) for table in fuzz_proofs.TABLES}
        mask = any_count(case.mask)
        try:
            before, after, other = (
                evaluate(expr, fuzz_proofs.TABLES, CallShape(n, n, 2), held)
                for expr in (mask, canonical(mask), mirrored(mask))
            )
        except OutOfTableError:  # which reads are reached may differ
            continue
        compared += 1
        assert (before == after).all(), seed
        assert (before == other.swapaxes(2, 3)).all(), seed
    assert compared > 200


def test_questions_and_answers_come_back_as_they_were() -> None:
    for seed in range(100):
        for asked in asked_by(fuzz_proofs.generate(seed)):
            assert read_question(written_question(asked)) == asked
            answer = decide(asked)
            assert read_answer(written_answer(answer)) == answer
    assert read_answer(written_answer(Proved())) == Proved()
    assert read_answer(written_answer(Unknown("why\nnot"))) == Unknown("why\nnot")
