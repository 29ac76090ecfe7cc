"""Two calls on the same inputs, ours and the original's, and the ways in which originals attend under a mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from transformers import MistralConfig, masking_utils
from transformers.integrations.sdpa_attention import sdpa_attention_forward

Calls = tuple[Callable[[], Any], Callable[[], Any]]
"""Ours and the original's own code."""
Timed = Callable[[], Calls]
Attends = Callable[..., Any]
DIM = 64


def drawn(*shapes: Sequence[int]) -> list[Tensor]:
    """Random tensors in float32, the same at each call."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=generator) for shape in shapes]


def beside(
    ours: Attends,
    theirs: Attends,
    n: int = 4096,
    heads: tuple[int, int] = (8, 8),
    dim: int = DIM,
    m: int | None = None,
    **tables: Any,
) -> Calls:
    """Both on the same queries ``[1, heads, m, dim]`` and keys; ``heads``: of queries, and of keys. ``m``: n unless
    given.
    """
    q, k, v = drawn((1, heads[0], m or n, dim), *[(1, heads[1], n, dim)] * 2)
    return without_gradients(lambda: ours(q, k, v, **tables), lambda: theirs(q, k, v))


def without_gradients(ours: Callable[[], Any], theirs: Callable[[], Any]) -> Calls:
    """Both as they are in inference."""

    def of(call: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with torch.no_grad():
                return call()

        return run

    return of(ours), of(theirs)


# The library's default attention, which is PyTorch's.


def mask_of(function: Callable[..., Any], n: int) -> Tensor:
    """The mask that a model makes once for all layers of a kind, bool ``[1, 1, n, n]``."""
    made = masking_utils.sdpa_mask(1, n, n, mask_function=function, allow_is_causal_skip=False)
    assert made is not None
    return made


def made_mask(maker: str, n: int, window: int = 1024, **arguments: Any) -> Tensor:
    """The mask that a function of the library makes of a call's padding or positions."""
    config = MistralConfig(sliding_window=window)
    config._attn_implementation = "sdpa"
    given = {"attention_mask": None, "past_key_values": None, **arguments}
    made = getattr(masking_utils, maker)(config=config, inputs_embeds=torch.zeros(1, n, 8), **given)
    assert isinstance(made, Tensor)
    return made


def library(mask: Tensor | None, groups: int = 1, scaling: float | None = None, causal: bool = False) -> Attends:
    """The library's attention under a mask, or under none; ``groups``: queries' heads to a head of keys."""
    module: Any = SimpleNamespace(num_key_value_groups=groups, is_causal=causal)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return sdpa_attention_forward(module, q, k, v, mask, scaling=scaling)[0].transpose(1, 2)

    return attend


# FlexAttention, compiled, under a mask_mod.


def flex(modifier: Any, n: int, m: int | None = None) -> Attends:
    """PyTorch's compiled FlexAttention."""
    from torch.nn.attention.flex_attention import create_block_mask

    return flex_in_blocks(create_block_mask(modifier, None, None, m or n, n, device="cpu"))


def flex_in_blocks(blocks: Any) -> Attends:
    """The same under a mask of blocks that is there."""
    from torch.nn.attention.flex_attention import flex_attention

    compiled: Any = torch.compile(flex_attention)
    return lambda q, k, v: compiled(q, k, v, block_mask=blocks)
