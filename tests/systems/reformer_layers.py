"""Reformer's layers, held against transformers in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import ReformerConfig
from transformers.models.reformer.modeling_reformer import LocalSelfAttention, LSHSelfAttention

import attnc
from tests.systems.layers import (
    DIM,
    HEADS,
    compared,
    counts_of,
    drawn,
    drawn_layer,
    merged,
    reading,
    split,
    unit_states,
)
from tests.systems.system import Compared, System

OWN_LOGIT = 1e-10
"""What is allowed in float64: a logit of -1e5, that of a token for itself, has steps of 1.5e-11 there."""
ENWIK8 = {
    "num_hashes": 4, "num_buckets": 512, "lsh_attn_chunk_length": 256, "local_attn_chunk_length": 128,
    "attn_layers": ["local", "local", "lsh", "local"] * 3, "max_position_embeddings": 65536,
}  # fmt: skip
"""What google/reformer-enwik8 has set."""


def reformer_config(size: int, dim: int, heads: int, causal: bool, after: int = 0, **changed: Any) -> Any:
    sizes = {"num_hashes": 3, "num_buckets": 8, "lsh_attn_chunk_length": 8, "local_attn_chunk_length": 8, **changed}
    return ReformerConfig(
        hidden_size=size, attention_head_size=dim, num_attention_heads=heads, hash_seed=0, is_decoder=causal,
        lsh_num_chunks_after=after, local_num_chunks_after=after, lsh_attention_probs_dropout_prob=0.0,
        local_attention_probs_dropout_prob=0.0, axial_pos_embds=False, **sizes,
    )  # fmt: skip


def places(buckets: Tensor) -> Tensor:
    """The place of each token among its round's sorted tokens, from buckets ``[batch, heads, rounds, n]``."""
    return buckets.argsort(dim=-1, stable=True).argsort(dim=-1)


def hashed_heads(layer: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of an LSH layer: the keys are the queries with the mean square 1."""
    q, v = (split(project(hidden), layer.attention_head_size) for project in (layer.query_key, layer.value))
    return q, q * torch.rsqrt(q.square().mean(-1, keepdim=True) + 1e-6), v


def our_hashed(layer: Any, hidden: Tensor, rank: Tensor) -> Tensor:
    declared = attnc.load("reformer")["reformer_causal" if layer.is_decoder else "reformer"]
    attend = declared(
        chunk=layer.chunk_length, rounds=layer.num_hashes, before=layer.num_chunks_before, after=layer.num_chunks_after
    )
    return merged(attend(*hashed_heads(layer, hidden), rank=rank))


def hashed(causal: bool) -> Callable[[], Compared]:
    """The comparison of an LSH layer, in float64: in float32 theirs loses the counts beside a logit of -1e5."""

    def compare() -> Compared:
        n, after = 48, 0 if causal else 1
        layer = drawn_layer(LSHSelfAttention(reformer_config(HEADS * DIM, DIM, HEADS, causal, after)).double())
        (hidden,) = drawn((2, n, HEADS * DIM))
        theirs = layer(hidden)
        rank = places(theirs.buckets)
        declared = attnc.load("reformer")["reformer_causal" if causal else "reformer"]
        mask = declared(chunk=8, rounds=3, after=after).mask(n, rank=rank)
        leaves = {"hidden states": hidden, **dict(layer.named_parameters())}
        keeps = hashed_mask(theirs.buckets, causal, after)
        return compared((mask, keeps), our_hashed(layer, hidden, rank), theirs.hidden_states, leaves)

    return compare


def hashed_mask(buckets: Tensor, causal: bool, after: int = 0, **changed: Any) -> Tensor:
    """How often an LSH layer with these buckets, ``[batch, heads, rounds, n]``, keeps each pair: int64.

    The weight of a token for itself is read off with the logit 0 in the place of -1e5. Of a causal layer it is read off
    which pairs it keeps: how often is that of one that is not causal.
    """
    batch, heads, rounds, n = buckets.shape
    states, found = unit_states(batch, n, n, torch.float64), []
    for decodes in (False, True)[: 1 + causal]:
        config = reformer_config(n, n, 1, decodes, after, **changed)
        reader = reading(LSHSelfAttention(config).double(), ("value",))
        reader.self_mask_value_float32.zero_()
        with torch.no_grad():
            out = torch.cat([reader(states, buckets=buckets[:, [head]]).hidden_states for head in range(heads)], dim=-1)
        kept = rounds * (2 + after) * config.lsh_attn_chunk_length
        found.append((split(out, n) > 1e-6).long() if decodes else counts_of(out, n, kept))
    return torch.stack(found).prod(0)


def enwik8() -> Compared:
    """Masks of two heads in four layers of the model, of which the others are repetitions."""
    n, rounds, heads = 512, 4, 8
    layers = attnc.load("reformer").reformer_enwik8().layers
    assert layers[:4] * 3 == layers
    buckets = torch.randint(512, (1, heads, rounds, n), generator=torch.Generator().manual_seed(0))
    buckets += 512 * torch.arange(rounds)[:, None]
    far = hashed_mask(buckets[:, :2], True, **ENWIK8)[0]
    reader = reading(LocalSelfAttention(reformer_config(n, n, 1, True, **ENWIK8)).double(), ("value",))
    with torch.no_grad():
        near = counts_of(reader(unit_states(1, n, n, torch.float64)).hidden_states, n)[0].expand(2, n, n)
    tables = [{"rank": places(buckets)[0]} if "rank" in one.tables else {} for one in layers[:4]]
    masks = [one.mask(n, heads=heads, **given)[:2] for one, given in zip(layers, tables, strict=False)]
    expected = [far if kind == "lsh" else near for kind in ENWIK8["attn_layers"][:4]]
    return Compared((torch.stack(masks), torch.stack(expected)))


def our_local(layer: Any, hidden: Tensor) -> Tensor:
    q, k, v = (split(project(hidden), layer.attention_head_size) for project in (layer.query, layer.key, layer.value))
    declared = attnc.load("reformer")["reformer_local_causal" if layer.is_decoder else "reformer_local"]
    attend = declared(chunk=layer.chunk_length, before=layer.num_chunks_before, after=layer.num_chunks_after)
    return merged(attend(q, k, v))


def local(causal: bool) -> Callable[[], Compared]:
    """The comparison of a local layer, in float64 as those of LSH."""

    def compare() -> Compared:
        n, after = 48, 0 if causal else 1
        reader = reading(LocalSelfAttention(reformer_config(n, n, 1, causal, after)).double(), ("value",))
        with torch.no_grad():
            out = reader(unit_states(1, n, n, torch.float64)).hidden_states
        theirs = counts_of(out, n, None if causal else (2 + after) * 8)[0]
        declared = attnc.load("reformer")["reformer_local_causal" if causal else "reformer_local"]
        mask = declared(chunk=8, after=after).mask(n).long()
        layer = drawn_layer(LocalSelfAttention(reformer_config(HEADS * DIM, DIM, HEADS, causal, after)).double())
        (hidden,) = drawn((2, n, HEADS * DIM))
        leaves = {"hidden states": hidden, **dict(layer.named_parameters())}
        return compared((mask, theirs), our_local(layer, hidden), layer(hidden).hidden_states, leaves)

    return compare


def hashed_at_length() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A layer of google/reformer-enwik8 that hashes, on 2,048 characters; ours hashes with its functions."""
    layer = drawn_layer(LSHSelfAttention(reformer_config(1024, 128, 8, True, **ENWIK8)))
    hidden = torch.randn(1, 2048, 1024)

    def ours() -> Tensor:
        q, k, v = hashed_heads(layer, hidden)
        rank = places(layer._hash_vectors(q, layer.num_hashes, None).view(*q.shape[:2], layer.num_hashes, -1))
        return merged(attnc.load("reformer").reformer_causal(chunk=256, rounds=4)(q, k, v, rank=rank))

    return ours, lambda: layer(hidden).hidden_states


def local_at_length() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A local layer of the same model, on 4,096."""
    layer = drawn_layer(LocalSelfAttention(reformer_config(1024, 128, 8, True, **ENWIK8)))
    hidden = torch.randn(1, 4096, 1024)
    return lambda: our_local(layer, hidden), lambda: layer(hidden).hidden_states


SYSTEMS: tuple[System, ...] = (
    System(
        "Reformer, LSH",
        "Kitaev et al., 2020",
        "reformer:reformer",
        "transformers LSHSelfAttention",
        True,
        hashed(False),
        ("--n", "48", "--set", "chunk=8"),
        tolerance=OWN_LOGIT,
    ),
    System(
        "Reformer, LSH, causal",
        "Kitaev et al., 2020",
        "reformer:reformer_causal",
        "transformers LSHSelfAttention",
        True,
        hashed(True),
        ("--n", "48", "--set", "chunk=8"),
        tolerance=OWN_LOGIT,
        timed=hashed_at_length,
    ),
    System(
        "Reformer, local",
        "Kitaev et al., 2020",
        "reformer:reformer_local",
        "transformers LocalSelfAttention",
        True,
        local(False),
        ("--n", "48", "--set", "chunk=8"),
        tolerance=OWN_LOGIT,
    ),
    System(
        "Reformer, local, causal",
        "Kitaev et al., 2020",
        "reformer:reformer_local_causal",
        "transformers LocalSelfAttention",
        True,
        local(True),
        ("--n", "48", "--set", "chunk=8"),
        tolerance=OWN_LOGIT,
        timed=local_at_length,
    ),
    System(
        "Reformer of enwik8",
        "Kitaev et al., 2020",
        "reformer:reformer_enwik8",
        "transformers LSHSelfAttention, LocalSelfAttention",
        True,
        enwik8,
        ("--n", "1024", "--layer", "0"),
        note="masks alone: the layers' outputs are compared above",
    ),
)
