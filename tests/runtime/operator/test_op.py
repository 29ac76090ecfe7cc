"""The operator on every executor against the dense definition, and as a good citizen of PyTorch."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

import attnc
from attnc.compiler import pipeline
from attnc.runtime import launch_cache, planning
from attnc.runtime.base.configuration import settings
from attnc.runtime.cpp.build import NoCompilerError, compiler

TEXT = """
pattern near(size: int = 40) = abs(q - k) <= size // 2
pattern around(g: tokens) = near(12) or q in g or k in g
pattern gap = k <= q and q % 50 != 7
pattern documents_of(doc: int[token]) = doc[q] == doc[k]
pattern shorter(length: int[]) = k < length
pattern limited(limit: int[query]) = k <= limit[q]
pattern reaching(reach: int[head]) = 0 <= q - k and q - k <= reach[head]
pattern chosen(c: set[head, blocks]) = k // 16 in c[head, q // 16]
attention everything(
    slope: float[head], bias: float[head, span], weight: float[token], cap: float[], logit: float[head]
) {
    mask = (0 <= q - k < 30) + (k <= q and k % 7 == 0)
    score = cap * tanh((s + slope[head] * (k - q) + bias[head, (q - k) % 32] + weight[k]) / cap)
    sink = logit[head] + weight[q]
}
attention sloped(slope: float[head]) { mask = k <= q   score = s + slope[head] * (k - q) }
attention sunk(logit: float[head]) { mask = k <= q   sink = logit[head] * q / 70 }
attention curved(w: float[token]) { mask = k <= q   score = tanh(w[k]) + sigmoid(w[q]) + s * exp(-abs(w[k])) }
attention scaled(factor: float[]) { mask = k <= q   score = s * factor }
attention reading(bias: float[reach]) { mask = k <= q   score = s + bias[q - k] }
"""
MODULE = attnc.loads(TEXT)


def _has_compiler() -> bool:
    try:
        compiler()
    except NoCompilerError:
        return False
    return True


needs_compiler = pytest.mark.skipif(not _has_compiler(), reason="the system has no C++ compiler")
BACKENDS = ["blocked", pytest.param("cpp", marks=needs_compiler)]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with settings.override(backend=request.param, optimisation=0):  # the level changes how long a build takes
        yield request.param


@pytest.fixture
def blocked() -> Iterator[None]:
    with settings.override(backend="blocked"):
        yield


def inputs(
    batch: int = 2,
    heads: int = 2,
    m: int = 70,
    n: int = 70,
    d: int = 8,
    value_dim: int | None = None,
    kv_heads: int | None = None,
    dtype: torch.dtype = torch.float64,
    gradients: bool = False,
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(m * 1000 + n)
    kv_heads = heads if kv_heads is None else kv_heads
    shapes = (
        (batch, heads, m, d),
        (batch, kv_heads, n, d),
        (batch, kv_heads, n, d if value_dim is None else value_dim),
    )
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(gradients)
        for shape in shapes
    ]


def everything_tables(heads: int, n: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(n)
    shapes = {"slope": (heads,), "bias": (heads, 32), "weight": (n,), "cap": (), "logit": (heads,)}
    tables = {
        name: torch.rand(shape, generator=generator, dtype=torch.float64).add_(0.5) for name, shape in shapes.items()
    }
    return {name: table.requires_grad_() for name, table in tables.items()}


def agrees(attend: attnc.Attention, qkv: list[Tensor], tolerance: float = 1e-10, **call: Any) -> None:
    """Outputs, log-sum-exps and all gradients equal the reference's."""
    wanted = [x for x in (*qkv, *call.values()) if isinstance(x, Tensor) and x.requires_grad]
    results = []
    for run in (attend, attend.reference):
        out, lse = run(*qkv, return_lse=True, **call)
        generator = torch.Generator().manual_seed(1)
        weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in (out, lse)]
        dead = lse == -torch.inf
        total = (out * weights[0].to(out)).sum() + (torch.where(dead, 0.0, lse) * weights[1].to(lse)).sum()
        gradients = torch.autograd.grad(total, wanted) if wanted else ()
        results.append((out, dead, torch.where(dead, 0.0, lse), *gradients))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


SIZES: list[dict[str, int]] = [
    {"m": 1, "n": 1}, {"m": 63, "n": 63}, {"m": 64, "n": 64}, {"m": 65, "n": 65}, {"m": 30, "n": 130},
    {"m": 130, "n": 30}, {"heads": 6, "kv_heads": 2}, {"heads": 3, "kv_heads": 1}, {"value_dim": 5}, {"d": 3},
]  # fmt: skip


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes(backend: str, sizes: dict[str, int]) -> None:
    agrees(MODULE.gap(), inputs(**sizes, gradients=True))


@pytest.mark.parametrize("sizes", [{"batch": 0}, {"heads": 0, "kv_heads": 0}, {"m": 0}, {"n": 0}], ids=str)
def test_empty_sizes(backend: str, sizes: dict[str, int]) -> None:
    heads = sizes.get("heads", 2)
    logit = torch.rand(heads, dtype=torch.float64, requires_grad=heads > 0)
    agrees(MODULE.gap(), inputs(**sizes, gradients=True))
    agrees(MODULE.sunk(), inputs(**sizes, gradients=True), logit=logit)


def test_tables(backend: str) -> None:
    qkv = inputs(gradients=True)
    agrees(MODULE.around(), qkv, g={0, 66})
    agrees(MODULE.around(), qkv, g=torch.tensor([[3, -1], [60, 3]]))
    agrees(MODULE.around(), qkv, g=torch.zeros(70, dtype=torch.bool))
    agrees(MODULE.documents_of(), qkv, doc=torch.arange(70) // 9)
    agrees(MODULE.documents_of(), qkv, doc=torch.arange(140).reshape(2, 70) // 9 % 8)
    agrees(MODULE.shorter(), qkv, length=torch.tensor([0, 65]))
    agrees(MODULE.limited(), qkv, limit=torch.arange(70).flip(0))
    agrees(MODULE.reaching(), qkv, reach=torch.tensor([3, 64]))
    agrees(MODULE.chosen(), qkv, c=torch.arange(2 * 5 * 2).reshape(2, 5, 2) % 5)


def test_tables_of_64_bits(backend: str) -> None:
    doc = torch.arange(70) // 9 * 2**33
    agrees(MODULE.documents_of(), inputs(gradients=True), doc=doc)


def test_later_rows(backend: str) -> None:
    qkv = inputs(m=20, n=130, gradients=True)
    agrees(MODULE.gap(), qkv, q_start=110)
    agrees(MODULE.around(), qkv, g={5}, q_start=torch.tensor([0, 110]))
    agrees(MODULE.limited(), qkv, limit=torch.arange(20) * 3, q_start=50)
    agrees(MODULE.gap(), qkv, q_start=500)


def test_every_float_table_gets_its_gradient(backend: str) -> None:
    qkv = inputs(m=40, n=70, heads=4, kv_heads=2, gradients=True)
    agrees(MODULE.everything(), qkv, **everything_tables(4, 70))
    agrees(MODULE.everything(), qkv, **everything_tables(4, 70), q_start=30, dropout=0.25, seed=11)


@pytest.mark.parametrize(
    "shape", [(), (1,), (2,), (1, 2), (3, 2), "expanded", "strided", "expanded batch"], ids=str
)  # fmt: skip
def test_shapes_of_a_learned_table(backend: str, shape: Any) -> None:
    qkv = inputs(batch=3, m=20, n=20, gradients=True)
    made = {
        "expanded": lambda: torch.rand(1, dtype=torch.float64).requires_grad_().expand(2),
        "strided": lambda: torch.rand(4, dtype=torch.float64).requires_grad_()[::2],
        "expanded batch": lambda: torch.rand(2, dtype=torch.float64).requires_grad_().expand(3, 2),
    }
    if isinstance(shape, str):
        agrees(MODULE.sloped(), qkv, slope=made[shape]())
    elif shape in ((), (1,)):
        agrees(MODULE.scaled(), qkv, factor=torch.rand(shape, dtype=torch.float64).requires_grad_())
    else:
        agrees(MODULE.sloped(), qkv, slope=torch.rand(shape, dtype=torch.float64).requires_grad_())


def test_a_learned_table_of_another_dtype(blocked: None) -> None:
    q, k, v = inputs(dtype=torch.float32, m=20, n=20)
    for dtype in (torch.bfloat16, torch.float64):
        slope = torch.tensor([0.5, 0.25], dtype=dtype, requires_grad=True)
        MODULE.sloped()(q, k, v, slope=slope).sum().backward()
        assert slope.grad is not None
        assert slope.grad.dtype == dtype


@pytest.mark.parametrize("subset", list(itertools.product([False, True], repeat=4)), ids=str)
def test_requires_grad_subsets(blocked: None, subset: tuple[bool, ...]) -> None:
    q, k, v = inputs(m=10, n=10)
    slope = torch.tensor([0.5, 0.25], dtype=torch.float64)
    arguments = [x.requires_grad_(wanted) for x, wanted in zip((q, k, v, slope), subset, strict=True)]
    out = MODULE.sloped()(q, k, v, slope=slope)
    assert out.requires_grad == any(subset)
    if any(subset):
        out.sum().backward()
    assert [x.grad is not None for x in arguments] == list(subset)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(backend: str, dtype: torch.dtype) -> None:
    qkv = inputs(dtype=dtype, gradients=True)
    out, lse = MODULE.gap()(*qkv, return_lse=True)
    assert (out.dtype, lse.dtype) == (dtype, torch.float32)
    out.sum().backward()
    assert [x.grad.dtype for x in qkv if x.grad is not None] == [dtype] * 3
    exact = MODULE.gap().reference(*(x.double() for x in qkv))
    tolerance = {torch.bfloat16: 2e-2, torch.float16: 2e-3}.get(dtype, 1e-5)
    torch.testing.assert_close(out.double(), exact, rtol=tolerance, atol=tolerance)


def test_functions_of_large_arguments(backend: str) -> None:
    """Where exponentials overflow and vanish, in float32 as in float64."""
    w = torch.cat([torch.linspace(-300, 300, 61), torch.tensor([-1e30, 1e30, -88.0, 88.0, -87.3, 103.9])])
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        qkv = inputs(m=67, n=67, dtype=dtype, gradients=True)
        agrees(MODULE.curved(), qkv, tolerance, w=w.to(dtype).requires_grad_())


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "heads last": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "features strided": lambda x: torch.stack([x, x], -1)[..., 0],
    "expanded batch": lambda x: x[:1].expand(x.shape),
    "odd offset": lambda x: torch.cat([x.flatten()[:1], x.flatten()])[1:].view(x.shape),
    "transposed features": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(backend: str, layout: str) -> None:
    qkv = [LAYOUTS[layout](x).detach().requires_grad_() for x in inputs(m=70, n=70)]
    agrees(MODULE.gap(), qkv)
    out = MODULE.gap()(*qkv)
    for gradient in (torch.ones((), dtype=torch.float64).expand(out.shape), LAYOUTS[layout](torch.ones_like(out))):
        found = torch.autograd.grad(out, qkv, gradient, retain_graph=True)
        expected = torch.autograd.grad(
            out, qkv, gradient.clone(memory_format=torch.contiguous_format), retain_graph=True
        )
        torch.testing.assert_close(found, expected)


def test_absurd_strides_of_single_places(backend: str) -> None:
    q, k, v = (x.as_strided(x.shape, (10**12, 10**12, 8, 1)) for x in inputs(batch=1, heads=1, m=9, n=9))
    agrees(MODULE.gap(), [q, k, v])


def test_dropout(backend: str) -> None:
    qkv = inputs(gradients=True)
    agrees(MODULE.around(), qkv, g={1}, dropout=0.5, seed=2**35 + 7)
    agrees(MODULE.around(), qkv, g={1}, dropout=0.1, seed=-1)


def test_a_seed_comes_from_torchs_generator(blocked: None) -> None:
    q, k, v = inputs()
    attend = MODULE.near()
    torch.manual_seed(5)
    first, second = attend(q, k, v, dropout=0.5), attend(q, k, v, dropout=0.5)
    torch.manual_seed(5)
    assert torch.equal(attend(q, k, v, dropout=0.5), first)
    assert not torch.equal(first, second)
    state = torch.get_rng_state()
    attend(q, k, v)
    assert torch.equal(torch.get_rng_state(), state), "without dropout nothing is drawn"


def test_dropout_under_checkpointing(blocked: None) -> None:
    from torch.utils.checkpoint import checkpoint

    q, k, v = inputs(gradients=True)
    attend = MODULE.near()
    gradients = []
    for run in (attend, lambda *x, **y: checkpoint(lambda *z: attend(*z, **y), *x, use_reentrant=False)):
        torch.manual_seed(3)
        gradients.append(torch.autograd.grad(run(q, k, v, dropout=0.5).sum(), (q, k, v)))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_second_derivatives_are_refused(backend: str) -> None:
    q, k, v = inputs(m=5, n=5, gradients=True)
    out = MODULE.near()(q, k, v)
    (gradient,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="attnc has no second derivatives"):
        gradient.sum().backward()


def test_autocast(blocked: None) -> None:
    qkv = inputs(dtype=torch.float32, gradients=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, lse = MODULE.near()(*qkv, return_lse=True)
        mixed = MODULE.near()(qkv[0], qkv[1].bfloat16(), qkv[2])
        wide = MODULE.near()(*(x.double() for x in qkv))
        slope = torch.tensor([0.5, 0.25], requires_grad=True)
        biased = MODULE.sloped()(*qkv, slope=slope)
        biased.float().sum().backward()
    assert (out.dtype, lse.dtype, mixed.dtype, wide.dtype) == (
        torch.bfloat16,
        torch.float32,
        torch.bfloat16,
        torch.float64,
    )
    assert [x.grad.dtype for x in (*qkv, slope) if x.grad is not None] == [torch.float32] * 4
    torch.testing.assert_close(out.float(), MODULE.near()(*qkv), rtol=5e-2, atol=5e-2)


def test_an_index_that_leaves_its_table_is_refused_before_launch(backend: str) -> None:
    q, k, v = inputs(m=9, n=9)
    with pytest.raises(ValueError, match=r"bias: the index of dimension 0 \(reach\) can be 0 to 8, expected 0 to 7"):
        MODULE.reading()(q, k, v, bias=torch.zeros(8))
    MODULE.reading()(q, k, v, bias=torch.zeros(9))


GUARDS = {
    "int": ("i[k] == 1", torch.zeros(16, dtype=torch.int32), torch.ones(16, dtype=torch.int32)),
    "order": ("i[0] == 15", torch.arange(16), torch.arange(16).flip(0)),
    "bool": ("i[k]", torch.zeros(16, dtype=torch.bool), torch.ones(16, dtype=torch.bool)),
}


@pytest.mark.parametrize("element", GUARDS)
@pytest.mark.parametrize("part", ["score = s + {}", "sink = {}"])
def test_contents_that_only_score_or_sink_read_are_looked_at_in_each_call(
    blocked: None, part: str, element: str
) -> None:
    guard, inside, outside = GUARDS[element]
    if part.startswith("sink"):
        guard = guard.replace("[k]", "[q]")
    reads = part.format(f"(bias[{'q' if part.startswith('sink') else 'q - k'}] if {guard} else 0.0)")
    text = f"attention a(bias: float[5], i: {element}[token]) {{ mask = causal  {reads} }}"
    attend, qkv = attnc.loads(text).a(), inputs(m=16, n=16)
    attend(*qkv, bias=torch.zeros(5), i=inside)
    with pytest.raises(ValueError, match="bias: the index of dimension 0"):
        attend(*qkv, bias=torch.zeros(5), i=outside)


def test_plans_are_kept_but_for_contents_that_matter(blocked: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(planning, "_plans", planning.Kept(8))
    monkeypatch.setattr(launch_cache, "_entries", planning.Kept(8))
    monkeypatch.setattr(pipeline, "schedule", lambda *x, plan=pipeline.schedule: made.append(x) or plan(*x))
    qkv = inputs(m=20, n=20)
    for step in range(3):
        MODULE.sloped()(*qkv, slope=torch.tensor([0.1, 0.2]) * step)
    assert len(made) == 1, "learned numbers change no plan"
    doc = torch.zeros(20, dtype=torch.int32)
    for place in (0, 5, 5):
        doc[place] = 3
        agrees(MODULE.documents_of(), qkv, doc=doc)
    assert len(made) == 3, "the same tensor with other numbers is planned again"
    for length in (3, 4):
        agrees(MODULE.shorter(), qkv, length=length)
    assert len(made) == 5


def test_what_was_planned_for_one_n_runs_with_another(backend: str) -> None:
    for n in (70, 65, 1, 130):
        agrees(MODULE.gap(), inputs(m=n, n=n, gradients=True))


def test_threads_at_the_first_call(backend: str) -> None:
    attend = attnc.loads("pattern fresh = k <= q and (q - k) % 3 != 1").fresh()
    q, k, v = inputs()
    expected = attend.reference(q, k, v)
    results: list[Tensor] = []
    barrier = threading.Barrier(8)

    def call() -> None:
        barrier.wait()
        results.append(attend(q, k, v))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    for result in results:
        torch.testing.assert_close(result, expected)


def test_runs_are_equal_to_the_bit(backend: str) -> None:
    qkv = inputs(gradients=True, dtype=torch.float32)
    tables = {name: table.detach().float().requires_grad_() for name, table in everything_tables(2, 70).items()}
    runs = []
    for _ in range(3):
        out = MODULE.everything()(*qkv, **tables)
        runs.append((out, *torch.autograd.grad(out.sum(), (*qkv, *tables.values()))))
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


def _opcheck_arguments(case: str, gradients: bool) -> tuple[Any, ...]:
    from attnc.runtime.base.identities import register

    made: dict[str, tuple[attnc.Attention, dict[str, Tensor]]] = {
        "plain": (MODULE.gap(), {}),
        "set": (MODULE.around(), {"g": torch.tensor([[1, 2], [3, -1], [7, 0]])}),
        "documents": (MODULE.documents_of(), {"doc": torch.arange(37) // 5}),
        "everything": (MODULE.everything(), {name: x.detach() for name, x in everything_tables(4, 37).items()}),
    }
    attend, tables = made[case]
    q, k, v = inputs(batch=3, heads=4, kv_heads=2, m=33, n=37, value_dim=6, dtype=torch.float32, gradients=gradients)
    q = q.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_(gradients)
    lists = [x.float().requires_grad_(gradients) if x.is_floating_point() else x for x in tables.values()]
    seed = torch.tensor([5]) if case == "plain" else None
    start = torch.tensor([0, 4, 2]) if case == "set" else None
    scale = torch.rand(4) if case == "documents" else None
    name = register(attend._bound)
    part = {"plain": (None, 5, None), "set": (torch.tensor([0, 9, 30]), 0, 60)}.get(case, (None, 0, None))
    return q, k, v, lists, "1" * len(lists), scale, start, 0, *part, seed, 0.3 if seed is not None else 0.0, name


@pytest.mark.parametrize("case", ["plain", "set", "documents", "everything"])
@pytest.mark.parametrize("gradients", [False, True])
def test_opcheck_forward(backend: str, case: str, gradients: bool) -> None:
    opcheck(torch.ops.attnc.forward.default, _opcheck_arguments(case, gradients))


@pytest.mark.parametrize("case", ["plain", "set", "documents", "everything"])
@pytest.mark.parametrize("with_lse", [False, True])
@pytest.mark.parametrize("first", ["111", "010"])
def test_opcheck_backward(backend: str, case: str, with_lse: bool, first: str) -> None:
    arguments = _opcheck_arguments(case, gradients=False)
    out, lse = torch.ops.attnc.forward(*arguments)
    gradients = (torch.randn_like(out), torch.randn_like(lse) if with_lse else None)
    wanted = first + first[0] * len(arguments[3])
    opcheck(torch.ops.attnc.backward.default, (wanted, *gradients, *arguments[:3], out, lse, *arguments[3:]))
