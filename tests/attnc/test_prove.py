"""attnc.prove, and the claims among an attention's facts."""

from __future__ import annotations

import pytest

import attnc
from attnc.compiler.verify import for_all
from attnc.compiler.verify.for_all import Verdict

MODULE = attnc.loads("""
pattern near(size: int = 8) = abs(q - k) <= size
pattern past(size: int = 8) = causal and near(size)
pattern packed(doc: int[token]) = causal and documents(doc)
pattern other_doc(doc: bool[token]) = doc[q]
pattern squares = q * q <= k * k + n * n
model two_heads { layers = 1 heads = 2 layer 0 { head 0 = causal head 1 = near } }
model four_heads { layers = 1 heads = 4 layer 0 = causal }
model given { layers = 1 heads = 1 layer 0 = first_of({0}) }
pattern first_of(g: tokens) = k in g
""")


def test_verdicts() -> None:
    proved = attnc.prove(MODULE.past(), "within", MODULE.near())
    assert (proved.state, proved.proved, proved.refuted, proved.undecided, bool(proved)) == (
        "proved", True, False, False, True,
    )  # fmt: skip
    assert str(proved) == "within: proved"
    refuted = attnc.prove(MODULE.near(), "within", MODULE.past())
    assert (refuted.state, bool(refuted)) == ("refuted", False)
    assert refuted.counterexample is not None
    assert (refuted.counterexample.n, refuted.counterexample.q, refuted.counterexample.k) == (2, 0, 1)
    assert str(refuted).splitlines() == [
        "within: refuted: the pair (q = 0, k = 1) is kept at n = 2, and not by the other",
        "",
        "q  got   the other   against it",
        "0  ##    #.          .!",
        "1  ##    ##          ..",
    ]
    undecided = attnc.prove(MODULE.squares(), "contains", attnc.load("full").full())
    assert (undecided.state, bool(undecided), undecided.checked_to) == ("undecided", False, 32)
    assert str(undecided) == f"contains: undecided: {undecided.message}"


def test_tables_of_one_name_are_one() -> None:
    documents = attnc.load("documents").documents()
    assert attnc.prove(MODULE.packed(), "within", documents)
    assert attnc.prove(documents, "contains", MODULE.packed())
    assert attnc.prove(MODULE.packed(), "equals", documents).refuted
    given = MODULE.given().layers[0]
    assert attnc.prove(given, "equals", MODULE.first_of()).refuted
    assert attnc.prove(MODULE.first_of(), "equals", given).refuted
    assert attnc.prove(given, "equals", given)
    with pytest.raises(ValueError, match=r"other: its table doc is bool\[token\], expected int\[token\]"):
        attnc.prove(MODULE.packed(), "within", MODULE.other_doc())


def test_heads_are_those_of_a_model() -> None:
    two, four = MODULE.two_heads().layers[0], MODULE.four_heads().layers[0]
    assert attnc.prove(two, "causal").refuted
    found = attnc.prove(two, "causal").counterexample
    assert found is not None
    assert (found.heads, found.head) == (2, 1)
    assert attnc.prove(four, "causal")
    assert attnc.prove(two, "within", MODULE.near()).refuted
    with pytest.raises(ValueError, match="other: has 4 heads, expected 2, as two_heads has"):
        attnc.prove(two, "within", four)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, "causal"), TypeError, "attention: is int, expected an attnc.Attention"),
        ((MODULE.near, "causal"), TypeError, "attention: is function, expected an attnc.Attention"),
        ((MODULE.two_heads(), "causal"), TypeError, "attention: is a model, expected one of its layers"),
        ((MODULE.near(), "causl"), ValueError, "claim: is 'causl'; did you mean 'causal'?"),
        ((MODULE.near(), "rows_nonempty"), ValueError, "claim: is 'rows_nonempty'; did you mean 'rows nonempty'?"),
        ((MODULE.near(), "nice"), ValueError, "claim: is 'nice'; expected one of causal, symmetric"),
        ((MODULE.near(), 3), ValueError, "claim: is 3; expected one of"),
        ((MODULE.near(), "within"), ValueError, "other: is None, expected another attention to compare with"),
        ((MODULE.near(), "within", "causal"), TypeError, "other: is str, expected an attnc.Attention"),
        ((MODULE.near(), "causal", MODULE.near()), ValueError, "other: is near, expected nothing with 'causal'"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple[object, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        attnc.prove(*arguments)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)


def test_claims_among_facts_are_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = MODULE.past(size=77).facts
    states = {
        name: getattr(facts, name).state
        for name in ("causal", "symmetric", "diagonal", "rows_nonempty", "columns_nonempty")
    }
    assert states == {
        "causal": "proved", "symmetric": "refuted", "diagonal": "proved", "rows_nonempty": "proved",
        "columns_nonempty": "proved",
    }  # fmt: skip

    def asked_again(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(for_all, "prove", asked_again)
    assert MODULE.past(size=77).facts.symmetric == facts.symmetric
    assert facts == MODULE.past(size=77).facts


def test_what_is_undecided_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = (MODULE.past(size=9), "within", MODULE.near(size=10))
    with monkeypatch.context() as patched:
        patched.setattr(for_all, "prove", lambda _: for_all.Unknown("asleep"))
        assert attnc.prove(*claim).message.endswith("asleep")
    assert isinstance(attnc.prove(*claim), Verdict)
    assert attnc.prove(*claim).proved


def test_a_contradiction_too_far_to_be_looked_at_is_said_to_be_one() -> None:
    causal = attnc.load("causal").causal()
    far = attnc.loads("pattern p = causal and not (q == 123456789 and k == 17)").p()
    found = attnc.prove(far, "equals", causal)
    assert found.undecided
    assert "isl finds a contradiction, too far off to be looked at, from n = 123,456,790 on" in found.message
    product = attnc.prove(attnc.loads("pattern p = q * k >= 0 and causal").p(), "equals", causal)
    assert "what the masks read may contradict it" in product.message
