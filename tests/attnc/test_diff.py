"""attnc.diff against whole masks: what differs, where first, how two masks are related, and what is not known."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import attnc
from attnc.comparison import Diff, ModelDiff
from attnc.compiler.verify import Counterexample, for_all

MODULE = attnc.loads("""
pattern near(size: int = 4) = 0 <= q - k < size
pattern spelled = not (k > q or q - k > 3)
pattern before = k < q
pattern after = k > q
pattern around = window(4)
pattern both_ways = full
pattern twice = (k <= q) + (q - k in {0, 3})
pattern otherwise_twice = (k <= q) + (q - k in {0, 4})
pattern once = causal
pattern of_heads = near(2) if head == 1 else near(4)
pattern of_last_head = near(4) and (head < heads - 1 or q != k + 2)
pattern but_the_last = causal and k < n - 2
pattern early = causal and k < 1000
pattern packed(doc: int[token]) = causal and documents(doc)
pattern other_doc(doc: bool[token]) = doc[q]
pattern renamed(part: int[token]) = causal and documents(part)
pattern marked(g: tokens = {0}) = k in g
pattern unmarked(g: tokens) = k in g
pattern drawn = causal and hash(q, k) != 12345
pattern drawn_too = causal and hash(k, q) != 54321
attention capped { mask = near(4)   score = 50 * tanh(s / 50)   scale = 0.5 }
attention sunk(logit: float[head]) { mask = near(4)   sink = logit[head] }
model six(size: int = 4) {
    layers = 6
    heads = 4
    layer 0..2 = causal
    layer 3 { head 0..1 = near(size) head * = causal }
    layer * = near(size)
}
model four { layers = 4 heads = 4 layer * = causal }
model of_two_heads { layers = 6 heads = 2 layer * = causal }
model whole { layers = 2 heads = 1 layer * = causal }
model all_but_one { layers = 2 heads = 1 layer 0 = causal layer 1 = drawn }
model marked_by_text { layers = 1 heads = 1 layer * = unmarked({0}) }
""")
COMPARED = (
    "near", "before", "after", "around", "both_ways", "twice", "otherwise_twice", "once", "of_heads",
    "of_last_head", "but_the_last",
)  # fmt: skip
LONGEST = 8


def compared(a: str, b: str, **constants: Any) -> Diff:
    found = attnc.diff(MODULE[a](), MODULE[b](**constants))
    assert isinstance(found, Diff)
    return found


@cache
def counts(name: str, n: int, heads: int) -> NDArray[np.int64]:
    """The whole mask, [heads, n, n]."""
    return MODULE[name]().mask(n, heads=heads).long().numpy()


def firsts(a: str, b: str) -> dict[str, tuple[int, ...]]:
    """By whole masks of up to three heads: n, q, k and head of the first pair of each kind of difference."""
    found: dict[str, tuple[int, ...]] = {}
    for n in range(1, LONGEST + 1):
        pairs: dict[str, list[tuple[int, ...]]] = {"only_a": [], "only_b": [], "recounted": [], "common": []}
        for heads in (1, 2, 3):
            own, its = counts(a, n, heads), counts(b, n, heads)
            for name, wrong in (
                ("only_a", (own > 0) & (its == 0)), ("only_b", (own == 0) & (its > 0)),
                ("recounted", (own > 0) & (its > 0) & (own != its)), ("common", (own > 0) & (its > 0)),
            ):  # fmt: skip
                pairs[name] += [(n, q, k, head) for head, q, k in np.argwhere(wrong).tolist()]
        for name, places in pairs.items():
            if places:
                found.setdefault(name, min(places))
    return found


def place(found: Counterexample | None) -> tuple[int, ...] | None:
    if found is None:
        return None
    assert found.q is not None
    assert found.k is not None
    return found.n, found.q, found.k, found.head


@pytest.mark.parametrize(
    ("a", "b"), [(a, b) if len(a) % 2 else (b, a) for a, b in combinations(COMPARED, 2)] + [("near", "spelled")]
)
def test_what_differs_first_is_what_whole_masks_show(a: str, b: str) -> None:
    expected = firsts(a, b)
    common = expected.pop("common", None)
    found = compared(a, b)
    places = {"only_a": found.only_a, "only_b": found.only_b, "recounted": found.recounted}
    assert {name: place(its) for name, its in places.items() if its is not None} == expected
    assert bool(found) is found.equals.refuted is bool(expected)
    assert place(found.equals.counterexample) == min(expected.values(), default=None)
    assert not found.undecided
    assert found.disjoint.proved is (common is None)
    assert found.relation == {
        (False, False): "same pairs" if expected else "equal", (False, True): "a within b",
        (True, False): "b within a", (True, True): "overlap" if common else "disjoint",
    }["only_a" in expected, "only_b" in expected]  # fmt: skip


def test_a_difference_that_begins_late() -> None:
    found = compared("early", "once")
    assert (found.relation, place(found.only_b), found.only_a) == ("a within b", (1001, 1000, 1000, 0), None)
    assert "rows 969..1000 and columns 969..1000 of 1001 rows, 1001 columns" in str(found)


def test_both_masks_are_drawn() -> None:
    found = compared("near", "near", size=3)
    assert str(found).splitlines() == [
        "a = near and b = near differ: b within a",
        "  only a keeps: (q = 3, k = 0) at n = 4",
        "  only b keeps: no pair",
        "",
        "at n = 4:",
        "q  a      b      differs",
        "0  #...   #...   ....",
        "1  ##..   ##..   ....",
        "2  ###.   ###.   ....",
        "3  ####   .###   -...",
        "`-` only a keeps, `+` only b keeps, `!` both keep, another number of times",
    ]
    assert repr(found) == "<attnc.diff of a = near and b = near differ: b within a>"
    assert str(compared("near", "spelled")) == "a = near and b = spelled keep the same pairs for every n"


def test_every_kind_of_difference_is_drawn() -> None:
    lines = str(compared("twice", "around")).splitlines()
    assert lines[0] == "a = twice and b = around differ: overlap"
    assert lines[1:4] == [
        "  only a keeps: (q = 3, k = 0) at n = 4",
        "  only b keeps: (q = 0, k = 1) at n = 2",
        "  counted another number of times: (q = 0, k = 0) at n = 1",
    ]
    drawn = "\n".join(lines[4:])
    assert [line for line in lines if line.endswith(":")] == ["at n = 1:", "at n = 4:"]
    assert {"-", "+", "!"} <= {mark for line in drawn.splitlines() if line[:1].isdigit() for mark in line}


def test_tables_of_one_name_are_one() -> None:
    documents = attnc.load("documents").documents()
    found = attnc.diff(MODULE.packed(), documents)
    assert (found.relation, place(found.only_b)) == ("a within b", (2, 0, 1, 0))
    assert "only b keeps: (q = 0, k = 1) at n = 2 (doc = [0, 0])" in str(found)
    assert not attnc.diff(MODULE.packed(), attnc.loads("pattern p(doc: int[token]) = doc[k] == doc[q] and k <= q").p())
    found = compared("packed", "renamed")
    assert found.relation == "overlap"
    assert found.others == {"tables": ("doc: int[token]", "part: int[token]")}
    for cell in (found.only_a, found.only_b):
        assert cell is not None
        given = {name: its.values for name, its in cell.contents.items()}
        own, its = MODULE.packed().mask(cell.n, doc=given["doc"]), MODULE.renamed().mask(cell.n, part=given["part"])
        assert bool(own[0, cell.q, cell.k]) is (cell is found.only_a) is not bool(its[0, cell.q, cell.k])
    by_text = attnc.diff(MODULE.marked_by_text().layers[0], MODULE.unmarked())
    assert by_text.equals.refuted
    assert by_text.others == {"tables": ("none", "g: tokens"), "heads": ("1", "any")}
    assert not attnc.diff(MODULE.marked(), MODULE.unmarked())
    assert compared("marked", "unmarked").others == {"tables": ("g: tokens = {0}", "g: tokens")}


def test_what_differs_beside_the_masks_is_named() -> None:
    found = compared("near", "capped")
    assert not found
    assert found.others == {
        "score": ("s", "tanh(s / 50.0) * 50.0"), "scale": ("1.0 / sqrt(head_dim)", "0.5"),
    }  # fmt: skip
    assert str(found).splitlines() == [
        "a = near and b = capped keep the same pairs for every n",
        "  score of a: s",
        "  score of b: tanh(s / 50.0) * 50.0",
        "  scale of a: 1.0 / sqrt(head_dim)",
        "  scale of b: 0.5",
    ]
    assert compared("near", "sunk").others == {
        "sink": ("none", "logit[head]"), "tables": ("none", "logit: float[head]"),
    }  # fmt: skip


def test_what_is_undecided_is_not_called_equal() -> None:
    found = compared("drawn", "drawn_too")
    assert (found.undecided, bool(found), found.relation) == (True, True, "undecided")
    assert (found.only_a, found.only_b, found.equals.checked_to) == (None, None, 32)
    lines = str(found).splitlines()
    assert lines[0] == "a = drawn and b = drawn_too, undecided whether they differ"
    assert lines[1].startswith("  only a keeps: undecided, checked to n = 32")
    found = compared("drawn", "once")
    assert (found.relation, found.undecided, bool(found)) == ("a within b", True, True)
    assert repr(found) == "<attnc.diff of a = drawn and b = once, undecided whether they differ: a within b>"
    models = attnc.diff(MODULE.whole(), MODULE.all_but_one())
    assert (models.undecided, bool(models), models.differing) == (True, True, (1,))
    assert str(models).splitlines()[:3] == [
        "a = whole and b = all_but_one, undecided whether they differ: layer 1, of 2", "",
        "layer 1: undecided whether they differ: b within a",
    ]  # fmt: skip


def test_a_difference_of_parts_is_one_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ``equals`` itself is undecided: here the prover sleeps whenever it is asked that."""
    awake = for_all.prove
    monkeypatch.setattr(
        for_all, "prove", lambda asked: for_all.Unknown("asleep") if asked.kind == "equals" else awake(asked)
    )
    monkeypatch.setattr(for_all, "EVERY_LENGTH", 0)
    monkeypatch.setattr(for_all, "SOME_LENGTHS", ())
    found = compared("near", "near", size=17)
    assert (found.equals.state, place(found.equals.counterexample)) == ("refuted", (5, 4, 0, 0))
    spelled = attnc.loads("pattern p = not (k > q or q - k > 22)").p()
    assert attnc.diff(MODULE.near(23), spelled).relation == "equal"


def test_models_layer_by_layer() -> None:
    found = attnc.diff(MODULE.six(), MODULE.six(size=5))
    assert isinstance(found, ModelDiff)
    assert (bool(found), found.differing, found.undecided, found.others) == (True, (3, 4, 5), False, {})
    assert [layer.heads for layer in found.layers] == [(), (), (), (0, 1), (0, 1, 2, 3), (0, 1, 2, 3)]
    assert place(found.layers[3].only_b) == (5, 4, 0, 0)
    assert {layer.relation for layer in found.layers[3:]} == {"a within b"}
    lines = str(found).splitlines()
    assert lines[0] == "a = six and b = six differ in layers 3..5, of 6"
    assert [line for line in lines if line.startswith("layer")] == [
        "layer 3: a within b", "layers 4, 5: a within b",
    ]  # fmt: skip
    assert [line for line in lines if "heads:" in line] == ["  heads: 0, 1", "  heads: 0..3"]
    same = attnc.diff(MODULE.six(), attnc.loads("""
        model again { layers = 6 heads = 4 layer * = causal if layer < 3 else near
                      layer 3 { head * = causal head 0, 1 = near } }
        pattern near = not (k > q or q - k > 3)
    """.replace("layer * =", "layer 0..2, 4, 5 =")).again())  # fmt: skip
    assert (bool(same), same.differing) == (False, ())
    assert str(same) == "a = six and b = again keep the same pairs in every layer, for every n"


def test_models_of_other_sizes() -> None:
    found = attnc.diff(MODULE.six(), MODULE.four())
    assert (bool(found), found.differing, found.others) == (True, (3,), {"layers": ("6", "4")})
    found = attnc.diff(MODULE.four(), MODULE.of_two_heads())
    assert (bool(found), found.differing, found.undecided) == (True, (), False)
    assert found.others == {"layers": ("4", "6"), "heads": ("4", "2")}
    assert str(found).splitlines() == [
        "a = four and b = of_two_heads differ in their number of layers and heads",
        "  layers: a has 4, b has 6",
        "  heads: a has 4, b has 2",
    ]
    layers = attnc.diff(MODULE.six().layers[3], MODULE.of_two_heads().layers[3])
    assert (layers.heads, place(layers.only_b), bool(layers)) == ((0, 1), (5, 4, 0, 0), True)
    assert bool(attnc.diff(MODULE.four().layers[0], MODULE.of_two_heads().layers[0]))
    assert not attnc.diff(MODULE.four().layers[0], MODULE.once())


@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        (3, MODULE.near(), TypeError, "a: is int, expected an attnc.Attention or an attnc.Model"),
        (MODULE.near(), MODULE.near, TypeError, "b: is function, expected an attnc.Attention or an"),
        (MODULE.six(), MODULE.near(), TypeError, "a: is a model and the other an attention, expected two"),
        (MODULE.near(), MODULE.six(), TypeError, "b: is a model and the other an attention"),
        (MODULE.packed(), MODULE.other_doc(), ValueError,
         "b: its table doc is bool[token], expected int[token], as packed has it"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(a: Any, b: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        attnc.diff(a, b)
    assert str(caught.value).startswith(message)
