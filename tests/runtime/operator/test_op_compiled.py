"""Under torch.compile: one graph, no break, and no other graph for another n."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import attnc
from attnc.runtime.base.configuration import settings

TEXT = """
pattern near = abs(q - k) <= 20
pattern around(g: tokens = {}) = near or q in g or k in g
pattern documents_of(doc: int[token]) = doc[q] == doc[k]
pattern shorter(length: int[]) = k < length
attention sloped(slope: float[head]) { mask = k <= q   score = s + slope[head] * (k - q) }
"""
MODULE = attnc.loads(TEXT)
NEAR, AROUND, DOCUMENTS, SHORTER, SLOPED = (
    MODULE[name]() for name in ("near", "around", "documents_of", "shorter", "sloped")
)
LENGTHS = (100, 1000, 1001)
Call = Callable[..., Any]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    with settings.override(backend="blocked"):
        yield
    torch._dynamo.reset()


class Graphs:
    """A compiler that counts what it is given and runs it as it is."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        self.count += 1
        calls = [node.target for node in graph.graph.nodes if node.op == "call_function"]
        assert torch.ops.attnc.forward.default in calls
        return graph.forward


def inputs(n: int, gradients: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [torch.randn(2, 2, n, 8, generator=generator).requires_grad_(gradients) for _ in range(3)]


def _with(attend: attnc.Attention, **call: Any) -> tuple[Call, Callable[[int], list[Tensor]]]:
    return lambda q, k, v: attend(q, k, v, **call), lambda n: []


CASES: dict[str, Callable[[], tuple[Call, Callable[[int], list[Tensor]]]]] = {
    "plain": lambda: _with(NEAR),
    "default table": lambda: _with(AROUND),
    "python set": lambda: _with(AROUND, g={0, 3}),
    "log-sum-exp": lambda: _with(NEAR, return_lse=True),
    "scale and start": lambda: _with(NEAR, scale=0.3, q_start=5),
    "number": lambda: _with(SHORTER, length=50),
    "set": lambda: (lambda q, k, v, g: AROUND(q, k, v, g=g), lambda n: [torch.tensor([[0, 5], [1, -1]])]),
    "documents": lambda: (lambda q, k, v, d: DOCUMENTS(q, k, v, doc=d), lambda n: [torch.arange(n) // 7]),
    "learned": lambda: (
        lambda q, k, v, s: SLOPED(q, k, v, slope=s), lambda n: [torch.rand(2, requires_grad=True)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_graph_for_every_n(case: str) -> None:
    call, tables = CASES[case]()
    graphs = Graphs()
    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend=graphs)
    for n in LENGTHS:
        arguments = [*inputs(n, gradients=False), *tables(n)]
        found, expected = compiled(*arguments), call(*arguments)
        torch.testing.assert_close(found, expected)
    assert graphs.count == 1


def test_one_more_graph_where_torch_first_takes_n_for_a_constant() -> None:
    graphs = Graphs()
    compiled = torch.compile(lambda q, k, v: NEAR(q, k, v), fullgraph=True, backend=graphs)
    for n in (*LENGTHS, 77, 500):
        compiled(*inputs(n, False))
    assert graphs.count == 2


def test_decoding_steps_share_a_graph() -> None:
    graphs = Graphs()
    compiled = torch.compile(lambda q, k, v, p: NEAR(q, k, v, q_start=p), fullgraph=True, dynamic=True, backend=graphs)
    for n in (100, 101, 150):
        q, k, v = inputs(n, False)
        found = compiled(q[:, :, -1:], k, v, n - 1)
        torch.testing.assert_close(found, NEAR(q, k, v)[:, :, -1:])
    assert graphs.count == 1


def test_through_autograds_own_tracer() -> None:
    def call(q: Tensor, k: Tensor, v: Tensor, slope: Tensor) -> Tensor:
        return SLOPED(q * 2, k, v, slope=slope.abs()).relu()

    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend="aot_eager")
    for n in (50, 70):
        arguments = [*inputs(n, True), torch.tensor([0.5, -0.25], requires_grad=True)]
        gradients = [torch.autograd.grad(run(*arguments).sum(), arguments) for run in (compiled, call)]
        torch.testing.assert_close(gradients[0], gradients[1])


def test_dropout_draws_the_same_seed() -> None:
    call, _ = _with(NEAR, dropout=0.5)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    arguments = inputs(50, True)
    torch.manual_seed(1)
    expected = call(*arguments)
    torch.manual_seed(1)
    first, second = compiled(*arguments), compiled(*arguments)
    torch.testing.assert_close(first, expected)
    assert not torch.equal(first, second)


def test_autocast() -> None:
    compiled = torch.compile(lambda q, k, v: NEAR(q, k, v), fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert compiled(*inputs(50, False)).dtype == torch.bfloat16


def test_a_wrong_shape_is_named_while_tracing() -> None:
    compiled = torch.compile(lambda q, k, v, d: DOCUMENTS(q, k, v, doc=d), fullgraph=True, backend="eager")
    with pytest.raises(Exception, match=r"doc: has shape \[49\], expected 50 \(n\)"):
        compiled(*inputs(50, False), torch.zeros(49, dtype=torch.int32))
