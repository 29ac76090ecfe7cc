"""What stands in the mask's place where every attention of a model is swapped: the keys that are no padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function, causal_mask_function, prepare_padding_mask

NAME = "attnc_swapped"
"""The attention implementation under which models prepare a :class:`KeyMask`."""


@dataclass(frozen=True, eq=False)
class KeyMask:
    """Which keys of a call are no padding, bool ``[batch, keys]``, or None where none is; nothing dense is made.

    ``q_start``: the position of the first of ``rows`` queries, as keys are counted; ``causal``: whether no row sees a
    later key. ``ndim`` is 4, as of a mask ``[batch, 1, rows, keys]``, or what the model takes for not prepared yet.
    """

    kept: Tensor | None
    batch: int
    rows: int
    keys: int
    q_start: int | Tensor
    causal: bool
    dtype: torch.dtype
    device: torch.device
    ndim: int = 4

    @property
    def shape(self) -> torch.Size:
        """``[batch, 1, rows, keys]``."""
        return torch.Size((self.batch, 1, self.rows, self.keys))

    def to(self, *_: object, **__: object) -> KeyMask:
        """The mask itself: models ask for another dtype."""
        return self

    def contiguous(self) -> KeyMask:
        """The mask itself: generation asks for one in memory order."""
        return self

    @classmethod
    def __torch_function__(cls, function: Any, *_: Any, **__: Any) -> NoReturn:
        """Raises ValueError: an attention that is not swapped computes with the mask."""
        name = getattr(function, "__name__", str(function))
        raise ValueError(
            f"attention mask: {name} is to compute with it, but it holds the keys that are no padding alone: is this "
            "model built from the configuration of another that is in use? Call use for it too"
        )

    def __getitem__(self, index: object) -> Tensor:
        """``mask[:, 0, 0, :]``: what the first row of the additive mask would be, ``[batch, keys]``."""
        if index != (slice(None), 0, 0, slice(None)) or self.causal:
            raise TypeError(f"attention mask: is asked for {index}, but holds the keys that are no padding alone")
        row = torch.zeros(self.batch, self.keys, dtype=self.dtype, device=self.device)
        return row if self.kept is None else row.masked_fill(~self.kept, torch.finfo(self.dtype).min)


def key_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int | Tensor = 0,
    mask_function: Any = causal_mask_function,
    attention_mask: Tensor | KeyMask | None = None,
    dtype: torch.dtype = torch.float32,
    config: Any = None,
    **given: Any,
) -> KeyMask:
    """The mask of a call, from ``attention_mask``: bool ``[batch, positions]``, or one that is prepared already.

    ValueError for a mask function that is neither causal nor full.
    """
    if isinstance(attention_mask, KeyMask):
        return attention_mask
    if mask_function not in (causal_mask_function, bidirectional_mask_function):
        raise ValueError(
            f"mask_function: is {mask_function!r}, expected the causal or the bidirectional one: undo() gives the "
            "model its own attention back"
        )
    kept = prepare_padding_mask(attention_mask, kv_length, kv_offset)
    device = torch.device(given.get("device", "cpu"))
    if kept is not None:
        kept = kept[:, kv_offset : kv_offset + kv_length].to(device=device, dtype=torch.bool)
        if device.type == "cpu" and bool(kept.all()):
            kept = None
    start = q_offset - kv_offset
    if isinstance(start, Tensor):
        start = start.to(device).reshape(-1).expand(batch_size)
    unprepared = bool(getattr(config, "alibi", False))  # Falcon adds its ALiBi to a mask of four dimensions
    causal = mask_function is causal_mask_function
    return KeyMask(
        kept, batch_size, q_length, kv_length, start, causal, dtype, device, ndim=2 if unprepared else 4
    )  # fmt: skip


def require_key_mask(mask: object) -> KeyMask:
    """The mask, if it was prepared for these kernels; ValueError for any other."""
    if isinstance(mask, KeyMask):
        return mask
    given = f"a tensor {list(mask.shape)}" if isinstance(mask, Tensor) else repr(mask)
    raise ValueError(
        f"attention_mask: is {given}, expected [batch, positions] for the whole model: a mask for each pair of "
        "positions is not read here; as a pattern it goes into use(model, pattern=…)"
    )


def _never_called(module: Any, *_: Any, **__: Any) -> NoReturn:
    """Raises ValueError: an attention that goes through the interface has come into a model after it was swapped."""
    raise ValueError(
        f"{type(module).__name__}: goes through the attention interface in a model whose attention is swapped: call "
        "undo(), and use again"
    )


AttentionInterface.register(NAME, _never_called)  # models look up whether there is an implementation of this name
AttentionMaskInterface.register(NAME, key_mask)
