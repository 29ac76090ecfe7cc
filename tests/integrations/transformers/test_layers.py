"""Judges one layer's attention under a pattern: equal to what eager attention computes with the dense mask."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnc

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what transformers warns of while it is imported is its own affair
    from transformers import masking_utils
    from transformers.models.gemma2 import modeling_gemma2
    from transformers.models.gpt_oss import modeling_gpt_oss
    from transformers.models.t5 import modeling_t5

    from attnc.integrations import transformers as integration
    from attnc.integrations.transformers.attention_interface import attention_forward
    from attnc.integrations.transformers.mask_interface import attention_mask

BATCH, HEADS, KV_HEADS, M, N, WIDTH, VALUES = 2, 4, 2, 9, 13, 8, 6


@pytest.fixture(autouse=True)
def _without_builds() -> Iterator[None]:
    """On the executor that builds nothing: which kernel runs is not what these tests judge."""
    with attnc.settings.override(backend="blocked"):
        yield


@pytest.fixture(autouse=True)
def _softmax_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eager attention asks for a softmax in float32, whose rounding would hide what these tests judge."""
    own = nn.functional.softmax
    monkeypatch.setattr(nn.functional, "softmax", lambda x, dim, **_: own(x, dim=dim))


class Layer(nn.Module):
    """What the interface reads of an attention module."""

    def __init__(self, is_causal: bool = True) -> None:
        super().__init__()
        self.is_causal, self.num_key_value_groups, self.head_dim = is_causal, HEADS // KV_HEADS, WIDTH
        self.sinks = nn.Parameter(torch.randn(HEADS))
        self.eval()


Layer.__module__ = modeling_t5.__name__  # whose eager attention tells which keywords count


def tensors(kv_heads: int = KV_HEADS, n: int = N) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    shapes = ((HEADS, M, WIDTH), (kv_heads, n, WIDTH), (kv_heads, n, VALUES))
    q, k, v = (torch.randn(BATCH, *shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    return q, k, v


def masks(dtype: torch.dtype = torch.float64) -> tuple[Any, Tensor]:
    """A window with padding, as a pattern and as eager attention's tensor."""
    padding = torch.ones(BATCH, N, dtype=torch.bool)
    padding[0, :2] = False
    given = {
        "mask_function": masking_utils.sliding_window_causal_mask_function(5),
        "attention_mask": padding,
        "dtype": dtype,
    }
    return (
        attention_mask(BATCH, M, N, N - M, 0, **given),
        masking_utils.eager_mask(BATCH, M, N, N - M, 0, **given),
    )


def agree(mine: Tensor, eager: Tensor, inputs: tuple[Tensor, ...]) -> None:
    """Outputs and gradients are equal."""
    torch.testing.assert_close(mine, eager)
    weights = torch.randn_like(mine)
    found = torch.autograd.grad((mine * weights).sum(), inputs)
    wanted = torch.autograd.grad((eager * weights).sum(), inputs)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_softcap_with_grouped_heads_and_narrow_values() -> None:
    inputs, (pattern, dense) = tensors(), masks()
    mine, weights = attention_forward(Layer(), *inputs, pattern, scaling=0.3, softcap=2.5)
    eager, _ = modeling_gemma2.eager_attention_forward(Layer(), *inputs, dense, scaling=0.3, softcap=2.5)
    assert weights is None
    assert mine.shape == (BATCH, M, HEADS, VALUES)
    agree(mine, eager, inputs)


def test_sinks() -> None:
    inputs, (pattern, dense), layer = tensors(), masks(), Layer().double()
    mine, _ = attention_forward(layer, *inputs, pattern, scaling=0.3, s_aux=layer.sinks)
    eager, _ = modeling_gpt_oss.eager_attention_forward(layer, *inputs, dense, scaling=0.3)
    agree(mine, eager, (*inputs, layer.sinks))


def test_a_sink_for_each_row() -> None:
    inputs, (pattern, dense) = tensors(), masks()
    sinks = torch.randn(BATCH, HEADS, M, 1, dtype=torch.float64, requires_grad=True)
    mine, _ = attention_forward(Layer(), *inputs, pattern, scaling=0.3, sinks=sinks)
    q, k, v = inputs
    k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    scores = torch.cat([q @ k.mT * 0.3 + dense, sinks], -1).softmax(-1)[..., :-1]
    agree(mine, (scores @ v).transpose(1, 2), (*inputs, sinks))


@pytest.mark.parametrize("shape", [(1, HEADS, M, N), (BATCH, HEADS, M, N), (1, 1, M, N), (BATCH, HEADS, 1, N)])
def test_position_bias(shape: tuple[int, ...]) -> None:
    inputs, (pattern, dense) = tensors(HEADS), masks()
    bias = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    mine, _ = attention_forward(Layer(), *inputs, pattern, scaling=1.0, position_bias=bias)
    eager, _ = modeling_t5.eager_attention_forward(Layer(), *inputs, dense, scaling=1.0, position_bias=bias)
    agree(mine, eager, (*inputs, bias))


def test_keys_that_a_sparse_layer_has_chosen() -> None:
    inputs, (pattern, dense) = tensors(HEADS), masks()
    chosen = torch.stack([torch.randperm(N)[:5] for _ in range(BATCH * M)]).view(BATCH, M, 5)
    mine, _ = attention_forward(Layer(), *inputs, pattern, scaling=1.0, indices=chosen)
    left_out = torch.ones(BATCH, M, N, dtype=torch.bool).scatter(-1, chosen, False)[:, None]
    eager, _ = modeling_t5.eager_attention_forward(
        Layer(), *inputs, dense.masked_fill(left_out, torch.finfo(dense.dtype).min), scaling=1.0
    )
    some = ((dense == 0) & ~left_out).any(-1)[:, 0]  # rows that keep a key
    assert not some.all()
    agree(mine[some], eager[some], inputs)


def test_blocks_that_a_sparse_layer_has_chosen() -> None:
    inputs, (pattern, dense), layer = tensors(HEADS), masks(), Layer()
    chosen = torch.stack([torch.randperm(5)[:3] for _ in range(BATCH * 2 * M)]).view(BATCH, 2, M, 3)
    chosen[..., 2] = -1  # a slot without a block
    with pytest.raises(TypeError, match=r"block_indices: is given to Layer, which does not say how large a block is"):
        attention_forward(layer, *inputs, pattern, scaling=1.0, block_indices=chosen)
    layer.indexer, layer.config = SimpleNamespace(block_size=3), SimpleNamespace(num_attention_heads=HEADS)
    mine, _ = attention_forward(layer, *inputs, pattern, scaling=1.0, block_indices=chosen)
    kept = torch.zeros(BATCH, 2, M, 6, dtype=torch.bool).scatter(-1, chosen % 6, True)[..., :5]
    kept = kept.repeat_interleave(3, -1)[..., :N].repeat_interleave(HEADS // 2, 1)
    eager, _ = modeling_t5.eager_attention_forward(
        Layer(), *inputs, dense.masked_fill(~kept, torch.finfo(dense.dtype).min), scaling=1.0
    )
    some = ((dense == 0) & kept).any(-1).transpose(1, 2)
    assert not some.all()
    agree(mine[some], eager[some], inputs)


def test_a_tensor_in_the_masks_place() -> None:
    inputs, (_, dense) = tensors(HEADS), masks()
    for given in (dense, dense == 0, dense.expand(-1, HEADS, -1, -1)):
        eager, _ = modeling_t5.eager_attention_forward(Layer(), *inputs, dense, scaling=1.0)
        agree(attention_forward(Layer(), *inputs, given, scaling=1.0)[0], eager, inputs)


def test_keys_beyond_the_mask_take_no_part_and_missing_ones_are_cut_off() -> None:
    pattern, dense = masks()
    inputs = tensors(HEADS, N + 3)
    q, k, v = inputs
    eager, _ = modeling_t5.eager_attention_forward(Layer(), q, k[:, :, :N], v[:, :, :N], dense, scaling=1.0)
    agree(attention_forward(Layer(), *inputs, pattern, scaling=1.0)[0], eager, inputs)
    inputs = tensors(HEADS, N - 2)
    eager, _ = modeling_t5.eager_attention_forward(Layer(), *inputs, dense[..., : N - 2], scaling=1.0)
    agree(attention_forward(Layer(), *inputs, pattern, scaling=1.0)[0], eager, inputs)


def test_a_mask_of_one_key_is_broadcast_as_a_tensor_would_be() -> None:
    """The library makes such a mask where it takes the cache of another kind of layer for this one's."""
    q, k, v = tensors(HEADS)
    pattern = attention_mask(BATCH, 1, 1, dtype=torch.float64)
    mine, _ = attention_forward(Layer(), q[:, :, :1], k, v, pattern, scaling=1.0)
    eager, _ = modeling_t5.eager_attention_forward(
        Layer(), q[:, :, :1], k, v, masking_utils.eager_mask(BATCH, 1, 1, dtype=torch.float64), scaling=1.0
    )
    torch.testing.assert_close(mine, eager)


def test_dropout_in_training_only() -> None:
    (pattern, _), layer = masks(), Layer()
    q, k, _ = tensors()
    ones = torch.ones(BATCH, KV_HEADS, N, 1, dtype=torch.float64)
    whole, _ = attention_forward(layer, q, k, ones, pattern, scaling=0.3, dropout=0.5)
    torch.testing.assert_close(whole, torch.ones_like(whole))
    layer.train()
    some, _ = attention_forward(layer, q, k, ones, pattern, scaling=0.3, dropout=0.5)
    other, _ = attention_forward(layer, q, k, ones, pattern, scaling=0.3, dropout=0.5)
    assert not torch.allclose(some, whole)
    assert not torch.allclose(some, other)


def test_a_learned_scale_gets_its_gradient() -> None:
    inputs, (pattern, dense) = tensors(HEADS), masks()
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    mine, _ = attention_forward(Layer(), *inputs, pattern, scaling=scale)
    eager, _ = modeling_t5.eager_attention_forward(Layer(), *inputs, dense, scaling=scale)
    agree(mine, eager, (*inputs, scale))


def test_what_would_change_the_result_is_refused_by_name() -> None:
    (q, k, v), (pattern, _) = tensors(), masks()
    with pytest.raises(ValueError, match=r"attention_mask: is None, but Layer is causal, expected a mask"):
        attention_forward(Layer(), q, k, v, None)
    with pytest.raises(ValueError, match=r"attention_mask: is None"):
        attention_forward(Layer(is_causal=False), q, k, v, None, is_causal=True)
    assert attention_forward(Layer(is_causal=False), q, k, v, None)[0].shape == (BATCH, M, HEADS, VALUES)
    with pytest.raises(TypeError, match=r"output_attentions: is True, but attnc never holds the probabilities"):
        attention_forward(Layer(), q, k, v, pattern, output_attentions=True)
    with pytest.raises(ValueError, match=r"attention_mask: is made for 9 queries, expected the layer's, which are 3"):
        attention_forward(Layer(), q[:, :, :3], k, v, pattern)
    with pytest.raises(TypeError, match=r"attention_mask: has dtype torch.int64, expected bool"):
        attention_forward(Layer(), q, k, v, torch.ones(1, 1, M, N, dtype=torch.long))
    assert attention_forward(Layer(), q, k, v, pattern, sliding_window=5, cu_seq_lens_q=torch.ones(1))[0].ndim == 4


def test_a_keyword_that_only_eager_attention_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def eager_attention_forward(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, tilt: Any) -> None:
        """Reads one keyword more."""

    from attnc.integrations.transformers import scores

    scores._unknown.cache_clear()
    monkeypatch.setattr(modeling_t5, "eager_attention_forward", eager_attention_forward)
    (q, k, v), (pattern, _) = tensors(), masks()
    try:
        attention_forward(Layer(), q, k, v, pattern, tilt=None)
        with pytest.raises(TypeError, match=r"tilt: is given to Layer, whose eager attention reads it"):
            attention_forward(Layer(), q, k, v, pattern, tilt=2)
    finally:
        scores._unknown.cache_clear()


@pytest.mark.filterwarnings("default")
def test_packed_documents_are_kept_apart_where_the_library_mixes_them() -> None:
    integration.forget_warnings()
    torch.manual_seed(1)
    q, k, v = (torch.randn(1, HEADS, M, WIDTH, dtype=torch.float64) for _ in range(3))
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    pattern = attention_mask(1, M, M, mask_function=masking_utils.sliding_window_causal_mask_function(3))
    assert pattern is not None
    parts = [
        attention_mask(1, n, n, mask_function=masking_utils.sliding_window_causal_mask_function(3)) for n in (4, 5)
    ]
    alone = torch.cat(
        [
            attention_forward(Layer(), *(x[:, :, part] for x in (q, k, v)), mask, scaling=1.0)[0]
            for mask, part in zip(parts, (slice(0, 4), slice(4, 9)), strict=True)
        ],
        1,
    )
    with pytest.warns(UserWarning, match=r"position_ids hold several packed documents"):
        apart, _ = attention_forward(Layer(), q, k, v, pattern, scaling=1.0, position_ids=positions)
    torch.testing.assert_close(apart, alone)
    mixed, _ = attention_forward(Layer(), q, k, v, pattern, scaling=1.0)
    with integration.options(packing="library"):
        library, _ = attention_forward(Layer(), q, k, v, pattern, scaling=1.0, position_ids=positions)
    assert torch.equal(mixed, library)
    assert not torch.allclose(mixed, apart)
    for plain in (torch.arange(M)[None], torch.arange(M)[None] + 3, torch.tensor([[0, 1, 2, 5, 6, 7, 9, 10, 11]])):
        same, _ = attention_forward(Layer(), q, k, v, pattern, scaling=1.0, position_ids=plain)
        assert torch.equal(mixed, same)
    with pytest.raises(ValueError, match=r"packing: is 'no', expected one of 'documents', 'library'"):
        integration.set_options(packing="no")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("default")
def test_packed_documents_are_left_to_the_library_where_a_layer_chooses_keys() -> None:
    integration.forget_warnings()
    q, k, v = (torch.randn(1, HEADS, M, WIDTH) for _ in range(3))
    positions, chosen = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]]), torch.arange(M).expand(1, M, M)
    pattern = attention_mask(1, M, M)
    with pytest.warns(UserWarning, match=r"the layer has chosen its keys by it: a document sees those before it"):
        mixed, _ = attention_forward(Layer(), q, k, v, pattern, indices=chosen, position_ids=positions)
    torch.testing.assert_close(mixed, attention_forward(Layer(), q, k, v, pattern)[0])


def test_attnc_itself_does_not_import_transformers() -> None:
    code = "import attnc.integrations, sys; attnc.load('causal').causal(); print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
