"""The orders that are chosen: of the published patterns, for heads apart, for what the host does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attnc.compiler.analysis.normal_form import normalise, parts
from attnc.compiler.arrange.candidates import SearchContext, walks
from attnc.compiler.arrange.cost import cost, stand_in_length
from attnc.compiler.arrange.search import applies_to, arrange
from attnc.compiler.ir import constructors
from attnc.compiler.ir.attentions import DEFAULT_SCALE, Attention, Model
from attnc.compiler.ir.constructors import rename_tables
from attnc.compiler.ir.expressions import HEAD, LOGIT, Const
from attnc.compiler.ir.extent import CallShape, HostTable
from attnc.compiler.modules.loader import bind, load_text
from attnc.compiler.plan.orders import Box, Gathered, Tiles, natural
from attnc.compiler.plan.programs import Kernel, Program, Segment, row_alignment
from tests.support.generators.random_expressions import Case
from tests.support.generators.walked_masks import TABLES, TILES, counted, drawn_case

WIDE = Tiles(128, 64)


def attention(mask: str, parameters: str = "") -> Attention:
    subject = bind(load_text(f"pattern subject{parameters} = {mask}", "<test>", Path()), "subject", {})
    assert isinstance(subject, Attention)
    return subject


def orders(program: Program) -> list[tuple[str, tuple[str, ...]]]:
    """For each kernel, how rows are walked, and how keys are."""
    names = {str(number): table.name for number, table in enumerate(program.tables)}
    return [
        (kernel.rows.describe(names), tuple(segment.keys.describe(names) for segment in kernel.segments))
        for kernel in program.kernels
    ]


CHOSEN = [
    ("causal", "", [("natural", ("natural",))]),
    ("abs(q - k) <= 512", "", [("natural", ("natural",))]),
    ("causal and doc[q] == doc[k]", "(doc: int[token])", [("natural", ("natural",))]),
    (
        "window(512) or q in g or k in g",
        "(g: tokens)",
        [("natural", ("natural", "gathered k in g")), ("gathered q in g", ("natural",))],
    ),
    (
        "window(512, 2) or q in g or k in g",
        "(g: tokens)",
        [("residue(2)", ("residue(2)", "gathered k in g")), ("gathered q in g", ("natural",))],
    ),
    ("abs(q - k) <= 1024 and (q - k) % 4 == 0", "", [("residue(4)", ("residue(4)",))]),
    ("causal and q % 4 == k % 4", "", [("residue(4)", ("residue(4)",))]),
    ("(q // 64 - k // 64) % 3 == 0 and causal", "", [("residue(3) of blocks of 64", ("residue(3) of blocks of 64",))]),
    (
        "grid_window(256, 6, 6)",
        "",
        [("grid 256 wide in 8×16", ("box of 20×28 around each tile of grid 256 wide in 8×16",))],
    ),
    ("grid_window(256, 32, 32)", "", [("grid 256 wide in 8×16", ("grid 256 wide in 8×8",))]),
    (
        "q // 56 // 7 == k // 56 // 7 and q % 56 // 7 == k % 56 // 7",
        "",
        [("grid 56 wide in windows of 7×7", ("grid 56 wide in windows of 7×7",))],
    ),
    (
        "causal and (blocks(4096) or blocks(16384) and q % 4 == 0 and k % 4 == 0 or q % 16 == 0 and k % 16 == 0)",
        "",
        [("natural", ("natural",)), ("every 4", ("every 4",)), ("every 16", ("every 16",))],
    ),
    ("fixed(256, 8)", "", [("natural", ("natural", "8 of every 256 from 248"))]),
    ("blocks(64) or k // 16 % 4 == 3", "", [("natural", ("natural", "16 of every 64 from 48"))]),
    ("causal and (k // 8 + 1) // 2 % 16 == 1", "", [("natural", ("16 of every 256 from 8",))]),
    ("strided(256)", "", [("natural", ("natural",)), ("residue(256)", ("residue(256)",))]),
    ("causal and (q - k < 1024 or k < 4)", "", [("natural", ("natural", "gathered k < 4"))]),
    ("window(512) or hash(7, k) % 100 < 1", "", [("natural", ("natural", "gathered hash(7, k) % 100 < 1"))]),
    (  # Reformer: a round's first chunk sees the last of the round before
        "rank[1, q] // 64 == rank[1, k] // 64 or rank[0, k] // 64 == rank[1, q] // 64 + n // 64 - 1",
        "(rank: order[round, token])",
        [("sorted by rank[1, q]", ("sorted by rank[1, k]", "sorted by rank[0, k]"))],
    ),
    (
        "causal and abs(rank[q] // 64 - rank[k] // 64) <= 1",
        "(rank: order[token])",
        [("sorted by rank[q]", ("sorted by rank[k]",))],
    ),
]


@pytest.mark.parametrize(("mask", "parameters", "expected"), CHOSEN, ids=[mask for mask, _, _ in CHOSEN])
def test_published_patterns_are_walked_in_the_orders_of_their_pairs(
    mask: str, parameters: str, expected: list[tuple[str, tuple[str, ...]]]
) -> None:
    assert orders(arrange(attention(mask, parameters), WIDE)) == expected


def test_blocks_smaller_than_a_tile_make_the_tile_small() -> None:
    bigbird = attention(
        "abs(q // 64 - k // 64) <= 1 or q < 64 or k < 64 or k // 64 == r[q // 64, 0] or k // 64 == r[q // 64, 1]",
        "(r: int[row, draws])",
    )
    (kernel,) = arrange(bigbird, WIDE).kernels
    assert kernel.rows == natural(64)
    assert [segment.keys for segment in kernel.segments] == [natural(64)]


def test_natural_order_is_one_segment_of_the_whole_mask() -> None:
    mask = attention("causal and (q - k < 100 or doc[q] == doc[k])", "(doc: int[token])")
    found = arrange(mask, WIDE)
    assert found.kernels == (Kernel(natural(128), (Segment(natural(64), found.mask),), "store"),)


def test_a_count_has_a_segment_for_each_part() -> None:
    found = arrange(attention("causal + (abs(q - k) <= 4)"), WIDE)
    (kernel,) = found.kernels
    assert tuple(segment.condition for segment in kernel.segments) == parts(found.mask)


def test_a_count_of_many_parts_is_one_segment() -> None:
    found = arrange(attention("sum((q - k == 3 * i) for i in 0..<40)"), WIDE)
    (kernel,) = found.kernels
    assert [segment.condition for segment in kernel.segments] == [found.mask]


def _drawn(case: Case) -> Attention:
    names = {str(number): table.name for number, table in enumerate(TABLES)}
    return Attention("drawn", rename_tables(case.mask, names), LOGIT, DEFAULT_SCALE, None, TABLES)


@pytest.mark.parametrize("seed", range(60))
def test_what_is_chosen_keeps_every_pair_and_costs_no_more_than_natural_order(seed: int) -> None:
    case = drawn_case(seed)
    found = arrange(_drawn(case), TILES)
    assert (counted(found.kernels, case) == case.dense()).all()
    plain = (Kernel(natural(8), tuple(Segment(natural(4), part) for part in parts(found.mask)), "store"),)
    n = stand_in_length(found.mask, TILES)
    assert cost(found.kernels, n, TILES, TABLES) <= cost(plain, n, TILES, TABLES)


def test_the_same_mask_is_arranged_in_the_same_way() -> None:
    for seed in range(10):
        subject = _drawn(drawn_case(seed))
        assert arrange(subject, TILES) == arrange(subject, TILES)


def test_what_only_the_device_knows_is_not_listed() -> None:
    longformer = attention("window(512) or q in g or k in g", "(g: tokens)")
    assert orders(arrange(longformer, WIDE, known=frozenset())) == [("natural", ("natural",))]
    buckets = attention("rank[q] // 64 == rank[k] // 64", "(rank: order[token])")
    assert orders(arrange(buckets, WIDE, known=frozenset())) == [("natural", ("natural",))]
    assert orders(arrange(buckets, WIDE, known=frozenset({0}))) != [("natural", ("natural",))]


@pytest.mark.parametrize("start", [0, 8, 1, 6, None])
@pytest.mark.parametrize("seed", range(15))
def test_rows_from_any_position_on(seed: int, start: int | None) -> None:
    case = drawn_case(seed)
    extent = CallShape(case.extent.n, case.extent.m, q_start=None if start is None else (start,))
    found = arrange(_drawn(case), TILES)
    if not applies_to(found, extent):
        found = arrange(_drawn(case), TILES, natural_rows=True)
        assert all(kernel.rows == natural(kernel.rows.tile) for kernel in found.kernels)
        assert applies_to(found, extent)
    moved = Case(
        case.mask, case.tables, case.contents, CallShape(extent.n, extent.m, q_start=(11 if start is None else start,))
    )
    assert (counted(found.kernels, moved) == moved.dense()).all()


def test_a_program_serves_rows_that_begin_where_its_orders_do() -> None:
    lattice = arrange(attention("q % 4 == 1 and k % 4 == 1 and causal"), WIDE)
    assert row_alignment(lattice) == 4
    assert applies_to(lattice, CallShape(64, 64, q_start=(8, 4)))
    assert not applies_to(lattice, CallShape(64, 64, q_start=(8, 3)))
    gathered = arrange(attention("window(512) or q in g", "(g: tokens)"), WIDE)
    assert any(isinstance(kernel.rows, Gathered) for kernel in gathered.kernels)
    assert applies_to(gathered, CallShape(64, 64, q_start=(3,)))
    assert not applies_to(gathered, CallShape(64, 64, q_start=None))


MODEL = """
model subject {
    layers = 1
    heads = 6
    layer * {
        head 0..1 = window(512, dilation = 2)
        head 2    = window(256)
        head 3    = window(512, dilation = 4)
        head *    = window(128)
    }
}
"""


def test_heads_of_one_mask_have_kernels_of_their_own_and_natural_ones_share_theirs() -> None:
    subject = bind(load_text(MODEL, "<test>", Path()), "subject", {})
    assert isinstance(subject, Model)
    found = arrange(subject.layers[0], WIDE, 6)
    assert [(kernel.rows.describe(), kernel.heads, kernel.output) for kernel in found.kernels] == [
        ("natural", (2, 4, 5), "store"),
        ("residue(2)", (0, 1), "store"),
        ("residue(4)", (3,), "store"),
    ]
    assert orders(arrange(subject.layers[0], WIDE)) != orders(found)


def test_heads_that_differ_in_numbers_only_stay_together() -> None:
    for mask, parameters in (
        ("q - k < 64 * (head + 1) and causal", ""),
        ("k in g[head] or window(64)", "(g: set[head])"),
        ("random_blocks(64, 10)", ""),
        ("window(64) if head < 2 else window(128)", ""),
    ):
        assert {kernel.heads for kernel in arrange(attention(mask, parameters), WIDE, 4).kernels} == {None}


@pytest.mark.parametrize("seed", range(25))
def test_heads_apart_keep_every_pair(seed: int) -> None:
    first, second = drawn_case(seed), drawn_case(seed + 1000)
    n, heads = first.extent.n, 3
    third = constructors.conjunction(*parts(second.mask))
    chosen = constructors.choose(constructors.equal(HEAD, Const(1)), first.mask, third)
    held = (HostTable(np.resize(first.contents[0].values, n)), *first.contents[1:])
    case = Case(chosen, TABLES, held, CallShape(n, n, heads))
    found = arrange(_drawn(case), TILES, heads)
    assert (counted(found.kernels, case) == case.dense()).all()
    for head in range(heads):
        its = [kernel for kernel in found.kernels if kernel.heads is None or head in kernel.heads]
        assert its[0].output == "store"
        assert its[0].rows.covers
        assert all(kernel.output == "merge" for kernel in its[1:])


@pytest.mark.parametrize("condition", ["head < heads - 1", "head == heads // 2", "2 * head >= heads", "heads == 4"])
def test_branches_on_the_number_of_heads_are_decided_for_each_head(condition: str) -> None:
    subject, heads = attention(f"causal and (q - k <= 7 if {condition} else (q - k) % 16 == 0)"), 4
    found = arrange(subject, TILES, heads)
    case = Case(found.mask, (), (), CallShape(70, 70, heads))
    assert any(kernel.rows != natural(8) for kernel in found.kernels) or condition == "heads == 4"
    assert (counted(found.kernels, case) == case.dense()).all()


GRIDS = (
    *(
        f"abs(q // {a} - k // {a}) <= 1 and abs(q // {b} - k // {b}) <= 1 and "
        f"q % {a} <= k % {a} + 9 and abs(q % {b} - k % {b}) <= 1"
        for a, b in ((150, 12), (64, 8), (1024, 96))
    ),
    "abs(q // 60 - k // 60) <= 6 and q // 60 % 7 == k // 60 % 7 and abs(q % 60 - k % 60) <= 6 and q % 7 == k % 7",
)


@pytest.mark.parametrize("subject", [*range(60), *GRIDS], ids=str)
def test_rows_and_keys_that_no_condition_leaves_out_are_all_walked(subject: int | str) -> None:
    """Whatever the lengths and widths in a relation are: an order made of them leaves no token out."""
    mask = drawn_case(subject).mask if isinstance(subject, int) else attention(subject).mask
    known = SearchContext(TILES, TABLES, frozenset("012"))
    for term in (term for part in normalise(mask) for term in part):
        for walk in walks(term, known, natural_rows=False):
            keys = walk.keys.view if isinstance(walk.keys, Box) else walk.keys
            assert walk.rows.covers or term.rows, walk
            assert keys.covers or term.columns, walk


def test_tiles_of_every_order_have_as_many_lanes_as_are_asked_for() -> None:
    known = SearchContext(Tiles(16, 8, 4), TABLES, frozenset("012"))
    for seed in range(200):
        for term in (term for part in normalise(drawn_case(seed).mask) for term in part):
            for walk in walks(term, known, natural_rows=False):
                assert walk.rows.tile in ((4,) if isinstance(walk.rows, Gathered) else (16, 8))
                assert walk.keys.tile in ((4,) if isinstance(walk.keys, Gathered) else (8, 4))
