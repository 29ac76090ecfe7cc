"""Patterns of ``use`` in models that go through transformers' attention interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from ....attention import Attention
from ....compiler import ir
from .compose import with_pattern
from .swapped import Settings

_SETTINGS = "attnc_pattern"


def attach(module: nn.Module, settings: Settings) -> None:
    """Notes what ``use`` was given for an attention module."""
    module.__dict__[_SETTINGS] = settings


def detach(module: nn.Module, only_ask: bool = False) -> bool:
    """Forgets it, or only says whether there is something."""
    there = _SETTINGS in module.__dict__
    if there and not only_ask:
        del module.__dict__[_SETTINGS]
    return there


def under_pattern(
    module: nn.Module, attention: Attention, tables: Mapping[str, Any], from_the_first: bool
) -> tuple[Attention, dict[str, Any]]:
    """What the interface runs for a module: its attention, under the pattern that ``use`` was given for it.

    The pairs that both keep, with the pattern's score, scale or sink where it has one of its own; and the tables of
    both. Without a pattern, what was given. ``from_the_first``: keys of the call are counted from the text's first.

    ValueError for a pattern in a call whose keys are not, since it would be met with other positions than it means.
    """
    settings: Settings | None = module.__dict__.get(_SETTINGS)
    if settings is None or settings.pattern is None:
        return attention, dict(tables)
    if not from_the_first:
        raise ValueError(
            f"{settings.pattern.name}: is a pattern of use, but the cache holds the last keys alone, or the mask is "
            "made for a part of the text, expected every key that the pattern reads: pass "
            "past_key_values=PatternCache(model.config)"
        )
    return with_pattern(attention, settings.pattern, _condition(attention)), {**tables, **settings.tables}


def _condition(attention: Attention) -> Attention:
    """The attention's mask alone."""
    bound = attention._bound
    tables = tuple(table for table in bound.tables if table.name in ir.tables_read(bound.mask))
    plain = replace(bound, score=ir.LOGIT, scale=ir.DEFAULT_SCALE, sink=None, tables=tables)
    return Attention(plain)
