"""The public names, what a module offers, and what an attention answers before anything runs."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path

import pytest
import torch

import attnc

TEXT = """
const W = 8
# Keys near the query.
# Both sides.
pattern near(size: int = W, step: int = 1) = abs(q - k) <= size // 2 * step
pattern around(g: tokens, size: int) = near(size) or q in g or k in g
pattern twice = (k <= q) + near(4)
pattern by_head(reach: int[head]) = 0 <= q - k and q - k <= reach[head]
pattern declarations = k <= q
attention sloped(slope: float[head]) { mask = k <= q   score = s + slope[head] * (k - q) }
model small(g: tokens) {
    layers = 3
    heads = 4
    layer 0..1 = around(g, size = 4 * (layer + 1))
    layer 2 = near
}
"""
MODULE = attnc.loads(TEXT)


def test_the_public_names() -> None:
    assert sorted(attnc.__all__, key=str.lower) == [
        "Attention", "AttnError", "launches", "load", "loads", "merge", "Model", "Module", "settings",
    ]  # fmt: skip
    assert all(hasattr(attnc, name) for name in attnc.__all__)
    public = {name for name in dir(attnc.Attention) if not name.startswith("_")}
    assert public == {"facts", "mask", "name", "plan", "reference", "source", "tables"}


def test_the_parameters_of_a_call() -> None:
    parameters = inspect.signature(attnc.Attention.__call__).parameters
    assert list(parameters) == [
        "self", "q", "k", "v", "scale", "q_start", "dropout", "seed", "return_lse", "tables",
    ]  # fmt: skip
    assert [parameters[name].default for name in ("scale", "q_start", "dropout", "seed", "return_lse")] == [
        None, 0, 0.0, None, False,
    ]  # fmt: skip


def test_declarations_are_functions() -> None:
    assert isinstance(MODULE.twice(), attnc.Attention)
    assert isinstance(MODULE.near(size=6, step=2), attnc.Attention)
    assert isinstance(MODULE.near(6, 2), attnc.Attention)
    assert isinstance(MODULE.sloped(), attnc.Attention)
    assert MODULE.near.__name__ == "near"
    assert "Keys near the query." in (MODULE.near.__doc__ or "")
    assert list(inspect.signature(MODULE.near).parameters) == ["size", "step"]
    assert list(inspect.signature(MODULE.around).parameters) == ["size"], "run-time data is given at the call"
    assert {"near", "around", "small"} <= set(dir(MODULE))


def test_a_name_that_python_hides() -> None:
    assert isinstance(MODULE["declarations"](), attnc.Attention)
    assert {"near", "declarations", "small", "W"} <= set(MODULE.declarations)
    assert MODULE.declarations["near"].kind == "pattern"


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="no pattern, attention or model naer; did you mean near"):
        _ = MODULE.naer
    with pytest.raises(KeyError, match="no pattern, attention or model W"):
        MODULE["W"]


def test_faults_of_a_binding() -> None:
    with pytest.raises(TypeError, match="g: is run-time data"):
        MODULE.around(g={0}, size=3)
    with pytest.raises(TypeError, match="near: got 3 constants, expected at most 2"):
        MODULE.near(1, 2, 3)
    with pytest.raises(TypeError, match="size: given twice"):
        MODULE.near(4, size=4)
    for fault in ({"size": "wide"}, {"sise": 3}):
        with pytest.raises(TypeError) as caught:
            MODULE.near(**fault)
        assert isinstance(caught.value, attnc.AttnError)
    with pytest.raises(TypeError):
        MODULE.around()


def test_faults_of_a_text() -> None:
    with pytest.raises(attnc.AttnError) as caught:
        attnc.loads("pattern p = windw(3)\npattern r = q - k", "mine.attn")
    assert len(caught.value.diagnostics) == 2
    assert "mine.attn:1" in str(caught.value)


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "mine.attn"
    path.write_text("from near_by import close\npattern mine = close and k <= q")
    (tmp_path / "near_by.attn").write_text("pattern close = abs(q - k) <= 1")
    for name in (path, str(path)):
        assert attnc.load(name).mine().mask(3).int().tolist() == [[[1, 0, 0], [1, 1, 0], [0, 1, 1]]]
    assert isinstance(attnc.load("longformer").longformer(size=4), attnc.Attention)
    for missing in (tmp_path / "none.attn", "no_such_pattern"):
        with pytest.raises((attnc.AttnError, FileNotFoundError)):
            attnc.load(missing)


def test_models() -> None:
    model = MODULE.small()
    assert isinstance(model, attnc.Model)
    assert (len(model), model.heads, len(model.layers)) == (3, 4, 3)
    assert model.layers[0].tables == ("g",)
    size = 9
    kept = [int(layer.mask(size, heads=4, g={0})[0].sum()) for layer in model.layers[:2]]
    assert kept[0] < kept[1]
    q = k = v = torch.zeros(1, 4, size, 8)
    assert model.layers[1](q, k, v, g={0}).shape == q.shape


def test_masks() -> None:
    mask = MODULE.near(size=2).mask(4)
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [[[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]]
    assert MODULE.near(size=2).mask(4, q_start=3).int().tolist() == [[[0, 0, 1, 1]]]
    assert MODULE.near(size=2).mask(4, 1, q_start=1, heads=2).shape == (2, 1, 4)
    counts = MODULE.twice().mask(4)
    assert counts.dtype == torch.int64
    assert counts[0, 2].tolist() == [2, 2, 2, 1]
    assert MODULE.by_head().mask(5, reach=torch.tensor([0, 1, 2])).sum((1, 2)).tolist() == [5, 9, 12]
    batched = MODULE.around(size=0).mask(3, g=[{0}, {1, 2}])
    assert batched.shape == (2, 1, 3, 3)
    assert batched.sum((1, 2, 3)).tolist() == [7, 9]
    assert MODULE.near().mask(8, 2, q_start=torch.tensor([0, 4])).shape == (2, 1, 2, 8)
    assert MODULE.near().mask(0).shape == (1, 0, 0)


@pytest.mark.parametrize("n", [1, 64, 100, 300])
def test_plans(n: int) -> None:
    for attend, tables in (
        (MODULE.near(size=20), {}), (MODULE.twice(), {}), (MODULE.around(size=6), {"g": [{0}, {n - 1}]}),
        (MODULE.by_head(), {"reach": torch.tensor([3, 90])}), (MODULE.sloped(), {"slope": torch.zeros(2)}),
    ):  # fmt: skip
        plan = attend.plan(n, **tables)
        mask = attend.mask(n, **tables)
        assert plan.pairs == int(mask.sum())
        assert plan.full + plan.partial > 0
        assert plan.area >= float((mask > 0).sum(-1).double().mean())
        assert plan.flops(16) == 64 * plan.pairs
        assert len(plan.kernels) == len(plan.order)
        assert plan.order == (("natural", "gathered q in g") if "g" in tables else ("natural",))
    assert MODULE.near().plan(n, heads=3).bytes(8, torch.float16) == 3 * 4 * n * 8 * 2


def test_facts() -> None:
    facts = MODULE.around(size=3).facts
    assert (facts.counts, facts.heads_differ, facts.mask_tables, facts.plain_score) == (False, False, ("g",), True)
    facts = MODULE.sloped().facts
    assert (facts.score_tables, facts.mask_tables, facts.plain_score) == (("slope",), (), False)
    assert MODULE.twice().facts.counts


def test_sources() -> None:
    attend = MODULE.sloped()
    for target, sign in (("cpu", "#include"), ("sm_90", "import triton"), ("gfx942", "import triton")):
        text = attend.source(target)
        assert sign in text
        assert text == attend.source(target), "the same input gives the same text"
        assert text != MODULE.near().source(target)
        assert "slope" not in text, "no name of the text's reaches a kernel"
    with pytest.raises(ValueError, match="target: is 'sm90', expected cpu, or a GPU"):
        attend.source("sm90")
    with pytest.raises(ValueError, match="dtype: is 'int8'"):
        attend.source("cpu", dtype="int8")


def test_an_attention_can_be_copied() -> None:
    attend = MODULE.near(size=6)
    other = copy.deepcopy(attend)
    assert other is not attend
    assert torch.equal(other.mask(9), attend.mask(9))
