"""Packed and padded sequences, prefixes, images in a text, block diffusion, shared prefixes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

import attnc
from tests.systems import originals
from tests.systems.system import Compared, System

Call = Callable[..., Tensor]
LENGTHS = [7, 1, 40, 23, 2, 31]
N = sum(LENGTHS)
DOCUMENTS = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
OFFSETS = torch.tensor([0, *LENGTHS]).cumsum(0)


def compared(
    ours: Call, theirs: Call, inputs: Mapping[str, Tensor], mask: tuple[Tensor, Tensor] | None = None
) -> Compared:
    """Calls both with the same inputs, by name, and takes the gradients of one random sum of the outputs."""
    sides = []
    for side in (ours, theirs):
        leaves = {name: values.clone().requires_grad_() for name, values in inputs.items()}
        out = side(**leaves)
        weights = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(1))
        gradients = torch.autograd.grad((out * weights).sum(), list(leaves.values()))
        sides.append((out.detach(), dict(zip(leaves, gradients, strict=True))))
    (a, da), (b, db) = sides
    return Compared(mask, (a, b), {name: (da[name], db[name]) for name in da})


def qkv(n: int = N, m: int | None = None, heads: int = 2, kv_heads: int | None = None) -> dict[str, Tensor]:
    """Random q `[1, heads, m, 16]`, k and v `[1, kv_heads, n, 16]`."""
    made = torch.Generator().manual_seed(0)
    rows = {"q": (heads, n if m is None else m), "k": (kv_heads or heads, n), "v": (kv_heads or heads, n)}
    return {name: torch.randn(1, *shape, 16, generator=made) for name, shape in rows.items()}


def by_mask(attend: Any, theirs: Tensor, m: int | None = None, q_start: int = 0, **tables: Any) -> Compared:
    """Compares with attention under the original's dense mask, bool `[..., m, n]`."""
    n = theirs.shape[-1]
    theirs = theirs.reshape(-1, *theirs.shape[-2:])
    ours = attend.mask(n, m, heads=2, q_start=q_start, **tables)

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, q_start=q_start, **tables)

    def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sdpa(q, k, v, attn_mask=theirs)

    return compared(call, dense, qkv(n, m), (ours, theirs.expand_as(ours)))


def mask_of(modifier: Any, n: int, m: int | None = None) -> Tensor:
    """The dense mask `[1, 1, m, n]` of a function for FlexAttention, as torch makes it."""
    from torch.nn.attention.flex_attention import create_mask

    return create_mask(modifier, None, None, n if m is None else m, n, device="cpu")


def beside_flex(
    attend: Any, modifier: Any, n: int = 4096, **tables: Any
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Ours and torch's compiled FlexAttention with the original's function, 8 heads of 64."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    q, k, v = torch.randn(3, 1, 8, n, 64).unbind()
    blocks = create_block_mask(modifier, None, None, n, n, device="cpu")
    compiled = torch.compile(flex_attention)
    return lambda: attend(q, k, v, **tables), lambda: compiled(q, k, v, block_mask=blocks)


# Packed documents.


def packed_long() -> tuple[Tensor, Tensor]:
    """Documents of 4,096 tokens in all: the name of each token's, and the offsets."""
    lengths = torch.tensor([900, 124, 2000, 300, 772])
    return torch.repeat_interleave(torch.arange(5), lengths), torch.cat([torch.tensor([0]), lengths.cumsum(0)])


def documents() -> Compared:
    gym = originals.module("attn_gym.masks.document_mask")
    modifier = gym.generate_doc_mask_mod(gym.noop_mask, OFFSETS)
    return by_mask(attnc.load("documents").documents(), mask_of(modifier, N), doc=DOCUMENTS)


def documents_timed() -> Any:
    doc, offsets = packed_long()
    gym = originals.module("attn_gym.masks.document_mask")
    modifier = gym.generate_doc_mask_mod(gym.noop_mask, offsets)
    return beside_flex(attnc.load("documents").documents(), modifier, doc=doc)


def causal_documents() -> Compared:
    gym = originals.module("attn_gym.masks.document_mask")
    modifier = gym.generate_packed_causal_doc_mask_mod(OFFSETS)
    return by_mask(attnc.load("documents").causal_documents(), mask_of(modifier, N), doc=DOCUMENTS)


def causal_documents_timed() -> Any:
    doc, offsets = packed_long()
    gym = originals.module("attn_gym.masks.document_mask")
    return beside_flex(
        attnc.load("documents").causal_documents(), gym.generate_packed_causal_doc_mask_mod(offsets), doc=doc
    )


def window_documents() -> Compared:
    """transformers finds documents where the positions start anew."""
    positions = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    mask = transformers_mask("create_sliding_window_causal_mask", position_ids=positions)
    return by_mask(attnc.load("documents").window_documents(size=9), mask, doc=DOCUMENTS)


def transformers_mask(maker: str, n: int = N, **arguments: Any) -> Tensor:
    """The mask, bool `[1, 1, n, n]`, that transformers makes for torch's own attention; its window has 9 keys."""
    from transformers import MistralConfig, masking_utils

    config = MistralConfig(sliding_window=9)
    config._attn_implementation = "sdpa"
    given = {"attention_mask": None, "past_key_values": None, **arguments}
    made = getattr(masking_utils, maker)(config=config, inputs_embeds=torch.zeros(1, n, 8), **given)
    assert made is not None
    return made


# Padding.

REAL = torch.arange(N) >= 11
"""The first 11 tokens are padding."""


def padding() -> Compared:
    real = torch.arange(N) % 5 != 2
    mask = transformers_mask("create_bidirectional_mask", attention_mask=real[None])
    return by_mask(attnc.load("padding").padding(), mask.expand(1, 1, N, N), real=real)


def left_padding() -> Compared:
    mask = transformers_mask("create_causal_mask", attention_mask=REAL[None])
    return by_mask(attnc.load("padding").left_padding(), mask, start=11)


def left_padding_window() -> Compared:
    mask = transformers_mask("create_sliding_window_causal_mask", attention_mask=REAL[None])
    return by_mask(attnc.load("padding").left_padding_window(size=9), mask, start=11)


def unpadded() -> Compared:
    """transformers takes the padding out, attends, and puts rows of zeros in its place."""
    from transformers import modeling_flash_attention_utils as flash

    attend = attnc.load("padding").unpadded()

    def theirs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        packed = [flash._unpad_input(one.transpose(1, 2), REAL[None])[0] for one in (q, k, v)]
        out = sdpa(*(one.transpose(0, 1)[None] for one in packed))[0].transpose(0, 1)
        indices = REAL.nonzero().flatten()
        return flash._pad_input(out, indices, 1, N).transpose(1, 2)

    return compared(lambda q, k, v: attend(q, k, v, real=REAL), theirs, qkv())


# Prefixes and images.


def prefix_lm() -> Compared:
    modifier = originals.module("attn_gym.masks.prefix_lm").generate_prefix_lm_mask(37)
    return by_mask(attnc.load("prefix_lm").prefix_lm(), mask_of(modifier, N), length=37)


def prefix_lm_timed() -> Any:
    modifier = originals.module("attn_gym.masks.prefix_lm").generate_prefix_lm_mask(1000)
    return beside_flex(attnc.load("prefix_lm").prefix_lm(), modifier, length=1000)


def prefix_lm_t5() -> Compared:
    """make_decoder_mask of t5x: a causal mask, or both tokens among the inputs."""
    inputs = (torch.arange(N) < 37).float()
    causal = torch.greater_equal(torch.arange(N)[:, None], torch.arange(N)[None, :])
    among = torch.logical_and(inputs[:, None], inputs[None, :])
    return by_mask(attnc.load("prefix_lm").prefix_lm(), torch.logical_or(causal, among), length=37)


def paligemma() -> Compared:
    from transformers import GemmaConfig, PaliGemmaConfig
    from transformers.models.paligemma.modeling_paligemma import PaliGemmaForConditionalGeneration as Original

    config = PaliGemmaConfig(text_config=GemmaConfig())
    config.get_text_config()._attn_implementation = "sdpa"
    answer = (torch.arange(N) >= 37).long()
    mask = Original.create_masks_for_generate(
        config, torch.zeros(1, N, 8), None, None, torch.arange(N)[None], token_type_ids=answer[None]
    )
    return by_mask(attnc.load("image_spans").image_prefix(), mask, prompt=answer == 0)


def gemma3_masks() -> tuple[Tensor, dict[str, Tensor]]:
    """The image of each token, and transformers' masks of both kinds of layers with a window of 9 keys."""
    from transformers import Gemma3TextConfig
    from transformers.models.gemma3 import modeling_gemma3 as gemma3

    config = Gemma3TextConfig(sliding_window=9)
    config._attn_implementation = "sdpa"
    kinds = torch.zeros(1, N, dtype=torch.long)
    for start, end in ((3, 17), (18, 20), (40, 70), (90, 91)):
        kinds[:, start:end] = 1
    images = gemma3.get_block_sequence_ids_for_mask(kinds)
    embeds, positions = torch.zeros(1, N, 8), torch.arange(N)[None]
    return images[0], gemma3.create_masks_for_vision_model(config, embeds, None, None, positions, images)


def image_spans() -> Compared:
    images, masks = gemma3_masks()
    return by_mask(attnc.load("image_spans").image_spans(), masks["full_attention"], image=images)


def image_spans_window() -> Compared:
    images, masks = gemma3_masks()
    attend = attnc.load("image_spans").image_spans_window(size=9)
    return by_mask(attend, masks["sliding_attention"], image=images)


# Block diffusion.


def block_diffusion() -> Compared:
    modifier = originals.module("attn_gym.masks.block_diffusion").generate_block_diffusion_mask(50, 8)
    return by_mask(attnc.load("block_diffusion").block_diffusion(block=8), mask_of(modifier, 100))


def block_diffusion_timed() -> Any:
    modifier = originals.module("attn_gym.masks.block_diffusion").generate_block_diffusion_mask(2048, 16)
    return beside_flex(attnc.load("block_diffusion").block_diffusion(block=16), modifier)


def block_causal() -> Compared:
    """block_diff_mask of bd3lms, its rows and columns of the clean half, which is what sampling has."""
    n, block_size = 100, 8
    q_idx, kv_idx = torch.arange(2 * n)[:, None], torch.arange(2 * n)[None, :]
    x0_flag_q, x0_flag_kv = q_idx >= n, kv_idx >= n
    block_q = torch.where(x0_flag_q, (q_idx - n) // block_size, q_idx // block_size)
    block_kv = torch.where(x0_flag_kv, (kv_idx - n) // block_size, kv_idx // block_size)
    block_diagonal = (block_q == block_kv) & (x0_flag_q == x0_flag_kv)
    offset_block_causal = (block_q > block_kv) & x0_flag_kv & ~x0_flag_q
    block_causal = (block_q >= block_kv) & x0_flag_kv & x0_flag_q
    theirs = (block_diagonal | offset_block_causal | block_causal)[n:, n:]
    return by_mask(attnc.load("block_diffusion").block_causal(block=block_size), theirs)


# Shared prefixes.


def shared_prefix() -> Compared:
    gym = originals.module("attn_gym.masks.shared_prefix")
    of = torch.tensor([0, 0, 0, 3, 3, 3])
    modifier = gym.generate_shared_prefix_mask_mod(OFFSETS, of)
    tables = {"doc": DOCUMENTS, "prefix": of[DOCUMENTS]}
    return by_mask(attnc.load("shared_prefix").shared_prefix(), mask_of(modifier, N), **tables)


def shared_prefix_timed() -> Any:
    doc, offsets = packed_long()
    of = torch.tensor([0, 0, 2, 2, 2])
    modifier = originals.module("attn_gym.masks.shared_prefix").generate_shared_prefix_mask_mod(offsets, of)
    return beside_flex(attnc.load("shared_prefix").shared_prefix(), modifier, doc=doc, prefix=of[doc])


def shared_prefix_anywhere() -> Compared:
    gym = originals.module("attn_gym.masks.shared_prefix")
    of = torch.tensor([2, 2, 2, 5, 5, 5])
    modifier = gym.generate_shared_prefix_mask_mod(OFFSETS, of)
    tables = {"doc": DOCUMENTS, "prefix": of[DOCUMENTS]}
    return by_mask(attnc.load("shared_prefix").shared_prefix_anywhere(), mask_of(modifier, N), **tables)


def hydragen() -> Compared:
    """Hydragen: attention to the prefix, of all continuations at once, and to each one's own keys, combined."""
    length, size, several = 24, 8, 3
    n = length + size * several
    doc = torch.cat([torch.full((length,), -1), torch.arange(several).repeat_interleave(size)])
    attend = attnc.load("shared_prefix").one_prefix()

    def theirs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        prompt = sdpa(*(one[:, :, :length] for one in (q, k, v)), is_causal=True)
        apart = [one[0, :, length:].unflatten(1, (several, size)).transpose(0, 1) for one in (q, k, v)]
        together = q[0, :, length:] @ k[0, :, :length].transpose(-1, -2) / 4
        prefix_out = together.softmax(-1) @ v[0, :, :length]
        prefix_lse = together.logsumexp(-1)
        own = apart[0] @ apart[1].transpose(-1, -2) / 4
        own = own.masked_fill(torch.ones(size, size).triu(1).bool(), -torch.inf)
        own_out, own_lse = own.softmax(-1) @ apart[2], own.logsumexp(-1)
        outs = torch.stack([prefix_out.unflatten(1, (several, size)).transpose(0, 1), own_out])
        lses = torch.stack([prefix_lse.unflatten(1, (several, size)).transpose(0, 1), own_lse])
        weights = (lses - lses.amax(0)).exp()
        mixed = (weights[..., None] * outs).sum(0) / weights.sum(0)[..., None]
        return torch.cat([prompt, mixed.transpose(0, 1).flatten(1, 2)[None]], 2)

    return compared(lambda q, k, v: attend(q, k, v, doc=doc, length=length), theirs, qkv(n))


def shown(n: int = 64, **given: Any) -> tuple[str, ...]:
    """Arguments of ``attnc show``: n, and parameters; a tensor becomes a literal."""
    texts = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in given.items()}
    literals = {
        name: str(value).replace("True", "true").replace("False", "false").replace("set()", "{}")
        for name, value in texts.items()
    }
    return ("--n", str(n), *(part for name, text in literals.items() for part in ("--set", f"{name}={text}")))


DOC = torch.arange(5).repeat_interleave(torch.tensor([9, 20, 3, 18, 14]))
IMAGE = torch.tensor([-1] * 8 + [0] * 16 + [-1] * 10 + [1] * 16 + [-1] * 14)
KRELL, DEVLIN, RAFFEL = "Krell et al., 2021", "Devlin et al., 2019", "Raffel et al., 2020"
GEMMA, ARRIOLA, JURAVSKY = "Gemma Team, 2025", "Arriola et al., 2025", "Juravsky et al., 2024"
MASKS = "transformers.masking_utils"

SYSTEMS: tuple[System, ...] = (
    System(
        "Packed documents",
        KRELL,
        "documents:documents",
        "attn_gym.masks.document_mask.generate_doc_mask_mod",
        True,
        documents,
        shown(doc=DOC),
        timed=documents_timed,
    ),
    System(
        "Packed documents, causal",
        KRELL,
        "documents:causal_documents",
        "attn_gym.masks.document_mask.generate_packed_causal_doc_mask_mod",
        True,
        causal_documents,
        shown(doc=DOC),
        timed=causal_documents_timed,
    ),
    System(
        "Packed documents, window",
        KRELL,
        "documents:window_documents",
        f"{MASKS}.create_sliding_window_causal_mask",
        True,
        window_documents,
        shown(doc=DOC, size=8),
        note="the original knows a document by its positions, which start anew",
    ),
    System(
        "Padding",
        DEVLIN,
        "padding:padding",
        f"{MASKS}.create_bidirectional_mask",
        True,
        padding,
        shown(real=torch.arange(64) < 50),
    ),
    System(
        "Padding, rows too",
        DEVLIN,
        "padding:unpadded",
        "transformers.modeling_flash_attention_utils._unpad_input and _pad_input",
        True,
        unpadded,
        shown(real=torch.arange(64) < 50),
    ),
    System(
        "Padding on the left",
        DEVLIN,
        "padding:left_padding",
        f"{MASKS}.create_causal_mask",
        True,
        left_padding,
        shown(start=12),
        note="a row of padding is 0",
    ),
    System(
        "Padding on the left, window",
        DEVLIN,
        "padding:left_padding_window",
        f"{MASKS}.create_sliding_window_causal_mask",
        True,
        left_padding_window,
        shown(start=12, size=16),
        note="a row of padding is 0",
    ),
    System(
        "Prefix LM",
        RAFFEL,
        "prefix_lm:prefix_lm",
        "attn_gym.masks.prefix_lm.generate_prefix_lm_mask",
        True,
        prefix_lm,
        shown(length=20),
        timed=prefix_lm_timed,
    ),
    System(
        "Prefix LM, T5",
        RAFFEL,
        "prefix_lm:prefix_lm",
        "formula: t5x, layers.make_decoder_mask",
        False,
        prefix_lm_t5,
        shown(length=20),
    ),
    System(
        "PaliGemma",
        "Beyer et al., 2024",
        "image_spans:image_prefix",
        "transformers.PaliGemmaForConditionalGeneration.create_masks_for_generate",
        True,
        paligemma,
        shown(prompt=torch.arange(64) < 30),
    ),
    System(
        "Gemma 3 with images",
        GEMMA,
        "image_spans:image_spans",
        "transformers.models.gemma3.create_masks_for_vision_model",
        True,
        image_spans,
        shown(image=IMAGE),
        note="the original takes images side by side for one",
    ),
    System(
        "Gemma 3 with images, window",
        GEMMA,
        "image_spans:image_spans_window",
        "transformers.models.gemma3.create_masks_for_vision_model",
        True,
        image_spans_window,
        shown(image=IMAGE, size=12),
        note="the original takes images side by side for one",
    ),
    System(
        "Block diffusion",
        ARRIOLA,
        "block_diffusion:block_diffusion",
        "attn_gym.masks.block_diffusion.generate_block_diffusion_mask",
        True,
        block_diffusion,
        shown(block=8),
        timed=block_diffusion_timed,
    ),
    System(
        "Block diffusion, sampling",
        ARRIOLA,
        "block_diffusion:block_causal",
        "formula: bd3lms, block_diff_mask, its clean half",
        False,
        block_causal,
        shown(block=8),
    ),
    System(
        "Shared prefix",
        JURAVSKY,
        "shared_prefix:shared_prefix",
        "attn_gym.masks.shared_prefix.generate_shared_prefix_mask_mod",
        True,
        shared_prefix,
        shown(doc=DOC, prefix=DOC * 0),
        timed=shared_prefix_timed,
    ),
    System(
        "Shared prefix, anywhere",
        JURAVSKY,
        "shared_prefix:shared_prefix_anywhere",
        "attn_gym.masks.shared_prefix.generate_shared_prefix_mask_mod",
        True,
        shared_prefix_anywhere,
        shown(doc=DOC, prefix=DOC * 0 + 3),
    ),
    System(
        "Hydragen",
        JURAVSKY,
        "shared_prefix:one_prefix",
        "formula: the paper's attention to prefix and suffix, combined by log-sum-exp",
        False,
        hydragen,
        shown(doc=DOC, length=9),
    ),
)
