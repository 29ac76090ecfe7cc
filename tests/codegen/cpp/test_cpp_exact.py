"""C++ kernels where tolerances are blind: exact counts, NaN wherever nothing may be read, the same bits again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from attnc.compiler.ir import constructors as f
from attnc.compiler.ir.expressions import HEAD, Const, K, Q
from attnc.runtime.base.configuration import settings
from attnc.runtime.base.launch import Gradients, Launch
from attnc.runtime.cpp import executor
from tests.support.cpp_patterns import PATTERNS, random_tables
from tests.support.oracles.dense_formula import Pattern, Shape, counts, launch

SHAPE = Shape(m=70, n=90, batch=2, heads=2, kv_heads=2, head_dim=4, value_dim=40, starts=(3, 11))
UNSCORED = [name for name, pattern in PATTERNS.items() if pattern.scores is None and pattern.sinks is None]


@pytest.fixture(scope="module", autouse=True)
def _quick_builds() -> Iterator[None]:
    with settings.override(optimisation=0):
        yield


def support(pattern: Pattern, shape: Shape, call: Launch, count: Tensor) -> None:
    """With q = 0 every kept pair weighs count / total, so that outputs times totals are known exactly."""
    total = count.sum(-1, keepdim=True).double()
    out, lse = executor.forward(call)
    exact = count.double() @ call.v.double()
    assert torch.equal((out.double() * total).round(), exact)
    assert torch.equal(lse.double().exp().round(), total[..., 0])
    grad_out = torch.randint(0, 2, out.shape, generator=torch.Generator().manual_seed(3)).float()
    found = executor.backward(call, out, lse, grad_out, None)
    share = torch.where(total > 0, count.double() / total.clamp(min=1), 0.0)
    expected = share.transpose(-1, -2) @ grad_out.double()
    # One key more or less moves a sum by at least 1 / total.
    assert float((found.v.double() - expected).abs().max()) < 0.25 / float(total.max().clamp(min=1))


@pytest.mark.parametrize("name", UNSCORED)
def test_support(name: str) -> None:
    pattern, shape = PATTERNS[name], SHAPE
    generator = torch.Generator().manual_seed(2)
    q = torch.zeros(shape.batch, shape.heads, shape.m, shape.head_dim)
    k = torch.randn(shape.batch, shape.kv_heads, shape.n, shape.head_dim, generator=generator)
    v = torch.randint(0, 2, (shape.batch, shape.kv_heads, shape.n, shape.value_dim), generator=generator).float()
    tables = random_tables(pattern, shape)
    call = launch(pattern, shape, [q, k, v], tables, torch.ones(shape.heads))
    support(pattern, shape, call, counts(pattern, shape, tables))


def planted(call: Launch) -> Launch:
    """The same call whose schedule has lost one tile."""
    [kernel] = call.schedule.kernels
    [segment] = kernel.segments
    runs = segment.by_query.runs
    pointer = runs.pointer.copy()
    pointer[1:] -= 1
    lost = replace(runs, pointer=pointer, start=runs.start[1:], length=runs.length[1:], kind=runs.kind[1:])
    segment = replace(segment, by_query=replace(segment.by_query, runs=lost))
    return replace(call, schedule=replace(call.schedule, kernels=(replace(kernel, segments=(segment,)),)))


def test_the_support_test_sees_a_lost_tile() -> None:
    pattern = PATTERNS["causal"]
    q, k, v = (torch.zeros(2, 2, size, 4) for size in (70, 90, 90))
    call = launch(pattern, replace(SHAPE, value_dim=4), [q, k, torch.ones_like(v)], {}, torch.ones(2))
    count = counts(pattern, SHAPE, {})
    support(pattern, SHAPE, call, count)
    with pytest.raises(AssertionError):
        support(pattern, SHAPE, planted(call), count)


def margins(x: Tensor, value: float) -> Tensor:
    """The same numbers amid a buffer of ``value``: rows above and below, columns left and right."""
    batch, heads, rows, columns = x.shape
    around = torch.full((batch + 2, heads + 2, rows + 40, columns + 8), value, dtype=x.dtype)
    around[1:-1, 1:-1, 20:-20, 4:-4] = x
    return around[1:-1, 1:-1, 20:-20, 4:-4]


def normal(shape: Shape, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape.batch, shape.heads, shape.m, shape.head_dim, generator=generator),
        torch.randn(shape.batch, shape.kv_heads, shape.n, shape.head_dim, generator=generator),
        torch.randn(shape.batch, shape.kv_heads, shape.n, shape.value_dim, generator=generator),
    ]


def everything(call: Launch, grad_out: Tensor) -> list[Tensor]:
    out, lse = executor.forward(call)
    found = executor.backward(call, out, lse, grad_out, torch.ones_like(lse))
    return [out, lse, found.q, found.k, found.v, *(x for x in found.tables if x is not None)]


def same_bits(call: Launch, grad_out: Tensor) -> None:
    """Forward and backward give the same bits again, with any number of threads."""
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3, 7, 2):
            torch.set_num_threads(threads)
            found.append(everything(call, grad_out))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("name", ["window", "global tokens", "alibi"])
def test_nothing_outside_the_tensors_is_read(name: str) -> None:
    pattern, shape = PATTERNS[name], replace(SHAPE, head_dim=5, value_dim=3)
    tables, scale = random_tables(pattern, shape), torch.ones(2)
    grad_out = torch.randn(2, 2, 70, 3, generator=torch.Generator().manual_seed(9))
    qkv = normal(shape)
    plain = everything(launch(pattern, shape, qkv, tables, scale), grad_out)
    for value in (torch.nan, torch.inf):
        amid = [margins(x, value) for x in qkv]
        found = everything(launch(pattern, shape, amid, tables, scale), margins(grad_out, value))
        assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_keys_that_nobody_keeps_may_hold_anything(value: float) -> None:
    """Padding inside partial tiles: its keys and values are met by no query that does not keep them."""
    pattern, shape = PATTERNS["padded"], replace(SHAPE, starts=(0,))
    tables = {"length": torch.tensor([37, 81])}
    q, k, v = normal(shape)
    grad_out = torch.randn(2, 2, 70, 40, generator=torch.Generator().manual_seed(9))
    plain = everything(launch(pattern, shape, [q, k, v], tables, torch.ones(2)), grad_out)
    for batch, length in enumerate((37, 81)):
        k[batch, :, length:], v[batch, :, length:] = value, value
    found = everything(launch(pattern, shape, [q, k, v], tables, torch.ones(2)), grad_out)
    for a, b in zip(plain, found, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_one_bad_query_spoils_its_own_row_only(value: float) -> None:
    pattern, shape, row = PATTERNS["window"], replace(SHAPE, starts=(0,), batch=1), 33
    q, k, v = normal(shape)
    grad_out = torch.randn(1, 2, 70, 40, generator=torch.Generator().manual_seed(9))
    plain = everything(launch(pattern, shape, [q, k, v], {}, torch.ones(2)), grad_out)
    q[0, 0, row, 1] = value
    found = everything(launch(pattern, shape, [q, k, v], {}, torch.ones(2)), grad_out)
    assert found[0][0, 0, row].isnan().all()
    assert found[1][0, 0, row].isnan()
    for index in (0, 1, 2):
        a, b = plain[index].clone(), found[index].clone()
        a[0, 0, row], b[0, 0, row] = 0, 0
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)
    kept = (torch.arange(shape.n) - row).abs() <= 6
    for index in (3, 4):
        assert found[index][0, 0, kept].isnan().all()
        assert torch.allclose(plain[index][0, 0, ~kept], found[index][0, 0, ~kept], rtol=1e-5, atol=1e-6)
        assert torch.allclose(plain[index][0, 1], found[index][0, 1])


def test_logits_of_minus_infinity_weigh_nothing() -> None:
    pattern = PATTERNS["relative bias"]
    shape = Shape(30, 30)
    qkv = normal(shape)
    bias = torch.zeros(1, 1, 25)
    bias[0, 0, 9:] = -torch.inf  # keeps k - q in -6 .. -4 of the window
    call = launch(pattern, shape, qkv, {"bias": bias}, torch.ones(1))
    out, lse, *grads = everything(call, torch.ones(1, 1, 30, 8))
    assert (lse[0, 0, :4] == -torch.inf).all()
    assert not out[0, 0, :4].any()
    assert out[0, 0, 4:].isfinite().all()
    assert all(x.isfinite().all() for x in grads)
    narrow = f.conjunction(f.less_equal(f.sub(Q, K), Const(6)), f.less_equal(Const(4), f.sub(Q, K)))
    other = launch(Pattern(narrow, lambda g, _: (g.q - g.k <= 6) & (g.q - g.k >= 4)), shape, qkv, {}, torch.ones(1))
    assert torch.allclose(out, executor.forward(other)[0], atol=1e-6)


@pytest.mark.parametrize("name", ["global tokens", "bias of each pair", "sink of each row, and a score"])
def test_the_same_bits_again_whatever_the_threads(name: str) -> None:
    pattern, shape = PATTERNS[name], replace(SHAPE, m=333, n=300, heads=4, kv_heads=2, value_dim=8)
    call = launch(pattern, shape, normal(shape), random_tables(pattern, shape), torch.ones(4))
    grad_out = torch.randn(2, 4, 333, 8, generator=torch.Generator().manual_seed(9))
    same_bits(call, grad_out)


def test_gradients_come_in_the_inputs_forms() -> None:
    pattern, shape = PATTERNS["alibi"], replace(SHAPE, starts=(0,))
    qkv = [x.bfloat16() for x in normal(shape)]
    call = launch(pattern, shape, qkv, random_tables(pattern, shape), torch.ones(2))
    out, lse = executor.forward(call)
    found = executor.backward(call, out, lse, torch.ones_like(out), None)
    assert isinstance(found, Gradients)
    assert (out.dtype, lse.dtype) == (torch.bfloat16, torch.float32)
    assert [x.dtype for x in (found.q, found.k, found.v)] == [torch.bfloat16] * 3
    assert [x.shape for x in (found.q, found.k, found.v)] == [x.shape for x in qkv]
    assert found.tables[0] is not None
    assert (found.tables[0].dtype, found.tables[0].shape) == (torch.float32, call.tables[0].tensor.shape)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_does_not_hang() -> None:
    call = launch(PATTERNS["by head"], SHAPE, normal(SHAPE), {}, torch.ones(2))
    grad_out = torch.ones(2, 2, 70, 40)  # small, so that PyTorch's own operators use no threads in the child
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    expected = everything(call, grad_out)  # the parent's threads are there now
    torch.set_num_threads(before)
    child = os.fork()
    if child == 0:
        same = all(torch.equal(a, b) for a, b in zip(expected, everything(call, grad_out), strict=True))
        os._exit(0 if same else 1)
    for _ in range(600):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.1)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")


def test_a_head_that_keeps_nothing_beside_one_that_does() -> None:
    pattern = Pattern(f.less(f.mul(HEAD, Const(100)), K), lambda g, _: g.head * 100 < g.k)
    shape = replace(SHAPE, starts=(0,))
    call = launch(pattern, shape, normal(shape), {}, torch.ones(2))
    out, lse, *grads = everything(call, torch.ones(2, 2, 70, 40))
    assert not out[:, 1].any()
    assert (lse[:, 1] == -torch.inf).all()
    assert all(not grad[:, 1].any() for grad in grads)
    assert lse[:, 0].isfinite().all()
