"""What transformers calls to prepare a mask: the pattern is read off the mask function, and nothing dense is made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import causal_mask_function, eager_mask, prepare_padding_mask

from .choices import warn_once
from .closures import opaque_parts, read
from .conditions import Causal, KeptKey, MaskFunction, MaskSizes, Position, SameGroup, conjuncts, name_of
from .evaluation import evaluate
from .pattern_mask import Origin, PatternMask
from .simplify import simplified
from .texts import Written, with_table, write


def attention_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Position = 0,
    kv_offset: Position = 0,
    mask_function: MaskFunction = causal_mask_function,
    attention_mask: Tensor | PatternMask | None = None,
    **given: Any,
) -> PatternMask | None:
    """The mask of a call as a :class:`PatternMask`; None where eager attention gets none, since every pair is kept.

    ``attention_mask``: bool ``[batch, positions]``, the keys that are no padding; a mask that is prepared already is
    returned as it is. A mask function that is not one of the library's becomes a table, with one warning.
    """
    if isinstance(attention_mask, PatternMask):
        return attention_mask
    device = torch.device(given.get("device", "cpu"))
    sizes = MaskSizes(batch_size, q_length, kv_length, q_offset, kv_offset, device)
    padding = prepare_padding_mask(attention_mask, kv_length, kv_offset)
    padding = None if padding is None else padding.to(device=device, dtype=torch.bool)
    tracing = torch.compiler.is_compiling()
    if not tracing and _keeps_everything(padding, kv_length, given):
        return None
    if tracing:
        written, origin = _while_tracing(mask_function, sizes, padding, given)
    else:
        written, origin = _read_back(mask_function, sizes, padding)

    def make_dense() -> Tensor:
        return eager_mask(  # type: ignore[no-any-return]
            batch_size=batch_size,
            q_length=q_length,
            kv_length=kv_length,
            q_offset=q_offset,
            kv_offset=kv_offset,
            mask_function=mask_function,
            attention_mask=padding,
            **{**given, "allow_is_bidirectional_skip": False},
        )

    return PatternMask(written, sizes, given.get("dtype", torch.float32), origin, make_dense)


def _keeps_everything(padding: Tensor | None, kv_length: int, given: dict[str, Any]) -> bool:
    """Whether eager attention gets no mask: the caller allows that, and no key is left out."""
    local_size = given.get("local_size")
    return (
        bool(given.get("allow_is_bidirectional_skip"))
        and (local_size is None or kv_length < local_size)
        and (padding is None or bool(padding.all()))
    )


def _read_back(function: MaskFunction, sizes: MaskSizes, padding: Tensor | None) -> tuple[Written, Origin]:
    """The text of a mask function and of the padding, and what they are like."""
    condition = simplified(read(function))
    for part in opaque_parts(condition):
        name = name_of(part.function)
        warn_once(
            f"mask function {name}",
            f"mask function {name} is not one of the library's, so attnc evaluates it for every pair of positions and "
            "keeps the result as a table: correct, and as large as the dense mask",
        )
    parts = conjuncts(condition)
    origin = Origin(
        causal=any(isinstance(part, Causal) for part in parts),
        documents=any(isinstance(part, SameGroup) for part in parts),
        padded=padding is not None and not (padding.device.type == "cpu" and bool(padding.all())),
    )
    if padding is not None:
        condition = simplified(condition, KeptKey(padding))
    return write(condition, sizes), origin


def _while_tracing(
    function: MaskFunction, sizes: MaskSizes, padding: Tensor | None, given: dict[str, Any]
) -> tuple[Written, Origin]:
    """The same where torch traces, and no closure that holds a tensor can be looked into: such a function is evaluated,
    as eager attention does it, and its result is a table.
    """
    chunks = getattr(given.get("config"), "attention_chunk_size", None)
    skips = given.get("allow_is_causal_skip", True) or given.get("allow_is_bidirectional_skip", False)
    if given.get("use_vmap", False) or not skips or (given.get("local_size") is not None and chunks is not None):
        allowed = evaluate(function, sizes, given.get("use_vmap", False))
        text, types, tables = "allowed[q, k]", {"allowed": "bool[query, token]"}, {"allowed": allowed}
        written = Written(text, types, tables, _rows(sizes.q_offset, sizes))
        origin = Origin(causal=False, documents=True, padded=padding is not None)
    else:
        written = Written(_simple_text(function), {}, {}, _rows(sizes.q_offset - sizes.kv_offset, sizes))
        origin = Origin(causal=_is_causal(function), documents=False, padded=padding is not None)
    if padding is not None:
        first = sizes.kv_offset
        if isinstance(first, Tensor):
            kept = padding[:, torch.arange(sizes.kv_length, device=padding.device) + first]
        else:
            kept = padding[:, first : first + sizes.kv_length]
        written = with_table(written, "kept", "bool[token]", kept, "kept[k]")
    return written, origin


def _rows(start: Position, sizes: MaskSizes) -> Position:
    return start.reshape(-1).expand(sizes.batch) if isinstance(start, Tensor) else start


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _simple_text(function: MaskFunction) -> str:
    """The text of a function that reads distances alone."""
    condition = simplified(read(function))
    return write(condition, MaskSizes(1, 1, 1, 0, 0, torch.device("cpu"))).condition


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _is_causal(function: MaskFunction) -> bool:
    return any(isinstance(part, Causal) for part in conjuncts(simplified(read(function))))
