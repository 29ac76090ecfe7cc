"""Layers and modules as a whole, projections and all, ours with the same weights: at length."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, DeepseekV32Config
from transformers.models.deepseek_v32 import modeling_deepseek_v32
from transformers.models.led.modeling_led import LEDEncoderSelfAttention
from transformers.models.reformer.modeling_reformer import LocalSelfAttention, LSHSelfAttention
from transformers.models.swinv2 import modeling_swinv2
from transformers.models.swinv2.configuration_swinv2 import Swinv2Config

import attnc
from tests.systems import long_documents, originals, reformer_layers
from tests.systems.layers import drawn_layer, merged, split
from tests.systems.speeds.beside import DIM, Calls, Timed, drawn, without_gradients
from tests.systems.vision import axial_modules

# Long documents.


def led() -> Calls:
    """A layer of led-base-16384 on 4,096 tokens, of which the first is global."""
    layer = drawn_layer(LEDEncoderSelfAttention(long_documents.led_config(768, 12, 1024), 0))
    (hidden,), kind = drawn((1, 4096, 768)), torch.ones(1, 4096, dtype=torch.long)
    kind[0, 0] = 2
    return without_gradients(
        lambda: long_documents.windowed(layer, hidden, kind), lambda: long_documents.their_windowed(layer, hidden, kind)
    )


def bigbird_in_training() -> Calls:
    """A layer of bigbird-roberta-base on 3,968 tokens; both sides draw its blocks at each call, by its functions."""
    layer = drawn_layer(long_documents.bigbird_layer(768, 12, block=64, longest=4096)).train()
    (hidden,), real = drawn((1, 3968, 768)), torch.ones(1, 3968, dtype=torch.bool)
    return without_gradients(
        lambda: long_documents.our_bigbird(layer, hidden, real),
        lambda: long_documents.their_bigbird(layer, hidden, real),
    )


def reformer_hashed() -> Calls:
    """google/reformer-enwik8's numbers in a layer that is not causal, 2,048 characters; ours hashes as it does."""
    config = reformer_layers.reformer_config(1024, 128, 8, False, 1, **reformer_layers.ENWIK8)
    layer = drawn_layer(LSHSelfAttention(config))
    (hidden,) = drawn((1, 2048, 1024))

    def ours() -> Tensor:
        q = split(layer.query_key(hidden), layer.attention_head_size)
        buckets = layer._hash_vectors(q, layer.num_hashes, None).view(*q.shape[:2], layer.num_hashes, -1)
        return reformer_layers.our_hashed(layer, hidden, reformer_layers.places(buckets))

    return without_gradients(ours, lambda: layer(hidden).hidden_states)


def reformer_local() -> Calls:
    """The same for its local layers, on 4,096."""
    config = reformer_layers.reformer_config(1024, 128, 8, False, 1, **reformer_layers.ENWIK8)
    layer = drawn_layer(LocalSelfAttention(config))
    (hidden,) = drawn((1, 4096, 1024))
    return without_gradients(lambda: reformer_layers.our_local(layer, hidden), lambda: layer(hidden).hidden_states)


# Images and videos.


def axial_3d() -> Calls:
    """A video of 8 by 32 by 32 tokens, 8 heads of 32."""
    module, ours = axial_modules((8, 32, 32), heads=8, dim=256)
    (x,) = drawn((1, 8, 32, 32, 256))
    return without_gradients(lambda: ours(x), lambda: module(x))


def swin_v2() -> Calls:
    """The second layer of swinv2-tiny-patch4-window8-256: 64 by 64 tokens, 3 heads of 32."""
    config = Swinv2Config(window_size=8, embed_dim=96, drop_path_rate=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = modeling_swinv2.Swinv2Layer(config, 96, (64, 64), 3, shift_size=4).eval()
    part = layer.attention.self
    attend = attnc.load("swin").swin_v2(window=8, shift=4)
    (x,) = drawn((1, 4096, 96))

    def ours() -> Any:
        q, k, v = (split(project(x), 32) for project in (part.query, part.key, part.value))
        q, k = nn.functional.normalize(q, dim=-1), nn.functional.normalize(k, dim=-1)
        bias = part.continuous_position_bias_mlp(part.relative_coords_table)[0].permute(2, 0, 1)
        out = attend(q, k, v, width=64, bias=bias, logit_scale=part.logit_scale.flatten())
        first = x + layer.layernorm_before(layer.attention.output(merged(out), x))
        return first + layer.layernorm_after(layer.output(layer.intermediate(first)))

    return without_gradients(ours, lambda: layer(x, (64, 64))[0])


# Images and texts beside a text.


def flamingo(immediate: bool) -> Calls:
    """A text of 4,096 tokens with 16 images of 64, the first before it, 8 heads of 64."""
    torch.manual_seed(0)
    made = originals.module("flamingo_pytorch.flamingo_pytorch").MaskedCrossAttention
    module = made(dim=512, only_attend_immediate_media=immediate).eval()
    located = (torch.arange(4096) % 256 == 0)[None]
    image = located.cumsum(-1)[0] - 1
    x, media = drawn((1, 4096, 512), (1, 16, 64, 512))
    file = attnc.load("flamingo")
    attend = file.flamingo() if immediate else file.flamingo_all()

    def ours() -> Any:
        q = module.to_q(module.norm(x))
        k, v = module.to_kv(media.flatten(1, 2)).chunk(2, -1)
        return module.to_out(merged(attend(*(split(one, DIM) for one in (q, k, v)), image=image)))

    return without_gradients(ours, lambda: module(x, media, media_locations=located))


def retro() -> Calls:
    """4,096 tokens in chunks of 64, with two texts of 128 retrieved for each, 8 heads of 64, rotated by no angle."""
    torch.manual_seed(0)
    stubs = {"retro_pytorch.retrieval": SimpleNamespace(BERT_VOCAB_SIZE=0)}
    assert originals.module("einops")
    made = originals.single("retro_pytorch/retro_pytorch.py", stubs).ChunkedCrossAttention
    module = made(chunk_size=64, dim=512, heads=8, dim_head=DIM).eval()
    inner, still = module.cross_attn, (torch.zeros(1, 1, 64, DIM), torch.zeros(1, 1, 128, DIM))
    attend, first = attnc.load("retro").retro(chunk=64, retrieved=256), attnc.load("full").full()
    x, retrieved = drawn((1, 4096, 512), (1, 64, 2, 128, 512))
    seeing = (torch.arange(4096) >= 63)[:, None]

    def ours() -> Any:
        texts = retrieved.flatten(1, 3)
        q, k, v = (split(one, DIM) for one in (inner.to_q(x), inner.to_k(texts), inner.to_v(texts)))
        null = (one.view(1, 8, 1, DIM) for one in (inner.null_k, inner.null_v))
        parts = [attend(q, k, v, return_lse=True), first(q, *null, return_lse=True)]
        return inner.to_out(merged(attnc.merge(parts)[0])) * seeing

    return without_gradients(ours, lambda: module(x, context=retrieved, pos_emb=still))


# Chosen at run time.


def deepseek() -> Calls:
    """2,048 tokens, 16 heads of 128, 256 keys chosen for each query; both sides with the layer's indexer."""
    torch.manual_seed(0)
    ranks = {"kv_lora_rank": 128, "q_lora_rank": 256, "qk_rope_head_dim": 64, "qk_nope_head_dim": 64, "v_head_dim": 128}
    index = {"index_topk": 256, "index_head_dim": 128, "index_n_heads": 4}
    config = DeepseekV32Config(hidden_size=1024, num_attention_heads=16, num_key_value_heads=16, **ranks, **index)
    layer, n = modeling_deepseek_v32.DeepseekV32Attention(config, 0).eval(), 2048
    attend = attnc.load("deepseek_sparse").deepseek_sparse()

    def own(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, scaling: float, indices: Tensor, **_: Any) -> Any:
        return attend(q, k, v, scale=scaling, chosen=indices).transpose(1, 2), None

    AttentionInterface.register("attnc_timed", own)
    (x,) = drawn((1, n, 1024))
    turns = modeling_deepseek_v32.DeepseekV32RotaryEmbedding(config)(x, torch.arange(n)[None])
    added = torch.zeros(n, n).masked_fill(torch.ones(n, n).triu(1).bool(), torch.finfo(torch.float32).min)[None, None]

    def call(implementation: str) -> Callable[[], Any]:
        def run() -> Any:
            config._attn_implementation = implementation
            return layer(x, turns, added)[0]

        return run

    return without_gradients(call("attnc_timed"), call("eager"))


TIMED: Mapping[str, Timed] = {
    "Longformer, encoder of LED": led,
    "BigBird, training": bigbird_in_training,
    "Reformer, LSH": reformer_hashed,
    "Reformer, local": reformer_local,
    "Axial attention, three dimensions": axial_3d,
    "Swin V2, shifted windows": swin_v2,
    "Flamingo": lambda: flamingo(True),
    "Flamingo, all images before": lambda: flamingo(False),
    "RETRO": retro,
    "DeepSeek sparse attention": deepseek,
}
