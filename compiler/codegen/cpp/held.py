"""Finds what a mask reads of tables for blocks of keys: values that a pair shares with the pairs of the key before it.

``k // 256 in chosen[head, q]`` is looked up for each query, one lane after the other, but changes with ``k // 256``
only. While keys are alike in that, a kernel keeps what it read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ...ir import Apply, Const, Entry, Expr, K, Member, children, depends_on, walk
from .. import Code
from .stages import Stages, Straight

_FEWEST = 8
"""The shortest block of keys for which values are kept."""


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
            if all(_by_block(block) for block in blocks):
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

    Not where it reads labels of tokens, such as documents, which neighbours share.
    """
    return any(
        isinstance(node, (Entry, Member)) and len(node.indices) > 1 and depends_on(node, "q") for node in walk(condition)
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


def _by_block(node: Expr) -> bool:
    """Whether an expression of the key's position is the same for blocks of keys."""
    if not depends_on(node, "k"):
        return True
    match node:
        case Apply(op="floordiv", args=(inner, divisor)) if not depends_on(divisor, "k"):
            wide = not isinstance(divisor, Const) or divisor.value >= _FEWEST
            return _by_block(inner) or (inner == K and wide)
        case Apply(args=parts):
            return all(_by_block(part) for part in parts)
        case _:
            return False
