"""What a newcomer is likely to write, and the help that he gets, word for word.

``tests/golden/language/helps.txt`` is the table: a text, ``>>>``, and what is said of it (``pytest --update-golden``
writes that part). The texts stand in faults.txt, too, whose tests hold that every snippet can be read, and that edits
mend.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from attnc.compiler.checker.shipped import shipped_declarations, shipped_names
from attnc.compiler.diagnostics.diagnostic import AttnError, edited, line_ends, line_start, render
from attnc.compiler.modules.imports import SHIPPED
from attnc.compiler.modules.loader import load_shipped, load_text

TABLE = Path(__file__).parents[1] / "golden/language" / "helps.txt"
CASES = [block.partition("\n>>>\n") for block in TABLE.read_text(encoding="utf-8").rstrip("\n").split("\n---\n")]


def told(text: str) -> str:
    with pytest.raises(AttnError) as caught:
        load_text(text, "text.attn")
    return "\n\n".join(map(render, caught.value.diagnostics))


def test_each_text_gets_the_help_that_was_written_down(update_golden: bool) -> None:
    found = [(text, told(text)) for text, _, _ in CASES]
    if update_golden:
        TABLE.write_text("\n---\n".join(f"{text}\n>>>\n{said}" for text, said in found) + "\n", encoding="utf-8")
    assert update_golden or found == [(text, said) for text, _, said in CASES]
    assert all("= help: " in said or "choose another name" in said for _, said in found)


def test_the_texts_are_among_the_faults() -> None:
    faults = (TABLE.parent / "faults.txt").read_text(encoding="utf-8").split("\n---\n")
    assert {text for text, _, _ in CASES} <= {fault.partition("\n>>>\n")[0] for fault in faults}


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("pattern p = k≤q", "pattern p = k<=q"),
        ("pattern p(g: tokens) = k∈g", "pattern p(g: tokens) = k in g"),
        ("pattern p = k < q ∧¬causal", "pattern p = k < q and  not causal"),
        ("pattern p = k in [0, 1]", "pattern p = k in {0, 1}"),
        ("pattern p = 1 if k <= q else 0", "pattern p = k <= q"),
        ("pattern p = causal and (0 if k < 3 else 1)", "pattern p = causal and not (k < 3)"),
        ("pattern p = q < 3 and (1 if k < 3 or k > q else 0)", "pattern p = q < 3 and (k < 3 or k > q)"),
        ("pattern p(t: int[token, 3, 2]) = t[q][0][1] == k", "pattern p(t: int[token, 3, 2]) = t[q, 0, 1] == k"),
        ("pattern p = 0 <= q - k == 3", "pattern p = 0 <= q - k and q - k == 3"),
        ("pattern p(a: int[heads]) = a[head] < k", "pattern p(a: int[head]) = a[head] < k"),
        ("pattern p(a: int[batch, token]) = a[q] == k", "pattern p(a: int[token]) = a[q] == k"),
        ("pattern p = longformer({0})", "from longformer import longformer\npattern p = longformer({0})"),
    ],
)
def test_doing_what_the_help_says_gives_a_right_text(wrong: str, right: str) -> None:
    with pytest.raises(AttnError) as caught:
        load_text(wrong)
    assert edited(wrong, [edit for fault in caught.value.diagnostics for edit in fault.edits]) == right
    load_text(right)


def test_a_shipped_name_is_found_where_it_is_declared() -> None:
    for name, module in shipped_declarations().items():
        assert name in load_shipped(module).declarations
    for module in shipped_names():
        assert set(load_shipped(module).declarations) <= shipped_declarations().keys()
    assert shipped_declarations()["longformer"] == "longformer"
    assert SHIPPED.is_dir()


# A word that starts declarations, in the place of a name


@pytest.mark.parametrize("word", ["const", "pattern", "attention", "model", "test", "from"])
@pytest.mark.parametrize(
    "form",
    [
        "pattern {} = causal", "attention {} {{ mask = causal }}", "model {} {{ layers = 1 heads = 1 layer 0 = full }}",
        "const {} = 3", "pattern p({}: int) = k < 3", "pattern p(a: int, {}: int = 3) = k < a",
        "pattern p = k < 3 where {} = 3", "pattern p = k < {}", "pattern p = any(k == 3 for {} in 0..3)",
        "pattern {}(a: int) = k < a", "pattern p = {} and causal", "from std import causal as {}",
    ],
)  # fmt: skip
def test_a_starting_word_as_a_name_is_one_fault(form: str, word: str) -> None:
    text = form.format(word)
    with pytest.raises(AttnError) as caught:
        load_text(text)
    (fault,) = caught.value.diagnostics
    assert (fault.slug, fault.message) == ("reserved-word", f"`{word}` is a reserved word and cannot be a name")
    assert fault.primary is not None
    assert fault.primary.span.start == text.index(f" {word}" if f" {word}" in text else f"({word}") + 1


@pytest.mark.parametrize(
    "text",
    [
        "pattern p = k <\npattern r = caual", "pattern p(a: int\npattern r = caual", "const w =\npattern r = caual",
        "pattern p = causal and\ntest full at n = 4 { symmetric }\npattern r = caual",
        "pattern p = (k < 3\nfrom std import caual",
    ],
)  # fmt: skip
def test_a_declaration_that_breaks_off_hides_none_after_it(text: str) -> None:
    with pytest.raises(AttnError) as caught:
        load_text(text)
    assert "caual" in {
        text[fault.primary.span.start : fault.primary.span.end] for fault in caught.value.diagnostics if fault.primary
    }


# Ends of lines


ENDS = ["\n", "\r\n", "\r"]
LINES = ["# about", "# p", "pattern p = causal  # behind", "", 'test p at n = 2 { picture """', "#.", "##", '""" }',
         "pattern r = windw(3)", "pattern u = caual"]  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
def test_lines_end_in_any_way(end: str) -> None:
    text = end.join(LINES)
    with pytest.raises(AttnError) as caught:
        load_text(text, "text.attn")
    first, second = map(render, caught.value.diagnostics)
    assert " --> text.attn:9:13\n" in first
    assert "\n9 | pattern r = windw(3)\n" in first
    assert " --> text.attn:10:13\n" in second
    whole = load_text(end.join(LINES[:8]))
    assert whole.declarations["p"].documentation == "about\np"
    assert len(whole.tests) == 1
    lone = f"pattern p = causal{end}# apart{end}{end}# near{end}pattern r = full{end}"
    assert load_text(lone).declarations["r"].documentation == "near"


def test_a_place_is_counted_as_python_counts_lines() -> None:
    for text in ("a\rb\r\nc\n\rd", "\r\n\r\n", "\n\r\r\nx", "no end", "\r"):
        lines = text.splitlines(keepends=True)
        starts = [sum(map(len, lines[:number])) for number in range(len(lines))] or [0]
        for offset in range(len(text)):
            number = max(i for i, start in enumerate(starts) if start <= offset)
            assert line_start(text, offset) == starts[number], (text, offset)
            assert line_ends(text, 0, offset) == number, (text, offset)
