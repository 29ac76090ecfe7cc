"""Today's language models, against the library's own attention: masks, outputs and gradients of tiny models.

Rows named ``all layers`` hold the layers of a published model against the library's configuration of it: what the last
query sees in each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import (
    Gemma2Config,
    Gemma2Model,
    Gemma3TextConfig,
    Gemma3TextModel,
    GptOssConfig,
    GptOssModel,
    Llama4TextConfig,
    Llama4TextModel,
    MistralConfig,
    MistralModel,
    ModernBertConfig,
    ModernBertModel,
    Olmo3Config,
    Olmo3Model,
    masking_utils,
)
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.gemma3 import modeling_gemma3
from transformers.models.gpt_oss import modeling_gpt_oss
from transformers.models.llama4 import modeling_llama4
from transformers.models.mistral import modeling_mistral
from transformers.models.modernbert import modeling_modernbert
from transformers.models.olmo3 import modeling_olmo3

import attnc
from tests.systems.hf_layers import (
    Learned,
    MaskFunction,
    beside,
    compared,
    dense,
    drawn,
    eager,
    last_rows,
    layer_calls,
    tokens,
)
from tests.systems.system import Compared, System

N, WINDOW = 41, 7
SIZES: dict[str, Any] = {
    "vocab_size": 60, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}

causal = masking_utils.causal_mask_function
sliding = masking_utils.sliding_window_causal_mask_function


def alternating(config: Any) -> dict[str, MaskFunction]:
    """The masks of a model whose layers see a window over the past, or all of it."""
    return {"sliding_attention": sliding(config.sliding_window), "full_attention": causal}


def mistral() -> Compared:
    """The second of two layers: all have the window."""
    config = MistralConfig(**GROUPED, sliding_window=WINDOW)
    call = layer_calls(drawn(MistralModel, config), modeling_mistral, input_ids=tokens(N))[1]
    return compared(call, attnc.load("mistral").mistral(WINDOW))


def mistral_layers() -> Compared:
    """The library's defaults are those of Mistral 7B."""
    config = MistralConfig()
    model = attnc.load("mistral").mistral_7b_v0_1()
    return last_rows(model, config, {"sliding_attention": sliding(config.sliding_window)}, 5000)


def gemma2(layer: int) -> Compared:
    """The cap is 2, so that it bends the small logits of a tiny model, too."""
    config = Gemma2Config(**GROUPED, sliding_window=WINDOW, query_pre_attn_scalar=8, attn_logit_softcapping=2.0)
    call = layer_calls(drawn(Gemma2Model, config), modeling_gemma2, input_ids=tokens(N))[layer]
    module = attnc.load("softcap")
    return compared(call, module.softcap_causal(cap=2.0) if layer else module.softcap(WINDOW, 2.0))


def gemma2_layers() -> Compared:
    """The library's defaults are those of Gemma 2 2B."""
    config = Gemma2Config()
    return last_rows(attnc.load("softcap").gemma2_2b(), config, alternating(config), 5000)


def gemma3(bidirectional: bool = False) -> Compared:
    """A local layer, of the decoder or of the encoder: the library halves the encoder's window."""
    config = Gemma3TextConfig(
        **GROUPED, sliding_window=WINDOW + 1, query_pre_attn_scalar=8, use_bidirectional_attention=bidirectional
    )
    call = layer_calls(drawn(Gemma3TextModel, config), modeling_gemma3, input_ids=tokens(N))[0]
    module = attnc.load("gemma3")
    return compared(call, module.embedding_gemma(WINDOW + 1) if bidirectional else module.gemma3(WINDOW + 1))


def gemma3_wide(layer: int) -> Compared:
    """The published scale, in a tiny model: the first layer is local, the sixth sees the whole past."""
    config = Gemma3TextConfig(
        **{**GROUPED, "num_hidden_layers": 6}, sliding_window=WINDOW, query_pre_attn_scalar=42 * 128 // 32
    )
    call = layer_calls(drawn(Gemma3TextModel, config), modeling_gemma3, input_ids=tokens(N))[layer]
    module = attnc.load("gemma3")
    return compared(call, module.gemma3_wide_causal() if layer else module.gemma3_wide(WINDOW))


def gemma3_layers(name: str, layers: int, heads: int, window: int) -> Compared:
    """The numbers are those of the library's conversion of the checkpoint."""
    config = Gemma3TextConfig(
        num_hidden_layers=layers, num_attention_heads=heads, hidden_size=heads * 64, sliding_window=window
    )
    return last_rows(attnc.load("gemma3")[name](), config, alternating(config), 2000)


def embedding_gemma_layers() -> Compared:
    """The windows lie on both sides, and full layers see what lies ahead, too."""
    config = Gemma3TextConfig(
        num_hidden_layers=24, num_attention_heads=3, hidden_size=768, sliding_window=512,
        use_bidirectional_attention=True,
    )  # fmt: skip
    window = modeling_gemma3._bidirectional_window_overlay(config.sliding_window)
    kinds = {"sliding_attention": window, "full_attention": masking_utils.bidirectional_mask_function}
    return last_rows(attnc.load("gemma3").embedding_gemma_300m(), config, kinds, 2000)


def olmo3() -> Compared:
    """The first of two layers: a window."""
    config = Olmo3Config(**SIZES, sliding_window=WINDOW)
    call = layer_calls(drawn(Olmo3Model, config), modeling_olmo3, input_ids=tokens(N))[0]
    return compared(call, attnc.load("olmo3").olmo3(WINDOW))


def olmo3_layers() -> Compared:
    """The library's defaults are those of OLMo 3 7B."""
    config = Olmo3Config()
    return last_rows(attnc.load("olmo3").olmo3_7b(), config, alternating(config), 5000)


def gpt_oss(layer: int) -> Compared:
    """With gradients of the learned logits."""
    sizes = {**GROUPED, "max_position_embeddings": 131072, "num_local_experts": 2, "num_experts_per_tok": 1}
    config = GptOssConfig(**sizes, sliding_window=WINDOW)
    call = layer_calls(drawn(GptOssModel, config), modeling_gpt_oss, input_ids=tokens(N))[layer]
    module = attnc.load("gpt_oss")
    sinks: Any = call.module.sinks
    attend = module.gpt_oss_causal() if layer else module.gpt_oss(size=WINDOW)
    return compared(call, attend, learned={"logit": Learned(sinks)})


def gpt_oss_layers(name: str, layers: int) -> Compared:
    """The library's defaults are those of the model of 120B; that of 20B has fewer layers."""
    config = GptOssConfig(num_hidden_layers=layers)
    return last_rows(attnc.load("gpt_oss")[name](), config, alternating(config), 600)


def modernbert() -> Compared:
    """The second of two layers: the first is full. ``local_attention`` is 8."""
    config = ModernBertConfig(**SIZES, local_attention=8, sep_token_id=2, cls_token_id=1)
    call = layer_calls(drawn(ModernBertModel, config), modeling_modernbert, input_ids=tokens(N))[1]
    return compared(call, attnc.load("modernbert").modernbert(8))


def modernbert_layers() -> Compared:
    """The library's defaults are those of ModernBERT base."""
    config = ModernBertConfig()
    kinds = {
        "sliding_attention": masking_utils.sliding_window_bidirectional_mask_function(config.sliding_window),
        "full_attention": masking_utils.bidirectional_mask_function,
    }
    return last_rows(attnc.load("modernbert").modernbert_base(), config, kinds, 500)


def llama4(layer: int) -> Compared:
    """Padding on the left, of 0 and of 5 tokens: rows of padding keep no key."""
    config = Llama4TextConfig(
        **{**GROUPED, "num_hidden_layers": 4}, attention_chunk_size=WINDOW, num_local_experts=2,
        intermediate_size_mlp=32,
    )  # fmt: skip
    left = torch.tensor([0, 5])
    real = torch.arange(N) >= left[:, None]
    model = drawn(Llama4TextModel, config)
    call = layer_calls(model, modeling_llama4, input_ids=tokens(N), attention_mask=real.long())[layer]
    module = attnc.load("llama4")
    attend = module.llama4(chunk=WINDOW) if layer < 3 else module.llama4_causal()
    return compared(call, attend, real, left=left)


def llama4_layers() -> Compared:
    """The library's defaults are those of Llama 4 Scout."""
    config = Llama4TextConfig()
    chunks = masking_utils.chunked_causal_mask_function(config.attention_chunk_size, torch.zeros(1, dtype=torch.int64))
    kinds = {"chunked_attention": chunks, "full_attention": causal}
    return last_rows(attnc.load("llama4").llama4_scout(), config, kinds, 9000)


def timed_gpt_oss(layer: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The library knows these layers in its eager form alone."""
    sinks = torch.randn(2, generator=torch.Generator().manual_seed(1))
    mask = causal if layer else sliding(128)
    module = attnc.load("gpt_oss")
    attend = module.gpt_oss_causal() if layer else module.gpt_oss()
    theirs = eager(modeling_gpt_oss.eager_attention_forward, mask, sinks=sinks)
    return beside(attend, theirs, heads=(2, 1), logit=sinks)


def all_layers(
    name: str, paper: str, shipped: str, original: str, compare: Callable[[], Compared], window: int, layer: int = 0
) -> System:
    """A row that holds the layers of a published model; its picture is of the first that has the window."""
    picture = (shipped, "--layer", str(layer), "--n", str(4 * window))
    judge = f"transformers, {original} and mask functions"
    return System(f"{name}, all layers", paper, shipped, judge, True, compare, picture)


DOUBLE = "in float64"
JIANG, RIVIERE, KAMATH = "Jiang et al., 2023", "Gemma Team, 2024", "Gemma Team, 2025"
VERA, OPENAI, WARNER, META, OLMO = (
    "Schechter Vera et al., 2025",
    "OpenAI, 2025",
    "Warner et al., 2024",
    "Meta, 2025",
    "Olmo Team, 2025",
)

SYSTEMS: tuple[System, ...] = (
    System(
        "Mistral 7B", JIANG, "mistral:mistral", "transformers, MistralAttention", True, mistral,
        ("mistral:mistral", "--n", "32", "--set", "size=8"),
        timed=lambda: beside(attnc.load("mistral").mistral(), dense(sliding(4096), 8192), 8192, (2, 1)), note=DOUBLE,
    ),
    all_layers("Mistral 7B v0.1", JIANG, "mistral:mistral_7b_v0_1", "MistralConfig", mistral_layers, 4096),
    System(
        "Gemma 2, local layers", RIVIERE, "softcap:softcap", "transformers, Gemma2Attention", True, lambda: gemma2(0),
        ("softcap:softcap", "--n", "32", "--set", "size=8"), note=DOUBLE,
    ),
    System(
        "Gemma 2, full layers", RIVIERE, "softcap:softcap_causal", "transformers, Gemma2Attention", True,
        lambda: gemma2(1), ("softcap:softcap_causal", "--n", "32"),
        timed=lambda: beside(
            attnc.load("softcap").softcap_causal(),
            eager(modeling_gemma2.eager_attention_forward, causal, softcap=50.0),
            heads=(2, 1),
        ), note=DOUBLE,
    ),
    all_layers("Gemma 2 2B", RIVIERE, "softcap:gemma2_2b", "Gemma2Config", gemma2_layers, 4096),
    System(
        "Gemma 3, local layers", KAMATH, "gemma3:gemma3", "transformers, Gemma3Attention", True, gemma3,
        ("gemma3:gemma3", "--n", "32", "--set", "size=8"),
        timed=lambda: beside(attnc.load("gemma3").gemma3(512), dense(sliding(512))), note=DOUBLE,
    ),
    System(
        "Gemma 3 27B, local layers", KAMATH, "gemma3:gemma3_wide", "transformers, Gemma3Attention", True,
        lambda: gemma3_wide(0), ("gemma3:gemma3_wide", "--n", "32", "--set", "size=8"), note=DOUBLE,
    ),
    System(
        "Gemma 3 27B, full layers", KAMATH, "gemma3:gemma3_wide_causal", "transformers, Gemma3Attention", True,
        lambda: gemma3_wide(5), ("gemma3:gemma3_wide_causal", "--n", "32"), note=DOUBLE,
    ),
    *(
        all_layers(
            f"Gemma 3 {name.upper()}", KAMATH, f"gemma3:gemma3_{name}", "Gemma3TextConfig",
            partial(gemma3_layers, f"gemma3_{name}", layers, heads, window), window,
        )
        for name, layers, heads, window in (
            ("270m", 18, 4, 512), ("1b", 26, 4, 512), ("4b", 34, 8, 1024), ("12b", 48, 16, 1024), ("27b", 62, 32, 1024),
        )
    ),
    System(
        "EmbeddingGemma, local layers", VERA, "gemma3:embedding_gemma", "transformers, Gemma3Attention", True,
        lambda: gemma3(bidirectional=True), ("gemma3:embedding_gemma", "--n", "32", "--set", "size=8"), note=DOUBLE,
    ),
    all_layers(
        "EmbeddingGemma 300M", VERA, "gemma3:embedding_gemma_300m", "Gemma3TextConfig", embedding_gemma_layers, 512
    ),
    System(
        "OLMo 3, local layers", OLMO, "olmo3:olmo3", "transformers, Olmo3Attention", True, olmo3,
        ("olmo3:olmo3", "--n", "32", "--set", "size=8"), note=DOUBLE,
    ),
    all_layers("OLMo 3 7B", OLMO, "olmo3:olmo3_7b", "Olmo3Config", olmo3_layers, 4096),
    System(
        "GPT-OSS, local layers", OPENAI, "gpt_oss:gpt_oss", "transformers, GptOssAttention", True, lambda: gpt_oss(0),
        ("gpt_oss:gpt_oss", "--n", "32", "--set", "size=8"), timed=lambda: timed_gpt_oss(0), note=DOUBLE,
    ),
    System(
        "GPT-OSS, full layers", OPENAI, "gpt_oss:gpt_oss_causal", "transformers, GptOssAttention", True,
        lambda: gpt_oss(1), ("gpt_oss:gpt_oss_causal", "--n", "32"), timed=lambda: timed_gpt_oss(1), note=DOUBLE,
    ),
    all_layers(
        "GPT-OSS 20B", OPENAI, "gpt_oss:gpt_oss_20b", "GptOssConfig", lambda: gpt_oss_layers("gpt_oss_20b", 24), 128
    ),
    all_layers(
        "GPT-OSS 120B", OPENAI, "gpt_oss:gpt_oss_120b", "GptOssConfig", lambda: gpt_oss_layers("gpt_oss_120b", 36), 128
    ),
    System(
        "ModernBERT, local layers", WARNER, "modernbert:modernbert", "transformers, ModernBertAttention", True,
        modernbert, ("modernbert:modernbert", "--n", "32", "--set", "size=8"),
        timed=lambda: beside(
            attnc.load("modernbert").modernbert(),
            dense(masking_utils.sliding_window_bidirectional_mask_function(64), groups=1), heads=(4, 4),
        ), note=DOUBLE,
    ),
    all_layers("ModernBERT base", WARNER, "modernbert:modernbert_base", "ModernBertConfig", modernbert_layers, 128, 1),
    System(
        "Llama 4, local layers", META, "llama4:llama4", "transformers, Llama4TextAttention", True, lambda: llama4(1),
        ("llama4:llama4", "--n", "32", "--set", "chunk=8", "--set", "left=3"),
        note=f"{DOUBLE}; the rows of padding, which keep no key, are left out",
    ),
    System(
        "Llama 4, full layers", META, "llama4:llama4_causal", "transformers, Llama4TextAttention", True,
        lambda: llama4(3), ("llama4:llama4_causal", "--n", "32", "--set", "left=3"),
        note=f"{DOUBLE}; the rows of padding, which keep no key, are left out",
    ),
    all_layers("Llama 4 Scout", META, "llama4:llama4_scout", "Llama4TextConfig", llama4_layers, 8192),
)  # fmt: skip
