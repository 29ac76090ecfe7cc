"""The public names, what a module offers, and what an attention answers before anything runs."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

import attnc
from attnc.compiler.checker.reserved_names import CALL, FORBIDDEN, KERNELS, OF_CONSTANTS, SIZES
from attnc.compiler.syntax.grammar import vocabulary

ROOT = Path(__file__).parents[2]
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
        "Attention", "AttnError", "diff", "documents", "launches", "load", "loads", "merge", "Model", "Module", "prove",
        "settings",
    ]  # fmt: skip
    assert all(hasattr(attnc, name) for name in attnc.__all__)
    public = {name for name in dir(attnc.Attention) if not name.startswith("_")}
    assert public == {
        "cache", "compile_for", "facts", "mask", "name", "plan", "prepare", "reference", "source", "tables",
    }  # fmt: skip


def test_the_parameters_of_a_call() -> None:
    parameters = inspect.signature(attnc.Attention.__call__).parameters
    assert list(parameters) == [
        "self", "q", "k", "v", "scale", "q_start", "k_start", "n", "with_sink", "dropout", "seed", "return_lse",
        "tables",
    ]  # fmt: skip
    assert [each.default for each in list(parameters.values())[4:-1]] == [None, 0, 0, None, True, 0.0, None, False]


def taken(*methods: object) -> set[str]:
    """The names that some methods take, but for what gathers the tables."""
    found = [one for method in methods for one in inspect.signature(method).parameters.values()]  # type: ignore[arg-type]
    return {one.name for one in found if one.kind is not inspect.Parameter.VAR_KEYWORD}


def test_what_no_table_may_be_called_is_what_a_call_takes() -> None:
    attention = attnc.Attention
    assert set(CALL) == taken(attention.__call__, attention.reference)
    sizes = taken(attention.mask, attention.plan, attention.cache)
    assert {"self", "q_start", "k_start", "with_sink", *SIZES, *KERNELS} == sizes
    assert {*FORBIDDEN} == {*CALL, *SIZES, *KERNELS} - vocabulary().reserved
    assert set(FORBIDDEN) >= OF_CONSTANTS


@pytest.mark.parametrize("name", sorted({*CALL, *SIZES, *KERNELS}))
def test_a_table_that_could_not_be_called_is_refused_by_its_name(name: str) -> None:
    for form in ("pattern p({}: int[token]) = {}[q] == 1", "attention p(a: int, {}: tokens) {{ mask = k < a }}",
                 "model p({}: float[head]) {{ layers = 1 heads = 1 layer * = causal }}",
                 "pattern p({}: order[token]) = {}[q] == 1"):  # fmt: skip
        with pytest.raises(attnc.AttnError) as caught:
            attnc.loads(form.format(name, name))
        assert {fault.slug for fault in caught.value.diagnostics} <= {"forbidden-name", "reserved-word", "syntax"}


def test_every_name_that_a_table_may_have_can_be_called() -> None:
    """Whatever the methods of an attention call their own: names of their insides are no names of arguments."""
    face = attnc.Attention
    methods = (face.__call__, face.mask, face.plan, face.cache, face.reference)
    inner = {name for method in methods for name in method.__code__.co_varnames} - {*CALL, *SIZES, *KERNELS}
    assert {"tables", "more"} <= inner
    q = torch.zeros(1, 1, 4, 8)
    for name in sorted(inner):
        attend = attnc.loads(f"pattern p({name}: int[token]) = {name}[q] == {name}[k]").p()
        given = {name: torch.arange(4)}
        assert attend(q, q, q, **given).shape == attend.reference(q, q, q, **given).shape
        assert attend.mask(4, **given).sum() == attend.plan(4, **given).pairs == 4


def test_a_constant_may_be_called_seed() -> None:
    assert attnc.loads("pattern p(seed: int = 3) = k < seed").p(seed=2).mask(4).sum() == 8


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


def test_the_signature_of_a_binding() -> None:
    text = """
    const near = 6
    pattern p(size: int, near: int = 3, far: int = near + 1, wide: int = size * 2, scale_: float = 1, on: bool = true,
              keep: set = {0, 3..5}, run: set = 0..3, g: tokens = {}) = causal
    pattern r(far: int = near + 1) = causal
    model m(size: int = 4) { layers = 1 heads = 1 layer * = window(size) }
    """
    module = attnc.loads(text)
    signature = inspect.signature(module.p)
    assert str(signature).startswith(
        "(size: int, near: int = 3, far: int = near + 1, wide: int = size * 2, scale_: float = 1.0, on: bool = True, "
    )
    parameters = signature.parameters
    assert parameters["keep"].default == {0, 3, 4, 5}
    assert parameters["run"].default == {0, 1, 2, 3}
    assert [parameters[name].annotation for name in ("size", "keep", "on")] == [int, Iterable[int], bool]
    assert "g" not in parameters
    assert inspect.signature(module.r).parameters["far"].default == 7, "a constant of the file, not a parameter"
    assert signature.return_annotation is attnc.Attention
    assert inspect.signature(module.m).return_annotation is attnc.Model
    known = {name: one.default for name, one in parameters.items() if name in ("near", "scale_", "on", "keep", "run")}
    assert module.p(4, **known) == module.p(4)


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
    assert attnc.loads("pattern p = causal and (head > 0 or k in {0})").p().facts.heads_differ
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


def test_attentions_are_equal_where_they_are_the_same() -> None:
    same = attnc.loads("\n# elsewhere\npattern other(reach: int) = abs(q - k) <= reach // 2 * 1")
    assert MODULE.near(size=6) == MODULE.near(6) == copy.deepcopy(MODULE.near(6)) == same.other(6)
    assert len({MODULE.near(size=6), MODULE.near(6), same.other(6)}) == 1
    different = [MODULE.near(4), MODULE.near(6), MODULE.twice(), MODULE.sloped(), MODULE.around(size=6),
                 MODULE.small().layers[0], MODULE.small().layers[2]]  # fmt: skip
    assert len(set(different)) == len(different)
    assert MODULE.near(4) != "near"
    models = [MODULE.small(), attnc.loads(TEXT).small()]
    assert models[0] == models[1]
    assert hash(models[0]) == hash(models[1])
    assert models[0] != attnc.loads(TEXT.replace("heads = 4", "heads = 2")).small()
    assert models[0] != attnc.loads(TEXT.replace("layer 2 = near", "layer 2 = twice")).small()
    assert models[0] != models[0].layers


IN_ANOTHER_PROCESS = """
import pickle, sys
module, model, attend, expr = pickle.load(sys.stdin.buffer)
import attnc
fresh = attnc.load(sys.argv[1])
assert list(module.declarations) == list(fresh.declarations)
assert fresh.near(6) == module.near(6) == attend and hash(fresh.near(6)) == hash(attend)
assert module.small() == model == fresh.small()
assert len({expr, fresh.near(6)._bound.mask}) == 1, "a hash of one process is none in another"
assert module["declarations"]() == fresh["declarations"]()
assert module.listed(1) == fresh.listed(1)
try:
    module.near("wide")
except attnc.AttnError as error:
    assert "mine.attn:5" in str(error), error
else:
    raise AssertionError
"""


def test_modules_models_and_attentions_can_be_pickled(tmp_path: Path) -> None:
    (tmp_path / "near_by.attn").write_text("pattern close = abs(q - k) <= 1")
    text = f"from near_by import close{TEXT}\nconst sizes = [2, 4]\npattern listed(i: int) = close or window(sizes[i])"
    path = tmp_path / "mine.attn"
    path.write_text(text)
    module = attnc.load(path)
    assert module.declarations["listed"]
    data = pickle.dumps((module, module.small(), module.near(6), module.near(6)._bound.mask))
    (tmp_path / "near_by.attn").write_text("pattern close = k == q")  # what was pickled is what was read
    again = pickle.loads(data)[0]  # noqa: S301 - its own
    assert again.listed(0) == module.listed(0)
    assert dir(again) == dir(module)
    (tmp_path / "near_by.attn").write_text("pattern close = abs(q - k) <= 1")
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", IN_ANOTHER_PROCESS, str(path)], input=data, capture_output=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("name", ["longformer", "bigbird", "strided", "alibi", "sink_window"])
def test_every_shipped_module_can_be_pickled(name: str) -> None:
    module = attnc.load(name)
    again = pickle.loads(pickle.dumps(module))  # noqa: S301 - its own
    assert list(again) == list(module)
    for each in module:
        if all(parameter.default is not None for parameter in module.declarations[each].parameters):
            assert again[each]() == module[each]()


def test_a_plan_is_shown_on_a_few_lines() -> None:
    many = attnc.loads("pattern p = any(head == i and (q - k) % (i + 2) == 0 for i in 0..7)").p()
    for plan in (
        MODULE.near().plan(64), MODULE.around(size=4).plan(1000, g=[{0}, {3}]), many.plan(4096, heads=8),
        attnc.load("longformer").longformer().plan(4096, heads=2, g={0, 9}), MODULE.twice().plan(0),
    ):  # fmt: skip
        lines = repr(plan).splitlines()
        assert len(lines) <= 4
        assert max(map(len, lines)) <= 160
        assert f"{plan.full:,} full, {plan.partial:,} partial" in repr(plan)
        assert plan.order[0] in repr(plan) if plan.order else True


def test_loading_by_the_bare_name_of_a_file_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner.attn").write_text("pattern inner = causal")
    with pytest.raises(FileNotFoundError, match=r"(?s)no shipped pattern `inner`.*help: .*: inner\.attn"):
        attnc.load("inner")
    assert attnc.load("inner.attn").inner().mask(2).sum() == 3
    with pytest.raises(FileNotFoundError) as caught:
        attnc.load("inners")
    assert "inner.attn" not in str(caught.value)
    (tmp_path / "longformr.attn").mkdir()
    with pytest.raises(FileNotFoundError, match="did you mean `longformer`"):
        attnc.load("longformr")


def test_what_docstrings_load_is_there() -> None:
    for name in ("longformer", "bigbird"):
        assert f'"{name}"' in (attnc.load.__doc__ or "")
        attnc.load(name)
    assert "natten" not in (attnc.load.__doc__ or "")


def test_what_is_no_text_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"^text: is int, expected a str"):
        attnc.loads(3)  # type: ignore[arg-type]
