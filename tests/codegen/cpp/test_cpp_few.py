"""C++ kernels for masks whose rows keep keys each for itself: what is looked up once for a block of keys, and the few
rows of a tile that are put side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import attnc
from attnc.compiler.codegen.cpp import held
from attnc.compiler.ir import constructors as f
from attnc.compiler.ir.expressions import HEAD, Const, Entry, Expr, K, Member, Q
from attnc.compiler.plan.orders import Tiles
from attnc.compiler.plan.tile_choices import only
from attnc.runtime.base.configuration import settings
from attnc.runtime.base.launch import Launch
from attnc.runtime.call.checks import Call
from attnc.runtime.cpp import executor
from attnc.runtime.planning import launch_of
from tests.codegen.cpp.test_cpp import check, inputs
from tests.codegen.cpp.test_cpp_exact import support
from tests.support.cpp_patterns import PATTERNS, random_tables
from tests.support.oracles.dense_formula import Shape, counts, launch
from tests.support.poison import poisoned, unused

SHAPE = Shape(m=150, n=170, batch=2, heads=2, kv_heads=1, head_dim=20, value_dim=9, starts=(3, 11))
TILES = (64, 64)
PICKED = ("blocks picked by each row", "picked blocks, counted, and a score")
TEXT = """
pattern moba(chosen: set[head, token], chunk: int = 128) = causal and (blocks(chunk) or k // chunk in chosen[head, q])
pattern drawn(every: int = 5) = causal and hash(head, q, k // 32) % every == 0
"""


@pytest.fixture(scope="module", autouse=True)
def _quick_builds() -> Iterator[None]:
    with settings.override(optimisation=0):
        yield


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", PICKED)
def test_few_rows_are_computed_as_all_are(name: str, dtype: torch.dtype) -> None:
    tolerance = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}[dtype]
    check(PATTERNS[name], SHAPE, tolerance, dtype, tiles=TILES)


@pytest.mark.parametrize("how", [{"dropout": 0.3, "seed": 5}, {"wide": True}, {"all_partial": True}], ids=repr)
def test_few_rows_however_they_are_called(how: dict[str, object]) -> None:
    check(PATTERNS[PICKED[1]], SHAPE, **how, tiles=TILES)


def test_the_support_of_few_rows() -> None:
    pattern, generator = PATTERNS[PICKED[0]], torch.Generator().manual_seed(2)
    q = torch.zeros(SHAPE.batch, SHAPE.heads, SHAPE.m, 4)
    k = torch.randn(SHAPE.batch, 1, SHAPE.n, 4, generator=generator).expand(-1, SHAPE.heads, -1, -1)
    v = torch.randint(0, 2, (SHAPE.batch, SHAPE.heads, SHAPE.n, 40), generator=generator).float()
    shape = replace(SHAPE, kv_heads=SHAPE.heads, head_dim=4, value_dim=40)
    tables = random_tables(pattern, shape)
    call = launch(pattern, shape, [q, k.contiguous(), v], tables, torch.ones(shape.heads), tiles=TILES)
    support(pattern, shape, call, counts(pattern, shape, tables))


def test_poison_that_few_rows_do_not_keep_changes_nothing() -> None:
    pattern = PATTERNS[PICKED[0]]
    qkv, grads, scale = inputs(SHAPE)
    tables = random_tables(pattern, SHAPE)
    tables["picked"][..., 1] = False  # keys 32 to 63: half a tile, which nobody keeps
    idle = unused(counts(pattern, SHAPE, tables), SHAPE.batch, SHAPE.kv_heads)
    assert idle.keys.any()
    assert idle.rows.any()
    generator = torch.Generator().manual_seed(1)
    marked = [poisoned(x, idle.rows if i == 0 else idle.keys, generator) for i, x in enumerate(qkv)]
    clean, dirty = (_all(launch(pattern, SHAPE, x, tables, scale, tiles=TILES), grads) for x in (qkv, marked))
    for expected, found in zip(clean, dirty, strict=True):
        assert torch.equal(expected, found)


def _all(call: Launch, grads: list[Tensor]) -> list[Tensor]:
    out, lse = executor.forward(call)
    found = executor.backward(call, out, lse, *grads)
    return [out, lse, found.q, found.k, found.v]


def test_rows_that_keep_nothing_of_a_tile_are_not_multiplied() -> None:
    n, chunk = 1024, 128
    generator = torch.Generator().manual_seed(0)
    chosen = torch.full((2, n, 2), -1, dtype=torch.int32)
    for head in range(2):
        for row in range(chunk, n):
            chosen[head, row] = torch.randint(0, row // chunk, (2,), generator=generator)
    attend = attnc.loads(TEXT).moba()
    q, k, v = (torch.zeros(1, 2, n, 4) for _ in range(3))
    tables = {"chosen": chosen}
    call = launch_of(attend._bound, Call(q, k, v, tables, None, 0, None, 0.0, 0), only(Tiles(64, 64)))
    found, kept = executor.columns(call), int(attend.mask(n, heads=2, **tables).sum())
    assert 2 * kept < found.visited
    assert kept <= found.multiplied <= 1.2 * kept


BLOCK = f.floordiv(K, Const(16))


@pytest.mark.parametrize(
    ("condition", "blocks"),
    [
        (Member(BLOCK, "0", (HEAD, Q)), {BLOCK}),
        (f.conjunction(f.less_equal(K, Q), Member(BLOCK, "0", (f.floordiv(Q, Const(4)),))), {BLOCK}),
        (f.less(f.hashed(Q, BLOCK), Const(9)), {BLOCK}),
        (f.less(f.hashed(Q, f.floordiv(K, Const(4))), Const(9)), set()),  # blocks of fewer keys than pay
        (f.less(f.hashed(Q, K), Const(9)), set()),
        (Member(f.sub(Q, K), "0", (HEAD,)), set()),
        (Member(BLOCK, "0", (HEAD,)), set()),  # the same for all rows
        (Member(Q, "0", (HEAD,)), set()),
        (f.equal(Entry("0", (Q,), "int"), Entry("0", (K,), "int")), set()),
    ],
)
def test_what_is_looked_up_once_for_a_block_of_keys(condition: Expr, blocks: set[Expr]) -> None:
    found = held.reads_by_block(condition)
    assert {block for its in found.values() for block in its} == blocks


def test_rows_are_gathered_where_each_is_looked_up() -> None:
    assert held.gathers(Member(BLOCK, "0", (HEAD, Q)))
    assert held.gathers(f.equal(Entry("0", (HEAD, Q, Const(0)), "int"), BLOCK))
    assert not held.gathers(f.equal(Entry("0", (Q,), "int"), Entry("0", (K,), "int")))
    assert held.gathers(Member(BLOCK, "0", (Q,)))
    assert held.gathers(Member(BLOCK, "0", (f.floordiv(Q, Const(16)),)))
    assert not held.gathers(Member(BLOCK, "0", (HEAD, f.floordiv(Q, Const(64)))))
    assert not held.gathers(Member(Q, "0", (HEAD,)))


def test_a_block_that_is_looked_up_once_is_the_same_mask() -> None:
    """Against the dense formula of the oracle: `hash` of a block, which no table tells."""
    attend, n = attnc.loads(TEXT).drawn(), 200
    q, k, v = (torch.randn(1, 2, n, 8, dtype=torch.float64) for _ in range(3))
    mask = attend.mask(n, heads=2)
    logits = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(~mask, -torch.inf)
    expected = torch.softmax(logits, -1).nan_to_num(0.0) @ v
    assert torch.allclose(attend(q, k, v), expected, rtol=0, atol=1e-12)
