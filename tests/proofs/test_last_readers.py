"""The last reader of each key for every n: closed forms as they are written, and against brute force."""

from __future__ import annotations

from dataclasses import replace

import pytest

import attnc
from attnc.attention import Attention
from attnc.compiler.analysis.reached_reads import any_count
from attnc.compiler.ir import Apply, Const, K, N, constructors
from attnc.compiler.proofs import affine_sets, last_readers
from attnc.compiler.proofs.last_readers import last_reader
from attnc.compiler.proofs.messages import read_answer, read_question, written_answer, written_question
from attnc.compiler.proofs.posing import reader_question
from attnc.compiler.proofs.questions import LastReader, ReaderQuestion, Unknown
from tests.fuzz.caches import brute

# The last row that reads a key, whether that is exact, how many keys are held at most, and how many rows at the end
# read them all.
FORMS = {
    "causal": ("n - 1", True, None, 1),
    "causal_window(16)": ("min(k + 15, n - 1)", True, 16, None),
    "window(16)": ("min(k + 8, n - 1)", True, 9, None),
    "causal and (first(4) or causal_window(16))": ("n - 1 if k < 4 else min(k + 15, n - 1)", True, 20, None),
    "chunked(32)": ("min(k // 32 * 32 + 31, n - 1)", True, 32, None),
    "causal_window(8, dilation = 4)": ("min(k + 28, k + (n - k - 1) // 4 * 4)", True, 29, None),
    "strided(32)": ("n - 1 if n <= k + 32 else k + (n - k - 1) // 32 * 32", True, None, 32),
    "fixed(32, 8)": ("n - 1 if 24 <= k % 32 else min(k // 32 * 32 + 31, n - 1)", True, None, None),
    "causal and k in {0, 3..7}": ("-1 if 8 <= k or 0 < k and k < 3 else n - 1", True, 6, None),
    "causal and k % 2 == 1": ("n - 1 if k % 2 == 1 else -1", True, None, None),
    "causal and q % 3 == 0": ("(n - 1) // 3 * 3 if (k - 1) // 3 * 3 + 4 <= n else -1", True, None, None),
    "causal and q // 4 == k // 4 + 1": (
        "min(k // 4 * 4 + 7, n - 1) if k // 4 * 4 + 9 <= n or k < (n - 1) // 4 * 4 else -1", True, 8, None,
    ),
    "causal_window(9) if head % 2 == 0 else causal": (
        "n - 1 if head % 2 == 1 else min(k + 8, n - 1)",
        True,
        None,
        None,
    ),
    "causal and k < n // 2": ("n - 1 if k * 2 + 2 <= n else -1", True, None, None),
    "causal and k == head": ("n - 1 if k == head else -1", True, None, None),
    "q == k": ("k", True, 1, None),
    "false": ("-1", True, 0, None),
    "causal and hash(q, k) % 2 == 0": ("n - 1", False, None, 1),
    "causal_window(5) and q * k < 90": ("min(k + 4, n - 1)", False, 5, None),
}  # fmt: skip
WITH_TABLES = {
    "pattern drawn(doc: int[token]) = causal_window(5) and documents(doc)": ("min(k + 4, n - 1)", False, 5, None),
    "pattern drawn(g: tokens) = causal and (causal_window(5) or k in g)": ("n - 1", False, None, 1),
    "pattern drawn(g: tokens) = causal and k - 6 in g": ("-1 if k < 6 else n - 1", False, None, None),
    "pattern drawn(rank: order[token]) = causal and rank[k] < n": ("n - 1", True, None, 1),
    "pattern drawn(wide: bool[head]) = causal_window(8) if wide[head] else causal_window(4)": (
        "min(k + 7, n - 1)", False, 8, None,
    ),
}  # fmt: skip


def asked(text: str) -> tuple[Attention, ReaderQuestion]:
    attend: Attention = attnc.loads(text if "pattern" in text else f"pattern drawn = {text}").drawn()
    bound = attend._bound
    return attend, reader_question(any_count(bound.mask), bound.tables, bound.heads)


@pytest.mark.parametrize("text", [*FORMS, *WITH_TABLES])
def test_closed_forms(text: str) -> None:
    attend, question = asked(text)
    found = last_reader(read_question(written_question(question)))  # type: ignore[arg-type]
    assert isinstance(found, LastReader), found
    assert read_answer(written_answer(found)) == found
    form = attend.facts.last_reader
    assert (form.text, form.exact, form.bound, form._tail) == {**FORMS, **WITH_TABLES}[text]
    assert str(form) == (form.text if form.exact else f"at most {form.text}")
    for n in (1, 2, 7, 32, 33, 90, 200) if not attend.tables else ():
        for heads in (1, 2):
            last = brute(attend.mask(n, heads=heads).numpy())
            assert (form.at(n, heads) == last).all() if form.exact else (form.at(n, heads) >= last).all()


def test_the_shortest_bound_for_every_length_is_reached() -> None:
    for text, (_, _, bound, _) in FORMS.items():
        attend, _ = asked(text)
        if bound is not None and attend.facts.last_reader.exact and attend.facts.causal.proved:
            assert attend.cache(200).largest == bound, text


def test_what_isl_cannot_tell_in_time_is_unknown_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _, question = asked("causal and (first(4) or causal_window(16) or chunked(7))")
    monkeypatch.setattr(affine_sets, "_MOST_STEPS", 50)
    answer = last_reader(question)
    assert answer == Unknown("it takes isl too many steps", final=True)
    assert read_answer(written_answer(answer)) == answer


def test_fewer_steps_make_no_other_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    attend, question = asked("causal and (first(4) or causal_window(16) or chunked(7))")
    last = brute(attend.mask(60).numpy())
    kinds = set()
    for steps in (100, 1_000, 5_000, 20_000, 80_000, 300_000):
        monkeypatch.setattr(last_readers, "_FEWER_STEPS", steps)
        answer = last_reader(question)
        kinds.add(type(answer))
        if isinstance(answer, LastReader):
            form = replace(attend.facts.last_reader, _last=answer.last)
            assert (form.at(60) == last).all()
            assert answer.most is None or answer.most >= attend.cache(60).largest
    assert kinds == {LastReader, Unknown}


def test_a_form_that_is_read_back_wrongly_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    _, question = asked("causal and (first(4) or causal_window(16))")
    for wrong in (N, constructors.minimum(K, constructors.add(N, Const(-1))), Apply("neg", (Const(1),), "int")):
        monkeypatch.setattr(last_readers._Chain, "expression", lambda chain, wrong=wrong: wrong)
        with pytest.raises(AssertionError, match="read back"):
            last_reader(question)


def test_a_number_too_large_for_63_bits_is_not_read_back() -> None:
    assert last_reader(asked("causal_window(10000000000)")[1]) == Unknown(
        "a number of the last reader is too large", final=True
    )
    assert asked("causal_window(10000000000)")[0].cache(50).largest == 50
