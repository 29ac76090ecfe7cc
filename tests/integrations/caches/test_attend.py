"""Judges attention over what a cache has kept: token by token equal to the whole call, and no position too many."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import attnc
from attnc.last_reader import last_reader_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what transformers warns of while it is imported is its own affair
    from attnc.integrations.transformers.caches import PatternCacheLayer, attend, held_keys
    from attnc.integrations.transformers.caches.slots import MOST_RUNS

N, HEADS, KV_HEADS, WIDTH = 70, 4, 2, 8

TEXTS = {
    "window": "mask = causal_window(8)",
    "sinks": "mask = causal and (q - k < 8 or k < 3)",
    "sinks and a logit": "mask = causal and (q - k < 8 or k < 3)\n sink = 0.5",
    "chunks": "mask = causal and blocks(16)",
    "dilated": "mask = causal and q - k < 24 and (q - k) % 4 == 0",
    "two places": "mask = causal and (q - k < 4 or k < 2 or (8 <= k and k < 11))",
    "far only": "mask = causal and q - k >= 5 and q - k < 9\n sink = 0.0",
    "counted": "mask = causal_window(4) + causal_window(9)",
    "by head": "mask = causal_window(4) if head % 2 == 0 else causal_window(12) or k == 1 and causal",
    "sloped": "mask = causal and (q - k < 8 or k < 3)\n score = s - 0.25 * (q - k)",
    "absolute": "mask = causal_window(8)\n score = s * (0.5 + 0.1 * k)",
    "softcap": "mask = causal and (q - k < 8 or k < 3)\n score = 5.0 * tanh(s / 5.0)",
    "full": "mask = causal",
    "parity": "mask = causal_window(6) and (q % 2 == 0 or k % 2 == 0)",
    "strided": "mask = causal and (q - k < 4 or (q - k) % 16 == 0)",
    "many gaps": "mask = causal and (q - k < 4 or k < 40 and k % 4 == 0)",
    "table": "mask = causal and (q - k < 8 or k < 3) and group[q] == group[k]",
    "start of the text": "mask = causal_window(8) and first <= k",
}
TYPES = {"table": "group: int[token]", "start of the text": "first: int[]"}
# How many positions an exact cache of the text keeps after N tokens; where it is more, why.
MORE = {"many gaps": "more runs than a cache is attended in"}


@pytest.fixture(autouse=True)
def _without_builds() -> Iterator[None]:
    with attnc.settings.override(backend="blocked"):
        yield


def attention_of(name: str) -> attnc.Attention:
    types = f"({TYPES[name]})" if name in TYPES else ""
    made = attnc.loads(f"attention a{types} {{\n {TEXTS[name]}\n}}\n").a()
    assert isinstance(made, attnc.Attention)
    return made


def tables_of(name: str) -> dict[str, Tensor]:
    return {
        "table": {"group": torch.arange(N, dtype=torch.int32) // 9},
        "start of the text": {"first": torch.tensor([0, 7], dtype=torch.int32)},
    }.get(name, {})


def tensors(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return tuple(torch.randn(2, h, N, WIDTH, dtype=dtype) for h in (HEADS, KV_HEADS, KV_HEADS))  # type: ignore[return-value]


def pieces(lengths: tuple[int, ...]) -> Iterator[slice]:
    at = 0
    while at < N:
        for length in lengths:
            yield slice(at, min(N, at + length))
            at += length


@pytest.mark.parametrize("lengths", [(30, *[1] * 9, 31), (1, 15, 2, 19)], ids=["prefill and tokens", "pieces"])
@pytest.mark.parametrize("name", TEXTS)
def test_row_by_row_equals_the_whole_call(name: str, lengths: tuple[int, ...]) -> None:
    attention, (q, k, v) = attention_of(name), tensors()
    tables = tables_of(name)
    whole = attention(q, k, v, **tables)
    layer = PatternCacheLayer()
    plan = None if name in TYPES else attention.cache(N, heads=HEADS)
    least = last_reader_of(attention._bound)
    for piece in pieces(lengths):
        if piece.start >= N:
            break
        keys, values = layer.update(k[:, :, piece], v[:, :, piece])
        seen = {named: x[:, : piece.stop] if x.ndim > 1 else x for named, x in tables.items()}
        if name == "table":
            seen = {"group": tables["group"][: piece.stop]}
        out = attend(attention, q[:, :, piece], keys, values, seen, q_start=piece.start)
        torch.testing.assert_close(out, whole[:, :, piece])
        ever = 2**40 if least.bound is None else N  # rows to come: they are not in the plan of N tokens
        wanted = _needed(attention, piece.stop, ever)
        assert set(wanted) <= set(layer.positions)
        if name not in MORE:
            assert layer.positions.tolist() == wanted
        if plan is not None and piece.stop < N and least.bound is not None and name not in MORE:
            assert set(plan.positions(piece.stop)) - {piece.stop} <= set(layer.positions)
    assert bool(layer.reason) == (least.bound is None), layer.reason


def _needed(attention: attnc.Attention, row: int, ever: int) -> list[int]:
    """Positions before a row that it or a later one reads, by the dense mask of a longer text."""
    far = 3 * N if ever > N else N + 32
    tables: dict[str, Any] = {
        "group": torch.zeros(far, dtype=torch.int32), "first": torch.tensor(0, dtype=torch.int32)
    }  # fmt: skip
    mask = attention.mask(far, heads=HEADS, **{t: tables[t] for t in attention.tables})
    read = mask.bool()[:, row:, :row].any(0).any(0)
    return np.flatnonzero(read.numpy()).tolist()


def test_where_there_are_many_gaps_the_shortest_are_kept() -> None:
    attention, (_, k, v) = attention_of("many gaps"), tensors()
    layer = PatternCacheLayer()
    layer.update(k, v)
    layer.tell(attention, HEADS, N)
    needed = {*range(0, 40, 4), N - 3, N - 2, N - 1}
    assert needed < set(layer.positions)
    keys, _ = layer.update(k[:, :, :1], v[:, :, :1])
    held = held_keys(keys)
    assert held is not None
    assert len(held.runs) == MOST_RUNS


def test_few_keys_are_moved_for_each_token() -> None:
    attention = attnc.loads("pattern p = causal and (q - k < 64 or k < 4)").p()
    layer, tokens = PatternCacheLayer(), 400
    x = torch.zeros(1, 1, 1, WIDTH)
    with torch.no_grad():
        for _ in range(tokens):
            layer.update(x, x)
            layer.tell(attention, 1, 1)
    assert len(layer.positions) == 67
    assert layer.room <= 67 + 2 * 17
    assert layer.moves <= tokens // 16 + 8


def test_keys_are_views_of_the_memory_that_is_kept() -> None:
    layer, x = PatternCacheLayer(), torch.zeros(1, 1, 1, WIDTH)
    window = attention_of("window")
    seen = set()
    for _ in range(40):
        with torch.no_grad():
            keys, values = layer.update(x, x)
        layer.tell(window, 1, 1)
        seen.add((keys.untyped_storage().data_ptr(), values.untyped_storage().data_ptr()))
    assert len(seen) <= 5


@torch.no_grad()
def test_memory_that_is_not_the_caches_own_is_not_written() -> None:
    layer, x = PatternCacheLayer(), torch.zeros(1, 1, 9, WIDTH)
    layer.update(x[:, :, :5], x[:, :, :5])
    layer.update(torch.ones(1, 1, 4, WIDTH), torch.ones(1, 1, 4, WIDTH))
    layer.crop(-4)  # as many slots are free again
    keys, _ = layer.update(torch.full((1, 1, 4, WIDTH), 2.0), torch.ones(1, 1, 4, WIDTH))
    assert keys[0, 0, :, 0].tolist() == [0] * 5 + [2] * 4
    prompt = PatternCacheLayer()
    prompt.update(x, x)
    prompt.crop(-4)
    prompt.update(torch.ones(1, 1, 4, WIDTH), torch.ones(1, 1, 4, WIDTH))
    assert not x.any()


def test_a_prompt_is_let_go_of_as_soon_as_attention_has_told() -> None:
    layer, x = PatternCacheLayer(), torch.zeros(1, 1, 5000, WIDTH)
    keys, _ = layer.update(x, x)
    assert keys.data_ptr() == x.data_ptr()  # not copied
    layer.tell(attention_of("window"), 1, 5000)
    assert layer.room <= 7 + 32


def test_dropout_is_that_of_the_whole_call() -> None:
    attention, (q, k, v) = attention_of("sinks"), tensors()
    whole = attention(q, k, v, dropout=0.5, seed=3)
    layer = PatternCacheLayer()
    for piece in pieces((40, 1, 1, 5)):
        if piece.start >= N:
            break
        keys, values = layer.update(k[:, :, piece], v[:, :, piece])
        out = attend(attention, q[:, :, piece], keys, values, {}, q_start=piece.start, dropout=0.5, seed=3)
        torch.testing.assert_close(out, whole[:, :, piece])


@pytest.mark.parametrize("learned", ["qkv", "q", "k", "v", "qv"])
def test_gradients_pass_through_what_was_kept(learned: str) -> None:
    attention, parts = attention_of("sinks"), tensors()
    found = []
    for cached in (False, True):
        q, k, v = (x.clone().requires_grad_(name in learned) for name, x in zip("qkv", parts, strict=True))
        if cached:
            layer, outs = PatternCacheLayer(), []
            for piece in (slice(0, 30), slice(30, 31), slice(31, 32), slice(32, N)):
                keys, values = layer.update(k[:, :, piece], v[:, :, piece])
                outs.append(attend(attention, q[:, :, piece], keys, values, {}, q_start=piece.start))
            out = torch.cat(outs, 2)
        else:
            out = attention(q, k, v)
        weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        wanted = [x for x in (q, k, v) if x.requires_grad]
        found.append(torch.autograd.grad((out * weights).sum(), wanted))
    for mine, wanted in zip(*found, strict=True):
        torch.testing.assert_close(mine, wanted)


def test_tokens_are_taken_back() -> None:
    attention, (q, k, v) = attention_of("sinks"), tensors()
    whole = attention(q, k, v)
    layer = PatternCacheLayer()
    layer.activate_past_recording()

    def run(piece: slice) -> None:
        keys, values = layer.update(k[:, :, piece], v[:, :, piece])
        out = attend(attention, q[:, :, piece], keys, values, {}, q_start=piece.start)
        torch.testing.assert_close(out, whole[:, :, piece])

    run(slice(0, 40))
    assert len(layer.positions) == 40  # until crop says what counts
    layer.crop(0)
    assert len(layer.positions) == 10
    run(slice(40, 50))
    layer.crop(-7)
    assert layer.get_seq_length() == 43
    assert len(layer.positions) == 10
    run(slice(43, N))


def test_tokens_are_not_taken_back_where_their_keys_are_gone() -> None:
    layer, (_, k, v) = PatternCacheLayer(), tensors()
    layer.update(k, v)
    layer.tell(attention_of("window"), HEADS, N)
    layer.crop(0)
    with pytest.raises(RuntimeError, match=r"row 67 reads keys that were dropped.*activate_past_recording"):
        layer.crop(-3)
    with pytest.raises(ValueError, match="tokens_to_remove: is 3, expected 0 or less"):
        layer.crop(3)


def test_other_attention_is_noticed_as_soon_as_keys_are_missing() -> None:
    layer, (_, k, v) = PatternCacheLayer(), tensors()
    layer.update(k, v)
    layer.update(k, v)  # nobody told: everything is there
    assert layer.reason == "no attention of attnc has run on these keys"
    layer.tell(attention_of("window"), HEADS, N)
    keys, values = layer.update(k, v)
    assert (keys.shape[2], keys.device) == (N + 7, k.device)  # what a tensor is like may be asked
    readers = {
        "scaled_dot_product_attention": lambda: nn.functional.scaled_dot_product_attention(k, keys, values),
        "transpose": lambda: torch.matmul(k, keys.transpose(2, 3)),
        "__get__": lambda: torch.matmul(k, keys.mT),
        "chunk": lambda: keys.chunk(2),
    }
    for name, read in readers.items():
        with pytest.raises(
            ValueError, match=rf"past_key_values: has dropped keys, and ({name}|transpose) is to compute"
        ):
            read()
    with pytest.raises(ValueError, match=r"past_key_values: .* did not end, or was not attnc's: expected a new cache"):
        layer.update(k, v)


def test_keys_of_another_shape_are_refused_and_change_nothing() -> None:
    layer, (_, k, v) = PatternCacheLayer(), tensors()
    layer.update(k, v)
    with pytest.raises(ValueError, match=r"past_key_values: gets keys of .* = \[1, 2, 8\], expected \[2, 2, 8\]"):
        layer.update(k[:1], v[:1])
    with pytest.raises(ValueError, match=r"past_key_values: gets values of .* = \[2, 2, 4\], expected \[2, 2, 8\]"):
        layer.update(k, v[..., :4])
    assert layer.get_seq_length() == N


def test_copies_do_not_write_into_each_other() -> None:
    layer, x = PatternCacheLayer(), torch.zeros(1, 1, 1, WIDTH)
    with torch.no_grad():
        for _ in range(3):
            layer.update(x, x)
        other = copy.copy(layer)
        mine, _ = layer.update(x + 1, x)
        its, _ = other.update(x + 2, x)
        layer.crop(-2)
    assert (mine[0, 0, -1, 0], its[0, 0, -1, 0]) == (1, 2)
    assert (layer.get_seq_length(), other.get_seq_length()) == (2, 4)


def test_another_dtype_is_promoted() -> None:
    layer, x = PatternCacheLayer(), torch.ones(1, 1, 2, WIDTH, dtype=torch.bfloat16)
    with torch.no_grad():
        layer.update(x, x)
        keys, values = layer.update(x.float() + 2**-20, x.float())
        assert keys.dtype == values.dtype == torch.float32
        assert keys[0, 0, -1, 0] == 1 + 2**-20
        assert layer.update(x, x)[0].dtype == torch.float32


def test_a_second_reader_of_the_same_keys_is_heard_or_refused() -> None:
    k = torch.zeros(1, 1, 20, WIDTH)
    waits = PatternCacheLayer(waits=True)
    waits.update(k, k)
    waits.tell(attention_of("window"), 1, 20)
    waits.tell(attention_of("sinks"), 1, 20)
    waits.update(k, k)
    assert waits.positions.tolist() == [0, 1, 2, *range(13, 40)]
    hasty = PatternCacheLayer()
    hasty.update(k, k)
    hasty.tell(attention_of("window"), 1, 20)
    with pytest.raises(ValueError, match=r"may read position 0, which was dropped .* waits=True"):
        hasty.tell(attention_of("sinks"), 1, 20)


def test_a_mask_of_the_length_keeps_everything() -> None:
    layer, k = PatternCacheLayer(), torch.zeros(1, 1, 20, WIDTH)
    layer.update(k, k)
    layer.tell(attnc.loads("pattern p = causal and k >= n - 5").p(), 1, 20)
    assert len(layer.positions) == 20
    assert layer.reason == "p: its mask depends on the length of the text"


def test_a_batch_is_reordered_chosen_and_repeated() -> None:
    layer = PatternCacheLayer()
    k = torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 1, 5, 2).contiguous()
    layer.update(k, k)
    layer.reorder_cache(torch.tensor([2, 0, 1]))
    assert layer.keys is not None
    assert layer.keys[:, 0, 0, 0].tolist() == [2, 0, 1]
    layer.batch_select_indices(torch.tensor([0, 2]))
    layer.batch_repeat_interleave(2)
    assert layer.keys[:, 0, 0, 0].tolist() == [2, 2, 1, 1]
    layer.update(*[torch.full((4, 1, 1, 2), 7.0)] * 2)
    assert layer.keys[:, 0, -1, 0].tolist() == [7] * 4 and k[0, 0, 0, 0] == 0  # noqa: PT018
    layer.reset()
    assert layer.get_seq_length() == 0
    assert layer.keys is None
    assert layer.get_mask_sizes(3) == (3, 0)


def test_a_cache_of_inference_goes_on_outside_it() -> None:
    layer, x = PatternCacheLayer(), torch.ones(1, 1, 4, 2)
    with torch.inference_mode():
        layer.update(x * 1, x * 1)
        layer.update(x * 2, x * 2)
    keys, _ = layer.update(x * 3, x * 3)
    assert keys[0, 0, :, 0].tolist() == [1] * 4 + [2] * 4 + [3] * 4


def test_the_cache_is_left_out_of_what_is_compiled() -> None:
    attention, (q, k, v) = attention_of("sinks"), tensors()
    whole, layer = attention(q, k, v), PatternCacheLayer()

    def step(q: Tensor, k: Tensor, v: Tensor, start: int) -> Tensor:
        keys, values = layer.update(k * 1, v * 1)
        return attend(attention, q, keys, values, {}, q_start=start) * 1

    compiled = torch.compile(step, backend="eager")
    for piece in (slice(0, 40), slice(40, 41), slice(41, N)):
        out = compiled(q[:, :, piece], k[:, :, piece], v[:, :, piece], piece.start)
        torch.testing.assert_close(out, whole[:, :, piece])
    torch.compiler.reset()
    assert len(layer.positions) == 10
