"""Packed documents, found in ``position_ids`` where the library itself builds a mask without looking at them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from .choices import current, warn_once
from .pattern_mask import PatternMask
from .texts import with_table

_SAYS = (
    "position_ids hold several packed documents, but the library made this mask without them: a document would see "
    "those before it. attnc keeps documents apart; attnc.integrations.transformers.set_options(packing='library') "
    "gives what the library's mask says"
)
_MIXES = (
    "position_ids hold several packed documents, but the library made this mask without them, and the layer has chosen "
    "its keys by it: a document sees those before it. Without a cache and padding the library may keep them apart"
)


def documents_of(positions: Tensor) -> Tensor:
    """The number of the document that each token is in, int32 ``[batch, m]``: documents begin where the first did."""
    return _begins(positions).cumsum(-1).int()


def with_documents(mask: PatternMask, position_ids: object, is_sparse: bool) -> PatternMask:
    """The mask of a layer whose ``position_ids``, int ``[batch, m]``, may show packed documents: they are kept apart.

    The mask itself where there are none, where it keeps documents apart already, where there is padding, and in later
    steps of a cache; and for a layer that chooses keys itself (``is_sparse``), since it chose them across documents.
    Asked once for each mask and each tensor of positions.
    """
    if not _may_be_packed(mask, position_ids) or current().packing == "library":
        return mask
    assert isinstance(position_ids, Tensor)
    if torch.compiler.is_compiling():
        return mask if is_sparse else _apart(mask, documents_of(position_ids))
    known = mask.made.get("documents")
    if known is not None and known[0] is position_ids:
        found = known[1]
        assert isinstance(found, PatternMask)
        return found
    found = mask
    if _is_packed(position_ids) and is_sparse:
        warn_once("packing of sparse layers", _MIXES)
    elif _is_packed(position_ids):
        warn_once("packing", _SAYS)
        found = _apart(mask, documents_of(position_ids))
    mask.made["documents"] = position_ids, found
    return found


def _may_be_packed(mask: PatternMask, position_ids: object) -> bool:
    """Whether positions are worth looking at, as far as shapes tell."""
    origin, sizes = mask.origin, mask.sizes
    return (
        isinstance(position_ids, Tensor)
        and position_ids.ndim == 2
        and position_ids.shape[1] == sizes.q_length > 1
        and position_ids.shape[0] in (1, sizes.batch)
        and origin.causal
        and not origin.documents
        and not origin.padded
        and isinstance(sizes.q_offset, int)
        and isinstance(sizes.kv_offset, int)
        and sizes.q_offset == sizes.kv_offset == 0
        and sizes.kv_length >= sizes.q_length
    )


def _begins(positions: Tensor) -> Tensor:
    """Where a document begins after the first, bool ``[batch, m]``."""
    steps = torch.diff(positions, prepend=positions[:, :1] - 1, dim=-1)
    return (steps != 1) & (positions == positions[:, :1])


def _is_packed(positions: Tensor) -> bool:
    """Whether positions begin again, and otherwise go on by 1: nothing else is taken for documents."""
    begins = _begins(positions)
    goes_on = torch.diff(positions, prepend=positions[:, :1] - 1, dim=-1) == 1
    return bool(begins.any() & (begins | goes_on).all())


def _apart(mask: PatternMask, documents: Tensor) -> PatternMask:
    """The same mask, with documents kept apart; keys after the last row are in none."""
    documents = pad(documents, (0, mask.sizes.kv_length - mask.sizes.q_length), value=-1)
    written = with_table(mask.written, "document", "int[token]", documents, "document[q] == document[k]")
    origin = replace(mask.origin, documents=True)
    dense = mask.make_dense

    def make_dense() -> Tensor:
        same = documents[:, None, : mask.sizes.q_length, None] == documents[:, None, None, :]
        return torch.where(same, dense(), torch.finfo(mask.dtype).min)

    return replace(mask, written=written, origin=origin, make_dense=make_dense, made={})
