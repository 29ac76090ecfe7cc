"""Tiny configurations of any model type: the library's defaults, with sizes by the names that configurations use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, WINDOW, VOCABULARY, LONGEST = 32, 2, 4, 2, 8, 7, 99, 64


LAYER_COUNTS = ["num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers", "decoder_layers"]


def _named(names: str, value: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), value)


SIZES: Mapping[str, Any] = {
    **_named("hidden_size d_model n_embd dim embed_dim embedding_size embedding_dim word_embed_proj_dim", HIDDEN),
    **_named("projection_dim hidden_dim decoder_hidden_size encoder_hidden_size output_dim codebook_dim", HIDDEN),
    **_named("pooler_hidden_size projector_hidden_size out_hidden_size mm_hidden_size", HIDDEN),
    **_named("num_hidden_layers n_layer num_layers n_layers encoder_layers decoder_layers depth", LAYERS),
    **_named("num_encoder_layers num_decoder_layers encoder_num_hidden_layers decoder_num_hidden_layers", LAYERS),
    **_named("num_attention_heads n_head num_heads n_heads encoder_attention_heads decoder_attention_heads", HEADS),
    **_named("encoder_num_attention_heads decoder_num_attention_heads attention_heads", HEADS),
    **_named("num_key_value_heads num_kv_heads n_kv_heads n_head_kv", KV_HEADS),
    **_named("encoder_num_key_value_heads decoder_num_key_value_heads", HEADS),
    **_named("swa_num_attention_heads", HEADS),
    **_named("swa_num_key_value_heads", KV_HEADS),
    **_named("head_dim attention_head_dim d_kv global_head_dim swa_head_dim", HEAD_DIM),
    **_named("intermediate_size ffn_dim d_ff n_inner ffn_hidden_size encoder_ffn_dim decoder_ffn_dim mlp_dim", 64),
    **_named("moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size", 32),
    **_named("vocab_size", VOCABULARY),
    **_named("max_position_embeddings n_positions max_source_positions max_target_positions n_ctx seq_length", LONGEST),
    **_named("sliding_window attention_chunk_size local_attention attention_window sliding_window_size", WINDOW),
    **_named("num_experts num_local_experts n_routed_experts moe_num_experts", 4),
    **_named("num_experts_per_tok moe_k moe_topk num_experts_per_token", 2),
    **_named("n_group topk_group n_shared_experts num_shared_experts moe_num_shared_experts", 1),
    **_named("first_k_dense_replace", 1),
    **_named("q_lora_rank kv_lora_rank o_lora_rank", 16),
    **_named("qk_nope_head_dim qk_rope_head_dim v_head_dim", HEAD_DIM),
    **_named("qk_head_dim", 2 * HEAD_DIM),
    **_named("rotary_dim", 4),
    **_named("vocab_size_per_layer_input", VOCABULARY),
    **_named("hidden_size_per_layer_input", 8),
    **_named("mamba_n_heads mamba_num_heads", 4),
    **_named("mamba_d_head mamba_head_dim", 16),
    **_named("mamba_n_groups", 1),
    **_named("linear_num_key_heads linear_num_value_heads", 2),
    **_named("linear_key_head_dim linear_value_head_dim", HEAD_DIM),
    **_named("index_n_heads", 4),
    **_named("index_head_dim", 16),
    **_named("index_topk", 8),
    **_named("image_size", 16),
    **_named("patch_size", 4),
    **_named("num_mel_bins", 16),
    **_named("pad_token_id", 0),
    **_named("bos_token_id decoder_start_token_id", 1),
    **_named("eos_token_id", 2),
    **_named("type_vocab_size", 2),
    **_named("use_sliding_window", True),
    **_named("max_window_layers", 1),
    **_named("layerdrop encoder_layerdrop decoder_layerdrop", 0.0),
}


class UnbuildableError(Exception):
    """A configuration that generic sizes do not fit."""


def tiny_config(model_type: str, layers: int = LAYERS) -> PretrainedConfig:
    """The tiny configuration of a model type."""
    return _tiny(CONFIG_MAPPING[model_type], layers)


def _tiny(kind: type[PretrainedConfig], layers: int) -> PretrainedConfig:
    default = kind()
    held = {**default.__dict__}
    given: dict[str, Any] = {}
    attributes = {**default.attribute_map}
    for name in (*held, *attributes):
        if name in SIZES and (held.get(attributes.get(name, name)) is not None or name in ("sliding_window",)):
            if isinstance(held.get(attributes.get(name, name)), (int, float)):
                given[attributes.get(name, name)] = SIZES[name]
        elif isinstance(held.get(name), float) and "drop" in name:
            given[name] = 0.0
        elif name.endswith("_token_id") and isinstance(held.get(name), int) and held[name] >= VOCABULARY:
            given[name] = VOCABULARY - 1 - len([key for key in given if key.endswith("_token_id")])
    for name in kind.sub_configs or {}:
        inner = getattr(default, name, None)
        if isinstance(inner, PretrainedConfig):
            given[name] = _tiny(type(inner), layers).to_dict()
    for name in ("vocab_size", "head_dim"):
        if name in held and held[name] is None:
            given[name] = SIZES[name]
    if "kv_lora_rank" in held and "num_key_value_heads" in given:
        given["num_key_value_heads"] = HEADS  # latent attention makes a key for every head
    if "mrope_section" in getattr(kind, "ignore_keys_at_rope_validation", ()):
        rope = dict(held.get("rope_parameters") or {"rope_type": "default", "rope_theta": 10000.0})
        given["rope_parameters"] = {**rope, "mrope_section": [2, 1, 1]}
    if layers != LAYERS:
        given.update(dict.fromkeys((name for name in given if name in LAYER_COUNTS), layers))
    return kind(**given)


def of_names(config: PretrainedConfig, names: Iterable[str]) -> Any:
    """The first of these attributes that a configuration or its text part has."""
    for each in (config, config.get_text_config()):
        for name in names:
            value = getattr(each, name, None)
            if value is not None:
                return value
    return None
