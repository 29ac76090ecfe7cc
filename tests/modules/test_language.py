"""What texts mean: each feature of the language against a plain Python condition, pair by pair."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from attnc.compiler.ir import printer
from attnc.compiler.ir.attentions import DEFAULT_SCALE, Attention, Model, Table
from attnc.compiler.ir.expressions import LOGIT, Const, walk
from attnc.compiler.ir.extent import CallShape
from attnc.compiler.ir.operations import murmur
from attnc.compiler.modules.loader import bind, load_shipped, load_text
from attnc.compiler.oracle.interpreter import evaluate
from attnc.compiler.oracle.literal_tables import literal_contents

GALLERY = Path(__file__).parents[1] / "golden/language" / "gallery.attn"
Condition = Callable[..., int]


def brief(value: object) -> str | None:
    """The id of a case: its text. A function's own name would hold an address, and differ between processes."""
    return value[:50] if isinstance(value, str) else None


def attention(text: str, name: str = "p", **constants: object) -> Attention:
    bound = bind(load_text(text), name, constants)
    assert isinstance(bound, Attention)
    return bound


def model(text: str, name: str = "p", **constants: object) -> Model:
    bound = bind(load_text(text), name, constants)
    assert isinstance(bound, Model)
    return bound


def counts(subject: Attention, n: int = 12, heads: int = 1, m: int | None = None, q_start: int = 0) -> np.ndarray:
    extent = CallShape(n, n - q_start if m is None else m, heads, (q_start,))
    contents = literal_contents(subject.tables, extent)
    return np.asarray(evaluate(subject.mask, subject.tables, extent, contents)[0], dtype=np.int64)


def expected(condition: Condition, n: int = 12, heads: int = 1) -> np.ndarray:
    return np.array([[[int(condition(q, k, n, h)) for k in range(n)] for q in range(n)] for h in range(heads)])


def agree(text: str, condition: Condition, heads: int = 1, **constants: object) -> None:
    got, wanted = counts(attention(text, **constants), heads=heads), expected(condition, heads=heads)
    np.testing.assert_array_equal(np.broadcast_to(got, wanted.shape), wanted)


SECTIONS = [section for section in re.split(r"(?m)^(?=#= )", GALLERY.read_text()) if section.startswith("#= ")]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.split()[1])
def test_the_gallery_is_sayable(section: str) -> None:
    module = load_text(section)
    assert module.declarations


def test_the_whole_gallery_is_one_text() -> None:
    assert len(load_text(GALLERY.read_text()).declarations) == 63


PRELUDE: list[tuple[str, dict[str, int], Condition]] = [
    ("full", {}, lambda q, k, n, h: True),
    ("causal", {}, lambda q, k, n, h: k <= q),
    ("window", {"size": 5}, lambda q, k, n, h: abs(q - k) <= 2),
    ("window", {"size": 4, "dilation": 3}, lambda q, k, n, h: abs(q - k) <= 6 and (q - k) % 3 == 0),
    ("causal_window", {"size": 4}, lambda q, k, n, h: 0 <= q - k < 4),
    ("causal_window", {"size": 2, "dilation": 3}, lambda q, k, n, h: 0 <= q - k < 6 and (q - k) % 3 == 0),
    ("band", {"left": 2, "right": 3}, lambda q, k, n, h: -3 <= q - k <= 2),
    ("first", {"count": 3}, lambda q, k, n, h: k < 3),
    ("blocks", {"size": 5}, lambda q, k, n, h: q // 5 == k // 5),
    ("block_band", {"size": 3, "left": 1, "right": 0}, lambda q, k, n, h: 0 <= q // 3 - k // 3 <= 1),
    ("chunked", {"size": 5}, lambda q, k, n, h: k <= q and q // 5 == k // 5),
    ("strided", {"stride": 3}, lambda q, k, n, h: k <= q and (q - k < 3 or (q - k) % 3 == 0)),
    ("fixed", {"stride": 4, "summary": 1}, lambda q, k, n, h: k <= q and (q // 4 == k // 4 or k % 4 >= 3)),
    (
        "grid_window", {"width": 4, "rows": 1, "cols": 2},
        lambda q, k, n, h: abs(q // 4 - k // 4) <= 1 and abs(q % 4 - k % 4) <= 2,
    ),
    (
        "random_blocks", {"size": 2, "percent": 40, "seed": 7},
        lambda q, k, n, h: murmur((7, h, q // 2, k // 2)) % 100 < 40,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "constants", "condition"), PRELUDE, ids=brief)
def test_the_prelude(name: str, constants: Mapping[str, int], condition: Condition) -> None:
    bound = bind(load_shipped("std"), name, constants)
    assert isinstance(bound, Attention)
    wanted = expected(condition, heads=2)
    np.testing.assert_array_equal(np.broadcast_to(counts(bound, heads=2), wanted.shape), wanted)


TABLES: list[tuple[str, Condition]] = [
    ("sees_all({0, 3})", lambda q, k, n, h: q in (0, 3)),
    ("seen_by_all({0, 3})", lambda q, k, n, h: k in (0, 3)),
    ("global_tokens({2..4})", lambda q, k, n, h: q in (2, 3, 4) or k in (2, 3, 4)),
    ("prefix(5)", lambda q, k, n, h: k <= q or k < 5),
    ("padded(5)", lambda q, k, n, h: k < 5),
    ("documents([0, 0, 0, 1, 1, 2, 2, 2, 2, 0, 0, 1])", lambda q, k, n, h: "000112222001"[q] == "000112222001"[k]),
]


@pytest.mark.parametrize(("applied", "condition"), TABLES)
def test_constants_may_stand_for_run_time_data(applied: str, condition: Condition) -> None:
    agree(f"pattern p = {applied}", condition)


EXPRESSIONS: list[tuple[str, Condition]] = [
    ("true", lambda q, k, n, h: True),
    ("not causal", lambda q, k, n, h: k > q),
    ("q < 3 or k < 3 and q == k", lambda q, k, n, h: q < 3 or (k < 3 and q == k)),
    ("(q == k) != (k < 4)", lambda q, k, n, h: (q == k) != (k < 4)),
    ("(q < 5) == (k < 5)", lambda q, k, n, h: (q < 5) == (k < 5)),
    ("0 <= q - k < 3", lambda q, k, n, h: 0 <= q - k < 3),
    ("3 > q - k >= 0", lambda q, k, n, h: 3 > q - k >= 0),
    ("(q - k) // 3 == 1", lambda q, k, n, h: (q - k) // 3 == 1),
    ("(q - k) % 5 == 3", lambda q, k, n, h: (q - k) % 5 == 3),
    ("q - k - 1 == 0", lambda q, k, n, h: q - k - 1 == 0),
    ("-q + k == --1", lambda q, k, n, h: -q + k == 1),
    ("-2 ** 2 + q == k", lambda q, k, n, h: -4 + q == k),
    ("q == 2 ** 3 ** 1", lambda q, k, n, h: q == 8),
    ("q * k < 20 - k * 2 // 3 * 2", lambda q, k, n, h: q * k < 20 - k * 2 // 3 * 2),
    ("q in {0, 3..5, 9}", lambda q, k, n, h: q in (0, 3, 4, 5, 9)),
    ("q not in {0, 3..<5}", lambda q, k, n, h: q not in (0, 3, 4)),
    ("k in q - 2..q", lambda q, k, n, h: q - 2 <= k <= q),
    ("k in q - 2..<q", lambda q, k, n, h: q - 2 <= k < q),
    ("k in {0, q - 1, n - q..n - 1}", lambda q, k, n, h: k in (0, q - 1) or n - q <= k <= n - 1),
    ("k in 5..2", lambda q, k, n, h: False),
    ("k in {}", lambda q, k, n, h: False),
    ("k in {q..q - 3}", lambda q, k, n, h: False),
    ("any(q - k == 2 ** i for i in 0..2)", lambda q, k, n, h: q - k in (1, 2, 4)),
    ("all(q % i == k % i for i in {2, 3})", lambda q, k, n, h: (q - k) % 6 == 0),
    ("any(k == i for i in {})", lambda q, k, n, h: False),
    ("all(k == i for i in {})", lambda q, k, n, h: True),
    ("sum(i * k for i in 1..3) == q", lambda q, k, n, h: 6 * k == q),
    ("sum(k for i in {}) == q", lambda q, k, n, h: q == 0),
    ("min(q, k, 5) == max(k, 2)", lambda q, k, n, h: min(q, k, 5) == max(k, 2)),
    ("abs(q - k) == 3", lambda q, k, n, h: abs(q - k) == 3),
    ("hash(q, k) % 3 == 0", lambda q, k, n, h: murmur((q, k)) % 3 == 0),
    ("hash(-1, q - k) % 4 < 2", lambda q, k, n, h: murmur((-1, q - k)) % 4 < 2),
    ("q < 4 if k % 2 == 0 else q > 7 if k % 3 == 0 else true",
     lambda q, k, n, h: q < 4 if k % 2 == 0 else q > 7 if k % 3 == 0 else True),
    ("(q if k < 4 else k) == 5", lambda q, k, n, h: (q if k < 4 else k) == 5),
    ("k < 5 / 2", lambda q, k, n, h: k < 2.5),
    ("k > 5 / 2 and 2.0 < q and q != 4.5 and q <= 7.5 and 8.5 >= k",
     lambda q, k, n, h: 2.5 < k <= 8.5 and 2 < q <= 7.5),
    ("q == 4.0 or k == 4.5", lambda q, k, n, h: q == 4),
    ("k < 1e300", lambda q, k, n, h: True),
    ("head == 1 and q < heads", lambda q, k, n, h: h == 1 and q < 2),
    ("layer == 0 and layers == 1 and causal", lambda q, k, n, h: k <= q),
    ("q == n - 1 - k", lambda q, k, n, h: q == n - 1 - k),
]  # fmt: skip


@pytest.mark.parametrize(("text", "condition"), EXPRESSIONS, ids=brief)
def test_expressions(text: str, condition: Condition) -> None:
    agree(f"pattern p = {text}", condition, heads=2)


COUNTS: list[tuple[str, Condition]] = [
    ("causal + (q == k)", lambda q, k, n, h: (k <= q) + (q == k)),
    ("causal + causal + full", lambda q, k, n, h: 2 * (k <= q) + 1),
    ("(causal + full) and k < 4", lambda q, k, n, h: ((k <= q) + 1) * (k < 4)),
    ("k < 4 and (causal + full) and q < 6", lambda q, k, n, h: ((k <= q) + 1) * (k < 4 and q < 6)),
    ("causal + full if q < 4 else causal", lambda q, k, n, h: (k <= q) + 1 if q < 4 else (k <= q)),
    ("full if q < 2 else (k < 2) + (q == k)", lambda q, k, n, h: 1 if q < 2 else (k < 2) + (q == k)),
    ("sum(k < i for i in 3..5)", lambda q, k, n, h: sum(k < i for i in (3, 4, 5))),
    ("sum(k < i for i in {3})", lambda q, k, n, h: k < 3),
    ("sum(sum((q // a == k // b) for a in 2..3) for b in 2..3)",
     lambda q, k, n, h: sum(q // a == k // b for a in (2, 3) for b in (2, 3))),
    ("sum(k < i for i in {})", lambda q, k, n, h: 0),
    ("sum(k < i for i in {}) + causal", lambda q, k, n, h: k <= q),
]  # fmt: skip


@pytest.mark.parametrize(("text", "condition"), COUNTS, ids=brief)
def test_counts(text: str, condition: Condition) -> None:
    agree(f"pattern p = {text}", condition)


TEXTS: list[tuple[str, dict[str, object], Condition]] = [
    ("pattern p = a == b where a = q // 3, b = k // 3", {}, lambda q, k, n, h: q // 3 == k // 3),
    ("pattern p = c where a = q + 1, b = a * 2, c = b < k", {}, lambda q, k, n, h: (q + 1) * 2 < k),
    ("pattern p(size: int, b: bool = true) = q < size and b", {"size": 4}, lambda q, k, n, h: q < 4),
    ("pattern p(size: int, b: bool = true) = q < size and b", {"size": 4, "b": False}, lambda q, k, n, h: False),
    ("pattern p(size: int, twice: int = 2 * size) = q < twice", {"size": 3}, lambda q, k, n, h: q < 6),
    ("pattern p(x: float) = k < x", {"x": 2.5}, lambda q, k, n, h: k < 2.5),
    ("pattern p(x: float) = k < x", {"x": 3}, lambda q, k, n, h: k < 3),
    ("pattern p(keep: set) = k in keep", {"keep": {1, 2, 9}}, lambda q, k, n, h: k in (1, 2, 9)),
    ("pattern p(keep: set) = k in keep", {"keep": range(2, 9)}, lambda q, k, n, h: 2 <= k < 9),
    ("pattern p(keep: set) = k in keep", {"keep": range(8, 0, -3)}, lambda q, k, n, h: k in (8, 5, 2)),
    ("pattern p(keep: set) = k in keep", {"keep": iter([5, 5, 1])}, lambda q, k, n, h: k in (1, 5)),
    ("pattern p(keep: set) = any(q - k == x for x in keep)", {"keep": [0, 2]}, lambda q, k, n, h: q - k in (0, 2)),
    ("pattern near(i: index, j: index, r: int) = abs(i - j) <= r\n"
     "pattern p = near(q // 3, k // 3, 1) and near(i = k, j = 2, r = 4)",
     {}, lambda q, k, n, h: abs(q // 3 - k // 3) <= 1 and abs(k - 2) <= 4),
    ("const sizes = [[1, 2], [3, 4]] const pick = 1\npattern p = q < sizes[pick, 0] + sizes[0, pick]", {},
     lambda q, k, n, h: q < 5),
    ("const wide = 3 < 4 const half = 5 / 2 const keep = {0..2, wide_at} const wide_at = 6\n"
     "pattern p = wide and k < half or q in keep",
     {}, lambda q, k, n, h: k < 2.5 or q in (0, 1, 2, 6)),
    ("const widths = [2.0 ** -1, 3]\npattern p = k < widths[0] + widths[1]", {}, lambda q, k, n, h: k < 3.5),
    ("pattern causal = k < q\npattern p = causal", {}, lambda q, k, n, h: k < q),
    ("pattern p(causal: int = 3) = k < causal", {}, lambda q, k, n, h: k < 3),
    ("pattern a(w: int) = q < w\npattern p = a(layers + layer + 2)", {}, lambda q, k, n, h: q < 3),
    ("pattern a(d: int) = q // d == 0 if d > 0 else full\npattern p = a(0) and a(3)", {}, lambda q, k, n, h: q < 3),
    ("pattern a(d: int) = d > 0 and q // d == 0\npattern p = a(0) or a(3)", {}, lambda q, k, n, h: q < 3),
    ("pattern p(g: tokens = {1}, len: int[] = 4, doc: int[token] = [0,0,0,0,0,0,0,0,0,0,0,0]) = "
     "q in g or k < len and doc[q] == doc[k]", {}, lambda q, k, n, h: q == 1 or k < 4),
    ("pattern a(t: float[head]) = t[head] > 0.5\npattern p = a([0.25, 0.75]) and causal", {},
     lambda q, k, n, h: h == 1 and k <= q),
    ("pattern a(t: bool[blocks, blocks]) = t[q // 6, k // 6]\npattern p = a([[true, false], [false, true]])", {},
     lambda q, k, n, h: q // 6 == k // 6),
    ("pattern a(t: set[blocks]) = k in t[q // 6]\npattern p = a([{0..1}, {5}])", {},
     lambda q, k, n, h: k in ((0, 1) if q < 6 else (5,))),
    ("pattern a(r: order[token]) = r[q] <= r[k]\npattern p = a([11,10,9,8,7,6,5,4,3,2,1,0])", {},
     lambda q, k, n, h: k <= q),
    ("pattern inner(t: int[rows, rows]) = t[q // 6, k // 6] == 1\npattern outer(b: int, u: int[b, b]) = inner(u)\n"
     "pattern p = outer(2, [[1, 0], [1, 1]])", {}, lambda q, k, n, h: k // 6 <= q // 6),
    ("pattern p = a30 where a0 = q, " + ", ".join(f"a{i + 1} = max(a{i}, k)" for i in range(29)) + ", a30 = a29 == q",
     {}, lambda q, k, n, h: k <= q),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "constants", "condition"),
    [case for case in TEXTS if case[2] is not None],
    ids=brief,
)
def test_texts(text: str, constants: Mapping[str, object], condition: Condition) -> None:
    agree(text, condition, heads=2, **constants)


def test_a_free_size_may_be_called_as_a_pattern_is() -> None:
    """As the one that has it, as one that comes later, and as one that has a size called like the first."""
    texts = (
        "pattern rows(c: set[rows]) = k in c[q]\n",
        "pattern near(c: set[rows]) = k in c[q]\npattern rows = causal\n",
        "pattern near(c: set[far]) = k in c[q]\npattern far(c: set[near]) = k in c[q]\n",
    )
    for text in texts:
        module = load_text(text)
        for name in module.declarations:
            subject = bind(module, name, {})
            assert [table.dimensions[0].kind for table in subject.tables] in ([], ["free"])


def test_a_long_chain_is_flat() -> None:
    chain = " + ".join(["q"] + ["1 - k + k"] * 2000)
    agree(f"pattern p = k < {chain}", lambda q, k, n, h: k < q + 2000)
    agree("pattern p = " + " or ".join(f"q - k == {i}" for i in range(3000)), lambda q, k, n, h: q >= k)


# Attentions


def test_an_attention_has_defaults() -> None:
    subject = attention("attention p { mask = causal }")
    assert subject.score == LOGIT
    assert subject.scale == DEFAULT_SCALE
    assert subject.sink is None


SCORES = [
    ("score = s + slope[head] * (k - q)", "score", "s + slope[head] * (k - q)"),
    ("score = 50 * tanh(s / 50)", "score", "tanh(s / 50.0) * 50.0"),
    ("score = -100000.0 if q == k else s", "score", "-100000.0 if q == k else s"),
    ("score = s if causal else 1", "score", "s if k <= q else 1.0"),
    ("score = d + s where d = q - k", "score", "q - k + s"),
    ("score = 3", "score", "3.0"),
    ("scale = 1 / sqrt(256)", "scale", "0.0625"),
    ("scale = 1 / (head + 1)", "scale", "1.0 / (head + 1)"),
    ("sink = slope[head]", "sink", "slope[head]"),
    ("sink = a where a = q / 2", "sink", "q / 2.0"),
]


@pytest.mark.parametrize(("field", "part", "text"), SCORES)
def test_scores(field: str, part: str, text: str) -> None:
    subject = attention(f"attention p(slope: float[head]) {{ mask = causal {field} }}")
    expr = getattr(subject, part)
    assert expr.type == "float"
    assert printer.expression(expr) == text


def test_tables_are_described() -> None:
    text = "const three = 3\npattern p(g: tokens, b: int, t: float[head, b, three, 4, some, some], len: int[] = 7) ="
    text += " q in g and t[head, 0, 0, 0, q, k] > len"
    subject = attention(text, b=5)
    assert [printer.table_type(table) for table in subject.tables] == [
        "tokens",
        "float[head, 5, 3, 4, some, some]",
        "int[]",
    ]
    assert [table.default for table in subject.tables] == [None, None, 7]
    assert all(isinstance(table, Table) and table.value is None for table in subject.tables)


def test_equal_contents_are_one_table() -> None:
    text = "pattern a(t: int[token]) = t[q] == t[k]\npattern p = a([0, 1]) or a([0, 1]) and a([0, 2])"
    assert sorted(table.value for table in attention(text).tables) == [(0, 1), (0, 2)]


# Models


def test_layers_and_heads() -> None:
    text = """
        model p(depth: int) {
            layers = depth
            heads  = 4
            layer 0, 2..<4 = causal_window(2 ** layer)
            layer 1 {
                head 0    = causal
                head 1..2 = window(2 * (head + layers) // 2)
                head *    = full
            }
            layer * = full if layer % 2 == 0 else causal
        }
    """
    net = model(text, depth=6)
    assert (net.name, net.heads, len(net.layers)) == ("p", 4, 6)
    masks: dict[int, Condition] = {
        0: lambda q, k, n, h: 0 <= q - k < 1,
        1: lambda q, k, n, h: (k <= q, abs(q - k) <= 3, abs(q - k) <= 4, True)[h],
        2: lambda q, k, n, h: 0 <= q - k < 4,
        3: lambda q, k, n, h: 0 <= q - k < 8,
        4: lambda q, k, n, h: True,
        5: lambda q, k, n, h: k <= q,
    }
    for layer, condition in masks.items():
        wanted = expected(condition, heads=4)
        np.testing.assert_array_equal(np.broadcast_to(counts(net.layers[layer], heads=4), wanted.shape), wanted)


@pytest.mark.parametrize("heads", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("groups", [1, 2, 3, 5])
def test_heads_that_alternate(heads: int, groups: int) -> None:
    text = f"model p {{ layers = 1 heads = {heads} layer 0 {{ head * = causal_window(head % {groups} + 1) }} }}"
    wanted = expected(lambda q, k, n, h: 0 <= q - k < h % groups + 1, heads=heads)
    np.testing.assert_array_equal(np.broadcast_to(counts(model(text).layers[0], heads=heads), wanted.shape), wanted)


def test_heads_with_other_scores_sinks_and_counts() -> None:
    text = """
        attention a(t: float[head]) { mask = causal + full  score = s / 2  sink = t[head]  scale = 0.5 }
        model p(t: float[head] = [1, 2, 3, 4]) { layers = 1 heads = 4 layer 0 { head 0, 2 = a(t) head * = causal } }
    """
    layer = model(text).layers[0]
    assert layer.mask.type == "count"
    assert printer.expression(layer.score) == "s / 2.0 if head == 0 or head == 2 else s"
    assert printer.expression(layer.scale) == "0.5 if head == 0 or head == 2 else 1.0 / sqrt(head_dim)"
    assert layer.sink is not None
    assert Const(float("-inf")) in walk(layer.sink)
    assert [table.name for table in layer.tables] == ["t"]
    wanted = expected(lambda q, k, n, h: (k <= q) + (h in (0, 2)), heads=4)
    np.testing.assert_array_equal(counts(layer, heads=4), wanted)


def test_equal_layers_are_one_attention() -> None:
    net = model("model p { layers = 40 heads = 2 layer * = causal if layer % 6 == 5 else causal_window(1024) }")
    assert len({id(layer) for layer in net.layers}) == 2


def test_a_pattern_in_a_rule_knows_its_layer() -> None:
    text = (
        "const widths = [1, 3]\npattern a = causal_window(widths[layer])\nmodel p { layers = 2 heads = 1 layer * = a }"
    )
    for layer, width in zip(model(text).layers, (1, 3), strict=True):
        np.testing.assert_array_equal(counts(layer), expected(lambda q, k, n, h, w=width: 0 <= q - k < w))


@pytest.mark.parametrize("rule", ["b", "full if layers < 2 else b", "c"])
def test_a_pattern_that_applies_one_that_looks_at_the_layer_differs_by_layer(rule: str) -> None:
    text = "pattern a = k <= layer pattern b = a and q < 9 attention c { mask = b scale = 1.0 / (layer + 1) } "
    layers = model(text + f"model p {{ layers = 3 heads = 2 layer * = {rule} }}").layers
    for number, layer in enumerate(layers):
        found = counts(layer, heads=2)
        np.testing.assert_array_equal(
            found, np.broadcast_to(expected(lambda q, k, n, h, w=number: k <= w and q < 9), found.shape)
        )
    assert len({layer.scale for layer in layers}) == (3 if rule == "c" else 1)
