"""Masks that transformers makes, under which its default attention, PyTorch's, attends; or a model's own where it must.

The library makes a mask once for all layers of a kind, and so is it here: it is not timed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import Gemma3TextConfig, GemmaConfig, PaliGemmaConfig, masking_utils
from transformers import modeling_flash_attention_utils as flash
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.gemma3 import modeling_gemma3
from transformers.models.idefics import processing_idefics
from transformers.models.mllama import modeling_mllama, processing_mllama
from transformers.models.paligemma.modeling_paligemma import PaliGemmaForConditionalGeneration

import attnc
from tests.systems import hf_layers
from tests.systems.packing import packed_long
from tests.systems.speeds.beside import Attends, Calls, Timed, beside, library, made_mask, mask_of

causal = masking_utils.causal_mask_function
sliding = masking_utils.sliding_window_causal_mask_function
N = 4096
IMAGE = 7

# Language models.


def gemma2_window() -> Calls:
    """The model's own attention: PyTorch's has no cap."""
    theirs = hf_layers.eager(modeling_gemma2.eager_attention_forward, sliding(4096), 8192, groups=1, softcap=50.0)
    return beside(attnc.load("softcap").softcap(), lambda q, k, v: theirs(q, k, v)[0].transpose(1, 2), 8192, (1, 1))


def gemma3_wide(local: bool) -> Calls:
    """Four of its heads of 128."""
    module, mask = attnc.load("gemma3"), mask_of(sliding(1024), N) if local else None
    theirs = library(mask, groups=2, scaling=168**-0.5, causal=not local)
    return beside(module.gemma3_wide() if local else module.gemma3_wide_causal(), theirs, heads=(4, 2), dim=128)


def embedding_gemma() -> Calls:
    """The library halves the window that a configuration names."""
    config = Gemma3TextConfig(sliding_window=512, use_bidirectional_attention=True)
    mask = mask_of(modeling_gemma3._bidirectional_window_overlay(config.sliding_window), N)
    return beside(attnc.load("gemma3").embedding_gemma(), library(mask, groups=3), heads=(3, 1), dim=256)


def olmo3() -> Calls:
    return beside(attnc.load("olmo3").olmo3(), library(mask_of(sliding(4096), 8192)), 8192, (2, 2), dim=128)


def llama4(local: bool) -> Calls:
    """Chunks of 2,048 in 8,192 tokens, a quarter of the published; or all of 4,096. 100 tokens on the left are padding,
    whose rows are left out.
    """
    module, left, n = attnc.load("llama4"), torch.tensor([100]), 8192 if local else N
    real = torch.arange(n) >= left[:, None]
    function = masking_utils.chunked_causal_mask_function(2048, left) if local else causal
    padded = masking_utils.and_masks(function, masking_utils.padding_mask_function(real))
    attend = module.llama4(chunk=2048) if local else module.llama4_causal()
    return behind(100, attend, library(mask_of(padded, n), groups=2), n, (4, 2), left=left)


# Padding and packing.


def behind(first: int, ours: Attends, theirs: Attends, n: int, heads: tuple[int, int], **tables: Any) -> Calls:
    """Both, of which the rows before ``first`` are left out."""

    def cut(attend: Attends) -> Attends:
        return lambda q, k, v, **given: attend(q, k, v, **given)[:, :, first:]

    return beside(cut(ours), cut(theirs), n, heads, **tables)


def full_padding() -> Calls:
    real = torch.arange(N) < 3000
    mask = made_mask("create_bidirectional_mask", N, attention_mask=real[None])
    return beside(attnc.load("std").padded(), library(mask), length=torch.tensor([3000]))


def padding() -> Calls:
    real = torch.arange(N) % 5 != 2
    mask = made_mask("create_bidirectional_mask", N, attention_mask=real[None])
    return beside(attnc.load("padding").padding(), library(mask), real=real)


def unpadded() -> Calls:
    """The library takes the padding out, attends, and puts rows of zeros in its place."""
    real = torch.arange(N) >= 1000
    inner = library(None)

    def theirs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        packed = [flash._unpad_input(one.transpose(1, 2), real[None])[0] for one in (q, k, v)]
        out = inner(*(one.transpose(0, 1)[None] for one in packed))[0].transpose(0, 1)
        return flash._pad_input(out, real.nonzero().flatten(), 1, N).transpose(1, 2)

    return beside(attnc.load("padding").unpadded(), theirs, real=real)


def left_padding(window: int | None = None) -> Calls:
    real, module = torch.arange(N) >= 1000, attnc.load("padding")
    maker = "create_sliding_window_causal_mask" if window else "create_causal_mask"
    mask = made_mask(maker, N, window or N, attention_mask=real[None])
    attend = module.left_padding_window(size=window) if window else module.left_padding()
    return behind(1000, attend, library(mask), N, (8, 8), start=1000)


def window_documents() -> Calls:
    doc, offsets = packed_long()
    positions = torch.arange(N) - offsets[doc]
    mask = made_mask("create_sliding_window_causal_mask", N, 512, position_ids=positions[None])
    return beside(attnc.load("documents").window_documents(size=512), library(mask), doc=doc)


# Images in a text.


def paligemma() -> Calls:
    """An image of 1,024 tokens and a prompt of 100, then the answer."""
    config = PaliGemmaConfig(text_config=GemmaConfig())
    config.get_text_config()._attn_implementation = "sdpa"
    answer = (torch.arange(2048) >= 1124).long()
    mask = PaliGemmaForConditionalGeneration.create_masks_for_generate(
        config, torch.zeros(1, 2048, 8), None, None, torch.arange(2048)[None], token_type_ids=answer[None]
    )
    attend = attnc.load("image_spans").image_prefix()
    return beside(attend, library(mask, groups=8), 2048, (8, 1), dim=256, prompt=answer == 0)


def gemma3_images(local: bool) -> Calls:
    """Six images of 256 tokens in a text of 4,096."""
    config = Gemma3TextConfig(sliding_window=1024)
    config._attn_implementation = "sdpa"
    kinds = torch.zeros(1, N, dtype=torch.long)
    for start in range(100, 3400, 600):
        kinds[:, start : start + 256] = 1
    images = modeling_gemma3.get_block_sequence_ids_for_mask(kinds)
    masks = modeling_gemma3.create_masks_for_vision_model(
        config, torch.zeros(1, N, 8), None, None, torch.arange(N)[None], images
    )
    module = attnc.load("image_spans")
    attend = module.image_spans_window() if local else module.image_spans()
    theirs = library(masks["sliding_attention" if local else "full_attention"], groups=2)
    return beside(attend, theirs, heads=(8, 4), image=images[0])


def text_with_images(n: int, count: int) -> Tensor:
    """Ids ``[1, n]`` of a text with images at equal distances, the first at its start."""
    ids = torch.arange(n) % 5
    ids[:: n // count] = IMAGE
    return ids[None]


def idefics() -> Calls:
    """A text of 4,096 tokens that looks at 16 images of 64; the layer clears rows that see none."""
    tokenizer = SimpleNamespace(convert_tokens_to_ids=lambda token: IMAGE, eos_token_id=9)
    seen, _ = processing_idefics.image_attention_mask_for_packed_input_ids(text_with_images(N, 16), tokenizer, "pt")
    image = seen[0].clone()
    binary = processing_idefics.incremental_to_binary_attention_mask(seen, "pt", num_classes=16)
    mask = binary.bool().repeat_interleave(64, -1)[:, None]
    gate, inner = mask.any(-1, keepdim=True), library(mask)
    attend = attnc.load("flamingo").flamingo()
    return beside(attend, lambda q, k, v: inner(q, k, v) * gate, 16 * 64, (16, 16), m=N, image=image)


def mllama() -> Calls:
    """A text of 1,024 tokens that looks at two images of 1,601, from its first token on."""
    spans = processing_mllama.get_cross_attention_token_mask(text_with_images(1024, 2)[0].tolist(), IMAGE)
    dense = processing_mllama.convert_sparse_cross_attention_mask_to_dense([spans], [[1, 1]], 1, 1024)
    added, _ = modeling_mllama._prepare_cross_attention_mask(torch.tensor(dense), 1601, torch.float32)
    attend = attnc.load("flamingo").flamingo_spans(size=1601)
    span = torch.tensor([[start, end if end >= 0 else 1024] for start, end in spans])
    return beside(attend, library(added, groups=4), 2 * 1601, (8, 2), dim=128, m=1024, span=span)


TIMED: Mapping[str, Timed] = {
    "Full attention with padding": full_padding,
    "Gemma 2, local layers": gemma2_window,
    "Gemma 3 27B, local layers": lambda: gemma3_wide(True),
    "Gemma 3 27B, full layers": lambda: gemma3_wide(False),
    "EmbeddingGemma, local layers": embedding_gemma,
    "OLMo 3, local layers": olmo3,
    "Llama 4, local layers": lambda: llama4(True),
    "Llama 4, full layers": lambda: llama4(False),
    "Padding": padding,
    "Padding, rows too": unpadded,
    "Padding on the left": left_padding,
    "Padding on the left, window": lambda: left_padding(1024),
    "Packed documents, window": window_documents,
    "PaliGemma": paligemma,
    "Gemma 3 with images": lambda: gemma3_images(False),
    "Gemma 3 with images, window": lambda: gemma3_images(True),
    "IDEFICS": idefics,
    "Llama 3.2 Vision": mllama,
}
