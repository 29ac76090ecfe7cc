"""What is wrong with a text: every fault at once, each at its place, and nothing but AttnError out of any text."""

from __future__ import annotations

import re
import string
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from attnc.compiler.diagnostics import limits
from attnc.compiler.diagnostics.diagnostic import (
    ArgumentError,
    AttnError,
    Diagnostic,
    Label,
    Source,
    Span,
    nearest,
    render,
)
from attnc.compiler.modules.loader import Module, bind, load_file, load_shipped, load_text

HERE = Path(__file__).parents[1] / "golden/language"
# Each: a text, `>>>`, then for each fault of it the slug and the words that are underlined.
FAULTS = [tuple(case.split("\n>>>\n")) for case in (HERE / "faults.txt").read_text().rstrip("\n").split("\n---\n")]


def attempt(action: Callable[[], object]) -> tuple[Diagnostic, ...]:
    """The faults that come of it, if any, each of which can be shown."""
    try:
        action()
    except AttnError as error:
        return error.diagnostics if str(error) else ()
    return ()


def faults(text: str | bytes, **options: Path) -> tuple[Diagnostic, ...]:
    with pytest.raises(AttnError) as caught:
        load_text(text, **options)
    return caught.value.diagnostics


def underlined(diagnostic: Diagnostic) -> str:
    assert diagnostic.primary is not None
    span = diagnostic.primary.span
    return span.source.text[span.start : span.end]


@pytest.mark.parametrize(("text", "expected"), FAULTS, ids=lambda value: value.splitlines()[0][:40])
def test_faults(text: str, expected: str) -> None:
    assert [f"{fault.slug}: {underlined(fault).splitlines()[0]}" for fault in faults(text)] == expected.splitlines()


@pytest.mark.parametrize(("text", "expected"), FAULTS, ids=lambda value: value.splitlines()[0][:40])
def test_messages_keep_the_style(text: str, expected: str) -> None:
    for fault in faults(text):
        assert not fault.message.endswith(".")
        assert fault.message[0] in string.ascii_lowercase + string.digits + "`"
        rendered = render(fault)
        told = re.sub(r"`[^`]*`", "", " ".join((fault.message, *fault.notes, *fault.helps)))
        assert not re.search(
            r"unexpected|illegal|invalid|token\b|Expr|Scalar|None|[A-Z]{4,}", told.replace("ASCII", "")
        )
        assert max(map(len, rendered.splitlines()[1:])) < 240


def test_every_whole_snippet_in_a_help_can_be_read() -> None:
    seen: set[str] = set()
    for text, _ in FAULTS:
        for fault in faults(text):
            seen.update(snippet for told in fault.helps for snippet in told.split("`")[1::2])
    whole = sorted(
        snippet for snippet in seen if set(snippet) & set("=([{ ") and len(snippet) > 2 and "…" not in snippet
    )
    assert len(whole) > 15
    for snippet in whole:
        assert any(reads(form.format(snippet)) for form in FORMS), snippet


FORMS = (
    "pattern p = {}", "{}", "pattern p({}) = full", "attention p {{ {} }}", "model p {{ {} }}", "test p {} {{ }}",
    "from std {}", "const p = {}", "model p {{ layers = 1 heads = 1 layer * {{ {} }} }}", "test p at n = 1, {} {{ }}",
    "pattern p(x: {}) = full",
)  # fmt: skip


def reads(text: str) -> bool:
    """Whether the grammar takes a text, whatever its names mean."""
    slugs = {fault.slug for fault in attempt(lambda: load_text(text))}
    return not slugs & {"syntax", "bracket", "reserved-word", "unknown-character"}


# Rendering


def test_a_fault_as_text() -> None:
    (fault, *_) = faults("pattern p =\n    windw(size) or q in g")
    assert render(fault) == "\n".join(
        (
            "error[unknown-name]: `windw` is not a pattern, a parameter or a position",
            " --> <text>:2:5",
            "  |",
            "2 |     windw(size) or q in g",
            "  |     ^^^^^ not defined here or in the prelude",
            "  = help: did you mean `window`?",
        )
    )


def test_a_fault_with_related_places_as_text() -> None:
    text = "model base(g: tokens) {\n layers = 7 heads = 12\n layer 0..5 = causal\n layer 6 {\n"
    text += "  head 0..1 = causal\n  head 1..11 = full\n }\n}"
    (fault,) = faults(text)
    assert render(fault) == "\n".join(
        (
            "error[heads-overlap]: head 1 of layer 6 has two rules",
            " --> <text>:6:8",
            "  |",
            "5 |   head 0..1 = causal",
            "  |        ---- first here",
            "6 |   head 1..11 = full",
            "  |        ^^^^^ again here",
            "  = help: write `2..11`, which no rule before names",
        )
    )


def test_a_name_that_comes_later() -> None:
    where, default = faults("pattern p = a where a = b, b = k < q\npattern r(w: int = x, x: int = 3) = k < w + x")
    assert [fault.message for fault in (where, default)] == ["`b` is not known yet", "`x` is not known yet"]
    assert [fault.related[0].text for fault in (where, default)] == ["given here", "given here"]
    assert [fault.related[0].span.start for fault in (where, default)] == [27, 59]


def test_marks_side_by_side_and_another_source() -> None:
    here, there = Source("a.attn", "one two three\tfour\x07" + "x" * 200), Source("b.attn", "1\n2\n3 there\n")
    related = (Label(Span(here, 8, 13)), Label(Span(here, 0, 3)), Label(Span(there, 6, 11), "declared here"))
    text = render(Diagnostic("slug", "message", Label(Span(here, 4, 7), "this"), related, ("a fact",), ("an act",)))
    lines = text.splitlines()
    assert lines[3].startswith("1 | one two three four\N{REPLACEMENT CHARACTER}xxx")
    assert len(lines[3]) == 4 + 100
    assert lines[4:6] == ["  |     ^^^ this", "  | ---     -----"]
    assert lines[6:] == [
        " ::: b.attn:3:3",
        "  |",
        "3 | 3 there",
        "  |   ----- declared here",
        "  = note: a fact",
        "  = help: an act",
    ]


def test_a_fault_without_a_place_and_over_two_lines() -> None:
    assert render(Diagnostic("slug", "message")) == "error[slug]: message"
    source = Source("a", "ab\ncd\n")
    assert render(Diagnostic("s", "m", Label(Span(source, 1, 5)))).splitlines()[-2:] == ["1 | ab", "  |  ^"]
    assert render(Diagnostic("s", "m", Label(Span(source, 6, 6)))).splitlines()[-2:] == ["3 |", "  | ^"]


def test_the_nearest_name() -> None:
    assert nearest("windw", ["causal", "window"]) == "window"
    assert nearest("nothing", ["causal", "window"]) is None


# Values that show a fault


def test_a_fault_in_an_applied_pattern_says_where_it_was_applied() -> None:
    (fault,) = faults("pattern p = window(3, dilation = 0)")
    assert fault.slug == "bad-divisor"
    assert [underlined_label(label) for label in fault.related] == ["window(3, dilation = 0)"]


def underlined_label(label: Label) -> str:
    return label.span.source.text[label.span.start : label.span.end]


BOUND: list[tuple[str, dict[str, object], str]] = [
    ("pattern p(x: int) = q // x == 0", {"x": 0}, "bad-divisor"),
    ("pattern p(x: int) = q < 2 ** x", {"x": -1}, "bad-power"),
    ("pattern p(x: int) = q < 2 ** x", {"x": 60}, "bad-power"),
    ("pattern p(x: int) = q < x * x", {"x": 10**17}, "number-too-large"),
    ("pattern p(x: int) = any(k == i for i in 0..x)", {"x": 10**17}, "too-large"),
    ("const l = [1, 2] pattern p(x: int) = q < l[x]", {"x": 2}, "index-range"),
    ("pattern p(x: int, t: int[x]) = q < t[0]", {"x": 0}, "bad-size"),
    ("model p(x: int) { layers = x heads = 1 layer 0 = causal }", {"x": 2}, "layers-gap"),
    ("model p(x: int) { layers = 2 heads = x layer * { head 0..3 = causal } }", {"x": 3}, "heads-range"),
    ("model p(x: int) { layers = x heads = x layer * = causal }", {"x": 10**9}, "too-large"),
    (
        "model p { layers = 3 heads = 2 layer * = window(4, dilation = layer - 1 if layer > 0 else 1) }",
        {},
        "bad-divisor",
    ),
    ("pattern p(keep: set) = k in keep", {"keep": range(0, 10**6, 20)}, "too-large"),
    ("pattern p(x: float) = x / (x - x) < 3.0", {"x": 2.0}, "bad-divisor"),
    ("attention p(x: int) { mask = causal score = log(x) }", {"x": 0}, "bad-argument"),
    ("attention p(x: float) { mask = causal score = exp(x) * exp(x) }", {"x": 700}, "number-too-large"),
]


@pytest.mark.parametrize(("text", "constants", "slug"), BOUND, ids=lambda value: str(value)[:40])
def test_faults_that_only_values_show(text: str, constants: dict[str, object], slug: str) -> None:
    found = attempt(lambda: bind(load_text(text), "p", constants))
    assert [fault.slug for fault in found] == [slug]
    assert bool(attempt(lambda: load_text(text))) == (not constants)


def test_a_large_constant_set_would_better_be_tokens() -> None:
    with pytest.raises(AttnError) as caught:
        bind(load_text("pattern p(keep: set) = k in keep"), "p", {"keep": range(0, 90000, 2)})
    assert caught.value.diagnostics[0].helps == ("declare `keep: tokens`, a set given at run time",)


SIGNATURE = "pattern p(a: int, b: float = 0.5, c: bool = true, d: set = {}, e: int[] = 3, f: index = 2) = q < a"


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({}, "`p` needs `a`"),
        ({"a": 1.5}, "`a` is 1.5, expected an int"),
        ({"a": True}, "`a` is True, expected an int"),
        ({"a": 10**18}, "expected an int of at most 18 digits"),
        ({"a": "x" * 100}, "`a` is str, expected an int"),
        ({"a": 1, "b": "x"}, "`b` is 'x', expected a finite number"),
        ({"a": 1, "b": float("nan")}, "expected a finite number"),
        ({"a": 1, "c": 1}, "`c` is 1, expected true or false"),
        ({"a": 1, "d": 3}, "`d` is 3, expected a set, a range"),
        ({"a": 1, "d": [1.5]}, "expected a set, a range"),
        ({"a": 1, "d": "12"}, "expected a set, a range"),
        ({"a": 1, "e": 3}, "`e` is run-time data, given at the call, and no constant"),
        ({"a": 1, "f": 3}, "`f` is substituted in a pattern, and no constant"),
        ({"a": 1}, "`p` cannot be called by itself: `f` is an `index`"),
        ({"aa": 1}, "`p` has no parameter `aa`"),
    ],
)
def test_constants_that_do_not_fit(constants: dict[str, object], message: str) -> None:
    module = load_text(SIGNATURE)
    with pytest.raises(ArgumentError, match=re.escape(message)) as caught:
        bind(module, "p", constants)
    assert isinstance(caught.value, TypeError)


def test_a_set_without_end_ends() -> None:
    import itertools

    with pytest.raises(ArgumentError, match="at most 100,000 ints"):
        bind(load_text("pattern p(d: set) = k in d"), "p", {"d": itertools.count()})


def test_names_that_cannot_be_bound() -> None:
    module = load_text("const c = 3 pattern pat = q < c")
    for name in ("nothing", "c", "causal"):
        with pytest.raises(AttnError, match="declares no pattern, attention or model"):
            bind(module, name, {})


# Bytes, limits, hostile texts


def test_bytes() -> None:
    assert load_text(b"\xef\xbb\xbfpattern p = q < k").declarations.keys() == {"p"}
    assert load_text("\ufeffpattern p = q < k\r\n").declarations.keys() == {"p"}
    assert load_text("").declarations == load_text("# nothing\n").declarations == {}
    (fault,) = faults("pattern p = q < k # é".encode("latin-1"))
    assert (fault.slug, fault.primary.span.position(fault.primary.span.start)) == ("not-utf8", (1, 21))  # type: ignore[union-attr]
    assert [fault.slug for fault in faults("pattern p = q < k\0")] == ["unknown-character"]
    assert [fault.slug for fault in faults("pattern p = q < \ud800")] == ["unknown-character"]
    assert [fault.slug for fault in faults("pattern p = q < k".encode("utf-16"))] == ["not-utf8"]


DOUBLED = ", ".join(f"a{i + 1} = a{i} and q // {i + 2} == k or a{i} and k // {i + 2} == q" for i in range(60))
HOSTILE: list[tuple[str, str, str]] = [
    ("length", "#" * (limits.BYTES + 1), "too-long"),
    ("length in bytes", "#" + "é" * (limits.BYTES // 2), "too-long"),
    ("tokens", "pattern p = " + "q " * limits.TOKENS, "too-many-tokens"),
    ("tokens of many declarations", "pattern p = q " * (limits.TOKENS // 4 + 1), "too-many-tokens"),
    ("parentheses", "pattern p = " + "(" * 100_000, "too-deep"),
    ("brackets", "pattern p = q < " + "a[" * 65 + "0" + "]" * 65, "too-deep"),
    ("not", "pattern p = " + "not " * 65 + "causal", "too-deep"),
    ("minus", "pattern p = q < " + "-" * 19_000 + "k", "too-deep"),
    ("powers", "pattern p = q < 1" + " ** 1" * 70, "too-deep"),
    ("choices", "pattern p = " + "causal if q < 1 else " * 70 + "full", "too-deep"),
    ("names", f"pattern {'p' * 65} = causal", "name-too-long"),
    ("digits", "pattern p = q < " + "9" * 5000, "number-too-large"),
    ("doubling", f"pattern p = a60 where a0 = q < k, {DOUBLED}", "too-large"),
    ("doubling sums", "pattern p = q < a60 where a0 = q + k, "
     + ", ".join(f"a{i + 1} = a{i} + a{i}" for i in range(60)), "too-large"),
    ("doubling products", "pattern p = q < a60 where a0 = q + k, "
     + ", ".join(f"a{i + 1} = abs(a{i}) * a{i}" for i in range(60)), "too-large"),
    ("sums", "pattern p = " + "sum(" * 6 + "q == k" + "".join(f" for i{i} in 0..99)" for i in range(6)), "too-large"),
    ("a long range", "pattern p = any(q == i for i in 0..10**17)", "too-large"),
    ("a chain of patterns", "pattern p0 = causal " + " ".join(f"pattern p{i + 1} = p{i} and q < k" for i in range(400)),
     "too-deep"),
    ("doubling patterns", "pattern p0(x: int) = q < x "
     + " ".join(f"pattern p{i + 1}(x: int) = p{i}(2 * x % 9973) or p{i}(2 * x % 9973 + 1)" for i in range(40))
     + " pattern r = p40(1)", "too-large"),
    ("products", "pattern p = q < " + " * ".join(["k"] * 500), "too-deep"),
    ("a tower", "const c = 9 ** 9 ** 9 ** 9", "bad-power"),
    ("a model", "model m1 { layers = 10**17 heads = 10**17 layer * = causal }", "too-large"),
    ("a row", "test causal at n = 4 { row 1 == {0..10**17} }", "too-large"),
    ("a test", "test causal at n = 10**12 { causal }", "too-large"),
    ("one pair more than a test looks at", f"test causal at n = {limits.PAIRS + 1}, m = 1 {{ causal }}", "too-large"),
    ("a circle", "pattern p0 = p400 " + " ".join(f"pattern p{i + 1} = p{i}" for i in range(400)), "recursion"),
    ("import", "from " + ".".join(["a"] * 5000) + " import b", "unknown-module"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "slug"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_limits(text: str, slug: str) -> None:
    assert slug in [fault.slug for fault in faults(text)][:1]


def test_too_many_faults_are_counted() -> None:
    found = faults("pattern p = " + " or ".join(f"zz{i}" for i in range(300)))
    assert len(found) == limits.FAULTS + 1
    assert found[-1].message == "and 200 more faults, not shown"


WORDS = re.compile(r'"""|[A-Za-z_]\w*|\d+(?:\.\d+)?|\*\*|\.\.<|\.\.|//|<=|>=|==|!=|\s+|\S')
STRANGE = ["999999999999999999", "0", "1e308", "{}", "[]", "\0", "é", "'", '"""', "\ud800", "s", "layer", "#"]


def corpus() -> list[list[str]]:
    texts = [text for text, _ in FAULTS] + re.split(r"(?m)^(?=#= )", (HERE / "gallery.attn").read_text())
    return [WORDS.findall(text) for text in texts]


def mutated(draw: Random, texts: list[list[str]], words: list[str]) -> str:
    """A text with a few words replaced by others of their kind, dropped, doubled or made strange."""
    text = list(draw.choice(texts))
    for _ in range(draw.choice((1, 1, 2, 4))):
        place = draw.randrange(len(text))
        match draw.randrange(8):
            case 0:
                text[place] = draw.choice(STRANGE)
            case 1:
                text[place] = " "
            case 2:
                text[place:place] = text[place : place + draw.randrange(1, 12)]
            case _:
                alike = [word for word in draw.sample(words, 40) if word[0].isalpha() == text[place][0].isalpha()]
                text[place] = draw.choice(alike or [text[place]])
    return "".join(text)


def test_nothing_but_attn_error_comes_out_of_mutated_texts() -> None:
    draw, texts = Random(20260101), corpus()
    words = [word for text in texts for word in text]
    sound = 0
    for _ in range(1500):
        text = mutated(draw, texts, words)
        if not attempt(lambda text=text: load_text(text)):
            sound += 1
            bind_all(draw, load_text(text))
    assert sound > 30


def bind_all(draw: Random, module: Module) -> None:
    for name, declaration in module.declarations.items():
        choices = {"int": [0, 1, 4, -3, limits.LARGEST], "float": [0, 0.5, 1e308], "bool": [True], "set": [{1, 2, 9}]}
        constants = {p.name: draw.choice(choices[p.type.element]) for p in declaration.parameters if p.compile_time}
        attempt(lambda name=name, constants=constants: bind(module, name, constants))


def test_nothing_but_attn_error_comes_out_of_bytes() -> None:
    draw = Random(20260102)
    refused = 0
    for _ in range(500):
        text = bytes(draw.randrange(256) for _ in range(draw.randrange(80)))
        refused += bool(attempt(lambda text=text: load_text(text)))
    assert refused > 400


# Files and imports


def test_files_that_are_not_there(tmp_path: Path) -> None:
    for load in (lambda: load_file(tmp_path / "none.attn"), lambda: load_shipped("none"), lambda: load_shipped("../x")):
        with pytest.raises(AttnError) as caught:
            load()
        assert isinstance(caught.value, FileNotFoundError)
    with pytest.raises(AttnError, match="is not a file of text"):
        load_file(tmp_path)


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_imports(tmp_path: Path) -> None:
    folder = written(tmp_path, {
        "main.attn": "from vision.natten import near as close, width\nfrom std import window as std_window\n"
                     "from longformer import longformer\n"
                     "pattern p(g: tokens) = close(q, k) and std_window(width) or longformer(g)",
        "vision/natten.attn": "from other import base\nconst width = base + 1\n"
                              "pattern near(i: index, j: index) = abs(i - j) < width",
        "vision/other.attn": "const base = 3\npattern causal = q < k",
    })  # fmt: skip
    module = load_file(folder / "main.attn")
    assert list(module.declarations) == ["p"]
    assert bind(module, "p", {}).tables[0].name == "g"  # type: ignore[union-attr]


IMPORTS: list[tuple[dict[str, str], str, str]] = [
    ({"a.attn": "from a import p\npattern p = causal"}, "import-cycle", "from a import p"),
    (
        {"a.attn": "from b import p", "b.attn": "from c import p", "c.attn": "from b import p"},
        "import-cycle",
        "from b import p",
    ),
    ({"a.attn": "from b import p\npattern r = p or zz", "b.attn": "pattern p = q"}, "unknown-name", "zz"),
    ({"a.attn": "from b import r", "b.attn": "pattern p = causal"}, "unknown-name", "r"),
    ({"a.attn": "from b import p\npattern p = causal", "b.attn": "pattern p = causal"}, "duplicate-name", "p"),
    ({"a.attn": "from ..b import p"}, "syntax", ".."),
    ({"a.attn": "from /etc/b import p"}, "syntax", "/"),
    ({"a.attn": "from b.c import p", "b.attn": ""}, "unknown-module", "b.c"),
]


@pytest.mark.parametrize(("files", "slug", "place"), IMPORTS, ids=lambda value: str(value)[:40])
def test_imports_that_fail(tmp_path: Path, files: dict[str, str], slug: str, place: str) -> None:
    folder = written(tmp_path, files)
    with pytest.raises(AttnError) as caught:
        load_file(folder / "a.attn")
    assert (slug, place) in [(fault.slug, underlined(fault)) for fault in caught.value.diagnostics]


def test_a_faulty_import_does_not_make_its_names_unknown(tmp_path: Path) -> None:
    folder = written(tmp_path, {"a.attn": "from b import p\npattern r = p and window(3)", "b.attn": "pattern p = q"})
    with pytest.raises(AttnError) as caught:
        load_file(folder / "a.attn")
    assert [fault.slug for fault in caught.value.diagnostics] == ["not-a-condition"]


def test_links_that_lead_outside(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    written(
        tmp_path,
        {
            "outside.attn": "pattern p = causal",
            "outer/x.attn": "pattern p = causal",
            "inside/good.attn": "pattern p = full",
        },
    )
    (inside / "link.attn").symlink_to(tmp_path / "outside.attn")
    (inside / "folder").symlink_to(tmp_path / "outer")
    (inside / "near.attn").symlink_to("good.attn")
    (inside / "loop.attn").symlink_to("loop.attn")
    for name in ("link", "folder.x"):
        assert [fault.slug for fault in faults(f"from {name} import p", folder=inside)] == ["import-outside"]
    assert [fault.slug for fault in faults("from loop import p", folder=inside)] == ["unknown-module"]
    load_text("from near import p\npattern r = p", folder=inside)


def test_a_deep_chain_of_imports(tmp_path: Path) -> None:
    files = {f"a{i}.attn": f"from a{i + 1} import p" for i in range(100)}
    folder = written(tmp_path, {**files, "a.attn": "from a0 import p"})
    with pytest.raises(AttnError) as caught:
        load_file(folder / "a.attn")
    assert caught.value.diagnostics[0].slug in ("too-deep", "unknown-name")


def test_a_broken_declaration_does_not_make_its_name_unknown() -> None:
    text = (
        "pattern a = q <\npattern b = a or window(3)\npatern c = q < k\npattern d = c\nconst e = (3\npattern f = q < e"
    )
    assert [fault.slug for fault in faults(text)] == ["syntax", "syntax", "bracket"]
