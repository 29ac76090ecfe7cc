"""Mask functions of transformers, read back into conditions by the code that they run and the values that they hold.

A function is known by its code object, which all closures of one factory share; nothing is called and no tensor's
contents are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import CodeType
from typing import Any

import torch
from transformers import masking_utils

from .conditions import (
    Behind,
    Both,
    Causal,
    Condition,
    Either,
    Everything,
    KeptKey,
    MaskFunction,
    Near,
    Opaque,
    Remapped,
    SameChunk,
    SameGroup,
)

Reader = Callable[[MaskFunction, Mapping[str, Any]], Condition]


def read(function: MaskFunction) -> Condition:
    """The condition that a mask function states; :class:`Opaque` where its code is not one of the library's."""
    code = getattr(function, "__code__", None)
    reader = _READERS.get(code) if isinstance(code, CodeType) else None
    return Opaque(function) if reader is None else reader(function, _held(function))


def opaque_parts(condition: Condition) -> Iterator[Opaque]:
    """The parts of a condition that are not known."""
    match condition:
        case Opaque():
            yield condition
        case Both(parts) | Either(parts):
            for part in parts:
                yield from opaque_parts(part)
        case Remapped(inner):
            yield from opaque_parts(inner)


def _held(function: Any) -> Mapping[str, Any]:
    """What a closure holds, by the names of its code."""
    cells = function.__closure__ or ()
    return {name: cell.cell_contents for name, cell in zip(function.__code__.co_freevars, cells, strict=True)}


def _size(held: Mapping[str, Any], name: str) -> int | None:
    """An int that a closure holds; None for anything else, such as a tensor that counts."""
    value = held.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _behind(function: MaskFunction, held: Mapping[str, Any]) -> Condition:
    size = _size(held, "sliding_window")
    return Opaque(function) if size is None else Behind(size)


def _near(function: MaskFunction, held: Mapping[str, Any]) -> Condition:
    size = _size(held, "sliding_window")
    return Opaque(function) if size is None else Near(size)


def _chunk(function: MaskFunction, held: Mapping[str, Any]) -> Condition:
    size = _size(held, "chunk_size")
    return Opaque(function) if size is None or size < 1 else SameChunk(size, held["left_padding"])


def _remapped(function: MaskFunction, held: Mapping[str, Any]) -> Condition:
    return Remapped(read(held["mask_function"]), held["position_ids"], function)


def _readers() -> dict[CodeType, Reader]:
    """The readers of the functions that this version of the library has, by the code of each."""
    ids = torch.zeros((1, 1), dtype=torch.long)
    anything = masking_utils.causal_mask_function
    made: tuple[tuple[str, tuple[Any, ...] | None, Reader], ...] = (
        ("causal_mask_function", None, lambda _, __: Causal()),
        ("bidirectional_mask_function", None, lambda _, __: Everything()),
        ("sliding_window_overlay", (1,), _behind),
        ("sliding_window_bidirectional_overlay", (1,), _near),
        ("chunked_overlay", (1, ids), _chunk),
        ("blockwise_overlay", (ids,), lambda _, held: SameGroup(held["block_sequence_ids"], signed=True)),
        (
            "packed_sequence_mask_function",
            (ids,),
            lambda _, held: SameGroup(held["packed_sequence_mask"], signed=False),
        ),
        ("padding_mask_function", (ids,), lambda _, held: KeptKey(held["padding_mask"])),
        ("remap_positions_for_packed_sequence", (anything, ids), _remapped),
        ("and_masks", (anything,), lambda _, held: Both(tuple(map(read, held["mask_functions"])))),
        ("or_masks", (anything,), lambda _, held: Either(tuple(map(read, held["mask_functions"])))),
    )
    found = {}
    for name, given, reader in made:
        function = getattr(masking_utils, name, None)
        if function is not None:
            found[(function if given is None else function(*given)).__code__] = reader
    return found


_READERS = _readers()
