"""Mask functions evaluated pair by pair, as the library itself does where it wants a dense mask."""

from __future__ import annotations

from torch import Tensor
from transformers.masking_utils import sdpa_mask

from .conditions import MaskFunction, MaskSizes


def evaluate(function: MaskFunction, sizes: MaskSizes, use_vmap: bool = True) -> Tensor:
    """What a mask function says of each pair: bool ``[batch, q_length, kv_length]``.

    ``use_vmap``: call it with one pair at a time, which suits any function; else with all of them, broadcast.
    """
    mask = sdpa_mask(
        batch_size=sizes.batch,
        q_length=sizes.q_length,
        kv_length=sizes.kv_length,
        q_offset=sizes.q_offset,
        kv_offset=sizes.kv_offset,
        mask_function=function,
        allow_is_causal_skip=False,
        allow_is_bidirectional_skip=False,
        use_vmap=use_vmap,
        device=sizes.device,
    )
    assert isinstance(mask, Tensor), "nothing may be skipped"
    return mask[:, 0]
