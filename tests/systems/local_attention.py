"""Full and local attention, against the library's plainest models and the package local-attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, scaled_dot_product_attention
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model
from transformers.masking_utils import causal_mask_function
from transformers.models.bert import modeling_bert
from transformers.models.gpt2 import modeling_gpt2

import attnc
from attnc.testing import applied_mask
from tests.systems import originals
from tests.systems.hf_layers import beside, compared, dense, drawn, layer_calls, tokens
from tests.systems.system import Compared, System

N, SIZE, HEADS, WIDTH = 41, 6, 2, 8


def full(lengths: tuple[int, ...] = ()) -> Compared:
    """BERT's second layer; with lengths, the later tokens of each entry are padding, which no row sees."""
    config = BertConfig(
        vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    padding, tables = {}, {}
    if lengths:
        tables["length"] = torch.tensor(lengths)
        padding["attention_mask"] = (torch.arange(N) < tables["length"][:, None]).long()
    call = layer_calls(drawn(BertModel, config), modeling_bert, input_ids=tokens(N), **padding)[1]
    return compared(call, attnc.load("std").padded() if lengths else attnc.load("full").full(), **tables)


def causal() -> Compared:
    """GPT-2's second layer."""
    config = GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2)
    call = layer_calls(drawn(GPT2Model, config), modeling_gpt2, input_ids=tokens(N))[1]
    return compared(call, attnc.load("causal").causal())


def package(**arguments: Any) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The package's module, made to pad the text to whole windows, and told that what it adds is padding."""
    module = originals.module("local_attention").LocalAttention(autopad=True, **arguments)
    return lambda q, k, v: module(q, k, v, mask=torch.ones(q.shape[0], q.shape[-2], dtype=torch.bool))


def local(attend: attnc.Attention, unit_keys: bool = False, **arguments: Any) -> Compared:
    """41 tokens are 7 windows, the last not whole. ``unit_keys``: the package makes keys of length 1 itself."""
    module = package(window_size=SIZE, **arguments)
    generator = torch.Generator().manual_seed(0)
    inputs = [2 * torch.randn(2, HEADS, N, WIDTH, generator=generator, dtype=torch.float64) for _ in "qkv"]
    ours, theirs = ([one.clone().requires_grad_() for one in inputs] for _ in range(2))
    q, k, v = ours
    found, wanted = attend(q, normalize(k, dim=-1) if unit_keys else k, v), module(*theirs)
    weight = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
    own, slopes = (torch.autograd.grad((out * weight).sum(), of) for out, of in ((found, ours), (wanted, theirs)))
    gradients = dict(zip(("query", "key", "value"), zip(own, slopes, strict=True), strict=True))
    kept = None if unit_keys else (attend.mask(N)[None], applied_mask(module, N, N))
    return Compared(mask=kept, outputs=(found.detach(), wanted.detach()), gradients=gradients)


def timed(
    attend: attnc.Attention, unit_keys: bool = False, **arguments: Any
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Windows of 128 in 4,096 tokens, all of them whole. ``unit_keys``: ours makes keys of length 1 then, too."""
    module = originals.module("local_attention").LocalAttention(window_size=128, **arguments)
    ours = (lambda q, k, v: attend(q, normalize(k, dim=-1), v)) if unit_keys else attend
    return beside(ours, module, heads=(4, 4))


def row(name: str, declaration: str, note: str = "", **arguments: Any) -> System:
    """The package beside one declaration of the file local, each with one window before, at the sizes of both."""

    def make(*sizes: int) -> attnc.Attention:
        return attnc.load("local")[declaration](*sizes)

    unit_keys = "shared_qk" in arguments
    return System(
        f"Local attention, {name}",
        "Parmar et al., 2018",
        f"local:{declaration}",
        "local-attention, LocalAttention",
        True,
        lambda: local(make(SIZE), unit_keys, **arguments),
        (f"local:{declaration}", "--n", "32", "--set", "size=6"),
        timed=lambda: timed(make(), unit_keys, **arguments),
        note=f"in float64{note}",
    )


SYSTEMS: tuple[System, ...] = (
    System(
        "Full attention", "Vaswani et al., 2017", "full:full", "transformers, BertSelfAttention", True, full,
        ("full:full", "--n", "32"),
        timed=lambda: beside(attnc.load("full").full(), scaled_dot_product_attention, heads=(4, 4)), note="in float64",
    ),
    System(
        "Full attention with padding", "Vaswani et al., 2017", "std:padded", "transformers, BertSelfAttention", True,
        lambda: full(lengths=(N, 30)), ("std:padded", "--n", "32", "--set", "length=25"), note="in float64",
    ),
    System(
        "Causal attention", "Vaswani et al., 2017", "causal:causal", "transformers, GPT2Attention", True, causal,
        ("causal:causal", "--n", "32"),
        timed=lambda: beside(attnc.load("causal").causal(), dense(causal_mask_function)), note="in float64",
    ),
    row("blocks", "local"),
    row("exact", "local_exact", exact_windowsize=True),
    row("causal blocks", "local_causal", causal=True),
    row("causal, exact", "local_causal_exact", causal=True, exact_windowsize=True),
    row(
        "shared queries and keys", "local_shared", "; the mask is that of causal blocks", causal=True, shared_qk=True
    ),
)  # fmt: skip
