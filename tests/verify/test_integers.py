"""Integers are exact or refused: nothing wraps, and what fits 63 bits where it is reached is answered."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import attnc
from attnc.compiler.analysis.classify import BoundTable, Boxes, Classifier, DigitRange
from attnc.compiler.ir.expressions import walk
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.modules.loader import bound_tests, load_text
from attnc.compiler.verify.claims import run_test
from attnc.compiler.verify.integer_limits import IntegerRangeError, check_attention
from attnc.runtime import planning
from attnc.runtime.base.configuration import settings
from tests.fuzz import integers as fuzz_integers
from tests.support.generators.random_expressions import Generator
from tests.support.shipped_support import SHIPPED

ROOT = Path(__file__).resolve().parents[2]
FIRST = 51_000_000
JUDGED, PLANNED, COMPILED, INTERPRETED, PARTS = 240, 24, 4, 6, 6
BEYOND = r"2\*\*63 in magnitude"


@pytest.mark.parametrize("part", range(PARTS))
def test_drawn_integers_are_pythons(part: int) -> None:
    """Refusals are false at most now and then: the campaign itself fails where they are more."""
    for seed in range(FIRST + part, FIRST + JUDGED, PARTS):
        judge = fuzz_integers.planned_fault if seed // PARTS % (JUDGED // PLANNED) == 0 else fuzz_integers.fault
        case = fuzz_integers.generate(seed)
        found = judge(case)
        assert found is None, f"seed {seed}: {found}\n{fuzz_integers.told(case)}"


@pytest.mark.parametrize("part", range(COMPILED))
def test_drawn_integers_through_compiled_kernels(part: int) -> None:
    """Of cases that are answered, because only these are compiled."""
    seed = FIRST + 100 * part
    while fuzz_integers.exact(fuzz_integers.generate(seed))[2] or fuzz_integers.generate(seed).kind == "mask":
        seed += 1
    case = fuzz_integers.generate(seed)
    found = fuzz_integers.compiled_fault(case)
    assert found is None, f"seed {seed}: {found}\n{fuzz_integers.told(case)}"


@pytest.mark.long
def test_drawn_integers_in_the_interpreter(tmp_path: Path) -> None:
    """In a process of its own, because the interpreter is chosen once for a process."""
    command = ["tests.fuzz", "integers-interpreted", "--count", str(INTERPRETED), "--seed", str(FIRST)]
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=550,
        env={**os.environ, "ATTNC_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert f"{INTERPRETED} programs from seed {FIRST} passed" in done.stdout


def test_drawn_cases_are_answered_and_refused() -> None:
    """A campaign of one kind alone would show nothing."""
    beyond = [fuzz_integers.exact(fuzz_integers.generate(seed))[2] for seed in range(FIRST, FIRST + 150)]
    assert 25 < sum(beyond) < 100


def ways(text: str, n: int, **tables: Any) -> list[Callable[[], object]]:
    """The mask of a text, its plan, its result by the definition and by the blocked executor."""
    attention = attnc.loads(text).p()
    x = torch.zeros(1, 1, n, 8)

    def call() -> object:
        with settings.override(backend="blocked"):
            return attention(x, x, x, **tables)

    return [
        lambda: attention.mask(n, **tables), lambda: attention.plan(n, **tables), call,
        lambda: attention.reference(x, x, x, **tables),
    ]  # fmt: skip


REFUSED = [
    ("pattern p = q * 999999999999999999 >= 0", 40, {}, "`q * 999999999999999999` can be 0 to 38999999999999999961 "),
    ("pattern p = hash(q) * hash(k) * 3 % 5 == 0", 80, {}, "`hash(q) * hash(k) * 3` can be "),
    ("pattern p = q * 1000000007 * 1000000007 % 10 == k % 10", 40, {}, "`q * 1000000007 * 1000000007` can be "),
    (f"pattern p = {'*'.join('q' * 12)} > {'*'.join('k' * 12)}", 100, {}, "can be 0 to 90438207500880449001 "),
    ("pattern p = (q + 9) * 1000000000 * (1000000000) - k == 0", 40, {}, "`(q + 9) * 1000000000 * (1000000000)` can "),
    ("pattern p = -q * 999999999999999999 < k", 40, {}, "can be -38999999999999999961 to 0 "),
    ("pattern p(t: int[token]) = t[q] + t[q] >= t[k]", 40, {"t": torch.arange(1, 41) * 2**57}, "`t[q] + t[q]` can be"),
    ("pattern p(u: int[]) = k <= abs(u)", 40, {"u": torch.tensor([-(2**63)])}, "`u` can be -9223372036854775808 to 0 "),
    ("attention p { mask = k <= q  score = s if q * k * 10 ** 17 > 5 else s + 1 }", 40, {}, "`q * k * 10 ** 17` can "),
    ("attention p { mask = k <= q  sink = 1.0 if q * 999999999999999999 > 5 else 0.0 }", 40, {}, "999` can be 0 to"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "n", "tables", "told"), REFUSED)
def test_what_leaves_63_bits_is_refused_alike(text: str, n: int, tables: dict[str, Any], told: str) -> None:
    messages = []
    for way in ways(text, n, **tables):
        with pytest.raises(ValueError, match=BEYOND) as raised:
            way()
        messages.append(str(raised.value))
    assert len(set(messages)) == 1
    assert told in messages[0]
    assert "computed here" in messages[0]


ANSWERED = [
    ("pattern p = q * 999999999999999999 >= 0", 10, {}, 100),
    ("pattern p = q < 9 and q * 999999999999999999 >= 0", 40, {}, 360),
    ("pattern p = k <= q and (q * 999999999999999999 >= 0 if q < 9 else k == q)", 40, {}, 76),
    ("pattern p = q*1000000000*1000000000 - k*1000000000*1000000000 == 0", 9, {}, 9),
    ("pattern p = (q - k) * 999999999999999999 % 10 == 0 and q < 2", 9, {}, 2),
    ("pattern p(t: int[token]) = t[q] < 9 and t[q] * 2 == t[k]", 4, {"t": torch.tensor([2, 4, 2**62, 1])}, 2),
    # only kept pairs have a score, and only where a window ends are products large
    ("attention p { mask = abs(q - k) <= 2  score = s if (q - k) * 10 ** 17 * 9 > 5 else s + 1 }", 60, {}, 294),
]  # fmt: skip


@pytest.mark.parametrize(("text", "n", "tables", "pairs"), ANSWERED)
def test_what_fits_where_it_is_reached_is_answered(text: str, n: int, tables: dict[str, Any], pairs: int) -> None:
    mask, *others = ways(text, n, **tables)
    assert int(mask().sum()) == pairs  # type: ignore[attr-defined]
    for way in others:
        way()


def test_long_sums_have_no_parts_that_the_text_has_not() -> None:
    """Of many terms, added and taken in turn: no partial sum of the text is large, that of all that is added is."""
    text = "pattern p = k" + " + 900000000000000000 * q - 900000000000000000 * q" * 12 + " <= q"
    assert int(attnc.loads(text).p().mask(8).sum()) == 36


def test_a_large_call_is_decided_by_boxes() -> None:
    """Of many pairs, few are looked at: none of those that are reached is large, or one is."""
    band = attnc.loads("pattern p(w: int[]) = abs(q - k) <= w and (q - k) * (q - k) * 10 ** 11 < 10 ** 17").p()
    band.plan(200_000, w=9_000)
    with pytest.raises(IntegerRangeError):
        band.plan(200_000, w=9_700)


@pytest.mark.parametrize(
    ("text", "wide", "refused"),
    [
        ("t[q] == t[k]", True, False),
        ("t[q] + t[k] >= 0", True, False),
        ("t[q] + t[k] + n >= 0", True, True),
        ("t[q] * 2 == k", True, False),
        ("t[q] * 3 == k", True, True),
        ("t[q] * t[k] < 0", False, False),
        ("t[q] * t[k] * 3 < 0", False, True),
        ("t[q] - t[q] * 4 + t[q] * 3 == 0", True, True),
        ("0 <= t[q] < 1000 and t[q] * 3 == k", True, False),
        ("abs(t[q] - k) < 1000 and t[q] * 1000 == k", True, False),
        ("t[q] < 1000 and t[q] * 3 == k", True, True),
        ("(t[q] < 1000 or k < q) and t[q] * 3 == k", True, True),
        ("t[k] * 2 <= 2 ** 40 + q and t[k] > 0 and 5 * t[k] != k", True, False),
        ("t[q] == k and t[q] * 1000 == 0", True, False),
        ("t[q] < 5 < t[q] and t[q] * 1000 == 0", True, False),
    ],
)
def test_what_only_a_device_knows_is_taken_to_be_below_2_to_the_62(text: str, wide: bool, refused: bool) -> None:
    bound = load_text(f"pattern p(t: int[token]) = {text}", "t")
    attention = attnc.Module(bound).p()._bound
    held = (HostTable(None, False, (40,), wide),)
    if refused:
        with pytest.raises(IntegerRangeError):
            check_attention(attention, CallShape(40, 40), held)
    else:
        check_attention(attention, CallShape(40, 40), held)


def test_what_is_answered_for_any_contents_is_answered_for_those_at_hand() -> None:
    """With the tables hidden, and the positions too: a condition that bounds them must not bound them too much."""
    answered = hidden_positions = 0
    for seed in range(FIRST, FIRST + 400):
        case = fuzz_integers.generate(seed)
        largest = max([0, *(abs(int(x)) for table in case.tables.values() for x in table.reshape(-1).tolist())])
        if not case.tables or largest >= 2**62:
            continue
        try:
            attention = attnc.loads(case.text).drawn()._bound
        except attnc.AttnError:
            continue
        shown = [HostTable(table.numpy()) for table in case.tables.values()]
        hidden = [
            HostTable(None, False, x.values.shape, x.values.dtype == np.int64) for x in shown if x.values is not None
        ]
        for start in ((case.q_start,), None) if case.q_start + case.m < 2**48 else ((case.q_start,),):
            try:
                check_attention(attention, CallShape(case.n, case.m, case.heads, start), hidden)
            except IntegerRangeError:
                continue
            answered, hidden_positions = answered + 1, hidden_positions + (start is None)
            check_attention(attention, CallShape(case.n, case.m, case.heads, (case.q_start,)), shown)
    assert answered > 40
    assert hidden_positions > 10


def test_positions_that_only_a_device_knows() -> None:
    attention = attnc.loads("pattern p = k <= q and (q - k) * 1000 % 7 == 0").p()._bound
    check_attention(attention, CallShape(40, 4, q_start=None), ())
    attention = attnc.loads("pattern p = k <= q < 1000000 and q * 99999 == 3").p()._bound
    check_attention(attention, CallShape(40, 4, q_start=None), ())
    attention = attnc.loads("pattern p = k <= q and q * 99999 == 3").p()._bound
    with pytest.raises(IntegerRangeError):
        check_attention(attention, CallShape(40, 4, q_start=None), ())


@pytest.mark.parametrize("start", [2**62 - 39, 2**62, 2**63 - 1, 2**63, 2**64, 10**30])
def test_positions_beyond_62_bits_are_refused_by_name(start: int) -> None:
    attention = attnc.loads("pattern p = causal and (q - k) % 3 == 0").p()
    x = torch.zeros(1, 1, 40, 8)
    for way in (attention, attention.reference):
        with pytest.raises(ValueError, match=r"^q_start: (is|holds) \d+, expected"):
            way(x, x, x, q_start=start)
    for ask in (attention.mask, attention.plan):
        with pytest.raises(ValueError, match=r"^q_start: (is|holds) \d+, expected"):
            ask(40, 40, q_start=start)
        with pytest.raises(ValueError, match=r"^q_start: (is|holds) \d+, expected"):
            ask(40, 40, q_start=[start, 0])


def test_the_last_positions_are_answered() -> None:
    start = 2**62 - 40
    attention = attnc.loads("pattern p = causal and (q - k) % 3 == 0 and q % 7 != 2").p()
    rows = [[(start + row - k) % 3 == 0 and (start + row) % 7 != 2 for k in range(40)] for row in range(40)]
    expected = torch.tensor(rows)
    assert torch.equal(attention.mask(40, 40, q_start=start)[0], expected)
    q, k, v = torch.zeros(1, 1, 40, 8), torch.zeros(1, 1, 40, 8), torch.eye(40)[None, None]
    with settings.override(backend="blocked"):
        assert torch.equal(attention(q, k, v, q_start=start)[0, 0] > 0, expected)


@pytest.mark.parametrize("size", [2**48 + 1, 2**62, 2**63, 10**40])
def test_sizes_that_no_call_has_are_refused_by_name(size: int) -> None:
    for ask in (attnc.load("causal").causal().plan, attnc.load("causal").causal().mask):
        with pytest.raises(ValueError, match=r"^n: is \d+, expected at most"):
            ask(size, 4)
        with pytest.raises(ValueError, match=r"^m: is \d+, expected at most"):
            ask(4, size)


def test_the_scale_is_refused_by_the_call() -> None:
    text = "attention p { mask = k <= q  scale = 1 / (1 + head * 999999999999999999) }"
    attention = attnc.loads(text).p()
    few, many = (torch.zeros(1, heads, 4, 8) for heads in (9, 40))
    attention(few, few, few)
    for way in (attention, attention.reference):
        with pytest.raises(ValueError, match=BEYOND):
            way(many, many, many)
        way(many, many, many, scale=1.0)


def test_a_test_of_a_text_fails_and_says_why() -> None:
    text = (
        "pattern p = q * 999999999999999999 >= 0\n"
        "test p at n = 8 { pairs == 64 }\ntest p at n = 40 { pairs == 1600 symmetric }"
    )
    short, long = bound_tests(load_text(text, "t"))
    assert [found.verdict for found in run_test(short)] == ["passed"]
    for found in run_test(long):
        assert found.verdict == "failed"
        assert "`q * 999999999999999999` can be 0 to 38999999999999999961" in found.message


def test_a_claim_for_all_n_says_nothing_of_lengths_that_are_refused() -> None:
    """At n = 21 a pair contradicts the second, by integers of any size; but calls of so many tokens are refused."""
    for condition, verdict in (
        ("q * 999999999999999999 >= 0", "passed"),
        ("q // 20 * 10 ** 17 * 200 <= 0", "undecided"),
    ):
        (test,) = bound_tests(load_text(f"pattern p = {condition}\ntest p for all n {{ contains full }}", "t"))
        assert [found.verdict for found in run_test(test)] == [verdict]


def test_ordinary_calls_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """What 32 bits hold is not even asked about."""

    def looked(*_: object) -> None:
        raise AssertionError("looked at")

    monkeypatch.setattr(planning, "check_attention", looked)
    for shipped in SHIPPED:
        attention = attnc.load(shipped.file)[shipped.name](**shipped.constants)
        attention.plan(88, heads=2, **shipped.tables)


def _looks(case: Any, dtype: Any, boxes: Boxes) -> list[Any]:
    nodes = [node for node in dict.fromkeys(walk(case.mask)) if node.type == "int"]
    tables = {str(i): BoundTable(*both) for i, both in enumerate(zip(case.tables, case.contents, strict=True))}
    classifier = Classifier([*nodes, case.mask], case.extent, tables)
    if dtype is not None:
        classifier._dtype = np.dtype(dtype)
    return classifier.evaluate_boxes(boxes)


def test_the_arithmetic_of_boxes_in_64_bits_is_that_of_pythons_integers() -> None:
    """Where the classifier takes 64 bits, it has proved that they suffice."""
    narrow = 0
    for seed in range(150):
        case = Generator(seed).case()
        draw = np.random.default_rng(seed)

        def side(size: int, draw: np.random.Generator = draw) -> tuple[DigitRange, ...]:
            ends = np.sort(draw.integers(0, max(size, 1), (2, 20)), axis=0)
            return (DigitRange(1, ends[0], ends[1]),)

        batch = max([len(case.extent.q_start or ()), *(len(c.values) for c in case.contents if c.batched)])
        boxes = Boxes(side(case.extent.m), side(case.extent.n), draw.integers(0, batch, 20))
        found, expected = _looks(case, None, boxes), _looks(case, object, boxes)
        for own, right in zip(found, expected, strict=True):
            assert np.array_equal(np.asarray(own, object), np.asarray(right, object)), seed
        narrow += any(isinstance(own, tuple) and own[0].dtype == np.int64 for own in found)
    assert narrow > 100
