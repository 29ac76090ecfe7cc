"""The table of choices, and how a mask decides among the tile shapes of a pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import attnc
from attnc.compiler.arrange.tile_shapes import choose
from attnc.compiler.codegen.triton.signature import Steps
from attnc.compiler.codegen.triton.tuning import (
    MOST_ROWS_ANYWHERE,
    config_anywhere,
    configs,
    family,
    make_variant,
    options,
    tiles,
)
from attnc.compiler.plan.dtypes import BF16, FLOATS, FP16, FP32, DType
from attnc.compiler.plan.orders import Tiles
from attnc.compiler.plan.tile_choices import PASSES, Pass, TileChoice
from attnc.runtime.triton.backend import TRITON

TARGETS = (*TRITON.targets.examples, "sm_86", "sm_100", "sm_120", "gfx90a")
DIMS = (16, 64, 80, 96, 128, 192, 256, 300)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.name)
def test_every_head_dimension_has_choices_in_every_pass(target: str, dtype: DType) -> None:
    for dim in DIMS:
        for direction in PASSES:
            rows = configs(target, dtype, dim, direction)
            assert [TileChoice(Tiles(row.queries, row.keys), row.cost) for row in rows] == list(
                tiles(dtype, dim, target).of(direction)
            )
            assert min(row.cost for row in rows) == 1.0
            for row in rows:
                for most in (row.most, row.by_pointers.most):
                    assert not row.queries % most.queries
                    assert not row.keys % most.keys
                assert {row.num_warps, row.by_pointers.num_warps} <= {4, 8}
            variant = make_variant(direction, dtype, dim, dim, (), target=target)
            assert variant.step.queries == max(row.by_pointers.most.queries for row in rows)


def test_an_architecture_has_the_choices_of_one_that_it_resembles() -> None:
    assert [family(target) for target in ("sm_80", "sm_86", "sm_89", "sm_120")] == 4 * ["sm_80"]
    assert [family(target) for target in ("sm_90", "sm_100", "sm_103")] == 3 * ["sm_90"]
    assert [family(target) for target in ("gfx942", "gfx90a")] == 2 * ["gfx9"]


WIDE, SMALL = TileChoice(Tiles(128, 128)), TileChoice(Tiles(64, 64), 1.2)


def rows_of(attend: attnc.Attention, *choices: TileChoice) -> int:
    return choose(attend._bound, choices).kernels[0].rows.tile


def test_a_wide_window_takes_the_fast_shape_and_a_narrow_one_the_small() -> None:
    window = attnc.load("window").causal_window
    assert rows_of(window(size=4096), SMALL, WIDE) == 128
    assert rows_of(window(size=64), WIDE, SMALL) == 64
    assert rows_of(attnc.load("causal").causal(), SMALL, WIDE) == 128
    assert rows_of(attnc.load("causal").causal(), SMALL) == 64


def test_of_equal_costs_the_first_wins() -> None:
    full = attnc.load("full").full()
    other = replace(WIDE, tiles=Tiles(64, 128))
    assert (rows_of(full, WIDE, other), rows_of(full, other, WIDE)) == (128, 64)


def test_a_tile_with_few_rows_has_the_options_of_the_nearest_row_and_few_warps() -> None:
    for direction in PASSES:
        variant = make_variant(direction, BF16, 64, 64, ())
        for row in configs("sm_90", BF16, 64, direction):
            by_pointers, most = row.by_pointers.options, row.by_pointers.most
            assert options(direction, variant, Steps(0, (0,), most.queries, (most.keys,)), "sm_90") == by_pointers
            taken = Steps(0, (0,), row.queries, (row.keys,), described=True)
            assert options(direction, variant, taken, "sm_90") == row.options
            if row.queries > 64:
                assert options(direction, variant, replace(taken, reading=True), "sm_90").num_warps == 8
        assert options(direction, variant, Steps(0, (0,), 16, (16,)), "sm_90").num_warps == 4
    assert options("merge", make_variant("forward", FP32, 64, 64, ()), Steps(0, (), 64, ()), "sm_90").num_stages == 1


def test_descriptors_serve_where_the_table_has_them_and_all_is_aligned() -> None:
    def described(direction: Pass, target: str = "sm_90", dtype: DType = BF16, dim: int = 64, **given: bool) -> bool:
        variant = make_variant(direction, dtype, dim, 64, (), target=target, descriptors=True, **given)
        return variant.described is not None

    assert described("forward")
    assert described("backward_queries")
    assert described("forward", "sm_100", FP16, 72)
    assert not described("backward_keys")
    assert not any(described("forward", target) for target in ("sm_80", "sm_89", "sm_120", "gfx942"))
    assert not described("forward", dtype=FP32)
    assert not described("forward", dim=68)
    assert not described("forward", wide=True)
    assert not described("forward", anywhere=True)
    assert make_variant("forward", BF16, 64, 64, ()).described is None


def test_a_plan_counts_the_tiles_of_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the kernels that are for it: with rows of 128, a window of 64 keys computes more of them."""
    window = attnc.load("window").causal_window(size=64)
    shapes = replace(tiles(BF16, 64, "sm_90"), forward=(WIDE,))
    monkeypatch.setattr("attnc.compiler.codegen.triton.tiles", lambda *_: shapes)
    on_gpu, on_cpu = window.plan(4096, target="sm_90"), window.plan(4096)
    assert on_gpu.kernels[0].rows.tile == 128
    assert on_cpu.kernels[0].rows.tile == 64
    assert on_gpu.area > 1.2 * on_cpu.area
    assert on_gpu.pairs == on_cpu.pairs


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({"target": "h100"}, "target: is 'h100', expected cpu, or a GPU's architecture such as sm_90 or gfx942"),
        ({"dtype": "bfloat16"}, "dtype: is 'bfloat16', expected one of fp32, fp64, bf16, fp16"),
        ({"head_dim": 0}, "head_dim: is 0, expected 1 or more"),
        ({"head_dim": -3}, "head_dim: is -3, expected 0 or more"),
    ],
)
def test_a_plan_for_what_is_not_there_says_what_is(named: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        attnc.load("causal").causal().plan(64, **named)


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "gfx942"])
@pytest.mark.parametrize("dim", [16, 64, 80, 128, 256, 512])
def test_rows_at_any_position_have_a_row_of_their_own(target: str, dim: int) -> None:
    row = config_anywhere(target, BF16, dim)
    variant = make_variant("forward", BF16, dim, dim, (), target=target, anywhere=True)
    assert (variant.step.queries, variant.step.keys) == (row.queries, row.keys) == (MOST_ROWS_ANYWHERE, row.keys)
    assert options("forward", variant, Steps(0, (0,), row.queries, (row.keys,)), target) == row.options
    assert options("merge", variant, Steps(0, (0,), row.queries, (row.keys,)), target).num_stages == 1
