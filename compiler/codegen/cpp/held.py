"""Finds what a mask reads of tables for blocks of keys: values that a pair shares with the pairs of the key before it.

``k // 256 in chosen[head, q]`` is looked up for each query, one lane after the other, but changes with ``k // 256``
only. While keys are alike in that, a kernel keeps what it read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...ir import Apply, Const, Entry, Expr, K, Member, Position, Q, children, depends_on, walk
from .. import Code
from .stages import Stages, Straight

_FEWEST = 8
"""The shortest block of keys for which values are kept."""
_ROWS = 64
"""The shortest block of rows that fills a tile: its rows keep the same keys."""


@dataclass(frozen=True)
class HeldText:
    """The code of what a segment's mask reads for a block of keys.

    ``fields``: declarations of the values, which ``statements`` give to ``held``; ``alike``: what two keys have in
    common where the values are the same; ``mask``: the mask of a pair by these values.
    """

    fields: tuple[Code, ...]
    statements: tuple[Code, ...]
    alike: tuple[Code, ...]
    mask: Straight


def reads_by_block(condition: Expr) -> dict[Expr, tuple[Expr, ...]]:
    """The lookups of a condition that differ from query to query, and from block to block of keys, but not within a
    block; each with the parts that number the blocks. Lookups inside others are left out.
    """
    found: dict[Expr, tuple[Expr, ...]] = {}
    for node in walk(condition):
        if _is_lookup(node) and depends_on(node, "q") and depends_on(node, "k"):
            blocks = tuple(dict.fromkeys(_of_keys(node)))
            if all(_by_block(block, K, _FEWEST) for block in blocks):
                found[node] = blocks
    inside = {part for node in found for child in children(node) for part in walk(child)}
    return {node: blocks for node, blocks in found.items() if node not in inside}


def held_text(condition: Expr, lookups: Mapping[Expr, tuple[Expr, ...]], stages: Stages) -> HeldText:
    """The code by which a mask keeps what some of its lookups read; ``stages`` spells these and their blocks."""
    known = frozenset(stages.spelled[node] for node in lookups)
    blocks = dict.fromkeys(stages.spelled[block] for its in lookups.values() for block in its)
    return HeldText(
        fields=tuple(stages.declaration(name) for name in sorted(known)),
        statements=(*stages.pair(*lookups), *(Code(f"held.{name} = {name};") for name in sorted(known))),
        alike=tuple(Code(block.removeprefix("key.")) for block in blocks),
        mask=Straight(stages.pair(condition, known=known), stages.spelled[condition]),
    )


def gathers(condition: Expr) -> bool:
    """Whether a condition looks rows up one by one, so that those that keep some key may lie anywhere in a tile.

    Not where it reads labels of tokens, such as documents, or whole blocks of rows, which neighbours share.
    """
    return any(
        depends_on(index, "q") and not _by_block(index, Q, _ROWS)
        for node in walk(condition)
        if isinstance(node, Member) or (isinstance(node, Entry) and len(node.indices) > 1)
        for index in node.indices
    )


def _is_lookup(node: Expr) -> bool:
    return isinstance(node, (Entry, Member)) or (isinstance(node, Apply) and node.op == "hash")


def _of_keys(node: Expr) -> Iterator[Expr]:
    """The largest parts of an expression that depend on the key alone."""
    if not depends_on(node, "k"):
        return
    if not depends_on(node, "q") and not depends_on(node, "s"):
        yield node
        return
    for part in children(node):
        yield from _of_keys(part)


def _by_block(node: Expr, position: Position, fewest: int) -> bool:
    """Whether an expression is the same for blocks of positions, at least as long as ``fewest``."""
    if position not in walk(node):
        return True
    match node:
        case Apply(op="floordiv", args=(inner, divisor)) if position not in walk(divisor):
            wide = not isinstance(divisor, Const) or divisor.value >= fewest
            return _by_block(inner, position, fewest) or (inner == position and wide)
        case Apply(args=parts):
            return all(_by_block(part, position, fewest) for part in parts)
        case _:
            return False
