"""Conditions on a query and a key as mask functions of transformers state them: the nouns between closure and text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

MaskFunction = Callable[[Any, Any, Any, Any], Any]
Position: TypeAlias = int | Tensor


@dataclass(frozen=True)
class MaskSizes:
    """What a mask is made for: ``q_length`` queries from position ``q_offset`` on, ``kv_length`` keys from
    ``kv_offset`` on. ``device``: where its tables are.
    """

    batch: int
    q_length: int
    kv_length: int
    q_offset: Position
    kv_offset: Position
    device: torch.device


@dataclass(frozen=True)
class Everything:
    """Every pair."""


@dataclass(frozen=True)
class Causal:
    """No key after the query."""


@dataclass(frozen=True)
class Behind:
    """The key is less than ``size`` positions behind the query, or after it."""

    size: int


@dataclass(frozen=True)
class Near:
    """The key is at most ``size`` positions away, on either side."""

    size: int


@dataclass(frozen=True, eq=False)
class SameChunk:
    """Query and key are in the same run of ``size`` positions, counted from ``left``, int ``[batch]``."""

    size: int
    left: Tensor


@dataclass(frozen=True, eq=False)
class SameGroup:
    """Query and key have the same number in ``ids``, int ``[batch, positions]``. ``signed``: and it is not negative."""

    ids: Tensor
    signed: bool


@dataclass(frozen=True, eq=False)
class KeptKey:
    """The key is marked in ``keep``, bool ``[batch, positions]``."""

    keep: Tensor


@dataclass(frozen=True, eq=False)
class Remapped:
    """``condition`` about other positions than those in the sequence: ``positions``, int ``[batch, positions]``."""

    condition: Condition
    positions: Tensor
    function: MaskFunction


@dataclass(frozen=True, eq=False)
class Both:
    """All of ``parts`` hold."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, eq=False)
class Either:
    """One of ``parts`` holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, eq=False)
class Opaque:
    """A function that is not known: it can only be evaluated."""

    function: MaskFunction


Condition: TypeAlias = (
    Everything | Causal | Behind | Near | SameChunk | SameGroup | KeptKey | Remapped | Both | Either | Opaque
)


def conjuncts(condition: Condition) -> tuple[Condition, ...]:
    """The parts that must all hold, those of conjunctions within conjunctions too."""
    if isinstance(condition, Both):
        return tuple(inner for part in condition.parts for inner in conjuncts(part))
    return (condition,)


def is_translation_invariant(condition: Condition) -> bool:
    """Whether the condition reads the distance from query to key and nothing else of their positions."""
    match condition:
        case Everything() | Causal() | Behind() | Near():
            return True
        case Both(parts) | Either(parts):
            return all(map(is_translation_invariant, parts))
        case _:
            return False


def name_of(function: MaskFunction) -> str:
    """What a mask function is called, with its module, for messages."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    return f"{module}.{name}" if module and name else repr(function)
