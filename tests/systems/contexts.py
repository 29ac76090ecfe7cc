"""Readers of retrieved texts, text that looks at images, trees of guesses."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

import attnc
from tests.systems import originals
from tests.systems.packing import (
    DOC,
    by_mask,
    compared,
    mask_of,
    qkv,
    shown,
)
from tests.systems.system import Compared, System

# Readers of retrieved passages.


def fusion_in_decoder() -> Compared:
    """EncoderWrapper of FiD: passages of one size, padded, become entries of a batch, and one sequence again."""
    passages, size = 4, 16
    real = torch.arange(size) < torch.tensor([16, 9, 12, 1])[:, None]
    passage = torch.where(real, torch.arange(passages)[:, None], -1 - torch.arange(size)).flatten()

    def theirs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (one.unflatten(2, (passages, size))[0].transpose(0, 1) for one in (q, k, v))
        out = sdpa(q, k, v, attn_mask=real[:, None, None, :]) * real[:, None, :, None]
        return out.transpose(0, 1).flatten(1, 2)[None]

    attend = attnc.load("reader").reader()

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, passage=passage) * real.flatten()[:, None]

    return compared(ours, theirs, qkv(passages * size))


def window_reader() -> Compared:
    """Passages one by one, each with a window that slides over it alone, and a question that all see."""
    lengths, question, half = [30, 17, 41], 6, 4
    n = question + sum(lengths)
    theirs = torch.zeros(n, n, dtype=torch.bool)
    theirs[:question] = True
    theirs[:, :question] = True
    start = question
    for length in lengths:
        for row in range(length):
            first, last = max(row - half, 0), min(row + half, length - 1)
            theirs[start + row, start + first : start + last + 1] = True
        start += length
    passage = torch.repeat_interleave(torch.arange(-1, len(lengths)), torch.tensor([question, *lengths]))
    return by_mask(attnc.load("reader").reader_window(size=2 * half), theirs, passage=passage)


def parallel_contexts() -> Compared:
    """PCWModelWrapper: a forward pass for each window, whose keys become the past of the text that follows."""
    lengths, follow = [20, 13, 27], 10
    n = sum(lengths) + follow
    passage = torch.repeat_interleave(torch.arange(len(lengths) + 1), torch.tensor([*lengths, follow]))
    attend = attnc.load("reader").parallel_contexts()

    def theirs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        outs, keys, values = [], [], []
        for one_q, one_k, one_v in zip(*(one.split([*lengths, follow], 2) for one in (q, k, v)), strict=True):
            if len(outs) == len(lengths):
                past = torch.ones(follow, sum(lengths), dtype=torch.bool)
                mask = torch.cat([past, torch.ones(follow, follow).tril().bool()], 1)
                joined = [torch.cat([*many, one], 2) for many, one in ((keys, one_k), (values, one_v))]
                outs.append(sdpa(one_q, *joined, attn_mask=mask))
                continue
            outs.append(sdpa(one_q, one_k, one_v, is_causal=True))
            keys.append(one_k)
            values.append(one_v)
        return torch.cat(outs, 2)

    return compared(lambda q, k, v: attend(q, k, v, passage=passage, start=n - follow), theirs, qkv(n))


# Text that looks at images.

IMAGE_TOKEN, EOS = 7, 9


def text_with_images() -> Tensor:
    """Ids `[1, 40]` of a text with three images, one of them directly behind another."""
    ids = torch.arange(40) % 5
    ids[torch.tensor([3, 4, 21])] = IMAGE_TOKEN
    return ids[None]


def flamingo_pytorch(immediate: bool) -> Compared:
    """MaskedCrossAttention, whose projections ours takes as they are."""
    torch.manual_seed(0)
    made = originals.module("flamingo_pytorch.flamingo_pytorch").MaskedCrossAttention
    module = made(dim=24, dim_head=16, heads=2, only_attend_immediate_media=immediate)
    located = text_with_images() == IMAGE_TOKEN
    # Where a text sees all images, the original lets tokens before the first see everything: there are none here.
    located[:, 0] = not immediate
    image = located.cumsum(-1)[0] - 1
    file = attnc.load("flamingo")
    attend = (file.flamingo if immediate else file.flamingo_all)(size=5)

    def ours(x: Tensor, media: Tensor) -> Tensor:
        q = module.to_q(module.norm(x))
        k, v = module.to_kv(media.flatten(1, 2)).chunk(2, -1)
        q, k, v = (one.unflatten(-1, (2, 16)).transpose(1, 2) for one in (q, k, v))
        return module.to_out(attend(q, k, v, image=image).transpose(1, 2).flatten(2))

    def theirs(x: Tensor, media: Tensor) -> Tensor:
        return module(x, media, media_locations=located)

    return compared(ours, theirs, {"x": torch.randn(1, 40, 24), "media": torch.randn(1, 4, 5, 24)})


def flamingo() -> Compared:
    return flamingo_pytorch(True)


def flamingo_all() -> Compared:
    return flamingo_pytorch(False)


def idefics() -> Compared:
    """IDEFICS: its processor says which image a token sees; a layer clears the rows of tokens that see none."""
    from transformers.models.idefics import processing_idefics as processing

    tokenizer = SimpleNamespace(convert_tokens_to_ids=lambda token: IMAGE_TOKEN, eos_token_id=EOS)
    ids = text_with_images()
    ids[0, 15] = EOS
    seen, _ = processing.image_attention_mask_for_packed_input_ids(ids, tokenizer, "pt")
    image = seen[0].clone()
    binary = processing.incremental_to_binary_attention_mask(seen, "pt", num_classes=3)
    mask = binary[0].bool().repeat_interleave(5, -1)
    return by_mask(attnc.load("flamingo").flamingo(size=5), mask, 40, image=image)


def mllama() -> Compared:
    """Llama 3.2 Vision: its processor says which tokens see an image; the model makes the mask, and clears rows."""
    from transformers.models.mllama import modeling_mllama as modeling
    from transformers.models.mllama import processing_mllama as processing

    spans = processing.get_cross_attention_token_mask(text_with_images()[0].tolist(), IMAGE_TOKEN)
    dense = processing.convert_sparse_cross_attention_mask_to_dense([spans], [[2, 2, 2]], 2, 40)
    added, rows = modeling._prepare_cross_attention_mask(torch.tensor(dense), 3, torch.float32)
    mask = (added == 0) & rows.bool()
    span = torch.tensor(spans)
    return by_mask(attnc.load("flamingo").flamingo_spans(size=6), mask, 40, span=span)


def flamingo_spans() -> Compared:
    span = torch.tensor([[0, 17], [4, 17], [17, 33]], dtype=torch.int32)
    modifier = originals.module("attn_gym.masks.flamingo").generate_vision_cross_attention_mask_mod(span, 6)
    return by_mask(attnc.load("flamingo").flamingo_spans(size=6), mask_of(modifier, 18, 40), 40, span=span)


# Texts retrieved for chunks.


def retro() -> Compared:
    """ChunkedCrossAttention: beside what was retrieved, it has one learned key that all see: a part to merge.

    Its rows before the first that sees anything are 0, as ours are; its rotations are left out.
    """
    torch.manual_seed(0)
    stubs = {"retro_pytorch.retrieval": SimpleNamespace(BERT_VOCAB_SIZE=0)}
    assert originals.module("einops")
    made = originals.single("retro_pytorch/retro_pytorch.py", stubs).ChunkedCrossAttention
    module = made(chunk_size=8, dim=24, heads=2, dim_head=16)
    inner = module.cross_attn
    attend = attnc.load("retro").retro(chunk=8, retrieved=2 * 5)
    first = attnc.load("full").full()
    still = torch.zeros(1, 1, 8, 16), torch.zeros(1, 1, 5, 16)

    def ours(x: Tensor, retrieved: Tensor) -> Tensor:
        texts = retrieved.flatten(1, 3)
        q, k, v = (
            one.unflatten(-1, (2, 16)).transpose(1, 2) for one in (inner.to_q(x), inner.to_k(texts), inner.to_v(texts))
        )
        null_k, null_v = (one.view(1, 2, 1, 16) for one in (inner.null_k, inner.null_v))
        parts = [attend(q, k, v, return_lse=True), first(q, null_k, null_v, return_lse=True)]
        out = inner.to_out(attnc.merge(parts)[0].transpose(1, 2).flatten(2))
        return out * (torch.arange(48) >= 7)[:, None]

    def theirs(x: Tensor, retrieved: Tensor) -> Tensor:
        return module(x, context=retrieved, pos_emb=still)

    return compared(ours, theirs, {"x": torch.randn(1, 48, 24), "retrieved": torch.randn(1, 6, 2, 5, 24)})


# Trees of guesses.


def walk(parents: list[int]) -> tuple[list[int], list[int]]:
    """When a walk that goes deep first comes to each node, and when it has seen all below it."""
    below: dict[int, list[int]] = {node: [] for node in range(-1, len(parents))}
    for node, parent in enumerate(parents):
        below[parent].append(node)
    enter, leave = [0] * len(parents), [0] * len(parents)

    def visit(node: int, count: int) -> int:
        enter[node] = count
        count += 1
        for child in below[node]:
            count = visit(child, count)
        leave[node] = count
        return count

    count = 0
    for root in below[-1]:
        count = visit(root, count)
    return enter, leave


def behind(stem: int, parents: list[int]) -> dict[str, Tensor]:
    """The tables of ``tree`` for a tree behind so many tokens."""
    enter, leave = walk([*range(-1, stem - 1), *(stem + parent if parent >= 0 else stem - 1 for parent in parents)])
    return {"enter": torch.tensor(enter), "leave": torch.tensor(leave)}


PARENTS = [-1, 0, 0, 1, 1, 2, 1, 3, 5, 5, 8, 7]
DENSE = [-1] + [0] * 2 + [1 + node // 3 for node in range(6)] + [3 + node // 2 for node in range(12)]
ANCESTORS = torch.eye(len(PARENTS), dtype=torch.bool)
for _node, _parent in enumerate(PARENTS[1:], 1):
    ANCESTORS[_node] |= ANCESTORS[_parent]


def tree() -> Compared:
    gym = originals.module("attn_gym.masks.jetspec")
    sees = gym.build_tree_ancestor_matrix(PARENTS, "cpu")
    mask = mask_of(gym.generate_jetspec_tree_causal_mask_mod(20, sees), 32, 12)
    return by_mask(attnc.load("tree").tree(), mask, 12, 20, **behind(20, PARENTS))


def tree_table() -> Compared:
    gym = originals.module("attn_gym.masks.jetspec")
    sees = gym.build_tree_ancestor_matrix(PARENTS, "cpu")
    mask = mask_of(gym.generate_jetspec_tree_causal_mask_mod(20, sees), 32, 12)
    return by_mask(attnc.load("tree").tree_table(), mask, 12, 20, sees=sees, start=20)


def draft_blocks() -> Compared:
    gym = originals.module("attn_gym.masks.jetspec")
    mask = mask_of(gym.generate_jetspec_training_mask_mod(21, 4), 21 + 24, 24)
    return by_mask(attnc.load("tree").draft_blocks(block=4), mask, 24, 21, start=21)


def medusa_dense() -> Compared:
    """generate_medusa_buffers of Medusa 0.1, where each head's guesses follow each of the head before: 2, 3, 2."""
    buffers = originals.module("medusa.model.utils").generate_medusa_buffers([1, 2, 3, 2], device="cpu")
    return medusa_decoding(buffers["medusa_attn_mask"][0, 0].bool(), DENSE)


def medusa_sparse() -> Compared:
    return medusa_decoding(*sparse_tree())


def sparse_tree() -> tuple[Tensor, list[int]]:
    """generate_medusa_buffers of the later Medusa for its tree mc_sim_7b_63: the mask, and each node's parent."""
    choices = sorted(mc_sim_7b_63(), key=lambda path: (len(path), path))
    sees = torch.eye(len(choices) + 1)
    sees[:, 0] = 1
    for place, path in enumerate(choices):
        sees[place + 1, [choices.index(path[: c + 1]) + 1 for c in range(len(path) - 1)]] = 1
    parents = [-1] + [choices.index(path[:-1]) + 1 if len(path) > 1 else 0 for path in choices]
    return sees.bool(), parents


def mc_sim_7b_63() -> list[list[int]]:
    """Medusa's tree of 63 guesses, by how many of each node's guesses are followed, best first."""
    texts = (
        "0 00 1 01 2 000 10 02 3 03 4 04 20 05 001 5 06 6 07 010 11 7 08 002 30 09 8 9 100 020 12 003 40 21 004 005 "
        "0000 011 006 030 50 13 007 008 009 60 040 14 70 012 200 31 22 80 050 15 101 021 90 060 0001 16 070"
    )
    return [[int(digit) for digit in text] for text in texts.split()]


def medusa_decoding(sees: Tensor, parents: list[int]) -> Compared:
    """Medusa's model puts the mask over the last rows and columns of a causal one."""
    stem, nodes = 17, len(parents)
    mask = torch.cat([torch.ones(nodes, stem), torch.ones(nodes, nodes).tril()], 1)
    mask[-nodes:, -nodes:][sees == 0] = 0
    return by_mask(attnc.load("tree").tree(), mask.bool(), nodes, stem, **behind(stem, parents))


SEEN = torch.tensor([-1] * 6 + [0] * 20 + [1] * 8 + [2] * 20 + [3] * 10)
SPANS = torch.tensor([[6, 26], [26, 54], [34, 54], [54, 64]])
ALAYRAC, CAI = "Alayrac et al., 2022", "Cai et al., 2024"

SYSTEMS: tuple[System, ...] = (
    System(
        "Fusion-in-Decoder",
        "Izacard and Grave, 2021",
        "reader:reader",
        "formula: FiD, EncoderWrapper",
        False,
        fusion_in_decoder,
        shown(passage=DOC),
    ),
    System(
        "Reader with windows",
        "Izacard and Grave, 2021",
        "reader:reader_window",
        "formula: passages and windows one by one",
        False,
        window_reader,
        shown(passage=DOC - 1, size=8),
        note="documents × window: no published code",
    ),
    System(
        "Parallel context windows",
        "Ratner et al., 2023",
        "reader:parallel_contexts",
        "formula: Parallel-Context-Windows, PCWModelWrapper",
        False,
        parallel_contexts,
        shown(passage=DOC, start=50),
    ),
    System(
        "Flamingo",
        ALAYRAC,
        "flamingo:flamingo",
        "flamingo_pytorch.MaskedCrossAttention",
        True,
        flamingo,
        shown(image=SEEN, size=16),
    ),
    System(
        "Flamingo, all images before",
        ALAYRAC,
        "flamingo:flamingo_all",
        "flamingo_pytorch.MaskedCrossAttention",
        True,
        flamingo_all,
        shown(image=SEEN, size=16),
        note="in the original, a token before all images sees everything; here nothing",
    ),
    System(
        "IDEFICS",
        "Laurençon et al., 2023",
        "flamingo:flamingo",
        "transformers.models.idefics.processing_idefics",
        True,
        idefics,
        shown(image=SEEN, size=16),
    ),
    System(
        "Llama 3.2 Vision",
        "Llama Team, 2024",
        "flamingo:flamingo_spans",
        "transformers.models.mllama, processing and _prepare_cross_attention_mask",
        True,
        mllama,
        shown(span=SPANS, size=16),
        note="a token that sees no image gets 0 here; the library gives it the mean of all values",
    ),
    System(
        "Flamingo, spans",
        ALAYRAC,
        "flamingo:flamingo_spans",
        "attn_gym.masks.flamingo.generate_vision_cross_attention_mask_mod",
        True,
        flamingo_spans,
        shown(span=SPANS, size=16),
    ),
    System(
        "RETRO",
        "Borgeaud et al., 2022",
        "retro:retro",
        "retro_pytorch.ChunkedCrossAttention",
        True,
        retro,
        shown(chunk=8, retrieved=8),
        note="the original has one learned key more, which ours merges",
    ),
    System(
        "Tree of guesses",
        "Miao et al., 2024",
        "tree:tree",
        "attn_gym.masks.jetspec.generate_jetspec_tree_causal_mask_mod",
        True,
        tree,
        shown(32, **behind(20, PARENTS)),
    ),
    System(
        "Tree of guesses, by a table",
        CAI,
        "tree:tree_table",
        "attn_gym.masks.jetspec.generate_jetspec_tree_causal_mask_mod",
        True,
        tree_table,
        shown(32, sees=ANCESTORS, start=20),
    ),
    System(
        "Medusa",
        CAI,
        "tree:tree",
        "medusa.model.utils.generate_medusa_buffers",
        True,
        medusa_dense,
        shown(38, **behind(17, DENSE)),
    ),
    System(
        "Medusa, sparse tree",
        CAI,
        "tree:tree",
        "formula: Medusa, generate_medusa_buffers, mc_sim_7b_63",
        False,
        medusa_sparse,
        shown(81, **behind(17, sparse_tree()[1])),
    ),
    System(
        "JetSpec, training",
        "hao-ai-lab, 2026",
        "tree:draft_blocks",
        "attn_gym.masks.jetspec.generate_jetspec_training_mask_mod",
        True,
        draft_blocks,
        shown(start=24, block=8),
    ),
)
