"""Turns the offsets of packed sequences into the table by which a pattern keeps them apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..runtime.base import dtype_name
from ..runtime.call import copied, integer, unfit

_EXPECTED = "the offsets of packed sequences: integers [sequences + 1]"
_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)


def documents(cu_seqlens: Tensor | Sequence[int] | Any, n: int | None = None) -> Tensor:
    """The number of the sequence that each of ``n`` packed tokens is in, int32 ``[n]``: a table ``int[token]`` such as
    that of ``documents(doc: int[token])``.

    ``cu_seqlens``: where each sequence begins, and at last where the last one ends, integers ``[sequences + 1]``, as
    FlashAttention's ``cu_seqlens_q`` and transformers' ``cu_seq_lens_q``; a tensor, a numpy array or a list. They begin
    with 0, never fall and end with ``n``, the number of tokens, which is read from them unless it is given. A sequence
    may be empty. The result is on the device of ``cu_seqlens``. Offsets on a GPU are neither read nor checked where
    ``n`` is given.

    TypeError and ValueError, naming the parameter, for offsets that are not so.
    """
    offsets = _tensor(cu_seqlens)
    tokens = None if n is None else integer(n)
    if n is not None and tokens is None:
        raise TypeError(f"n: is {type(n).__name__}, expected an int, the number of packed tokens")
    if tokens is not None and tokens < 0:
        raise ValueError(f"n: is {tokens}, expected the number of packed tokens, 0 or more")
    known = offsets.device.type == "cpu" and not torch.compiler.is_compiling()
    if known or tokens is None:
        tokens = _checked(offsets, tokens)
    positions = torch.arange(tokens, device=offsets.device, dtype=offsets.dtype)
    return torch.searchsorted(offsets[1:].contiguous(), positions, right=True, out_int32=True)


def _tensor(given: object) -> Tensor:
    """The offsets as a tensor ``[sequences + 1]``, int32 or int64, on their own device."""
    if isinstance(given, Tensor):
        odd = unfit(given)
        if odd is not None:
            raise TypeError(f"cu_seqlens: {odd}, expected {_EXPECTED}")
        found = given
    elif isinstance(given, (list, tuple, np.ndarray)):
        try:
            found = copied("cu_seqlens", np.asarray(given) if len(given) else np.zeros(0, np.int64), _EXPECTED)
        except ValueError as error:  # of a ragged list
            raise ValueError(f"cu_seqlens: cannot be read as an array, expected {_EXPECTED}") from error
    else:
        raise TypeError(f"cu_seqlens: is {type(given).__name__}, expected {_EXPECTED}")
    if found.dtype not in _INTEGERS:
        raise TypeError(f"cu_seqlens: has dtype {dtype_name(found.dtype)}, expected {_EXPECTED}")
    if found.ndim != 1 or not found.shape[0]:
        raise ValueError(f"cu_seqlens: has shape {list(found.shape)}, expected {_EXPECTED}")
    return found if found.dtype in (torch.int32, torch.int64) else found.long()


def _checked(offsets: Tensor, n: int | None) -> int:
    """The number of tokens, of offsets whose contents may be read. ValueError for those that do not fit."""
    values: list[int] = offsets.tolist()
    if values[0]:
        raise ValueError(f"cu_seqlens: begins with {values[0]}, expected 0, where the first sequence begins")
    for place, (first, last) in enumerate(pairwise(values)):
        if last < first:
            raise ValueError(
                f"cu_seqlens: falls from {first} to {last} at entry {place + 1}, expected offsets that never fall"
            )
    if n is not None and values[-1] != n:
        raise ValueError(f"cu_seqlens: ends with {values[-1]}, expected {n}, the number of packed tokens")
    return values[-1]
