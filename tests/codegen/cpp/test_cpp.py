"""C++ kernels against the dense formula in float64: patterns, scores, tables, sinks, counts, shapes, types."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from attnc.compiler.ir import constructors as f
from attnc.compiler.ir.expressions import Const, K, Q
from attnc.runtime.base.configuration import settings
from attnc.runtime.base.counters import launches
from attnc.runtime.base.launch import Launch
from attnc.runtime.cpp import executor
from tests.support.cpp_patterns import PATTERNS, random_tables
from tests.support.oracles.dense_formula import Pattern, Result, Shape, attention, launch

SHAPE = Shape(m=37, n=53, batch=2, heads=4, kv_heads=2, head_dim=8, value_dim=5, starts=(3, 11))


@pytest.fixture(scope="module", autouse=True)
def _quick_builds() -> Iterator[None]:
    with settings.override(optimisation=0):
        yield


def inputs(
    shape: Shape, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """q, k, v; gradients of output and log-sum-exp; scale."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)

    qkv = [
        normal(shape.batch, shape.heads, shape.m, shape.head_dim),
        normal(shape.batch, shape.kv_heads, shape.n, shape.head_dim),
        normal(shape.batch, shape.kv_heads, shape.n, shape.value_dim),
    ]
    grads = [normal(shape.batch, shape.heads, shape.m, shape.value_dim), normal(shape.batch, shape.heads, shape.m)]
    return qkv, grads, torch.linspace(0.3, 0.6, max(1, shape.heads), dtype=torch.float64)[: shape.heads]


def run(call: Launch, grads: list[Tensor]) -> Result:
    out, lse = executor.forward(call)
    found = executor.backward(call, out, lse, grads[0].to(call.q.dtype), grads[1].to(call.compute_dtype))
    names = [table.name for table in call.program.tables]
    tables = {name: x for name, x in zip(names, found.tables, strict=True) if x is not None}
    return Result(out, lse, found.q, found.k, found.v, tables)


def close(found: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    found, expected = found.double().reshape(expected.shape), expected.double()
    assert torch.equal(found.isinf(), expected.isinf()), what
    both = torch.isfinite(expected)
    error = (found - expected)[both].abs().max() if both.any() else torch.zeros(())
    size = expected[both].abs().max().clamp(min=1) if both.any() else torch.ones(())
    assert float(error) <= tolerance * float(size), f"{what}: off by {float(error)} of {float(size)}"


def compare(found: Result, expected: Result, tolerance: float) -> None:
    for name in ("out", "lse", "q", "k", "v"):
        close(getattr(found, name), getattr(expected, name), tolerance, name)
    assert found.tables.keys() == expected.tables.keys()
    for name, gradient in expected.tables.items():
        close(found.tables[name], gradient, tolerance, f"gradient of {name}")


def check(
    pattern: Pattern, shape: Shape = SHAPE, tolerance: float = 2e-5, dtype: torch.dtype = torch.float32, **how: object
) -> None:
    qkv, grads, scale = inputs(shape, dtype)
    tables = random_tables(pattern, shape)
    call = launch(pattern, shape, qkv, tables, scale, **how)  # type: ignore[arg-type]
    dropout = {name: how[name] for name in ("dropout", "seed") if name in how}
    expected = attention(pattern, shape, qkv, tables, scale, grads, **dropout)  # type: ignore[arg-type]
    compare(run(call, grads), expected, tolerance)


@pytest.mark.parametrize("name", PATTERNS)
def test_pattern(name: str) -> None:
    check(PATTERNS[name])


@pytest.mark.parametrize("name", ["counts", "alibi", "sink of each row, and a score", "every function"])
def test_pattern_in_float64(name: str) -> None:
    check(PATTERNS[name], dtype=torch.float64, tolerance=1e-12)


def test_every_kernel_counts_as_a_launch() -> None:
    before = dict(launches())
    check(PATTERNS["window"])
    after = launches()
    assert [after[f"cpp.{x}"] - before.get(f"cpp.{x}", 0) for x in ("forward", "backward")] == [1, 1]


@pytest.mark.parametrize("m", [1, 15, 16, 17, 64])
def test_lengths_around_the_tile(m: int) -> None:
    for n in (1, 15, 16, 17, 49):
        for starts in ((0,), (n - 1,)):
            check(PATTERNS["window"], Shape(m, n, starts=starts))


@pytest.mark.parametrize("tiles", [(64, 64), (16, 128), (128, 16), (1, 1), (7, 5)])
def test_tile_sizes(tiles: tuple[int, int]) -> None:
    check(PATTERNS["global tokens"], Shape(150, 170, heads=2, head_dim=4, value_dim=4), tiles=tiles)


@pytest.mark.parametrize(("head_dim", "value_dim"), [(1, 1), (3, 17), (33, 80), (256, 16)])
def test_head_dims(head_dim: int, value_dim: int) -> None:
    check(PATTERNS["window"], Shape(21, 33, head_dim=head_dim, value_dim=value_dim), tolerance=5e-5)


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (3, 1), (8, 8), (24, 3)])
def test_grouped_heads(heads: int, kv_heads: int) -> None:
    check(PATTERNS["by head"], Shape(20, 20, batch=2, heads=heads, kv_heads=kv_heads))


def test_packed_keys_are_of_their_entry_of_the_batch() -> None:
    """What is stored in 16 bits is made reals of, and kept: of one entry after another, there is nothing between."""
    shape = Shape(20, 20, batch=5, heads=1, kv_heads=1, starts=(0,))
    check(PATTERNS["window"], shape, dtype=torch.float16, tolerance=3e-3)


@pytest.mark.parametrize("name", ["window", "counts", "bias of each pair"])
def test_full_tiles_called_partial(name: str) -> None:
    check(PATTERNS[name], all_partial=True)


@pytest.mark.parametrize(
    "shape", [Shape(0, 9), Shape(9, 0), Shape(9, 9, batch=0), Shape(0, 0), Shape(9, 9, heads=0, kv_heads=0)]
)
def test_nothing_there(shape: Shape) -> None:
    check(PATTERNS["window"], shape)


def test_no_keys_and_a_sink() -> None:
    shape = Shape(9, 0, heads=2)
    check(PATTERNS["sink of each head"], shape)


def test_values_of_no_width() -> None:
    check(PATTERNS["causal"], Shape(9, 9, value_dim=0))


@pytest.mark.parametrize(
    "name", ["global tokens", "documents", "chosen blocks", "counts", "relative bias", "random", "dilated"]
)
def test_positions_of_64_bits(name: str) -> None:
    check(PATTERNS[name], wide=True)


def test_positions_beyond_32_bits() -> None:
    start = 2**33
    mask = f.conjunction(f.less_equal(Const(start), Q), f.less_equal(f.mod(f.sub(Q, K), 3), Const(1)))
    pattern = Pattern(mask, lambda g, _: (g.q >= start) & ((g.q - g.k) % 3 <= 1))
    check(pattern, Shape(20, 30, starts=(start - 5,)), wide=True)


@pytest.mark.parametrize("name", ["causal", "counts", "softcap"])
def test_dropout(name: str) -> None:
    check(PATTERNS[name], Shape(20, 24, batch=2, heads=2, kv_heads=2, starts=(0, 5)), dropout=0.3, seed=12345678901234)


def test_dropout_in_wide_positions_drops_the_same() -> None:
    check(PATTERNS["causal"], Shape(20, 24), dropout=0.3, seed=5, wide=True)


def test_dropping_all_and_almost_nothing() -> None:
    check(PATTERNS["causal"], Shape(9, 9), dropout=1e-12, seed=5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
@pytest.mark.parametrize("name", ["window", "alibi"])
def test_16_bit_storage(name: str, dtype: torch.dtype, tolerance: float) -> None:
    check(PATTERNS[name], dtype=dtype, tolerance=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_strides(dtype: torch.dtype) -> None:
    """Any strides but the last dimension's: transposed, expanded, sliced, at an odd offset; grad_out too."""
    shape = Shape(37, 37, batch=2, heads=4, kv_heads=4, head_dim=8, value_dim=8, starts=(0,))
    pattern = PATTERNS["window"]
    [q, k, _], grads, scale = inputs(shape, dtype)
    expanded = k[:, :1].expand(2, 4, 37, 8)
    odd = torch.randn(2 * 4 * 37 * 11 + 3).to(dtype)[3:].view(2, 37, 4, 11).transpose(1, 2)[..., 2:10]
    grads[0] = grads[0][:, :, :1].expand(2, 4, 37, 8)
    qkv = [q.transpose(0, 1).contiguous().transpose(0, 1), expanded, odd]
    assert not any(x.is_contiguous() for x in (*qkv, grads[0]))
    call = launch(pattern, shape, qkv, {}, scale)
    compare(
        run(call, grads), attention(pattern, shape, qkv, {}, scale, grads), 2e-5 if dtype == torch.float32 else 2e-2
    )


def test_absurd_strides_of_single_places() -> None:
    shape = Shape(5, 5)
    [q, k, v], grads, scale = inputs(shape)
    q = q.as_strided(q.shape, (2**60, 2**61, 8, 1))
    call = launch(PATTERNS["causal"], shape, [q, k, v], {}, scale)
    compare(run(call, grads), attention(PATTERNS["causal"], shape, [q, k, v], {}, scale, grads), 2e-5)


def test_offsets_beyond_31_bits() -> None:
    """Rows that lie 2^31 elements and more apart, in memory that is never touched between them."""
    shape = Shape(3, 3, heads=2, kv_heads=2, head_dim=4, value_dim=4)
    step = 2**30 + 8
    try:
        backing = torch.empty(3 * 2 * step, dtype=torch.bfloat16)
    except RuntimeError:
        pytest.skip("no address space for offsets beyond 31 bits")
    qkv, grads, scale = inputs(shape, torch.bfloat16)
    for index in (0, 1, 2):
        far = backing.as_strided((1, 2, 3, 4), (0, 3 * step, step, 1), index * 4)
        far.copy_(qkv[index])
        qkv[index] = far
    call = launch(PATTERNS["full"], shape, qkv, {}, scale)
    compare(run(call, grads), attention(PATTERNS["full"], shape, qkv, {}, scale, grads), 2e-2)


@pytest.mark.parametrize("size", [1e4, 1e6])
def test_large_logits(size: float) -> None:
    shape = Shape(20, 20, head_dim=2, value_dim=3)
    qkv, grads, scale = inputs(shape)
    generator = torch.Generator().manual_seed(4)
    qkv[0] = torch.randint(-4, 5, qkv[0].shape, generator=generator) * size
    qkv[1] = torch.randint(-4, 5, qkv[1].shape, generator=generator).float()  # many equal logits
    scale = torch.ones(1)
    call = launch(PATTERNS["causal"], shape, qkv, {}, scale)
    expected = attention(PATTERNS["causal"], shape, qkv, {}, scale, grads)
    out, lse = executor.forward(call)
    close(out, expected.out, 1e-5, "out")
    close(lse, expected.lse, 1e-6, "lse")


def test_gradients_of_a_table_shared_by_the_batch_are_summed() -> None:
    shape = Shape(20, 20, batch=3, heads=2, kv_heads=2)
    pattern = PATTERNS["relative bias"]
    qkv, grads, scale = inputs(shape)
    tables = {"bias": torch.randn(1, 2, 25)}
    compare(
        run(launch(pattern, shape, qkv, tables, scale), grads),
        attention(pattern, shape, qkv, tables, scale, grads),
        2e-5,
    )


@pytest.mark.parametrize("room", [0, 20_000, 200_000])
def test_little_room_for_private_sums(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = Shape(200, 200, batch=2, heads=4, kv_heads=2)
    qkv, grads, scale = inputs(shape)
    pattern = PATTERNS["alibi"]
    tables = random_tables(pattern, shape)
    call = launch(pattern, shape, qkv, tables, scale)
    whole = run(call, grads)
    monkeypatch.setattr(executor, "ROOM", room)
    part = run(call, grads)
    assert all(torch.equal(getattr(whole, x), getattr(part, x)) for x in ("q", "k", "v"))
    assert torch.equal(whole.tables["slope"], part.tables["slope"])
