"""Patterns that are chosen at run time: NSA, MoBA, MInference, DeepSeek's sparse attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import attnc
from tests.systems import originals
from tests.systems.packing import by_mask, compared, qkv, shown
from tests.systems.system import Compared, System

# Native sparse attention.

HEADS, GROUP, BLOCK, STRIDE, CHOSEN, WINDOW = 4, 2, 8, 4, 3, 12


def nsa_module(**changed: Any) -> Any:
    """A small SparseAttention: 4 query heads that share 2 key heads, blocks of 8, of which 3 are chosen."""
    torch.manual_seed(0)
    sizes = {"dim": 32, "dim_head": 16, "heads": HEADS, "kv_heads": HEADS // GROUP, "causal": True}
    blocks = {"compress_block_size": 8, "compress_block_sliding_stride": STRIDE, "selection_block_size": BLOCK}
    counts = {"num_selected_blocks": CHOSEN, "sliding_window_size": WINDOW}
    made = originals.module("native_sparse_attention_pytorch.native_sparse_attention").SparseAttention
    module = made(**{**sizes, **blocks, **counts, **changed})
    # All three branches count, and what they learn differs from 0.
    for parameter in (module.to_strategy_combine[0].weight, module.compress_mem_kv, module.k_intrablock_positions):
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.zeros_(module.to_strategy_combine[0].bias)
    return module


def nsa_branches(module: Any, x: Tensor, choice: Tensor) -> Tensor:
    """SparseAttention's forward pass with ours in its branches; ``choice`` `[1, heads or kv_heads, n, slots]`."""
    x = module.norm(x)
    q, k, v = map(module.split_heads, module.to_qkv(x).split(module.qkv_split, -1))
    file, whole = attnc.load("nsa"), x.shape[1] // STRIDE * STRIDE
    windows = [module.split_compress_window(one[..., :whole, :]) for one in (k, v)]
    within = module.k_intrablock_positions, module.v_intrablock_positions
    windows = [one + at[:, None] for one, at in zip(windows, within, strict=True)]
    summaries = module.k_compress(windows[0]), module.v_compress(windows[1])
    ck, cv = (torch.cat([memory[None], one], 2) for memory, one in zip(module.compress_mem_kv, summaries, strict=True))
    coarse = file.nsa_compressed(stride=STRIDE, memory=1)(q, ck, cv)
    q, k = module.rotary_emb.rotate_queries_with_cached_keys(q, k)
    group = HEADS // choice.shape[1]
    fine = file.nsa(block=BLOCK, group=group)(q, k, v, chosen=choice)
    near = file.nsa_window(size=WINDOW + 1)(q, k, v)
    parts = torch.stack([coarse, fine, near])
    weights = module.to_strategy_combine(x).movedim(-1, 0)[..., None]
    return module.combine_heads(module.merge_heads((weights * parts).sum(0)))


def nsa_choice(module: Any, x: Tensor) -> Tensor:
    """The blocks that SparseAttention chooses, as it hands them to topk; those it then leaves out are -1."""
    taken: list[tuple[Tensor, Tensor]] = []
    topk = Tensor.topk

    def recording(scores: Tensor, *arguments: Any, **named: Any) -> Any:
        found = topk(scores, *arguments, **named)
        taken.append((found.values.detach(), found.indices))
        return found

    with torch.no_grad(), mock.patch.object(Tensor, "topk", recording):
        module(x, disable_triton_kernel=True)
    ((values, indices),) = taken
    return torch.where(values > 1e-10, indices, -1)


def nsa_compared(**changed: Any) -> Compared:
    module = nsa_module(**changed)
    x = torch.randn(1, 61, 32)
    choice = nsa_choice(module, x)
    return compared(lambda inp: nsa_branches(module, inp, choice), module, {"inp": x})


def nsa() -> Compared:
    return nsa_compared()


def nsa_each_head() -> Compared:
    return nsa_compared(query_heads_share_selected_kv=False)


def nsa_timed() -> Any:
    """Ours and the module's own FlexAttention for the chosen blocks; at each call another choice, the same for both."""
    from torch.nn.attention.flex_attention import flex_attention

    n, made = 2048, originals.module("native_sparse_attention_pytorch.native_sparse_attention")
    q, k, v = torch.randn(1, 8, n, 64), torch.randn(1, 2, n, 64), torch.randn(1, 2, n, 64)
    blocks = torch.arange(n)[:, None] // 64
    attend, mask, compiled = attnc.load("nsa").nsa(group=4), made.create_fine_mask(n, 64), torch.compile(flex_attention)

    ours, others = (torch.Generator().manual_seed(0) for _ in range(2))

    def choice(generator: torch.Generator) -> Tensor:
        """For each 64 queries, 16 of the blocks before them."""
        drawn = torch.rand(1, 2, n // 64, 16, generator=generator).repeat_interleave(64, 2)
        return (drawn * blocks.clamp(min=1)).long()

    def theirs() -> Tensor:
        return compiled(q, k, v, block_mask=mask(choice(others), num_grouped_queries=4), enable_gqa=True)

    return lambda: attend(q, k, v, chosen=choice(ours)), theirs


# Mixture of block attention.


def moba_gate(q: Tensor, k: Tensor, chunk: int, topk: int) -> Tensor:
    """Which chunks each query attends to in moba_attn_varlen_naive, `[heads, n, chunks]`, of one sequence."""
    n, chunks = q.shape[2], math.ceil(q.shape[2] / chunk)
    means = [k[0, :, c * chunk : min(n, (c + 1) * chunk)].mean(1, keepdim=True) for c in range(chunks)]
    gate = torch.einsum("hsd,hnd->hsn", q[0], torch.cat(means, 1))
    for i in range(chunks):
        gate[:, : (i + 1) * chunk, i] = float("-inf")
        gate[:, i * chunk : (i + 1) * chunk, i] = float("inf")
    values, indices = torch.topk(gate, k=min(topk, chunks), dim=-1, largest=True, sorted=False)
    need_attend = gate >= values.min(dim=-1).values.unsqueeze(-1)
    drawn = torch.zeros(need_attend.shape, dtype=torch.bool).scatter_(-1, indices, True)
    return torch.logical_and(need_attend, drawn)


def moba() -> Compared:
    """moba_attn_varlen_naive of MoBA: the gate, repeated over the keys of each chunk, below the diagonal."""
    n, chunk = 150, 16
    given = qkv(n)
    need = moba_gate(given["q"], given["k"], chunk, topk=3)
    mask = need.repeat_interleave(chunk, dim=-1)[:, :, :n]
    mask = mask.masked_fill(torch.ones_like(mask).tril().logical_not(), False)
    return by_mask(attnc.load("moba").moba(chunk=chunk), mask, chosen=need)


# MInference.


def lines(q: Tensor, k: Tensor, vertical_size: int, slash_size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What vertical_and_slash of MInference's search finds by the last 64 queries.

    The columns that it leaves out, the diagonals that it takes, and both as its kernel is given them.
    """
    last_q, n = 64, q.shape[2]
    qk = q[:, :, -last_q:] @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
    past = torch.arange(last_q)[:, None] >= torch.arange(last_q)
    qk[:, :, :, -last_q:] = torch.where(past, qk[:, :, :, -last_q:], -torch.inf)
    qk = torch.nn.functional.softmax(qk, dim=-1)
    vertical = qk.sum(-2, keepdim=True)
    vertical[..., :4] = torch.inf
    slash = sum_all_diagonal_matrix(qk)[..., : -last_q + 1]
    slash[..., -8:] = torch.inf
    without = torch.topk(-vertical, n - vertical_size, -1).indices
    diagonals = torch.topk(slash, slash_size, -1).indices
    columns = torch.topk(vertical, vertical_size, -1).indices
    return without, diagonals - (n - 1), columns[0, :, 0], (n - 1) - diagonals[0]


def sum_all_diagonal_matrix(mat: Tensor) -> Tensor:
    b, h, n, m = mat.shape
    padded = torch.cat((torch.zeros(b, h, n, n), mat, torch.zeros(b, h, n, n)), -1)
    strides = padded.stride()[:2]
    return torch.sum(padded.as_strided((b, h, n, n + m), (*strides, 2 * n + m + 1, 1)), 2)[:, :, 1:]


def vertical_slash() -> Compared:
    """MInference's search: a matrix of ones without the other columns, and with the diagonals, below the diagonal."""
    n, slash_size = 150, 14
    given = qkv(n)
    without, diagonals, columns, distances = lines(given["q"], given["k"], 12, slash_size)
    est_attn = torch.ones(1, 2, n, n).scatter(3, without.expand(1, 2, n, -1), 0)
    slash = [torch.sparse.spdiags(torch.ones(slash_size, n), one, (n, n)).to_dense() for one in diagonals[0]]
    est_attn = torch.tril((est_attn + torch.stack(slash) > 0).float())
    attend = attnc.load("vertical_slash").vertical_slash()
    return by_mask(attend, est_attn.bool(), vertical=columns, slash=distances)


def converted(vertical: list[int], slash: list[int], start_m: int, size: int) -> tuple[list[int], list[int]]:
    """convert_vertical_slash_indexes_kernel for one row of blocks: where blocks begin, and single columns."""
    end_m = start_m + size
    blocks: list[int] = []
    columns: list[int] = []
    v, s = 0, 0

    def next_v() -> int:
        nonlocal v
        v += 1
        return vertical[v - 1] if v <= len(vertical) else end_m + size

    v_idx = next_v()
    s_idx, s = slash[0], 1
    while s_idx >= end_m and s < len(slash):
        s_idx, s = slash[s], s + 1
    s_idx = end_m + size if s_idx >= end_m else max(end_m - s_idx, size)
    range_start, range_end = s_idx - size, s_idx
    while True:
        if v_idx < range_end:
            if v_idx < range_start:
                columns.append(v_idx)
            v_idx = next_v()
            continue
        if s >= len(slash):
            blocks += range(range_start, range_end, size)
            return blocks, columns
        s_idx, s = max(end_m - slash[s], size), s + 1
        if s_idx > range_end + size:
            blocks += range(range_start, range_end, size)
            range_start, range_end = s_idx - size, s_idx
        elif s_idx > range_end:
            range_end += size


def vertical_slash_blocks() -> Compared:
    """MInference's kernel: the blocks of a row of blocks, below the diagonal, and its columns; each adds its pairs."""
    n, size = 150, 16
    given = qkv(n)
    _, _, verticals, slashes = lines(given["q"], given["k"], 12, 9)
    rows = math.ceil(n / size)
    kept, mask = torch.zeros(2, rows, n, dtype=torch.bool), torch.zeros(2, n, n, dtype=torch.long)
    for head in range(2):
        vertical = verticals[head].sort().values.tolist()
        slash = slashes[head].sort(descending=True).values.tolist()
        for row in range(rows):
            blocks, columns = converted(vertical, slash, row * size, size)
            offs_m = torch.arange(row * size, min((row + 1) * size, n))[:, None]
            for start_n in blocks:
                cols = torch.arange(min(start_n, n), min(start_n + size, n))
                mask[head, offs_m, cols] += cols <= offs_m
                kept[head, row, cols] = True
            mask[head, offs_m, torch.tensor(columns, dtype=torch.long)] += 1
            kept[head, row, columns] = True
    ours = attnc.load("vertical_slash").vertical_slash_blocks(block=size)
    found = by_mask(ours, mask.bool(), columns=kept)
    assert found.mask is not None
    return Compared((found.mask[0], mask), found.outputs, found.gradients)


def block_sparse() -> Compared:
    """MInference's _build_block_index and, of its kernel, which of the chosen blocks it reads."""
    n, size, top_k = 160, 16, 4
    given = qkv(n)
    query_pool, key_pool = (given[name].unflatten(2, (-1, size)).mean(-2) for name in ("q", "k"))
    starts = torch.arange(n // size) * size
    p_pool = torch.einsum("bhmk, bhnk -> bhmn", query_pool, key_pool)
    p_pool = p_pool.where(starts[:, None] >= starts, -torch.inf)
    block_index = torch.topk(p_pool, top_k, dim=-1).indices.sort(dim=-1).values
    mask = torch.zeros(2, n, n, dtype=torch.bool)
    for head in range(2):
        for start_m in range(n // size):
            offs_m = start_m * size + torch.arange(size)[:, None]
            for block in block_index[0, head, start_m, : min(start_m + 1, top_k)]:
                cols = block * size + torch.arange(size)
                mask[head, offs_m, cols] = cols <= offs_m
    return by_mask(attnc.load("vertical_slash").block_sparse(block=size), mask, chosen=block_index[0])


def a_shape() -> Compared:
    """stream_llm of MInference's search, whose slash_size counts the keys before the query."""
    n, vertical_size, slash_size = 100, 5, 12
    mask = torch.triu(torch.tril(torch.ones(n, n), 0), -slash_size)
    mask[:, :vertical_size] = 1
    attend = attnc.load("vertical_slash").a_shape(first_keys=vertical_size, size=slash_size + 1)
    return by_mask(attend, torch.tril(mask).bool())


# DeepSeek's sparse attention.


def deepseek() -> Compared:
    """A layer of DeepSeek-V3.2, whose indexer's choice the library hands to any attention but its own two."""
    from transformers import AttentionInterface, DeepseekV32Config
    from transformers.models.deepseek_v32 import modeling_deepseek_v32 as modeling

    torch.manual_seed(0)
    ranks = {"kv_lora_rank": 8, "q_lora_rank": 12, "qk_rope_head_dim": 4, "qk_nope_head_dim": 12, "v_head_dim": 16}
    index = {"index_topk": 9, "index_head_dim": 8, "index_n_heads": 2}
    config = DeepseekV32Config(hidden_size=32, num_attention_heads=2, num_key_value_heads=2, **ranks, **index)
    layer = modeling.DeepseekV32Attention(config, 0).eval()
    attend, n = attnc.load("deepseek_sparse").deepseek_sparse(), 60
    chosen: list[Tensor] = []

    def ours(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, scaling: float, indices: Tensor, **_: Any) -> Any:
        chosen.append(indices)
        return attend(q, k, v, scale=scaling, chosen=indices).transpose(1, 2), None

    AttentionInterface.register("attnc_of_a_test", ours)
    rotary = modeling.DeepseekV32RotaryEmbedding(config)
    added = torch.zeros(n, n).masked_fill(torch.ones(n, n).triu(1).bool(), torch.finfo(torch.float32).min)

    def call(implementation: str) -> Callable[..., Tensor]:
        def run(x: Tensor) -> Tensor:
            config._attn_implementation = implementation
            return layer(x, rotary(x, torch.arange(n)[None]), added[None, None])[0]

        return run

    result = compared(call("attnc_of_a_test"), call("eager"), {"x": torch.randn(1, n, 32)})
    theirs = torch.zeros(1, n, n, dtype=torch.bool).scatter(-1, chosen[0].long(), True) & (added == 0)
    return Compared((attend.mask(n, heads=1, chosen=chosen[0][0]), theirs), result.outputs, result.gradients)


def sets(chosen: Any) -> Any:
    """A tensor of slots as ``attnc show`` reads it: lists of sets."""
    rows = chosen.tolist() if isinstance(chosen, Tensor) else chosen
    return [sets(row) for row in rows] if isinstance(rows[0], list) else {member for member in rows if member >= 0}


NEAR = torch.arange(64)
FEW = torch.stack([NEAR // 8 - 3, NEAR // 16 - 1], -1).clamp(min=-1)
FAR = torch.tensor([[0, 1], [0, 1], [0, 2], [1, 3], [0, 4], [2, 5], [3, 6], [0, 7]])
WIDE = torch.arange(8)[:, None] * 8 + torch.tensor([-24, -20, 0, 1, 2, 3, 4, 5, 6, 7])
JIANG = "Jiang et al., 2024"

SYSTEMS: tuple[System, ...] = (
    System(
        "NSA",
        "Yuan et al., 2025",
        "nsa:nsa",
        "native_sparse_attention_pytorch.SparseAttention",
        True,
        nsa,
        shown(chosen=sets(FEW[None]), block=8),
        timed=nsa_timed,
        note="the whole module, all three branches; timed: the chosen blocks",
    ),
    System(
        "NSA, each head chooses",
        "Yuan et al., 2025",
        "nsa:nsa",
        "native_sparse_attention_pytorch.SparseAttention",
        True,
        nsa_each_head,
        shown(chosen=sets(FEW[None]), block=8),
        note="the whole module, all three branches",
    ),
    System(
        "MoBA",
        "Lu et al., 2025",
        "moba:moba",
        "formula: MoBA, moba_attn_varlen_naive",
        False,
        moba,
        shown(chosen=sets(FEW[None]), chunk=8),
    ),
    System(
        "MInference, vertical and slash",
        JIANG,
        "vertical_slash:vertical_slash",
        "formula: MInference, search_pattern",
        False,
        vertical_slash,
        shown(vertical=[{0, 1, 17, 30}], slash=[{0, 1, 2, 3, 20, 21}]),
    ),
    System(
        "MInference, vertical and slash, its kernel",
        JIANG,
        "vertical_slash:vertical_slash_blocks",
        "formula: MInference, convert_vertical_slash_indexes_kernel",
        False,
        vertical_slash_blocks,
        shown(columns=sets(WIDE[None]), block=8),
        note="the kernel widens lines to the blocks that cover them",
    ),
    System(
        "MInference, block sparse",
        JIANG,
        "vertical_slash:block_sparse",
        "formula: MInference, block_sparse_attention",
        False,
        block_sparse,
        shown(chosen=sets(FAR[None]), block=8),
    ),
    System(
        "MInference, A-shape",
        JIANG,
        "vertical_slash:a_shape",
        "formula: MInference, search_pattern",
        False,
        a_shape,
        shown(first_keys=6, size=12),
    ),
    System(
        "DeepSeek sparse attention",
        "DeepSeek-AI, 2025",
        "deepseek_sparse:deepseek_sparse",
        "transformers.models.deepseek_v32.DeepseekV32Attention",
        True,
        deepseek,
        shown(chosen=sets(torch.stack([NEAR, NEAR - 1, NEAR - 2, NEAR * 7 % 31, NEAR * 0], -1))),
    ),
)
