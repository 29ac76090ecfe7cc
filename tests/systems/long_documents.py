"""Encoders of long documents, held against transformers and a formula of AllenAI's kernel: Longformer, LED, BigBird."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BigBirdConfig, LEDConfig, LongformerConfig
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention, BigBirdModel
from transformers.models.led.modeling_led import LEDEncoderSelfAttention
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

import attnc
from tests.systems.layers import (
    DIM,
    EXACT,
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

LAYERS = 4e-6
"""What is allowed of layers, which run in float32.

Backward passes of kernels make probabilities anew from logits and their log-sum-exp. Between 4 and 8 these have steps
of 4.8e-7, so that a probability is wrong by as much of itself, and the differences that a gradient sums by some times
that: 2e-6 was measured.
"""

# Longformer, and the encoder of LED


def kinds(n: int) -> Tensor:
    """Three rows that differ in padding and in their globals: two, none, and two of which one is padding."""
    kind = torch.ones(3, n, dtype=torch.long)
    kind[0, n - 5 :], kind[2, : n // 3] = 0, 0
    kind[0, 3], kind[0, 17], kind[2, n - 1] = 2, 2, 2
    return kind


def windowed(layer: Any, hidden: Tensor, kind: Tensor) -> Tensor:
    """The layer's output by the shipped texts: rows of local tokens by one call, those of global tokens by another."""
    texts, dim = attnc.load("longformer"), layer.head_dim
    q, k, v = (split(project(hidden), dim) for project in (layer.query, layer.key, layer.value))
    local = texts.longformer_local(size=2 * layer.one_sided_attn_window_size)
    out = merged(local(q, k, v, kind=kind))
    globals_ = (kind == 2).nonzero()
    if not len(globals_):
        return out
    slots = int((kind == 2).sum(1).max())
    places = (kind == 2).int().argsort(dim=1, descending=True, stable=True)[:, :slots]
    tokens = hidden.gather(1, places[..., None].expand(-1, -1, hidden.shape[-1]))
    q = split(layer.query_global(tokens), dim)
    k, v = (split(project(hidden), dim) for project in (layer.key_global, layer.value_global))
    rows = merged(texts.longformer_global()(q, k, v, kind=kind))
    batch, slot = (kind.gather(1, places) == 2).nonzero(as_tuple=True)
    return out.index_put((batch, places[batch, slot]), rows[batch, slot])


def their_windowed(layer: Any, hidden: Tensor, kind: Tensor) -> Tensor:
    """The layer's own forward, called as its model does."""
    mask = torch.tensor([-10000.0, 0.0, 10000.0])[kind]
    return layer(hidden, mask, kind == 0, kind == 2, bool((kind == 2).any()))[0]


def longformer_layer(made: Callable[[Any, int], nn.Module], config: Any, n: int) -> Callable[[], Compared]:
    """The comparison of a layer at n tokens; ``config`` takes the hidden size and the number of heads."""

    def compare() -> Compared:
        kind = kinds(n)
        reader = reading(made(config(n, 1), 0), ("value", "value_global"))
        with torch.no_grad():
            theirs = counts_of(their_windowed(reader, unit_states(3, n, n), kind), n)
        whole = attnc.load("longformer").longformer_padded(size=2 * reader.one_sided_attn_window_size)
        layer = drawn_layer(made(config(HEADS * DIM, HEADS), 0))
        (hidden,) = drawn((3, n, HEADS * DIM), dtype=torch.float32)
        # The gradients of the keys' biases are 0 but for rounding: a bias adds one number to all logits of a row.
        weights = {name: one for name, one in layer.named_parameters() if name not in ("key.bias", "key_global.bias")}
        outputs = (forward(layer, hidden, kind) for forward in (windowed, their_windowed))
        return compared((whole.mask(n, kind=kind), theirs), *outputs, {"hidden states": hidden, **weights})

    return compare


def longformer_config(hidden: int, heads: int, window: int = 8) -> Any:
    return LongformerConfig(
        hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=1, attention_window=[window],
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip


def led_config(hidden: int, heads: int, window: int = 12) -> Any:
    return LEDConfig(
        d_model=hidden, encoder_attention_heads=heads, encoder_layers=1, attention_window=[window],
        attention_dropout=0.0,
    )  # fmt: skip


def longformer_at_length() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A layer of longformer-base-4096 on 4,096 tokens, of which the first is global."""
    layer = drawn_layer(LongformerSelfAttention(longformer_config(768, 12, 512), 0))
    hidden, kind = torch.randn(1, 4096, 768), torch.ones(1, 4096, dtype=torch.long)
    kind[0, 0] = 2
    return lambda: windowed(layer, hidden, kind), lambda: their_windowed(layer, hidden, kind)


def kernel_slots(
    n: int, reach: int, dilation: Sequence[int], autoregressive: bool, rows: int | None = None
) -> tuple[Tensor, Tensor]:
    """The keys that the authors' kernel multiplies: diagonal c of row i is key ``i + dilation[head] * (c - reach)``.

    Their positions, int64 ``[heads, rows, diagonals]`` of the last rows, else of all, and which lie within the text:
    the others are masked by their ``mask_invalid_locations``.
    """
    upper = 0 if autoregressive else reach
    diagonal, row = torch.arange(reach + upper + 1), torch.arange(n)[-(rows or n) :]
    slots = row[:, None] + torch.tensor(dilation)[:, None, None] * (diagonal - reach)
    return slots, (slots >= 0) & (slots < n)


def kernel_mask(n: int, reach: int, dilation: Sequence[int], autoregressive: bool, rows: int | None = None) -> Tensor:
    """How often the kernel keeps each pair, int64 ``[heads, rows, n]``."""
    slots, valid = kernel_slots(n, reach, dilation, autoregressive, rows)
    counts = torch.zeros(*slots.shape[:2], n, dtype=torch.long)
    return counts.scatter_add_(2, slots.clamp(0, n - 1), valid.long())


def by_kernel(q: Tensor, k: Tensor, v: Tensor, reach: int, dilation: Sequence[int], autoregressive: bool) -> Tensor:
    """Attention as AllenAI's ``diagonaled_mm`` has it: scores and probabilities by diagonals, never by pairs."""
    slots, valid = kernel_slots(q.shape[2], reach, dilation, autoregressive)
    heads, places = torch.arange(len(dilation))[:, None, None], slots.clamp(0, q.shape[2] - 1)
    scores = torch.einsum("bhnd,bhncd->bhnc", q / q.shape[-1] ** 0.5, k[:, heads, places])
    probabilities = scores.masked_fill(~valid, -torch.inf).softmax(-1)
    return torch.einsum("bhnc,bhncd->bhnd", probabilities, v[:, heads, places])


def diagonals(
    declaration: str, constants: Mapping[str, int], reach: int, dilation: Sequence[int], autoregressive: bool
) -> Callable[[], Compared]:
    """The comparison of a window with the authors' kernel."""

    def compare() -> Compared:
        n = 83
        attend = attnc.load("longformer")[declaration](**constants)
        theirs = kernel_mask(n, reach, dilation, autoregressive)
        mask = attend.mask(n, heads=len(dilation)).long()
        q, k, v = drawn(*[(2, len(dilation), n, DIM)] * 3)
        out = by_kernel(q, k, v, reach, dilation, autoregressive)
        return compared((mask, theirs), attend(q, k, v), out, {"q": q, "k": k, "v": v})

    return compare


def characters(name: str, layers: Sequence[int], dilations: Sequence[int]) -> Callable[[], Compared]:
    """The comparison of a character model; ``dilations``: of each layer, as the paper counts them, from 0.

    In the first phase and the last, of some layers, the last rows of a text that is longer than their windows; and the
    outputs of the last of them for a short text.
    """

    def compare() -> Compared:
        found = []
        for phase in (1, 5):
            model = attnc.load("longformer")[name](phase=phase)
            for layer in layers:
                window, spread = 32 * 2 ** (phase - 1 + min(layer, 4)), [dilations[layer] + 1] * 2 + [1] * 6
                n = window * max(spread) + 5
                ours = model.layers[layer].mask(n, 2, heads=8, q_start=n - 2)
                theirs = kernel_mask(n, window - 1, spread, True, rows=2)
                found.append((ours.long().flatten(), theirs.flatten()))
        masks = [torch.cat(side) for side in zip(*found, strict=True)]
        q, k, v = drawn(*[(1, 8, 150, DIM)] * 3)
        ours = attnc.load("longformer")[name]().layers[layers[-1]](q, k, v)
        theirs = by_kernel(q, k, v, 511, [dilations[layers[-1]] + 1] * 2 + [1] * 6, True)
        return compared((masks[0], masks[1]), ours, theirs, {"q": q, "k": k, "v": v})

    return compare


SMALL = (0,) * 6 + (1,) * 2 + (2,) * 2 + (3,) * 2
LARGE = (0,) * 15 + (1,) * 5 + (2,) * 5 + (3,) * 5


# BigBird


def bigbird_layer(hidden: int, heads: int, block: int = 4, training: bool = False, longest: int = 256) -> Any:
    config = BigBirdConfig(
        hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=1, block_size=block, num_random_blocks=3,
        max_position_embeddings=longest, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BigBirdBlockSparseAttention(config, seed=5).train(training)


def random_blocks(layer: Any, n: int) -> Tensor:
    """The blocks that the layer draws, int64 ``[heads, middle, draws]``, by its own functions."""
    state = np.random.get_state()
    np.random.seed(layer.seed)
    block, draws = layer.block_size, layer.num_random_blocks
    lengths, counts = layer._get_rand_attn_plan(n, block, draws)
    drawn_ = layer._bigbird_block_rand_mask_with_head(n, n, block, block, layer.num_attention_heads, lengths, counts)
    np.random.set_state(state)
    return torch.from_numpy(np.stack(drawn_, axis=0).astype(np.int64))


def their_bigbird(layer: Any, hidden: Tensor, real: Tensor) -> Tensor:
    """The layer's own forward, called as its model does; its random generator is left as it was."""
    blocked, band, rows, keys = BigBirdModel.create_masks_for_block_sparse_attn(real.to(hidden), layer.block_size)
    state = np.random.get_state()
    out = layer(hidden, band, rows, keys, blocked, blocked)[0]
    np.random.set_state(state)
    return out


def our_bigbird(layer: Any, hidden: Tensor, real: Tensor) -> Tensor:
    attend = attnc.load("bigbird").bigbird_padded(block=layer.block_size, draws=layer.num_random_blocks)
    q, k, v = (split(project(hidden), layer.attention_head_size) for project in (layer.query, layer.key, layer.value))
    return merged(attend(q, k, v, chosen=random_blocks(layer, hidden.shape[1]), real=real))


def bigbird(training: bool) -> Callable[[], Compared]:
    """The comparison of a layer in evaluation, where every random block is the first, or in training."""

    def compare() -> Compared:
        n = 72
        real = torch.ones(2, n, dtype=torch.bool)
        real[0, n - 9 :] = False
        reader = reading(bigbird_layer(2 * n, 2), ("value",)).train(training)
        with torch.no_grad():
            theirs = counts_of(their_bigbird(reader, unit_states(2, n, 2 * n), real), n)
        attend = attnc.load("bigbird").bigbird_padded(block=4)
        mask = attend.mask(n, chosen=random_blocks(reader, n), real=real)
        layer = drawn_layer(bigbird_layer(HEADS * DIM, HEADS)).train(training)
        (hidden,) = drawn((2, n, HEADS * DIM), dtype=torch.float32)
        weights = {name: one for name, one in layer.named_parameters() if name != "key.bias"}
        outputs = (forward(layer, hidden, real) for forward in (our_bigbird, their_bigbird))
        return compared((mask, theirs), *outputs, {"hidden states": hidden, **weights})

    return compare


def bigbird_at_length() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A layer of bigbird-roberta-base on 3,968 tokens, in evaluation."""
    layer = drawn_layer(bigbird_layer(768, 12, block=64, longest=4096))
    hidden, real = torch.randn(1, 3968, 768), torch.ones(1, 3968, dtype=torch.bool)
    return lambda: our_bigbird(layer, hidden, real), lambda: their_bigbird(layer, hidden, real)


# ETC


@dataclass(frozen=True)
class TwoInputs:
    """What ETC is given besides queries and keys: example ids of both inputs, and the sentence of each long token.

    ``[batch, tokens]`` of the global input and then the long one. ``globals_``: how many tokens the global one has.
    ``hard``: whether a global token sees its own sentence alone.
    """

    example: Tensor
    sentence: Tensor
    globals_: int
    hard: bool


def two_inputs() -> TwoInputs:
    """A row of two packed examples and padding, and one of a single example."""
    example = torch.zeros(2, 6 + 60, dtype=torch.long)
    sentence = torch.zeros_like(example)
    example[0, 3:5], example[0, 5] = 1, 9
    example[0, 6 + 31 : 6 + 52], example[0, 6 + 52 :] = 1, 9
    sentence[:, 6:] = torch.arange(60) // 11
    return TwoInputs(example, sentence, 6, True)


def relative_id(distance: int, furthest: int) -> int:
    """The id that ``RelativePositionGenerator`` gives to a key so far ahead of its query."""
    return min(distance, furthest) if distance >= 0 else furthest + min(-distance, furthest)


def etc_slots(given: TwoInputs, radius: int, furthest: int) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """For each query the keys of its one softmax, as ``FusedGlobalLocalAttention`` lines them up.

    For a long token the slots of its window, which the text may not fill, and the global tokens beside them; for a
    global token the global input and then the long one. Yields the query, and of its slots the keys ``[slots]``,
    whether each is allowed, bool ``[batch, slots]``, and the relative ids ``[batch, slots]``; keys and queries of both
    inputs are numbered in one sequence, the global input first.
    """
    first, n = given.globals_, given.example.shape[1]
    across = 2 * furthest + 1
    for query in range(n):
        if query < first:
            keys = torch.arange(n)
            own = given.sentence[:, first:] == query
            same = given.example == given.example[:, [query]]
            allowed = torch.cat([same[:, :first], same[:, first:] & (own | (not given.hard))], dim=1)
            near = torch.tensor([relative_id(key - query, furthest) for key in range(first)])
            ids = torch.cat([near.expand(len(own), -1), across + own.long()], dim=1)
        else:
            window = torch.arange(query - radius, query + radius + 1)
            inside = (window >= first) & (window < n)
            keys = torch.cat([window.clamp(first, n - 1), torch.arange(first)])
            same = given.example[:, keys] == given.example[:, [query]]
            allowed = same & torch.cat([inside, torch.ones(first, dtype=torch.bool)])
            near = torch.tensor([relative_id(int(key) - query, furthest) for key in window])
            own = given.sentence[:, [query]] == torch.arange(first)
            ids = torch.cat([near.expand(len(own), -1), across + own.long()], dim=1)
        yield query, keys, allowed, ids


def etc_formula(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, bias: Tensor, given: TwoInputs, radius: int, furthest: int
) -> tuple[Tensor, Tensor]:
    """Its outputs, and how often it keeps each pair. ``table``: ``[ids, heads, dim]``, ``bias``: ``[ids, heads]``."""
    batch, heads, n, dim = q.shape
    rows, kept = [], torch.zeros(batch, heads, n, n, dtype=torch.long)
    for query, keys, allowed, ids in etc_slots(given, radius, furthest):
        one = q[:, :, query]
        content = torch.einsum("bhd,bhsd->bhs", one, k[:, :, keys])
        relative = torch.einsum("bhd,bshd->bhs", one, table[ids]) + bias[ids].transpose(1, 2)
        scores = (content + relative) / dim**0.5 - 10000.0 * (~allowed)[:, None]
        rows.append(torch.einsum("bhs,bhsd->bhd", scores.softmax(-1), v[:, :, keys]))
        kept[:, :, query].scatter_add_(2, keys.expand(batch, heads, -1), allowed[:, None].long().expand(-1, heads, -1))
    return torch.stack(rows, 2), kept


def etc() -> Compared:
    """Both inputs in one call, with the masks and relative positions of the authors' models."""
    given, radius, furthest = two_inputs(), 7, 5
    ids = 2 * furthest + 3
    q, k, v, table, bias = drawn(*[(2, HEADS, given.example.shape[1], DIM)] * 3, (ids, HEADS, DIM), (ids, HEADS))
    theirs, kept = etc_formula(q, k, v, table, bias, given, radius, furthest)
    attend = attnc.load("etc").etc_relative(radius=radius, reach=furthest)
    relative = (torch.einsum("bhnd,rhd->bhnr", q, table) + bias.T[:, None]) / DIM**0.5
    tables = {"example": given.example, "sentence": given.sentence, "globals": given.globals_, "relative": relative}
    ours = attend(q, k, v, **tables)
    mask = attend.mask(given.example.shape[1], heads=HEADS, **tables)
    return compared((mask, kept), ours, theirs, {"q": q, "k": k, "v": v, "table": table, "bias": bias})


def etc_by_inputs() -> Compared:
    """The two inputs with keys of their own for each of the four attentions, in two calls: a softmax each."""
    given, radius = two_inputs(), 7
    given = replace(given, example=torch.zeros_like(given.example), hard=False)
    first, n = given.globals_, given.example.shape[1]
    q, of_long, of_global = drawn((2, HEADS, n, DIM), *[(2, 2, HEADS, n, DIM)] * 2)
    attend, found, kept = attnc.load("etc").etc(radius=radius), [], []
    for place, (k, v), rows in ((0, of_global, first), (first, of_long, n - first)):
        ours = attend(q[:, :, place : place + rows], k, v, q_start=place, globals=first)
        mask = attend.mask(n, rows, heads=HEADS, q_start=place, globals=first)
        none = q.new_zeros(5, HEADS, DIM), q.new_zeros(5, HEADS)  # no relative positions
        theirs, keeps = (part[:, :, place : place + rows] for part in etc_formula(q, k, v, *none, given, radius, 1))
        found.append((ours, theirs))
        kept.append((mask, keeps[0]))
    outputs, masks = ([torch.cat(side, -2) for side in zip(*pairs, strict=True)] for pairs in (found, kept))
    leaves = {"q": q, "keys and values of the long": of_long, "keys and values of the global": of_global}
    return compared((masks[0], masks[1]), *outputs, leaves)


SENTENCES = ("--set", f"example={[0] * 44}", "--set", f"sentence={[0] * 4 + [i // 10 for i in range(40)]}")

SYSTEMS: tuple[System, ...] = (
    System(
        "Longformer",
        "Beltagy et al., 2020",
        "longformer:longformer_padded",
        "transformers LongformerSelfAttention",
        True,
        longformer_layer(LongformerSelfAttention, longformer_config, 48),
        ("longformer:longformer", "--n", "64", "--set", "size=16", "--set", "g={0}"),
        timed=longformer_at_length,
        tolerance=LAYERS,
    ),
    System(
        "Longformer, encoder of LED",
        "Beltagy et al., 2020",
        "longformer:longformer_padded",
        "transformers LEDEncoderSelfAttention",
        True,
        longformer_layer(LEDEncoderSelfAttention, led_config, 48),
        ("longformer:longformer", "--n", "64", "--set", "size=24", "--set", "g={0, 40}"),
        tolerance=LAYERS,
    ),
    System(
        "Longformer, dilated heads",
        "Beltagy et al., 2020",
        "longformer:longformer_dilated_heads",
        "formula: allenai/longformer diagonaled_mm_tvm.py, dilation of each head",
        False,
        diagonals("longformer_dilated_heads", {"size": 14, "dilation": 3, "dilated": 2}, 7, (3, 3, 1, 1), False),
        ("--n", "64", "--heads", "4", "--set", "size=14"),
        tolerance=EXACT,
    ),
    System(
        "Longformer, autoregressive",
        "Beltagy et al., 2020",
        "longformer:longformer_autoregressive",
        "formula: allenai/longformer diagonaled_mm_tvm.py, autoregressive",
        False,
        diagonals("longformer_autoregressive", {"reach": 9, "dilation": 4}, 9, (4, 4), True),
        ("--n", "64", "--set", "reach=9", "--set", "dilation=3"),
        tolerance=EXACT,
    ),
    System(
        "Longformer, small character model",
        "Beltagy et al., 2020",
        "longformer:longformer_char_small",
        "formula: allenai/longformer diagonaled_mm_tvm.py under the paper's table 12",
        False,
        characters("longformer_char_small", (0, 2, 6, 8, 10), SMALL),
        ("--n", "4096", "--layer", "10"),
        tolerance=EXACT,
    ),
    System(
        "Longformer, large character model",
        "Beltagy et al., 2020",
        "longformer:longformer_char_large",
        "formula: allenai/longformer diagonaled_mm_tvm.py under the paper's table 12",
        False,
        characters("longformer_char_large", (3, 14, 15, 20, 29), LARGE),
        ("--n", "4096", "--layer", "29"),
        tolerance=EXACT,
    ),
    System(
        "BigBird, evaluation",
        "Zaheer et al., 2020",
        "bigbird:bigbird_padded",
        "transformers BigBirdBlockSparseAttention",
        True,
        bigbird(False),
        ("--n", "48", "--set", "block=4"),
        timed=bigbird_at_length,
        tolerance=LAYERS,
    ),
    System(
        "BigBird, training",
        "Zaheer et al., 2020",
        "bigbird:bigbird_padded",
        "transformers BigBirdBlockSparseAttention",
        True,
        bigbird(True),
        ("--n", "48", "--set", "block=4"),
        tolerance=LAYERS,
    ),
    System(
        "ETC",
        "Ainslie et al., 2020",
        "etc:etc",
        "formula: google-research etcmodel/layers/attention.py FusedGlobalLocalAttention",
        False,
        etc_by_inputs,
        ("--n", "64", "--set", "globals=6", "--set", "radius=8"),
        note="in two calls, one for each input: each of the four attentions has keys and values of its own",
        tolerance=EXACT,
    ),
    System(
        "ETC, sentences and relative positions",
        "Ainslie et al., 2020",
        "etc:etc_relative",
        "formula: google-research etcmodel/layers/attention.py FusedGlobalLocalAttention, models/input_utils.py",
        False,
        etc,
        ("etc:etc_sentences", "--n", "44", "--set", "radius=5", "--set", "globals=4", *SENTENCES),
        tolerance=EXACT,
    ),
)
