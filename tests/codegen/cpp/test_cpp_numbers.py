"""C++ kernels number by number: functions at any size, results rounded to the nearest, entries at a table's edges."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from attnc.compiler.ir import constructors as f
from attnc.compiler.ir.attentions import Dimension, Table
from attnc.compiler.ir.expressions import HEAD, LOGIT, TRUE, Const, Entry, Expr, K, Q
from attnc.runtime.base.configuration import settings
from attnc.runtime.cpp import executor
from tests.codegen.cpp.test_cpp import compare, inputs, run
from tests.support.cpp_patterns import HEADS, everything, read
from tests.support.oracles.dense_formula import Pattern, Shape, attention, launch


@pytest.fixture(scope="module", autouse=True)
def _quick_builds() -> Iterator[None]:
    with settings.override(optimisation=0):
        yield


def powers(low: int, high: int) -> Tensor:
    """Numbers of every power of two between two, several of each, of both signs; float64."""
    fractions = torch.tensor([1.0, 1.25, 1.4142135, 1.9999], dtype=torch.float64)
    positive = (2.0 ** torch.arange(low, high, dtype=torch.float64)[:, None] * fractions).flatten()
    return torch.cat([positive, -positive, torch.zeros(1, dtype=torch.float64)])


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp, "log": torch.log, "tanh": torch.tanh, "sqrt": torch.sqrt, "sigmoid": torch.sigmoid,
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_right_at_any_size(name: str, dtype: torch.dtype) -> None:
    """A row of one key has its score for a log-sum-exp.

    Single precision takes e^x from a polynomial of six terms, as near as any: to 2e-7, where Taylor's is 3e-6 off. It
    has no numbers of the last power of two below infinity, and those below the least normal one may be 0.
    """
    pattern = Pattern(TRUE, everything, f.function(name, LOGIT))  # type: ignore[arg-type]
    if name in ("log", "sqrt"):
        x = powers(-120, 120).abs()[:-1].to(dtype)
    else:
        x = torch.cat([powers(-40, 7), torch.linspace(-110, 110, 2001, dtype=torch.float64)]).to(dtype)
    shape = Shape(len(x), 1, head_dim=1, value_dim=1)
    qkv = [x.reshape(1, 1, -1, 1), *(torch.ones(1, 1, 1, 1, dtype=dtype) for _ in range(2))]
    _, lse = executor.forward(launch(pattern, shape, qkv, {}, torch.ones(1, dtype=dtype)))
    found, expected = lse[0, 0].double(), FUNCTIONS[name](x.double())
    largest, least = torch.finfo(dtype).max, torch.finfo(torch.float32).smallest_normal
    finite, infinite = expected < largest / 2, expected > largest
    assert found[finite].isfinite().all()
    assert not found[infinite].isfinite().any()
    bound = 3e-7 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(found[finite], expected[finite], rtol=bound, atol=least)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value_dim", [512, 1])
def test_results_are_rounded_to_the_nearest(dtype: torch.dtype, value_dim: int) -> None:
    """The mean of two values, of every pair of 16 bits that a random permutation makes: as torch rounds it. In whole
    vectors, and one by one.
    """
    batch = 2**16 // value_dim
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    other = every[torch.randperm(2**16, generator=torch.Generator().manual_seed(5))]
    v = torch.stack([x.reshape(batch, 1, value_dim) for x in (every, other)], dim=2)
    q, k = torch.zeros(batch, 1, 1, 1, dtype=dtype), torch.zeros(batch, 1, 2, 1, dtype=dtype)
    shape = Shape(1, 2, batch=batch, head_dim=1, value_dim=value_dim)
    out, _ = executor.forward(launch(Pattern(TRUE, everything), shape, [q, k, v], {}, torch.ones(1)))
    expected = (v.float().sum(2) * 0.5).to(dtype)
    assert torch.equal(out[:, :, 0].isnan(), expected.isnan())
    assert torch.equal(out[:, :, 0].nan_to_num(0.0), expected.nan_to_num(0.0))


def at(table: Table, *indices: Expr) -> Entry:
    return Entry(table.name, indices, "float")


@pytest.mark.parametrize("first", [-1, 0])
def test_entries_past_the_edges_of_a_table_are_0(first: int) -> None:
    """One before the first and one behind the last: in memory, entries of the heads beside."""
    bias = Table("bias", "float", (HEADS, Dimension("fixed", 12)))
    near = f.conjunction(f.less_equal(f.sub(Q, K), Const(6)), f.less_equal(f.sub(K, Q), Const(6)))
    pattern = Pattern(
        near,
        lambda g, _: (g.q - g.k).abs() <= 6,
        f.add(LOGIT, at(bias, HEAD, f.add(f.sub(K, Q), Const(6 + first)))),
        lambda s, g, t: s + read(t["bias"], g.batch, g.head, g.k - g.q + 6 + first),
        tables=(bias,),
    )
    shape = Shape(30, 30, batch=2, heads=3, kv_heads=1)
    qkv, grads, scale = inputs(shape)
    tables = {"bias": torch.randn(1, 3, 12, generator=torch.Generator().manual_seed(2))}
    call = launch(pattern, shape, qkv, tables, scale)
    compare(run(call, grads), attention(pattern, shape, qkv, tables, scale, grads), 2e-5)
