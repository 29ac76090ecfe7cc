"""What a mask computes with floats: each operation rounded to the tables' dtype, as torch does, on every executor."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import attnc
from attnc.compiler import pipeline
from attnc.compiler.codegen.triton.signature import steps
from attnc.compiler.ir import CallShape
from attnc.compiler.plan import Tiles
from attnc.compiler.plan.tile_choices import only
from attnc.runtime.call import settle, settle_alike
from tests.support.generators.float_masks import DTYPES, generate

TABLES = "t: float[token], u: float[token], span: float[]"
N = 40


def kept(attention: attnc.Attention, n: int, compute: torch.dtype, way: str = "", **tables: Any) -> Tensor:
    """Which pairs a call keeps, bool ``[n, n]``: the outputs where the values are the identity."""
    q = torch.zeros(1, 1, n, 4, dtype=compute)
    call = attention.reference if way == "reference" else attention
    return call(q, q, torch.eye(n, dtype=compute)[None, None], **tables)[0, 0] > 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_comparisons_keep_what_torch_keeps(dtype: torch.dtype) -> None:
    """On the oracle, the reference and the executor of torch's operations, whatever the dtype of the queries."""
    some = 0
    for seed in range(60):
        mask = generate(seed, dtype, N)
        attention = attnc.loads(f"pattern p({TABLES}) = {mask.text}").p()
        tables = mask.tables
        found = {"mask": attention.mask(N, **tables)[0]}
        for compute in (torch.float32, torch.float64):
            found[f"reference {compute}"] = kept(attention, N, compute, "reference", **tables)
            with attnc.settings.override(backend="blocked", verify=True):
                found[f"blocked {compute}"] = kept(attention, N, compute, **tables)
        some += bool(mask.kept.any() and not mask.kept.all())
        for name, own in found.items():
            assert torch.equal(own, mask.kept), (seed, mask.text, name)
    assert some > 30


@pytest.mark.parametrize("compute", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_code_keeps_what_torch_keeps(dtype: torch.dtype, compute: torch.dtype) -> None:
    for seed in (1, 2, 5, 9):
        mask = generate(seed, dtype, N)
        attention = attnc.loads(f"pattern p({TABLES}) = {mask.text}").p()
        with attnc.settings.override(backend="cpp"):
            assert torch.equal(kept(attention, N, compute, **mask.tables), mask.kept), (seed, mask.text)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sum_is_rounded_before_it_is_used(dtype: torch.dtype) -> None:
    """Under queries in fp64, where a compiler may take a number that is narrowed and widened for what it was."""
    draw = torch.Generator().manual_seed(0)
    t, u = (torch.randn(N, generator=draw).to(dtype) for _ in range(2))
    attention = attnc.loads("pattern p(t: float[token], u: float[token]) = t[q] + u[k] - t[q] <= u[k]").p()
    right = t[:, None] + u - t[:, None] <= u
    assert dtype == torch.float64 or not torch.equal(right, t.double()[:, None] + u.double() - t.double()[:, None] <= u)
    for optimisation in (2, 3):
        with attnc.settings.override(backend="cpp", optimisation=optimisation):
            assert torch.equal(kept(attention, N, torch.float64, t=t, u=u), right)


FUSED = "pattern p(t: float[token], u: float[token]) = t[q] * u[k] - t[k] * u[q] == 0.0"


@pytest.mark.parametrize("compute", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_product_is_contracted(dtype: torch.dtype, compute: torch.dtype) -> None:
    """A fused product is not rounded: the diagonal, and pairs whose products are equal once rounded, would be lost."""
    attention = attnc.loads(FUSED).p()
    generator = torch.Generator().manual_seed(3)
    t, u = (torch.randn(N, generator=generator).to(dtype) for _ in range(2))
    exact = t.double()[:, None] * u.double() - t.double() * u.double()[:, None]
    right = t[:, None] * u - t * u[:, None] == 0.0
    assert right.diagonal().all()
    # what an fma computes: the first product exactly, the second rounded
    fused = (t.double()[:, None] * u.double() - (t * u[:, None]).double()) == 0.0
    assert dtype == torch.float64 or not torch.equal(fused, right), "inputs that cannot tell"
    assert exact.diagonal().eq(0).all()
    for way in ("reference", "blocked", "cpp"):
        with attnc.settings.override(backend="cpp" if way == "cpp" else "blocked", optimisation=3):
            assert torch.equal(kept(attention, N, compute, way, t=t, u=u), right), way
    assert torch.equal(attention.mask(N, t=t, u=u)[0], right)


def test_kernels_of_a_gpu_fuse_no_product_where_a_mask_has_some() -> None:
    """Triton is told so for such kernels alone: fused products of the softmax are faster, and no less exact."""
    texts = {FUSED: False, "pattern p(t: float[token], u: float[token]) = abs(t[q] - t[k]) + u[q] < 1.5": True}
    for text, fuses in texts.items():
        own = attnc.loads(text).p()._bound
        settled, _ = settle(own, {x: torch.zeros(64) for x in "tu"}, CallShape(64, 64), torch.float32)
        program = pipeline.program(settled, only(Tiles(64, 64, 16)))
        from attnc.compiler.codegen.triton.tuning import make_variant, options
        from attnc.compiler.plan import BF16, FP32

        variant = make_variant("forward", BF16, 64, 64, (FP32, FP32))
        for taken in steps(program, variant).values():
            assert options("forward", variant, taken, "sm_90").arguments(True)["enable_fp_fusion"] == fuses


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_the_assembly_of_a_mask_has_no_fused_product(target: str) -> None:
    from attnc.compiler.plan import BF16, usual
    from attnc.runtime.triton.ahead_of_time import compile_for
    from attnc.runtime.triton.backend import TRITON

    count = {}
    for text in (FUSED, FUSED.replace(" == ", " < ").replace("t[q] * u[k] - t[k] * u[q]", "t[q]")):
        own = attnc.loads(text).p()._bound
        settled, _ = settle(own, {x: torch.zeros(64) for x in "tu"}, CallShape(64, 64), torch.float32)
        program = pipeline.program(settled, only(Tiles(64, 64, 16)))
        (variant,) = (v for name, v in TRITON.variants(usual(settled.tables, BF16, 64), target) if name == "forward")
        (kernel,) = compile_for(program, variant, target, ("forward",))
        fused = ("fma.rn.f32",) if target.startswith("sm_") else ("v_fma_f32", "v_fmac_f32", "v_pk_fma_f32")
        count[text] = sum(kernel.assembly.count(word) for word in fused)
    with_products, without = count.values()
    assert with_products == 0 if target == "sm_90" else with_products < without


def test_kernels_that_no_call_asks_for_round_as_well() -> None:
    """Those that are shown or compiled ahead, for tables of the kernels' dtype."""
    attention = attnc.loads(FUSED).p()
    plain = attnc.loads("pattern p(t: float[token], u: float[token]) = t[q] < u[k]").p()
    assert attention.source("cpu").count("rounded<float>(") > plain.source("cpu").count("rounded<float>(")
    assert settle_alike(plain._bound, torch.float32) == plain._bound
    _, wanted = settle(attention._bound, {x: torch.zeros(64) for x in "tu"}, CallShape(64, 64), torch.float32)
    alike = settle_alike(attention._bound, torch.float32)
    assert [table.name for table in alike.tables] == list(wanted), "what a call would derive"


def test_event_times_visit_a_band_of_tiles() -> None:
    """Rounding keeps the order of numbers, so the difference of two ranges bounds every rounded difference."""
    n = 4096
    times = torch.cumsum(torch.rand(n, generator=torch.Generator().manual_seed(0)), 0)
    attention = attnc.loads("pattern p(t: float[token]) = abs(t[q] - t[k]) < 50.0").p()
    plan = attention.plan(n, t=times)
    assert plan.full > 0
    assert plan.area < 400
    times[77] = torch.nan  # which is near nothing, itself included
    mask = attention.mask(n, t=times)[0]
    assert not mask[77].any()
    assert not mask[:, 77].any()
    assert attention.plan(n, t=times).pairs == int(mask.sum())


def test_special_numbers_compare_as_ieee_says() -> None:
    special = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1.0])
    n = len(special)
    for text, right in (
        ("t[q] - t[k] == 0.0", special[:, None] - special == 0),
        ("t[q] - t[k] != 0.0", special[:, None] - special != 0),
        ("not (t[q] + t[k] <= 1.0)", ~(special[:, None] + special <= 1)),
        ("t[q] * 0.0 == t[k] * 0.0", special[:, None] * 0 == special * 0),
        ("min(t[q], t[k]) < 1.0", torch.minimum(special[:, None], special) < 1),
        ("max(t[q], t[k]) >= 0.0", torch.maximum(special[:, None], special) >= 0),
        ("abs(-t[q]) >= -abs(t[k])", (-special[:, None]).abs() >= -special.abs()),
    ):
        attention = attnc.loads(f"pattern p(t: float[token]) = {text}").p()
        assert torch.equal(attention.mask(n, t=special)[0], right), text
        for backend in ("blocked", "cpp"):
            with attnc.settings.override(backend=backend, optimisation=1, verify=True):
                assert torch.equal(kept(attention, n, torch.float32, t=special), right), (text, backend)


def test_tables_of_two_dtypes_are_refused_with_both_names() -> None:
    attention = attnc.loads("pattern p(t: float[token], u: float[token]) = t[q] - u[k] < 1.0").p()
    tables = {"t": torch.zeros(8), "u": torch.zeros(8, dtype=torch.bfloat16)}
    q = torch.zeros(1, 1, 8, 4)
    said = r"u: has dtype bfloat16, expected float32, as t has: the mask computes with both"
    for look in (
        lambda: attention.mask(8, **tables),
        lambda: attention.plan(8, **tables),
        lambda: attention(q, q, q, **tables),
        lambda: attention.reference(q, q, q, **tables),
    ):
        with pytest.raises(TypeError, match=said):
            look()


def test_a_scalar_takes_the_dtype_of_the_entries_beside_it() -> None:
    """As a number of Python does: a list of one is float64, and no reason to refuse bfloat16 entries."""
    attention = attnc.loads("pattern p(t: float[token], span: float[]) = abs(t[q] - t[k]) <= span").p()
    t = torch.tensor([0.0, 0.1, 0.3], dtype=torch.bfloat16)
    right = (t[:, None] - t).abs() <= torch.tensor(0.1, dtype=torch.bfloat16)
    for span in (0.1, torch.tensor(0.1, dtype=torch.float64)):
        assert torch.equal(attention.mask(3, t=t, span=span)[0], right)
        assert torch.equal(kept(attention, 3, torch.float32, t=t, span=span), right)
    spans = torch.tensor([0.1, 0.25])
    each = (t[:, None] - t).abs() <= spans.to(torch.bfloat16)[:, None, None]
    assert torch.equal(attention.mask(3, t=t, span=spans)[:, 0], each)


def test_a_choice_with_an_integer_beside_a_literal_is_exact() -> None:
    """It used to end in an assertion."""
    for sign, right in (("<", [0, 1, 2]), ("<=", [0, 1, 2]), (">", [3, 4, 5]), ("!=", [0, 1, 2, 3, 4, 5]), ("==", [])):
        text = f"pattern p(t: float[token]) = (t[q] if q < 3 else k) {sign} 2.5"
        mask = attnc.loads(text).p().mask(6, t=torch.full((6,), 2.5))[0]
        assert mask[4].nonzero().flatten().tolist() == right
    swapped = attnc.loads("pattern p(t: float[token]) = 3.0 <= (t[q] if q < 3 else k)").p()
    assert swapped.mask(6, t=torch.zeros(6))[0, 4].nonzero().flatten().tolist() == [3, 4, 5]


def test_what_a_difference_of_floats_proves() -> None:
    near = attnc.loads("pattern p(t: float[token]) = abs(t[q] - t[k]) < 1.5").p()
    past = attnc.loads("pattern p(t: float[token]) = k <= q and t[q] - t[k] < 1.5").p()
    assert attnc.prove(near, "symmetric").proved
    assert attnc.prove(past, "causal").proved
    refuted = attnc.prove(near, "diagonal")  # NaN is near nothing
    assert refuted.refuted
    assert "nan" in str(refuted)


def test_orders_are_searched_for_a_mask_that_computes() -> None:
    """A minimum asks whether an entry equals itself, for NaN: then the search takes its table for one of labels."""
    attention = attnc.loads("pattern p(t: float[token]) = (q - k) % 4 == 0 and min(t[q], -0.5) < t[k]").p()
    t, place = torch.randn(N), torch.arange(N)
    mine = attention.mask(N, t=t)[0] > 0
    assert torch.equal(mine, ((place[:, None] - place) % 4 == 0) & (t.clamp(max=-0.5)[:, None] < t))
    assert torch.equal(kept(attention, N, torch.float32, t=t), mine)
    assert attention.source("cpu")


def test_a_denied_inequality_is_rewritten_once() -> None:
    """``not a != b`` becomes ``a == b``, whose sides are rewritten already."""
    attend = attnc.loads("pattern p(t: float[token]) = not -t[k] + 1.5 != -t[q] or t[q] * 2.0 == t[k] * 2.0").p()
    t = torch.tensor([0.0, 1.5, 3.0, -1.5, 0.0])
    kept = (-t + 1.5 == -t[:, None]) | (t[:, None] == t)
    assert torch.equal(attend.mask(5, t=t)[0], kept)
    q, k, v = torch.randn(3, 1, 1, 5, 4)
    torch.testing.assert_close(attend(q, k, v, t=t), attend.reference(q, k, v, t=t))
