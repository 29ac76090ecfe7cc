"""Terms and schedules as text: closed forms, templates and lists, owned rows, heads and empty kernels."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from attnc.compiler.analysis.normal_form import normalise
from attnc.compiler.arrange.search import arrange
from attnc.compiler.dump import schedule as described
from attnc.compiler.dump import terms as described_terms
from attnc.compiler.ir.attentions import Attention, Model
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.ir.printer import expression
from attnc.compiler.modules.loader import bind, load_text
from attnc.compiler.plan.orders import Axis, Tiles, View
from attnc.compiler.plan.printer import program
from attnc.compiler.schedule.segments import schedule

N, TILES = 4096, Tiles(64, 64)


def attention(mask: str, parameters: str = "") -> Attention:
    subject = bind(load_text(f"pattern subject{parameters} = {mask}", "<test>", Path()), "subject", {})
    assert isinstance(subject, Attention)
    return subject


def lines(subject: Attention, contents: tuple[HostTable, ...] = (), heads: int = 1) -> list[str]:
    extent = CallShape(N, N, heads)
    program = arrange(subject, TILES, heads)
    return described(program, schedule(program, extent, contents), extent).splitlines()


def test_a_closed_form_is_written_in_the_tile() -> None:
    assert lines(attention("abs(q - k) <= 512")) == [
        "kernel 0   rows natural   64 tiles of 64   store",
        "  segment   keys natural   64 tiles of 64",
        "    visits    tile t: t - 8 partial, [t - 7, t + 7] full, t + 8 partial",
        "    tiles     904 full, 112 partial",
        "    partial   abs(q - k) <= 512",
        "904 full tiles, 112 partial; 1,016.0 keys for each query",
    ]


def test_what_goes_on_for_ever_ends_where_the_tiles_do() -> None:
    assert "    visits    tile t: [0, t - 1] full, t partial" in lines(attention("causal"))
    assert "    visits    tile t: [0, last] full" in lines(attention("full"))


def test_classes_are_counted_within() -> None:
    found = lines(attention("abs(q - k) <= 1024 and (q - k) % 4 == 0"))
    assert found[0] == "kernel 0   rows residue(4)   64 tiles of 64   store"
    closed = "t - 4 partial, [t - 3, t + 3] full, t + 4 partial, both counted within their class"
    assert found[2] == f"    visits    tile t: {closed}"


def test_owned_rows_and_lists() -> None:
    flags = np.zeros(N, bool)
    flags[[0, 7, 100]] = True
    found = lines(attention("window(512) or q in g or k in g", "(g: tokens)"), (HostTable(flags),))
    assert "kernel 0   rows natural   64 tiles of 64   where not q in g   store" in found
    assert "  segment   keys gathered k in g   1 tile of 16" in found
    assert "kernel 1   rows gathered q in g   1 tile of 16   merge" in found
    assert "    partial   256 < abs(q - k)" in found


def test_a_template_is_written_row_by_row_up_to_a_point() -> None:
    found = lines(attention("blocks(4096) and causal"))
    assert found[2:7] == [
        "    visits    tile t = 64i: 64i partial",
        "    visits    tile t = 64i + 1: 64i full, 64i + 1 partial",
        "    visits    tile t = 64i + 2: [64i, 64i + 1] full, 64i + 2 partial",
        "    visits    tile t = 64i + 3: [64i, 64i + 2] full, 64i + 3 partial",
        "              and so on: 64 rows of runs, 127 runs in all",
    ]


def test_runs_of_each_tile_are_counted() -> None:
    labels = HostTable(np.arange(N) // 300)
    (visits,) = (
        line for line in lines(attention("doc[q] == doc[k]", "(doc: int[token])"), (labels,)) if "visits" in line
    )
    assert visits.startswith("    visits    as listed: ")


def test_heads_and_kernels_without_a_segment() -> None:
    text = """
    pattern lattice = q % 8 == 3 and k % 8 == 3 and causal
    model subject {
        layers = 1
        heads = 3
        layer * {
            head 0 = window(512, dilation = 4)
            head * = lattice
        }
    }
    """
    subject = bind(load_text(text, "<test>", Path()), "subject", {})
    assert isinstance(subject, Model)
    found = lines(subject.layers[0], heads=3)
    assert "kernel 0   rows residue(4)   64 tiles of 64   heads 0   store" in found
    assert "kernel 1   rows natural   64 tiles of 64   heads 1, 2   store" in found
    assert "  no segment: every row is stored empty" in found
    assert "kernel 2   rows every 8 from 3   8 tiles of 64   heads 1, 2   merge" in found


@pytest.mark.parametrize(
    ("mask", "parameters", "expected"),
    [
        ("causal and (q - k < 4 or k in g)", "(g: tokens)", ["both k <= q and q - k < 4", "keys k in g   both k <= q"]),
        ("q in g or full", "(g: tokens)", ["every pair"]),
        ("q % 4 == 0 and (k < 3 or q == k)", "", ["rows q % 4 == 0   keys k < 3", "rows q % 4 == 0   both q == k"]),
    ],
)
def test_terms_say_what_they_ask_of_rows_keys_and_both(mask: str, parameters: str, expected: list[str]) -> None:
    made = normalise(attention(mask, parameters).mask)
    assert described_terms(made).splitlines() == [f"  term {place}   {text}" for place, text in enumerate(expected)]


def test_parts_of_a_count_are_told_apart() -> None:
    made = normalise(attention("causal + (k < 2)").mask)
    assert described_terms(made).splitlines() == [
        "part 0, counted by itself",
        "  term 0   both k <= q",
        "part 1, counted by itself",
        "  term 0   keys k < 2",
    ]


def test_nothing_kept_has_no_term() -> None:
    assert described_terms(normalise(attention("causal and q < k").mask)) == "  no term: no pair is kept"


GRID_APART = "grid 64 wide, every 4 lines and 2 columns, in 8×8"


@pytest.mark.parametrize(
    ("view", "text"),
    [
        (View((Axis(1, None, 64),)), "natural"),
        (View((Axis(4, None, 64),), 1), "every 4 from 1"),
        (View((Axis(1, 4), Axis(4, None, 64))), "residue(4)"),
        (View((Axis(64, 3), Axis(192), Axis(1, 64, 64))), "residue(3) of blocks of 64"),
        (View((Axis(256, None, 8), Axis(1, 256, 8))), "grid 256 wide in 8×8"),
        (View((Axis(256, None, 8), Axis(1, 8, 8)), 248), "8 of every 256 from 248"),
        (View((Axis(64, None, 2), Axis(8, 8, 4), Axis(1, 8, 8))), "grid 8×8 in 2×4×8"),
        (View((Axis(64, 4), Axis(1, 2), Axis(256, None, 8), Axis(2, 32, 8))), GRID_APART),
        (View((Axis(64, None, 2), Axis(8, 8, 4), Axis(2, 4, 4))), "digits *@64 8@8 4@2"),
    ],
)
def test_orders_have_names(view: View, text: str) -> None:
    assert view.describe() == text


def test_a_sum_with_a_negative_number_is_a_difference() -> None:
    assert expression(attention("q + k - 3 < n - 1").mask) == "q + k - 3 < n - 1"


def test_the_page_on_the_compiler_names_the_orders_that_patterns_get() -> None:
    page = (Path(__file__).parents[2] / "docs" / "compiler.md").read_text(encoding="utf-8")
    table = page.partition("| order | for |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`.*) \| (.*`.*`.*) \| .* \|$", table, re.MULTILINE)
    named = [pair for row in rows for pair in zip(*(re.findall(r"`([^`]*)`", cell) for cell in row), strict=True)]
    assert len(named) > 7
    for name, mask in named:
        found = program(arrange(attention(mask, "(g: tokens, rank: order[token])"), TILES))
        assert name.removesuffix("…") in found, (name, mask, found)
