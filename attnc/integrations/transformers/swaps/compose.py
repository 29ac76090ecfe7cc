"""Attentions made of others: a mask and a score from here, conditions from there. Each is made once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from .... import load
from ....attention import Attention, Module
from ....compiler import ir

TEXTS: Mapping[str, Path] = {
    name: Path(__file__).with_name(f"{name}.attn") for name in ("longformer", "reformer", "decoders", "padding")
}
"""The texts of what swapped attentions compute: files to read, show and test as any other. BigBird's and most of
Reformer's are shipped.
"""


@lru_cache(maxsize=1)
def _modules() -> tuple[Module, ...]:
    return (*map(load, TEXTS.values()), load("std"), load("bigbird"), load("reformer"))


@lru_cache(maxsize=256)
def text(name: str, **constants: int) -> Attention:
    """A declaration of :data:`TEXTS`, of the prelude or of those shipped files, with its constants.

    Each is made once: layers ask for it at every call.
    """
    module = next(module for module in _modules() if name in module.declarations)
    made = module[name](**constants)
    assert isinstance(made, Attention)
    return made


@lru_cache(maxsize=256)
def filtered(attention: Attention, *conditions: Attention) -> Attention:
    """The attention, of whose pairs those are kept that every condition keeps.

    ValueError where two of them have a table of the same name that is not the same, or a condition counts.
    """
    bound = attention._bound
    mask, tables = bound.mask, bound.tables
    for condition in conditions:
        if condition._bound.mask.type != "bool":
            raise ValueError(f"{condition.name}: counts its pairs, expected a condition")
        mask = _both(condition._bound.mask, mask)
        tables = _joined(tables, condition._bound.tables)
    return Attention(replace(bound, mask=mask, tables=tables))


@lru_cache(maxsize=256)
def with_pattern(attention: Attention, pattern: Attention, *conditions: Attention) -> Attention:
    """The attention with another's mask in the place of its own, as far as the conditions keep its pairs.

    Where the pattern has a score, a scale or a sink, that replaces the attention's, too.
    """
    own, new = attention._bound, pattern._bound
    score = own.score if new.score == ir.LOGIT else new.score
    scale = own.scale if new.scale == ir.DEFAULT_SCALE else new.scale
    sink = own.sink if new.sink is None else new.sink
    read = ir.tables_read(score) | (set() if sink is None else ir.tables_read(sink)) | ir.tables_read(new.mask)
    tables = tuple(table for table in _joined(own.tables, new.tables) if table.name in read)
    made = replace(new, score=score, scale=scale, sink=sink, tables=tables)
    return filtered(Attention(made), *conditions)


@lru_cache(maxsize=256)
def united(always: Attention, where: Attention, pattern: Attention) -> Attention:
    """The pairs of ``always``, counted once, and those of ``pattern`` where ``where`` keeps them, with its score."""
    first, second, new = always._bound, where._bound, pattern._bound
    inner = _both(second.mask, new.mask)
    if new.mask.type == "bool":
        mask = ir.disjunction(first.mask, inner)
    else:
        mask = ir.choose(first.mask, ir.TRUE, inner)
    return Attention(replace(new, mask=mask, tables=_joined(_joined(first.tables, second.tables), new.tables)))


def _both(condition: ir.Expr, mask: ir.Expr) -> ir.Expr:
    if mask.type == "bool":
        return ir.conjunction(condition, mask)
    return ir.constructors.filtered(condition, mask)


def _joined(first: tuple[ir.Table, ...], second: tuple[ir.Table, ...]) -> tuple[ir.Table, ...]:
    known = {table.name: table for table in first}
    for table in second:
        if known.setdefault(table.name, table) != table:
            raise ValueError(
                f"{table.name}: is {ir.table_type(known[table.name])} and {ir.table_type(table)}, in the pattern and "
                "in the attention that it is put into, expected another name in the pattern"
            )
    return tuple(known.values())
